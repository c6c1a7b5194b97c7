public import Governance
public import ModelRegistry
public import PlatformCore

/// Entries of the audit chain as the events that MLflow's clients hear of.
public enum RegistryEvents {
    /// The event that an entry is, with its data; `nil` for an entry that MLflow has no event for.
    public static func payload(of entry: AuditEntry, in registry: ModelVersionRegistry) async throws -> (
        event: String, data: JSONValue
    )? {
        let parts = entry.record.subject.split(separator: "/").map(String.init)
        guard parts.count == 2 || parts.count == 4, parts[0] == "model", let id = Name(parts[1]) else { return nil }
        let number = parts.count == 4 ? Int(parts[3]) : nil
        guard let model = try? await registry.model(id: id) else { return nil }
        let name = JSONValue.string(model.name)
        switch (entry.record.action, number) {
        case ("model.created", nil):
            return (
                "registered_model.created",
                [
                    "name": name, "tags": .object(try await registry.tags(of: id).mapValues(JSONValue.string)),
                    "description": model.description.map(JSONValue.string) ?? .null,
                ]
            )
        case ("model.version.registered", let number?):
            let version = try await registry.version(id, number)
            let candidate = version.candidate
            return (
                "model_version.created",
                [
                    "name": name, "version": .string(String(number)),
                    "source": .string(candidate.source?.uri ?? "bottega:/\(version.subject)"),
                    "run_id": candidate.origin.runID.isEmpty ? .null : .string(candidate.origin.runID),
                    "tags": .object(candidate.tags.mapValues(JSONValue.string)),
                    "description": candidate.description.isEmpty ? .null : .string(candidate.description),
                ]
            )
        case ("model.version.tag.set", let number?):
            guard let tag = entry.record.after.objectValue?.first else { return nil }
            return (
                "model_version_tag.set",
                ["name": name, "version": .string(String(number)), "key": .string(tag.key), "value": tag.value]
            )
        case ("model.version.tag.deleted", let number?):
            guard let tag = entry.record.before.objectValue?.first else { return nil }
            return (
                "model_version_tag.deleted",
                ["name": name, "version": .string(String(number)), "key": .string(tag.key)]
            )
        case ("model.alias.set", nil):
            return (
                "model_version_alias.created",
                [
                    "name": name, "alias": entry.record.after["alias"] ?? .null,
                    "version": .string(String(entry.record.after["version"]?.integerValue ?? 0)),
                ]
            )
        case ("model.alias.deleted", nil):
            return ("model_version_alias.deleted", ["name": name, "alias": entry.record.before["alias"] ?? .null])
        default: return nil
        }
    }
}
