public import PlatformCore

/// One accepted row of a source: it satisfied the contract and is in the log.
public struct SourceRow: Sendable, Hashable {
    /// When it happened.
    public let eventTime: EventTime
    /// When we could have known.
    public let ingestTime: EventTime
    /// Cells in the order of the source's columns.
    public let cells: [CellValue]
    /// Makes a row.
    public init(eventTime: EventTime, ingestTime: EventTime, cells: [CellValue]) {
        self.eventTime = eventTime
        self.ingestTime = ingestTime
        self.cells = cells
    }
}

/// Accepted rows of one source that stand together in the log; row `i` has offset `firstOffset + i`.
public struct SourceBatch: Sendable {
    /// The source.
    public let source: Name
    /// Log offset of the first row in topic `source.<name>`, partition 0: the sequence that breaks ties.
    public let firstOffset: UInt64
    /// The rows.
    public let rows: [SourceRow]
    /// When the log took each row: the times of its records, which rise.
    ///
    /// Where there are none, rows count as taken at their ingest times.
    public let arrivals: [EventTime]
    /// Makes a batch.
    public init(source: Name, firstOffset: UInt64, rows: [SourceRow], arrivals: [EventTime] = []) {
        self.source = source
        self.firstOffset = firstOffset
        self.rows = rows
        self.arrivals = arrivals
    }
}

/// Told of accepted rows after they are durable and before the sender hears so: whoever reads its own acknowledged event
/// finds it.
public protocol SourceListener: Sendable {
    /// Takes rows in log order.
    func received(_ batch: SourceBatch) async
}

/// A table as the offline engine reads it at one version.
///
/// Columns: those of the source with their own names (`timestamp` as TIMESTAMPTZ), and `__event_time`, `__ingest_time`
/// (BIGINT milliseconds) and `__sequence` (BIGINT, the log offset).
public struct TableScan: Sendable, Hashable {
    /// The table's name.
    public let table: Name
    /// Delta version; -1 for a table without any commit.
    public let version: Int64
    /// A SQL table expression for DuckDB, to be used after FROM.
    public let sql: String
    /// The same for Spark.
    public let sparkSQL: String
    /// Rows in it.
    public let rowCount: Int
    /// The local Parquet files that hold its rows and nothing else, columns by the names above; a column that a file lacks is
    /// null.
    ///
    /// `nil` where only `sql` can say what the rows are.
    public let files: [String]?
    /// Rows that happened before it have left the table by its source's retention; `nil` where none have.
    public let retainedFrom: EventTime?
    /// Makes a scan.
    public init(
        table: Name, version: Int64, sql: String, sparkSQL: String? = nil, rowCount: Int, files: [String]? = nil,
        retainedFrom: EventTime? = nil
    ) {
        self.retainedFrom = retainedFrom
        self.files = files
        self.table = table
        self.version = version
        self.sql = sql
        self.sparkSQL = sparkSQL ?? sql
        self.rowCount = rowCount
    }

    /// The table expression for an engine's language.
    public func sql(_ dialect: SQLDialect) -> String { dialect == .duckdb ? sql : sparkSQL }
}
