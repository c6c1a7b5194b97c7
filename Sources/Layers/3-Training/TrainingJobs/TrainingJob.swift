public import Definitions
public import PlatformCore
public import RuntimePorts

/// The dataset a job trains on, as local files.
public struct TrainingInput: Sendable, Hashable {
    /// The dataset.
    public let dataset: ContentHash
    /// Its manifest, which the script finds as a file.
    public let manifest: JSONValue
    /// Absolute paths of Parquet files by slice: `train`, `validation`, `test`.
    public let paths: [String: String]

    /// Makes an input.
    public init(dataset: ContentHash, manifest: JSONValue, paths: [String: String]) {
        self.dataset = dataset
        self.manifest = manifest
        self.paths = paths
    }
}

/// Where a job is in its life.
public enum TrainingJobState: String, Sendable, Codable, CaseIterable {
    /// It waits for a slot.
    case queued
    /// Its process runs, or is being prepared.
    case running
    /// It ended with exit code 0.
    case succeeded
    /// It ended in another way, or could not be started; the outcome says how.
    case failed
    /// Somebody cancelled it.
    case cancelled
    /// The platform stopped while it was unfinished.
    case lost

    /// Whether nothing more happens to it.
    public var isFinal: Bool { self != .queued && self != .running }
}

/// The code a job ran.
public struct CodeRecord: Sendable, Hashable, Codable {
    /// Commit of the folder's repository; empty when there is none.
    public let commit: String
    /// Its branch; empty when detached or unknown.
    public let branch: String
    /// Whether tracked files below the folder differed from the commit.
    public let isDirty: Bool

    /// Makes a record.
    public init(commit: String, branch: String, isDirty: Bool) {
        self.commit = commit
        self.branch = branch
        self.isDirty = isDirty
    }
}

/// The machine a job ran on.
public struct HardwareRecord: Sendable, Hashable, Codable {
    /// Processor model as the kernel names it.
    public let processor: String
    /// Processors the platform may use.
    public let processorCount: Int
    /// Physical memory in bytes.
    public let memoryByteCount: Int

    /// Makes a record.
    public init(processor: String, processorCount: Int, memoryByteCount: Int) {
        self.processor = processor
        self.processorCount = processorCount
        self.memoryByteCount = memoryByteCount
    }
}

/// What was recorded of a job's surroundings just before it ran.
public struct TrainingFacts: Sendable, Hashable, Codable {
    /// The code.
    public let code: CodeRecord
    /// Blob with the interpreter's version and every installed package; `nil` if the interpreter could not say.
    public let environment: ContentHash?
    /// The interpreter's version, `3.11.2`; empty if it could not say.
    public let interpreterVersion: String
    /// The machine.
    public let hardware: HardwareRecord
    /// Blob with the whole record as JSON: code, command, data, features, parameters, seed, environment, machine.
    ///
    /// `nil` if the interpreter could not take it.
    public let record: ContentHash?
    /// Blob with the uncommitted change of the code, for `git apply`; `nil` if there is none that is kept.
    public let changes: ContentHash?

    /// Makes facts.
    public init(
        code: CodeRecord, environment: ContentHash?, interpreterVersion: String, hardware: HardwareRecord,
        record: ContentHash? = nil, changes: ContentHash? = nil
    ) {
        self.record = record
        self.changes = changes
        self.code = code
        self.environment = environment
        self.interpreterVersion = interpreterVersion
        self.hardware = hardware
    }
}

/// A training job and everything known of it.
public struct TrainingJob: Sendable, Hashable {
    /// Its identifier; also the name of its folder.
    public let id: String
    /// The model.
    public let model: Name
    /// The dataset.
    public let dataset: ContentHash
    /// The seed given to the script.
    public let seed: Int64
    /// Parameters given to the script.
    public let parameters: [String: String]
    /// Who started it.
    public let actor: String
    /// When it was asked for.
    public let createdAt: EventTime
    /// The run it logs into.
    public let runID: String
    /// Folder with its manifest and log.
    public let folder: String
    /// Its state.
    public let state: TrainingJobState
    /// When it came into that state.
    public let stateTime: EventTime
    /// When it left the queue; `nil` if it did not.
    public let startedAt: EventTime?
    /// Code, environment and machine; `nil` until it runs.
    public let facts: TrainingFacts?
    /// How it ended; `nil` until then, and for a lost one.
    public let outcome: JobOutcome?

    /// One file with all of the script's output.
    public var logPath: String { folder + "/output.log" }
}

/// A run that is to be made again: the same command, in a folder with the same code.
public struct TrainingRepetition: Sendable, Hashable {
    /// The run.
    public let runID: String
    /// Program and arguments.
    public let command: [String]
    /// Where the code is.
    public let folder: String

    /// Makes one.
    public init(runID: String, command: [String], folder: String) {
        self.runID = runID
        self.command = command
        self.folder = folder
    }
}

/// What a caller asks for.
public struct TrainingRequest: Sendable, Hashable {
    /// The model to train.
    public let model: ModelDefinition
    /// What to train it on.
    public let input: TrainingInput
    /// The seed; `nil` for the definition's.
    public let seed: Int64?
    /// Parameters that replace or extend the definition's.
    public let parameters: [String: String]
    /// Who asks.
    public let actor: String
    /// The run to make again: its command and folder count, and of the parameters only those given here.
    public let repeating: TrainingRepetition?

    /// Makes a request.
    public init(
        model: ModelDefinition, input: TrainingInput, seed: Int64? = nil, parameters: [String: String] = [:],
        actor: String, repeating: TrainingRepetition? = nil
    ) {
        self.repeating = repeating
        self.model = model
        self.input = input
        self.seed = seed
        self.parameters = parameters
        self.actor = actor
    }
}

/// How training jobs are run on this machine.
public struct TrainingJobConfiguration: Sendable, Hashable {
    /// Folder with one folder for each job.
    public let folder: String
    /// The Python interpreter that `{python}` stands for, absolute or found in `searchPath`.
    public let interpreter: String
    /// The job's `PATH`.
    public let searchPath: String
    /// Where the tracking server answers, `http://127.0.0.1:8000`.
    public let trackingURL: String
    /// Jobs that run at the same time.
    public let slotCount: Int
    /// Jobs that may wait; one more is refused.
    public let queuedCountMax: Int
    /// Threads that numerical libraries may use in a job; 0 for the machine's processors divided by the slots.
    public let threadCount: Int
    /// Most output to keep of a job.
    public let outputByteCountMax: Int

    /// Makes a configuration.
    public init(
        folder: String, interpreter: String, trackingURL: String, searchPath: String = "/usr/local/bin:/usr/bin:/bin",
        slotCount: Int = 1, queuedCountMax: Int = 16, threadCount: Int = 0, outputByteCountMax: Int = 16 << 20
    ) {
        self.folder = folder
        self.interpreter = interpreter
        self.trackingURL = trackingURL
        self.searchPath = searchPath
        self.slotCount = max(1, slotCount)
        self.queuedCountMax = max(1, queuedCountMax)
        self.threadCount = threadCount
        self.outputByteCountMax = outputByteCountMax
    }
}
