import Foundation
import PlatformCore
import StoragePorts

/// Objects as files in a temporary folder: just enough of the port to hold the parts of a dataset.
final class FolderObjectStore: ObjectStore {
    let root = FileManager.default.temporaryDirectory.appending(path: "parts-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: root, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(at: root) }

    private func place(_ key: String) throws(StoreError) -> URL {
        let url = root.appending(path: key)
        do {
            try FileManager.default.createDirectory(
                at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        } catch { throw StoreError(.unavailable, key, "\(error)") }
        if FileManager.default.fileExists(atPath: url.path) { throw StoreError(.conflict, key, "exists") }
        return url
    }
    func put(_ bytes: [UInt8], at key: String) async throws(StoreError) {
        let url = try place(key)
        do { try Data(bytes).write(to: url) } catch { throw StoreError(.unavailable, key, "\(error)") }
    }
    func put(fileAt path: String, at key: String) async throws(StoreError) {
        let url = try place(key)
        do { try FileManager.default.copyItem(atPath: path, toPath: url.path) } catch {
            throw StoreError(.unavailable, key, "\(error)")
        }
    }
    func get(_ key: String, byteCountMax: Int) async throws(StoreError) -> [UInt8] {
        guard let data = FileManager.default.contents(atPath: root.appending(path: key).path) else {
            throw StoreError(.notFound, key, "no such object")
        }
        return [UInt8](data)
    }
    func info(_ key: String) async throws(StoreError) -> ObjectInfo? {
        FileManager.default.contents(atPath: root.appending(path: key).path).map {
            ObjectInfo(key: key, byteCount: $0.count)
        }
    }
    func list(prefix: String) async throws(StoreError) -> [ObjectInfo] { [] }
    func delete(_ key: String) async throws(StoreError) {}
    func localPath(of key: String) async throws(StoreError) -> String { root.appending(path: key).path }
    func stagingPath(suffix: String) async throws(StoreError) -> String {
        root.appending(path: "staged-\(UUID().uuidString)\(suffix)").path
    }
    func adopt(stagedFileAt path: String, at key: String) async throws(StoreError) {
        let url = try place(key)
        do { try FileManager.default.moveItem(atPath: path, toPath: url.path) } catch {
            throw StoreError(.unavailable, key, "\(error)")
        }
    }
}
