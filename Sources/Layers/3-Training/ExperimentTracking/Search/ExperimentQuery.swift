import PlatformCore
import StoragePorts

/// A search over experiments as SQL.
struct ExperimentQuery {
    private(set) var query = KeysetQuery("tracking_experiment", alias: "e")

    init(filter: SearchFilter, orders: [SearchOrder], view: LifecycleView) throws(PlatformError) {
        let lifecycle = view.condition(joinedBy: "", column: "e.is_deleted")
        if !lifecycle.isEmpty { query.require(lifecycle) }
        for clause in filter.clauses { try add(clause) }
        for order in orders { try add(order) }
        if orders.isEmpty { query.order(by: "e.created_at", isAscending: false) }
        query.order(by: "e.number", isAscending: false)
    }

    private enum Field {
        case tag(String)
        case name
        case identifier
        case time(column: String)
    }

    private static func field(_ entity: String?, _ key: String) throws(PlatformError) -> Field {
        switch entity {
        case "tag", "tags": return .tag(key)
        case nil, "attribute", "attributes", "attr", "experiment":
            switch key {
            case "name": return .name
            case "experiment_id": return .identifier
            case "creation_time": return .time(column: "e.created_at")
            case "last_update_time": return .time(column: "e.updated_at")
            default: break
            }
        default: break
        }
        throw PlatformError(
            .invalidInput, "filter",
            "'\(key)' is no key of an experiment; known are name, experiment_id, creation_time, last_update_time "
                + "and tags.…")
    }

    private static let tagOwner = "v.experiment_number = e.number"

    private mutating func add(_ clause: SearchClause) throws(PlatformError) {
        switch try Self.field(clause.entity, clause.key) {
        case .tag(let key):
            try query.require(valueIn: "tracking_experiment_tag", where: Self.tagOwner, key: key, clause)
        case .name: try query.require(text: "e.name", clause)
        case .identifier:
            if case .number = clause.operand { return try query.require(number: "e.number", clause) }
            try query.require(text: "CAST(e.number AS TEXT)", clause)
        case .time(let column): try query.require(number: column, clause)
        }
    }

    private mutating func add(_ order: SearchOrder) throws(PlatformError) {
        switch try Self.field(order.entity, order.key) {
        case .tag(let key):
            query.order(
                byValueIn: "tracking_experiment_tag", where: Self.tagOwner, key: key, isAscending: order.isAscending)
        case .name: query.order(by: "e.name", isAscending: order.isAscending)
        case .identifier: query.order(by: "e.number", isAscending: order.isAscending)
        case .time(let column): query.order(by: column, isAscending: order.isAscending)
        }
    }
}
