public import Definitions
public import Logging
public import PlatformCore
import RuntimePorts
public import StoragePorts
import Synchronization

/// A finished prediction on its way to the log, with the versions that are to answer it in shadow.
public struct PredictionLogEntry: Sendable {
    /// What the log keeps: the model as key, the moment, and the encoded record.
    let stored: LogRecord
    /// Versions that compute the same inputs for comparison; none where the fallback answered.
    public let shadows: [ServedVersion]
    /// Called once the record is durable.
    public var onDurable: (@Sendable () -> Void)?
    /// Makes an entry.
    ///
    /// The record is encoded here: an answer then costs the queue one array and not ten.
    public init(record: borrowing PredictionRecord, shadows: [ServedVersion]) {
        stored = LogRecord(key: record.model, time: record.time, value: record.encoded())
        self.shadows = record.choice == .fallback ? [] : shadows
    }

    /// The answer as the caller got it.
    public func record() throws(DecodingFailure) -> PredictionRecord { try PredictionRecord(decoding: stored.value) }
}

/// Told of every record once it is durable.
public protocol PredictionObserver: Sendable {
    /// Whether records are of use to it now; where not, none is decoded for it.
    var isWatching: Bool { get }
    /// Takes records in log order: a prediction, then its shadows.
    func observed(_ records: [PredictionRecord])
    /// Hears that a shadow could not answer; nothing of it is in the log.
    func shadowFailed(model: String, version: Int)
}

/// Carries predictions from the request's path to the event log: a bounded queue and one writer.
///
/// Shadows are scored here, by the writer, so that they can neither slow nor fail an answer. Those whose answers are waited for
/// have a lane of their own: the writer never waits for them, and their records follow later.
public final class PredictionLog: Sendable {
    private struct Queue {
        var entries: [PredictionLogEntry] = []
        /// Swapped with `entries` for each batch, so that neither is grown again while senders wait for the lock.
        var spare: [PredictionLogEntry] = []
        /// Whether somebody waits until one of `entries` is durable.
        var isAwaited = false
        var waiter: CheckedContinuation<Void, Never>?
        var isClosed = false
        var inFlight = 0
        /// Entries ever taken, and of these those that are durable.
        var taken = 0
        var settled = 0
    }
    private let queue = Mutex(Queue())
    private let log: any EventLog
    private let observer: any PredictionObserver
    private let logger: Logger
    private let shedCount = Atomic<Int>(0)
    private let shadowFailureCount = Atomic<Int>(0)
    private let writtenCount = Atomic<Int>(0)
    private let failureCount = Atomic<Int>(0)
    /// Most entries that wait.
    public let capacity: Int
    private let later: DeferredShadows

    /// Makes a log that holds up to `capacity` entries in memory.
    public init(log: any EventLog, observer: any PredictionObserver, capacity: Int = 65_536, logger: Logger) {
        self.log = log
        self.observer = observer
        self.capacity = capacity
        self.logger = logger
        later = DeferredShadows()
    }

    /// Entries dropped because the queue was full.
    public var shed: Int { shedCount.load(ordering: .relaxed) }
    /// Shadow answers that failed.
    public var shadowFailures: Int { shadowFailureCount.load(ordering: .relaxed) }
    /// Attempts to write that failed and were made again.
    public var failures: Int { failureCount.load(ordering: .relaxed) }
    /// Records written.
    public var written: Int { writtenCount.load(ordering: .relaxed) }
    /// Entries taken but not yet durable.
    public var pending: Int { queue.withLock { $0.entries.count + $0.inFlight } }

    /// Whether it takes nothing any more.
    public var isClosed: Bool { queue.withLock { $0.isClosed } }

    /// Takes entries unless the queue is full; never waits.
    /// - Returns: whether they were taken.
    public func offer(_ entries: [PredictionLogEntry]) -> Bool {
        let waiter: CheckedContinuation<Void, Never>?
        let taken: Bool
        (taken, waiter) = queue.withLock { queue in
            guard !queue.isClosed, queue.entries.count + queue.inFlight + entries.count <= max(capacity, entries.count)
            else {
                return (false, nil)
            }
            queue.entries.append(contentsOf: entries)
            queue.isAwaited = queue.isAwaited || entries.contains { $0.onDurable != nil }
            queue.taken += entries.count
            defer { queue.waiter = nil }
            return (true, queue.waiter)
        }
        waiter?.resume()
        return taken
    }

    /// Takes entries as the deployment's policy says: at once, when there is room, or until they are durable.
    ///
    /// - Parameter deadline: until when room is waited for; `nil` for ever.
    /// - Returns: whether the log did what the policy wants; `false` when the time was over before there was room.
    @discardableResult
    public func take(
        _ entries: [PredictionLogEntry], policy: PredictionLogPolicy, until deadline: ContinuousClock.Instant? = nil
    ) async -> Bool {
        guard let last = entries.indices.last else { return true }
        while true {
            if policy == .durable {
                let (written, writing) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
                var entries = entries
                entries[last].onDurable = { writing.finish() }
                if offer(entries) { return await Self.ends(written, before: deadline) }
            } else if offer(entries) {
                return true
            } else if policy == .shed {
                countShed(entries.count)
                return true
            }
            if let deadline, ContinuousClock.now >= deadline { return false }
            try? await Task.sleep(for: .milliseconds(1))
            if isClosed {
                countShed(entries.count)
                return true
            }
        }
    }

    /// Whether a stream ends before a deadline.
    private static func ends(_ stream: AsyncStream<Void>, before deadline: ContinuousClock.Instant?) async -> Bool {
        guard let deadline else {
            for await _ in stream {}
            return true
        }
        return await withTaskGroup(of: Bool.self) { group in
            group.addTask {
                for await _ in stream {}
                return !Task.isCancelled
            }
            group.addTask {
                try? await Task.sleep(until: deadline, clock: .continuous)
                return false
            }
            defer { group.cancelAll() }
            return await group.next() ?? false
        }
    }

    /// Waits until every entry taken before this call is durable, but no longer than `limit`.
    ///
    /// Whoever asks about a prediction right after its answer then finds it.
    public func settle(within limit: Duration = .seconds(2)) async {
        let (goal, end) = (queue.withLock { $0.taken }, ContinuousClock.now + limit)
        while queue.withLock({ $0.settled }) < goal, ContinuousClock.now < end {
            do { try await Task.sleep(for: .milliseconds(1)) } catch { return }
        }
        let shadowGoal = later.taken
        while later.settled < shadowGoal, ContinuousClock.now < end {
            do { try await Task.sleep(for: .milliseconds(1)) } catch { return }
        }
    }

    /// Counts entries that the policy lets go.
    public func countShed(_ count: Int) { shedCount.add(count, ordering: .relaxed) }

    /// Lets the writer end once everything taken is durable.
    public func close() {
        let waiter = queue.withLock { queue in
            queue.isClosed = true
            defer { queue.waiter = nil }
            return queue.waiter
        }
        waiter?.resume()
    }

    /// How long a batch waits for company: one wait for the disk then serves more answers.
    ///
    /// Nobody waits for it, and the queue is far from full.
    private static let linger = Duration.milliseconds(5)
    private var lingerCount: Int { capacity / 8 }
    /// Most entries of one append.
    private static let appendCount = 4096

    /// Writes until `close`.
    ///
    /// A failing log is tried again and again; the queue fills meanwhile and its policy speaks.
    public func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await self.writeEntries()
                self.later.close()
            }
            group.addTask { await self.writeLaterShadows() }
        }
    }

    private func writeEntries() async {
        while true {
            let mayLinger = queue.withLock { queue in
                !queue.isClosed && !queue.isAwaited && (1...max(1, lingerCount)).contains(queue.entries.count)
            }
            if mayLinger {
                try? await Task.sleep(for: Self.linger)
            }
            var batch: [PredictionLogEntry] = queue.withLock { queue in
                let batch = queue.entries
                queue.entries = queue.spare
                queue.spare = []
                queue.isAwaited = false
                queue.inFlight = batch.count
                return batch
            }
            if batch.isEmpty {
                if queue.withLock({ $0.isClosed && $0.entries.isEmpty }) { return }
                await withCheckedContinuation { continuation in
                    let resumeNow = queue.withLock { queue in
                        if queue.isClosed || !queue.entries.isEmpty { return true }
                        queue.waiter = continuation
                        return false
                    }
                    if resumeNow { continuation.resume() }
                }
                continue
            }
            for start in stride(from: 0, to: batch.count, by: Self.appendCount) {
                let part = batch[start..<min(start + Self.appendCount, batch.count)]
                let (records, waiting) = records(of: part)
                await write(records)
                // After the answers that they belong to, wherever they stand then.
                for question in later.take(waiting) { countFailure(of: question) }
            }
            for entry in batch { entry.onDurable?() }
            let count = batch.count
            batch.removeAll(keepingCapacity: count <= Self.appendCount)
            let emptied = batch
            queue.withLock { queue in
                queue.inFlight = 0
                queue.settled += count
                queue.spare = emptied
            }
        }
    }

    /// What a batch adds to the log: each record, and after it those of the shadows that answer at once; the others.
    private func records(of batch: ArraySlice<PredictionLogEntry>)
        -> (records: [LogRecord], waiting: [DeferredShadows.Question])
    {
        var records: [LogRecord] = []
        var waiting: [DeferredShadows.Question] = []
        records.reserveCapacity(batch.count)
        for entry in batch {
            records.append(entry.stored)
            guard !entry.shadows.isEmpty, let record = try? entry.record() else { continue }
            for shadow in entry.shadows where shadow.isLoaded {  // one that is not says nothing of the model
                if shadow.deferred != nil {
                    waiting.append(DeferredShadows.Question(record: record, shadow: shadow))
                } else if let answer = Self.shadowAnswer(shadow, to: record) {
                    records.append(LogRecord(key: answer.model, time: answer.time, value: answer.encoded()))
                } else {
                    countFailure(of: DeferredShadows.Question(record: record, shadow: shadow))
                }
            }
        }
        return (records, waiting)
    }

    private func countFailure(of question: DeferredShadows.Question) {
        shadowFailureCount.add(1, ordering: .relaxed)
        observer.shadowFailed(model: question.record.model, version: question.shadow.number)
    }

    /// Asks the shadows whose answers are waited for, and writes what they say, until the lane is closed and empty.
    private func writeLaterShadows() async {
        while let questions = await later.next() {
            let (answers, failed) = await DeferredShadows.answers(to: questions)
            if !answers.isEmpty {
                await write(answers.map { LogRecord(key: $0.model, time: $0.time, value: $0.encoded()) })
            }
            for question in failed { countFailure(of: question) }
            later.settle(questions.count)
        }
    }

    static func shadowAnswer(_ shadow: ServedVersion, to record: PredictionRecord) -> PredictionRecord? {
        guard shadow.binding.versionText == record.serviceVersion else { return nil }
        let start = ContinuousClock.now
        guard let output = try? shadow.loaded.predict(record.inputs.map(Float.init), rowCount: 1) else { return nil }
        return shadowRecord(shadow, to: record, output: output, took: ContinuousClock.now - start)
    }

    static func shadowRecord(_ shadow: ServedVersion, to record: PredictionRecord, output: [Float], took: Duration)
        -> PredictionRecord
    {
        var answer = record
        answer.version = shadow.number
        answer.artifact = shadow.artifactText
        answer.choice = .shadow
        answer.output = output
        answer.fallbackReason = ""
        answer.latency = .init(features: 0, score: Predictor.microseconds(took), total: 0)
        return answer
    }

    private func write(_ records: [LogRecord]) async {
        var delay = Duration.milliseconds(50)
        while true {
            do {
                try await log.append(records, to: PlatformTopic.predictions)
                writtenCount.add(records.count, ordering: .relaxed)
                if observer.isWatching {
                    observer.observed(records.compactMap { try? PredictionRecord(decoding: $0.value) })
                }
                return
            } catch {
                failureCount.add(1, ordering: .relaxed)
                logger.error("the prediction log cannot be written; trying again", metadata: ["error": "\(error)"])
                try? await Task.sleep(for: delay)
                delay = min(delay * 2, .seconds(5))
            }
        }
    }
}
