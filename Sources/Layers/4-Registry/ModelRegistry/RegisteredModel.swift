public import Definitions
public import PlatformCore
import StoragePorts

/// A model as the registry knows it: a name for people over an identity that never changes.
public struct RegisteredModel: Sendable, Hashable {
    /// Its identity: what versions, deployments and definitions name; stays when the name changes.
    public let id: Name
    /// Its name, unique among models that are not deleted.
    public let name: String
    /// When it was made.
    public let createdAt: EventTime
    /// Who made it.
    public let createdBy: String
    /// When it changed last.
    public let updatedAt: EventTime
    /// What it is for; `nil` if nobody said.
    public let description: String?

    /// The model from its row.
    init(row: MetadataRow) throws {
        guard let id = Name(row.text("model_id")) else {
            throw PlatformError(.corrupted, "models", "the stored model '\(row.text("model_id"))' cannot be read")
        }
        self.id = id
        name = row.text("name")
        createdAt = EventTime(milliseconds: row.integer("created_at"))
        createdBy = row.text("created_by")
        updatedAt = EventTime(milliseconds: row.integer("updated_at"))
        description = row["description"].textValue
    }
}

/// A version with what is true of it now: its stage, its tags, the names that point at it.
public struct VersionState: Sendable, Hashable {
    /// What was registered.
    public let version: ModelVersion
    /// Name of its model.
    public let modelName: String
    /// Its stage.
    public let stage: ModelStage
    /// When it changed last.
    public let updatedAt: EventTime
    /// What is special about it, as it reads now.
    public let description: String?
    /// Semantic version, `1.3.2`; `nil` without one.
    public let label: String?
    /// Its tags.
    public let tags: [String: String]
    /// Aliases that point at it, sorted.
    public let aliases: [String]
}

/// One line of a model's history that is neither a stage nor an alias nor traffic: names, descriptions, tags, labels.
public struct ModelChange: Sendable, Hashable {
    /// Place among all changes.
    public let position: Int64
    /// The version; 0 for the model itself.
    public let number: Int
    /// What was done, `tag.set`.
    public let kind: String
    /// The tag's key; `nil` for other kinds.
    public let key: String?
    /// How it was.
    public let before: String?
    /// How it is.
    public let after: String?
    /// When.
    public let time: EventTime
    /// Who.
    public let actor: String
}
