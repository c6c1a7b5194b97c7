import PlatformCore
import StoragePorts

/// A search over runs as SQL.
struct RunQuery {
    private(set) var joins = ""
    private(set) var conditions: [String] = []
    private(set) var order: [String] = []
    private var joinArguments: [MetadataValue] = []
    private var conditionArguments: [MetadataValue] = []

    /// Arguments in the order of their `?` in `sql`.
    var arguments: [MetadataValue] { joinArguments + conditionArguments }

    /// The query for rows of `tracking_run`; `LIMIT ? OFFSET ?` is left to the caller.
    var sql: String {
        "SELECT r.* FROM tracking_run r \(joins) WHERE \(conditions.joined(separator: " AND ")) "
            + "ORDER BY \(order.joined(separator: ", "))"
    }

    init(
        experiments: [Int64], filter: SearchFilter, orders: [SearchOrder], view: LifecycleView
    ) throws(PlatformError) {
        let marks = Array(repeating: "?", count: experiments.count).joined(separator: ", ")
        conditions = ["r.experiment_number IN (\(marks))"]
        conditionArguments = experiments.map(MetadataValue.integer)
        let lifecycle = view.condition(joinedBy: "", column: "r.is_deleted")
        if !lifecycle.isEmpty { conditions.append(lifecycle) }
        for clause in filter.clauses { try add(clause) }
        for (index, sortKey) in orders.enumerated() { try add(sortKey, index) }
        if !orders.contains(where: { $0.entity == nil && ["start_time", "created"].contains($0.key.lowercased()) }) {
            order.append("r.started_at DESC")
        }
        order.append("r.run_id")
    }

    private enum Field {
        case metric(String)
        /// A table of keys and values.
        case table(String, key: String)
        case text(column: String)
        case time(column: String)
        case dataset(column: String)
    }

    private static func field(entity: String?, key: String) throws(PlatformError) -> Field {
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
                    .invalidInput, "filter", "'\(key)' is no key of a dataset; known are name, digest, context")
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
                    .invalidInput, "filter",
                    "'\(key)' is no attribute of a run; known are run_id, run_name, status, "
                        + "user_id, artifact_uri, start_time, end_time; write metrics.…, params.… or tags.… for others")
            }
        default:
            throw PlatformError(
                .invalidInput, "filter",
                "'\(entity ?? "")' is not known; write attributes, metrics, params, tags or datasets before the dot")
        }
    }

    private mutating func add(_ clause: SearchClause) throws(PlatformError) {
        switch try Self.field(entity: clause.entity, key: clause.key) {
        case .metric(let key):
            let base = "SELECT 1 FROM tracking_metric_latest m WHERE m.run_number = r.number AND m.key = ?"
            if try addNullCheck(clause, base, key) { return }
            guard case .number(let number) = clause.operand, clause.comparison.isOrdering || clause.isEquality else {
                throw PlatformError(.invalidInput, "filter", "metrics.\(key) is compared with a bare number")
            }
            let test = "m.is_nan = 0 AND m.value \(clause.comparison.sql) ?"
            conditions.append(
                "EXISTS (\(base) AND \(clause.comparison == .notEqual ? "(m.is_nan = 1 OR \(test))" : test))")
            conditionArguments += [.text(key), .real(number)]
        case .table(let table, let key):
            let base = "SELECT 1 FROM \(table) t WHERE t.run_number = r.number AND t.key = ?"
            if try addNullCheck(clause, base, key) { return }
            let (test, arguments) = try Self.textTest("t.value", clause)
            conditions.append("EXISTS (\(base) AND \(test))")
            conditionArguments += [.text(key)] + arguments
        case .dataset(let column):
            let (test, arguments) = try Self.textTest(column, clause)
            conditions.append(
                "EXISTS (SELECT 1 FROM tracking_run_dataset i JOIN tracking_dataset d ON d.number = i.dataset_number "
                    + "WHERE i.run_number = r.number AND \(test))")
            conditionArguments += arguments
        case .text(let column):
            let (test, arguments) = try Self.textTest(column, clause)
            conditions.append(test)
            conditionArguments += arguments
        case .time(let column):
            guard case .number(let number) = clause.operand, clause.comparison.isOrdering || clause.isEquality else {
                throw PlatformError(
                    .invalidInput, "filter", "\(clause.key) is compared with a bare number of milliseconds")
            }
            conditions.append("\(column) \(clause.comparison.sql) ?")
            conditionArguments.append(.real(number))
        }
    }

    private mutating func addNullCheck(_ clause: SearchClause, _ base: String, _ key: String) throws(PlatformError)
        -> Bool
    {
        guard clause.comparison == .isNull || clause.comparison == .isNotNull else { return false }
        conditions.append("\(clause.comparison == .isNull ? "NOT " : "")EXISTS (\(base))")
        conditionArguments.append(.text(key))
        return true
    }

    private static func textTest(
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

    private mutating func add(_ sortKey: SearchOrder, _ index: Int) throws(PlatformError) {
        let direction = sortKey.isAscending ? "ASC" : "DESC"
        let column: String
        switch try Self.field(entity: sortKey.entity, key: sortKey.key) {
        case .metric(let key):
            joins +=
                "LEFT JOIN tracking_metric_latest o\(index) ON o\(index).run_number = r.number AND o\(index).key = ? "
            joinArguments.append(.text(key))
            order.append("CASE WHEN o\(index).value IS NULL THEN 2 WHEN o\(index).is_nan = 1 THEN 1 ELSE 0 END")
            column = "o\(index).value"
        case .table(let table, let key):
            joins += "LEFT JOIN \(table) o\(index) ON o\(index).run_number = r.number AND o\(index).key = ? "
            joinArguments.append(.text(key))
            order.append("CASE WHEN o\(index).value IS NULL THEN 1 ELSE 0 END")
            column = "o\(index).value"
        case .text(let name): column = name
        case .time(let name):
            order.append("CASE WHEN \(name) IS NULL THEN 1 ELSE 0 END")
            column = name
        case .dataset: throw PlatformError(.invalidInput, "order_by", "runs cannot be ordered by their datasets")
        }
        order.append("\(column) \(direction)")
    }
}

extension SearchClause {
    var isEquality: Bool { comparison == .equal || comparison == .notEqual }
}

extension SearchComparison {
    fileprivate var sql: String { self == .notEqual ? "<>" : rawValue }
}
