import ExperimentTracking
import ModelRegistry
import PlatformCore

extension ModelState {
    var wire: JSONValue {
        let latest = latestByMLflowStage
        return object([
            "name": .string(model.name), "creation_timestamp": .time(model.createdAt),
            "last_updated_timestamp": .time(model.updatedAt),
            "description": .text(model.description.flatMap { $0.isEmpty ? nil : $0 }),
            "tags": .pairs(tags), "latest_versions": latest.isEmpty ? Optional.none : .array(latest.map(\.wire)),
            "aliases": .array(
                aliases.sorted { $0.key < $1.key }.map {
                    ["alias": .string($0.key), "version": .string(String($0.value))]
                }),
        ])
    }
}

extension VersionState {
    var wire: JSONValue {
        let candidate = version.candidate
        return object([
            "name": .string(modelName), "version": .string(String(version.number)),
            "creation_timestamp": .time(version.createdAt), "last_updated_timestamp": .time(updatedAt),
            "user_id": .string(version.createdBy), "current_stage": .string(stage.mlflowText),
            "description": .string(description ?? ""),
            "source": .string(candidate.source?.uri ?? "bottega:/\(version.subject)"),
            "run_id": .string(candidate.origin.runID), "status": "READY",
            "run_link": .string(candidate.source?.runLink ?? ""),
            "model_id": .text(candidate.source?.loggedModel), "tags": .pairs(tags),
            "aliases": .array(aliases.map(JSONValue.string)),
        ])
    }
}

extension JSONValue {
    fileprivate static func pairs(_ tags: [String: String]) -> JSONValue {
        .array(tags.sorted { $0.key < $1.key }.map { ["key": .string($0.key), "value": .string($0.value)] })
    }
}

extension [String: String] {
    /// Tags as a dictionary; of two with the same key the later one counts.
    init(tags: [TrackedTag]) { self.init(tags.map { ($0.key, $0.value) }, uniquingKeysWith: { $1 }) }
}
