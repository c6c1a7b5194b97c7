/// The type of a column or feature.
public enum ColumnType: String, Sendable, Codable, CaseIterable {
    /// UTF-8 text.
    case string
    /// 64-bit integer.
    case int64
    /// Double.
    case float64
    /// Truth value; aggregates read it as 0 and 1.
    case bool
    /// A moment.
    case timestamp
    /// A fixed number of single-precision numbers: an embedding.
    case vector
    /// Several values of one of the first five types; of features, not of a source's columns.
    case list

    /// Whether arithmetic aggregates can read it.
    public var isNumeric: Bool { self == .int64 || self == .float64 || self == .bool }
}
