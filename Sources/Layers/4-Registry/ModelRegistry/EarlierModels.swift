import Definitions
public import PlatformCore
import StoragePorts

/// A model as MLflow's clients registered it before there was one registry.
public struct EarlierModel: Sendable, Codable {
    /// One of its versions.
    public struct Version: Sendable, Codable {
        let name: String
        let version: Int
        let userName_: String?
        /// Its stage in MLflow's words.
        public let stage: String
        /// What is special about it.
        public let description: String?
        /// What the client named.
        public let source: String
        /// Where its files are.
        public let artifactURI: String
        /// Its run.
        public let runID: String?
        /// A link to its run.
        public let runLink: String?
        /// The logged model that it is.
        public let modelID: String?
        /// Its tags.
        public let tags: [String: String]
        /// Its number.
        public var number: Int { version }
        /// Who made it.
        public var userName: String? { userName_ }
        enum CodingKeys: String, CodingKey {
            case name, version, stage, description, source, artifactURI, runID, runLink, modelID, tags
            case userName_ = "userName"
        }
    }
    /// Its name.
    public let name: String
    /// What it is for.
    public let description: String?
    /// Its tags.
    public let tags: [String: String]
    /// Its aliases.
    public let aliases: [String: Int]
    /// Its versions, oldest first.
    public internal(set) var versions: [Version] = []
    enum CodingKeys: String, CodingKey { case name, description, tags, aliases }
}

extension ModelVersionRegistry {
    /// Models that are still in the tables of the earlier registry.
    public func earlierModels() async throws -> [EarlierModel] {
        try await store.read { transaction in
            try transaction.query("SELECT name, document FROM mlflow_registry_model ORDER BY name").map { row in
                var model = try JSONValue.parse(row.text("document")).decoded(as: EarlierModel.self)
                model.versions = try transaction.query(
                    "SELECT document FROM mlflow_registry_version WHERE name = ? ORDER BY version", [row["name"]]
                ).map { try JSONValue.parse($0.text("document")).decoded(as: EarlierModel.Version.self) }
                return model
            }
        }
    }

    /// Removes a model that was taken over from the earlier tables.
    public func forgetEarlierModel(_ name: String) async throws {
        try await store.write { transaction in
            try transaction.execute("DELETE FROM mlflow_registry_version WHERE name = ?", [.text(name)])
            try transaction.execute("DELETE FROM mlflow_registry_model WHERE name = ?", [.text(name)])
        }
    }

    /// Puts a version that was taken over into the stage it had; a second one in production goes into the archive.
    public func adopt(_ version: ModelVersion, stage text: String) async throws {
        let now = clock.now()
        let reason = "taken over from the earlier registry; no gate was asked"
        try await store.write { transaction in
            let stage: ModelStage =
                switch text {
                case "Staging": .staging
                case "Production": .production
                case "Archived": .archived
                default: .development
                }
            guard stage != .development else { return }
            if stage == .production, let older = try Self.champion(version.model, in: transaction) {
                _ = try self.append(
                    version.model, older, from: .production, to: .archived, at: now, actor: "migration",
                    reason: reason, evidence: nil, in: transaction)
            }
            _ = try self.append(
                version.model, version.number, from: .development, to: stage, at: now, actor: "migration",
                reason: reason, evidence: nil, in: transaction)
        }
    }

    /// Checks a tag as `setTag` does.
    public static func checkTag(_ key: String, _ value: String) throws(PlatformError) {
        try RegistryLimits.check(tag: key, value)
    }
}
