public import Governance
public import Logging
public import ModelServing
public import PlatformCore
public import ServiceLifecycle
public import StoragePorts
import Synchronization

/// Which records of the log are kept how long; `nil` for ever.
public struct LogRetentionConfiguration: Sendable {
    /// Time between two rounds; zero for no rounds at all.
    public var interval: Duration
    /// How long predictions and their labels are kept.
    public var predictions: TimeSpan?
    /// How long events of scored streams are kept.
    public var scores: TimeSpan?
    /// Whether a monitor reads predictions and labels, so that nothing may go before it has said how far it is.
    public var hasMonitor: Bool

    /// Makes a configuration.
    public init(
        interval: Duration = .seconds(60), predictions: TimeSpan? = nil, scores: TimeSpan? = nil,
        hasMonitor: Bool = true
    ) {
        self.interval = interval
        self.predictions = predictions
        self.scores = scores
        self.hasMonitor = hasMonitor
    }

    /// How long a topic's records are kept, and the setting that says so; `nil` for a topic that is not looked at.
    func rule(of topic: Name) -> (setting: String, retention: TimeSpan?)? {
        switch topic {
        case PlatformTopic.predictions, PlatformTopic.labels: ("predictions.retention", predictions)
        case _ where ScoredEvent.isTopic(topic): ("scores.retention", scores)
        default: nil
        }
    }
}

/// What is kept of a topic, what of it is old enough to go, and who still needs that.
public struct LogTopicReport: Sendable, Hashable, Codable {
    /// The topic.
    public let topic: String
    /// How long its records are kept; `nil` for ever.
    public let retention: String?
    /// The first offset that is kept; this and the counts below are `nil` for a topic that could not be looked at.
    public let start: UInt64?
    /// The offset behind the last record.
    public let end: UInt64?
    /// Records that went since the topic was made: as many as come before `start`.
    public let droppedRecords: UInt64?
    /// Records that went now, or would with the next round.
    public let records: Int?
    /// Their bytes.
    public let bytes: Int?
    /// Readers for whose sake records stay that are old enough to go.
    public let heldBy: [String]
    /// Why the topic could not be looked at; the others were.
    public let error: String?

    enum CodingKeys: String, CodingKey {
        case topic, retention, start, end, records, bytes, error
        case droppedRecords = "dropped_records"
        case heldBy = "held_by"
    }
}

/// Lets go of predictions, labels and scored events that are older than the settings want.
///
/// Records go in whole segments, so some stay longer than they must: by an eighth of the retention, or, where they come
/// quickly, by what fits a segment. What a reader has not read yet stays until it has. What went is remembered, so that a
/// question about an old prediction is told when.
public final class LogRetention: Service {
    private let log: any EventLog
    private let store: any MetadataStore
    private let configuration: LogRetentionConfiguration
    private let clock: any PlatformClock
    private let audit: AuditLog
    private let readers: @Sendable () -> [LogReader]
    private let changed: @Sendable () -> Void
    private let logger: Logger
    private let dropped = Mutex<[Name: (records: Int, bytes: Int)]>([:])  // held for one addition

    /// The consumer that the monitor commits as.
    private static let monitor = Name(static: "monitor")

    /// Makes the service.
    /// - Parameters:
    ///   - readers: who reads predictions and labels from which moment on, beside those that commit how far they are.
    ///   - changed: is called after each entry in the audit chain.
    public init(
        log: any EventLog, store: any MetadataStore, configuration: LogRetentionConfiguration,
        clock: any PlatformClock, audit: AuditLog, readers: @escaping @Sendable () -> [LogReader],
        changed: @escaping @Sendable () -> Void, logger: Logger
    ) {
        self.log = log
        self.store = store
        self.configuration = configuration
        self.clock = clock
        self.audit = audit
        self.readers = readers
        self.changed = changed
        self.logger = logger
    }

    /// Tables of this service.
    public static let migrations = [
        MetadataMigration(
            name: "log-drops-1",
            statements: [
                """
                CREATE TABLE log_drops (topic TEXT NOT NULL, number BIGINT NOT NULL, dropped_at BIGINT NOT NULL,
                    newest_time BIGINT NOT NULL, start_offset BIGINT NOT NULL, records BIGINT NOT NULL,
                    rule TEXT NOT NULL, PRIMARY KEY (topic, number))
                """
            ])
    ]

    /// Records and bytes that went since this process began, by topic.
    public var counters: [Name: (records: Int, bytes: Int)] { dropped.withLock { $0 } }

    /// Runs rounds until graceful shutdown.
    public func run() async throws {
        let isNeeded = configuration.predictions != nil || configuration.scores != nil
        guard configuration.interval > .zero, isNeeded else {
            try? await gracefulShutdown()
            return
        }
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                try? await Task.sleep(for: self.configuration.interval)
                if Task.isCancelled { return }
                do { _ = try await self.round(isRehearsal: false) } catch {
                    self.logger.warning(
                        "old records of the log could not be let go", metadata: ["error": "\(errorText(error))"])
                }
            }
        }
    }

    /// Looks at every topic that has a rule and lets go of what is old enough.
    ///
    /// - Parameters:
    ///   - isRehearsal: whether only to say what would go.
    ///   - actor: who it stands for in the audit chain.
    public func round(isRehearsal: Bool, by actor: String = "log") async throws -> [LogTopicReport] {
        var reports: [LogTopicReport] = []
        for topic in try await log.topics() {
            guard let rule = configuration.rule(of: topic) else { continue }
            do { reports.append(try await look(at: topic, rule.setting, rule.retention, isRehearsal, actor)) } catch {
                try Task.checkCancellation()
                logger.warning(
                    "old records of a topic could not be let go",
                    metadata: ["topic": "\(topic)", "error": "\(errorText(error))"])
                reports.append(
                    LogTopicReport(
                        topic: topic.text, retention: rule.retention?.description, start: nil, end: nil,
                        droppedRecords: nil, records: nil, bytes: nil, heldBy: [], error: errorText(error)))
            }
        }
        return reports
    }

    private func look(
        at topic: Name, _ setting: String, _ retention: TimeSpan?, _ isRehearsal: Bool, _ actor: String
    ) async throws -> LogTopicReport {
        let start = try await log.startOffset(topic, partition: 0)
        let end = try await log.endOffset(topic, partition: 0)
        var (limit, free) = (LogDropLimit(offset: 0, time: clock.now(), isRehearsal: true), start)
        var (holders, records, bytes): ([String], Int, Int) = ([], 0, 0)
        if let retention {
            let now = clock.now()
            let cutoff = now.advanced(by: TimeSpan(milliseconds: -retention.milliseconds))
            limit = LogDropLimit(time: cutoff, isRehearsal: true)
            free = try await log.drop(topic, partition: 0, upTo: limit).startOffset
            (limit, holders) = try await held(topic, limit, free)
            let found = try await log.drop(topic, partition: 0, upTo: limit)
            (records, bytes) = (found.recordCount, found.byteCount)
            if !isRehearsal {
                limit.isRehearsal = false
                limit.offset = found.startOffset
                limit.closingBefore = now.advanced(by: TimeSpan(milliseconds: -retention.milliseconds / 8))
                try await letGo(topic, found, limit, rule: "\(setting): \(retention)", actor)
            }
        }
        let first = try await log.startOffset(topic, partition: 0)
        return LogTopicReport(
            topic: topic.text, retention: retention?.description, start: first, end: end, droppedRecords: first,
            records: records, bytes: bytes, heldBy: holders, error: nil)
    }

    /// The limit with what readers still need, and those for whose sake something stays that could go up to `free`.
    private func held(
        _ topic: Name, _ limit: LogDropLimit, _ free: UInt64
    ) async throws -> (limit: LogDropLimit, holders: [String]) {
        var limit = limit
        var holders: [String] = []
        var positions = try await log.positions(topic, partition: 0)
        let isWatched = !ScoredEvent.isTopic(topic)
        if isWatched, configuration.hasMonitor, positions[Self.monitor] == nil { positions[Self.monitor] = 0 }
        for (consumer, offset) in positions.sorted(by: { $0.key < $1.key }) {
            limit.offset = min(limit.offset, offset)
            if offset < free { holders.append("\(consumer), which is at \(offset)") }
        }
        for reader in isWatched ? readers() : [] where reader.since < limit.time {
            limit.time = reader.since
            holders.append("\(reader.name), since \(reader.since)")
        }
        return (limit, holders)
    }

    /// Remembers what goes, then lets it go: whoever asks in between is told that it went.
    private func letGo(
        _ topic: Name, _ found: LogDrop, _ limit: LogDropLimit, rule: String, _ actor: String
    ) async throws {
        guard let newest = found.newestTime else {
            // Nothing goes; what has grown old is closed.
            _ = try await log.drop(topic, partition: 0, upTo: limit)
            return
        }
        defer { changed() }
        let time = clock.now()
        _ = try await audit.during(
            actor, "log.retained", "topic/\(topic)",
            outcome: { (drop: LogDrop) in
                drop.recordCount == 0
                    ? nil
                    : [
                        "records": .integer(Int64(drop.recordCount)), "bytes": .integer(Int64(drop.byteCount)),
                        "up_to": .string(newest.description), "start": .integer(Int64(clamping: drop.startOffset)),
                        "rule": .string(rule),
                    ]
            }
        ) {
            try await store.write { transaction in
                let last = try transaction.query(
                    "SELECT number, start_offset FROM log_drops WHERE topic = ? ORDER BY number DESC LIMIT 1",
                    [.text(topic.text)]
                ).first
                // An earlier attempt that was interrupted has said so already.
                guard last?.integer("start_offset") != Int64(clamping: found.startOffset) else { return }
                try transaction.execute(
                    """
                    INSERT INTO log_drops (topic, number, dropped_at, newest_time, start_offset, records, rule)
                    VALUES (?, ?, ?, ?, ?, ?, ?)
                    """,
                    [
                        .text(topic.text), .integer((last?.integer("number") ?? 0) + 1), MetadataValue(time),
                        MetadataValue(newest), .integer(Int64(clamping: found.startOffset)),
                        .integer(Int64(found.recordCount)), .text(rule),
                    ])
            }
            let drop = try await log.drop(topic, partition: 0, upTo: limit)
            dropped.withLock {
                $0[topic, default: (0, 0)].records += drop.recordCount
                $0[topic, default: (0, 0)].bytes += drop.byteCount
            }
            return drop
        }
        logger.info(
            "old records of the log were let go",
            metadata: ["topic": "\(topic)", "records": "\(found.recordCount)", "up to": "\(newest)"])
    }

    /// When the records of a moment went; `nil` if they did not.
    public static func release(of topic: Name, at time: EventTime, store: any MetadataStore) async throws -> LogRelease?
    {
        try await store.read { transaction in
            let row = try transaction.query(
                """
                SELECT dropped_at, newest_time, rule FROM log_drops WHERE topic = ? AND newest_time >= ?
                ORDER BY number LIMIT 1
                """, [.text(topic.text), MetadataValue(time)]
            ).first
            return row.map {
                LogRelease(
                    time: EventTime(milliseconds: $0.integer("dropped_at")),
                    upTo: EventTime(milliseconds: $0.integer("newest_time")), rule: $0.text("rule"))
            }
        }
    }
}
