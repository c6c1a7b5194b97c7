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
    /// The script, with `${events}` and `${output}` for the folders that whoever runs it fills in.
    public let script: String

    /// Writes the job.
    ///
    /// - Parameter latenessMilliseconds: how far the watermark stays behind the newest event.
    /// - Throws: `invalidInput` with feature, function and engine for what a Flink stream cannot say.
    public init(
        view: FeatureViewDefinition, source: SourceDefinition, latenessMilliseconds: Int64 = 60_000
    ) throws(PlatformError) {
        // What it would leave out, it must refuse: a wrong number is worse than none.
        try SQLDialect.flink.check(view, source, isStream: true)
        let longest = (view.features.compactMap { $0.window?.milliseconds } + [latenessMilliseconds]).max() ?? 0
        guard longest < 1000 * 86_400_000 else {
            throw PlatformError(
                .invalidInput, "feature_view/\(view.name)",
                "a Flink stream counts windows and lateness in up to 999 days; use DuckDB, Spark or a Flink batch")
        }
        let query = FlinkStreamQuery(view: view, source: source)
        let dialect = SQLDialect.flink
        func declare(_ columns: [(String, String)]) -> String {
            columns.map { "\(dialect.identifier($0.0)) \($0.1)" }.joined(separator: ", ")
        }
        func files(_ place: String) -> String {
            "WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = '${\(place)}')"
        }
        let times = ["__event_time", "__ingest_time", "__sequence"].map { ($0, "BIGINT") }
        let events = source.columns.map { ($0.name, dialect.declaredType($0.type)) } + times
        let result =
            view.joinKeys.map { ($0, "STRING") } + times
            + view.features.map { ($0.name, dialect.declaredType($0.type)) }
        let lateness = FlinkStreamQuery.seconds(max(0, latenessMilliseconds))
        script = """
            -- Features of view \(view.versionName) after each event, as a continuous Flink job (Flink 2).
            -- Run: replace ${events} and ${output} (folders of JSON lines) or put your connectors into WITH (…), then `sql-client.sh -f job.sql`.
            -- A row counts where it happened; rows later than \(latenessMilliseconds) ms behind the newest are dropped.
            SET 'execution.runtime-mode' = 'streaming';
            SET 'execution.checkpointing.interval' = '10 s';
            SET 'table.local-time-zone' = 'UTC';
            CREATE TABLE events (\(declare(events)), __at AS TO_TIMESTAMP_LTZ(__event_time, 3),
            WATERMARK FOR __at AS __at - \(lateness)) \(files("events"));
            CREATE TABLE output (\(declare(result))) \(files("output"));
            INSERT INTO output \(query.text);

            """
    }
}

/// The query of a continuous Flink job over its table `events`.
struct FlinkStreamQuery {
    private let dialect = SQLDialect.flink
    private let plan: AggregationPlan
    /// Distinct windows, rising.
    private let windows: [Int64]
    /// The columns that summed multiples are made of.
    private let summed: [Int]
    /// Columns of the windows so far.
    private var carried: [String] = []
    private var rows: String
    private let list: String
    private static let own = "__event_time, __ingest_time, __sequence"

    init(view: FeatureViewDefinition, source: SourceDefinition) {
        let dialect = SQLDialect.flink
        let plan = AggregationPlan(view: view, source: source)
        self.plan = plan
        windows = Set(plan.computed.filter { $0.function != .last || $0.gate != nil }.compactMap(\.window)).sorted()
        summed = plan.columns.indices.filter { plan.columns[$0].needsSum || plan.columns[$0].needsSquares }
        let names = view.joinKeys.map(dialect.identifier)
        let keys = view.joinKeys.compactMap(source.column).map { FeatureSQL.keyText($0, dialect) }
        list = names.joined(separator: ", ")
        let cells = plan.columns.enumerated().map { ", \(dialect.cell($1)) AS x\($0)" }.joined()
        let scaled = summed.map { ", \(dialect.scaled("x\($0)", of: plan.columns[$0])) AS s\($0)" }.joined()
        let events = DerivedColumnSQL.table(
            "events", view: view, source: source, wanted: Set(plan.columns.map(\.name)), dialect)
        let limit = plan.lateness.map { " WHERE __ingest_time - __event_time <= \($0)" } ?? ""
        rows = """
            SELECT \(list), \(Self.own), __at\(plan.columns.indices.map { ", x\($0)" }.joined())\(scaled) FROM (
            SELECT \(zip(keys, names).map { "\($0) AS \($1)" }.joined(separator: ", ")), \(Self.own), __at\(cells)
            FROM \(events)\(limit)) v
            WHERE \(names.map { "\($0) IS NOT NULL" }.joined(separator: " AND "))
            """
        for (index, window) in windows.enumerated() { add(over: window - 1, terms(of: window, index)) }
        // The newest of the rows of the moment.
        let newest = Set(plan.computed.filter { $0.function == .last && $0.gate == nil }.compactMap(\.column))
        add(over: 0, newest.sorted().map { ("z\($0)", "MAX(\(Self.placed("x\($0)", by: Self.arrival)))") })
    }

    /// The query; its columns are the keys, the event's times and sequence, and the features.
    var text: String {
        let features = plan.features.indices.map {
            ", \(expression($0)) AS \(dialect.identifier(plan.features[$0].name))"
        }
        return "SELECT \(list), \(Self.own)\(features.joined()) FROM (\n\(rows)\n) f"
    }

    /// A span as an interval.
    static func seconds(_ milliseconds: Int64) -> String {
        func padded(_ value: Int64, _ count: Int) -> String {
            let digits = String(value)
            return String(repeating: "0", count: count - digits.count) + digits
        }
        let seconds = milliseconds / 1000
        let clock = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60].map { padded($0, 2) }.joined(separator: ":")
        return "INTERVAL '\(seconds / 86_400) \(clock).\(padded(milliseconds % 1000, 3))' DAY(3) TO SECOND(3)"
    }

    // MARK: Windows

    /// Adds one window to the query: Flink takes one for each SELECT.
    private mutating func add(over span: Int64, _ terms: [(name: String, value: String)]) {
        guard !terms.isEmpty else { return }
        let columns =
            ["\(list), \(Self.own), __at"] + plan.columns.indices.map { "x\($0)" } + summed.map { "s\($0)" } + carried
        let made = terms.map { "\($0.value) OVER w AS \($0.name)" }
        rows = """
            SELECT \((columns + made).joined(separator: ", ")) FROM (
            \(rows)
            ) r\(carried.count) WINDOW w AS (PARTITION BY \(list) ORDER BY __at
            RANGE BETWEEN \(Self.seconds(span)) PRECEDING AND CURRENT ROW)
            """
        carried += terms.map(\.name)
    }

    /// What is aggregated over a window.
    private func terms(of window: Int64, _ index: Int) -> [(name: String, value: String)] {
        var terms: [(name: String, value: String)] = []
        func add(_ name: String, _ value: String) {
            if !terms.contains(where: { $0.name == name }) { terms.append((name, value)) }
        }
        for feature in plan.computed where feature.window == window {
            guard let column = feature.column else {
                add("n\(index)", "COUNT(*)")
                continue
            }
            let (place, scaled) = ("\(index)_\(column)", "s\(column)")
            switch feature.function {
            case .count: add("n\(place)", "COUNT(x\(column))")
            case .sum, .mean:
                add("n\(place)", "COUNT(x\(column))")
                add("t\(place)", "SUM(\(scaled))")
            case .stddev:
                let (fits, zero) = (dialect.hasSquare(scaled), dialect.wide(0))
                add("n\(place)", "COUNT(x\(column))")
                add(
                    "b\(place)",
                    "SUM(CASE WHEN \(scaled) IS NULL THEN \(zero) WHEN \(fits) THEN \(scaled) "
                        + "ELSE \(dialect.wide(ExactArithmetic.poison)) END)")
                add(
                    "q\(place)",
                    "SUM(CASE WHEN \(fits) THEN CAST(\(scaled) * \(scaled) AS DECIMAL(38, 0)) ELSE \(zero) END)")
            case .min: add("low\(place)", "MIN(x\(column))")
            case .max: add("top\(place)", "MAX(x\(column))")
            case .first, .last:
                guard feature.function == .first || feature.gate != nil else { continue }
                let placed = Self.placed("x\(column)", by: Self.order)
                let chosen = feature.gate.map { "CASE WHEN x\($0) IS NOT NULL THEN \(placed) END" } ?? placed
                add(pickName(feature, index), "\(feature.function == .first ? "MIN" : "MAX")(\(chosen))")
            default: break
            }
        }
        return terms
    }

    // MARK: Picked events

    /// The order of events, and of those of one moment.
    private static let order = ["__event_time", "__ingest_time", "__sequence"]
    private static let arrival = ["__ingest_time", "__sequence"]
    private static let digitCount = 19

    private func pickName(_ feature: AggregationPlan.Feature, _ index: Int) -> String {
        "\(feature.function.rawValue)\(index)_\(feature.column ?? 0)_\(feature.gate.map(String.init) ?? "all")"
    }

    /// A text that sorts as the event does, with its cell behind: the smallest of a window names its first event and is its value.
    ///
    /// A function that picks the first row of a window cannot take rows back in Flink; the smallest text can.
    private static func placed(_ cell: String, by order: [String]) -> String {
        let places = order.map { "LPAD(CAST(\($0) + 5000000000000000000 AS STRING), \(digitCount), '0')" }
        return "CONCAT(\(places.joined(separator: ", ")), COALESCE(CONCAT('=', CAST(\(cell) AS STRING)), ''))"
    }

    /// The cell of such a text.
    private func cell(_ text: String, by order: [String], of column: Int) -> String {
        let length = Self.digitCount * order.count
        return "CASE WHEN CHAR_LENGTH(\(text)) > \(length) THEN CAST(SUBSTRING(\(text) FROM \(length + 2)) AS "
            + "\(dialect.cellType(plan.columns[column].type))) END"
    }

    // MARK: Results

    private func expression(_ place: Int) -> String {
        let feature = plan.computed[place]
        func typed(_ value: String) -> String { feature.type == .bool ? "\(value) <> 0" : value }
        if let operands = feature.operands {
            func number(_ place: Int) -> String {
                let value = expression(place)
                return plan.computed[place].type == .bool
                    ? "CAST(CAST((\(value)) AS INTEGER) AS DOUBLE)" : "CAST((\(value)) AS DOUBLE)"
            }
            return dialect.ratio(number(operands.numerator), number(operands.denominator))
        }
        let index = feature.window.flatMap { windows.firstIndex(of: $0) } ?? 0
        guard let column = feature.column else { return "n\(index)" }
        let power = dialect.real(plan.columns[column].power)
        let (count, total) = ("n\(index)_\(column)", "t\(index)_\(column)")
        let isSum = "\(count) > 0 AND \(total) < \(dialect.wide(ExactArithmetic.poisonThreshold))"
        return switch feature.function {
        case .count: count
        case .sum: "CASE WHEN \(isSum) THEN \(dialect.double(total)) / \(power) END"
        case .mean: "CASE WHEN \(isSum) THEN \(dialect.double(total)) / (\(power) * CAST(\(count) AS DOUBLE)) END"
        case .stddev: dialect.deviation("b\(index)_\(column)", "q\(index)_\(column)", count, power)
        case .min: typed("low\(index)_\(column)")
        case .max: typed("top\(index)_\(column)")
        default:
            feature.function == .last && feature.gate == nil
                ? typed(cell("z\(column)", by: Self.arrival, of: column))
                : typed(cell(pickName(feature, index), by: Self.order, of: column))
        }
    }
}
