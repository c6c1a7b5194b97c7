public import PlatformCore
import Synchronization

/// What a query may use.
public struct QueryLimits: Sendable {
    /// Memory in bytes; beyond it the engine spills to disk, and fails where it cannot.
    public var memoryByteCountMax: Int
    /// Time until the query is stopped.
    public var deadline: Duration
    /// Makes limits.
    public init(memoryByteCountMax: Int = 2 << 30, deadline: Duration = .seconds(600)) {
        self.memoryByteCountMax = memoryByteCountMax
        self.deadline = deadline
    }
}

/// Runs SQL of its dialect over Parquet, CSV and JSON-lines files, apart from the platform's process.
///
/// Every call is a session of its own: nothing stays behind but the files that the SQL wrote. The session's time zone is
/// UTC. Quote outside text with `SQLText`.
public protocol OfflineEngine: Sendable {
    /// The SQL that it takes.
    var dialect: SQLDialect { get }
    /// Runs statements.
    /// - Throws: `invalidInput` with the engine's own words for SQL or data that it refuses, `limitExceeded` for memory
    ///   or deadline, `full` when the disk is, `unavailable` if the engine cannot run or died, saying how.
    func execute(_ sql: String, limits: QueryLimits) async throws(StoreError)
    /// Runs `setup`, then the query, and calls `body` with each row as a JSON object in the query's order. 64-bit integers
    /// are exact; a timestamp must be cast by the query (`epoch_ms`).
    func query(
        _ sql: String, setup: String, limits: QueryLimits, _ body: @escaping @Sendable (JSONValue) throws -> Void)
        async throws
    /// The engine's name and version, for a reproducibility record.
    func version() async throws(StoreError) -> String
}

extension OfflineEngine {
    /// DuckDB's, unless the engine says otherwise.
    public var dialect: SQLDialect { .duckdb }
    /// Runs statements under the default limits.
    public func execute(_ sql: String) async throws(StoreError) { try await execute(sql, limits: QueryLimits()) }
    /// All rows of a query, for answers that are known to be small.
    public func rows(_ sql: String, setup: String = "", limits: QueryLimits = QueryLimits()) async throws -> [JSONValue]
    {
        let collected = RowCollector()
        try await query(sql, setup: setup, limits: limits) { collected.add($0) }
        return collected.rows
    }
}

private final class RowCollector: Sendable {
    private let storage = Mutex<[JSONValue]>([])
    var rows: [JSONValue] { storage.withLock { $0 } }
    func add(_ row: JSONValue) { storage.withLock { $0.append(row) } }
}

/// Quotes outside text for SQL.
public enum SQLText {
    /// A string literal: quotes doubled.
    ///
    /// A NUL, which no engine takes, is dropped.
    public static func literal(_ text: String) -> String {
        "'" + text.replacing("\0", with: "").replacing("'", with: "''") + "'"
    }
    /// A quoted identifier.
    public static func identifier(_ text: String) -> String {
        "\"" + text.replacing("\0", with: "").replacing("\"", with: "\"\"") + "\""
    }
}
