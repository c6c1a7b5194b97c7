import PlatformCore
import StoragePorts

/// A search over evaluation datasets as SQL.
struct EvaluationDatasetQuery {
    private(set) var query = KeysetQuery("tracking_evaluation_dataset", alias: "d")

    /// - Parameter experiments: given, only datasets of one of these are found.
    init(experiments: [Int64]?, filter: SearchFilter, orders: [SearchOrder]) throws(PlatformError) {
        query.selection = "d.dataset_id"  // schemas and tags have megabytes
        if let experiments {
            let marks = Array(repeating: "?", count: experiments.count).joined(separator: ", ")
            query.require(
                """
                EXISTS (SELECT 1 FROM tracking_evaluation_dataset_experiment x
                WHERE x.dataset_id = d.dataset_id AND x.experiment_number IN (\(marks)))
                """, experiments.map(MetadataValue.integer))
        }
        for clause in filter.clauses { try add(clause) }
        for order in orders {
            guard let column = Self.columns[order.key], order.entity == nil, !column.hasSuffix("_by") else {
                throw PlatformError(
                    .invalidInput, "order_by",
                    "datasets are ordered by name, created_time or last_update_time, not by '\(order.key.prefix(64))'")
            }
            query.order(by: column, isAscending: order.isAscending)
        }
        if orders.isEmpty { query.order(by: "d.created_at", isAscending: false) }
        query.order(by: "d.dataset_id", isAscending: false)
    }

    private static let columns = [
        "name": "d.name", "created_time": "d.created_at", "last_update_time": "d.updated_at",
        "created_by": "d.created_by", "last_updated_by": "d.updated_by",
    ]

    private mutating func add(_ clause: SearchClause) throws(PlatformError) {
        switch clause.entity {
        case "tags", "tag":
            return try query.require(
                valueIn: "tracking_evaluation_dataset_tag", where: "v.dataset_id = d.dataset_id", key: clause.key,
                clause)
        case nil:
            guard let column = Self.columns[clause.key] else { break }
            if column.hasSuffix("_at") { return try query.require(number: column, clause) }
            return try query.require(text: column, clause)
        default: break
        }
        throw PlatformError(
            .invalidInput, "filter",
            "'\(clause.key.prefix(64))' is no key of a dataset; known are \(Self.columns.keys.sorted().joined(separator: ", ")) "
                + "and tags.…")
    }
}
