import PlatformCore
import StoragePorts

/// A search over runs as SQL.
///
/// Filters become `EXISTS` over the tables of values, each answered by one look at a primary key. Which table the search
/// begins with is measured, not guessed: each clause that an index can answer is counted up to a limit, and the search
/// starts with the rarest of them, or walks in the order that is wanted when none is rare. Pages begin behind the last
/// row of the page before, so a later page costs no more than the first.
struct RunQuery {
    /// A condition and its arguments.
    struct Fragment {
        /// In conditions on what a run has, `@run` stands for the run's number.
        var sql: String
        var arguments: [MetadataValue]

        /// The condition on the run whose number an expression gives.
        func of(run expression: String) -> Fragment {
            Fragment(sql: sql.replacing("@run", with: expression), arguments: arguments)
        }
    }
    /// A condition that an index can enumerate: rows of a table of values.
    struct Driver {
        let table: String
        /// Conditions over the table's columns, with the alias `v`.
        let condition: Fragment
        /// Whether it asks for one value.
        let isEquality: Bool
        /// Which of the clauses it stands for.
        let clause: Int
    }
    /// A comparison of a metric's value with a number.
    struct MetricTest {
        let key: String
        let comparison: String
        let number: Double
    }
    /// One part of the order; ranks keep NaN behind numbers and nothing behind NaN, whatever the direction.
    struct Term {
        let sql: String
        let isAscending: Bool
        /// Of the join that the expression needs.
        var join: Fragment?
    }

    private(set) var base: [Fragment] = []
    private(set) var clauses: [Fragment] = []
    private(set) var drivers: [Driver] = []
    /// Which clauses compare a metric with a number so that neither NaN nor its absence passes.
    private(set) var metricTests: [Int: MetricTest] = [:]
    private(set) var terms: [Term] = []
    /// The metric that the order is by, if it is by one metric alone.
    private(set) var walkedMetric: (key: String, isAscending: Bool)?
    /// Whether an index gives the wanted order.
    private(set) var isWalkable = false

    init(
        experiments: [Int64], filter: SearchFilter, orders: [SearchOrder], view: LifecycleView
    ) throws(PlatformError) {
        if experiments.count == 1 {
            base.append(Fragment(sql: "r.experiment_number = ?", arguments: [.integer(experiments[0])]))
        } else {
            let marks = Array(repeating: "?", count: experiments.count).joined(separator: ", ")
            base.append(
                Fragment(sql: "r.experiment_number IN (\(marks))", arguments: experiments.map(MetadataValue.integer)))
        }
        let lifecycle = view.condition(joinedBy: "", column: "r.is_deleted")
        if !lifecycle.isEmpty { base.append(Fragment(sql: lifecycle, arguments: [])) }
        for clause in filter.clauses { try add(clause) }
        var named: Set<SearchOrder> = []
        for (index, order) in orders.enumerated() {
            let key = SearchOrder(entity: order.entity, key: order.key, isAscending: true)
            guard named.insert(key).inserted else {
                throw PlatformError(.invalidInput, "order_by", "`order_by` contains duplicate fields: '\(order.key)'")
            }
            try add(order, index)
        }
        if orders.count == 1, case .metric(let key) = try Self.field(entity: orders[0].entity, key: orders[0].key) {
            walkedMetric = (key, orders[0].isAscending)
        }
        isWalkable = walkedMetric != nil || orders.isEmpty && experiments.count == 1
        if !terms.contains(where: { $0.sql == "r.started_at" }) {
            terms.append(Term(sql: "r.started_at", isAscending: false))
        }
        if !terms.contains(where: { $0.sql == "r.run_id" }) { terms.append(Term(sql: "r.run_id", isAscending: true)) }
    }

    // MARK: Fields

    private enum Field {
        case metric(String)
        /// A table of keys and values.
        case table(String, key: String)
        case text(column: String)
        case time(column: String)
        case dataset(column: String)
    }

    /// - Parameter place: what of the search an error is about.
    private static func field(
        entity: String?, key: String, in place: String = "filter"
    ) throws(PlatformError) -> Field {
        switch entity {
        case "metric", "metrics": return .metric(key)
        case "param", "params", "parameter", "parameters": return .table("tracking_param", key: key)
        case "tag", "tags": return .table("tracking_run_tag", key: key)
        case "dataset", "datasets":
            switch key {
            case "name", "digest": return .dataset(column: "d.\(key)")
            case "context": return .dataset(column: "i.context")
            default:
                throw PlatformError(
                    .invalidInput, place, "'\(key)' is no key of a dataset; known are name, digest, context")
            }
        case nil, "attribute", "attributes", "attr", "run":
            switch key.lowercased() {
            case "run_id": return .text(column: "r.run_id")
            case "run_name", "run name": return .text(column: "r.name")
            case "status": return .text(column: "r.status")
            case "user_id", "user": return .text(column: "r.user_name")
            case "artifact_uri": return .text(column: "r.artifact_uri")
            case "start_time", "created", "start time": return .time(column: "r.started_at")
            case "end_time", "end time": return .time(column: "r.ended_at")
            default:
                throw PlatformError(
                    .invalidInput, place,
                    "'\(key)' is no attribute of a run; known are run_id, run_name, status, "
                        + "user_id, artifact_uri, start_time, end_time; write metrics.…, params.… or tags.… for others")
            }
        default:
            throw PlatformError(
                .invalidInput, place,
                "'\(entity ?? "")' is not known; write attributes, metrics, params, tags or datasets before the dot")
        }
    }

    // MARK: Clauses

    private mutating func add(_ clause: SearchClause) throws(PlatformError) {
        switch try Self.field(entity: clause.entity, key: clause.key) {
        case .metric(let key):
            if addNullCheck(clause, "tracking_metric_latest", key) { return }
            guard case .number(let number) = clause.operand, clause.comparison.isOrdering || clause.isEquality else {
                throw PlatformError(.invalidInput, "filter", "metrics.\(key) is compared with a bare number")
            }
            let comparison = clause.comparison.sql
            func test(_ alias: String) -> String {
                let plain = "\(alias).is_nan = 0 AND \(alias).value \(comparison) ?"
                return clause.comparison == .notEqual ? "(\(alias).is_nan = 1 OR \(plain))" : plain
            }
            add("tracking_metric_latest", test, [.text(key), .real(number)])
            if clause.comparison == .notEqual { return }
            metricTests[clauses.count - 1] = MetricTest(key: key, comparison: comparison, number: number)
            drivers.append(
                Driver(
                    table: "tracking_metric_latest",
                    condition: Fragment(
                        sql: "v.key = ? AND \(test("v"))", arguments: [.text(key), .real(number)]),
                    isEquality: clause.comparison == .equal, clause: clauses.count - 1))
        case .table(let table, let key):
            if addNullCheck(clause, table, key) { return }
            let (test, arguments) = try Self.textTest("t.value", clause)
            add(table, { _ in test }, [.text(key)] + arguments)
            guard clause.comparison == .equal, let value = arguments.first else { return }
            drivers.append(
                Driver(
                    table: table,
                    condition: Self.equality(key, value),
                    isEquality: true, clause: clauses.count - 1))
        case .dataset(let column):
            let (test, arguments) = try Self.textTest(column, clause)
            clauses.append(
                Fragment(
                    sql: """
                        EXISTS (SELECT 1 FROM tracking_run_dataset i
                        JOIN tracking_dataset d ON d.number = i.dataset_number
                        WHERE i.run_number = @run AND \(test))
                        """, arguments: arguments))
        case .text(let column):
            let (test, arguments) = try Self.textTest(column, clause)
            clauses.append(Fragment(sql: test, arguments: arguments))
        case .time(let column):
            guard case .number(let number) = clause.operand, clause.comparison.isOrdering || clause.isEquality else {
                throw PlatformError(
                    .invalidInput, "filter", "\(clause.key) is compared with a bare number of milliseconds")
            }
            clauses.append(Fragment(sql: "\(column) \(clause.comparison.sql) ?", arguments: [.real(number)]))
        }
    }

    /// What an index over keys and values answers; there is one for short values and one for the beginnings of long ones.
    private static func equality(_ key: String, _ value: MetadataValue) -> Fragment {
        // No `value = ?`: SQLite would put the constant into `length` and `substr` and miss the index then.
        let isShort = value.textValue.map { $0.unicodeScalars.count <= 64 } ?? true
        return Fragment(
            sql: "v.key = ? AND v.value BETWEEN ? AND ? AND length(v.value) "
                + (isShort ? "<= 64" : "> 64 AND substr(v.value, 1, 64) = substr(?, 1, 64)"),
            arguments: [.text(key), value, value] + (isShort ? [] : [value]))
    }

    /// A condition on a run's value in a table; the first argument is the key.
    private mutating func add(
        _ table: String, _ test: (_ alias: String) -> String, _ arguments: [MetadataValue]
    ) {
        clauses.append(
            Fragment(
                sql: "EXISTS (SELECT 1 FROM \(table) t WHERE t.run_number = @run AND t.key = ? AND \(test("t")))",
                arguments: arguments))
    }

    private mutating func addNullCheck(_ clause: SearchClause, _ table: String, _ key: String) -> Bool {
        guard clause.comparison == .isNull || clause.comparison == .isNotNull else { return false }
        clauses.append(
            Fragment(
                sql: "\(clause.comparison == .isNull ? "NOT " : "")EXISTS "
                    + "(SELECT 1 FROM \(table) t WHERE t.run_number = @run AND t.key = ?)",
                arguments: [.text(key)]))
        return true
    }

    static func textTest(
        _ column: String, _ clause: SearchClause
    ) throws(PlatformError) -> (sql: String, arguments: [MetadataValue]) {
        switch (clause.comparison, clause.operand) {
        case (.equal, .text(let text)), (.notEqual, .text(let text)), (.like, .text(let text)):
            return ("\(column) \(clause.comparison.sql) ?", [.text(text)])
        case (.ilike, .text(let text)): return ("lower(\(column)) LIKE lower(?)", [.text(text)])
        case (.isIn, .texts(let texts)), (.isNotIn, .texts(let texts)):
            guard texts.count <= 10_000 else {
                throw PlatformError(.invalidInput, "filter", "a list has \(texts.count) values, 10000 are accepted")
            }
            let marks = Array(repeating: "?", count: texts.count).joined(separator: ", ")
            return ("\(column) \(clause.comparison.sql) (\(marks))", texts.map(MetadataValue.text))
        default:
            throw PlatformError(
                .invalidInput, "filter",
                "'\(clause.key)' holds text: compare it by =, !=, LIKE or ILIKE with a value in quotes")
        }
    }

    // MARK: Order

    private mutating func add(_ order: SearchOrder, _ index: Int) throws(PlatformError) {
        let alias = "o\(index)"
        func join(_ table: String, _ key: String) -> Fragment {
            Fragment(
                sql: "LEFT JOIN \(table) \(alias) ON \(alias).run_number = r.number AND \(alias).key = ?",
                arguments: [.text(key)])
        }
        switch try Self.field(entity: order.entity, key: order.key, in: "order_by") {
        case .metric(let key):
            terms.append(
                Term(
                    sql: "CASE WHEN \(alias).value IS NULL THEN 2 WHEN \(alias).is_nan = 1 THEN 1 ELSE 0 END",
                    isAscending: true, join: join("tracking_metric_latest", key)))
            terms.append(Term(sql: "\(alias).value", isAscending: order.isAscending))
        case .table(let table, let key):
            terms.append(
                Term(
                    sql: "CASE WHEN \(alias).value IS NULL THEN 1 ELSE 0 END", isAscending: true,
                    join: join(table, key)))
            terms.append(Term(sql: "\(alias).value", isAscending: order.isAscending))
        case .text(let name): terms.append(Term(sql: name, isAscending: order.isAscending))
        case .time(let name):
            if name == "r.ended_at" {
                terms.append(Term(sql: "CASE WHEN \(name) IS NULL THEN 1 ELSE 0 END", isAscending: true))
            }
            terms.append(Term(sql: name, isAscending: order.isAscending))
        case .dataset: throw PlatformError(.invalidInput, "order_by", "runs cannot be ordered by their datasets")
        }
    }
}

extension SearchClause {
    var isEquality: Bool { comparison == .equal || comparison == .notEqual }
}

extension SearchComparison {
    var sql: String { self == .notEqual ? "<>" : rawValue }
}
