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

    /// Most numbers of a vector.
    public static let lengthMax = 4096
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
    }
    /// Its name, in reasons and metrics.
    public let name: String
    /// The column it checks.
    public let column: String
    /// The condition.
    public let check: Check
    /// What a breach means.
    public let severity: ExpectationSeverity
}

/// What to do when a file has columns that the schema does not name.
public enum SchemaChangePolicy: String, Sendable, Codable, CaseIterable {
    /// The load is refused, nothing is stored.
    case refuse
    /// Unknown columns are dropped, and the report names them.
    case ignore
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
    public let columns: [ColumnDefinition]
    /// Conditions on rows.
    public let expectations: [ExpectationDefinition]
    /// What unknown columns mean.
    public let schemaChange: SchemaChangePolicy
    /// How long a replaced version of its table stays readable; `nil` for what the settings say.
    public let versionRetention: TimeSpan?
    /// For people.
    public let description: String
    /// Team that owns it.
    public let owner: String

    /// The column called `name`.
    public func column(_ name: String) -> ColumnDefinition? { columns.first { $0.name == name } }
}
