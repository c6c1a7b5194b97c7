import ContentHashing
public import PlatformCore

/// One definition file's text with its name.
public struct DefinitionFile: Sendable, Hashable, Codable {
    /// Path as the user knows it, for messages.
    public let path: String
    /// Absolute folder it lies in: training commands run there.
    public let folder: String
    /// The YAML.
    public let text: String
    /// Makes a file.
    public init(path: String, folder: String, text: String) {
        self.path = path
        self.folder = folder
        self.text = text
    }
}

/// Everything defined, checked as a whole: every reference resolves and every type fits.
public struct DefinitionSet: Sendable, Hashable {
    /// Entities by name.
    public internal(set) var entities: [Name: EntityDefinition] = [:]
    /// Sources by name.
    public internal(set) var sources: [Name: SourceDefinition] = [:]
    /// Feature views by name.
    public internal(set) var featureViews: [Name: FeatureViewDefinition] = [:]
    /// Feature services by name.
    public internal(set) var featureServices: [Name: FeatureServiceDefinition] = [:]
    /// Training sets by name.
    public internal(set) var trainingSets: [Name: TrainingSetDefinition] = [:]
    /// Models by name.
    public internal(set) var models: [Name: ModelDefinition] = [:]
    /// Deployments by name.
    public private(set) var deployments: [Name: DeploymentDefinition] = [:]
    /// The deployment's name of each model that has one.
    private var deploymentNames: [Name: Name] = [:]
    /// Monitors by name.
    public internal(set) var monitors: [Name: MonitorDefinition] = [:]
    /// `Kind/name` to the hash of its meaning, for `plan`: a changed description is no change.
    public internal(set) var meanings: [String: ContentHash] = [:]
    /// `Kind/name` to the things it refers to, in the same form.
    public internal(set) var references: [String: [String]] = [:]

    /// `Kind/name`, `Source/name.column` or `FeatureView/name.feature` to the tags it was given: no part of the meaning.
    public internal(set) var tags: [String: [String]] = [:]

    /// An empty set.
    public init() {}

    /// What the source of a view's column says; views are only made over known sources.
    public func source(of view: FeatureViewDefinition) -> SourceDefinition {
        guard let source = sources[view.source] else { preconditionFailure("a checked view has a source") }
        return source
    }

    /// The deployment of a model: there is at most one.
    public func deployment(of model: Name) -> DeploymentDefinition? {
        deploymentNames[model].flatMap { deployments[$0] }
    }

    mutating func add(_ deployment: DeploymentDefinition) {
        deployments[deployment.name] = deployment
        deploymentNames[deployment.model] = deployment.name
    }

    /// Everything that leans on `identifier` (`Kind/name`), near and far, sorted: the blast radius of a change.
    public func dependents(of identifier: String) -> [String] { Self.dependents(of: identifier, users: users()) }

    /// For each definition, those that refer to it.
    func users() -> [String: [String]] {
        var users: [String: [String]] = [:]
        for (user, used) in references { for identifier in used { users[identifier, default: []].append(user) } }
        return users
    }

    static func dependents(of identifier: String, users: [String: [String]]) -> [String] {
        var found: Set<String> = []
        var queue = [identifier]
        while let current = queue.popLast() {
            for user in users[current] ?? [] where found.insert(user).inserted { queue.append(user) }
        }
        return found.sorted()
    }
}

/// One change that `apply` would make.
public struct DefinitionChange: Sendable, Hashable, Codable {
    /// The kinds of change.
    public enum Kind: String, Sendable, Codable {
        /// New.
        case create
        /// Another meaning.
        case change
        /// No longer defined.
        case remove
    }
    /// What happens.
    public let kind: Kind
    /// `FeatureView/carrier_delays`.
    public let identifier: String
    /// What leans on it.
    public let touches: [String]
    /// Hash of what it meant before; `nil` for a new one.
    public let before: ContentHash?
    /// Hash of what it means now; `nil` for a removed one.
    public let after: ContentHash?
    /// What a changed one says differently.
    ///
    /// Empty where only something that it leans on changed.
    public let fields: [FieldChange]
}

extension DefinitionSet {
    /// What has to change to get from `current` to this set, sorted by name.
    public func changes(from current: DefinitionSet) -> [DefinitionChange] {
        var changes: [DefinitionChange] = []
        let users = current.users()
        for (identifier, meaning) in meanings where current.meanings[identifier] != meaning {
            let before = current.meanings[identifier]
            changes.append(
                DefinitionChange(
                    kind: before == nil ? .create : .change, identifier: identifier,
                    touches: Self.dependents(of: identifier, users: users), before: before, after: meaning,
                    fields: before == nil ? [] : fieldChanges(of: identifier, from: current)))
        }
        for (identifier, meaning) in current.meanings where meanings[identifier] == nil {
            changes.append(
                DefinitionChange(
                    kind: .remove, identifier: identifier, touches: Self.dependents(of: identifier, users: users),
                    before: meaning, after: nil, fields: []))
        }
        return changes.sorted { $0.identifier < $1.identifier }
    }
}

extension DefinitionSet {
    /// Why nothing can be done with a model that is not defined.
    public func unknown(model: Name) -> PlatformError {
        let near = nearestName(to: model.text, among: models.keys.map(\.text))
        return PlatformError(
            .notFound, "model/\(model)",
            "no such model is defined" + (near.map { "; did you mean '\($0)'?" } ?? "; 'bottega apply' defines it"))
    }

    /// Why a model cannot be deployed: nothing says how.
    public func withoutDeployment(model: Name) -> PlatformError {
        guard models[model] != nil else { return unknown(model: model) }
        return PlatformError(
            .notFound, "model/\(model)",
            "no Deployment is defined for it; write one ('kind: Deployment', 'model: \(model)') and 'bottega apply' it")
    }
}
