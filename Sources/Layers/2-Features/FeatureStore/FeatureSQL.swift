import Aggregation
public import Definitions
public import PlatformCore
import StoragePorts

/// Compiles the features of one view into DuckDB statements that answer a table of questions.
///
/// The questions of an entity are numbered by time. An event can be seen by a question from the moment it has happened and
/// is known, and leaves a window of width `w` at its event time plus `w`: so it counts for one run of question numbers
/// `low ..< high`, late or not. Counts and sums are running totals over the entries and exits of those runs. Extremes and
/// `first` cut each run into at most two aligned pieces per power of two and look at the pieces that hold the question.
/// So the cost grows with (events + questions) · log(questions), whatever the skew, the window and the lateness.
public struct FeatureSQL: Sendable {
    /// One feature and the column it becomes.
    public struct Output: Sendable, Hashable {
        /// Name of the feature in the view.
        public let feature: String
        /// Name of the column in the result.
        public let column: String
        /// Makes an output.
        public init(feature: String, column: String) {
            self.feature = feature
            self.column = column
        }
    }

    private let plan: AggregationPlan
    private let source: SourceDefinition
    private let outputs: [Output]
    /// Distinct windows, rising.
    private let windows: [Int64]

    /// Compiles a view of a checked set.
    /// - Parameter outputs: what to compute; `nil` for every feature under its own name.
    public init(view: FeatureViewDefinition, source: SourceDefinition, outputs: [Output]? = nil) {
        let outputs = outputs ?? view.features.map { Output(feature: $0.name, column: $0.name) }
        let positions = outputs.map { output in
            guard let position = view.features.firstIndex(where: { $0.name == output.feature }) else {
                preconditionFailure("the view has the feature '\(output.feature)'")
            }
            return position
        }
        plan = AggregationPlan(view: view, source: source).selecting(positions)
        self.source = source
        self.outputs = outputs
        windows = Set(plan.features.filter { $0.function != .last }.compactMap(\.window)).sorted()
    }

    // MARK: Shared pieces

    /// Statements that every session needs once: the exact conversions of `ExactArithmetic`.
    public static let macros: [String] = [
        """
        CREATE OR REPLACE TEMP MACRO bottega_double(v) AS
        CASE WHEN v BETWEEN -9223372036854775808::HUGEINT AND 9223372036854775807::HUGEINT
        THEN CAST(CAST(v AS BIGINT) AS DOUBLE)
        ELSE CAST(CAST(v // 4611686018427387904::HUGEINT AS BIGINT) AS DOUBLE) * 4.611686018427387904e18::DOUBLE
        + CAST(CAST(v % 4611686018427387904::HUGEINT AS BIGINT) AS DOUBLE) END
        """,
        """
        CREATE OR REPLACE TEMP MACRO bottega_carry(s, n) AS
        CASE WHEN 2 * (s % n) > n THEN 1::HUGEINT WHEN 2 * (s % n) < -n THEN -1::HUGEINT ELSE 0::HUGEINT END
        """,
        "CREATE OR REPLACE TEMP MACRO bottega_rest(s, n) AS s % n - bottega_carry(s, n) * n",
        """
        CREATE OR REPLACE TEMP MACRO bottega_distances(s, q, n) AS
        q - (s // n + bottega_carry(s, n)) * (s + bottega_rest(s, n))
        """,
        """
        CREATE OR REPLACE TEMP MACRO bottega_deviation(s, q, n, p) AS
        CASE WHEN n > 0 AND s < \(ExactArithmetic.poisonThreshold)::HUGEINT
        THEN sqrt((bottega_double(bottega_distances(s, q, n))
        - bottega_double(bottega_rest(s, n)) * bottega_double(bottega_rest(s, n)) / bottega_double(n))
        / bottega_double(n)) / p END
        """,
    ]

    /// A column as the text of a key part, as `CellValue.keyText` writes it; NULL where the text cannot be a key.
    public static func keyText(_ column: ColumnDefinition) -> String {
        let name = SQLText.identifier(column.name)
        let text = column.type == .timestamp ? "CAST(epoch_ms(\(name)) AS VARCHAR)" : "CAST(\(name) AS VARCHAR)"
        guard column.type == .string else { return text }
        return "CASE WHEN strlen(\(text)) BETWEEN 1 AND \(EntityKey.valueByteCountMax) "
            + "AND NOT regexp_matches(\(text), '[\\x00-\\x1F\\x7F]') THEN \(text) END"
    }

    // MARK: Statements

    /// Statements that make the table `result` with `__row` and a column for each output.
    ///
    /// - Parameters:
    ///   - events: SQL table expression of the source: its columns, `__event_time`, `__ingest_time`, `__sequence`.
    ///   - knownBefore: rows with a later or equal ingest time do not exist for this computation; `nil` for no limit.
    ///   - questions: name of a table with `__row` (BIGINT, unique), `__time` (BIGINT milliseconds) and each join key of the
    ///     view under its own name as text (`keyText`). Other columns are ignored.
    ///   - result: name of the table to make; names beginning with it and `_` are used in between and dropped.
    public func statements(events: String, knownBefore: EventTime? = nil, questions: String, result: String) -> [String]
    {
        let names = Names(prefix: result)
        var out = numbering(questions: questions, names)
        out.append(eventTable(events: events, knownBefore: knownBefore, names))
        out.append(newestTable(names))
        var made = [names.key, names.question, names.size, names.event, names.newest]
        for (index, window) in windows.enumerated() {
            if let statement = sumTable(window, index, names) {
                out.append(statement)
                made.append(names.sum(index))
            }
            let picks = pickTables(window, index, names)
            out += picks
            if !picks.isEmpty { made += [names.node(index), names.pick(index)] }
        }
        out.append(resultTable(questions: questions, result: result, names))
        return out + made.map { "DROP TABLE \($0)" }
    }

    private struct Names {
        let prefix: String
        private func quoted(_ suffix: String) -> String { SQLText.identifier("\(prefix)_\(suffix)") }
        var key: String { quoted("key") }
        var question: String { quoted("question") }
        var size: String { quoted("size") }
        var event: String { quoted("event") }
        var newest: String { quoted("newest") }
        func sum(_ window: Int) -> String { quoted("sum\(window)") }
        func node(_ window: Int) -> String { quoted("node\(window)") }
        func pick(_ window: Int) -> String { quoted("pick\(window)") }
    }

    private var tick: String { plan.inclusive ? "__time" : "__time - 1" }
    private var keys: [String] { plan.view.joinKeys.map(SQLText.identifier) }

    /// Entities that are asked for, and their questions numbered by time.
    private func numbering(questions: String, _ names: Names) -> [String] {
        let list = keys.joined(separator: ", ")
        let isWhole = keys.map { "\($0) IS NOT NULL" }.joined(separator: " AND ")
        return [
            """
            CREATE TEMP TABLE \(names.key) AS SELECT \(list), CAST(row_number() OVER () AS INTEGER) AS entity
            FROM (SELECT DISTINCT \(list) FROM \(questions) WHERE \(isWhole))
            """,
            """
            CREATE TEMP TABLE \(names.question) AS SELECT entity, tick,
            CAST(row_number() OVER (PARTITION BY entity ORDER BY tick) - 1 AS INTEGER) AS rank
            FROM (SELECT DISTINCT entity, \(tick) AS tick FROM \(questions) JOIN \(names.key) USING (\(list)))
            """,
            """
            CREATE TEMP TABLE \(names.size) AS
            SELECT entity, CAST(count(*) AS INTEGER) AS questions FROM \(names.question) GROUP BY entity
            """,
        ]
    }

    /// Events of asked entities, numbered by the tie rule, with the run of questions that each window gives them.
    private func eventTable(events: String, knownBefore: EventTime?, _ names: Names) -> String {
        let keyColumns = plan.view.joinKeys.map { key in
            guard let column = source.column(key) else {
                preconditionFailure("a view's keys are columns of its source")
            }
            return Self.keyText(column)
        }
        var cells: [String] = []
        for (index, column) in plan.columns.enumerated() {
            let name = SQLText.identifier(column.name)
            let value =
                switch column.type {
                // Adding zero makes a negative zero positive, as the kernel does.
                case .float64: "CAST(\(name) AS DOUBLE) + 0.0::DOUBLE"
                case .int64: "CAST(\(name) AS BIGINT)"
                case .bool: "CAST(CAST(\(name) AS BOOLEAN) AS BIGINT)"
                case .timestamp: "epoch_ms(\(name))"
                case .string: "CAST(\(name) AS VARCHAR)"
                }
            cells.append("\(value) AS x\(index)")
        }
        var scaled: [String] = []
        for (index, column) in plan.columns.enumerated() where column.needsSum || column.needsSquares {
            let poison = "\(ExactArithmetic.poison)::HUGEINT"
            if column.storage == .real {
                let product = "round(x\(index) * \(column.power)::DOUBLE)"
                scaled.append(
                    "CASE WHEN x\(index) IS NULL THEN NULL WHEN abs(\(product)) < 9.223372036854775808e18::DOUBLE "
                        + "THEN CAST(CAST(\(product) AS BIGINT) AS HUGEINT) ELSE \(poison) END AS s\(index)")
            } else {
                scaled.append(
                    "CASE WHEN x\(index) = -9223372036854775808 THEN \(poison) ELSE CAST(x\(index) AS HUGEINT) END "
                        + "AS s\(index)")
            }
        }
        let limit = knownBefore.map { " WHERE __ingest_time < \($0.milliseconds)" } ?? ""
        let inner =
            "SELECT \((zip(keyColumns, keys).map { "\($0) AS \($1)" } + cells).joined(separator: ", ")), "
            + "__event_time, __ingest_time, __sequence FROM \(events)\(limit)"
        let numbered = """
            SELECT entity, CAST(row_number() OVER (PARTITION BY entity ORDER BY __event_time, __ingest_time, __sequence)
            AS INTEGER) AS number, __event_time AS happened, greatest(__event_time, __ingest_time) AS seen\
            \(plan.columns.indices.map { ", x\($0)" }.joined())
            FROM (\(inner)) JOIN \(names.key) USING (\(keys.joined(separator: ", ")))
            """
        var highs: [String] = []
        var joins: [String] = []
        for (index, window) in windows.enumerated() {
            highs.append(", coalesce(h\(index).rank, questions) AS high\(index)")
            joins.append(
                "ASOF LEFT JOIN \(names.question) h\(index) "
                    + "ON e.entity = h\(index).entity AND e.happened + \(window) <= h\(index).tick")
        }
        return """
            CREATE TEMP TABLE \(names.event) AS SELECT e.entity, number, happened, l.rank AS low\(highs.joined())\
            \(plan.columns.indices.map { ", x\($0)" }.joined())\(scaled.map { ", " + $0 }.joined())
            FROM (\(numbered)) e JOIN \(names.size) z ON e.entity = z.entity
            ASOF JOIN \(names.question) l ON e.entity = l.entity AND e.seen <= l.tick
            \(joins.joined(separator: "\n"))
            """
    }

    /// For each question, the number of the newest visible event.
    private func newestTable(_ names: Names) -> String {
        """
        CREATE TEMP TABLE \(names.newest) AS SELECT q.entity, q.rank, q.tick,
        max(m.number) OVER (PARTITION BY q.entity ORDER BY q.rank ROWS UNBOUNDED PRECEDING) AS number
        FROM \(names.question) q LEFT JOIN (
        SELECT entity, low, max(number) AS number FROM \(names.event) GROUP BY entity, low) m
        ON q.entity = m.entity AND q.rank = m.low
        """
    }

    private func features(over window: Int64, _ functions: Set<AggregateFunction>) -> [AggregationPlan.Feature] {
        plan.features.filter { $0.window == window && functions.contains($0.function) }
    }

    /// Counts and sums of a window for each question; `nil` if no feature needs any.
    private func sumTable(_ window: Int64, _ index: Int, _ names: Names) -> String? {
        let wanted = features(over: window, [.count, .sum, .mean, .stddev])
        guard !wanted.isEmpty else { return nil }
        // Name of the running column, and what one event adds to it.
        var terms: [(name: String, value: String)] = []
        func add(_ name: String, _ value: String) {
            if !terms.contains(where: { $0.name == name }) { terms.append((name, value)) }
        }
        for feature in wanted {
            guard let column = feature.column else {
                add("n", "1")
                continue
            }
            add("n\(column)", "CASE WHEN x\(column) IS NULL THEN 0 ELSE 1 END")
            let scaled = "s\(column)"
            switch feature.function {
            case .sum, .mean: add("t\(column)", "coalesce(\(scaled), 0::HUGEINT)")
            case .stddev:
                let fits = "\(scaled) BETWEEN \(1 - ExactArithmetic.squareBound) AND \(ExactArithmetic.squareBound - 1)"
                add(
                    "b\(column)",
                    "CASE WHEN \(scaled) IS NULL THEN 0::HUGEINT WHEN \(fits) THEN \(scaled) "
                        + "ELSE \(ExactArithmetic.poison)::HUGEINT END")
                add("q\(column)", "CASE WHEN \(fits) THEN \(scaled) * \(scaled) ELSE 0::HUGEINT END")
            default: break
            }
        }
        func list(_ form: ((name: String, value: String)) -> String) -> String { terms.map(form).joined() }
        return """
            CREATE TEMP TABLE \(names.sum(index)) AS
            SELECT entity, rank\(list { ", sum(\($0.name)) OVER running AS \($0.name)" }) FROM (
            SELECT entity, rank\(list { ", sum(\($0.name)) AS \($0.name)" }) FROM (
            SELECT entity, low AS rank\(list { ", \($0.value) AS \($0.name)" })
            FROM \(names.event) WHERE low < high\(index)
            UNION ALL SELECT e.entity, high\(index)\(list { ", -(\($0.value))" })
            FROM \(names.event) e JOIN \(names.size) z ON e.entity = z.entity WHERE low < high\(index) AND high\(index) < questions
            UNION ALL SELECT entity, rank\(list { _ in ", 0" }) FROM \(names.question)
            ) GROUP BY entity, rank)
            WINDOW running AS (PARTITION BY entity ORDER BY rank ROWS UNBOUNDED PRECEDING)
            """
    }

    /// Extremes and first events of a window for each question, through aligned pieces of the runs.
    private func pickTables(_ window: Int64, _ index: Int, _ names: Names) -> [String] {
        var terms: [(name: String, source: String, function: String)] = []
        for feature in features(over: window, [.min, .max, .first]) {
            guard let column = feature.column else { continue }
            let term: (String, String, String) =
                switch feature.function {
                case .min: ("low\(column)", "x\(column)", "min")
                case .max: ("top\(column)", "x\(column)", "max")
                default: ("first", "number", "min")
                }
            if !terms.contains(where: { $0.name == term.0 }) { terms.append(term) }
        }
        guard !terms.isEmpty else { return [] }
        let sources = Set(terms.map(\.source)).sorted().map { ", \($0)" }.joined()
        let high = "high\(index)"
        return [
            """
            CREATE TEMP TABLE \(names.node(index)) AS
            SELECT entity, level, node\(terms.map { ", \($0.function)(\($0.source)) AS \($0.name)" }.joined()) FROM (
            SELECT entity, level, unnest([CASE WHEN l & 1 = 1 THEN l END, CASE WHEN h & 1 = 1 THEN h - 1 END]) AS node\(sources)
            FROM (SELECT entity, level, (low + (1::BIGINT << level) - 1) >> level AS l, \(high)::BIGINT >> level AS h\(sources)
            FROM (SELECT entity, low::BIGINT AS low, \(high)\(sources),
            unnest(range(0, CAST(floor(log2(\(high) - low)) AS BIGINT) + 2)) AS level
            FROM \(names.event) WHERE low < \(high))) WHERE l < h) WHERE node IS NOT NULL
            GROUP BY entity, level, node
            """,
            """
            CREATE TEMP TABLE \(names.pick(index)) AS
            SELECT q.entity, q.rank\(terms.map { ", \($0.function)(n.\($0.name)) AS \($0.name)" }.joined())
            FROM (SELECT entity, rank, level FROM \(names.question), (SELECT DISTINCT level FROM \(names.node(index)))) q
            JOIN \(names.node(index)) n
            ON n.entity = q.entity AND n.level = q.level AND n.node = (q.rank::BIGINT >> q.level)
            GROUP BY q.entity, q.rank
            """,
        ]
    }

    private func resultTable(questions: String, result: String, _ names: Names) -> String {
        var joins: [String] = []
        for (index, window) in windows.enumerated() {
            if !features(over: window, [.count, .sum, .mean, .stddev]).isEmpty {
                joins.append(
                    "LEFT JOIN \(names.sum(index)) s\(index) ON s\(index).entity = n.entity AND s\(index).rank = n.rank"
                )
            }
            if !features(over: window, [.min, .max, .first]).isEmpty {
                joins.append(
                    "LEFT JOIN \(names.pick(index)) p\(index) ON p\(index).entity = n.entity AND p\(index).rank = n.rank"
                )
            }
            if !features(over: window, [.first]).isEmpty {
                joins.append(
                    "LEFT JOIN \(names.event) f\(index) ON f\(index).entity = n.entity AND f\(index).number = p\(index).first"
                )
            }
        }
        let columns = zip(plan.features, outputs).map { feature, output in
            var value = expression(feature)
            if let timeToLive = plan.timeToLive {
                value = "CASE WHEN e.happened <= n.tick - \(timeToLive) THEN NULL ELSE \(value) END"
            }
            return ", \(value) AS \(SQLText.identifier(output.column))"
        }
        return """
            CREATE TEMP TABLE \(SQLText.identifier(result)) AS SELECT t.__row\(columns.joined())
            FROM \(questions) t
            LEFT JOIN \(names.key) k ON \(keys.map { "t.\($0) = k.\($0)" }.joined(separator: " AND "))
            LEFT JOIN \(names.newest) n ON n.entity = k.entity AND n.tick = t.\(tick)
            LEFT JOIN \(names.event) e ON e.entity = n.entity AND e.number = n.number
            \(joins.joined(separator: "\n"))
            """
    }

    private func expression(_ feature: AggregationPlan.Feature) -> String {
        func typed(_ value: String) -> String { feature.type == .bool ? "CAST(\(value) AS BOOLEAN)" : value }
        guard let index = feature.window.flatMap({ window in windows.firstIndex(of: window) }),
            feature.function != .last
        else {
            let value = typed("e.x\(feature.column ?? 0)")
            guard let window = feature.window else { return value }
            return "CASE WHEN e.happened > n.tick - \(window) THEN \(value) END"
        }
        guard let column = feature.column else { return "CAST(coalesce(s\(index).n, 0) AS BIGINT)" }
        let power = "\(plan.columns[column].power)::DOUBLE"
        let (count, total) = ("s\(index).n\(column)", "s\(index).t\(column)")
        let isSum = "\(count) > 0 AND \(total) < \(ExactArithmetic.poisonThreshold)::HUGEINT"
        return switch feature.function {
        case .count: "CAST(coalesce(\(count), 0) AS BIGINT)"
        case .sum: "CASE WHEN \(isSum) THEN bottega_double(\(total)) / \(power) END"
        case .mean: "CASE WHEN \(isSum) THEN bottega_double(\(total)) / (\(power) * bottega_double(\(count))) END"
        case .stddev: "bottega_deviation(s\(index).b\(column), s\(index).q\(column), \(count), \(power))"
        case .min: typed("p\(index).low\(column)")
        case .max: typed("p\(index).top\(column)")
        case .first, .last: typed("f\(index).x\(column)")
        }
    }
}
