public import PlatformCore
import StoragePorts

/// What the values of one column look like.
public struct ColumnStatistics: Sendable, Hashable {
    /// A value and how often it stands there.
    public struct Share: Sendable, Hashable {
        /// The value as text.
        public let value: String
        /// Rows with it.
        public let count: Int64
    }
    /// The column.
    public let column: String
    /// Rows, those without a value included.
    public let count: Int64
    /// Rows without a value.
    public let nullCount: Int64
    /// Smallest value as text; `nil` if there is none.
    public let minimum: String?
    /// Largest value as text.
    public let maximum: String?
    /// Mean of numbers; `nil` for other types.
    public let mean: Double?
    /// Standard deviation of numbers (population).
    public let standardDeviation: Double?
    /// Different values, as HyperLogLog estimates them (relative error about 2 %).
    public let distinctEstimate: Int64
    /// The most frequent values, most frequent first; empty for columns where nearly every value is different.
    public let top: [Share]
    /// Rows in equally wide bins between minimum and maximum; empty for texts.
    public let histogram: [Int64]

    /// Share of rows without a value; 0 for no rows.
    public var nullShare: Double { count == 0 ? 0 : Double(nullCount) / Double(count) }

    /// The statistics as JSON.
    public var json: JSONValue {
        [
            "column": .string(column), "count": .integer(count), "null_share": .number(nullShare),
            "min": minimum.map(JSONValue.string) ?? .null, "max": maximum.map(JSONValue.string) ?? .null,
            "mean": mean.map(JSONValue.number) ?? .null,
            "standard_deviation": standardDeviation.map(JSONValue.number) ?? .null,
            "distinct_estimate": .integer(distinctEstimate),
            "top": .array(top.map { ["value": .string($0.value), "count": .integer($0.count)] }),
            "histogram": .array(histogram.map(JSONValue.integer)),
        ]
    }
}

/// Computes statistics of columns with the offline engine.
struct StatisticsQuery {
    /// Bins of a histogram.
    static let binCount = 24
    /// Most frequent values that are kept.
    static let topCount = 8

    let engine: any OfflineEngine
    /// A SQL table expression.
    let table: String

    /// Statistics of the columns, in their order; unknown columns are left out.
    func statistics(of wanted: [String]) async throws -> [ColumnStatistics] {
        let described = try await engine.rows(
            "SELECT column_name AS c, column_type AS t FROM (DESCRIBE SELECT * FROM \(table))")
        var types: [String: String] = [:]
        for row in described {
            if let name = row["c"]?.stringValue { types[name] = row["t"]?.stringValue ?? "" }
        }
        let columns = wanted.filter { types[$0] != nil }
        guard !columns.isEmpty else { return [] }
        let limits = QueryLimits(deadline: .seconds(120))
        let basics = try await engine.rows(
            columns.enumerated().map { Self.basics($1, types[$1] ?? "", position: $0, table) }
                .joined(separator: "\nUNION ALL ") + "\nORDER BY p", limits: limits)
        let details = try await engine.rows(
            columns.enumerated().map { Self.details($1, types[$1] ?? "", position: $0, table) }
                .joined(separator: "\nUNION ALL ") + "\nORDER BY p, k, o", limits: limits)
        return columns.enumerated().compactMap { position, column in
            guard position < basics.count else { return nil }
            let row = basics[position]
            let count = row["n"]?.integerValue ?? 0
            let distinct = min(row["d"]?.integerValue ?? 0, count)
            let mine = details.filter { $0["p"]?.integerValue == Int64(position) }
            var histogram: [Int64] = []
            for bin in mine where bin["k"]?.integerValue == 1 {
                if histogram.isEmpty { histogram = [Int64](repeating: 0, count: Self.binCount) }
                let index = Int(bin["o"]?.integerValue ?? 0)
                if histogram.indices.contains(index) { histogram[index] += bin["n"]?.integerValue ?? 0 }
            }
            let top = mine.filter { $0["k"]?.integerValue == 0 }.map {
                ColumnStatistics.Share(value: $0["v"]?.stringValue ?? "", count: $0["n"]?.integerValue ?? 0)
            }
            return ColumnStatistics(
                column: column, count: count, nullCount: row["z"]?.integerValue ?? 0, minimum: row["lo"]?.stringValue,
                maximum: row["hi"]?.stringValue, mean: row["m"]?.doubleValue, standardDeviation: row["s"]?.doubleValue,
                distinctEstimate: distinct, top: (top.first?.count ?? 0) > 1 ? top : [], histogram: histogram)
        }
    }

    private static func isNumber(_ type: String) -> Bool {
        ["BIGINT", "INTEGER", "DOUBLE", "FLOAT", "SMALLINT", "TINYINT", "HUGEINT", "UBIGINT"].contains(type)
    }

    /// The column as a number, where it has a place on a line.
    private static func number(_ name: String, _ type: String) -> String? {
        if isNumber(type) { return "CAST(\(name) AS DOUBLE)" }
        return type.hasPrefix("TIMESTAMP") ? "CAST(epoch_ms(\(name)) AS DOUBLE)" : nil
    }

    private static func basics(_ column: String, _ type: String, position: Int, _ table: String) -> String {
        let name = SQLText.identifier(column)
        let number = isNumber(type) ? "CAST(\(name) AS DOUBLE)" : nil
        func finite(_ aggregate: String) -> String {
            number.map { "\(aggregate)(\($0)) FILTER (WHERE isfinite(\($0)))" } ?? "CAST(NULL AS DOUBLE)"
        }
        return """
            SELECT \(position) AS p, count(*) AS n, count(*) - count(\(name)) AS z, \
            left(CAST(min(\(name)) AS VARCHAR), 200) AS lo, left(CAST(max(\(name)) AS VARCHAR), 200) AS hi, \
            \(finite("avg")) AS m, \(finite("stddev_pop")) AS s, approx_count_distinct(\(name)) AS d FROM \(table)
            """
    }

    private static func details(_ column: String, _ type: String, position: Int, _ table: String) -> String {
        let name = SQLText.identifier(column)
        let top = """
            SELECT \(position) AS p, 0 AS k, o, v, n FROM (SELECT row_number() OVER (ORDER BY count(*) DESC, \
            CAST(\(name) AS VARCHAR)) AS o, left(CAST(\(name) AS VARCHAR), 100) AS v, count(*) AS n FROM \(table) \
            WHERE \(name) IS NOT NULL GROUP BY \(name) QUALIFY o <= \(topCount))
            """
        guard let number = number(column == "" ? "" : name, type) else { return top }
        return top + """
            \nUNION ALL SELECT \(position) AS p, 1 AS k, CASE WHEN hi > lo THEN least(\(binCount - 1), \
            CAST(floor((x - lo) / (hi - lo) * \(binCount)) AS BIGINT)) ELSE 0 END AS o, NULL AS v, count(*) AS n \
            FROM (SELECT \(number) AS x, min(\(number)) FILTER (WHERE isfinite(\(number))) OVER () AS lo, \
            max(\(number)) FILTER (WHERE isfinite(\(number))) OVER () AS hi FROM \(table)) \
            WHERE x IS NOT NULL AND isfinite(x) GROUP BY o
            """
    }
}
