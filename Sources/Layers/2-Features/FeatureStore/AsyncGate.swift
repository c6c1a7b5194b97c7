import Synchronization

/// Lets one caller through at a time, in the order of their coming, across suspensions.
///
/// An actor would let a second caller in whenever the first one waits for a disk; then rows could be applied twice.
package final class AsyncGate: Sendable {
    private struct State {
        var isHeld = false
        var waiting: [CheckedContinuation<Void, Never>] = []
        var next = 0
    }
    private let state = Mutex(State())

    package init() {}

    private func enter() async {
        await withCheckedContinuation { continuation in
            let mayPass = state.withLock { state in
                if state.isHeld {
                    state.waiting.append(continuation)
                    return false
                }
                state.isHeld = true
                return true
            }
            if mayPass { continuation.resume() }
        }
    }

    private func leave() {
        let following = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard state.next < state.waiting.count else {
                state.waiting.removeAll(keepingCapacity: true)
                state.next = 0
                state.isHeld = false
                return nil
            }
            state.next += 1
            return state.waiting[state.next - 1]
        }
        following?.resume()
    }

    /// Runs `body` alone.
    package func pass<Value>(_ body: () async throws -> Value) async rethrows -> Value {
        await enter()
        defer { leave() }
        return try await body()
    }
}
