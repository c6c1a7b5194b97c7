import Foundation
import PlatformCore
import StoragePorts

/// What a data directory must not look like: a start on it would lose something silently.
enum DirectoryCheck {
    /// Refuses a directory whose log has records while its database is missing or empty.
    ///
    /// A new database would know neither definitions nor versions, and the log would be read as somebody else's.
    /// - Throws: `refused`.
    static func refuseLostDatabase(in directory: String) throws(PlatformError) {
        let database = "\(directory)/metadata.sqlite"
        func byteCount(_ path: String) -> Int {
            let attributes = try? FileManager.default.attributesOfItem(atPath: path)
            return (attributes?[.size] as? NSNumber)?.intValue ?? 0
        }
        guard byteCount(database) == 0, byteCount("\(database)-wal") == 0 else { return }
        let files = FileManager.default.enumerator(atPath: "\(directory)/log")
        while let file = files?.nextObject() as? String {
            guard file.hasSuffix(".log"), byteCount("\(directory)/log/\(file)") > 0 else { continue }
            throw PlatformError(
                .refused, database,
                "it is missing or empty, but the log has records (log/\(file)); restore it from a backup, or start on another --data-dir"
            )
        }
    }

    /// Refuses a database that has tables of steps which this program does not know.
    ///
    /// A later version may keep in them what this one would leave out or contradict. Nothing is changed.
    /// - Throws: `refused`.
    static func refuseLaterTables(
        _ metadata: some MetadataStore, known: [MetadataMigration], place: String
    ) async throws {
        let names = Set(known.map(\.name))
        let found = try await metadata.read { transaction in
            let isThere = try transaction.query(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'metadata_migration'")
            guard !isThere.isEmpty else { return [String]() }
            return try transaction.query("SELECT name FROM metadata_migration ORDER BY name").map { $0.text("name") }
        }
        let unknown = found.filter { !names.contains($0) }
        guard let first = unknown.first else { return }
        let others = unknown.count > 1 ? " and \(unknown.count - 1) more" : ""
        throw PlatformError(
            .refused, place,
            "a later version of bottega has changed it ('\(first)'\(others)); start that version or restore an older copy"
        )
    }
}
