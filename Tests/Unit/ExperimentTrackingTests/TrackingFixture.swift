import ExperimentTracking
import FileSystemAdapter
import Foundation
import PlatformCore
import SQLiteAdapter
import StoragePorts
import Synchronization

/// Objects in memory; `localPath` writes a file.
final class MemoryObjectStore: ObjectStore {
    private let objects = Mutex<[String: [UInt8]]>([:])
    private let folder: String

    init(folder: String) { self.folder = folder }

    var count: Int { objects.withLock { $0.count } }

    func put(_ bytes: [UInt8], at key: String) async throws(StoreError) {
        let isNew = objects.withLock { objects in
            if objects[key] != nil { return false }
            objects[key] = bytes
            return true
        }
        if !isNew { throw StoreError(.conflict, key, "it exists") }
    }
    func put(fileAt path: String, at key: String) async throws(StoreError) {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw StoreError(.notFound, path, "no such file")
        }
        try await put([UInt8](data), at: key)
    }
    func get(_ key: String, byteCountMax: Int) async throws(StoreError) -> [UInt8] {
        guard let bytes = objects.withLock({ $0[key] }) else { throw StoreError(.notFound, key, "no such object") }
        guard bytes.count <= byteCountMax else { throw StoreError(.limitExceeded, key, "it is too large") }
        return bytes
    }
    func info(_ key: String) async throws(StoreError) -> ObjectInfo? {
        objects.withLock { $0[key] }.map { ObjectInfo(key: key, byteCount: $0.count) }
    }
    func list(prefix: String) async throws(StoreError) -> [ObjectInfo] {
        objects.withLock { $0 }.filter { $0.key.hasPrefix(prefix) }.sorted { $0.key < $1.key }
            .map { ObjectInfo(key: $0.key, byteCount: $0.value.count) }
    }
    func delete(_ key: String) async throws(StoreError) { objects.withLock { $0[key] = nil } }
    func localPath(of key: String) async throws(StoreError) -> String {
        let path = folder + "/" + key.replacing("/", with: "_")
        _ = FileManager.default.createFile(atPath: path, contents: Data(try await get(key, byteCountMax: .max)))
        return path
    }
    func stagingPath(suffix: String) async throws(StoreError) -> String { folder + "/staged" + suffix }
    func adopt(stagedFileAt path: String, at key: String) async throws(StoreError) {
        try await put(fileAt: path, at: key)
    }
}

/// A tracking store in a folder of its own, with a clock that stands still.
final class TrackingFixture: Sendable {
    let folder: String
    let objects: MemoryObjectStore
    let clock: ManualClock
    let metadata: SQLiteMetadataStore
    let store: TrackingStore

    init() async throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("bottega-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        objects = MemoryObjectStore(folder: folder)
        clock = ManualClock(startingAt: EventTime(milliseconds: 1_700_000_000_000))
        metadata = try SQLiteMetadataStore(path: folder + "/metadata.sqlite")
        store = TrackingStore(
            metadata: metadata, objects: objects, journal: try FolderJournal(directory: folder + "/journal"),
            clock: clock, identifiers: IdentifierSource(clock: clock))
        try await store.prepare()
    }

    /// Another store over the same files, as after a crash: nothing of the first one's memory is in it.
    func reopened() async throws -> TrackingStore {
        let store = TrackingStore(
            metadata: metadata, objects: objects, journal: try FolderJournal(directory: folder + "/journal"),
            clock: clock, identifiers: IdentifierSource(clock: clock))
        try await store.prepare()
        return store
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }
}

/// Numbers that a seed determines (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}
