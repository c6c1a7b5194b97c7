import Synchronization

/// Wakes tasks that wait for something to happen; no ring is lost between looking and waiting.
///
/// Who waits first notes `rings`, then looks whether there is something to do, then waits for rings past the noted one.
final class WakeSignal: Sendable {
    private struct State {
        var rings: UInt64 = 0
        var next: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<Void, Never>] = [:]
    }
    private let state = Mutex(State())

    /// Rings so far.
    var rings: UInt64 { state.withLock { $0.rings } }

    /// Wakes all that wait.
    func ring() {
        let waiters = state.withLock { state in
            state.rings += 1
            defer { state.waiters = [:] }
            return state.waiters
        }
        for waiter in waiters.values { waiter.resume() }
    }

    /// Waits until somebody has rung after `seen` rings, `limit` is over, or the task is cancelled.
    ///
    /// - Parameter limit: `nil` to wait for a ring alone.
    func wait(past seen: UInt64, atMost limit: Duration? = nil) async {
        guard let limit else { return await ringing(past: seen) }
        await withTaskGroup { group in
            group.addTask { try? await Task.sleep(for: limit) }
            group.addTask { await self.ringing(past: seen) }
            await group.next()
            group.cancelAll()
        }
    }

    private func ringing(past seen: UInt64) async {
        let id = state.withLock { state in
            state.next += 1
            return state.next
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if state.rings > seen || Task.isCancelled { return true }
                    state.waiters[id] = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: id) }?.resume()
        }
    }
}
