import Dispatch
import Synchronization

/// Runs work that fills whole processors on Dispatch's threads: Swift's few cooperative ones stay free for requests.
package struct Workers: Sendable {
    package let count: Int
    private let isStopped = StopFlag()

    /// - Parameter count: workers at a time, at least 1.
    package init(count: Int) { self.count = max(1, count) }

    private final class StopFlag: Sendable { let value = Atomic<Bool>(false) }

    /// Lets running work end at its next step.
    package func stop() { isStopped.value.store(true, ordering: .relaxed) }

    /// Calls `body` once for each unit, several at a time, each worker with its own state.
    ///
    /// The first error ends it and is thrown.
    package func run<State>(
        units: Int, state: @Sendable () throws -> State, _ body: @Sendable (inout State, Int) throws -> Void,
        finish: @Sendable (inout State) throws -> Void = { _ in }
    ) throws {
        let next = Atomic<Int>(0)
        let failure = Mutex<(any Error)?>(nil)
        DispatchQueue.concurrentPerform(iterations: min(count, max(1, units))) { _ in
            do {
                var own = try state()
                while true {
                    if isStopped.value.load(ordering: .relaxed) { throw CancellationError() }
                    let unit = next.add(1, ordering: .relaxed).oldValue
                    guard unit < units, failure.withLock({ $0 == nil }) else { break }
                    try body(&own, unit)
                }
                try finish(&own)
            } catch { failure.withLock { if $0 == nil { $0 = error } } }
        }
        if let error = failure.withLock({ $0 }) { throw error }
    }

    /// Runs `body` on a thread of Dispatch while the caller waits without holding one; a cancelled task stops the work.
    package func detached<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                DispatchQueue.global(qos: .utility).async { continuation.resume(with: Result { try body() }) }
            }
        } onCancel: {
            stop()
        }
    }
}
