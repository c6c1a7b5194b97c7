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
    func eventTable(events: String, knownBefore: EventTime?, _ names: Names) -> String {
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
                case .list: preconditionFailure("a source's column is no list")
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
        let made = """
            SELECT e.entity, number, happened, l.rank AS low\(highs.joined())\
            \(plan.columns.indices.map { ", x\($0)" }.joined())\(scaled.map { ", " + $0 }.joined())
            FROM (\(numbered)) e JOIN \(names.size) z ON e.entity = z.entity
            ASOF JOIN \(names.question) l ON e.entity = l.entity AND e.seen <= l.tick
            \(joins.joined(separator: "\n"))
            """
        // From which question on a newer event with the same value can be seen.
        let overtaken = plan.columns.indices.filter { plan.columns[$0].needsCodes }.map { column in
            ", min(low) OVER (PARTITION BY entity, x\(column) ORDER BY number DESC "
                + "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS y\(column)"
        }
        return overtaken.isEmpty
            ? "CREATE TEMP TABLE \(names.event) AS \(made)"
            : "CREATE TEMP TABLE \(names.event) AS SELECT *\(overtaken.joined()) FROM (\(made))"
    }

    /// For each question, the number of the newest visible event.
    func newestTable(_ names: Names) -> String {
        """
        CREATE TEMP TABLE \(names.newest) AS SELECT q.entity, q.rank, q.tick,
        max(m.number) OVER (PARTITION BY q.entity ORDER BY q.rank ROWS UNBOUNDED PRECEDING) AS number
        FROM \(names.question) q LEFT JOIN (
        SELECT entity, low, max(number) AS number FROM \(names.event) GROUP BY entity, low) m
        ON q.entity = m.entity AND q.rank = m.low
        """
    }
}
