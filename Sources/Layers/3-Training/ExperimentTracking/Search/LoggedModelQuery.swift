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

    private(set) var query = KeysetQuery("tracking_logged_model", alias: "m")
    private let datasets: [LoggedModelDataset]

    init(
        experiments: [Int64], filter: SearchFilter, datasets: [LoggedModelDataset], orders: [LoggedModelOrder]
    ) throws(PlatformError) {
        self.datasets = datasets
        query.require(numbers: "m.experiment_number", experiments)
        query.require("m.is_deleted = 0")
        for clause in filter.clauses { try add(clause) }
        for order in orders { try add(order) }
        query.order(by: "m.created_at", isAscending: false)
        query.order(by: "m.model_id", isAscending: false)
    }

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
        switch try Self.field(clause.entity, clause.key) {
        case .metric(let key):
            let counted = counted
            var test = Fragment(sql: "", arguments: [])
            if !clause.isNullCheck {
                let (number, comparison) = try clause.number()
                test.sql =
                    clause.comparison == .notEqual
                    ? "AND (t.is_nan = 1 OR t.value <> ?)" : "AND t.is_nan = 0 AND t.value \(comparison) ?"
                test.arguments = [.real(number)]
            }
            query.require(
                """
                \(clause.comparison == .isNull ? "NOT " : "")EXISTS (SELECT 1 FROM tracking_logged_model_metric t
                WHERE t.model_id = m.model_id AND t.key = ? \(test.sql) \(counted.sql))
                """, [.text(key)] + test.arguments + counted.arguments)
        case .table(let table, let key):
            try query.require(valueIn: table, where: "v.model_id = m.model_id", key: key, clause)
        case .text(let column): try query.require(text: column, clause)
        case .status:
            // Clients write READY as well as LOGGED_MODEL_READY.
            let isShort =
                if case .text(let text) = clause.operand { !text.hasPrefix("LOGGED_MODEL_") } else { false }
            try query.require(text: isShort ? "substr(m.status, 14)" : "m.status", clause)
        case .number(let column): try query.require(number: column, clause)
        }
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
            query.order(by: "COALESCE((SELECT t.is_nan \(from.sql)), 2)", from.arguments, isAscending: true)
            query.order(by: "(SELECT t.value \(from.sql))", from.arguments, isAscending: isAscending)
        case .table(let table, let key):
            query.order(byValueIn: table, where: "v.model_id = m.model_id", key: key, isAscending: isAscending)
        case .text(let column): query.order(byOptional: column, isAscending: isAscending)
        case .status: query.order(by: "m.status", isAscending: isAscending)
        case .number(let column): query.order(by: column, isAscending: isAscending)
        }
    }
}
