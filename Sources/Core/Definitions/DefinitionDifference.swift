import PlatformCore

/// One thing that a changed definition says differently.
public struct FieldChange: Sendable, Hashable, Codable {
    /// Where, in the words of the definition: `features.mean_24h.window`.
    public let path: String
    /// What it said; `nil` if it is new.
    public let old: String?
    /// What it says; `nil` if it is gone.
    public let new: String?

    /// Makes a change.
    public init(path: String, old: String?, new: String?) {
        self.path = path
        self.old = old
        self.new = new
    }
}

extension DefinitionSet {
    /// The definition called `Kind/name`.
    func definition(_ identifier: String) -> Any? {
        let parts = identifier.split(separator: "/", maxSplits: 1)
        guard parts.count == 2, let name = Name(parts[1]) else { return nil }
        switch parts[0] {
        case "Entity": return entities[name]
        case "Source": return sources[name]
        case "FeatureView": return featureViews[name]
        case "FeatureService": return featureServices[name]
        case "TrainingSet": return trainingSets[name]
        case "Model": return models[name]
        case "Deployment": return deployments[name]
        case "Monitor": return monitors[name]
        default: return nil
        }
    }

    /// The team that owns `Kind/name`: that of its model for what has no owner of its own; empty if nobody is named.
    public func owner(of identifier: String) -> String {
        guard let definition = definition(identifier) else { return "" }
        switch definition {
        case let deployment as DeploymentDefinition: return models[deployment.model]?.owner ?? ""
        case let monitor as MonitorDefinition: return models[monitor.model]?.owner ?? ""
        default:
            return Mirror(reflecting: definition).children.first { $0.label == "owner" }?.value as? String ?? ""
        }
    }

    /// What `Kind/name` says differently from `before`; empty if one of the sets does not have it.
    public func fieldChanges(of identifier: String, from before: DefinitionSet) -> [FieldChange] {
        guard let old = before.definition(identifier), let new = definition(identifier) else { return [] }
        let changes = DefinitionDifference.changes(old, new, at: "")
        guard old is DeploymentDefinition else { return changes }
        return changes.map { change in
            FieldChange(path: DefinitionDifference.place(ofDeployment: change.path), old: change.old, new: change.new)
        }
    }
}

/// Compares two definitions field by field, whatever their kind.
package enum DefinitionDifference {
    /// What says who or for whom, and what follows from the rest.
    private static let silent: Set<String> = ["description", "owner", "version", "joinKeys", "unit", "contract"]

    /// Where the fields of a deployment are written, where that is not where they are kept.
    private static let deploymentPlaces = [
        "shadow_at_least": "rollout.shadow.at_least", "shadow_pairs_min": "rollout.shadow.pairs_min",
        "rollout.shadow_share": "rollout.shadow.share", "canary": "rollout.canary",
        "prediction_psi_max": "guardrails.prediction_psi_max", "error_rate_max": "guardrails.error_rate_max",
        "latency_p99_milliseconds_max": "guardrails.latency_p99_max (ms)",
        "rollout.disagreement_max": "guardrails.disagreement_max",
        "rollout.mean_difference_max": "guardrails.mean_difference_max",
        "rollout.sample_ratio_alpha": "guardrails.sample_ratio_alpha", "rollout.salt": "salt",
        "rollout.holdout": "holdout", "stream_source": "stream.source",
    ]

    static func place(ofDeployment path: String) -> String {
        if path.hasPrefix("promise.") { return String(path.dropFirst("promise.".count)) }
        return deploymentPlaces[path] ?? path
    }

    /// Whether two values are equal in all they hold; what cannot be compared is not.
    private static func isEqual(_ old: Any, _ new: Any) -> Bool {
        func compare<Value: Equatable>(_ old: Value) -> Bool { (new as? Value) == old }
        return (old as? any Equatable).map { compare($0) } ?? false
    }

    static func changes(_ old: Any, _ new: Any, at path: String) -> [FieldChange] {
        // Words are made of what differs alone: most of two large definitions is equal.
        if isEqual(old, new) { return [] }
        let (left, right) = (Mirror(reflecting: old), Mirror(reflecting: new))
        if left.displayStyle == .struct, right.displayStyle == .struct, isRecord(left), isRecord(right) {
            var changes: [FieldChange] = []
            let values = Dictionary(right.children.map { ($0.label ?? "", $0.value) }, uniquingKeysWith: { $1 })
            for child in left.children {
                guard let label = child.label, !silent.contains(label), let value = values[label] else { continue }
                changes += self.changes(child.value, value, at: path.isEmpty ? word(label) : "\(path).\(word(label))")
            }
            return changes
        }
        if let old = named(left), let new = named(right) {
            var changes: [FieldChange] = []
            for (name, value) in old {
                guard let other = new.first(where: { $0.name == name })?.value else {
                    changes.append(FieldChange(path: "\(path).\(name)", old: text(value), new: nil))
                    continue
                }
                changes += self.changes(value, other, at: "\(path).\(name)")
            }
            for (name, value) in new where !old.contains(where: { $0.name == name }) {
                changes.append(FieldChange(path: "\(path).\(name)", old: nil, new: text(value)))
            }
            if changes.isEmpty, old.map(\.name) != new.map(\.name) {
                changes.append(
                    FieldChange(
                        path: "\(path) (order)", old: old.map(\.name).joined(separator: ", "),
                        new: new.map(\.name).joined(separator: ", ")))
            }
            return changes
        }
        let (before, after) = (text(old), text(new))
        return before == after ? [] : [FieldChange(path: path, old: before, new: after)]
    }

    /// Whether a struct's fields are worth comparing one by one: it says more than one thing.
    private static func isRecord(_ mirror: Mirror) -> Bool {
        !(mirror.subjectType is any CustomStringConvertible.Type) && mirror.children.count > 1
    }

    /// The elements of a list whose elements have names, or of a dictionary.
    private static func named(_ mirror: Mirror) -> [(name: String, value: Any)]? {
        switch mirror.displayStyle {
        case .collection:
            var elements: [(name: String, value: Any)] = []
            for child in mirror.children {
                if let served = child.value as? ServedFeature {
                    elements.append((served.servedName, child.value))
                } else if let name = Mirror(reflecting: child.value).children.first(where: { $0.label == "name" }) {
                    elements.append((text(name.value), child.value))
                } else {
                    return nil
                }
            }
            return elements
        case .dictionary:
            return mirror.children.map { child in
                let pair = Array(Mirror(reflecting: child.value).children)
                return (text(pair[0].value), pair[1].value)
            }.sorted { $0.name < $1.name }
        default: return nil
        }
    }

    /// A value in the words of a definition.
    package static func text(_ value: Any) -> String {
        let mirror = Mirror(reflecting: value)
        switch mirror.displayStyle {
        case .optional: return mirror.children.first.map { text($0.value) } ?? "–"
        case .collection, .set:
            return "[" + mirror.children.map { text($0.value) }.joined(separator: ", ") + "]"
        case .dictionary:
            return "{" + (named(mirror) ?? []).map { "\($0.name): \(text($0.value))" }.joined(separator: ", ") + "}"
        case .enum:
            if let raw = (value as? any RawRepresentable)?.rawValue as? String { return raw }
            guard let child = mirror.children.first else { return word("\(value)") }
            return "\(word(child.label ?? ""))(\(fields(Mirror(reflecting: child.value), or: child.value)))"
        case .struct:
            if let served = value as? ServedFeature { return served.servedName }
            if mirror.subjectType is any CustomStringConvertible.Type { return String(describing: value) }
            return fields(mirror, or: value)
        default: return String(describing: value)
        }
    }

    private static func fields(_ mirror: Mirror, or value: Any) -> String {
        guard mirror.displayStyle == .struct || mirror.displayStyle == .tuple else { return text(value) }
        return mirror.children.compactMap { child -> String? in
            let label = child.label ?? ""
            let text = text(child.value)
            guard !silent.contains(label), label != "name", text != "–", text != "[]" else { return nil }
            return label.isEmpty || label.hasPrefix(".") ? text : "\(word(label)) \(text)"
        }.joined(separator: ", ")
    }

    /// `timeToLive` as `time_to_live`, `predictionPSIMax` as `prediction_psi_max`.
    private static func word(_ label: String) -> String {
        if label == "timeToLive" { return "ttl" }
        let letters = Array(label.utf8)
        var word: [UInt8] = []
        word.reserveCapacity(letters.count + 4)
        var isAfterCapital = true
        for (place, byte) in letters.enumerated() {
            let isCapital = 65...90 ~= byte
            let isBeforeSmall = place + 1 < letters.count && 97...122 ~= letters[place + 1]
            if isCapital, place > 0, !isAfterCapital || isBeforeSmall { word.append(0x5F) }
            word.append(isCapital ? byte | 0x20 : byte)
            isAfterCapital = isCapital
        }
        return String(decoding: word, as: UTF8.self)
    }
}
