public import ExperimentTracking
public import PlatformCore

/// A registered model as MLflow's clients see it.
public struct RegisteredModelRecord: Sendable, Hashable {
    /// Its unique name.
    public let name: String
    /// When it was made.
    public let createdAt: EventTime
    /// When it changed last.
    public let updatedAt: EventTime
    /// What it is for.
    public let description: String?
    /// Its tags.
    public let tags: [TrackedTag]
    /// Names that point at versions.
    public let aliases: [ModelAlias]
    /// The newest version of each stage.
    public let latestVersions: [ModelVersionRecord]

    /// Makes a record.
    public init(
        name: String, createdAt: EventTime, updatedAt: EventTime, description: String?, tags: [TrackedTag],
        aliases: [ModelAlias], latestVersions: [ModelVersionRecord]
    ) {
        self.name = name
        self.createdAt = createdAt
        self.updatedAt = updatedAt
        self.description = description
        self.tags = tags
        self.aliases = aliases
        self.latestVersions = latestVersions
    }
}

/// A name that points at one version of a model.
public struct ModelAlias: Sendable, Hashable {
    /// The name, `champion`.
    public let alias: String
    /// The version's number.
    public let version: Int
    /// Makes one.
    public init(alias: String, version: Int) {
        self.alias = alias
        self.version = version
    }
}

/// A version of a registered model as MLflow's clients see it.
public struct ModelVersionRecord: Sendable, Hashable {
    /// The model's name.
    public let name: String
    /// Its number, from 1.
    public let version: Int
    /// When it was made.
    public let createdAt: EventTime
    /// When it changed last.
    public let updatedAt: EventTime
    /// Who made it.
    public let userName: String?
    /// `None`, `Staging`, `Production` or `Archived`.
    public let stage: String
    /// What is special about it.
    public let description: String?
    /// What the client registered, `models:/m-…` or an artifact URI.
    public let source: String
    /// Where its files are, `mlflow-artifacts:/…`.
    public let artifactURI: String
    /// The run that gave it.
    public let runID: String?
    /// A link to that run.
    public let runLink: String?
    /// The logged model that it is.
    public let modelID: String?
    /// Its tags.
    public let tags: [TrackedTag]
    /// Names that point at it.
    public let aliases: [String]

    /// Makes a record.
    public init(
        name: String, version: Int, createdAt: EventTime, updatedAt: EventTime, userName: String?, stage: String,
        description: String?, source: String, artifactURI: String, runID: String?, runLink: String?, modelID: String?,
        tags: [TrackedTag], aliases: [String]
    ) {
        self.name = name
        self.version = version
        self.createdAt = createdAt
        self.updatedAt = updatedAt
        self.userName = userName
        self.stage = stage
        self.description = description
        self.source = source
        self.artifactURI = artifactURI
        self.runID = runID
        self.runLink = runLink
        self.modelID = modelID
        self.tags = tags
        self.aliases = aliases
    }
}

/// What a client asks to register.
public struct ModelVersionRequest: Sendable, Hashable {
    /// What the client named, `models:/m-…` or an artifact URI.
    public let source: String
    /// Where the files are.
    public let artifactURI: String
    /// The run that gave it.
    public let runID: String?
    /// A link to that run.
    public let runLink: String?
    /// The logged model that it is.
    public let modelID: String?
    /// What is special about it.
    public let description: String?
    /// Tags.
    public let tags: [TrackedTag]
    /// Who asks.
    public let userName: String?

    /// Makes a request.
    public init(
        source: String, artifactURI: String, runID: String? = nil, runLink: String? = nil, modelID: String? = nil,
        description: String? = nil, tags: [TrackedTag] = [], userName: String? = nil
    ) {
        self.source = source
        self.artifactURI = artifactURI
        self.runID = runID
        self.runLink = runLink
        self.modelID = modelID
        self.description = description
        self.tags = tags
        self.userName = userName
    }
}

/// The registry behind MLflow's calls about registered models and their versions.
///
/// Failures are `PlatformError`s: `notFound`, `conflict` for a taken name, `refused` where a gate says no,
/// `invalidInput`. Setting a tag or alias again overwrites it; removing one that is not there does nothing.
public protocol MLflowRegistryBackend: Sendable {
    /// Makes a model without versions.
    func createModel(_ name: String, description: String?, tags: [TrackedTag]) async throws -> RegisteredModelRecord
    /// A model.
    func model(_ name: String) async throws -> RegisteredModelRecord
    /// Gives a model another name.
    func renameModel(_ name: String, to newName: String) async throws -> RegisteredModelRecord
    /// Changes a model's description.
    func updateModel(_ name: String, description: String?) async throws -> RegisteredModelRecord
    /// Removes a model and its versions.
    func deleteModel(_ name: String) async throws
    /// Models that pass a filter, by name unless `orders` says otherwise.
    func searchModels(
        filter: SearchFilter, orders: [SearchOrder], offset: Int, countMax: Int
    ) async throws -> TrackedPage<RegisteredModelRecord>
    /// Adds a version.
    func createVersion(of name: String, _ request: ModelVersionRequest) async throws -> ModelVersionRecord
    /// A version.
    func version(_ version: Int, of name: String) async throws -> ModelVersionRecord
    /// The version that an alias points at.
    func version(alias: String, of name: String) async throws -> ModelVersionRecord
    /// Changes a version's description.
    func updateVersion(_ version: Int, of name: String, description: String?) async throws -> ModelVersionRecord
    /// Moves a version to a stage; with `archivingOthers` those that are there move to `Archived`.
    func setStage(
        _ stage: String, ofVersion version: Int, of name: String, archivingOthers: Bool
    ) async throws -> ModelVersionRecord
    /// Removes a version; its number is not given again.
    func deleteVersion(_ version: Int, of name: String) async throws
    /// Versions that pass a filter, newest first unless `orders` says otherwise.
    func searchVersions(
        filter: SearchFilter, orders: [SearchOrder], offset: Int, countMax: Int
    ) async throws -> TrackedPage<ModelVersionRecord>
    /// The newest version of each of some stages; of every stage if none is named.
    func latestVersions(of name: String, stages: [String]) async throws -> [ModelVersionRecord]
    /// Sets a tag of a model, or of a version of it.
    func setTag(_ tag: TrackedTag, of name: String, version: Int?) async throws
    /// Removes a tag of a model, or of a version of it.
    func deleteTag(_ key: String, of name: String, version: Int?) async throws
    /// Points an alias at a version.
    func setAlias(_ alias: String, of name: String, version: Int) async throws
    /// Removes an alias.
    func deleteAlias(_ alias: String, of name: String) async throws
}
