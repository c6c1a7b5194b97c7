import Synchronization

/// An object store that knows which objects are in somebody's hands, so that others can be removed beside writers.
///
/// Whoever puts an object, finds that it is there already, or asks for it, may be about to write a row that names it. The
/// store remembers that for `keeps`, and `reclaim` leaves such objects alone; while an object is being removed, whoever
/// wants it waits for that moment and then finds it gone, or puts it anew. What was in hand before the process started
/// ended with the process.
public final class GuardedObjectStore: ObjectStore {
    private struct State {
        var usedAt: [String: ContinuousClock.Instant] = [:]
        var removing: [String: [CheckedContinuation<Void, Never>]] = [:]
        var sweepAt = 65_536
    }
    private let base: any ObjectStore
    private let keeps: Duration
    private let state = Mutex(State())

    /// Guards `base`.
    /// - Parameter keeps: longest time between having an object in hand and the row that names it.
    public init(base: any ObjectStore, keeps: Duration = .seconds(6 * 3600)) {
        self.base = base
        self.keeps = keeps
    }

    private func use(_ key: String) async {
        while true {
            let isFree = state.withLock { state in
                guard state.removing[key] == nil else { return false }
                let now = ContinuousClock.now
                state.usedAt[key] = now
                if state.usedAt.count > state.sweepAt {
                    state.usedAt = state.usedAt.filter { now - $0.value < keeps }
                    state.sweepAt = max(65_536, state.usedAt.count * 2)
                }
                return true
            }
            if isFree { return }
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if state.removing[key] == nil { return true }
                    state.removing[key]?.append(continuation)
                    return false
                }
                if isOver { continuation.resume() }
            }
        }
    }

    /// Removes an object that nobody has in hand; whether it did.
    public func reclaim(_ key: String) async throws(StoreError) -> Bool {
        let isFree = state.withLock { state in
            if state.removing[key] != nil { return false }
            if let used = state.usedAt[key], ContinuousClock.now - used < keeps { return false }
            state.removing[key] = []
            return true
        }
        guard isFree else { return false }
        defer {
            let waiting = state.withLock { state in
                state.usedAt[key] = nil
                return state.removing.removeValue(forKey: key) ?? []
            }
            for continuation in waiting { continuation.resume() }
        }
        try await base.delete(key)
        return true
    }

    /// Stores bytes under a new key.
    public func put(_ bytes: [UInt8], at key: String) async throws(StoreError) {
        await use(key)
        try await base.put(bytes, at: key)
    }
    /// Stores a copy of a local file under a new key.
    public func put(fileAt path: String, at key: String) async throws(StoreError) {
        await use(key)
        try await base.put(fileAt: path, at: key)
    }
    /// The bytes of an object.
    public func get(_ key: String, byteCountMax: Int) async throws(StoreError) -> [UInt8] {
        try await base.get(key, byteCountMax: byteCountMax)
    }
    /// What is known of an object; whoever asks has it in hand.
    public func info(_ key: String) async throws(StoreError) -> ObjectInfo? {
        await use(key)
        return try await base.info(key)
    }
    /// Objects whose key begins with `prefix`.
    public func list(prefix: String) async throws(StoreError) -> [ObjectInfo] { try await base.list(prefix: prefix) }
    /// Removes an object.
    public func delete(_ key: String) async throws(StoreError) { try await base.delete(key) }
    /// A local file that holds the object's bytes.
    public func localPath(of key: String) async throws(StoreError) -> String { try await base.localPath(of: key) }
    /// A local path for a producer.
    public func stagingPath(suffix: String) async throws(StoreError) -> String {
        try await base.stagingPath(suffix: suffix)
    }
    /// Moves a staged file to a new key.
    public func adopt(stagedFileAt path: String, at key: String) async throws(StoreError) {
        await use(key)
        try await base.adopt(stagedFileAt: path, at: key)
    }
}
