public import PlatformCore

/// A named set of examples that applications are evaluated on.
public struct EvaluationDataset: Sendable, Hashable {
    /// Its identifier, `d-…`.
    public let id: String
    /// Its name; several may have the same.
    public let name: String
    /// Eight hexadecimal digits that change when records are written.
    public let digest: String
    /// The kinds of the fields of its records as JSON; `nil` before the first record.
    public let schema: String?
    /// How many records there are, as JSON; `nil` before the first record.
    public let profile: String?
    /// When it was made.
    public let createdAt: EventTime
    /// When it changed last.
    public let updatedAt: EventTime
    /// Who made it, as its tags said.
    public let createdBy: String?
    /// Who wrote records last, as their tags said.
    public let updatedBy: String?
    /// Its tags by key.
    public let tags: [TrackedTag]

    /// Makes one.
    public init(
        id: String, name: String, digest: String, schema: String?, profile: String?, createdAt: EventTime,
        updatedAt: EventTime, createdBy: String?, updatedBy: String?, tags: [TrackedTag]
    ) {
        self.id = id
        self.name = name
        self.digest = digest
        self.schema = schema
        self.profile = profile
        self.createdAt = createdAt
        self.updatedAt = updatedAt
        self.createdBy = createdBy
        self.updatedBy = updatedBy
        self.tags = tags
    }

    /// About the bytes that it takes in an answer.
    var byteCount: Int {
        [name, schema, profile].reduce(512) { $0 + ($1?.utf8.count ?? 0) }
            + tags.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count + 6 }
    }
}

/// Where a record of an evaluation dataset comes from.
public struct EvaluationSource: Sendable, Hashable {
    /// Kinds of sources.
    public enum Kind: String, Sendable, CaseIterable {
        /// Nobody said.
        case unspecified = "UNSPECIFIED"
        /// A trace.
        case trace = "TRACE"
        /// A person.
        case human = "HUMAN"
        /// A document.
        case document = "DOCUMENT"
        /// A program.
        case code = "CODE"
    }
    /// Its kind.
    public let kind: Kind
    /// What else is known of it.
    public let data: [String: JSONValue]

    /// Makes one.
    public init(_ kind: Kind, data: [String: JSONValue]) {
        self.kind = kind
        self.data = data
    }

    /// The identifier among its data.
    var id: String? { data[kind == .trace ? "trace_id" : "source_id"]?.stringValue }
    /// The source as JSON.
    var json: JSONValue { ["source_type": .string(kind.rawValue), "source_data": .object(data)] }
}

/// A record as a caller gives it; one with the same inputs is brought up to date.
public struct EvaluationDraft: Sendable, Hashable {
    /// What the application is asked.
    public let inputs: [String: JSONValue]
    /// What it answered; `nil` leaves the answer that there is, JSON's null takes it away.
    public let outputs: JSONValue?
    /// What is expected, by name; added to what there is.
    public let expectations: [String: JSONValue]?
    /// Tags, added to those that there are.
    public let tags: [String: JSONValue]?
    /// Where it comes from; a record that is there keeps its own.
    public let source: EvaluationSource?

    /// Makes one.
    public init(
        inputs: [String: JSONValue], outputs: JSONValue? = nil, expectations: [String: JSONValue]? = nil,
        tags: [String: JSONValue]? = nil, source: EvaluationSource? = nil
    ) {
        self.inputs = inputs
        self.outputs = outputs
        self.expectations = expectations
        self.tags = tags
        self.source = source
    }

    /// Whether it says something of the outputs; compared with nil, JSON's null would be meant.
    var hasOutputs: Bool { if case .some = outputs { true } else { false } }
    /// The outputs as text, `nil` for none.
    var outputsText: String? { outputs.flatMap { $0.isNull ? String?.none : $0.text } }
    /// Who wrote it, as its tags say.
    var user: String? { tags?[EvaluationLimits.userTag]?.stringValue }
}

/// A record as it is kept; JSON stays text, which most readers pass on.
public struct EvaluationRecord: Sendable, Hashable {
    /// Its identifier, `dr-…`.
    public let id: String
    /// JSON of the inputs, an object.
    public let inputs: String
    /// JSON of the outputs, if there are any.
    public let outputs: String?
    /// JSON of the expectations, an object, if there are any.
    public let expectations: String?
    /// JSON of the tags, an object.
    public let tags: String
    /// JSON of the source, if it is known.
    public let source: String?
    /// Identifier of the source.
    public let sourceID: String?
    /// Kind of the source.
    public let sourceType: String?
    /// When it was made.
    public let createdAt: EventTime
    /// When it changed last.
    public let updatedAt: EventTime
    /// Who made it.
    public let createdBy: String?
    /// Who changed it last.
    public let updatedBy: String?

    /// Makes one.
    public init(
        id: String, inputs: String, outputs: String?, expectations: String?, tags: String, source: String?,
        sourceID: String?, sourceType: String?, createdAt: EventTime, updatedAt: EventTime, createdBy: String?,
        updatedBy: String?
    ) {
        self.id = id
        self.inputs = inputs
        self.outputs = outputs
        self.expectations = expectations
        self.tags = tags
        self.source = source
        self.sourceID = sourceID
        self.sourceType = sourceType
        self.createdAt = createdAt
        self.updatedAt = updatedAt
        self.createdBy = createdBy
        self.updatedBy = updatedBy
    }

    /// About the bytes that it takes in an answer.
    var byteCount: Int {
        [inputs, outputs, expectations, tags, source].reduce(512) { $0 + ($1?.utf8.count ?? 0) }
    }
}

/// One version of a scorer that was registered with an experiment.
public struct ScorerVersion: Sendable, Hashable {
    /// Identifier of the scorer, whatever its version.
    public let scorerID: String
    /// The experiment.
    public let experimentID: String
    /// Its name, unique in the experiment.
    public let name: String
    /// 1 for the first.
    public let version: Int64
    /// The scorer as its client wrote it; nothing here runs it.
    public let document: String
    /// When it was registered.
    public let createdAt: EventTime

    /// Makes one.
    public init(
        scorerID: String, experimentID: String, name: String, version: Int64, document: String, createdAt: EventTime
    ) {
        self.scorerID = scorerID
        self.experimentID = experimentID
        self.name = name
        self.version = version
        self.document = document
        self.createdAt = createdAt
    }
}

/// What evaluation datasets and scorers may hold.
public enum EvaluationLimits {
    /// Characters of a dataset's name and of a tag's key.
    public static let name = 255
    /// Characters of a dataset's tag.
    public static let tagValue = 5000
    /// Tags of a dataset.
    public static let tagsPerDataset = 1000
    /// Experiments in one call.
    public static let experiments = 1000
    /// Bytes of one record.
    public static let recordByteCount = 4 << 20
    /// Records in one call.
    public static let recordsPerCall = 100_000
    /// Records of one dataset.
    public static let recordsPerDataset = 1_000_000
    /// Fields of inputs, outputs and expectations each that a schema names.
    public static let schemaFields = 10_000
    /// Bytes of a field's name that a schema has; longer ones are left out of it.
    public static let schemaNameByteCount = 250
    /// Bytes of records or datasets in one answer, about.
    public static let pageByteCount = 16 << 20
    /// Characters of a scorer's name.
    public static let scorerName = 256
    /// Bytes of a scorer.
    public static let scorerByteCount = 1 << 20
    /// Characters of all versions of an experiment's scorers: what one answer may have to hold.
    public static let scorersPerExperiment = 64 << 20
    /// The tag that says who did something.
    static let userTag = "mlflow.user"
}
