import PlatformCore

/// The types that expressions compute with.
enum ValueType: UInt8, Hashable, Sendable {
    case integer
    case real
    case bool
    case text
    case time
    /// Of the word `null` where nothing else says what it is.
    case unknown

    init?(_ type: ColumnType) {
        switch type.rawValue {
        case "int64": self = .integer
        case "float64": self = .real
        case "bool": self = .bool
        case "string": self = .text
        case "timestamp": self = .time
        default: return nil
        }
    }

    var columnType: ColumnType {
        switch self {
        case .integer: .int64
        case .real: .float64
        case .bool: .bool
        case .text, .unknown: .string
        case .time: .timestamp
        }
    }

    var name: String { self == .unknown ? "null" : columnType.rawValue }
    /// Whether cells are kept as 64-bit integers.
    var isInteger: Bool { self == .integer || self == .time }
}

/// What a node does; raw values are part of the canonical text and so of versions: never rename one.
enum Operation: String, Hashable, Sendable {
    case literal
    case column
    // Numbers
    case realFromInteger = "float64"
    case addInteger = "add_int64"
    case subtractInteger = "subtract_int64"
    case multiplyInteger = "multiply_int64"
    case quotient
    case remainder
    case addReal = "add"
    case subtractReal = "subtract"
    case multiplyReal = "multiply"
    case divideReal = "divide"
    case absolute = "abs"
    case sign
    case floor
    case ceiling = "ceil"
    case round
    case squareRoot = "sqrt"
    case logarithm = "ln"
    case logarithm10 = "log10"
    case exponential = "exp"
    case integerPower = "pow_int64"
    case power = "pow"
    case least
    case greatest
    case bucketize
    case hash
    case haversine = "haversine_km"
    // Truth
    case equal
    case less
    case lessEqual = "less_equal"
    case and
    case or
    case not
    case isNull = "is_null"
    case isIn = "in"
    case between
    // Any type
    case coalesce
    case nullIf = "nullif"
    case choose = "if"
    // Conversions
    case integerFromReal = "int64_of_float64"
    case integerFromText = "int64_of_string"
    case realFromText = "float64_of_string"
    case integerFromBool = "int64_of_bool"
    case boolFromInteger = "bool_of_int64"
    case textFromInteger = "string_of_int64"
    case textFromBool = "string_of_bool"
    case integerFromTime = "epoch_ms"
    case timeFromInteger = "timestamp_of_int64"
    // Text
    case lower
    case upper
    case trim
    case length
    case substring
    case concat
    case replace
    case startsWith = "starts_with"
    case endsWith = "ends_with"
    case contains
    case splitPart = "split_part"
    // Time
    case year
    case month
    case day
    case dayOfYear = "day_of_year"
    case week
    case dayOfWeek = "day_of_week"
    case hour
    case minute
    case second
    case truncate = "date_trunc"
}

/// One step: an operation over other nodes.
struct Node: Hashable, Sendable {
    let operation: Operation
    let type: ValueType
    /// Its operands are `operands[first ..< first + count]`.
    let first: Int32
    let count: Int32
    /// Its constants, `constants[constant...]`; a column's position.
    let constant: Int32
    let constantCount: Int32
}
