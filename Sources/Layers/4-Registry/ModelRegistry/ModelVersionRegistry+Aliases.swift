public import PlatformCore
import StoragePorts

extension ModelVersionRegistry {
    /// Points an alias (`champion`, `best`) at a version, or at nothing.
    /// - Throws: `notFound` for an unknown version.
    public func setAlias(_ alias: Name, of model: Name, to number: Int?, actor: String) async throws {
        let now = clock.now()
        try await store.write { transaction in
            if let number, try StageTransition.stage(model, number, in: transaction) == nil {
                throw Self.unknown(model, number)
            }
            let last = try transaction.query(
                "SELECT position, time FROM model_alias_changes ORDER BY position DESC LIMIT 1"
            ).first
            try transaction.execute(
                "INSERT INTO model_alias_changes (position, model, alias, number, time, actor) "
                    + "VALUES (?, ?, ?, ?, ?, ?)",
                [
                    .integer((last?.integer("position") ?? 0) + 1), .text(model.text), .text(alias.text),
                    MetadataValue(number.map(Int64.init)),
                    MetadataValue(max(now, EventTime(milliseconds: last?.integer("time") ?? .min))), .text(actor),
                ])
        }
    }

    /// Aliases of a model and the versions they point at, now or at a moment.
    public func aliases(of model: Name, at moment: EventTime? = nil) async throws -> [Name: Int] {
        let rows = try await store.read {
            try $0.query(
                "SELECT alias, number FROM model_alias_changes WHERE model = ? AND time <= ? ORDER BY position",
                [.text(model.text), .integer(moment?.milliseconds ?? .max)])
        }
        var aliases: [Name: Int] = [:]
        for row in rows {
            if let alias = Name(row.text("alias")) { aliases[alias] = row["number"].integerValue.map { Int($0) } }
        }
        return aliases
    }
}
