public import Definitions
import ExperimentTracking
public import ModelRegistry
public import PlatformCore

/// What gates said of a change of stage, and whether the step was taken.
public typealias StageVerdict = (gates: [GateResult], isTaken: Bool)

/// The platform's registry in the words of MLflow's clients.
///
/// Every model and version is one of ours: stages are ours and guarded by gates, history stays, deleting hides. MLflow has
/// four stages: `None` is `development`, `Staging` is `staging` or `canary`, `Production` is `production`, `Archived` is
/// `archived`. One version at most is in production: the one before goes into the archive, asked for or not.
public struct MLflowRegistry: Sendable {
    let registry: ModelVersionRegistry
    let intake:
        @Sendable (
            _ model: Name, _ source: VersionSource, _ run: String?, _ description: String?, _ tags: [String: String]
        )
            async throws -> VersionCandidate
    let climb:
        @Sendable (_ model: Name, _ version: Int, _ stage: ModelStage, _ actor: String, _ archivingOthers: Bool)
            async throws -> StageVerdict
    let isServed: @Sendable (PolicyRevision) -> Bool

    /// Speaks for `registry`.
    /// - Parameters:
    ///   - registry: the registry.
    ///   - intake: makes a candidate of a source, a run, a description and tags.
    ///   - climb: takes a version to a stage if its gates hold.
    ///   - isServed: whether a policy's deployment is defined, so that its versions answer requests.
    public init(
        registry: ModelVersionRegistry,
        intake:
            @escaping @Sendable (Name, VersionSource, String?, String?, [String: String]) async throws ->
            VersionCandidate,
        climb: @escaping @Sendable (Name, Int, ModelStage, String, Bool) async throws -> StageVerdict,
        isServed: @escaping @Sendable (PolicyRevision) -> Bool
    ) {
        self.registry = registry
        self.intake = intake
        self.climb = climb
        self.isServed = isServed
    }

    /// Adds a version.
    func createVersion(
        of name: String, source: VersionSource, runID: String?, description: String?, tags: [String: String],
        actor: String
    ) async throws -> VersionState {
        let model = try await registry.model(named: name).id
        for (key, value) in tags { try ModelVersionRegistry.checkTag(key, value) }
        let candidate = try await intake(model, source, runID, description, tags)
        let version = try await registry.register(
            model, candidate, actor: actor, reason: "registered by an MLflow client")
        return try await registry.versionState(version.number, of: name)
    }

    /// The version that an alias points at.
    func version(alias: String, of name: String) async throws -> VersionState {
        let model = try await registry.model(named: name).id
        var found = try await registry.aliases(of: model)[alias]
        // The newest version has this alias without anybody's doing, as with the reference server.
        if found == nil, alias.lowercased() == "latest" {
            found = try await registry.versions(of: model).map(\.number).max()
        }
        guard let number = found else {
            throw PlatformError(
                .invalidInput, "model/\(name)", "Registered model alias \(alias.prefix(255)) not found.")
        }
        return try await registry.versionState(number, of: name)
    }

    /// Moves a version to one of MLflow's stages, through the gates.
    /// - Throws: `MLflowError` (`PERMISSION_DENIED`) with each gate that refused.
    func setStage(
        _ text: String, ofVersion number: Int, of name: String, archivingOthers: Bool, actor: String
    ) async throws -> VersionState {
        let stage = try Self.stage(text)
        guard !archivingOthers || stage == .staging || stage == .production else {
            throw PlatformError(
                .invalidInput, "stage", "archive_existing_versions is for the stages Staging and Production alone")
        }
        let state = try await registry.versionState(number, of: name)
        if stage.mlflowText == state.stage.mlflowText { return state }
        guard stage != .development else {
            throw MLflowError(
                "PERMISSION_DENIED", 403,
                "\(state.version.subject) is in \(state.stage.rawValue); no version goes back to None. Move it to Archived."
            )
        }
        do {
            let (gates, isTaken) = try await climb(state.version.model, number, stage, actor, archivingOthers)
            guard isTaken else {
                let failed = gates.filter { !$0.passed }.map { "\($0.gate) (\($0.detail))" }
                throw MLflowError(
                    "PERMISSION_DENIED", 403,
                    "\(state.version.subject) may not enter \(stage.mlflowText): \(failed.count) of \(gates.count) gates "
                        + "failed: \(failed.joined(separator: "; "))")
            }
        } catch let error as PlatformError {
            if error.code == .conflict { throw MLflowError("RESOURCE_CONFLICT", 409, error.description) }
            throw error
        }
        return try await registry.versionState(number, of: name)
    }

    /// The newest version of each of some stages; of every stage if none is named.
    func latestVersions(of name: String, stages: [String]) async throws -> [VersionState] {
        let wanted = try stages.map { text throws(PlatformError) in try Self.stage(text).mlflowText }
        let latest = try await registry.modelState(named: name).latestByMLflowStage
        return wanted.isEmpty ? latest : latest.filter { wanted.contains($0.stage.mlflowText) }
    }

    private static func stage(_ text: String) throws(PlatformError) -> ModelStage {
        switch text.lowercased() {
        case "none": .development
        case "staging": .staging
        case "production": .production
        case "archived": .archived
        default:
            throw PlatformError(
                .invalidInput, "stage",
                "Invalid Model Version stage: \(text.prefix(64)). Value must be one of None, Staging, Production, Archived."
            )
        }
    }
}

extension ModelStage {
    /// The stage in MLflow's words.
    var mlflowText: String {
        switch self {
        case .development: "None"
        case .staging, .canary: "Staging"
        case .production: "Production"
        case .archived: "Archived"
        }
    }
}

extension ModelState {
    /// The newest version of each of MLflow's stages.
    var latestByMLflowStage: [VersionState] {
        var latest: [String: VersionState] = [:]
        for state in self.latest { latest[state.stage.mlflowText] = state }
        return latest.values.sorted { $0.version.number < $1.version.number }
    }
}
