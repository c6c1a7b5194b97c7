public import Datasets
public import Definitions
public import Logging
public import ModelServing
public import PlatformCore
public import ServiceLifecycle
public import StoragePorts

/// Scores the rows of sources as they come, for the deployments that say so with `stream`.
///
/// Each row gives one record in topic `scores.<deployment>`, in the rows' order: prediction, version, and the features as they
/// were read online at that moment. Exactly once: the record holds the offset of its row, records are appended whole, and
/// after a crash the last one says where to go on. The version is that of the route at each row, so that a promotion needs no
/// restart. Rows that were there before the deployment asked for them are not scored.
public struct StreamScoring: Service {
    /// One stream.
    private struct Stream: Hashable, Sendable {
        let deployment: Name
        let model: Name
        let source: SourceDefinition
    }
    private let log: any EventLog
    private let predictor: Predictor
    private let definitions: @Sendable () -> DefinitionSet
    private let codec: @Sendable (SourceDefinition) -> SourceRowCodec
    private let logger: Logger
    /// Rung when other definitions or other routes are in force.
    private let changes = WakeSignal()

    /// Rows that are scored between two appends.
    private static let batchCountMax = 500

    /// Makes a service; `codec` reads the rows of a source.
    public init(
        log: any EventLog, predictor: Predictor, definitions: @escaping @Sendable () -> DefinitionSet,
        codec: @escaping @Sendable (SourceDefinition) -> SourceRowCodec, logger: Logger
    ) {
        self.log = log
        self.predictor = predictor
        self.definitions = definitions
        self.codec = codec
        self.logger = logger
    }

    /// Says that other definitions or other routes are in force.
    public func wake() { changes.ring() }

    private static func streams(_ set: DefinitionSet) -> Set<Stream> {
        Set(
            set.deployments.values.compactMap { deployment in
                guard let source = deployment.streamSource.flatMap({ set.sources[$0] }) else { return nil }
                return Stream(deployment: deployment.name, model: deployment.model, source: source)
            })
    }

    /// Scores until graceful shutdown.
    public func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                var seen = changes.rings
                let wanted = Self.streams(definitions())
                await withDiscardingTaskGroup { group in
                    for stream in wanted { group.addTask { await follow(stream) } }
                    while !Task.isCancelled, Self.streams(definitions()) == wanted {
                        await changes.wait(past: seen)
                        seen = changes.rings
                    }
                    group.cancelAll()
                }
            }
        }
    }

    private func follow(_ stream: Stream) async {
        while !Task.isCancelled {
            do { try await score(stream) } catch is CancellationError { return } catch {
                guard !Task.isCancelled else { return }
                logger.error(
                    "a stream cannot be scored; trying again",
                    metadata: ["deployment": "\(stream.deployment)", "error": "\(errorText(error))"])
                try? await Task.sleep(for: .seconds(1))
            }
        }
    }

    private func score(_ stream: Stream) async throws {
        guard let output = ScoredEvent.topic(of: stream.deployment) else { return }
        let input = PlatformTopic.source(stream.source.name)
        // Where it begins is settled before anybody can see the topic.
        var next = try await begin(stream, input: input, output: output)
        try await log.createTopic(output, partitions: 1)
        let codec = codec(stream.source)
        let scratch = PredictionScratch()
        while !Task.isCancelled {
            // Rows wait for a deployment to be published.
            let seen = changes.rings
            guard let service = predictor.routes.route(stream.model.text)?.variants.first?.version.binding.definition
            else {
                await changes.wait(past: seen)
                continue
            }
            let rows = try await log.read(
                input, partition: 0, from: next, recordCountMax: Self.batchCountMax, byteCountMax: 4 << 20)
            guard let last = rows.last else {
                try await log.waitForRecords(input, partition: 0, past: next, timeout: .seconds(60))
                continue
            }
            var scored: [LogRecord] = []
            scored.reserveCapacity(rows.count)
            for row in rows {
                guard let record = await record(row, stream, codec, service, scratch) else { break }
                scored.append(record)
            }
            guard !scored.isEmpty else { continue }
            _ = try await log.append(scored, to: output, partition: 0)
            next = scored.count == rows.count ? last.offset + 1 : next + UInt64(scored.count)
        }
    }

    /// The first row to score: after the last one that was, else the one that comes next when the stream is first seen.
    private func begin(_ stream: Stream, input: Name, output: Name) async throws -> UInt64 {
        let end = try await log.topics().contains(output) ? try await log.endOffset(output, partition: 0) : 0
        if end > 0, let last = try await log.read(output, from: end - 1).last,
            let event = try? JSONValue.parse(last.record.value),
            event["source"]?.stringValue == stream.source.name.text,
            let offset = event["offset"]?.integerValue
        {
            return UInt64(offset) + 1
        }
        guard let consumer = Self.consumer(of: stream) else { return 0 }
        // One more than the offset, so that nothing remembered is told from a topic without rows.
        let known = try await log.position(consumer, topic: input, partition: 0)
        if known > 0 { return known - 1 }
        let start = try await log.endOffset(input, partition: 0)
        try await log.commit(consumer, topic: input, partition: 0, offset: start + 1)
        return start
    }

    private func record(
        _ row: StoredRecord, _ stream: Stream, _ codec: SourceRowCodec, _ service: FeatureServiceDefinition,
        _ scratch: PredictionScratch
    ) async -> LogRecord? {
        var event: ScoredEvent
        var eventTime: JSONValue = .null
        if let decoded = try? codec.decode(row.record.value) {
            var cells: [String: JSONValue] = [:]
            for (column, cell) in zip(codec.definition.columns, decoded.cells) { cells[column.name] = cell.json }
            eventTime = .string(decoded.eventTime.description)
            let question = ScoringEvent(
                entities: Dictionary(uniqueKeysWithValues: service.joinKeys.map { ($0, cells[$0] ?? .null) }),
                features: Dictionary(uniqueKeysWithValues: service.request.map { ($0.name, cells[$0.name] ?? .null) }))
            guard
                let scored = await predictor.score(
                    question, model: stream.model.text, caller: "stream/\(stream.source.name)", scratch: scratch)
            else { return nil }
            event = scored
        } else {
            event = ScoredEvent(error: "the row cannot be read")
        }
        event.members["deployment"] = .string(stream.deployment.text)
        event.members["source"] = .string(stream.source.name.text)
        event.members["offset"] = .integer(Int64(row.offset))
        event.members["event_time"] = eventTime
        return LogRecord(key: String(row.offset), time: event.time ?? row.record.time, value: event.encoded())
    }

    // MARK: Where streams stand

    /// How far a stream is.
    public struct Status: Sendable {
        /// The deployment.
        public let deployment: Name
        /// Its model.
        public let model: Name
        /// The source.
        public let source: Name
        /// Events that are kept in its topic.
        public let eventCount: Int
        /// Rows of the source that are not scored yet; `nil` before the stream has begun.
        public let waitingCount: Int?
        /// The newest event; `nil` without any.
        public let last: JSONValue?
    }

    /// How far the streams are that definitions ask for, by the deployment's name.
    public static func status(of definitions: DefinitionSet, log: any EventLog) async throws -> [Status] {
        let known = Set(try await log.topics())
        var found: [Status] = []
        for stream in streams(definitions).sorted(by: { $0.deployment.text < $1.deployment.text }) {
            let input = PlatformTopic.source(stream.source.name)
            guard let output = ScoredEvent.topic(of: stream.deployment) else { continue }
            let end = known.contains(output) ? try await log.endOffset(output, partition: 0) : 0
            let start = known.contains(output) ? try await log.startOffset(output, partition: 0) : 0
            var last: JSONValue?
            if end > 0 {
                last = try await log.read(output, from: end - 1).last.flatMap { ScoredEvent.shown($0.record.value) }
            }
            var next: UInt64?
            if let last, last["source"]?.stringValue == stream.source.name.text,
                let offset = last["offset"]?.integerValue
            {
                next = UInt64(offset) + 1
            } else if let consumer = consumer(of: stream), known.contains(input) {
                let begin = try await log.position(consumer, topic: input, partition: 0)
                next = begin > 0 ? begin - 1 : nil
            }
            var waiting: Int?
            if let next, known.contains(input) {
                let rows = try await log.endOffset(input, partition: 0)
                waiting = Int(rows > next ? rows - next : 0)
            }
            found.append(
                Status(
                    deployment: stream.deployment, model: stream.model, source: stream.source.name,
                    eventCount: Int(end - min(start, end)), waitingCount: waiting, last: last))
        }
        return found
    }

    /// Remembers where the stream began.
    private static func consumer(of stream: Stream) -> Name? {
        Name("scores.\(stream.deployment.text).\(stream.source.name.text)")
    }
}
