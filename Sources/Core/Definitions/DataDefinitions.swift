public import Expressions
public import PlatformCore

/// What features are about: a plane, a pair of carrier and airport.
public struct EntityDefinition: Sendable, Hashable {
    /// Its name.
    public let name: Name
    /// Columns that together are its join key, in order.
    public let keys: [String]
    /// For people.
    public let description: String
    /// Team that owns it.
    public let owner: String
}

/// One column of a source.
public struct ColumnDefinition: Sendable, Hashable {
    /// Its name.
    public let name: String
    /// Its type.
    public let type: ColumnType
    /// Whether a row may lack it.
    public let nullable: Bool
    /// Unit of measure, for people: `minutes`.
    public let unit: String?
    /// Decimal digits kept when values are summed exactly: the value is read as a multiple of 10^-scale.
    ///
    /// Default 6.
    public let scale: Int
    /// Numbers of a `vector`; 0 for any other type.
    public let length: Int
    /// Whether its values must not be shown in samples and statistics: names, addresses.
    public let isSensitive: Bool
    /// Whether times that come without a zone are in UTC; otherwise they are refused.
    public internal(set) var assumesUTC = false

    /// Most numbers of a vector.
    public static let lengthMax = 4096

    /// A nullable column without a unit, as one that is added later is.
    public init(addedColumn name: String, type: ColumnType) {
        self.init(name: name, type: type, nullable: true, unit: nil, scale: 6, length: 0, isSensitive: false)
    }

    init(name: String, type: ColumnType, nullable: Bool, unit: String?, scale: Int, length: Int, isSensitive: Bool) {
        self.name = name
        self.type = type
        self.nullable = nullable
        self.unit = unit
        self.scale = scale
        self.length = length
        self.isSensitive = isSensitive
    }

    /// Whether text may be the name of a column.
    public static func isName(_ text: String) -> Bool {
        guard let first = text.utf8.first, text.utf8.count <= 63, !(48...57 ~= first), !text.hasPrefix("__") else {
            return false
        }
        return text.utf8.allSatisfy { 48...57 ~= $0 || 65...90 ~= $0 || 97...122 ~= $0 || $0 == 95 }
    }
}

/// What happens to a row that breaks an expectation.
public enum ExpectationSeverity: String, Sendable, Codable, CaseIterable {
    /// The row is kept and counted.
    case warn
    /// The row goes to quarantine with the reason.
    case reject
}

/// What every row of a source must satisfy.
public struct ExpectationDefinition: Sendable, Hashable {
    /// The condition on one column.
    ///
    /// A null satisfies every check; nullability is the schema's business.
    public enum Check: Sendable, Hashable {
        /// Number within closed bounds; either may be open.
        case range(minimum: Double?, maximum: Double?)
        /// Text or number (as text) among these.
        case among([String])
        /// Text that the regular expression matches in whole.
        case matches(String)
        /// The column's value is at least another column's (numbers, or times).
        case notBefore(otherColumn: String)
        /// There is a value: what the schema's `nullable: false` says, but with a severity.
        case notNull
        /// No other accepted row has the same values in these columns; a row with a null among them satisfies it.
        case unique(columns: [String])
    }
    /// Its name, in reasons and metrics.
    public let name: String
    /// The column it checks; the first one of `unique`.
    public let column: String
    /// The condition.
    public let check: Check
    /// What a breach means.
    public let severity: ExpectationSeverity
}

/// What to do when rows come in another shape than the schema says.
public enum SchemaChangePolicy: String, Sendable, Codable, CaseIterable {
    /// The load is refused, nothing is stored; a pushed row goes to quarantine.
    case refuse
    /// Unknown columns are dropped, and the report names them.
    case ignore
    /// Unknown columns are kept from now on, as nullable columns of the table; the report says what to write.
    case add
    /// Unknown columns are dropped; an `int64` column that brings fractions is kept as `float64` from now on.
    case widen
}

/// What a whole load must satisfy: a file, a pull.
///
/// A push is no load.
public struct LoadCheckDefinition: Sendable, Hashable {
    /// A figure of a column over the load's accepted rows.
    public enum Statistic: Sendable, Hashable {
        /// Arithmetic mean.
        case mean
        /// Population standard deviation.
        case stddev
        /// Smallest value.
        case min
        /// Largest value.
        case max
        /// Rows without a value over all rows.
        case nullShare
        /// Different values over rows with a value.
        case distinctShare
        /// Linear interpolation between the two nearest values, as `quantile_cont` has it; 0 to 1.
        case quantile(Double)

        /// As definitions write it: `mean`, `p99`.
        public var text: String {
            switch self {
            case .mean: "mean"
            case .stddev: "stddev"
            case .min: "min"
            case .max: "max"
            case .nullShare: "null_share"
            case .distinctShare: "distinct_share"
            case .quantile(let share): "p\(Int((share * 100).rounded()))"
            }
        }
    }
    /// Closed bounds of a figure; either may be open.
    public struct Bound: Sendable, Hashable {
        /// The figure.
        public let statistic: Statistic
        /// The smallest accepted.
        public let minimum: Double?
        /// The largest accepted.
        public let maximum: Double?
    }
    /// The condition.
    public enum Check: Sendable, Hashable {
        /// The newest event is at most this old when the load begins.
        case freshness(TimeSpan)
        /// Rows over the mean of the last loads lie within bounds; satisfied while there is no earlier load.
        case rowCountChange(minimum: Double?, maximum: Double?, loads: Int)
        /// Figures of a column lie within bounds.
        case distribution(column: String, bounds: [Bound])
        /// A query over `batch` (the load's accepted rows): every row it gives is an offence, or, if it gives one boolean
        /// column, every row that is not true.
        case sql(String)
    }
    /// Its name, in reports.
    public let name: String
    /// The condition.
    public let check: Check
    /// `reject` refuses the load as a whole.
    public let severity: ExpectationSeverity
}

/// Where a source's rows are fetched.
public enum SourceOrigin: Sendable, Hashable {
    /// Files: one, those of a folder, or those that a pattern matches; absolute.
    case files(location: String, format: String?)
    /// A query against PostgreSQL.
    case postgreSQL(PostgreSQLOrigin)
}

/// A query against PostgreSQL, and how it goes on from where it was.
public struct PostgreSQLOrigin: Sendable, Hashable {
    /// Name of the environment variable that holds the connection string.
    public let connection: String
    /// The query; read only.
    public let query: String
    /// Column that rises as rows come or change; `nil` reads all of it each time.
    public let cursor: String?
    /// How far behind the largest cursor a pull begins, for rows that are committed late; of a `timestamp` cursor.
    public let overlap: TimeSpan
    /// Time that one statement may take.
    public let timeout: TimeSpan
}

/// Where raw rows come from and what they must look like.
public struct SourceDefinition: Sendable, Hashable {
    /// Its name; the topic is `source.<name>`, the table `<name>`.
    public let name: Name
    /// Column that says when it happened.
    public let eventTimeColumn: String
    /// Column that says when we could have known; `nil` means the moment it reaches us.
    public let ingestTimeColumn: String?
    /// Columns that identify a row: the same key and the same content again is a duplicate and changes nothing.
    public let key: [String]
    /// All columns, the two times included.
    public internal(set) var columns: [ColumnDefinition]
    /// Conditions on rows.
    public let expectations: [ExpectationDefinition]
    /// Conditions on whole loads.
    public let loadChecks: [LoadCheckDefinition]
    /// What another shape means.
    public let schemaChange: SchemaChangePolicy
    /// Where rows are fetched; `nil` for a source that is only sent to.
    public let origin: SourceOrigin?
    /// How often rows are fetched without being asked for; `nil` for never.
    public let every: TimeSpan?
    /// Condition on the rows that are kept; a row of which it is not true is left out and counted.
    public let filter: Expression?
    /// Share of the rows that is kept, by hash of the key; 1 for all.
    public let sample: Double
    /// How long a replaced version of its table stays readable; `nil` for what the settings say.
    public let versionRetention: TimeSpan?
    /// How long after it happened a row stays in its table; `nil` for ever.
    public internal(set) var retention: TimeSpan?
    /// For people.
    public let description: String
    /// Team that owns it.
    public let owner: String

    /// The column called `name`.
    public func column(_ name: String) -> ColumnDefinition? { columns.first { $0.name == name } }

    /// The same source with columns that were added after it was written, and with others widened to `float64`.
    ///
    /// A column that the definition itself names is never added twice.
    public func changed(adding added: [ColumnDefinition], widening widened: Set<String>) -> SourceDefinition {
        let known = Set(columns.map(\.name))
        let kept = columns.map { column in
            guard column.type == .int64, widened.contains(column.name) else { return column }
            return ColumnDefinition(
                name: column.name, type: .float64, nullable: column.nullable, unit: column.unit, scale: column.scale,
                length: 0, isSensitive: column.isSensitive)
        }
        var changed = SourceDefinition(
            name: name, eventTimeColumn: eventTimeColumn, ingestTimeColumn: ingestTimeColumn, key: key,
            columns: kept + added.filter { !known.contains($0.name) }, expectations: expectations,
            loadChecks: loadChecks, schemaChange: schemaChange, origin: origin, every: every, filter: filter,
            sample: sample,
            versionRetention: versionRetention, description: description, owner: owner)
        changed.retention = retention
        return changed
    }
}
