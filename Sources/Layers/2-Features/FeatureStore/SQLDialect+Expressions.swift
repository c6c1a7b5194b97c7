import Aggregation
import Definitions
import Expressions
public import PlatformCore
import StoragePorts

/// The words in which engines differ: one function for one thing, one line for one engine.
///
/// A new piece of the plan that engines spell differently gets a function here; statements never ask which engine it is
/// unless the shape differs.
extension SQLDialect {
    /// Engine's name for people.
    public var title: String {
        switch self {
        case .duckdb: "DuckDB"
        case .spark: "Spark"
        case .flink: "Flink"
        }
    }

    /// A quoted identifier.
    public func identifier(_ text: String) -> String {
        switch self {
        case .duckdb: SQLText.identifier(text)
        case .spark, .flink: "`" + text.replacing("\0", with: "").replacing("`", with: "``") + "`"
        }
    }

    /// A string literal.
    public func literal(_ text: String) -> String {
        switch self {
        case .duckdb, .flink: SQLText.literal(text)
        case .spark:
            "'" + text.replacing("\0", with: "").replacing("\\", with: "\\\\").replacing("'", with: "\\'") + "'"
        }
    }

    // MARK: Types

    /// The integer of at least 126 bits: sums and sums of squares fit (`docs/semantics.md`).
    var wide: String { self == .duckdb ? "HUGEINT" : "DECIMAL(38, 0)" }

    /// The type of text.
    var text: String { self == .duckdb ? "VARCHAR" : "STRING" }

    /// An integer of the wide type.
    func wide(_ value: some BinaryInteger) -> String {
        switch self {
        case .duckdb: "\(value)::HUGEINT"
        // In quotes: Flink takes no longer number than 64 bits as it stands.
        case .spark, .flink: "CAST('\(value)' AS DECIMAL(38, 0))"
        }
    }

    /// A double, written so that every bit survives.
    func real(_ value: Double) -> String {
        switch self {
        case .duckdb: "\(value)::DOUBLE"
        case .spark: "\(value)D"
        case .flink: "CAST('\(value)' AS DOUBLE)"
        }
    }

    /// Type in which a column's cells are computed with.
    func cellType(_ type: ColumnType) -> String {
        switch type {
        case .float64: "DOUBLE"
        case .string: text
        case .vector: vectorType
        default: "BIGINT"
        }
    }

    /// The type of a vector.
    var vectorType: String { self == .duckdb ? "FLOAT[]" : "ARRAY<FLOAT>" }

    // MARK: Cells

    /// A vector column; negative zeros become zero, as the kernel has it.
    func vector(_ name: String) -> String {
        switch self {
        case .duckdb: "list_transform(CAST(\(name) AS FLOAT[]), lambda v: v + 0::FLOAT)"
        case .spark: "transform(CAST(\(name) AS ARRAY<FLOAT>), v -> v + CAST(0 AS FLOAT))"
        case .flink: "CAST(\(name) AS ARRAY<FLOAT>)"
        }
    }

    /// Type of a column where a job declares its tables.
    func declaredType(_ type: ColumnType) -> String {
        switch type {
        case .float64: "DOUBLE"
        case .bool: "BOOLEAN"
        case .string: text
        case .vector: vectorType
        default: "BIGINT"
        }
    }

    /// A source's column as the number or text that is computed with.
    func cell(_ column: AggregationPlan.Column) -> String {
        let name = identifier(column.name)
        return switch column.type {
        case .float64: positiveZero("CAST(\(name) AS DOUBLE)")
        case .bool: "CAST(CAST(\(name) AS BOOLEAN) AS BIGINT)"
        case .timestamp: milliseconds(name)
        case .string: "CAST(\(name) AS \(text))"
        case .vector: vector(name)
        default: "CAST(\(name) AS BIGINT)"
        }
    }

    /// A double with its negative zero made a positive one, as the kernel does.
    private func positiveZero(_ value: String) -> String {
        // Flink's planner takes a sum with zero away.
        self == .flink
            ? "CASE WHEN \(value) = \(real(0)) THEN ABS(\(value)) ELSE \(value) END" : "\(value) + \(real(0))"
    }

    /// A cell as the whole multiple that is summed; what has none is the poison of `ExactArithmetic`.
    func scaled(_ value: String, of column: AggregationPlan.Column) -> String {
        let poison = wide(ExactArithmetic.poison)
        guard column.storage == .real else {
            return "CASE WHEN \(value) = \(wide(Int64.min)) THEN \(poison) ELSE CAST(\(value) AS \(wide)) END"
        }
        let product = "round(\(value) * \(real(column.power)))"
        return "CASE WHEN \(value) IS NULL THEN NULL WHEN abs(\(product)) < \(real(0x1p63)) "
            + "THEN CAST(CAST(\(product) AS BIGINT) AS \(wide)) ELSE \(poison) END"
    }

    /// Whether the square of a multiple can be summed.
    func hasSquare(_ value: String) -> String {
        "\(value) BETWEEN \(1 - ExactArithmetic.squareBound) AND \(ExactArithmetic.squareBound - 1)"
    }

    /// A column of type timestamp as milliseconds; Flink's jobs declare their moments as milliseconds.
    func milliseconds(_ value: String) -> String {
        switch self {
        case .duckdb: "epoch_ms(\(value))"
        case .spark: "unix_millis(\(value))"
        case .flink: value
        }
    }

    /// Whether a text is a key: neither empty nor long, no control character.
    func isKey(_ value: String) -> String {
        let bounds = "BETWEEN 1 AND \(EntityKey.valueByteCountMax)"
        let control = "[\\x00-\\x1F\\x7F]"
        return switch self {
        case .duckdb: "strlen(\(value)) \(bounds) AND NOT regexp_matches(\(value), \(literal(control)))"
        case .spark: "octet_length(\(value)) \(bounds) AND NOT regexp_like(\(value), \(literal(control)))"
        case .flink: "CHAR_LENGTH(HEX(\(value))) / 2 \(bounds) AND NOT REGEXP(\(value), \(literal(control)))"
        }
    }

    /// One value for the parts of a key.
    ///
    /// Keys hold no control character, so the joint is unique.
    func entity(_ keys: [String]) -> String {
        guard keys.count > 1 else { return keys.joined() }
        return "concat(\(keys.joined(separator: ", \(self == .spark ? "char(1)" : "U&'\\0001'"), ")))"
    }

    // MARK: Whole numbers

    /// The quotient of wide integers, cut towards zero; below 2^63.
    func quotient(_ left: String, _ right: String) -> String {
        switch self {
        case .duckdb: "\(left) // \(right)"
        case .spark: "\(left) div \(right)"
        // Division of decimals rounds in Flink: what is divided must be a multiple.
        case .flink: "CAST((\(left) - \(remainder(left, right))) / \(right) AS BIGINT)"
        }
    }

    /// The remainder, with the sign of `left`.
    func remainder(_ left: String, _ right: String) -> String {
        self == .flink ? "MOD(\(left), \(right))" : "\(left) % \(right)"
    }

    /// `value >> bits` for a value that is not negative.
    func shiftedRight(_ value: String, by bits: String) -> String {
        switch self {
        case .duckdb: "((\(value))::BIGINT >> \(bits))"
        case .spark: "shiftright(CAST(\(value) AS BIGINT), \(bits))"
        case .flink: "(CAST(\(value) AS BIGINT) / CAST(POWER(2, \(bits)) AS BIGINT))"
        }
    }

    /// `1 << bits`.
    func powerOfTwo(_ bits: String) -> String {
        switch self {
        case .duckdb: "1::BIGINT << \(bits)"
        case .spark: "shiftleft(CAST(1 AS BIGINT), \(bits))"
        case .flink: "CAST(POWER(2, \(bits)) AS BIGINT)"
        }
    }

    /// Whether a value that is not negative is odd.
    func isOdd(_ value: String) -> String { self == .flink ? "MOD(\(value), 2) = 1" : "\(value) & 1 = 1" }

    // MARK: Exact arithmetic

    /// Statements that every session needs once: the exact conversions of `ExactArithmetic`, where the engine has macros.
    public var preparation: [String] {
        guard self == .duckdb else { return [] }
        return [
            "CREATE OR REPLACE TEMP MACRO bottega_double(v) AS \(doubleBody("v"))",
            "CREATE OR REPLACE TEMP MACRO bottega_carry(s, n) AS \(carryBody("s", "n"))",
            "CREATE OR REPLACE TEMP MACRO bottega_rest(s, n) AS \(restBody("s", "n"))",
            "CREATE OR REPLACE TEMP MACRO bottega_distances(s, q, n) AS \(distancesBody("s", "q", "n"))",
            "CREATE OR REPLACE TEMP MACRO bottega_deviation(s, q, n, p) AS \(deviationBody("s", "q", "n", "p"))",
            "CREATE OR REPLACE TEMP MACRO bottega_ratio(a, b) AS \(ratioBody("a", "b"))",
        ]
    }

    /// A call of one of the macros, or its body where there are none.
    private func inlined(_ name: String, _ arguments: [String], _ body: () -> String) -> String {
        self == .duckdb ? "bottega_\(name)(\(arguments.joined(separator: ", ")))" : "(\(body()))"
    }

    /// A wide integer as a double: `ExactArithmetic.double`.
    func double(_ value: String) -> String { inlined("double", [value]) { doubleBody(value) } }

    /// Population standard deviation from sum, sum of squares, count and power: `ExactArithmetic.standardDeviation`.
    func deviation(_ sum: String, _ squares: String, _ count: String, _ power: String) -> String {
        inlined("deviation", [sum, squares, count, power]) { deviationBody(sum, squares, count, power) }
    }

    /// One double divided by another: `ExactArithmetic.ratio`.
    func ratio(_ numerator: String, _ denominator: String) -> String {
        inlined("ratio", [numerator, denominator]) { ratioBody(numerator, denominator) }
    }

    private func ratioBody(_ numerator: String, _ denominator: String) -> String {
        """
        CASE WHEN \(denominator) <> 0 THEN
        CASE WHEN abs(\(numerator) / \(denominator)) <= \(real(Double.greatestFiniteMagnitude))
        THEN \(positiveZero("\(numerator) / \(denominator)")) END END
        """
    }

    /// A count of different values from the exact one and the number of their coupons: `DistinctEstimate.count`.
    func estimate(_ exact: String, coupons: String, _ precision: Int) -> String {
        let (registers, bits) = (
            DistinctEstimate.registerCount(precision), DistinctEstimate.fixedPoint.trailingZeroBitCount
        )
        let rest = "CAST(\(remainder("(\(coupons))", "\(registers)")) AS DOUBLE) / \(real(Double(registers)))"
        let mantissa =
            "CAST(round(\(real(DistinctEstimate.mantissaOfOne)) * power(\(real(2)), \(rest))) AS BIGINT)"
        let scale = powerOfTwo("(\(quotient("(\(coupons))", "\(registers)")))")
        return """
            CASE WHEN \(coupons) <= \(DistinctEstimate.exactCouponCountMax(precision)) THEN \(exact)
            ELSE \(shiftedRight("\(mantissa) * \(registers) * (\(scale))", by: "\(bits)")) END
            """
    }

    private func carry(_ sum: String, _ count: String) -> String {
        inlined("carry", [sum, count]) { carryBody(sum, count) }
    }
    private func rest(_ sum: String, _ count: String) -> String {
        inlined("rest", [sum, count]) { restBody(sum, count) }
    }
    private func distances(_ sum: String, _ squares: String, _ count: String) -> String {
        inlined("distances", [sum, squares, count]) { distancesBody(sum, squares, count) }
    }

    private func doubleBody(_ value: String) -> String {
        let half = wide(Int128(1) << 62)
        return """
            CASE WHEN \(value) BETWEEN \(wide(Int64.min)) AND \(wide(Int64.max))
            THEN CAST(CAST(\(value) AS BIGINT) AS DOUBLE)
            ELSE CAST(CAST(\(quotient(value, half)) AS BIGINT) AS DOUBLE) * \(real(0x1p62))
            + CAST(CAST(\(remainder(value, half)) AS BIGINT) AS DOUBLE) END
            """
    }
    private func carryBody(_ sum: String, _ count: String) -> String {
        let rest = remainder(sum, count)
        return "CASE WHEN 2 * (\(rest)) > \(count) THEN \(wide(1)) WHEN 2 * (\(rest)) < -\(count) THEN \(wide(-1)) "
            + "ELSE \(wide(0)) END"
    }
    private func restBody(_ sum: String, _ count: String) -> String {
        "\(remainder(sum, count)) - \(carry(sum, count)) * \(count)"
    }
    private func distancesBody(_ sum: String, _ squares: String, _ count: String) -> String {
        "\(squares) - (\(quotient(sum, count)) + \(carry(sum, count))) * (\(sum) + \(rest(sum, count)))"
    }
    private func deviationBody(_ sum: String, _ squares: String, _ count: String, _ power: String) -> String {
        """
        CASE WHEN \(count) > 0 AND \(sum) < \(wide(ExactArithmetic.poisonThreshold))
        THEN sqrt((\(double(distances(sum, squares, count)))
        - \(double(rest(sum, count))) * \(double(rest(sum, count))) / \(double(count)))
        / \(double(count))) / \(power) END
        """
    }

    // MARK: Lists

    /// Aggregate: the so many largest integers that are not null, largest first; null or empty without any.
    func largest(_ count: Int, of value: String) -> String {
        self == .spark ? "slice(sort_array(collect_list(\(value)), false), 1, \(count))" : "max(\(value), \(count))"
    }

    /// Aggregate: the same over lists of integers; null lists count as empty.
    func largest(_ count: Int, ofLists lists: String) -> String {
        self == .spark
            ? "slice(sort_array(flatten(collect_list(\(lists))), false), 1, \(count))"
            : "list_reverse_sort(flatten(list(\(lists))))[1:\(count)]"
    }

    /// One row for each element of a list.
    func each(_ list: String) -> String { self == .spark ? "explode(\(list))" : "unnest(\(list))" }

    /// Aggregate: the values of rows as a list, by falling numbers.
    func list(of value: String, newestFirst number: String) -> String {
        self == .spark
            ? "transform(sort_array(collect_list(struct(\(number) AS place, \(value) AS cell)), false), v -> v.cell)"
            : "list(\(value) ORDER BY \(number) DESC)"
    }

    // MARK: Statements

    /// Stands in Flink's statements for the folder of the relations that several of them read.
    public static let workFolder = "${work}"

    /// Makes a relation of the session.
    ///
    /// - Parameter reused: several statements read it, so an engine that would compute it again each time keeps it.
    func create(_ quotedName: String, reused: Bool = false, as select: String) -> String {
        switch self {
        case .duckdb: "CREATE TEMP TABLE \(quotedName) AS \(select)"
        // A cached view would be analyzed again, with all below it, for each that reads it; a table ends the plan.
        case .spark where reused: "CREATE TABLE \(quotedName) USING parquet AS \(select)"
        case .spark: "CREATE OR REPLACE TEMPORARY VIEW \(quotedName) AS \(select)"
        // Flink expands every view into the query that reads it; the last one would be planned for minutes.
        case .flink:
            "CREATE TABLE \(quotedName) WITH ('connector' = 'filesystem', 'format' = 'json', "
                + "'path' = '\(Self.workFolder)/\(quotedName.filter { $0 != "`" })') AS \(select)"
        }
    }

    /// A statement with the names of the plan that are words of the language quoted.
    func finished(_ statement: String) -> String {
        guard self == .flink else { return statement }
        return statement.replacing(/([^`A-Za-z0-9_])rank\b/) { "\($0.output.1)`rank`" }
    }

    /// Forgets relations of the session; none where they are views that later ones read.
    func drop(_ quotedNames: [String]) -> [String] {
        self == .duckdb ? quotedNames.map { "DROP TABLE \($0)" } : []
    }

    /// Writes rows in an order as one Parquet file.
    ///
    /// DuckDB writes the file `path` on one thread (`preparationOfWriting`); Spark a folder of that name that holds it.
    func write(_ columns: String, from rows: String, orderedBy order: String, to path: String) -> String {
        self == .duckdb
            ? "COPY (SELECT \(columns) FROM \(rows) ORDER BY \(order)) TO \(literal(path)) (FORMAT parquet, COMPRESSION zstd)"
            : """
            INSERT OVERWRITE DIRECTORY \(literal(path)) USING parquet
            SELECT \(columns) FROM (SELECT /*+ REPARTITION(1) */ \(columns), \(order) AS __order FROM \(rows)) r SORT BY __order
            """
    }

    /// Statements before `write`.
    var preparationOfWriting: [String] { self == .duckdb ? ["SET threads = 1"] : [] }

    /// The first eight bytes of a text's MD5, the lowest first, without their last 12 bits.
    func digest(_ value: String) -> String {
        if self == .duckdb { return "md5_number_upper(\(value)) >> 12" }
        let pairs = [15, 13, 11, 9, 7, 5].map { "substr(md5(\(value)), \($0), 2)" } + ["substr(md5(\(value)), 3, 1)"]
        return "CAST(conv(concat(\(pairs.joined(separator: ", "))), 16, 10) AS BIGINT)"
    }

    // MARK: What is there

    /// Refuses what the plan of a view cannot say in this dialect.
    ///
    /// - Throws: `invalidInput` with feature, function and engine.
    func check(_ view: FeatureViewDefinition, _ source: SourceDefinition, isStream: Bool = false)
        throws(PlatformError)
    {
        try check(view, AggregationPlan(view: view, source: source), isStream: isStream)
    }

    /// Refuses what a plan cannot say in this dialect.
    ///
    /// - Parameter isStream: the plan runs without an end, where nothing can look back for an equal value.
    func check(_ view: FeatureViewDefinition, _ plan: AggregationPlan, isStream: Bool = false) throws(PlatformError) {
        guard self == .flink else { return }
        let needed = Set(plan.derivedColumns.map(\.name))
        for derived in view.derivedColumns where needed.contains(derived.name) && !derived.expression.supports(self) {
            throw PlatformError(
                .invalidInput, "\(view.name)/\(derived.name)",
                "\(title) has no local names, and without them the expression's SQL would be too long; use it in DuckDB or Spark"
            )
        }
        for feature in plan.computed {
            let subject = "\(view.name)/\(feature.name)"
            switch feature.function {
            case .distinctCount where isStream, .approxCountDistinct where isStream, .mode where isStream, .lastN,
                .lastNDistinct:
                throw PlatformError(
                    .invalidInput, subject,
                    "'\(feature.function.rawValue)' is not there in \(isStream ? "a stream of \(title)" : title) yet; use DuckDB or Spark"
                )
            case .last where feature.type == .vector, .first where feature.type == .vector:
                throw PlatformError(
                    .invalidInput, subject,
                    "'\(feature.function.rawValue)' of a vector is not there in \(title) yet; use DuckDB or Spark")
            default: continue
            }
        }
    }
}
