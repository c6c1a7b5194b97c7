public import Definitions
import Foundation
import ModelServing
public import PlatformCore
public import StoragePorts

/// The monitor as a process: reads predictions and labels from the log, writes what the engine finds to the topic
/// `monitoring`, and remembers how far it came.
///
/// **Order.** Serving writes both topics, so within each the times rise (nearly). The two are merged by time, at equal
/// times predictions first; while one topic has nothing to read, the other goes on. A late starter therefore sees a whole
/// year in the order in which it happened, and a label never closes a window whose predictions are still waiting to be
/// read. A prediction that is written a moment after a label of a later time still counts, unless its window ended between
/// the two; then it counts for performance alone (`predictionsLate`).
///
/// **Restart.** Events are appended first, then the snapshot (engine and offsets as one value) is saved. After a crash
/// between the two, the records since the snapshot are read again and the same events come out. Every event carries
/// `event_id`, made of what it is about. On start the service reads which identifiers are in `monitoring` past the offset
/// that the snapshot knows, and does not write those again, so a reader sees each once; a reader that wants to be sure
/// drops an `event_id` that it knows.
public actor MonitorService {
    /// What the service may be told about time and size.
    public struct Configuration: Sendable {
        /// Least time between two heartbeats while there is work.
        public var heartbeatInterval: Duration = .seconds(1)
        /// Least time between two heartbeats that tell that the ends of both topics were reached.
        public var caughtUpHeartbeatInterval: Duration = .milliseconds(200)
        /// Time between heartbeats while there is none: silence longer than this means that the monitor is dead.
        public var idleHeartbeatInterval: Duration = .seconds(10)
        /// Least time between two snapshots; a large state is saved less often, so that saving takes at most a fiftieth
        /// of the time.
        public var snapshotInterval: Duration = .seconds(1)
        /// Time between two looks at idle topics.
        public var pollInterval: Duration = .milliseconds(50)
        /// How long records gather under load before the next look: a look costs as much as some dozens of records.
        public var gatherInterval: Duration = .milliseconds(100)
        /// Records of one topic that are held at a time.
        public var batchCountMax = 10_000
        /// The defaults.
        public init() {}
    }

    /// The reference of a version; `nil` if it has none (yet).
    public typealias ReferenceSource = @Sendable (_ model: String, _ version: Int) async throws -> MonitorReference?

    private let log: any EventLog
    private let state: any MonitorStateStore
    private let definitions: @Sendable () async throws -> [MonitorDefinition]
    private let reference: ReferenceSource
    private let now: @Sendable () async -> EventTime?
    private let configuration: Configuration

    private var engine = MonitorEngine(definitions: [])
    private var predictionOffset: UInt64 = 0
    private var labelOffset: UInt64 = 0
    /// Offset of `monitoring` up to which the snapshot knows what was written.
    private var monitoringOffset: UInt64 = 0
    private var alreadyWritten: Set<String> = []
    private var predictions = Pending<[UInt8]>()
    private var labels = Pending<LabelRecord?>()
    /// The model of the newest prediction, so that its name is not made of every record.
    private var newestModel = WatchedModel(name: "", isWatched: false)
    /// The version of that model that was asked for a reference last and needs none; invalid once anything was closed.
    private var versionWithReference: Int?
    private var withoutReference: [String: ContinuousClock.Instant] = [:]
    private var lastHeartbeat: ContinuousClock.Instant?
    private var lastSnapshot: ContinuousClock.Instant?
    private var lastSaveDuration: Duration = .zero
    private var progressSinceHeartbeat = false
    private var progressSinceSnapshot = false

    /// What was read of a topic and not consumed yet.
    private struct Pending<Record: Sendable>: Sendable {
        /// Records with the offset after each.
        var records: [(record: Record, next: UInt64)] = []
        var at = 0
        /// Whether the last look found the topic's end.
        var isAtEnd = false
        var isEmpty: Bool { at >= records.count }
    }

    private struct WatchedModel {
        let name: String
        let isWatched: Bool
    }

    /// Makes a service; `run` starts it.
    ///
    /// - Parameters:
    ///   - log: where `predictions` and `labels` are read and `monitoring` is written.
    ///   - state: where the snapshot is kept.
    ///   - definitions: the monitors of now; asked before each batch.
    ///   - reference: the reference of a version; asked when its first record comes, and every 10 s while it gives `nil`.
    ///   - now: the platform's time, asked when both topics are read to their ends, so that windows close without
    ///     traffic; `nil` leaves time to the records. It must not run ahead of records that are still to be written.
    public init(
        log: any EventLog, state: any MonitorStateStore,
        definitions: @escaping @Sendable () async throws -> [MonitorDefinition], reference: @escaping ReferenceSource,
        now: @escaping @Sendable () async -> EventTime? = { nil }, configuration: Configuration = Configuration()
    ) {
        self.log = log
        self.state = state
        self.definitions = definitions
        self.reference = reference
        self.now = now
        self.configuration = configuration
    }

    /// What was seen.
    public var counters: MonitorCounters { engine.counters }
    /// Labels that wait for their prediction.
    public var waitingLabelCount: Int { engine.waitingLabelCount }
    /// The open incidents.
    public var incidents: [Alert] { engine.incidents }
    /// The log's time.
    public var time: EventTime { engine.time }
    /// The next offsets that it will read.
    public var offsets: (predictions: UInt64, labels: UInt64) { (predictionOffset, labelOffset) }

    /// Reads until the task is cancelled, then saves the snapshot and returns.
    /// - Throws: `StoreError` or `PlatformError` when the log or the state cannot be used; starting again goes on where
    ///   the snapshot is.
    public func run() async throws {
        try await start()
        while !Task.isCancelled {
            let busy = try await step()
            if busy {
                if Self.gatherCounts ~= lastTaken { try? await Task.sleep(for: configuration.gatherInterval) }
            } else {
                do {
                    try await log.waitForRecords(
                        PlatformTopic.predictions, partition: 0, past: predictionOffset,
                        timeout: configuration.pollInterval)
                } catch {
                    guard error.code == .notFound || Task.isCancelled else { throw error }
                    try? await Task.sleep(for: configuration.pollInterval)
                }
            }
        }
        try await save()
    }

    /// Records of one look after which it is worth while to wait for more: a stream, but no backlog.
    private static let gatherCounts = 32..<10_000
    private var lastTaken = 0

    /// Reads everything that is in the topics now, as `run` would, and saves the snapshot.
    public func runUntilIdle() async throws {
        try await start()
        while try await step() {}
        if progressSinceHeartbeat {
            lastHeartbeat = nil
            try await beat(caughtUp: true)
        }
        try await save()
    }

    private var started = false
    private var committed: [Name: UInt64] = [:]

    private func start() async throws {
        guard !started else { return }
        try await log.createTopic(PlatformTopic.monitoring, partitions: 1)
        let definitions = try await definitions()
        if let bytes = try state.load() {
            do {
                try restore(bytes, definitions)
            } catch {
                throw PlatformError(
                    .corrupted, "monitor state",
                    "\(errorText(error)); remove the state file to count again from the log's start")
            }
        } else {
            engine = MonitorEngine(definitions: definitions)
        }
        predictionOffset = min(predictionOffset, try await end(of: PlatformTopic.predictions))
        labelOffset = min(labelOffset, try await end(of: PlatformTopic.labels))
        monitoringOffset = min(monitoringOffset, try await end(of: PlatformTopic.monitoring))
        var offset = monitoringOffset
        while true {
            let records = try await log.read(PlatformTopic.monitoring, from: offset)
            guard let last = records.last else { break }
            for record in records {
                if let event = try? JSONValue.parse(record.record.value),
                    let id = event["details"]?["event_id"]?.stringValue
                {
                    alreadyWritten.insert(id)
                }
            }
            offset = last.offset + 1
        }
        monitoringOffset = offset
        started = true
        try await commit()
    }

    /// Where a topic ends, which is before what was read of it where records were lost: what comes then is new.
    private func end(of topic: Name) async throws -> UInt64 {
        do { return try await log.endOffset(topic, partition: 0) } catch {
            guard error.code == .notFound else { throw error }
            return .max  // serving has not made the topic yet
        }
    }

    /// One batch; `false` if both topics were at their ends.
    private func step() async throws -> Bool {
        try await fill(isNewLook: true)
        let busy = !predictions.isEmpty || !labels.isEmpty
        if busy || lastHeartbeat == nil {
            engine.update(try await definitions())
            forgetWhatIsKnown()
        }
        var effects: [MonitorEffect] = []
        var taken = 0
        while !predictions.isEmpty || !labels.isEmpty, taken < 2 * configuration.batchCountMax, effects.count < 256 {
            if let missing = consume(&effects, &taken) { try await askForReference(of: missing) }
            if predictions.isEmpty != labels.isEmpty { try await fill(isNewLook: false) }
        }
        lastTaken = taken
        if !busy, let moment = await now() { effects += engine.advance(to: moment) }
        if !effects.isEmpty { try await write(effects) }
        if busy || !effects.isEmpty {
            progressSinceSnapshot = true
            progressSinceHeartbeat = true
        }
        try await beat(caughtUp: !busy)
        if progressSinceSnapshot, Self.passed(lastSnapshot, max(configuration.snapshotInterval, lastSaveDuration * 50))
        {
            try await save()
        }
        return busy
    }

    private static func passed(_ moment: ContinuousClock.Instant?, _ interval: Duration) -> Bool {
        moment.map { ContinuousClock.now - $0 >= interval } ?? true
    }

    // MARK: Reading

    /// Reads more of a topic whose records are used up, so that the merge stays in order.
    ///
    /// One that was found at its end is asked again when those of the other are used up too: what is written to it meanwhile
    /// is of a later time than they, nearly.
    private func fill(isNewLook: Bool) async throws {
        if predictions.isEmpty, isNewLook || !predictions.isAtEnd {
            predictions.records = try await read(PlatformTopic.predictions, from: predictionOffset) { $0 }
            (predictions.at, predictions.isAtEnd) = (0, predictions.records.isEmpty)
        }
        if labels.isEmpty, isNewLook || !labels.isAtEnd {
            labels.records = try await read(PlatformTopic.labels, from: labelOffset) { try? LabelRecord(decoding: $0) }
            (labels.at, labels.isAtEnd) = (0, labels.records.isEmpty)
        }
    }

    private func read<Record: Sendable>(
        _ topic: Name, from offset: UInt64, _ decode: ([UInt8]) -> Record
    ) async throws -> [(record: Record, next: UInt64)] {
        do {
            return try await log.read(
                topic, partition: 0, from: offset, recordCountMax: configuration.batchCountMax,
                byteCountMax: 16 << 20
            ).map { (decode($0.record.value), $0.offset + 1) }
        } catch {
            // Serving has not made the topic yet. (A `where` on this `catch` crashes the 6.3.1 compiler.)
            if error.code == .notFound { return [] }
            throw error
        }
    }

    /// A version whose reference is to be asked for before its record is consumed.
    private struct MissingReference {
        let model: String
        let version: Int
    }

    /// Consumes records of both topics in the order of their times, until one of them is used up, enough was taken, or the
    /// reference of a version is missing.
    private func consume(_ effects: inout [MonitorEffect], _ taken: inout Int) -> MissingReference? {
        let (hasPredictions, hasLabels) = (!predictions.isEmpty, !labels.isEmpty)
        while predictions.isEmpty != hasPredictions, labels.isEmpty != hasLabels,
            taken < 2 * configuration.batchCountMax, effects.count < 256
        {
            let found: [MonitorEffect]
            if hasPredictions {
                var missing: MissingReference?
                let closed: [MonitorEffect]? = predictions.records[predictions.at].record.withUnsafeBytes { bytes in
                    consumePrediction(bytes, orMissing: &missing)
                }
                if let missing { return missing }
                if let closed {
                    predictionOffset = predictions.records[predictions.at].next
                    predictions.at += 1
                    found = closed
                } else {
                    found = consumeLabel()
                }
            } else {
                found = consumeLabel()
            }
            taken += 1
            if !found.isEmpty {
                effects += found
                forgetWhatIsKnown()
            }
        }
        return nil
    }

    /// Consumes a prediction; `nil` if the next label comes before it, or if the reference of its version is missing.
    private func consumePrediction(
        _ bytes: UnsafeRawBufferPointer, orMissing missing: inout MissingReference?
    ) -> [MonitorEffect]? {
        let head = PredictionView(head: bytes)
        if !labels.isEmpty {
            let labelTime = labels.records[labels.at].record?.time ?? .earliestAccepted
            guard head?.time ?? .earliestAccepted <= labelTime else { return nil }
        }
        guard var record = head else { return undecodable() }
        var name = newestModel.name
        let isSame = name.withUTF8 { name in
            guard let known = name.baseAddress, let given = record.model.baseAddress else { return false }
            return name.count == record.model.count && memcmp(known, given, name.count) == 0
        }
        if !isSame {
            name = String(decoding: record.model, as: UTF8.self)
            newestModel = WatchedModel(name: name, isWatched: engine.watches(name))
            versionWithReference = nil
        }
        guard newestModel.isWatched else { return engine.pass(record) }
        guard record.readRest() else { return undecodable() }
        if record.version != versionWithReference {
            if engine.needsReference(model: name, version: record.version) {
                if Self.passed(withoutReference[Self.key(name, record.version)], .seconds(10)) {
                    missing = MissingReference(model: name, version: record.version)
                    return nil
                }
            } else {
                versionWithReference = record.version
            }
        }
        return engine.consume(record, of: name)
    }

    private func consumeLabel() -> [MonitorEffect] {
        let label = labels.records[labels.at]
        labels.at += 1
        labelOffset = label.next
        return label.record.map { engine.consume($0) } ?? undecodable()
    }

    /// What is watched, and the references in memory, may be others now.
    private func forgetWhatIsKnown() {
        newestModel = WatchedModel(name: "", isWatched: engine.watches(""))
        versionWithReference = nil
    }

    private func undecodable() -> [MonitorEffect] {
        engine.counters.undecodable += 1
        return []
    }

    private static func key(_ model: String, _ version: Int) -> String { "\(model)/\(version)" }

    private func askForReference(of missing: MissingReference) async throws {
        let key = Self.key(missing.model, missing.version)
        if let found = try await reference(missing.model, missing.version) {
            engine.add(found, model: missing.model, version: missing.version)
            withoutReference[key] = nil
        } else {
            withoutReference[key] = .now
        }
    }

    // MARK: Writing

    private func write(_ effects: [MonitorEffect]) async throws {
        var records: [LogRecord] = []
        for effect in effects where alreadyWritten.remove(effect.id) == nil {
            records.append(try Self.record(effect.event(at: engine.time)))
        }
        guard !records.isEmpty else { return }
        let first = try await log.append(records, to: PlatformTopic.monitoring)
        monitoringOffset = first + UInt64(records.count)
        lastSnapshot = nil  // what was written should soon be in a snapshot
    }

    private static func record(_ event: PlatformEvent) throws -> LogRecord {
        LogRecord(key: event.subject, time: event.time, value: try JSONValue.of(event).canonicalBytes)
    }

    private func beat(caughtUp: Bool) async throws {
        let due =
            progressSinceHeartbeat
            ? Self.passed(
                lastHeartbeat,
                caughtUp ? configuration.caughtUpHeartbeatInterval : configuration.heartbeatInterval)
            : Self.passed(lastHeartbeat, configuration.idleHeartbeatInterval)
        guard due else { return }
        let time = max(engine.time, .earliestAccepted)
        let event = PlatformEvent(
            kind: "monitor.heartbeat", subject: "monitor", time: time, actor: "monitor",
            details: [
                "predictions": .integer(Int64(clamping: predictionOffset)),
                "labels": .integer(Int64(clamping: labelOffset)), "time": .integer(time.milliseconds),
                "caught_up": .bool(caughtUp),
                "labels_waiting": .integer(Int64(engine.waitingLabelCount)), "counters": try .of(engine.counters),
            ])
        let offset = try await log.append([try Self.record(event)], to: PlatformTopic.monitoring)
        monitoringOffset = offset + 1
        lastHeartbeat = .now
        progressSinceHeartbeat = false
    }

    // MARK: State

    private static let stateMark: UInt64 = 0x314E_4F4D_4742_0A0D

    /// What it is called among the readers of the log.
    private static let consumer = Name(static: "monitor")

    /// Tells the log which records will not be read again, whatever happens: those that the snapshot has in it.
    private func commit() async throws {
        for (topic, offset) in [(PlatformTopic.predictions, predictionOffset), (PlatformTopic.labels, labelOffset)]
        where committed[topic] != offset {
            do {
                try await log.commit(Self.consumer, topic: topic, partition: 0, offset: offset)
                committed[topic] = offset
            } catch {
                // Serving has not made the topic yet.
                guard error.code == .notFound else { throw error }
            }
        }
    }

    /// Mark, checksum, then offsets and engine.
    private func save() async throws {
        guard started, progressSinceSnapshot else { return }
        let begun = ContinuousClock.now
        var body = ByteWriter(capacity: 1 << 16)
        body.write(varint: predictionOffset)
        body.write(varint: labelOffset)
        body.write(varint: monitoringOffset)
        body.write(bytes: try engine.snapshot())
        var writer = ByteWriter(capacity: body.bytes.count + 16)
        writer.write(fixed: Self.stateMark)
        writer.write(fixed: Self.checksum(body.bytes))
        writer.write(bytes: body.bytes)
        try state.save(writer.bytes)
        lastSnapshot = .now
        lastSaveDuration = ContinuousClock.now - begun
        progressSinceSnapshot = false
        try await commit()
    }

    private func restore(_ bytes: [UInt8], _ definitions: [MonitorDefinition]) throws {
        var reader = ByteReader(bytes)
        guard try reader.fixed(UInt64.self) == Self.stateMark else { throw DecodingFailure("this is no monitor state") }
        let checksum = try reader.fixed(UInt64.self)
        guard Self.checksum(Array(bytes.dropFirst(16))) == checksum else {
            throw DecodingFailure("the monitor state does not match its checksum")
        }
        predictionOffset = try reader.varint()
        labelOffset = try reader.varint()
        monitoringOffset = try reader.varint()
        engine = try MonitorEngine(snapshot: reader.raw(reader.remaining), definitions: definitions)
    }

    private static func checksum(_ bytes: [UInt8]) -> UInt64 {
        bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }
}
