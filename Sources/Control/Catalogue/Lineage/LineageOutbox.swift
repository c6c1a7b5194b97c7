public import Logging
public import PlatformCore
public import ServiceLifecycle
public import StoragePorts
import Synchronization

/// Where events go beside the log: a lineage service, a file.
public protocol LineageSink: Sendable {
    /// For messages.
    var name: String { get }
    /// Hands over one event as JSON.
    /// - Throws: `PlatformError`; `unavailable` and `overloaded` are tried again, any other means that this event is refused.
    func send(_ event: [UInt8]) async throws
}

/// Our lineage events on their way: into the log first, from there to whoever is to know.
///
/// Nobody who does work waits for it: an event is queued in memory, at most `queueCountMax`, written to the topic
/// `lineage` by a task of its own, and sent from there in order, as often as it takes, however long the receiver is away.
/// What was sent is remembered as a position in the topic; an event may arrive twice after a crash, never out of order.
public final class LineageOutbox: Service {
    /// The topic of our own events.
    public static let topic = Name(static: "lineage")
    /// The topic of events that others sent.
    public static let receivedTopic = Name(static: "lineage_received")
    /// Most events that wait for the log; more are dropped and counted.
    public static let queueCountMax = 10_000

    private let log: any EventLog
    private let clock: any PlatformClock
    private let identifiers: IdentifierSource
    private let external: ExternalLineage
    private let sink: (any LineageSink)?
    private let logger: Logger
    private let queue: AsyncStream<JSONValue>
    private let enqueue: AsyncStream<JSONValue>.Continuation
    private let dropped = Atomic(0)

    /// Makes an outbox.
    /// - Parameter sink: `nil` keeps events in the log alone.
    public init(
        log: any EventLog, clock: any PlatformClock, identifiers: IdentifierSource, external: ExternalLineage,
        sink: (any LineageSink)?, logger: Logger
    ) {
        self.log = log
        self.clock = clock
        self.identifiers = identifiers
        self.external = external
        self.sink = sink
        self.logger = logger
        (queue, enqueue) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(Self.queueCountMax))
    }

    /// Events that found the queue full.
    public var droppedCount: Int { dropped.load(ordering: .relaxed) }

    /// Makes the topics and reads what others told before.
    public func prepare() async throws {
        try await log.createTopic(Self.topic, partitions: 1)
        try await log.createTopic(Self.receivedTopic, partitions: 1)
        var offset: UInt64 = 0
        while true {
            let records = try await log.read(
                Self.receivedTopic, partition: 0, from: offset, recordCountMax: 1000, byteCountMax: 16 << 20)
            guard let last = records.last else { return }
            for stored in records {
                guard let json = try? JSONValue.parse(stored.record.value), let event = try? OpenLineageEvent(json)
                else {
                    continue
                }
                external.take(event)
            }
            offset = last.offset + 1
        }
    }

    // MARK: Our events

    /// Runs work as a run of a job: says that it starts, and how it ended.
    ///
    /// - Parameters:
    ///   - job: `dataset.flights`, `train.flight_delay`.
    ///   - kind: what kind of job it is, `DATASET_BUILD`.
    ///   - inputs: what it is known to read before it runs.
    ///   - outcome: what it read and wrote, from its result.
    public func record<Value>(
        _ job: String, kind: String, inputs: [LineageDataset] = [],
        outcome: (Value) -> (inputs: [LineageDataset], outputs: [LineageDataset]), _ body: () async throws -> Value
    ) async throws -> Value {
        let run = identifiers.next()
        func event(_ type: String, inputs: [LineageDataset], outputs: [LineageDataset], fault: String? = nil)
            -> JSONValue
        {
            LineageEvents.run(
                type, at: clock.now(), run: run, job: job, kind: kind, inputs: inputs, outputs: outputs, fault: fault)
        }
        emit(event("START", inputs: inputs, outputs: []))
        do {
            let value = try await body()
            let (inputs, outputs) = outcome(value)
            emit(event("COMPLETE", inputs: inputs, outputs: outputs))
            return value
        } catch {
            emit(event("FAIL", inputs: inputs, outputs: [], fault: errorText(error)))
            throw error
        }
    }

    /// Tells of a run that is over: that it started, and that it went well.
    ///
    /// For work of which nobody knows beforehand whether it is worth telling: a pull that may find nothing new.
    public func completed(
        _ job: String, kind: String, from start: EventTime, inputs: [LineageDataset], outputs: [LineageDataset]
    ) {
        let run = identifiers.next()
        for (type, time) in [("START", start), ("COMPLETE", clock.now())] {
            emit(
                LineageEvents.run(
                    type, at: time, run: run, job: job, kind: kind, inputs: inputs,
                    outputs: type == "START" ? [] : outputs, fault: nil))
        }
    }

    private func emit(_ event: JSONValue) {
        if case .enqueued = enqueue.yield(event) { return }
        dropped.add(1, ordering: .relaxed)
    }

    // MARK: Events of others

    /// Keeps an event that somebody sent; durable when it returns.
    public func receive(_ json: JSONValue) async throws {
        let event = try OpenLineageEvent(json)
        try await log.append(
            [LogRecord(key: event.job?.name ?? "", time: clock.now(), value: json.canonicalBytes)],
            to: Self.receivedTopic)
        external.take(event)
    }

    // MARK: Running

    /// Writes and sends until graceful shutdown; what is queued then still reaches the log.
    public func run() async throws {
        await withGracefulShutdownHandler {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await self.write() }
                group.addTask { await cancelWhenGracefulShutdown { await self.send() } }
            }
        } onGracefulShutdown: {
            self.enqueue.finish()
        }
    }

    private func write() async {
        for await event in queue {
            do {
                try await log.append(
                    [
                        LogRecord(
                            key: event["job"]?["name"]?.stringValue ?? "", time: clock.now(),
                            value: event.canonicalBytes)
                    ],
                    to: Self.topic)
            } catch {
                dropped.add(1, ordering: .relaxed)
                logger.error("a lineage event cannot be written", metadata: ["error": "\(errorText(error))"])
            }
        }
    }

    private func send() async {
        guard let sink, let consumer = Name("lineage-sender") else { return }
        var delay = Duration.milliseconds(200)
        while !Task.isCancelled {
            do {
                let position = try await log.position(consumer, topic: Self.topic, partition: 0)
                let records = try await log.read(
                    Self.topic, partition: 0, from: position, recordCountMax: 100, byteCountMax: 8 << 20)
                if records.isEmpty {
                    try await log.waitForRecords(Self.topic, partition: 0, past: position, timeout: .seconds(5))
                    continue
                }
                for stored in records {
                    do { try await sink.send(stored.record.value) } catch {
                        let code = (error as? PlatformError)?.code
                        if code == .unavailable || code == .overloaded { throw error }
                        logger.warning(
                            "a lineage event was refused",
                            metadata: ["to": "\(sink.name)", "error": "\(errorText(error))"])
                    }
                    try await log.commit(consumer, topic: Self.topic, partition: 0, offset: stored.offset + 1)
                    delay = .milliseconds(200)
                }
            } catch {
                if Task.isCancelled { return }
                logger.info(
                    "lineage events wait", metadata: ["to": "\(sink.name)", "error": "\(errorText(error))"])
                try? await Task.sleep(for: delay)
                delay = min(delay * 2, .seconds(60))
            }
        }
    }
}
