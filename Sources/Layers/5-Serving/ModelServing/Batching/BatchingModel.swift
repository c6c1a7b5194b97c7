public import Definitions
import Dispatch
import Foundation
import PlatformCore
public import RuntimePorts
import Synchronization

/// Gathers the calls of many requests into few calls of a model.
///
/// Calls go out in the order in which they came. One goes out when `rowCountMax` rows wait or the first has waited for
/// `waitMax`, but never more at the same time than the model computes (`parallelism`): while it is busy, rows gather by
/// themselves. A call that is refused for its rows is repeated for each request by itself, so that one request's rows cannot
/// fail another's. A request whose deadline passes is answered then, whatever the model does. A model that answers at once is
/// computed away from the event loops.
public final class BatchingModel: DeferredModel, WrappingModel {
    /// The model behind the queue.
    public let base: any LoadedModel
    private let limits: BatchingDefinition
    private let state = Mutex(State())  // held for moments: nothing is computed under it

    private struct State {
        var queue: [BatchEntry] = []
        var rowCount = 0
        var running = 0
        var timerIsSet = false
    }

    /// Puts a queue in front of `base`.
    public init(_ base: any LoadedModel, _ limits: BatchingDefinition) {
        self.base = base
        self.limits = limits
    }

    /// That of the model behind.
    public var description: ModelDescription { base.description }
    /// That of the model behind; one call for each processor where it computes here.
    public var parallelism: Int { base.deferred?.parallelism ?? ProcessInfo.processInfo.activeProcessorCount }

    /// Rows that wait now.
    public var waitingRowCount: Int { state.withLock { $0.rowCount } }
    /// Rows that may wait, beyond which requests are refused.
    private var waitingRowCountMax: Int { max(4096, 64 * limits.rowCountMax) }

    /// The same in front of the model that reads texts.
    public func reading(categories: [Int: [String]]) throws(ModelError) -> any LoadedModel {
        BatchingModel(try base.reading(categories: categories), limits)
    }

    /// Readies the model behind.
    public func warmUp() async throws(ModelError) { try await base.deferred?.warmUp() }

    /// Keeps the model behind ready.
    public func keepReady() -> ReadyModel? { base.deferred?.keepReady() }

    /// That of the model behind; a model in this process is weighed elsewhere.
    public func heldByteCount() async -> Int? { await base.deferred?.heldByteCount() }

    /// Those of the model behind.
    public var requirementDifferences: [String] { base.deferred?.requirementDifferences ?? [] }

    /// Replaces what computes the model behind.
    public func startAnew() { base.deferred?.startAnew() }

    /// Waits for a place in a call and its answer.
    public func predictLater(_ rows: [Float], rowCount: Int, deadline: ContinuousClock.Instant?)
        async throws(ModelError) -> [Float]
    {
        guard rowCount < limits.rowCountMax else {
            return try await base.prediction(of: rows, rowCount: rowCount, deadline: deadline)
        }
        let entry = BatchEntry(rows: rows, rowCount: rowCount, deadline: deadline)
        let isTaken = state.withLock { state in
            guard state.rowCount + rowCount <= waitingRowCountMax else { return false }
            state.queue.append(entry)
            state.rowCount += rowCount
            return true
        }
        guard isTaken else {
            throw ModelError(.unavailable, "\(waitingRowCountMax) rows wait for the model already")
        }
        pump()
        return try await entry.answer().get()
    }

    /// Sends out what is due.
    private func pump() {
        let slots = parallelism
        let wait = Duration.milliseconds(limits.waitMax.milliseconds)
        let (batches, due) = state.withLock { state -> ([[BatchEntry]], ContinuousClock.Instant?) in
            let now = ContinuousClock.now
            var batches: [[BatchEntry]] = []
            var taken = 0
            while state.running < slots, taken < state.queue.count,
                state.rowCount >= limits.rowCountMax || state.queue[taken].arrival + wait <= now
            {
                var batch: [BatchEntry] = []
                var rows = 0
                while taken < state.queue.count, rows + state.queue[taken].rowCount <= limits.rowCountMax {
                    let entry = state.queue[taken]
                    taken += 1
                    state.rowCount -= entry.rowCount
                    if entry.isOpen(at: now) {
                        batch.append(entry)
                        rows += entry.rowCount
                    }
                }
                if batch.isEmpty { continue }
                state.running += 1
                batches.append(batch)
            }
            state.queue.removeFirst(taken)
            guard let first = state.queue.first, state.running < slots, !state.timerIsSet else { return (batches, nil) }
            state.timerIsSet = true
            return (batches, first.arrival + wait)
        }
        for batch in batches {
            // At most `parallelism` of these live at a time, and each ends with its call; no caller can own it, as each may
            // leave at its deadline.
            Task { await send(batch) }
        }
        guard let due else { return }
        let delay = (due - .now) / .milliseconds(1)
        DispatchQueue.global().asyncAfter(deadline: .now() + .microseconds(max(1, Int(delay * 1000)))) { [weak self] in
            guard let self else { return }
            state.withLock { $0.timerIsSet = false }
            pump()
        }
    }

    private func send(_ batch: [BatchEntry]) async {
        await compute(batch)
        state.withLock { $0.running -= 1 }
        pump()
    }

    @concurrent
    private func compute(_ batch: [BatchEntry]) async {
        if batch.count == 1 { return batch[0].finish(await outcome(batch)) }
        switch await outcome(batch) {
        case .success(let outputs):
            let width = outputs.count / batch.reduce(0) { $0 + $1.rowCount }
            var start = 0
            for entry in batch {
                entry.finish(.success(Array(outputs[start..<(start + entry.rowCount * width)])))
                start += entry.rowCount * width
            }
        case .failure(let error) where error.code == .shapeMismatch:
            for entry in batch { entry.finish(await outcome([entry])) }
        case .failure(let error):
            for entry in batch { entry.finish(.failure(error)) }
        }
    }

    private func outcome(_ batch: [BatchEntry]) async -> Result<[Float], ModelError> {
        let rows = batch.count == 1 ? batch[0].rows : batch.flatMap(\.rows)
        let deadlines = batch.map(\.deadline)
        let last = deadlines.contains(nil) ? nil : deadlines.compactMap(\.self).max()
        return await RemoteHops.$current.withValue(batch.map(\.hops).max() ?? 0) {
            do throws(ModelError) {
                return .success(
                    try await base.prediction(
                        of: rows, rowCount: batch.reduce(0) { $0 + $1.rowCount }, deadline: last))
            } catch { return .failure(error) }
        }
    }
}

/// One request's rows in the queue, answered once: by the model, or by its deadline.
private struct BatchEntry: Sendable {
    let rows: [Float]
    let rowCount: Int
    let deadline: ContinuousClock.Instant?
    let arrival = ContinuousClock.now
    let hops = RemoteHops.current
    private let outcome = OneAnswer<Result<[Float], ModelError>>()

    init(rows: [Float], rowCount: Int, deadline: ContinuousClock.Instant?) {
        self.rows = rows
        self.rowCount = rowCount
        self.deadline = deadline
        if let deadline { outcome.give(.failure(Self.late), at: deadline) }
    }

    private static let late = ModelError(.deadlineExceeded, "there was no answer before the request's deadline")

    /// Whether it still waits; past its deadline it is answered here.
    func isOpen(at now: ContinuousClock.Instant) -> Bool {
        if let deadline, deadline <= now { outcome.give(.failure(Self.late)) }
        return !outcome.isGiven
    }

    func finish(_ outcome: Result<[Float], ModelError>) { self.outcome.give(outcome) }

    func answer() async -> Result<[Float], ModelError> { await outcome.value() }
}
