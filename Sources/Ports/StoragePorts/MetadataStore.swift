public import PlatformCore

/// A value in a row of the metadata store.
public enum MetadataValue: Hashable, Sendable {
    /// SQL NULL.
    case null
    /// A 64-bit integer; truth values are 0 and 1.
    case integer(Int64)
    /// A double.
    case real(Double)
    /// Text.
    case text(String)
    /// Bytes.
    case blob([UInt8])

    /// The integer, if this is one.
    public var integerValue: Int64? { if case .integer(let value) = self { value } else { nil } }
    /// The number as a double, if this is one.
    public var doubleValue: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .real(let value): value
        default: nil
        }
    }
    /// The text, if this is one.
    public var textValue: String? { if case .text(let value) = self { value } else { nil } }
    /// The bytes, if this is a blob.
    public var blobValue: [UInt8]? { if case .blob(let value) = self { value } else { nil } }
}

extension MetadataValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByNilLiteral
{
    /// Text.
    public init(stringLiteral value: String) { self = .text(value) }
    /// An integer.
    public init(integerLiteral value: Int64) { self = .integer(value) }
    /// A double.
    public init(floatLiteral value: Double) { self = .real(value) }
    /// NULL.
    public init(nilLiteral: ()) { self = .null }
    /// Text, or NULL for `nil`.
    public init(_ value: String?) { self = value.map(MetadataValue.text) ?? .null }
    /// An integer, or NULL for `nil`.
    public init(_ value: Int64?) { self = value.map(MetadataValue.integer) ?? .null }
    /// A moment as its milliseconds, or NULL for `nil`.
    public init(_ value: EventTime?) { self = value.map { .integer($0.milliseconds) } ?? .null }
}

/// One row of a query's answer: values by column name.
public struct MetadataRow: Sendable, Hashable {
    private let columns: [String]
    private let values: [MetadataValue]

    /// Makes a row; both lists have the same length.
    public init(columns: [String], values: [MetadataValue]) {
        precondition(columns.count == values.count, "a row has a value for each column")
        self.columns = columns
        self.values = values
    }

    /// The value of a column; NULL if the query has no such column.
    public subscript(column: String) -> MetadataValue {
        columns.firstIndex(of: column).map { values[$0] } ?? .null
    }
    /// The value at a position.
    public subscript(index: Int) -> MetadataValue { values[index] }
    /// Text of a column, empty when NULL.
    public func text(_ column: String) -> String { self[column].textValue ?? "" }
    /// Integer of a column, 0 when NULL.
    public func integer(_ column: String) -> Int64 { self[column].integerValue ?? 0 }
}

/// What can be done inside one transaction.
///
/// Used only inside the closure that received it.
///
/// SQL is the subset that SQLite (3.40) and PostgreSQL share: `?` parameters in order, `INSERT … ON CONFLICT`,
/// `BIGINT`, `DOUBLE PRECISION`, `TEXT`, `BLOB` types, no `AUTOINCREMENT`, no `datetime()`.
public protocol MetadataTransaction {
    /// Rows of a query.
    /// - Throws: `StoreError` (`invalidInput` for SQL that does not compile, `unavailable`).
    func query(_ sql: String, _ arguments: [MetadataValue]) throws -> [MetadataRow]
    /// Runs one statement; gives the number of changed rows.
    /// - Throws: `StoreError` (`conflict` where a unique key is taken or a foreign key is missing, `full`, `unavailable`).
    @discardableResult
    func execute(_ sql: String, _ arguments: [MetadataValue]) throws -> Int
}

extension MetadataTransaction {
    /// Rows of a query without parameters.
    public func query(_ sql: String) throws -> [MetadataRow] { try query(sql, []) }
    /// Runs one statement without parameters.
    @discardableResult
    public func execute(_ sql: String) throws -> Int { try execute(sql, []) }
}

/// One step of a layer's schema.
///
/// Steps run once each, in order, inside one transaction; a shipped step never changes.
public struct MetadataMigration: Sendable {
    /// Unique name, `tracking-1`.
    public let name: String
    /// Statements to run.
    public let statements: [String]
    /// Makes a step.
    public init(name: String, statements: [String]) {
        self.name = name
        self.statements = statements
    }
}

/// The platform's relational memory: definitions, runs, versions, deployments, audit.
///
/// Transactions are serializable: a write sees everything written before and nothing half done. When `write` returns,
/// the change is durable (it survives `kill -9` and loss of power); when it throws, nothing was changed.
public protocol MetadataStore: Sendable {
    /// Runs the steps that have not run yet.
    func migrate(_ steps: [MetadataMigration]) async throws
    /// Runs `body` on one consistent state; may run beside writers. `body` must not write.
    func read<Value: Sendable>(_ body: @escaping @Sendable (any MetadataTransaction) throws -> Value) async throws
        -> Value
    /// Runs `body` in one transaction: all of it or, when it throws, nothing.
    func write<Value: Sendable>(_ body: @escaping @Sendable (any MetadataTransaction) throws -> Value) async throws
        -> Value
}
