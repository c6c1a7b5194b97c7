import Foundation
public import StoragePorts
import Synchronization

/// An object store in a dictionary, for tests of what stands on the port.
///
/// Files for engines are copies in a folder.
public final class InMemoryObjectStore: ObjectStore {
    private let objects = Mutex<[String: [UInt8]]>([:])
    private let folder: TemporaryFolder

    /// Makes an empty store.
    public init() throws { folder = try TemporaryFolder("objects") }

    private func check(_ key: String) throws(StoreError) {
        let parts = key.split(separator: "/", omittingEmptySubsequences: false)
        let accepted = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.=-".utf8)
        guard key.utf8.count <= 1_024,
            parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." && $0.utf8.allSatisfy(accepted.contains) })
        else { throw StoreError(.invalidInput, "object", "this is no key") }
    }
    private func bytes(at key: String) throws(StoreError) -> [UInt8] {
        try check(key)
        guard let bytes = objects.withLock({ $0[key] }) else {
            throw StoreError(.notFound, "object/\(key)", "there is no such object")
        }
        return bytes
    }
    private func file(_ path: String) throws(StoreError) -> [UInt8] {
        guard let content = FileManager.default.contents(atPath: path) else {
            throw StoreError(.notFound, "object", "\(path) cannot be read")
        }
        return Array(content)
    }

    /// Stores bytes under a new key.
    public func put(_ bytes: [UInt8], at key: String) async throws(StoreError) {
        try check(key)
        let isNew = objects.withLock { objects in
            if objects[key] != nil { return false }
            objects[key] = bytes
            return true
        }
        guard isNew else { throw StoreError(.conflict, "object/\(key)", "the key exists") }
    }
    /// Stores a copy of a local file under a new key.
    public func put(fileAt path: String, at key: String) async throws(StoreError) {
        try check(key)
        try await put(try file(path), at: key)
    }
    /// The bytes of an object.
    public func get(_ key: String, byteCountMax: Int) async throws(StoreError) -> [UInt8] {
        let bytes = try bytes(at: key)
        guard bytes.count <= byteCountMax else {
            throw StoreError(.limitExceeded, "object/\(key)", "it has \(bytes.count) bytes")
        }
        return bytes
    }
    /// What is known of an object.
    public func info(_ key: String) async throws(StoreError) -> ObjectInfo? {
        try check(key)
        return objects.withLock { $0[key] }.map { ObjectInfo(key: key, byteCount: $0.count) }
    }
    /// Objects whose key begins with `prefix`.
    public func list(prefix: String) async throws(StoreError) -> [ObjectInfo] {
        objects.withLock { $0 }.filter { $0.key.hasPrefix(prefix) }
            .map { ObjectInfo(key: $0.key, byteCount: $0.value.count) }.sorted { $0.key < $1.key }
    }
    /// Removes an object.
    public func delete(_ key: String) async throws(StoreError) {
        try check(key)
        objects.withLock { $0[key] = nil }
    }
    /// A copy of the object in a file.
    public func localPath(of key: String) async throws(StoreError) -> String {
        let bytes = try bytes(at: key)
        let path = "\(folder.path)/copy-\(key.replacing("/", with: "%"))"
        guard FileManager.default.createFile(atPath: path, contents: Data(bytes)) else {
            throw StoreError(.unavailable, "object/\(key)", "\(path) cannot be written")
        }
        return path
    }
    /// A path in the store's folder.
    public func stagingPath(suffix: String) async throws(StoreError) -> String {
        "\(folder.path)/staged-\(UUID().uuidString)\(suffix)"
    }
    /// Takes a staged file over.
    public func adopt(stagedFileAt path: String, at key: String) async throws(StoreError) {
        guard path.hasPrefix("\(folder.path)/staged-"), !path.contains("..") else {
            throw StoreError(.invalidInput, "object", "the file was not written at a staging path")
        }
        try await put(fileAt: path, at: key)
        try? FileManager.default.removeItem(atPath: path)
    }
}
