import Synchronization

/// Runs that may change, so that a metric need not ask the metadata store for its run.
final class ActiveRuns: Sendable {
    private struct State {
        var numbers: [String: Int64] = [:]
        var generation = 0
    }
    private static let countMax = 20_000
    private let state = Mutex(State())

    /// Rises when runs were deleted; what was read before may not be remembered after.
    var generation: Int { state.withLock { $0.generation } }

    /// The number of a run that is known to be active.
    subscript(id: String) -> Int64? { state.withLock { $0.numbers[id] } }

    func remember(_ id: String, number: Int64, generation: Int) {
        state.withLock { state in
            guard generation == state.generation else { return }
            if state.numbers.count >= Self.countMax { state.numbers.removeAll(keepingCapacity: true) }
            state.numbers[id] = number
        }
    }

    /// Forgets all: some were deleted or restored.
    func forget() {
        state.withLock { state in
            state.numbers.removeAll()
            state.generation += 1
        }
    }
}
