import Aggregation
public import Definitions
public import PlatformCore
import StoragePorts

/// A feature view as a continuous Flink job: after each event, the features of its entity as they then are.
///
/// The same plan over event time: a row goes out for each event, with the values that a question has whose newest possible
/// event is that one (`t` one millisecond later, or that moment itself in an inclusive view). Rows of one moment and entity
/// get the same values. A stream knows no second time: a row counts where it happened, so the values are those of the
/// platform once every row of the moment is known; rows later than the watermark allows are dropped by Flink.
public struct FlinkStreamJob: Sendable {
    /// The statements, without the declaration of the tables `events` and `output`.
    public let query: String
    /// The script.
    public let script: String

    /// Writes the job.
    ///
    /// - Parameter latenessMilliseconds: how far the watermark stays behind the newest event.
    /// - Throws: `invalidInput` with feature, function and engine for what a Flink stream cannot say.
    public init(
        view: FeatureViewDefinition, source: SourceDefinition, latenessMilliseconds: Int64 = 60_000
    ) throws(PlatformError) {
        let dialect = SQLDialect.flink
        let plan = AggregationPlan(view: view, source: source)
        // What it would leave out, it must refuse: a wrong number is worse than none.
        guard view.derivedColumns.isEmpty, view.lateness == nil else {
            throw PlatformError(
                .invalidInput, "feature_view/\(view.name)",
                "the continuous Flink job knows no derived columns, 'where' or 'lateness' yet; use the batch job or DuckDB"
            )
        }
        for feature in plan.features {
            try dialect.check(feature.function, of: "\(view.name)/\(feature.name)")
            guard feature.function != .ratio else {
                throw PlatformError(
                    .invalidInput, "feature \(view.name)/\(feature.name)",
                    "a Flink stream cannot say a ratio yet; divide its two features where they are read")
            }
            guard feature.function == .first else { continue }
            throw PlatformError(
                .invalidInput, "feature \(view.name)/\(feature.name)",
                "a Flink stream cannot say 'first': FIRST_VALUE cannot take rows back; use Spark or a Flink batch")
        }
        let keys = view.joinKeys
        let names = keys.map(dialect.identifier)
        let cells = plan.columns.enumerated().map { ", \(dialect.cell($1)) AS x\($0)" }.joined()
        var keyColumns: [String] = []
        for (key, name) in zip(keys, names) {
            guard let column = source.column(key) else {
                preconditionFailure("a view's keys are columns of its source")
            }
            keyColumns.append("\(FeatureSQL.keyText(column, dialect)) AS \(name)")
        }
        let scaled = plan.columns.enumerated().filter { $0.element.needsSum || $0.element.needsSquares }
            .map { ", \(dialect.scaled("x\($0.offset)", of: $0.element)) AS s\($0.offset)" }.joined()
        let list = names.joined(separator: ", ")
        let own = "__event_time, __ingest_time, __sequence"
        var rows = """
            SELECT \(list), \(own), __at\(plan.columns.indices.map { ", x\($0)" }.joined())\(scaled) FROM (
            SELECT \(keyColumns.joined(separator: ", ")), \(own), __at\(cells) FROM events) v
            WHERE \(names.map { "\($0) IS NOT NULL" }.joined(separator: " AND "))
            """
        // One window for each SELECT; `carried` are the columns of the windows before.
        func seconds(_ milliseconds: Int64) -> String {
            let rest = String(milliseconds % 1000)
            return
                "INTERVAL '\(milliseconds / 1000).\(String(repeating: "0", count: 3 - rest.count))\(rest)' SECOND(10, 3)"
        }
        var carried: [String] = []
        func over(_ window: Int64, _ terms: [(name: String, value: String)]) {
            guard !terms.isEmpty else { return }
            let columns = (["\(list), \(own), __at"] + plan.columns.indices.map { "x\($0)" } + carried)
            let sums = plan.columns.enumerated().filter { $0.element.needsSum || $0.element.needsSquares }
                .map { "s\($0.offset)" }
            let made = terms.map { "\($0.value) OVER w AS \($0.name)" }
            rows = """
                SELECT \((columns + sums + made).joined(separator: ", ")) FROM (
                \(rows)
                ) r\(carried.count) WINDOW w AS (PARTITION BY \(list) ORDER BY __at
                RANGE BETWEEN \(seconds(window)) PRECEDING AND CURRENT ROW)
                """
            carried += terms.map(\.name)
        }
        let windows = Set(plan.features.filter { $0.function != .last }.compactMap(\.window)).sorted()
        for (index, window) in windows.enumerated() {
            var terms: [(name: String, value: String)] = []
            func add(_ name: String, _ value: String) {
                if !terms.contains(where: { $0.name == name }) { terms.append((name, value)) }
            }
            for feature in plan.features where feature.window == window && feature.function != .last {
                guard let column = feature.column else {
                    add("n\(index)", "COUNT(*)")
                    continue
                }
                add("n\(index)_\(column)", "COUNT(x\(column))")
                switch feature.function {
                case .sum, .mean: add("t\(index)_\(column)", "SUM(s\(column))")
                case .stddev:
                    let (value, fits) = ("s\(column)", dialect.hasSquare("s\(column)"))
                    add(
                        "b\(index)_\(column)",
                        "SUM(CASE WHEN \(value) IS NULL THEN \(dialect.wide(0)) WHEN \(fits) THEN \(value) "
                            + "ELSE \(dialect.wide(ExactArithmetic.poison)) END)")
                    add(
                        "q\(index)_\(column)",
                        "SUM(CASE WHEN \(fits) THEN CAST(\(value) * \(value) AS DECIMAL(38, 0)) ELSE \(dialect.wide(0)) END)"
                    )
                case .min: add("low\(index)_\(column)", "MIN(x\(column))")
                case .max: add("top\(index)_\(column)", "MAX(x\(column))")
                default: break
                }
            }
            over(window - 1, terms)
        }
        // The newest of the rows of the moment: the largest of (ingest time, sequence), with the value behind them.
        let picked = Set(plan.features.filter { $0.function == .last }.compactMap(\.column)).sorted()
        over(
            0,
            picked.map { column in
                let order = ["__ingest_time", "__sequence"].map {
                    "LPAD(CAST(\($0) + 5000000000000000000 AS STRING), 19, '0')"
                }
                return (
                    "z\(column)",
                    "MAX(CONCAT(\(order.joined(separator: ", ")), COALESCE(CONCAT('=', CAST(x\(column) AS STRING)), '')))"
                )
            })
        let outputs = plan.features.map { feature -> String in
            func typed(_ value: String) -> String { feature.type == .bool ? "\(value) <> 0" : value }
            let index = feature.window.flatMap { windows.firstIndex(of: $0) } ?? 0
            guard let column = feature.column else { return "n\(index)" }
            let power = dialect.real(plan.columns[column].power)
            let (count, total) = ("n\(index)_\(column)", "t\(index)_\(column)")
            let isSum = "\(count) > 0 AND \(total) < \(dialect.wide(ExactArithmetic.poisonThreshold))"
            return switch feature.function {
            case .count: count
            case .sum: "CASE WHEN \(isSum) THEN \(dialect.double(total)) / \(power) END"
            case .mean: "CASE WHEN \(isSum) THEN \(dialect.double(total)) / (\(power) * CAST(\(count) AS DOUBLE)) END"
            case .stddev:
                dialect.deviation("b\(index)_\(column)", "q\(index)_\(column)", count, power)
            case .min: typed("low\(index)_\(column)")
            case .max: typed("top\(index)_\(column)")
            default:
                typed(
                    "CASE WHEN CHAR_LENGTH(z\(column)) > 38 THEN CAST(SUBSTRING(z\(column) FROM 40) AS "
                        + "\(dialect.cellType(plan.columns[column].type))) END")
            }
        }
        let named = zip(outputs, view.features).map { "\($0) AS \(dialect.identifier($1.name))" }
        query = "SELECT \(list), \(own), \(named.joined(separator: ", ")) FROM (\n\(rows)\n) f"
        func declare(_ columns: [(String, String)]) -> String {
            columns.map { "\(dialect.identifier($0.0)) \($0.1)" }.joined(separator: ", ")
        }
        let times = ["__event_time", "__ingest_time", "__sequence"].map { ($0, "BIGINT") }
        let result =
            keys.map { ($0, "STRING") } + times + view.features.map { ($0.name, dialect.declaredType($0.type)) }
        script = """
            -- Features of view \(view.versionName) after each event, as a continuous Flink job (Flink 2).
            -- A draft: not yet compared with the platform's own values; compare it before you lean on it.
            -- Run: put your connectors into WITH (…), then `sql-client.sh -f job.sql`.
            -- A row counts where it happened; rows later than \(latenessMilliseconds) ms behind the newest are dropped.
            SET 'execution.runtime-mode' = 'streaming';
            SET 'table.local-time-zone' = 'UTC';
            \(Self.events(source, latenessMilliseconds: latenessMilliseconds, with: "'connector' = 'filesystem', 'format' = 'json', 'path' = '${events}'"));
            CREATE TABLE output (\(declare(result))) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = '${output}');
            INSERT INTO output \(query);

            """
    }

    /// The declaration of the table `events`.
    public static func events(
        _ source: SourceDefinition, latenessMilliseconds: Int64, with options: String
    ) -> String {
        let dialect = SQLDialect.flink
        let columns =
            source.columns.map { "\(dialect.identifier($0.name)) \(dialect.declaredType($0.type))" }
            + ["__event_time BIGINT", "__ingest_time BIGINT", "__sequence BIGINT"]
        return """
            CREATE TABLE events (\(columns.joined(separator: ", ")), __at AS TO_TIMESTAMP_LTZ(__event_time, 3),
            WATERMARK FOR __at AS __at - INTERVAL '\(max(1, latenessMilliseconds / 1000))' SECOND(10)) WITH (\(options))
            """
    }
}
