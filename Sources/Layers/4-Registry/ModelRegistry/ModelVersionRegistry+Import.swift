import Definitions
public import PlatformCore
import StoragePorts

extension ModelVersionRegistry {
    /// Gives a model, or one of its versions, the times and the author that it had in another registry.
    ///
    /// The history keeps when and by whom it was made here; that person cannot approve the version either.
    /// - Throws: `notFound`; `invalidInput` for a time in the future.
    public func restate(
        _ name: String, version: Int?, createdAt: EventTime?, updatedAt: EventTime?, createdBy: String?, actor: String
    ) async throws {
        let now = clock.now()
        guard [createdAt, updatedAt].allSatisfy({ $0.map { $0.milliseconds >= 0 } ?? true }) else {
            throw PlatformError(.invalidInput, "model/\(name.prefix(100))", "a time before 1970")
        }
        try await store.write { transaction in
            let model = try Self.model(named: name, in: transaction)
            var sets: [(String, MetadataValue)] = []
            if let createdAt { sets.append(("created_at", MetadataValue(createdAt))) }
            if let updatedAt { sets.append(("updated_at", MetadataValue(updatedAt))) }
            if let createdBy { sets.append(("created_by", .text(String(createdBy.prefix(256))))) }
            guard !sets.isEmpty else { return }
            let assignments = sets.map { "\($0.0) = ?" }.joined(separator: ", ")
            let subject: String
            let before: MetadataRow
            if let version {
                before = try Self.row(model.id, version, in: transaction)
                subject = ModelVersion.subject(model.id, version)
                try transaction.execute(
                    "UPDATE model_versions SET \(assignments) WHERE model = ? AND number = ?",
                    sets.map(\.1) + [.text(model.id.text), .integer(Int64(version))])
            } else {
                guard
                    let row = try transaction.query("SELECT * FROM models WHERE model_id = ?", [.text(model.id.text)])
                        .first
                else { return }
                before = row
                subject = "model/\(model.id)"
                try transaction.execute(
                    "UPDATE models SET \(assignments) WHERE model_id = ?", sets.map(\.1) + [.text(model.id.text)])
            }
            func told(_ value: (String) -> MetadataValue) -> JSONValue {
                .object(
                    Dictionary(
                        sets.map { column, _ -> (String, JSONValue) in
                            switch value(column) {
                            case .integer(let number):
                                (column, .string(EventTime(milliseconds: number).description))
                            case .text(let text): (column, .string(text))
                            default: (column, .null)
                            }
                        }, uniquingKeysWith: { $1 }))
            }
            let after = Dictionary(sets.map { ($0.0, $0.1) }, uniquingKeysWith: { $1 })
            try journal.record(
                RecordedChange(
                    actor: actor, action: version == nil ? "model.restated" : "model.version.restated",
                    subject: subject, before: told { before[$0] }, after: told { after[$0] ?? .null }, time: now),
                in: transaction)
        }
    }
}
