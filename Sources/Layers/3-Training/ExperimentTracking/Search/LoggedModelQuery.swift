import PlatformCore
import StoragePorts

/// A dataset on which metrics of a logged model were measured.
public struct LoggedModelDataset: Sendable, Hashable {
    /// Its name.
    public let name: String
    /// Its digest; `nil` for any.
    public let digest: String?

    /// Names a dataset.
    public init(name: String, digest: String?) {
        self.name = name
        self.digest = digest
    }
}

/// One sort key of a search over logged models.
public struct LoggedModelOrder: Sendable, Hashable {
    /// The key and its direction.
    public let order: SearchOrder
    /// Counts only metrics measured on a dataset of this name.
    public let datasetName: String?
    /// Counts only metrics measured on a dataset of this digest.
    public let datasetDigest: String?

    /// Makes a sort key.
    public init(_ order: SearchOrder, datasetName: String? = nil, datasetDigest: String? = nil) {
        self.order = order
        self.datasetName = datasetName
        self.datasetDigest = datasetDigest
    }
}

/// A search over logged models as SQL, page by page in the order of its keys.
struct LoggedModelQuery {
    typealias Fragment = RunQuery.Fragment

    private var conditions: [Fragment] = []
    /// Expressions of the order, each under the name `place` and its position.
    private var columns: [Fragment] = []
    private var terms: [RunQuery.Term] = []
    private let datasets: [LoggedModelDataset]

    var termCount: Int { terms.count }

    init(
        experiments: [Int64], filter: SearchFilter, datasets: [LoggedModelDataset], orders: [LoggedModelOrder]
    ) throws(PlatformError) {
        self.datasets = datasets
        let marks = Array(repeating: "?", count: experiments.count).joined(separator: ", ")
        conditions = [
            Fragment(
                sql: experiments.count == 1 ? "m.experiment_number = ?" : "m.experiment_number IN (\(marks))",
                arguments: experiments.map(MetadataValue.integer)),
            Fragment(sql: "m.is_deleted = 0", arguments: []),
        ]
        for clause in filter.clauses { try add(clause) }
        for order in orders { try add(order) }
        add("m.created_at", isAscending: false)
        add("m.model_id", isAscending: false)
    }

    /// Rows of one page.
    func rows(
        behind place: [MetadataValue]?, countMax: Int, _ transaction: any MetadataTransaction
    ) throws -> [MetadataRow] {
        let behind = place.map { RunQuery.behind($0, terms) }
        let order = terms.map { "\($0.sql) \($0.isAscending ? "ASC" : "DESC")" }.joined(separator: ", ")
        return try transaction.query(
            """
            SELECT * FROM (SELECT m.*, \(columns.map(\.sql).joined(separator: ", ")) FROM tracking_logged_model m
            WHERE \(conditions.map(\.sql).joined(separator: " AND "))) found
            \(behind.map { "WHERE \($0.sql)" } ?? "") ORDER BY \(order) LIMIT \(countMax)
            """, columns.flatMap(\.arguments) + conditions.flatMap(\.arguments) + (behind?.arguments ?? []))
    }

    /// Where a row stands in the order.
    func place(of row: MetadataRow) -> [MetadataValue] { terms.indices.map { row["place\($0)"] } }

    // MARK: Fields

    private enum Field {
        case metric(String)
        case table(String, key: String)
        case text(column: String)
        case status
        case number(column: String)
    }

    private static func field(_ entity: String?, _ key: String) throws(PlatformError) -> Field {
        switch (entity, key) {
        case ("metrics", _), ("metric", _): return .metric(key)
        case ("params", _), ("param", _): return .table("tracking_logged_model_param", key: key)
        case ("tags", _), ("tag", _): return .table("tracking_logged_model_tag", key: key)
        case (nil, _), ("attributes", _), ("attribute", _):
            switch key {
            case "name", "model_id", "model_type", "source_run_id": return .text(column: "m.\(key)")
            case "status": return .status
            case "experiment_id": return .text(column: "CAST(m.experiment_number AS TEXT)")
            case "creation_timestamp", "creation_time", "creation_timestamp_ms": return .number(column: "m.created_at")
            case "last_updated_timestamp", "last_updated_time", "last_updated_timestamp_ms":
                return .number(column: "m.updated_at")
            default: break
            }
        default: break
        }
        throw PlatformError(
            .invalidInput, "filter",
            "'\(key)' is no key of a logged model; known are name, model_id, model_type, "
                + "status, source_run_id, creation_timestamp, last_updated_timestamp, metrics.…, params.…, tags.…")
    }

    // MARK: Clauses

    private mutating func add(_ clause: SearchClause) throws(PlatformError) {
        let isNullCheck = clause.comparison == .isNull || clause.comparison == .isNotNull
        let negation = clause.comparison == .isNull ? "NOT " : ""
        switch try Self.field(clause.entity, clause.key) {
        case .metric(let key):
            let counted = counted
            var test = Fragment(sql: "", arguments: [])
            if !isNullCheck {
                let (number, comparison) = try Self.number(clause)
                test.sql =
                    clause.comparison == .notEqual
                    ? "AND (t.is_nan = 1 OR t.value <> ?)" : "AND t.is_nan = 0 AND t.value \(comparison) ?"
                test.arguments = [.real(number)]
            }
            conditions.append(
                Fragment(
                    sql: """
                        \(negation)EXISTS (SELECT 1 FROM tracking_logged_model_metric t WHERE t.model_id = m.model_id
                        AND t.key = ? \(test.sql) \(counted.sql))
                        """, arguments: [.text(key)] + test.arguments + counted.arguments))
        case .table(let table, let key):
            let (test, arguments) = isNullCheck ? ("1 = 1", []) : try RunQuery.textTest("t.value", clause)
            conditions.append(
                Fragment(
                    sql: "\(negation)EXISTS (SELECT 1 FROM \(table) t WHERE t.model_id = m.model_id AND t.key = ? "
                        + "AND \(test))", arguments: [.text(key)] + arguments))
        case .text(let column): try add(column, clause)
        case .status:
            // Clients write READY as well as LOGGED_MODEL_READY.
            let isShort =
                if case .text(let text) = clause.operand { !text.hasPrefix("LOGGED_MODEL_") } else { false }
            try add(isShort ? "substr(m.status, 14)" : "m.status", clause)
        case .number(let column):
            if isNullCheck {
                return conditions.append(Fragment(sql: "\(column) \(clause.comparison.sql)", arguments: []))
            }
            let (number, comparison) = try Self.number(clause)
            conditions.append(Fragment(sql: "\(column) \(comparison) ?", arguments: [.real(number)]))
        }
    }

    private mutating func add(_ column: String, _ clause: SearchClause) throws(PlatformError) {
        if clause.comparison == .isNull || clause.comparison == .isNotNull {
            return conditions.append(Fragment(sql: "\(column) \(clause.comparison.sql)", arguments: []))
        }
        let (test, arguments) = try RunQuery.textTest(column, clause)
        conditions.append(Fragment(sql: test, arguments: arguments))
    }

    /// Which metrics count for the filter.
    private var counted: Fragment {
        if datasets.isEmpty { return Fragment(sql: "", arguments: []) }
        let alternatives = datasets.map { dataset in
            dataset.digest == nil ? "t.dataset_name = ?" : "(t.dataset_name = ? AND t.dataset_digest = ?)"
        }
        return Fragment(
            sql: "AND (\(alternatives.joined(separator: " OR ")))",
            arguments: datasets.flatMap { [MetadataValue.text($0.name)] + ($0.digest.map { [.text($0)] } ?? []) })
    }

    private static func number(_ clause: SearchClause) throws(PlatformError) -> (Double, comparison: String) {
        guard case .number(let number) = clause.operand, clause.comparison.isOrdering || clause.isEquality else {
            throw PlatformError(.invalidInput, "filter", "'\(clause.key)' is compared with a bare number")
        }
        return (number, clause.comparison.sql)
    }

    // MARK: Order

    /// Ranks keep NaN behind numbers and nothing behind NaN, whatever the direction.
    private mutating func add(_ order: LoggedModelOrder) throws(PlatformError) {
        let isAscending = order.order.isAscending
        switch try Self.field(order.order.entity, order.order.key) {
        case .metric(let key):
            var from = Fragment(
                sql: "FROM tracking_logged_model_metric t WHERE t.model_id = m.model_id AND t.key = ?",
                arguments: [.text(key)])
            for (column, value) in [("name", order.datasetName), ("digest", order.datasetDigest)] {
                guard let value else { continue }
                from.sql += " AND t.dataset_\(column) = ?"
                from.arguments.append(.text(value))
            }
            from.sql += " ORDER BY t.measured_at DESC, t.step DESC, t.run_id DESC LIMIT 1"
            add("COALESCE((SELECT t.is_nan \(from.sql)), 2)", from.arguments, isAscending: true)
            add("(SELECT t.value \(from.sql))", from.arguments, isAscending: isAscending)
        case .table(let table, let key):
            let from = "FROM \(table) t WHERE t.model_id = m.model_id AND t.key = ?"
            add("CASE WHEN EXISTS (SELECT 1 \(from)) THEN 0 ELSE 1 END", [.text(key)], isAscending: true)
            add("(SELECT t.value \(from))", [.text(key)], isAscending: isAscending)
        case .text(let column):
            add("CASE WHEN \(column) IS NULL THEN 1 ELSE 0 END", isAscending: true)
            add(column, isAscending: isAscending)
        case .status: add("m.status", isAscending: isAscending)
        case .number(let column): add(column, isAscending: isAscending)
        }
    }

    private mutating func add(_ sql: String, _ arguments: [MetadataValue] = [], isAscending: Bool) {
        columns.append(Fragment(sql: "\(sql) AS place\(terms.count)", arguments: arguments))
        terms.append(RunQuery.Term(sql: "found.place\(terms.count)", isAscending: isAscending))
    }
}
