import GRDB
public import StoragePorts

/// Reads an SQLite file that belongs to somebody else; it is never written.
public final class SQLiteFileReader: Sendable {
    private let queue: DatabaseQueue

    /// Opens the file at `path`, which exists.
    /// - Throws: `corrupted` for a file that is no database, `locked`, `unavailable`.
    public init(path: String) throws(StoreError) {
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(5)
        do { queue = try DatabaseQueue(path: path, configuration: configuration) } catch {
            throw StoreError(sqlite: error, subject: path)
        }
    }

    /// The rows of a query.
    /// - Throws: `invalidInput` for a statement that does not fit the file's tables, or that would write.
    public func query(_ sql: String, _ arguments: [MetadataValue]) async throws -> [MetadataRow] {
        do {
            return try await queue.read { try SQLiteTransaction(database: $0).query(sql, arguments) }
        } catch let error as DatabaseError { throw StoreError(sqlite: error, subject: "database") }
    }
}
