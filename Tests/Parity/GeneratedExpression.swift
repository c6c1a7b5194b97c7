import Expressions
import PlatformCore

/// Random well-typed expressions and random rows, the same for equal seeds: what every engine is compared on.
struct GeneratedExpressions {
    /// What the expressions read.
    static let columns = [
        ExpressionColumn(name: "i", type: .int64), ExpressionColumn(name: "j", type: .int64),
        ExpressionColumn(name: "x", type: .float64), ExpressionColumn(name: "y", type: .float64),
        ExpressionColumn(name: "s", type: .string), ExpressionColumn(name: "u", type: .string),
        ExpressionColumn(name: "b", type: .bool), ExpressionColumn(name: "t", type: .timestamp),
        ExpressionColumn(name: "v", type: .timestamp),
    ]

    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1 }

    /// SplitMix64.
    private mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    private mutating func pick<Element>(_ elements: [Element]) -> Element { elements[below(elements.count)] }

    // MARK: Rows

    /// A row in the order of `columns`: nulls, extremes, and text with marks, blanks and code points of every length.
    mutating func row() -> [CellValue] {
        [integer(), integer(), real(), real(), text(), text(), truth(), time(), time()]
    }

    private mutating func integer() -> CellValue {
        switch below(8) {
        case 0: .null
        case 1: .integer(pick([.max, .min, .max - 1, .min + 1, 0, -1, 1]))
        case 2: .integer(Int64(bitPattern: next()))
        default: .integer(Int64(below(41)) - 20)
        }
    }

    private mutating func real() -> CellValue {
        switch below(10) {
        case 0: .null
        case 1:
            .double(
                pick([
                    1e308, -1e308, 5e-300, .leastNonzeroMagnitude, 0, 0.5, -0.5, 2.5, 1e15, 9.2e18, 0.49999999999999994,
                    90,
                ]))
        case 2: .double(Double(Int64(bitPattern: next())) * 1e-3)
        case 3: .double(Double(below(2001) - 1000) / 8)
        default: .double((Double(next() >> 11) * 0x1p-53 - 0.5) * 200)
        }
    }

    private mutating func text() -> CellValue {
        let texts = [
            "", " ", "abc", "aBc Def", "  padded ", "a,b,c", ",", "é", "e\u{301}", "ß", "ﬁn", "日本語", "\u{1F600}x", "12",
            "-7",
            "+3.5e2", ".5", "1e999", "1e-400", "9223372036854775808", "12\n", "12 ", "0x1F", "nan", "inf", "it's",
            "\"q\"",
            "back\\slash", "İI", "aaaa", "\u{a0}nb",
        ]
        if below(8) == 0 { return .null }
        return .text(below(3) == 0 ? pick(texts) + pick(texts) : pick(texts))
    }

    private mutating func truth() -> CellValue { pick([.null, .bool(true), .bool(false)]) }

    private mutating func time() -> CellValue {
        let (first, last) = (EventTime.earliestAccepted.milliseconds, EventTime.latestAccepted.milliseconds)
        return switch below(8) {
        case 0: .null
        case 1: .integer(pick([first, last - 1, 0, -1, 951_782_400_000, 1_388_448_000_000]))
        default: .integer(first + Int64(next() % UInt64(last - first)))
        }
    }

    // MARK: Expressions

    /// An expression of any type.
    mutating func expression() -> String {
        expression(of: pick([.int64, .float64, .float64, .bool, .string, .timestamp]), depth: 1 + below(5))
    }

    /// An expression of the type, at most `depth` operations deep.
    mutating func expression(of type: ColumnType, depth: Int) -> String {
        if depth > 0, below(8) == 0 { return common(type, depth - 1) }
        return switch type.rawValue {
        case "int64": integerExpression(depth)
        case "float64": realExpression(depth)
        case "bool": truthExpression(depth)
        case "string": textExpression(depth)
        default: timeExpression(depth)
        }
    }

    private mutating func common(_ type: ColumnType, _ depth: Int) -> String {
        func same() -> String { expression(of: type, depth: depth) }
        return switch below(type == .bool ? 4 : 6) {
        case 0: "coalesce(\(same()), \(same()))"
        case 1: "nullif(\(same()), \(same()))"
        case 2: "if(\(expression(of: .bool, depth: depth)), \(same()), \(same()))"
        case 3: "case when \(expression(of: .bool, depth: depth)) then \(same()) end"
        case 4: "least(\(same()), \(same()))"
        default: "greatest(\(same()), \(same()), \(same()))"
        }
    }

    private mutating func integerExpression(_ depth: Int) -> String {
        guard depth > 0 else { return pick(["i", "j", "7", "-3", "0", "9223372036854775807"]) }
        func of(_ type: ColumnType) -> String { expression(of: type, depth: depth - 1) }
        return switch below(19) {
        case 0...4: "(\(of(.int64)) \(pick(["+", "-", "*", "//", "%"])) \(of(.int64)))"
        case 5: "abs(\(of(.int64)))"
        case 6: "-(\(of(.int64)))"
        case 7: "sign(\(of(pick([.int64, .float64]))))"
        case 8: "length(\(of(.string)))"
        case 9...10:
            "\(pick(["year", "month", "day", "hour", "minute", "second", "day_of_week", "day_of_year", "week", "epoch_ms"]))(\(of(.timestamp)))"
        case 11: "hash(\(of(pick([.string, .int64, .bool, .timestamp]))), \(pick([2, 100, 1_048_576, 2_147_483_648])))"
        case 12: "bucketize(\(of(.float64)), [-10, 0, 0.5, 90])"
        case 13: "cast(\(of(.string)) as int64)"
        case 14: "cast(\(of(.float64)) as int64)"
        case 15: "cast(\(of(.bool)) as int64)"
        case 16: "(\(of(.timestamp)) - \(of(.timestamp)))"
        default: "clip(\(of(.int64)), -5, 1000)"
        }
    }

    private mutating func realExpression(_ depth: Int) -> String {
        guard depth > 0 else { return pick(["x", "y", "2.5", "-0.125", "1e300", "0.0"]) }
        func of(_ type: ColumnType) -> String { expression(of: type, depth: depth - 1) }
        return switch below(20) {
        case 0...4: "(\(of(.float64)) \(pick(["+", "-", "*", "/"])) \(of(.float64)))"
        case 5: "(\(of(.int64)) / \(of(.int64)))"
        case 6: "round(\(of(.float64)), \(below(10)))"
        case 7: "\(pick(["floor", "ceil", "abs", "sqrt"]))(\(of(.float64)))"
        case 8: "ln(\(of(.float64)))"
        case 9: "\(pick(["exp", "log10"]))(\(of(.float64)))"
        case 10: "pow(\(of(.float64)), \(pick(["2", "3", "-1", "-2", "0", "1", "12"])))"
        case 11: "pow(\(of(.float64)), \(of(.float64)))"
        case 12:
            "haversine_km(\(of(.float64)), \(of(.float64)), \(pick(["x", "y", "40.6"])), \(pick(["x", "y", "-73.8"])))"
        case 13: "cast(\(of(.string)) as float64)"
        case 14: "cast(\(of(.int64)) as float64)"
        case 15: "\(pick(["seconds", "minutes", "hours", "days"]))_between(\(of(.timestamp)), \(of(.timestamp)))"
        case 16: "-(\(of(.float64)))"
        case 17: "(\(of(.int64)) * \(of(.float64)))"
        default: "clip(\(of(.float64)), -1.5, 50)"
        }
    }

    private mutating func truthExpression(_ depth: Int) -> String {
        guard depth > 0 else { return pick(["b", "b", "true", "false"]) }
        func of(_ type: ColumnType) -> String { expression(of: type, depth: depth - 1) }
        let type: ColumnType = pick([.int64, .float64, .string, .timestamp])
        return switch below(13) {
        case 0...3: "(\(of(type)) \(pick(["=", "!=", "<", "<=", ">", ">="])) \(of(type)))"
        case 4: "(\(of(.bool)) and \(of(.bool)))"
        case 5: "(\(of(.bool)) or \(of(.bool)))"
        case 6: "(not \(of(.bool)))"
        case 7: "(\(of(type)) is \(pick(["", "not "]))null)"
        case 8: "(\(of(type)) \(pick(["", "not "]))between \(of(type)) and \(of(type)))"
        case 9: "(\(of(.int64)) \(pick(["", "not "]))in (0, 7, -3, 12))"
        case 10: "(\(of(.string)) in ('abc', 'é', '', 'it''s'))"
        case 11: "(\(of(.float64)) in (0, 0.5, 90, 2.5))"
        default:
            "\(pick(["starts_with", "ends_with", "contains"]))(\(of(.string)), \(pick(["'a'", "'é'", "'it''s'", "' '", "'\\\\'"])))"
        }
    }

    private mutating func textExpression(_ depth: Int) -> String {
        guard depth > 0 else { return pick(["s", "u", "'lit é'", "''", "'it''s \\\\ a'"]) }
        func of(_ type: ColumnType) -> String { expression(of: type, depth: depth - 1) }
        return switch below(8) {
        case 0: "\(pick(["lower", "upper", "trim"]))(\(of(.string)))"
        case 1: "substring(\(of(.string)), \(1 + below(5)))"
        case 2: "substring(\(of(.string)), \(1 + below(4)), \(below(4)))"
        case 3: "(\(of(.string)) || \(of(.string)))"
        case 4: "replace(\(of(.string)), \(pick(["'a'", "'aa'", "'é'", "'''' "])), \(pick(["''", "'xyz'", "'\\\\'"])))"
        case 5: "split_part(\(of(.string)), \(pick(["','", "'a'", "'aa'"])), \(1 + below(4)))"
        case 6: "cast(\(of(.int64)) as string)"
        default: "cast(\(of(.bool)) as string)"
        }
    }

    private mutating func timeExpression(_ depth: Int) -> String {
        guard depth > 0 else { return pick(["t", "v", "timestamp('2013-07-01')"]) }
        func of(_ type: ColumnType) -> String { expression(of: type, depth: depth - 1) }
        return switch below(5) {
        case 0: "(\(of(.timestamp)) \(pick(["+", "-"])) \(pick(["7d", "90s", "i", "50w"])))"
        case 1: "cast(\(of(.int64)) as timestamp)"
        default:
            "date_trunc('\(pick(["second", "minute", "hour", "day", "week", "month", "year"]))', \(of(.timestamp)))"
        }
    }

    // MARK: SQL

    /// A row's cells as SQL of one dialect, of the types that `Expression.sql` expects; joined by commas.
    static func sql(_ row: [CellValue], _ dialect: SQLDialect) -> String {
        let text = dialect == .duckdb ? "VARCHAR" : "STRING"
        let types = ["BIGINT", "BIGINT", "DOUBLE", "DOUBLE", text, text, "BOOLEAN", "BIGINT", "BIGINT"]
        return zip(row, types).map { cell, type in
            switch cell {
            case .integer(let value): "CAST('\(value)' AS \(type))"
            case .double(let value): "CAST('\(value)' AS \(type))"
            case .bool(let value): value ? "TRUE" : "FALSE"
            case .text(let value):
                dialect == .spark
                    ? "'\(value.replacing("\\", with: "\\\\").replacing("'", with: "\\'"))'"
                    : "'\(value.replacing("'", with: "''"))'"
            case .null, .list: "CAST(NULL AS \(type))"
            }
        }.joined(separator: ", ")
    }

    /// The JSON of an engine's answer as the cell that the evaluator gives.
    static func cell(_ json: JSONValue?, _ type: ColumnType) -> CellValue {
        switch (json, type.rawValue) {
        case (.integer(let value), "float64"): .double(Double(value))
        case (.number(let value), "float64"): .double(value)
        case (.integer(let value), _): .integer(value)
        case (.bool(let value), _): .bool(value)
        case (.string(let value), _): .text(value)
        case (nil, _), (.null, _): .null
        default: .text("unexpected \(String(describing: json))")
        }
    }
}
