public import PlatformCore

/// A named value attached to something: a tag or a parameter.
public struct TrackedTag: Hashable, Sendable {
    /// The name.
    public let key: String
    /// The text.
    public let value: String
    /// Makes one.
    public init(_ key: String, _ value: String) {
        self.key = key
        self.value = value
    }
}

/// Whether deleted things are wanted.
public enum LifecycleView: Sendable {
    /// Those that are not deleted.
    case active
    /// Those that are.
    case deleted
    /// Both.
    case all
}

/// A group of runs that try to answer one question.
public struct Experiment: Sendable, Hashable {
    /// Decimal number; `0` is the experiment `Default`.
    public let id: String
    /// Its unique name.
    public let name: String
    /// Where its runs keep their artifacts, `mlflow-artifacts:/7`.
    public let artifactLocation: String
    /// Whether it was deleted (it can be restored).
    public let isDeleted: Bool
    /// When it was made.
    public let createdAt: EventTime
    /// When it changed last.
    public let updatedAt: EventTime
    /// Its tags by key.
    public let tags: [TrackedTag]
}

/// How a run stands.
public enum RunStatus: String, Sendable, CaseIterable {
    /// It works.
    case running = "RUNNING"
    /// It waits for its time.
    case scheduled = "SCHEDULED"
    /// It ended well.
    case finished = "FINISHED"
    /// It ended with an error.
    case failed = "FAILED"
    /// Somebody ended it.
    case killed = "KILLED"

    /// Whether nothing more is expected.
    public var isTerminal: Bool { self == .finished || self == .failed || self == .killed }
}

/// One measured value of a run.
public struct Metric: Sendable, Hashable {
    /// Its name, `validation/auc`.
    public let key: String
    /// The value; may be NaN, never infinite once stored.
    public let value: Double
    /// When it was measured.
    public let measuredAt: EventTime
    /// The step of training, the epoch or tree; any integer.
    public let step: Int64
    /// The logged model it describes.
    public let modelID: String?
    /// Name of the dataset it was measured on.
    public let datasetName: String?
    /// Digest of that dataset.
    public let datasetDigest: String?

    /// Makes a metric; an infinite value becomes the largest finite one of its sign.
    public init(
        _ key: String, _ value: Double, measuredAt: EventTime, step: Int64 = 0, modelID: String? = nil,
        datasetName: String? = nil, datasetDigest: String? = nil
    ) {
        self.key = key
        let largest = Double.greatestFiniteMagnitude
        self.value = value.isInfinite ? (value > 0 ? largest : -largest) : value
        self.measuredAt = measuredAt
        self.step = step
        self.modelID = modelID
        self.datasetName = datasetName
        self.datasetDigest = datasetDigest
    }
}

/// What is known of one training attempt, without its measurements.
public struct RunInfo: Sendable, Hashable {
    /// 32 hexadecimal digits.
    public let id: String
    /// Number of its row, rising with time of creation.
    let number: Int64
    /// The experiment it belongs to.
    public let experimentID: String
    /// Its name, given or drawn.
    public let name: String
    /// Who started it.
    public let userName: String
    /// How it stands.
    public let status: RunStatus
    /// When it began.
    public let startedAt: EventTime
    /// When it ended.
    public let endedAt: EventTime?
    /// Where its artifacts are, `mlflow-artifacts:/7/…/artifacts`.
    public let artifactURI: String
    /// Whether it was deleted (it can be restored).
    public let isDeleted: Bool
}

/// A dataset that runs refer to.
public struct TrackedDataset: Sendable, Hashable {
    /// Its name.
    public let name: String
    /// Its digest, at most 36 characters.
    public let digest: String
    /// Kind of the source, `local`, `code`, ….
    public let sourceType: String
    /// The source, as JSON text.
    public let source: String
    /// Its columns, as JSON text.
    public let schema: String?
    /// Its summary, as JSON text.
    public let profile: String?
    /// Makes one.
    public init(
        name: String, digest: String, sourceType: String, source: String, schema: String? = nil, profile: String? = nil
    ) {
        self.name = name
        self.digest = digest
        self.sourceType = sourceType
        self.source = source
        self.schema = schema
        self.profile = profile
    }
}

/// A dataset that a run read, with what it was for.
public struct DatasetInput: Sendable, Hashable {
    /// The dataset.
    public let dataset: TrackedDataset
    /// Tags, among them `mlflow.data.context`: `training`, `evaluation`.
    public let tags: [TrackedTag]
    /// Makes one.
    public init(dataset: TrackedDataset, tags: [TrackedTag]) {
        self.dataset = dataset
        self.tags = tags
    }
}

/// A model that a run gave, at a step.
public struct ModelOutput: Sendable, Hashable {
    /// The logged model.
    public let modelID: String
    /// The step of training.
    public let step: Int64
    /// Makes one.
    public init(modelID: String, step: Int64) {
        self.modelID = modelID
        self.step = step
    }
}

/// A run with all that it logged; of each metric the latest value.
public struct TrackedRun: Sendable, Hashable {
    /// What is known of the run itself.
    public let info: RunInfo
    /// Latest values, by key.
    public let metrics: [Metric]
    /// Parameters, by key.
    public let params: [TrackedTag]
    /// Tags, by key.
    public let tags: [TrackedTag]
    /// Datasets it read.
    public let datasetInputs: [DatasetInput]
    /// Logged models it read.
    public let modelInputs: [String]
    /// Logged models it gave.
    public let modelOutputs: [ModelOutput]

    /// The text of a tag.
    public func tag(_ key: String) -> String? { tags.first { $0.key == key }?.value }
    /// The text of a parameter.
    public func param(_ key: String) -> String? { params.first { $0.key == key }?.value }
    /// The latest value of a metric.
    public func metric(_ key: String) -> Double? { metrics.first { $0.key == key }?.value }
}

/// Whether a logged model's files are complete.
public enum LoggedModelStatus: String, Sendable, CaseIterable {
    /// Files are on their way.
    case pending = "LOGGED_MODEL_PENDING"
    /// It can be loaded.
    case ready = "LOGGED_MODEL_READY"
    /// Its upload failed.
    case uploadFailed = "LOGGED_MODEL_UPLOAD_FAILED"
}

/// A model that a run logged: files, parameters and the metrics that describe it.
public struct LoggedModel: Sendable, Hashable {
    /// `m-` and 32 hexadecimal digits.
    public let id: String
    /// The experiment it belongs to.
    public let experimentID: String
    /// Its name, `model`.
    public let name: String
    /// Its kind, as the client says it.
    public let modelType: String?
    /// The run that gave it.
    public let sourceRunID: String?
    /// Whether its files are complete.
    public let status: LoggedModelStatus
    /// When it was made.
    public let createdAt: EventTime
    /// When it changed last.
    public let updatedAt: EventTime
    /// Where its files are, `mlflow-artifacts:/7/models/m-…/artifacts`.
    public let artifactURI: String
    /// Its tags.
    public let tags: [TrackedTag]
    /// Its parameters.
    public let params: [TrackedTag]
    /// The metrics that name it, each with the run that measured it.
    public let metrics: [LoggedModelMetric]
}

/// A metric that describes a logged model.
public struct LoggedModelMetric: Sendable, Hashable {
    /// The value and what it was measured on.
    public let metric: Metric
    /// The run that measured it.
    public let runID: String
}

/// A file or folder among artifacts.
public struct ArtifactEntry: Sendable, Hashable {
    /// Path below the root that the question named.
    public let path: String
    /// Size of a file in bytes; `nil` for a folder.
    public let byteCount: Int?
    /// Whether it is a folder.
    public var isFolder: Bool { byteCount == nil }
}
