import Aggregation
import Definitions
import PlatformCore
import StoragePorts

/// Questions and events, numbered.
extension FeatureSQL {
    /// Entities that are asked for, and their questions numbered by time.
    func numbering(questions: String, _ names: Names) -> [String] {
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
    func eventTable(events: String, knownBefore: EventTime?, _ names: Names) -> String {
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
        let runs = dialect == .duckdb ? runsByJoin(numbered, all, names) : runsByCount(numbered, columns, all, names)
        return dialect.create(names.event, reused: true, as: withSuccessors(runs))
    }

    /// For columns whose different values count: from which question on a newer event with the same value can be seen.
    private func withSuccessors(_ runs: String) -> String {
        let successors = plan.columns.indices.filter { plan.columns[$0].comparesValues }.map { column in
            ", coalesce(min(low) OVER (PARTITION BY entity, x\(column) ORDER BY number DESC "
                + "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), \(Int32.max)) AS y\(column)"
        }
        // One sort order for each SELECT: Flink says no more of them at once.
        return dialect == .flink
            ? successors.reduce(runs) { "SELECT r.*\($1) FROM (\($0)) r" }
            : successors.isEmpty ? runs : "SELECT r.*\(successors.joined()) FROM (\(runs)) r"
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
    /// Questions and events stand in one line, with one window for each SELECT. The number of a question is the count of those before it.
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
    func newestTable(_ names: Names) -> String {
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
}
