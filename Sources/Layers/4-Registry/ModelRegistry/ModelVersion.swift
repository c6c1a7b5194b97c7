public import Definitions
public import PlatformCore
public import Statistics

/// One input or output of a model.
public struct SignatureField: Sendable, Hashable, Codable {
    /// How the value is read.
    public enum Kind: String, Sendable, Codable {
        /// A number; truth values are 0 and 1.
        case number
        /// One of `categories`.
        case category
        /// Text of any kind.
        case text
        /// True or false.
        case boolean
        /// A moment.
        case time
        /// Numbers in a shape.
        case tensor
        /// Anything else; `type` says what.
        case other
    }
    /// Its name.
    public let name: String
    /// How it is read.
    public let kind: Kind
    /// The known values, in the order of their codes; empty for numbers.
    public let categories: [String]
    /// Whether it may be missing.
    public let isNullable: Bool
    /// The type as the framework calls it, `double`, `float32`; `nil` if it was not said.
    public let type: String?
    /// Least accepted number; `nil` for no bound.
    public let minimum: Double?
    /// Greatest accepted number; `nil` for no bound.
    public let maximum: Double?
    /// Shape of a tensor, -1 where a length is free; `nil` for others.
    public let shape: [Int]?

    /// Makes a field.
    public init(
        name: String, kind: Kind, categories: [String] = [], isNullable: Bool = true, type: String? = nil,
        minimum: Double? = nil, maximum: Double? = nil, shape: [Int]? = nil
    ) {
        self.name = name
        self.kind = kind
        self.categories = categories
        self.isNullable = isNullable
        self.type = type
        self.minimum = minimum
        self.maximum = maximum
        self.shape = shape
    }
}

/// What a version takes and gives, by name.
public struct ModelSignature: Sendable, Hashable, Codable {
    /// Inputs in the order in which the artifact reads them.
    public let inputs: [SignatureField]
    /// Outputs; one for regression and binary classification, one for each class otherwise.
    public let outputs: [SignatureField]

    /// Makes a signature.
    public init(inputs: [SignatureField], outputs: [SignatureField]) {
        self.inputs = inputs
        self.outputs = outputs
    }

    /// Whether it says anything: a name for every input, none twice, and at least one output.
    ///
    /// A single tensor needs no name: it is the whole input.
    public var isPresent: Bool {
        let isTensor = inputs.count == 1 && inputs[0].kind == .tensor
        return !inputs.isEmpty && !outputs.isEmpty && (isTensor || inputs.allSatisfy { !$0.name.isEmpty })
            && Set(inputs.map(\.name)).count == inputs.count
    }
}

/// The file that predicts.
public struct ModelArtifact: Sendable, Hashable, Codable {
    /// Its content; the blob's name.
    public let hash: ContentHash
    /// Size in bytes.
    public let byteCount: Int
    /// Format as its runtime calls it, `xgboost-ubj`.
    public let format: String
    /// Name it had in the run, `model.ubj`.
    public let fileName: String

    /// Makes the description of a file.
    public init(hash: ContentHash, byteCount: Int, format: String, fileName: String) {
        self.hash = hash
        self.byteCount = byteCount
        self.format = format
        self.fileName = fileName
    }
}

/// Where a version comes from: everything needed to train it again.
public struct VersionOrigin: Sendable, Hashable, Codable {
    /// Training data; `nil` if it is none of our training sets.
    public let dataset: ContentHash?
    /// Hash of the feature service's meaning, `FeatureServiceDefinition.version`; `nil` if it was trained without one.
    public let serviceVersion: ContentHash?
    /// The run that it was logged in; empty if there was none.
    public let runID: String
    /// The training job; empty if it was trained elsewhere.
    public let jobID: String
    /// Commit of the training code; empty if unknown.
    public let commit: String
    /// Branch of the training code; empty if unknown.
    public let branch: String
    /// Whether the code differed from the commit.
    public let isDirty: Bool
    /// Seed given to the script.
    public let seed: Int64
    /// The environment record's blob; `nil` if unknown.
    public let environment: ContentHash?
    /// Hyperparameters as logged.
    public let parameters: [String: String]

    /// The seed, where one was given: every job has one, a run elsewhere only if it says so.
    public var givenSeed: Int64? { jobID.isEmpty && seed == 0 ? nil : seed }

    /// Makes an origin.
    public init(
        dataset: ContentHash?, serviceVersion: ContentHash?, runID: String, jobID: String, commit: String = "",
        branch: String = "", isDirty: Bool = false, seed: Int64, environment: ContentHash? = nil,
        parameters: [String: String] = [:]
    ) {
        self.dataset = dataset
        self.serviceVersion = serviceVersion
        self.runID = runID
        self.jobID = jobID
        self.commit = commit
        self.branch = branch
        self.isDirty = isDirty
        self.seed = seed
        self.environment = environment
        self.parameters = parameters
    }
}

/// Metrics of the real artifact by slice (`test`) and metric.
public typealias SliceMetrics = [String: [MetricName: Double]]

/// Where a client of MLflow's protocol says that a version's files are.
public struct VersionSource: Sendable, Hashable, Codable {
    /// What the client named, `models:/m-…` or an artifact URI.
    public let uri: String
    /// Where its files are, `mlflow-artifacts:/…`.
    public let artifactURI: String
    /// The logged model that it is.
    public let loggedModel: String?
    /// A link to its run.
    public let runLink: String?
    /// Blob that lists its files with their hashes; `nil` if they are not kept here.
    public let files: ContentHash?

    /// Makes a source.
    public init(
        uri: String, artifactURI: String, loggedModel: String? = nil, runLink: String? = nil, files: ContentHash? = nil
    ) {
        self.uri = uri
        self.artifactURI = artifactURI
        self.loggedModel = loggedModel
        self.runLink = runLink
        self.files = files
    }
}

/// Everything a registration says.
public struct VersionCandidate: Sendable, Hashable {
    /// The file.
    public let artifact: ModelArtifact
    /// What it takes and gives; `nil` if that is not known.
    public let signature: ModelSignature?
    /// Where it comes from.
    public let origin: VersionOrigin
    /// Metrics by slice.
    public let metrics: SliceMetrics
    /// Rows by slice.
    public let rows: [String: Int]
    /// Blob with the distribution of every input and of the output, for drift; `nil` if there is none.
    public let referenceProfile: ContentHash?
    /// For people.
    public let description: String
    /// For people and programs.
    public let tags: [String: String]
    /// Where its files are for clients of MLflow; `nil` if it was not registered by one.
    public let source: VersionSource?
    /// What the environment that measured it had otherwise than it was logged with, a line for each.
    public let requirementDifferences: [String]

    /// Makes a candidate.
    public init(
        artifact: ModelArtifact, signature: ModelSignature?, origin: VersionOrigin, metrics: SliceMetrics = [:],
        rows: [String: Int] = [:], referenceProfile: ContentHash? = nil, description: String = "",
        tags: [String: String] = [:], source: VersionSource? = nil, requirementDifferences: [String] = []
    ) {
        self.artifact = artifact
        self.signature = signature
        self.origin = origin
        self.metrics = metrics
        self.rows = rows
        self.referenceProfile = referenceProfile
        self.description = description
        self.tags = tags
        self.source = source
        self.requirementDifferences = requirementDifferences
    }
}

/// A registered version.
///
/// What it says never changes; its stage is history beside it.
public struct ModelVersion: Sendable, Hashable {
    /// The model.
    public let model: Name
    /// From 1, without gaps.
    public let number: Int
    /// When it was registered.
    public let createdAt: EventTime
    /// Who registered it.
    public let createdBy: String
    /// What was registered.
    public let candidate: VersionCandidate

    /// `model/flight_delay/versions/3`, in errors, events and the audit.
    public var subject: String { Self.subject(model, number) }

    /// Whether it has a signature that says anything.
    public var isSigned: Bool { candidate.signature?.isPresent ?? false }

    /// What news and the audit say of its registration.
    var facts: JSONValue {
        [
            "artifact": .string(candidate.artifact.hash.hex),
            "dataset": candidate.origin.dataset.map { .string($0.hex) } ?? .null,
            "run_id": .string(candidate.origin.runID), "job": .string(candidate.origin.jobID),
            "source": candidate.source.map { .string(String($0.uri.prefix(1000))) } ?? .null,
        ]
    }

    static func subject(_ model: Name, _ number: Int) -> String { "model/\(model)/versions/\(number)" }
}

/// One step in a version's life.
public struct StageTransition: Sendable, Hashable {
    /// Place among all transitions of the registry; rises.
    public let position: Int64
    /// The model.
    public let model: Name
    /// The version.
    public let version: Int
    /// Stage before; `nil` for the registration itself.
    public let from: ModelStage?
    /// Stage after.
    public let to: ModelStage
    /// When.
    public let time: EventTime
    /// Who.
    public let actor: String
    /// Why.
    public let reason: String
    /// Blob with the gates' results; `nil` if the step had no gates.
    public let evidence: ContentHash?
}
