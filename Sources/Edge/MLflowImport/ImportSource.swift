public import PlatformCore

/// One point of a metric's history, as MLflow keeps it.
public struct ImportedPoint: Sendable, Hashable {
    /// Milliseconds since 1970.
    public let milliseconds: Int64
    /// The step.
    public let step: Int64
    /// The value; infinities come as the largest finite number of their sign, as MLflow stores them.
    public let value: Double

    /// Makes a point.
    public init(milliseconds: Int64, step: Int64, value: Double) {
        self.milliseconds = milliseconds
        self.step = step
        let largest = Double.greatestFiniteMagnitude
        self.value = value.isInfinite ? (value > 0 ? largest : -largest) : value
    }

    var fingerprint: String { "\(step) \(milliseconds) \(value.isNaN ? "nan" : "\(value == 0 ? 0 : value)")" }
}

/// A file among the artifacts of a run or logged model.
public struct ImportedFile: Sendable, Hashable {
    /// Path below the root of its artifacts.
    public let path: String
    /// Its size, if the source says it.
    public let byteCount: Int?
}

/// Where experiments, runs and models come from; everything is MLflow's own JSON.
public protocol ImportSource: Sendable {
    /// The source's name in reports and tags, without secrets.
    var name: String { get }
    /// Whether files come along; where not, what they belong to counts as copied in part.
    var hasFiles: Bool { get }
    /// Every experiment, deleted ones too.
    func experiments() async throws -> [JSONValue]
    /// Every run of an experiment, deleted ones too: `{info, data, inputs, outputs}`.
    func runs(of experiment: String) async throws -> [JSONValue]
    /// A run as `runs(of:)` gives it, with the inputs and outputs that a list may leave out.
    func whole(_ run: JSONValue) async throws -> JSONValue
    /// All values of a metric.
    func history(run: String, key: String) async throws -> [ImportedPoint]
    /// Every logged model of an experiment: `{info, data}`.
    func loggedModels(of experiment: String) async throws -> [JSONValue]
    /// How many traces an experiment has; no more than `countMax` are counted.
    func traceCount(of experiment: String, countMax: Int) async throws -> Int
    /// Every dataset of evaluations, with `experiment_ids`, the experiments that it belongs to.
    func evaluationDatasets() async throws -> [JSONValue]
    /// Every record of a dataset of evaluations, without members that are null.
    func evaluationRecords(of dataset: String) async throws -> [JSONValue]
    /// Every version of every scorer of an experiment.
    func scorers(of experiment: String) async throws -> [JSONValue]
    /// Every registered model, prompts too.
    func registeredModels() async throws -> [JSONValue]
    /// Every version of every registered model, prompts' too.
    func modelVersions() async throws -> [JSONValue]
    /// Where a version's files are, whatever its source is called by now.
    func location(of version: JSONValue) async throws -> String
    /// Files below an artifact URI, of a run if it belongs to one.
    func files(below uri: String, run: String?) async throws -> [ImportedFile]
    /// Copies a file into a local one.
    func fetch(_ path: String, below uri: String, run: String?, to file: String) async throws
}

extension JSONValue {
    /// A number that MLflow may write as text.
    func number(_ key: String) -> Int64? {
        guard let value = self[key] else { return nil }
        return value.integerValue ?? value.stringValue.flatMap { Int64($0) }
            ?? value.doubleValue.flatMap { Int64(exactly: $0.rounded()) }
    }
    func text(_ key: String) -> String { self[key]?.stringValue ?? number(key).map(String.init) ?? "" }
    func list(_ key: String) -> [JSONValue] { self[key]?.arrayValue ?? [] }
    /// A list of `{key, value}` as pairs.
    func pairs(_ key: String) -> [String: String] {
        Dictionary(list(key).map { ($0.text("key"), $0["value"]?.stringValue ?? "") }, uniquingKeysWith: { $1 })
    }
    /// A metric's value, which may be text for what JSON has no number for.
    var metricValue: Double? {
        if let number = doubleValue { return number }
        return switch stringValue {
        case "NaN"?: .nan
        case "Infinity"?: .infinity
        case "-Infinity"?: -.infinity
        default: stringValue.flatMap { Double($0) }
        }
    }
}
