import Aggregation
public import Definitions
import Expressions
public import PlatformCore
import StoragePorts

/// Compiles the features of one view into statements of one SQL dialect that answer a table of questions.
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

    /// The engine's language.
    public let dialect: SQLDialect
    private let plan: AggregationPlan
    private let source: SourceDefinition
    private let outputs: [Output]
    /// Distinct windows, rising.
    private let windows: [Int64]

    /// Compiles a view of a checked set.
    ///
    /// - Parameters:
    ///   - outputs: what to compute; `nil` for every feature under its own name.
    ///   - dialect: the engine's language.
    /// - Throws: `invalidInput` with feature, function and engine for what the dialect cannot say.
    public init(
        view: FeatureViewDefinition, source: SourceDefinition, outputs: [Output]? = nil, dialect: SQLDialect = .duckdb
    ) throws(PlatformError) {
        let outputs = outputs ?? view.features.map { Output(feature: $0.name, column: $0.name) }
        let positions = outputs.map { output in
            guard let position = view.features.firstIndex(where: { $0.name == output.feature }) else {
                preconditionFailure("the view has the feature '\(output.feature)'")
            }
            return position
        }
        plan = AggregationPlan(view: view, source: source).selecting(positions)
        for derived in view.derivedColumns where !derived.expression.supports(dialect) {
            throw PlatformError(
                .invalidInput, "\(view.name)/\(derived.name)",
                "\(dialect.title) has no local names, and without them the expression's SQL would be too long; use it in DuckDB or Spark"
            )
        }
        for feature in plan.features { try dialect.check(feature.function, of: "\(view.name)/\(feature.name)") }
        self.dialect = dialect
        self.source = source
        self.outputs = outputs
        windows = Set(plan.features.filter { $0.function != .last }.compactMap(\.window)).sorted()
    }

    // MARK: Shared pieces

    /// A column as the text of a key part, as `CellValue.keyText` writes it; NULL where the text cannot be a key.
    public static func keyText(_ column: ColumnDefinition, _ dialect: SQLDialect = .duckdb) -> String {
        let name = dialect.identifier(column.name)
        let value = column.type == .timestamp ? dialect.milliseconds(name) : name
        let text = "CAST(\(value) AS \(dialect.text))"
        return column.type == .string ? "CASE WHEN \(dialect.isKey(text)) THEN \(text) END" : text
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
        let names = Names(prefix: result, dialect: dialect)
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
        return (out + dialect.drop(made)).map(dialect.finished)
    }

    private struct Names {
        let prefix: String
        let dialect: SQLDialect
        private func quoted(_ suffix: String) -> String { dialect.identifier("\(prefix)_\(suffix)") }
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
    private var keys: [String] { plan.view.joinKeys.map(dialect.identifier) }

    /// Entities that are asked for, and their questions numbered by time.
    private func numbering(questions: String, _ names: Names) -> [String] {
        let list = keys.joined(separator: ", ")
        let isWhole = keys.map { "\($0) IS NOT NULL" }.joined(separator: " AND ")
        // Distributed engines must not count all entities on one worker, nor differently when they compute again.
        let entity =
            dialect == .duckdb ? "CAST(row_number() OVER () AS INTEGER)" : dialect.entity(keys)
        return [
            dialect.create(
                names.key, reused: true,
                as: """
                    SELECT \(list), \(entity) AS entity
                    FROM (SELECT DISTINCT \(list) FROM \(questions) WHERE \(isWhole)) q
                    """),
            dialect.create(
                names.question, reused: true,
                as: """
                    SELECT entity, tick,
                    CAST(row_number() OVER (PARTITION BY entity ORDER BY tick) - 1 AS INTEGER) AS rank
                    FROM (SELECT DISTINCT entity, \(tick) AS tick FROM \(questions) q JOIN \(names.key) k USING (\(list))) q
                    """),
            dialect.create(
                names.size,
                as: "SELECT entity, CAST(count(*) AS INTEGER) AS questions FROM \(names.question) GROUP BY entity"),
        ]
    }

    /// Events of asked entities, numbered by the tie rule, with the run of questions that each window gives them.
    private func eventTable(events: String, knownBefore: EventTime?, _ names: Names) -> String {
        let wanted = Set(plan.columns.map(\.name))
        let events = DerivedColumnSQL.table(events, view: plan.view, source: source, wanted: wanted, dialect)
        let keyColumns = plan.view.joinKeys.map { key in
            guard let column = source.column(key) else {
                preconditionFailure("a view's keys are columns of its source")
            }
            return Self.keyText(column, dialect)
        }
        let cells = plan.columns.enumerated().map { "\(dialect.cell($1)) AS x\($0)" }
        let scaled = plan.columns.enumerated().filter { $0.element.needsSum || $0.element.needsSquares }
            .map { "\(dialect.scaled("x\($0.offset)", of: $0.element)) AS s\($0.offset)" }
        var conditions: [String] = []
        if let knownBefore { conditions.append("__ingest_time < \(knownBefore.milliseconds)") }
        if let lateness = plan.lateness { conditions.append("__ingest_time - __event_time <= \(lateness)") }
        let limit = conditions.isEmpty ? "" : " WHERE " + conditions.joined(separator: " AND ")
        let inner =
            "SELECT \((zip(keyColumns, keys).map { "\($0) AS \($1)" } + cells).joined(separator: ", ")), "
            + "__event_time, __ingest_time, __sequence FROM \(events)\(limit)"
        let columns = plan.columns.indices.map { ", x\($0)" }.joined()
        let numbered = """
            SELECT entity, CAST(row_number() OVER (PARTITION BY entity ORDER BY __event_time, __ingest_time, __sequence)
            AS INTEGER) AS number, __event_time AS happened, greatest(__event_time, __ingest_time) AS seen\(columns)
            FROM (\(inner)) v JOIN \(names.key) k USING (\(keys.joined(separator: ", ")))
            """
        let all = columns + scaled.map { ", " + $0 }.joined()
        return dialect.create(
            names.event, reused: true,
            as: dialect == .duckdb ? runsByJoin(numbered, all, names) : runsByCount(numbered, columns, all, names))
    }

    /// The run of questions of each event, where the engine can join with the next row.
    private func runsByJoin(_ numbered: String, _ all: String, _ names: Names) -> String {
        var highs: [String] = []
        var joins: [String] = []
        for (index, window) in windows.enumerated() {
            highs.append(", coalesce(h\(index).rank, questions) AS high\(index)")
            joins.append(
                "ASOF LEFT JOIN \(names.question) h\(index) "
                    + "ON e.entity = h\(index).entity AND e.happened + \(window) <= h\(index).tick")
        }
        return """
            SELECT e.entity, number, happened, l.rank AS low\(highs.joined())\(all)
            FROM (\(numbered)) e JOIN \(names.size) z ON e.entity = z.entity
            ASOF JOIN \(names.question) l ON e.entity = l.entity AND e.seen <= l.tick
            \(joins.joined(separator: "\n"))
            """
    }

    /// The run of questions of each event by counting the questions before a moment.
    ///
    /// Questions and events stand in one line, with one window for each SELECT. The number of a question is the count of those
    /// before it.
    private func runsByCount(_ numbered: String, _ columns: String, _ all: String, _ names: Names) -> String {
        let bounds =
            [("low", "seen")] + windows.enumerated().map { ("high\($0.offset)", "happened + \($0.element)") }
        let empty = plan.columns.enumerated().map { index, column in
            ", CAST(NULL AS \(dialect.cellType(column.type))) AS x\(index)"
        }
        var line = """
            SELECT entity, number, happened, 0 AS asked\(bounds.map { ", \($0.1) AS at_\($0.0)" }.joined())\(columns)
            FROM (\(numbered)) e
            UNION ALL SELECT entity, CAST(NULL AS INTEGER), CAST(NULL AS BIGINT), 1\
            \(bounds.map { _ in ", tick" }.joined())\(empty.joined()) FROM \(names.question)
            """
        var made = ""
        for (index, bound) in bounds.enumerated() {
            let waiting = bounds[(index + 1)...].map { ", at_\($0.0)" }.joined()
            line = """
                SELECT entity, number, happened, asked\(made)\(waiting)\(columns), CAST(sum(asked) OVER (PARTITION BY entity
                ORDER BY at_\(bound.0), asked ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS INTEGER) AS \(bound.0)
                FROM (\(line)) b\(index)
                """
            made += ", \(bound.0)"
        }
        return """
            SELECT e.entity, number, happened\(made)\(all) FROM (\(line)) e
            JOIN \(names.size) z ON e.entity = z.entity WHERE asked = 0 AND low < questions
            """
    }

    /// For each question, the number of the newest visible event.
    private func newestTable(_ names: Names) -> String {
        dialect.create(
            names.newest,
            as: """
                SELECT q.entity, q.rank, q.tick, max(m.number) OVER (PARTITION BY q.entity ORDER BY q.rank
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS number
                FROM \(names.question) q LEFT JOIN (
                SELECT entity, low, max(number) AS number FROM \(names.event) GROUP BY entity, low) m
                ON q.entity = m.entity AND q.rank = m.low
                """)
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
            case .sum, .mean: add("t\(column)", "coalesce(\(scaled), \(dialect.wide(0)))")
            case .stddev:
                let (fits, zero) = (dialect.hasSquare(scaled), dialect.wide(0))
                add(
                    "b\(column)",
                    "CASE WHEN \(scaled) IS NULL THEN \(zero) WHEN \(fits) THEN \(scaled) "
                        + "ELSE \(dialect.wide(ExactArithmetic.poison)) END")
                add("q\(column)", "CASE WHEN \(fits) THEN \(scaled) * \(scaled) ELSE \(zero) END")
            default: break
            }
        }
        func list(_ form: ((name: String, value: String)) -> String) -> String { terms.map(form).joined() }
        let running = "(PARTITION BY entity ORDER BY rank ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
        return dialect.create(
            names.sum(index),
            as: """
                SELECT entity, rank\(list { ", sum(\($0.name)) OVER \(running) AS \($0.name)" }) FROM (
                SELECT entity, rank\(list { ", sum(\($0.name)) AS \($0.name)" }) FROM (
                SELECT entity, low AS rank\(list { ", \($0.value) AS \($0.name)" })
                FROM \(names.event) WHERE low < high\(index)
                UNION ALL SELECT e.entity, high\(index)\(list { ", -(\($0.value))" })
                FROM \(names.event) e JOIN \(names.size) z ON e.entity = z.entity
                WHERE low < high\(index) AND high\(index) < questions
                UNION ALL SELECT entity, rank\(list { _ in ", 0" }) FROM \(names.question)
                ) m GROUP BY entity, rank) g
                """)
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
        let highest = "CAST(floor(log2(\(high) - low)) AS INTEGER) + 1"
        // One row for each power of two that a piece of the run may have, `level` as its exponent.
        let levels =
            switch dialect {
            case .duckdb:
                "SELECT entity, low, \(high)\(sources), unnest(range(0, \(highest) + 1)) AS level FROM \(names.event) "
                    + "WHERE low < \(high)"
            case .spark:
                "SELECT entity, low, \(high)\(sources), explode(sequence(0, \(highest))) AS level FROM \(names.event) "
                    + "WHERE low < \(high)"
            case .flink:
                "SELECT entity, low, \(high)\(sources), level FROM \(names.event), "
                    + "(VALUES \((0...32).map { "(\($0))" }.joined(separator: ", "))) AS v(level) "
                    + "WHERE low < \(high) AND level <= CAST(FLOOR(LOG2(\(high) - low)) AS INTEGER) + 1"
            }
        let first = dialect.shiftedRight("low + (\(dialect.powerOfTwo("level"))) - 1", by: "level")
        let ends = """
            SELECT entity, level, \(first) AS l, \(dialect.shiftedRight(high, by: "level")) AS h\(sources) FROM (\(levels)) v
            """
        return [
            dialect.create(
                names.node(index), reused: true,
                as: """
                    SELECT entity, level, node\(terms.map { ", \($0.function)(\($0.source)) AS \($0.name)" }.joined()) FROM (
                    SELECT entity, level, CASE WHEN side = 0 THEN CASE WHEN \(dialect.isOdd("l")) THEN l END
                    ELSE CASE WHEN \(dialect.isOdd("h")) THEN h - 1 END END AS node\(sources)
                    FROM (\(ends)) r, (VALUES (0), (1)) AS s(side) WHERE l < h) p WHERE node IS NOT NULL
                    GROUP BY entity, level, node
                    """),
            dialect.create(
                names.pick(index),
                as: """
                    SELECT q.entity, q.rank\(terms.map { ", \($0.function)(n.\($0.name)) AS \($0.name)" }.joined())
                    FROM (SELECT entity, rank, level FROM \(names.question),
                    (SELECT DISTINCT level FROM \(names.node(index))) v) q
                    JOIN \(names.node(index)) n
                    ON n.entity = q.entity AND n.level = q.level AND n.node = \(dialect.shiftedRight("q.rank", by: "q.level"))
                    GROUP BY q.entity, q.rank
                    """),
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
            return ", \(value) AS \(dialect.identifier(output.column))"
        }
        return dialect.create(
            dialect.identifier(result),
            as: """
                SELECT t.__row\(columns.joined())
                FROM \(questions) t
                LEFT JOIN \(names.key) k ON \(keys.map { "t.\($0) = k.\($0)" }.joined(separator: " AND "))
                LEFT JOIN \(names.newest) n ON n.entity = k.entity AND n.tick = t.\(tick)
                LEFT JOIN \(names.event) e ON e.entity = n.entity AND e.number = n.number
                \(joins.joined(separator: "\n"))
                """)
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
        let power = dialect.real(plan.columns[column].power)
        let (count, total) = ("s\(index).n\(column)", "s\(index).t\(column)")
        let isSum = "\(count) > 0 AND \(total) < \(dialect.wide(ExactArithmetic.poisonThreshold))"
        return switch feature.function {
        case .count: "CAST(coalesce(\(count), 0) AS BIGINT)"
        case .sum: "CASE WHEN \(isSum) THEN \(dialect.double(total)) / \(power) END"
        case .mean: "CASE WHEN \(isSum) THEN \(dialect.double(total)) / (\(power) * \(dialect.double(count))) END"
        case .stddev: dialect.deviation("s\(index).b\(column)", "s\(index).q\(column)", count, power)
        case .min: typed("p\(index).low\(column)")
        case .max: typed("p\(index).top\(column)")
        case .first, .last: typed("f\(index).x\(column)")
        }
    }
}
