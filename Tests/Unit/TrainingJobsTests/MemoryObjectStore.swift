import PlatformCore
import StoragePorts
import Synchronization

/// Objects in memory, for tests that need evidence kept and no files.
final class MemoryObjectStore: ObjectStore {
    private let objects = Mutex<[String: [UInt8]]>([:])

    func put(_ bytes: [UInt8], at key: String) async throws(StoreError) {
        let isNew = objects.withLock { objects in
            guard objects[key] == nil else { return false }
            objects[key] = bytes
            return true
        }
        if !isNew { throw StoreError(.conflict, key, "the key exists") }
    }
    func get(_ key: String, byteCountMax: Int) async throws(StoreError) -> [UInt8] {
        guard let bytes = objects.withLock({ $0[key] }) else { throw StoreError(.notFound, key, "no such object") }
        return bytes
    }
    func info(_ key: String) async throws(StoreError) -> ObjectInfo? {
        objects.withLock { $0[key] }.map { ObjectInfo(key: key, byteCount: $0.count) }
    }
    func list(prefix: String) async throws(StoreError) -> [ObjectInfo] {
        objects.withLock { $0 }.filter { $0.key.hasPrefix(prefix) }.map { ObjectInfo(key: $0, byteCount: $1.count) }
            .sorted { $0.key < $1.key }
    }
    func delete(_ key: String) async throws(StoreError) { objects.withLock { $0[key] = nil } }
    func put(fileAt path: String, at key: String) async throws(StoreError) { throw Self.noFiles(key) }
    func localPath(of key: String) async throws(StoreError) -> String { throw Self.noFiles(key) }
    func stagingPath(suffix: String) async throws(StoreError) -> String { throw Self.noFiles(suffix) }
    func adopt(stagedFileAt path: String, at key: String) async throws(StoreError) { throw Self.noFiles(key) }

    private static func noFiles(_ key: String) -> StoreError { StoreError(.invalidInput, key, "memory holds no files") }
}
