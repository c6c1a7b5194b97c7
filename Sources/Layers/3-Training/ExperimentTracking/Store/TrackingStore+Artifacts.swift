import ContentHashing
import Foundation
public import PlatformCore
import StoragePorts

/// Where an artifact's bytes are.
public struct StoredArtifact: Sendable, Hashable {
    /// Its path below the root of all artifacts, `7/…/artifacts/model/MLmodel`.
    public let path: String
    /// SHA-256 of its bytes.
    public let hash: ContentHash
    /// Its size in bytes.
    public let byteCount: Int
    /// When these bytes came.
    public let updatedAt: EventTime
}

extension TrackingStore {
    /// The path below the root of all artifacts that a URI names; `nil` if the bytes are kept elsewhere.
    ///
    /// `mlflow-artifacts:/7/x` and `mlflow-artifacts://host:port/7/x` both give `7/x`.
    public static func artifactPath(ofURI uri: String) -> String? {
        guard uri.hasPrefix("mlflow-artifacts:") else { return nil }
        var rest = uri.dropFirst("mlflow-artifacts:".count)
        if rest.hasPrefix("//") {
            guard let slash = rest.dropFirst(2).firstIndex(of: "/") else { return "" }
            rest = rest[slash...]
        }
        return String(rest.drop { $0 == "/" })
    }

    /// Checks a path from outside: relative, no empty part, no `.` or `..` (also percent-encoded), no control character.
    /// - Throws: `invalidInput`.
    public static func checkedArtifactPath(_ path: String) throws(PlatformError) -> String {
        var form = path
        guard path.utf8.count <= 4096 else { throw PlatformError(.invalidInput, "artifact path", "it is too long") }
        for _ in 0..<4 {
            let parts = form.split(separator: "/", omittingEmptySubsequences: false)
            guard !form.isEmpty, !parts.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }),
                !form.contains("\\"), !form.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7F }),
                parts.first?.hasSuffix(":") != true
            else { throw PlatformError(.invalidInput, "artifact path", "Invalid path: '\(path.prefix(200))'") }
            guard let decoded = form.removingPercentEncoding, decoded != form else { break }
            form = decoded
        }
        return path
    }

    /// Stores bytes at a path below the root of all artifacts; what was there before is replaced.
    public func putArtifact(_ bytes: [UInt8], at path: String) async throws {
        let path = try Self.checkedArtifactPath(path)
        let hash = try await content.put(bytes)
        try await record(hash, byteCount: bytes.count, at: path)
    }

    /// Stores a copy of a local file at a path below the root of all artifacts; what was there before is replaced.
    public func putArtifact(fileAt file: String, at path: String) async throws {
        let path = try Self.checkedArtifactPath(path)
        let (hash, byteCount) = try await Self.hash(fileAt: file)
        if try await !content.contains(hash) {
            do { try await content.base.put(fileAt: file, at: ContentStore.key(of: hash)) } catch {
                if error.code != .conflict { throw error }
            }
        }
        try await record(hash, byteCount: byteCount, at: path)
    }

    /// Makes an artifact of a file that was written at a staging path of the object store, without a copy.
    ///
    /// The file is gone when this returns; it stays where it is when this throws.
    func adopt(stagedFileAt file: String, at path: String, hash: ContentHash? = nil) async throws {
        let (hash, byteCount) = try await Self.hash(fileAt: file, known: hash)
        do { try await content.base.adopt(stagedFileAt: file, at: ContentStore.key(of: hash)) } catch {
            guard error.code == .conflict else { throw error }
            try? FileManager.default.removeItem(atPath: file)  // the same bytes are stored already
        }
        try await record(hash, byteCount: byteCount, at: path)
    }

    /// Makes an artifact of a local file that the caller gives away; what was at `path` before is replaced.
    ///
    /// No copy is made where the file lies on the object store's disk.
    ///
    /// - Parameter hash: the hash of its bytes, if that is known: they are not read again then.
    public func takeArtifact(fileAt file: String, at path: String, hash: ContentHash? = nil) async throws {
        let path = try Self.checkedArtifactPath(path)
        let staged = try await content.base.stagingPath(suffix: "-artifact")
        guard rename(file, staged) == 0 else { return try await putArtifact(fileAt: file, at: path) }
        do { try await adopt(stagedFileAt: staged, at: path, hash: hash) } catch {
            try? FileManager.default.removeItem(atPath: staged)
            throw error
        }
    }

    /// What is stored at a path.
    /// - Throws: `notFound`.
    public func artifact(at path: String) async throws -> StoredArtifact {
        let path = try Self.checkedArtifactPath(path)
        let row = try await metadata.read { transaction in
            try transaction.query("SELECT * FROM tracking_artifact WHERE path = ?", [.text(path)]).first
        }
        guard let row, let hash = ContentHash(hex: row.text("hash")) else {
            throw PlatformError(.notFound, "artifact/\(path)", "No such artifact: '\(path)'")
        }
        return StoredArtifact(
            path: path, hash: hash, byteCount: Int(row.integer("byte_count")), updatedAt: row.time("updated_at"))
    }

    /// A local file with an artifact's bytes.
    ///
    /// It must not be changed.
    public func localPath(of artifact: StoredArtifact) async throws -> String {
        try await content.localPath(of: artifact.hash)
    }

    /// The bytes at a path below the root of all artifacts.
    /// - Throws: `notFound`, `StoreError` (`limitExceeded`, `corrupted`).
    public func artifactBytes(at path: String, byteCountMax: Int = 1 << 30) async throws -> [UInt8] {
        try await content.get(artifact(at: path).hash, byteCountMax: byteCountMax)
    }

    /// The bytes of a run's artifact, `model/model.ubj`.
    public func artifactBytes(run id: String, path: String, byteCountMax: Int = 1 << 30) async throws -> [UInt8] {
        let root = try await artifactRoot(ofRun: id)
        return try await artifactBytes(at: "\(root)/\(path)", byteCountMax: byteCountMax)
    }

    /// The bytes of a logged model's file, `model.ubj`.
    public func artifactBytes(
        loggedModel id: String, path: String, byteCountMax: Int = 1 << 30
    ) async throws -> [UInt8] {
        guard let root = try await Self.artifactPath(ofURI: loggedModel(id).artifactURI) else {
            throw PlatformError(.invalidInput, "model/\(id)", "its files are not kept here")
        }
        return try await artifactBytes(at: "\(root)/\(path)", byteCountMax: byteCountMax)
    }

    /// Files and folders of a run directly below `path`; paths are relative to the run's artifacts.
    public func artifacts(run id: String, path: String = "") async throws -> [ArtifactEntry] {
        try await entries(below: artifactRoot(ofRun: id), path: path)
    }

    /// Every file below a path, at any depth.
    public func allArtifacts(below path: String) async throws -> [StoredArtifact] {
        let path = try Self.checkedArtifactPath(path)
        let rows = try await metadata.read { transaction in
            try transaction.query(
                "SELECT * FROM tracking_artifact WHERE path >= ? AND path < ? ORDER BY path",
                [.text("\(path)/"), .text("\(path)0")])  // '0' follows '/'
        }
        return rows.compactMap { row in
            ContentHash(hex: row.text("hash")).map {
                StoredArtifact(
                    path: row.text("path"), hash: $0, byteCount: Int(row.integer("byte_count")),
                    updatedAt: row.time("updated_at"))
            }
        }
    }

    /// Whether a file is at a path, or below it.
    public func hasArtifact(at path: String) async throws -> Bool {
        let path = try Self.checkedArtifactPath(path)
        return try await metadata.read { transaction in
            try !transaction.query(
                "SELECT 1 FROM tracking_artifact WHERE path = ? OR (path >= ? AND path < ?) LIMIT 1",
                [.text(path), .text("\(path)/"), .text("\(path)0")]  // '0' follows '/'
            ).isEmpty
        }
    }

    /// Files and folders directly below `root/path`; their paths begin with `path`.
    ///
    /// Empty where nothing is, also where a file is.
    public func entries(below root: String, path: String = "") async throws -> [ArtifactEntry] {
        let folder = path.isEmpty ? root : "\(root)/\(path)"
        let prefix = path.isEmpty ? "" : "\(path)/"
        var entries: [ArtifactEntry] = []
        var lastFolder: Substring?
        for artifact in try await allArtifacts(below: folder) {
            let rest = Substring(artifact.path.utf8.dropFirst(folder.utf8.count + 1))
            guard let slash = rest.firstIndex(of: "/") else {
                entries.append(ArtifactEntry(path: prefix + rest, byteCount: artifact.byteCount))
                continue
            }
            if rest[..<slash] == lastFolder { continue }
            lastFolder = rest[..<slash]
            entries.append(ArtifactEntry(path: prefix + rest[..<slash], byteCount: nil))
        }
        return entries.sorted { $0.path < $1.path }
    }

    /// Forgets the file at a path, or every file below it.
    ///
    /// Bytes that something else refers to stay.
    public func deleteArtifacts(at path: String) async throws {
        let path = try Self.checkedArtifactPath(path)
        try await metadata.write { transaction in
            _ = try transaction.execute(
                "DELETE FROM tracking_artifact WHERE path = ? OR (path >= ? AND path < ?)",
                [.text(path), .text("\(path)/"), .text("\(path)0")])
        }
    }

    private func artifactRoot(ofRun id: String) async throws -> String {
        guard let root = try await Self.artifactPath(ofURI: runInfo(id).artifactURI) else {
            throw PlatformError(.invalidInput, "run/\(id)", "its artifacts are not kept here")
        }
        return root
    }

    private func record(_ hash: ContentHash, byteCount: Int, at path: String) async throws {
        let now = MetadataValue(clock.now())
        let folders = path.split(separator: "/").dropLast().reduce(into: [String]()) { folders, part in
            folders.append((folders.last.map { $0 + "/" } ?? "") + part)
        }
        try await metadata.write { transaction in
            // One path is a file or a folder: a client that downloads both could not write them.
            if let file = try transaction.query(
                "SELECT path FROM tracking_artifact WHERE path", in: folders.map(MetadataValue.text), then: "LIMIT 1"
            ).first {
                throw PlatformError(
                    .invalidInput, "artifact/\(path)", "'\(file.text("path"))' is a file; it can hold no other")
            }
            if try !transaction.query(
                "SELECT 1 AS one FROM tracking_artifact WHERE path > ? AND path < ? LIMIT 1",
                [.text(path + "/"), .text(path + "0")]
            ).isEmpty {
                throw PlatformError(.invalidInput, "artifact/\(path)", "'\(path)' is a folder with files in it")
            }
            _ = try transaction.execute(
                """
                INSERT INTO tracking_artifact (path, hash, byte_count, updated_at) VALUES (?, ?, ?, ?)
                ON CONFLICT (path) DO UPDATE SET hash = excluded.hash, byte_count = excluded.byte_count,
                    updated_at = excluded.updated_at
                """, [.text(path), .text(hash.hex), .integer(Int64(byteCount)), now])
        }
    }

    @concurrent
    private static func hash(
        fileAt path: String, known: ContentHash? = nil
    ) async throws -> (hash: ContentHash, byteCount: Int) {
        if let known { return (known, try LargeFile.byteCount(path)) }
        return try LargeFile.hash(path)
    }
}
