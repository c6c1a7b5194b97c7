import CZlib
import CZstd
import Foundation
public import StoragePorts

/// Raw files on this machine's disks.
public struct LocalSourceFiles: SourceFileStore {
    private let threads = FileThreads(label: "source-files")
    private static let fileCountMax = 100_000

    /// Makes the store.
    public init() {}

    /// The files of a path, folder or pattern.
    public func list(_ location: String) async throws(StoreError) -> [SourceFileInfo] {
        let path = try Self.path(location)
        return try await threads.run { () throws(StoreError) -> [SourceFileInfo] in
            if path.contains(where: { $0 == "*" || $0 == "?" }) {
                let found = try Self.matches(of: path)
                guard !found.isEmpty else { throw StoreError(.notFound, location, "no file matches") }
                return found
            }
            var isFolder: ObjCBool = false
            guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
                throw StoreError(.notFound, location, "no such file or folder")
            }
            guard isFolder.boolValue else {
                guard let file = Self.info(path) else { throw StoreError(.notFound, location, "is no ordinary file") }
                return [file]
            }
            let found = try Self.files(below: path, subject: location)
            guard !found.isEmpty else { throw StoreError(.notFound, location, "the folder holds no file") }
            return found
        }
    }

    /// The path itself.
    public func localPath(of location: String) async throws(StoreError) -> String {
        let path = try Self.path(location)
        guard FileManager.default.isReadableFile(atPath: path) else {
            throw StoreError(.notFound, location, "the file cannot be read")
        }
        return path
    }

    /// Unpacks with zlib or libzstd, in constant memory (a Zstandard window has at most 128 MiB).
    public func unpack(_ path: String, to target: String, byteCountMax: Int) async throws(StoreError) {
        try await threads.run { () throws(StoreError) in try PackedFile.unpack(path, to: target, byteCountMax) }
    }

    // MARK: Listing

    private static func path(_ location: String) throws(StoreError) -> String {
        if location.hasPrefix("file://") { return String(location.dropFirst("file://".count)) }
        if let scheme = location.firstRange(of: "://") {
            throw StoreError(
                .invalidInput, location,
                "files of '\(location[..<scheme.lowerBound])' cannot be read; local paths can")
        }
        return location
    }

    private static func info(_ path: String) -> SourceFileInfo? {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        let time = Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
        return SourceFileInfo(location: path, byteCount: Int(status.st_size), stamp: "\(time)")
    }

    private static func files(below folder: String, subject: String) throws(StoreError) -> [SourceFileInfo] {
        var found: [SourceFileInfo] = []
        var open = [folder.count > 1 && folder.hasSuffix("/") ? String(folder.dropLast()) : folder]
        while let next = open.popLast() {
            for name in try Folder.names(in: next, subject: subject) where !name.hasPrefix(".") && !name.hasPrefix("_")
            {
                let path = "\(next)/\(name)"
                var status = stat()
                guard stat(path, &status) == 0 else { continue }
                if status.st_mode & S_IFMT == S_IFDIR {
                    // A link to a folder above would go round for ever.
                    var link = stat()
                    if lstat(path, &link) == 0, link.st_mode & S_IFMT == S_IFDIR { open.append(path) }
                } else if let file = info(path) {
                    found.append(file)
                }
                guard found.count <= fileCountMax else {
                    throw StoreError(.limitExceeded, subject, "holds more than \(fileCountMax) files")
                }
            }
        }
        return found.sorted { $0.location.utf8.lexicographicallyPrecedes($1.location.utf8) }
    }

    private static func matches(of pattern: String) throws(StoreError) -> [SourceFileInfo] {
        let parts = pattern.split(separator: "/", omittingEmptySubsequences: true).map(String.init)
        let fixed = parts.prefix { !$0.contains("*") && !$0.contains("?") }
        let root = (pattern.hasPrefix("/") ? "/" : "") + fixed.joined(separator: "/")
        guard FileManager.default.fileExists(atPath: root.isEmpty ? "." : root) else { return [] }
        let wanted = Array(parts.dropFirst(fixed.count))
        let base = root.isEmpty ? "." : root
        return try files(below: base, subject: pattern).filter { file in
            let below = file.location.dropFirst(base.utf8.count).split(separator: "/").map(String.init)
            return matches(below[...], wanted[...])
        }
    }

    private static func matches(_ parts: ArraySlice<String>, _ wanted: ArraySlice<String>) -> Bool {
        guard let first = wanted.first else { return parts.isEmpty }
        if first == "**" {
            return (0...parts.count).contains { matches(parts.dropFirst($0), wanted.dropFirst()) }
        }
        guard let part = parts.first, matches(Array(part.utf8), Array(first.utf8)) else { return false }
        return matches(parts.dropFirst(), wanted.dropFirst())
    }

    /// `*` and `?` within one part, without backtracking over more than the last star.
    private static func matches(_ text: [UInt8], _ pattern: [UInt8]) -> Bool {
        var (at, next, star, mark) = (0, 0, -1, 0)
        while at < text.count {
            if next < pattern.count, pattern[next] == 0x3F || pattern[next] == text[at], pattern[next] != 0x2A {
                at += 1
                next += 1
            } else if next < pattern.count, pattern[next] == 0x2A {
                (star, mark) = (next, at)
                next += 1
            } else if star >= 0 {
                mark += 1
                (at, next) = (mark, star + 1)
            } else {
                return false
            }
        }
        while next < pattern.count, pattern[next] == 0x2A { next += 1 }
        return next == pattern.count
    }
}
