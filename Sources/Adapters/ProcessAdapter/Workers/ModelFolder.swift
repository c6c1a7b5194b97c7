import Foundation
import PlatformCore
import RuntimePorts

/// The list that a version of several files is kept as: each file's path, hash and size.
struct ModelFileList: Equatable {
    struct File: Equatable {
        let path: String
        let hash: ContentHash
        let byteCount: Int
    }
    let files: [File]

    private static let listByteCountMax = 4 << 20
    private static let fileCountMax = 10_000
    private static let byteCountMax = 16 << 30

    /// Reads a list; `nil` for bytes that are none.
    /// - Throws: `malformedModel` for a list whose paths lead elsewhere or whose sizes make no sense.
    init?(_ bytes: [UInt8]) throws(ModelError) {
        guard bytes.count <= Self.listByteCountMax, bytes.starts(with: Array("{\"files\":[".utf8)),
            let json = try? JSONValue.parse(
                bytes[...], limits: JSONLimits(byteCountMax: Self.listByteCountMax, depthMax: 4)),
            let list = json["files"]?.arrayValue
        else { return nil }
        guard 1...Self.fileCountMax ~= list.count else {
            throw ModelError(.tooLarge, "it has \(list.count) files, 1 to \(Self.fileCountMax) are accepted")
        }
        var files: [File] = []
        for entry in list {
            guard let path = entry["path"]?.stringValue, Self.isPlain(path),
                let hash = ContentHash(hex: entry["hash"]?.stringValue ?? ""),
                let count = entry["byte_count"]?.integerValue, 0...Int64(Self.byteCountMax) ~= count
            else { throw ModelError(.malformedModel, "its list of files has an entry that makes no sense") }
            files.append(File(path: path, hash: hash, byteCount: Int(count)))
        }
        guard Set(files.map(\.path)).count == files.count else {
            throw ModelError(.malformedModel, "its list of files names a file twice")
        }
        self.files = files
    }

    /// Whether a path leads to a place below its folder.
    private static func isPlain(_ path: String) -> Bool {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        return path.utf8.count <= 1024 && parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
            && !path.utf8.contains { $0 < 0x20 || $0 == 0x7F }
    }
}

/// Files of models that Python code opens, each model in a folder that its hash names.
struct ModelFolders: Sendable {
    let root: String
    let fetch: @Sendable (ContentHash, _ byteCountMax: Int) async throws -> [UInt8]

    func folder(of hash: ContentHash) -> String { "\(root)/models/\(hash.hex)" }

    /// Puts a model's files there, once.
    func place(_ bytes: [UInt8], hash: ContentHash, fileName: String) async throws(ModelError) -> String {
        let folder = folder(of: hash)
        let files = FileManager.default
        if files.fileExists(atPath: "\(folder)/files") { return "\(folder)/files" }
        let list = try ModelFileList(bytes)
        let draft = "\(folder)/draft-\(UUID().uuidString)"
        do {
            defer { try? files.removeItem(atPath: draft) }
            try files.createDirectory(atPath: draft, withIntermediateDirectories: true)
            if let list {
                for file in list.files {
                    let url = URL(fileURLWithPath: "\(draft)/\(file.path)")
                    try files.createDirectory(
                        at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
                    try Data(try await fetch(file.hash, file.byteCount)).write(to: url)
                }
            } else {
                let name = fileName.hasSuffix(".joblib") ? "model.joblib" : "model.pkl"
                try Data(bytes).write(to: URL(fileURLWithPath: "\(draft)/\(name)"))
            }
            if rename(draft, "\(folder)/files") != 0, !files.fileExists(atPath: "\(folder)/files") {
                throw ModelError(.unavailable, "its files cannot be put into '\(folder)'")
            }
        } catch let error as ModelError { throw error } catch {
            throw ModelError(.unavailable, "its files cannot be read: \(printable("\(error)"))")
        }
        return "\(folder)/files"
    }
}
