public import ExperimentTracking
public import PlatformCore
public import TrainingJobs

/// Everything known of a run, sorted by the question that it answers.
public struct RunReport: Sendable {
    /// What may differ between two runs, in the order in which people ask.
    public enum Section: String, Sendable, CaseIterable {
        /// Values given to the script.
        case parameters
        /// Latest values of what it measured, without `system/…`.
        case metrics
        /// Datasets it read.
        case data
        /// Versions of the features in them.
        case features
        /// The seed.
        case seed
        /// Commit, uncommitted change, command.
        case code
        /// Interpreter, libraries, system.
        case environment
        /// The machine.
        case hardware
        /// Files it logged, by hash.
        case files
    }

    /// The run.
    public let run: TrackedRun
    /// The training job that made it, if it was one of ours.
    public let job: TrainingJob?
    /// What was recorded of its surroundings.
    public let record: JSONValue?
    /// Its files and those of the models it logged, by path.
    public let files: [String: StoredArtifact]

    /// The facts of each section by name.
    public let sections: [Section: [String: JSONValue]]

    /// What the run itself says, without record, job and files.
    public init(_ run: TrackedRun) { self.init(run: run, job: nil, record: nil, files: [:]) }

    init(run: TrackedRun, job: TrainingJob?, record: JSONValue?, files: [String: StoredArtifact]) {
        self.run = run
        self.job = job
        self.record = record
        self.files = files
        var sections: [Section: [String: JSONValue]] = [:]
        var parameters = record?["parameters"]?.objectValue ?? [:]
        for (name, value) in job?.parameters ?? [:] { parameters[name.lowercased()] = .string(value) }
        for param in run.params { parameters[param.key] = .string(param.value) }
        sections[.parameters] = parameters
        for metric in run.metrics where !metric.key.hasPrefix("system/") {
            sections[.metrics, default: [:]][metric.key] = Self.json(metric.value)
        }
        sections[.data] = Self.data(run, record)
        var features: [String: JSONValue] = [:]
        features["service"] = record?["features"]?["service"]
        features["service version"] = record?["features"]?["service_version"]
        for (view, version) in record?["features"]?["views"]?.objectValue ?? [:] { features["view \(view)"] = version }
        sections[.features] = features
        sections[.seed] = Self.seed(run, job, record).map { ["seed": $0] } ?? [:]
        sections[.code] = Self.code(run, record)
        sections[.environment] = Self.environment(record)
        var hardware = (record?["hardware"]?.objectValue ?? [:])
        for (index, gpu) in (hardware.removeValue(forKey: "gpus")?.arrayValue ?? []).enumerated() {
            hardware["gpu \(index)"] = gpu["name"]
        }
        sections[.hardware] = hardware
        sections[.files] = files.filter { !$0.key.hasPrefix("bottega/") }.mapValues { .string($0.hash.hex) }
        self.sections = sections
    }

    /// A number as JSON can say it: text for what is no number.
    public static func json(_ value: Double) -> JSONValue { value.isFinite ? .number(value) : .string("\(value)") }

    private static func data(_ run: TrackedRun, _ record: JSONValue?) -> [String: JSONValue] {
        var data: [String: JSONValue] = [:]
        for input in run.datasetInputs {
            let context = input.tags.first { $0.key == "mlflow.data.context" }?.value ?? "input"
            // Our own training sets have a longer name than a digest may be.
            let whole = (try? JSONValue.parse(input.dataset.source))?["dataset"]?.stringValue
            data["\(context) \(input.dataset.name)"] = .string(
                input.dataset.sourceType == "bottega" ? whole ?? input.dataset.digest : input.dataset.digest)
        }
        for dataset in record?["data"]?.arrayValue ?? [] {
            let name = dataset["name"]?.stringValue ?? ""
            data["\(dataset["context"]?.stringValue ?? "input") \(name.isEmpty ? "training set" : name)"] =
                dataset["hash"]
        }
        return data
    }

    private static func seed(_ run: TrackedRun, _ job: TrainingJob?, _ record: JSONValue?) -> JSONValue? {
        if let job { return .integer(job.seed) }
        if let seed = record?["seed"], !seed.isNull { return seed }
        return ["seed", "random_state", "random_seed"].lazy.compactMap { run.param($0) }.first.map(JSONValue.string)
    }

    private static func code(_ run: TrackedRun, _ record: JSONValue?) -> [String: JSONValue] {
        let code = record?["code"]
        var facts: [String: JSONValue] = [:]
        for name in ["commit", "branch", "remote"] where code?[name]?.stringValue?.isEmpty == false {
            facts[name] = code?[name]
        }
        if facts["commit"] == nil { facts["commit"] = run.tag("mlflow.source.git.commit").map(JSONValue.string) }
        facts["uncommitted change"] = code?["changes"]?["sha256"]
        for (path, hash) in code?["files"]?.objectValue ?? [:] { facts["file \(path)"] = hash }
        if let command = record?["command"]?.arrayValue {
            facts["command"] = .string(command.compactMap(\.stringValue).joined(separator: " "))
        } else {
            facts["command"] = run.tag("mlflow.source.name").map(JSONValue.string)
        }
        return facts
    }

    private static func environment(_ record: JSONValue?) -> [String: JSONValue] {
        let environment = record?["environment"]
        var facts: [String: JSONValue] = [:]
        for name in ["python", "implementation", "platform", "libc", "image"]
        where environment?[name]?.stringValue?.isEmpty == false { facts[name] = environment?[name] }
        for package in environment?["packages"]?.arrayValue ?? [] {
            guard let text = package.stringValue, let range = text.firstRange(of: "==") else { continue }
            facts["package \(text[..<range.lowerBound].lowercased())"] = .string(String(text[range.upperBound...]))
        }
        for (name, value) in environment?["variables"]?.objectValue ?? [:] where !name.hasPrefix("BOTTEGA_") {
            facts["variable \(name)"] = value
        }
        return facts
    }

    /// The files that hold the model itself: `model.ubj`, `model.pkl`.
    public var modelFiles: [String: StoredArtifact] {
        files.filter { path, _ in
            let name = path.split(separator: "/").last.map(String.init) ?? ""
            return ["model.", "booster.", "weights."].contains { name.hasPrefix($0) }
        }
    }
}
