/// One cell of a table or feature: the scalar column types, lists of them, and null.
public enum CellValue: Hashable, Sendable {
    /// No value.
    case null
    /// `int64`, and `timestamp` as milliseconds since the epoch.
    case integer(Int64)
    /// `float64`; always finite.
    case double(Double)
    /// `bool`
    case bool(Bool)
    /// `string`
    case text(String)
    /// Several values: the last few of a column, an embedding.
    case list([CellValue])

    /// Whether there is no value.
    public var isNull: Bool { self == .null }

    /// The number that arithmetic aggregates and models read; `nil` for null, text and lists.
    public var number: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .double(let value): value
        case .bool(let value): value ? 1 : 0
        case .null, .text, .list: nil
        }
    }

    /// The value as part of an entity key: text as it is, numbers in decimal; `nil` for null and lists.
    public var keyText: String? {
        switch self {
        case .null, .list: nil
        case .integer(let value): String(value)
        case .double(let value): value.description
        case .bool(let value): value ? "true" : "false"
        case .text(let value): value
        }
    }

    /// The value as JSON.
    public var json: JSONValue {
        switch self {
        case .null: .null
        case .integer(let value): .integer(value)
        case .double(let value): .number(value)
        case .bool(let value): .bool(value)
        case .text(let value): .string(value)
        case .list(let values): .array(values.map(\.json))
        }
    }
}
