import PlatformCore

/// A piece of SQL, and whether it may stand several times in a text: a name or a constant.
struct SQLValue {
    let text: String
    let isSimple: Bool

    init(_ text: String, isSimple: Bool = false) {
        self.text = text
        self.isSimple = isSimple
    }
}

/// Double arithmetic as the text of one SQL dialect.
final class SQLReals: RealAlgebra {
    /// Flink has no local names in an expression, so that text can double at every level; more than this is refused.
    static let byteCountMax = 256 << 10

    let dialect: SQLDialect
    private var names = 0
    /// Whether a text became longer than `byteCountMax`; what is returned then is of no use.
    private(set) var isTooLong = false

    init(_ dialect: SQLDialect) { self.dialect = dialect }

    func made(_ text: String) -> SQLValue {
        if text.utf8.count > Self.byteCountMax { isTooLong = true }
        return SQLValue(isTooLong ? "" : text)
    }

    // MARK: Constants

    func constant(_ value: Double) -> SQLValue { SQLValue("CAST('\(value)' AS DOUBLE)", isSimple: true) }

    static func integer(_ value: Int64) -> String {
        value.magnitude < 1 << 31 ? "CAST(\(value) AS BIGINT)" : "CAST('\(value)' AS BIGINT)"
    }

    var textType: String { dialect == .duckdb ? "VARCHAR" : "STRING" }

    func literal(_ text: String) -> String {
        switch dialect {
        case .duckdb, .flink: "'\(text.replacing("'", with: "''"))'"
        case .spark: "'\(text.replacing("\\", with: "\\\\").replacing("'", with: "\\'"))'"
        }
    }

    // MARK: Arithmetic

    func add(_ left: SQLValue, _ right: SQLValue) -> SQLValue { made("(\(left.text) + \(right.text))") }
    func subtract(_ left: SQLValue, _ right: SQLValue) -> SQLValue { made("(\(left.text) - \(right.text))") }
    func multiply(_ left: SQLValue, _ right: SQLValue) -> SQLValue { made("(\(left.text) * \(right.text))") }
    func divide(_ left: SQLValue, _ right: SQLValue) -> SQLValue { made("(\(left.text) / \(right.text))") }
    func absolute(_ value: SQLValue) -> SQLValue { made("ABS(\(value.text))") }
    func floor(_ value: SQLValue) -> SQLValue {
        // Spark's is a BIGINT.
        made(dialect == .spark ? "CAST(FLOOR(\(value.text)) AS DOUBLE)" : "FLOOR(\(value.text))")
    }
    func squareRoot(_ value: SQLValue) -> SQLValue { made("SQRT(\(value.text))") }
    func less(_ left: SQLValue, _ right: SQLValue, _ yes: SQLValue, _ no: SQLValue) -> SQLValue {
        made("CASE WHEN \(left.text) < \(right.text) THEN \(yes.text) ELSE \(no.text) END")
    }

    /// A local name for `value`: a function over a list of one, where the dialect has such; else the text itself.
    func bind(_ value: SQLValue, _ body: (SQLValue) -> SQLValue) -> SQLValue {
        if value.isSimple || dialect == .flink { return body(SQLValue("\(value.text)", isSimple: true)) }
        names += 1
        let name = "__v\(names)"
        let inner = body(SQLValue(name, isSimple: true)).text
        return switch dialect {
        case .duckdb: made("list_transform([\(value.text)], lambda \(name): \(inner))[1]")
        default: made("element_at(transform(array(\(value.text)), \(name) -> \(inner)), 1)")
        }
    }

    /// `value` with its negative zero made a positive one.
    func positiveZero(_ value: SQLValue) -> SQLValue {
        guard dialect == .flink else { return add(value, constant(0)) }
        // Its planner takes the sum with zero away.
        if value.text.utf8.count < 200 {
            return made("CASE WHEN \(value.text) = \(constant(0).text) THEN ABS(\(value.text)) ELSE \(value.text) END")
        }
        return made("CAST(REGEXP_REPLACE(CAST(\(value.text) AS STRING), '^-0[.]0$', '0.0') AS DOUBLE)")
    }

    /// `value` where it is finite, else null.
    func finite(_ value: SQLValue) -> SQLValue {
        let top = Double.greatestFiniteMagnitude
        let range = "BETWEEN \(constant(-top).text) AND \(constant(top).text)"
        switch dialect {
        case .duckdb: return bind(value) { made("CASE WHEN isfinite(\($0.text)) THEN \($0.text) END") }
        case .spark: return bind(value) { made("CASE WHEN \($0.text) \(range) THEN \($0.text) END") }
        case .flink:
            if value.text.utf8.count < 200 { return made("CASE WHEN \(value.text) \(range) THEN \(value.text) END") }
            // Java's shortest text comes back as the same double; of "Infinity" and "NaN" nothing matches.
            return made(
                "TRY_CAST(REGEXP_EXTRACT(CAST(\(value.text) AS STRING), '^[-+.0-9E]+$', 0) AS DOUBLE)")
        }
    }
}
