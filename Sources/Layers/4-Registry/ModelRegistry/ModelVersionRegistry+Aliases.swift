public import PlatformCore
import StoragePorts

extension ModelVersionRegistry {
    /// Points an alias (`champion`, `best`) at a version, or at nothing.
    /// - Throws: `notFound` for an unknown version, `invalidInput` for what is no alias.
    public func setAlias(_ alias: String, of model: Name, to number: Int?, actor: String) async throws {
        if number != nil { try RegistryLimits.check(alias: alias) }
        let now = clock.now()
        try await store.write { transaction in
            if let number, try StageTransition.stage(model, number, in: transaction) == nil {
                throw Self.unknown(model, number)
            }
            try self.setAlias(alias, of: model, to: number, at: now, actor: actor, in: transaction)
        }
        await publish(
            event(
                number == nil ? "model.alias.deleted" : "model.alias.set", "model/\(model)", now, actor,
                ["alias": .string(alias), "version": number.map { .integer(Int64($0)) } ?? .null]))
    }

    /// Aliases of a model and the versions they point at, now or at a moment.
    public func aliases(of model: Name, at moment: EventTime? = nil) async throws -> [String: Int] {
        let rows = try await store.read { transaction in
            guard let moment else {
                return try transaction.query(
                    "SELECT alias, number FROM model_aliases WHERE model_id = ?", [.text(model.text)])
            }
            return try transaction.query(
                "SELECT alias, number FROM model_alias_changes WHERE model = ? AND time <= ? ORDER BY position",
                [.text(model.text), MetadataValue(moment)])
        }
        var aliases: [String: Int] = [:]
        for row in rows { aliases[row.text("alias")] = row["number"].integerValue.map { Int($0) } }
        return aliases
    }

    /// Writes the history and what it adds up to; nothing if the alias stands there already.
    func setAlias(
        _ alias: String, of model: Name, to number: Int?, at now: EventTime, actor: String,
        in transaction: any MetadataTransaction
    ) throws {
        let before = try transaction.query(
            "SELECT number FROM model_aliases WHERE model_id = ? AND alias = ?", [.text(model.text), .text(alias)]
        ).first?["number"].integerValue
        if before == number.map(Int64.init) { return }
        let last = try transaction.query(
            "SELECT position, time FROM model_alias_changes ORDER BY position DESC LIMIT 1"
        ).first
        let time = max(now, EventTime(milliseconds: last?.integer("time") ?? .min))
        try transaction.execute(
            "INSERT INTO model_alias_changes (position, model, alias, number, time, actor) VALUES (?, ?, ?, ?, ?, ?)",
            [
                .integer((last?.integer("position") ?? 0) + 1), .text(model.text), .text(alias),
                MetadataValue(number.map(Int64.init)), MetadataValue(time), .text(actor),
            ])
        if let number {
            try transaction.execute(
                """
                INSERT INTO model_aliases (model_id, alias, number) VALUES (?, ?, ?) \
                ON CONFLICT (model_id, alias) DO UPDATE SET number = excluded.number
                """, [.text(model.text), .text(alias), .integer(Int64(number))])
        } else {
            try transaction.execute(
                "DELETE FROM model_aliases WHERE model_id = ? AND alias = ?", [.text(model.text), .text(alias)])
        }
        func value(_ number: Int64?) -> JSONValue {
            number.map { ["alias": .string(alias), "version": .integer($0)] } ?? .null
        }
        try journal.record(
            RecordedChange(
                actor: actor, action: number == nil ? "model.alias.deleted" : "model.alias.set",
                subject: "model/\(model)", before: value(before), after: value(number.map(Int64.init)), time: time),
            in: transaction)
    }
}
