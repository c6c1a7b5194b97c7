/// The SQL that an engine speaks; statements are generated for one of them.
public enum SQLDialect: String, Sendable, Codable, CaseIterable {
    /// DuckDB 1.5.
    case duckdb
    /// Spark SQL 4 with ANSI mode, session zone UTC.
    case spark
    /// Flink SQL 2, batch or streaming, session zone UTC.
    case flink
}
