import Foundation
import PlatformCore
import PlatformTesting
import StoragePorts
import Synchronization

/// An event log in memory; counts its appends.
final class MemoryEventLog: EventLog {
    private struct State {
        var records: [Name: [LogRecord]] = [:]
        var positions: [String: UInt64] = [:]
        var appendCount = 0
        var failures = 0
    }
    private let state = Mutex(State())
    private let appendDelay: Duration

    init(appendDelay: Duration = .zero) { self.appendDelay = appendDelay }

    var appendCount: Int { state.withLock { $0.appendCount } }
    func failNextAppends(_ count: Int) { state.withLock { $0.failures = count } }
    func records(of topic: Name) -> [LogRecord] { state.withLock { $0.records[topic] ?? [] } }

    func createTopic(_ topic: Name, partitions: Int) async throws(StoreError) {
        state.withLock { $0.records[topic, default: []] += [] }
    }
    func topics() async throws(StoreError) -> [Name] { state.withLock { $0.records.keys.sorted() } }
    func append(_ records: [LogRecord], to topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        if appendDelay > .zero { try? await Task.sleep(for: appendDelay) }
        let first: UInt64? = state.withLock { state in
            if state.failures > 0 {
                state.failures -= 1
                return nil
            }
            let first = state.records[topic, default: []].count
            state.records[topic, default: []] += records
            state.appendCount += 1
            return UInt64(first)
        }
        guard let first else { throw StoreError(.full, "topic/\(topic)", "no space is left") }
        return first
    }
    func read(_ topic: Name, partition: Int, from offset: UInt64, recordCountMax: Int, byteCountMax: Int)
        async throws(StoreError) -> [StoredRecord]
    {
        state.withLock { state in
            let all = state.records[topic] ?? []
            guard offset < UInt64(all.count) else { return [] }
            let start = Int(offset)
            return (start..<min(all.count, start + recordCountMax)).map {
                StoredRecord(offset: UInt64($0), record: all[$0])
            }
        }
    }
    func endOffset(_ topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        state.withLock { UInt64($0.records[topic]?.count ?? 0) }
    }
    func firstOffset(_ topic: Name, partition: Int, atOrAfter time: EventTime) async throws(StoreError) -> UInt64 {
        state.withLock { state in
            let all = state.records[topic] ?? []
            return UInt64(all.firstIndex { $0.time >= time } ?? all.count)
        }
    }
    func commit(_ consumer: Name, topic: Name, partition: Int, offset: UInt64) async throws(StoreError) {
        state.withLock { $0.positions["\(consumer)/\(topic)"] = offset }
    }
    func position(_ consumer: Name, topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        state.withLock { $0.positions["\(consumer)/\(topic)"] ?? 0 }
    }
    func waitForRecords(_ topic: Name, partition: Int, past offset: UInt64, timeout: Duration) async throws(StoreError)
    {}
}

/// Objects as files of a folder, without durability.
final class FolderObjects: ObjectStore {
    let folder: String
    init(folder: String) { self.folder = folder }

    private func file(_ key: String) -> String { "\(folder)/objects/\(key)" }
    private func makeParent(_ path: String) {
        try? FileManager.default.createDirectory(
            atPath: String(path[..<(path.lastIndex(of: "/") ?? path.endIndex)]), withIntermediateDirectories: true)
    }
    func put(_ bytes: [UInt8], at key: String) async throws(StoreError) {
        makeParent(file(key))
        // Whole or not at all, as the port promises.
        let staged = "\(folder)/put-\(UUID().uuidString)"
        defer { unlink(staged) }
        guard FileManager.default.createFile(atPath: staged, contents: Data(bytes)) else {
            throw StoreError(.unavailable, key, "it cannot be written")
        }
        guard link(staged, file(key)) == 0 else { throw StoreError(.conflict, key, "exists") }
    }
    func put(fileAt path: String, at key: String) async throws(StoreError) {
        makeParent(file(key))
        do { try FileManager.default.copyItem(atPath: path, toPath: file(key)) } catch {
            throw StoreError(.conflict, key, "exists")
        }
    }
    func get(_ key: String, byteCountMax: Int) async throws(StoreError) -> [UInt8] {
        guard let data = FileManager.default.contents(atPath: file(key)) else {
            throw StoreError(.notFound, key, "none")
        }
        return Array(data)
    }
    func info(_ key: String) async throws(StoreError) -> ObjectInfo? {
        FileManager.default.contents(atPath: file(key)).map { ObjectInfo(key: key, byteCount: $0.count) }
    }
    func list(prefix: String) async throws(StoreError) -> [ObjectInfo] {
        let names = FileManager.default.enumerator(atPath: "\(folder)/objects")?.compactMap { $0 as? String } ?? []
        return names.filter { $0.hasPrefix(prefix) }.sorted().compactMap { name in
            var isFolder: ObjCBool = false
            guard FileManager.default.fileExists(atPath: file(name), isDirectory: &isFolder), !isFolder.boolValue else {
                return nil
            }
            return ObjectInfo(key: name, byteCount: FileManager.default.contents(atPath: file(name))?.count ?? 0)
        }
    }
    func delete(_ key: String) async throws(StoreError) { try? FileManager.default.removeItem(atPath: file(key)) }
    func localPath(of key: String) async throws(StoreError) -> String { file(key) }
    func stagingPath(suffix: String) async throws(StoreError) -> String {
        let path = "\(folder)/staging/\(UUID().uuidString)\(suffix)"
        makeParent(path)
        return path
    }
    func adopt(stagedFileAt path: String, at key: String) async throws(StoreError) {
        makeParent(file(key))
        do { try FileManager.default.moveItem(atPath: path, toPath: file(key)) } catch {
            throw StoreError(.conflict, key, "exists")
        }
    }
}
