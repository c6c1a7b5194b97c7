import RuntimePorts
import Synchronization

/// The lane of shadows whose answers are waited for: many rows in a call, a bounded number in hand.
///
/// Nobody waits for it. A shadow that does not answer a call within `timeMax`, or cannot keep up so that `capacity` rows
/// wait, has failed on the rows that are left out.
final class DeferredShadows: Sendable {
    /// A row for a shadow.
    struct Question: Sendable {
        let record: PredictionRecord
        let shadow: ServedVersion
    }

    private static let timeMax = Duration.seconds(2)
    /// Rows of one call.
    private static let rowCountMax = 256
    /// Rows that wait.
    static let capacity = 8192

    private struct State {
        var waiting: [Question] = []
        var taken = 0
        var settled = 0
        var isClosed = false
        var waiter: CheckedContinuation<Void, Never>?
    }
    private let state = Mutex(State())

    /// Rows ever taken.
    var taken: Int { state.withLock { $0.taken } }
    /// Of these, those that were answered and written, or failed.
    var settled: Int { state.withLock { $0.settled } }

    /// Takes rows; gives back those for which there is no room.
    func take(_ questions: [Question]) -> ArraySlice<Question> {
        guard !questions.isEmpty else { return [] }
        let (count, waiter) = state.withLock { state in
            let count = max(0, min(questions.count, Self.capacity - (state.taken - state.settled)))
            state.waiting += questions.prefix(count)
            state.taken += count
            defer { state.waiter = nil }
            return (count, state.waiter)
        }
        waiter?.resume()
        return questions[count...]
    }

    /// Lets `next` end when nothing waits any more.
    func close() {
        let waiter = state.withLock { state in
            state.isClosed = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    /// What waits, once something does; `nil` at the end.
    ///
    /// For one caller.
    func next() async -> [Question]? {
        while true {
            let (found, isClosed) = state.withLock { state in
                defer { state.waiting = [] }
                return (state.waiting, state.isClosed)
            }
            if !found.isEmpty { return found }
            if isClosed { return nil }
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if state.isClosed || !state.waiting.isEmpty { return true }
                    state.waiter = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        }
    }

    /// Rows of `next` are done with.
    func settle(_ count: Int) { state.withLock { $0.settled += count } }

    // MARK: Asking

    /// Asks every shadow for its rows, all shadows at once; gives the answers in the order of the rows, and those that failed.
    static func answers(to questions: [Question]) async -> (answers: [PredictionRecord], failed: [Question]) {
        var places: [ObjectIdentifier: [Int]] = [:]
        for (place, question) in questions.enumerated()
        where question.shadow.binding.versionText == question.record.serviceVersion {
            places[ObjectIdentifier(question.shadow.residence), default: []].append(place)
        }
        let deadline = ContinuousClock.now + timeMax
        let found = await withTaskGroup(of: [(Int, PredictionRecord)].self) { group in
            for places in places.values {
                for start in stride(from: 0, to: places.count, by: rowCountMax) {
                    let part = Array(places[start..<min(start + rowCountMax, places.count)])
                    group.addTask { await ask(part, of: questions, deadline) }
                }
            }
            return await group.reduce(into: [Int: PredictionRecord]()) { answers, part in
                for (place, record) in part { answers[place] = record }
            }
        }
        return (
            questions.indices.compactMap { found[$0] },
            questions.indices.filter { found[$0] == nil }.map { questions[$0] }
        )
    }

    /// Asks one shadow for some rows.
    private static func ask(_ places: [Int], of questions: [Question], _ deadline: ContinuousClock.Instant) async
        -> [(Int, PredictionRecord)]
    {
        let shadow = questions[places[0]].shadow
        let begin = ContinuousClock.now
        let rows = places.flatMap { questions[$0].record.inputs.map(Float.init) }
        let outcomes = await shadow.loaded.predictions(of: rows, rowCount: places.count, deadline: deadline)
        let took = ContinuousClock.now - begin
        return zip(places, outcomes).compactMap { place, outcome in
            guard case .success(let output) = outcome, output.allSatisfy(\.isFinite) else { return nil }
            return (place, PredictionLog.shadowRecord(shadow, to: questions[place].record, output: output, took: took))
        }
    }
}
