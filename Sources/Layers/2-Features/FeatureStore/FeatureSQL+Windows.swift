import Aggregation
import Definitions
import PlatformCore
import StoragePorts

/// What each window holds at each question.
extension FeatureSQL {
    /// Functions whose values are running totals.
    static let totals: Set<AggregateFunction> = [.count, .sum, .mean, .stddev, .distinctCount]

    /// Counts and sums of a window for each question; `nil` if no feature needs any.
    func sumTable(_ window: Int64, _ index: Int, _ names: Names) -> Step? {
        let wanted = features(over: window, Self.totals)
        guard !wanted.isEmpty else { return nil }
        // Name of the running column, what one event adds to it, and the column whose different values it counts.
        var terms: [(name: String, value: String, different: Int?)] = []
        func add(_ name: String, _ value: String, different: Int? = nil) {
            if !terms.contains(where: { $0.name == name }) { terms.append((name, value, different)) }
        }
        for feature in wanted {
            guard let column = feature.column else {
                add("n", "1")
                continue
            }
            let scaled = "s\(column)"
            switch feature.function {
            case .distinctCount:
                let isNewest = "x\(column) IS NOT NULL AND low < \(highOfNewest(column, index))"
                add("d\(column)", "CASE WHEN \(isNewest) THEN 1 ELSE 0 END", different: column)
                continue
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
            add("n\(column)", "CASE WHEN x\(column) IS NULL THEN 0 ELSE 1 END")
        }
        func list(_ form: ((name: String, value: String, different: Int?)) -> String) -> String {
            terms.map(form).joined()
        }
        // Different values leave where a newer event of the value takes over, or with their last event.
        let leaving = terms.compactMap(\.different).map { column in
            let high = highOfNewest(column, index)
            return """

                UNION ALL SELECT e.entity, \(high)\(list { $0.different == column ? ", -1" : ", 0" })
                FROM \(names.event) e JOIN \(names.size) z ON e.entity = z.entity
                WHERE x\(column) IS NOT NULL AND low < \(high) AND \(high) < questions
                """
        }
        let running = "(PARTITION BY entity ORDER BY rank ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
        return Step(
            name: names.sum(index),
            query: """
                SELECT entity, rank\(list { ", sum(\($0.name)) OVER \(running) AS \($0.name)" }) FROM (
                SELECT entity, rank\(list { ", sum(\($0.name)) AS \($0.name)" }) FROM (
                SELECT entity, low AS rank\(list { ", \($0.value) AS \($0.name)" })
                FROM \(names.event) WHERE low < high\(index)
                UNION ALL SELECT e.entity, high\(index)\(list { $0.different == nil ? ", -(\($0.value))" : ", 0" })
                FROM \(names.event) e JOIN \(names.size) z ON e.entity = z.entity
                WHERE low < high\(index) AND high\(index) < questions\
                \(leaving.joined())
                UNION ALL SELECT entity, rank\(list { _ in ", 0" }) FROM \(names.question)
                ) m GROUP BY entity, rank) g
                """)
    }

    /// Where the run of an event ends as the newest of its value.
    func highOfNewest(_ column: Int, _ index: Int) -> String { "least(high\(index), y\(column))" }

    /// One thing to find among the events that a question sees.
    struct Choice {
        enum Kind: Equatable {
            case smallest
            case largest
            /// The so many largest, largest first.
            case largestOf(Int)
        }
        let name: String
        let value: String
        let kind: Kind
        var isList: Bool { if case .largestOf = kind { true } else { false } }
    }

    /// A choice over the events of a piece.
    private func ofEvents(_ choice: Choice) -> String {
        let value =
            switch choice.kind {
            case .smallest: "min(\(choice.name))"
            case .largest: "max(\(choice.name))"
            case .largestOf(let count): dialect.largest(count, of: choice.name)
            }
        return ", \(value) AS \(choice.name)"
    }

    /// A choice over the pieces that hold a question.
    private func ofPieces(_ choice: Choice) -> String {
        let value =
            switch choice.kind {
            case .smallest: "min(n.\(choice.name))"
            case .largest: "max(n.\(choice.name))"
            case .largestOf(let count): dialect.largest(count, ofLists: "n.\(choice.name)")
            }
        return ", \(value) AS \(choice.name)"
    }

    /// Runs of questions, and what to choose among those that hold a question.
    struct Runs {
        /// Part of the tables' names.
        let suffix: String
        /// Gives `entity`, `low`, `high` and the columns that `choices` read.
        let query: String
        let choices: [Choice]
    }

    static func listName(_ feature: AggregationPlan.Feature) -> String {
        "\(feature.function == .lastN ? "last" : "newest")\(feature.column ?? 0)_\(feature.countMax)"
    }

    /// The runs of a window, by how they end.
    private func runs(_ window: Int64, _ index: Int, _ names: Names) -> [Runs] {
        var runs: [Runs] = []
        var choices: [Choice] = []
        for feature in features(over: window, [.min, .max, .first, .lastN]) + gated(over: window) {
            guard let column = feature.column else { continue }
            if let gate = feature.gate {
                let name = Self.gateName(feature)
                guard !choices.contains(where: { $0.name == name }) else { continue }
                choices.append(
                    Choice(
                        name: name, value: "CASE WHEN x\(gate) IS NOT NULL THEN number END",
                        kind: feature.function == .last ? .largest : .smallest))
                continue
            }
            let choice =
                switch feature.function {
                case .min: Choice(name: "low\(column)", value: "x\(column)", kind: .smallest)
                case .max: Choice(name: "top\(column)", value: "x\(column)", kind: .largest)
                case .first: Choice(name: "first", value: "number", kind: .smallest)
                default:
                    Choice(
                        name: Self.listName(feature), value: "CASE WHEN x\(column) IS NOT NULL THEN number END",
                        kind: .largestOf(feature.countMax))
                }
            if !choices.contains(where: { $0.name == choice.name }) { choices.append(choice) }
        }
        func query(_ choices: [Choice], high: String, condition: String) -> String {
            let values = choices.map { ", \($0.value) AS \($0.name)" }.joined()
            return "SELECT entity, low, \(high) AS high\(values) FROM \(names.event) WHERE \(condition)"
        }
        if !choices.isEmpty {
            let high = "high\(index)"
            runs.append(
                Runs(
                    suffix: "\(index)", query: query(choices, high: high, condition: "low < \(high)"), choices: choices)
            )
        }
        for column in columns(over: window, [.lastNDistinct]) {
            var choices: [Choice] = []
            for feature in features(over: window, [.lastNDistinct]) where feature.column == column {
                let name = Self.listName(feature)
                guard !choices.contains(where: { $0.name == name }) else { continue }
                choices.append(Choice(name: name, value: "number", kind: .largestOf(feature.countMax)))
            }
            let high = highOfNewest(column, index)
            runs.append(
                Runs(
                    suffix: "newest\(index)_\(column)",
                    query: query(choices, high: high, condition: "x\(column) IS NOT NULL AND low < \(high)"),
                    choices: choices))
        }
        for column in columns(over: window, [.mode]) {
            runs.append(
                Runs(
                    suffix: "mode\(index)_\(column)", query: frequencies(column, index, names),
                    choices: [Choice(name: "best", value: "best", kind: .largest)]))
        }
        return runs
    }

    /// How often each value of a column occurs, as runs of questions with the same count and newest event.
    ///
    /// Both in one number, the count above: the largest is the mode, and the lower 32 bits name an event that has it.
    private func frequencies(_ column: Int, _ index: Int, _ names: Names) -> String {
        let held = "x\(column) IS NOT NULL AND low < high\(index)"
        let running = "(PARTITION BY entity, x ORDER BY rank ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
        return """
            SELECT f.entity, rank AS low, coalesce(until, questions) AS high, best FROM (
            SELECT entity, rank, n, n * 4294967296 + newest AS best,
            lead(rank) OVER (PARTITION BY entity, x ORDER BY rank) AS until FROM (
            SELECT entity, x, rank, CAST(sum(n) OVER \(running) AS BIGINT) AS n, max(newest) OVER \(running) AS newest FROM (
            SELECT entity, x, rank, sum(n) AS n, max(newest) AS newest FROM (
            SELECT entity, x\(column) AS x, low AS rank, 1 AS n, number AS newest FROM \(names.event) WHERE \(held)
            UNION ALL SELECT entity, x\(column), high\(index), -1, CAST(NULL AS INTEGER) FROM \(names.event) WHERE \(held)
            ) m GROUP BY entity, x, rank) g) r) f
            JOIN \(names.size) z ON f.entity = z.entity WHERE n > 0 AND rank < questions
            """
    }

    /// Runs cut into aligned pieces, and for each question what the pieces that hold it say.
    func pieceTables(_ window: Int64, _ index: Int, _ names: Names) -> [Step] {
        runs(window, index, names).flatMap { runs in
            let (node, values) = (names.table("node\(runs.suffix)"), runs.choices.map { ", \($0.name)" }.joined())
            let highest = "CAST(floor(log2(high - low)) AS INTEGER) + 1"
            // One row for each power of two that a piece of the run may have, `level` as its exponent.
            let columns = "SELECT entity, low, high\(values)"
            let levels =
                switch dialect {
                case .duckdb: "\(columns), unnest(range(0, \(highest) + 1)) AS level FROM (\(runs.query)) u"
                case .spark: "\(columns), explode(sequence(0, \(highest))) AS level FROM (\(runs.query)) u"
                case .flink:
                    "\(columns), level FROM (\(runs.query)) u, "
                        + "(VALUES \((0...32).map { "(\($0))" }.joined(separator: ", "))) AS v(level) "
                        + "WHERE level <= CAST(FLOOR(LOG2(high - low)) AS INTEGER) + 1"
                }
            let first = dialect.shiftedRight("low + (\(dialect.powerOfTwo("level"))) - 1", by: "level")
            let ends = """
                SELECT entity, level, \(first) AS l, \(dialect.shiftedRight("high", by: "level")) AS h\(values) FROM (\(levels)) v
                """
            return [
                Step(
                    name: node, isReused: true,
                    query: """
                        SELECT entity, level, node\(runs.choices.map(ofEvents).joined()) FROM (
                        SELECT entity, level, CASE WHEN side = 0 THEN CASE WHEN \(dialect.isOdd("l")) THEN l END
                        ELSE CASE WHEN \(dialect.isOdd("h")) THEN h - 1 END END AS node\(values)
                        FROM (\(ends)) r, (VALUES (0), (1)) AS s(side) WHERE l < h) p WHERE node IS NOT NULL
                        GROUP BY entity, level, node
                        """),
                Step(
                    name: names.table("pick\(runs.suffix)"), isReused: runs.choices.contains { $0.isList },
                    query: """
                        SELECT q.entity, q.rank\(runs.choices.map(ofPieces).joined())
                        FROM (SELECT entity, rank, level FROM \(names.question), (SELECT DISTINCT level FROM \(node)) v) q
                        JOIN \(node) n
                        ON n.entity = q.entity AND n.level = q.level AND n.node = \(dialect.shiftedRight("q.rank", by: "q.level"))
                        GROUP BY q.entity, q.rank
                        """),
            ]
        }
    }

    /// The lists of a window: from the numbers of their events to the cells.
    func listTables(_ window: Int64, _ index: Int, _ names: Names) -> [Step] {
        var made: [Step] = []
        for feature in features(over: window, [.lastN, .lastNDistinct]) {
            guard let column = feature.column else { continue }
            let list = Self.listName(feature)
            let name = names.table("list\(index)_\(list)")
            guard !made.contains(where: { $0.name == name }) else { continue }
            let cell = plan.columns[column].type == .bool ? "CAST(e.x\(column) AS BOOLEAN)" : "e.x\(column)"
            let pick = names.table(feature.function == .lastN ? "pick\(index)" : "picknewest\(index)_\(column)")
            made.append(
                Step(
                    name: name,
                    query: """
                        SELECT p.entity, p.rank, \(dialect.list(of: cell, newestFirst: "p.number")) AS cells
                        FROM (SELECT entity, rank, \(dialect.each(list)) AS number FROM \(pick)) p
                        JOIN \(names.event) e ON e.entity = p.entity AND e.number = p.number GROUP BY p.entity, p.rank
                        """))
        }
        return made
    }
}
