import Dispatch
import StoragePorts

/// Runs blocking file work on Dispatch's threads, so that a slow disk never holds up Swift's few cooperative ones.
///
/// Dispatch instead of threads of our own: a platform with fifty topics holds no idle threads, and the number of busy
/// ones is bounded by Dispatch.
struct FileThreads: Sendable {
    private let queue: DispatchQueue

    init(label: String) { queue = DispatchQueue(label: label, attributes: .concurrent) }

    func run<Value: Sendable>(_ body: @escaping @Sendable () throws(StoreError) -> Value) async throws(StoreError)
        -> Value
    {
        let outcome: Result<Value, StoreError> = await withCheckedContinuation { continuation in
            queue.async { continuation.resume(returning: Result(catching: body)) }
        }
        return try outcome.get()
    }
}
