public import PlatformCore
public import Statistics

/// A metric that gates and monitors may name.
public typealias MetricName = EvaluationMetric

/// What must hold before a version may enter a stage.
public enum GateDefinition: Sendable, Hashable {
    /// A signature with name and type of every input.
    case signaturePresent
    /// A metric of the real artifact on a slice within bounds.
    case metric(MetricName, slice: String, minimum: Double?, maximum: Double?)
    /// A metric on the same slice not worse than the champion's by more than `margin`. Holds if there is no champion.
    case notWorseThanChampion(MetricName, slice: String, margin: Double)
    /// 99th percentile of scoring one row with the real artifact on this machine, in milliseconds.
    case latency(p99MillisecondsMax: Double)
    /// At least this many rows in a slice.
    case rows(slice: String, minimum: Int)
    /// At least this many served feature values computed again by the offline engine, none of them different.
    case featureParity(comparedMin: Int)
    /// What callers of the champion send is accepted, and they get the same outputs. Holds if there is no champion.
    case signatureCompatible
    /// Memory that a process takes to load the real artifact and score with it, in bytes.
    case memory(byteCountMax: Int)
    /// Time between the last moment that the training set knows of and now.
    case datasetAge(max: TimeSpan)
    /// No leak in the training set.
    case noLeakage
    /// A metric better than the champion's on the same rows by more than `margin`, with this confidence: the whole interval
    /// of the paired bootstrap. Holds if there is no champion.
    case betterThanChampion(MetricName, slice: String, margin: Double, confidence: Double)
    /// A metric within bounds in each group of a column that has enough rows.
    case perGroup(MetricName, slice: String, column: String, rowsMin: Int, minimum: Double?, maximum: Double?)
    /// A measure of fairness between the groups of a column within bounds; predictions at or above `threshold` are a yes.
    case fairness(
        String, slice: String, column: String, threshold: Double, minimum: Double?, maximum: Double?)
    /// Logged traffic answered within these bounds beside what was answered. Holds if there is no champion.
    case replayShadow(ReplayBounds)
    /// People who agree with the evidence, none of them the version's author.
    case approvals(count: Int)

    private static func bounds(_ minimum: Double?, _ maximum: Double?) -> String {
        (minimum.map { " ≥ \($0)" } ?? "") + (maximum.map { " ≤ \($0)" } ?? "")
    }

    /// One line for people and evidence: `auc on test ≥ 0.65`.
    public var summary: String {
        switch self {
        case .signaturePresent: "signature present"
        case .metric(let metric, let slice, let minimum, let maximum):
            "\(metric.rawValue) on \(slice)" + (minimum.map { " ≥ \($0)" } ?? "") + (maximum.map { " ≤ \($0)" } ?? "")
        case .notWorseThanChampion(let metric, let slice, let margin):
            "\(metric.rawValue) on \(slice) not worse than the champion's by more than \(margin)"
        case .latency(let bound): "p99 of one row ≤ \(bound) ms"
        case .rows(let slice, let minimum): "rows in \(slice) ≥ \(minimum)"
        case .featureParity(let least): "feature parity on \(least) values"
        case .signatureCompatible: "signature compatible with the champion's callers"
        case .memory(let bound): "memory of the artifact ≤ \(bound) bytes"
        case .datasetAge(let span): "training set not older than \(span)"
        case .noLeakage: "no leak in the training set"
        case .betterThanChampion(let metric, let slice, let margin, let confidence):
            "\(metric.rawValue) on \(slice) better than the champion's by more than \(margin) with \(confidence) confidence"
        case .perGroup(let metric, let slice, let column, let rows, let minimum, let maximum):
            "\(metric.rawValue) on \(slice) in each \(column) of \(rows) rows\(Self.bounds(minimum, maximum))"
        case .fairness(let measure, let slice, let column, let threshold, let minimum, let maximum):
            "\(measure) by \(column) on \(slice) at \(threshold)\(Self.bounds(minimum, maximum))"
        case .replayShadow(let bounds): bounds.summary
        case .approvals(let count): "\(count) approvals"
        }
    }
}

/// The life of a version.
///
/// Order is the order of promotion.
public enum ModelStage: String, Sendable, Codable, CaseIterable, Comparable {
    /// Registered; nobody sees it.
    case development
    /// Sees a copy of live traffic; nobody sees its answers.
    case staging
    /// Answers a stated share of live traffic.
    case canary
    /// Answers live traffic.
    case production
    /// Kept for audit, never served.
    case archived

    /// Earlier in life comes first.
    public static func < (left: ModelStage, right: ModelStage) -> Bool {
        (allCases.firstIndex(of: left) ?? 0) < (allCases.firstIndex(of: right) ?? 0)
    }
}

/// How versions of a model are trained.
public struct TrainingDefinition: Sendable, Hashable {
    /// Program and arguments; runs in the definition's folder.
    ///
    /// `{python}` stands for the configured interpreter.
    public let command: [String]
    /// Folder of the file that defined it, absolute: where the script is.
    public let folder: String
    /// Values for the script, in the environment as `BOTTEGA_PARAM_<NAME>` and logged by it as it likes.
    public let parameters: [String: String]
    /// Seed given to the script.
    public let seed: Int64
    /// Time until it is ended.
    public let timeout: TimeSpan
    /// Memory limit in bytes; 0 for none.
    public let memoryByteCountMax: Int
    /// File and line of the command.
    public var place = ""

    /// The script of the command: what `{python}` runs, or a program that is named by a path; `nil` for another program.
    public var script: String? {
        guard let program = command.first else { return nil }
        var script = program.contains("/") ? program : nil
        if program == "{python}" { script = command.dropFirst().first.flatMap { $0.hasPrefix("-") ? nil : $0 } }
        return script.map { $0.hasPrefix("/") ? $0 : "\(folder)/\($0)" }
    }
}

/// A model: which features it reads, how it is trained, what its versions must show.
public struct ModelDefinition: Sendable, Hashable {
    /// Its name; `POST /predict/<name>`.
    public let name: Name
    /// Features it reads.
    public let service: Name
    /// Rows it is trained on.
    public let trainingSet: Name
    /// How it is trained.
    public let training: TrainingDefinition
    /// Gates by the stage they guard.
    public let gates: [ModelStage: [GateDefinition]]
    /// What an evaluation shows unless told otherwise.
    public let evaluation: EvaluationDefinition
    /// For people.
    public let description: String
    /// Team that owns it.
    public let owner: String
}

/// What an evaluation of a model shows unless told otherwise.
public struct EvaluationDefinition: Sendable, Hashable {
    /// What is measured; empty for what is usual for such a model.
    public var metrics: [MetricName] = []
    /// Columns by whose values the metrics are repeated.
    public var slices: [String] = []
    /// Columns whose groups are compared for fairness.
    public var protected: [String] = []
    /// The column that says which rows belong to one query of a ranking.
    public var query: String?
    /// Score from which a row is called positive.
    public var threshold = 0.5
    /// Bins of calibration.
    public var binCount = 10
    /// Rows of a slice, or of a class of it, below which it is marked as small.
    public var smallBelow = 30

    /// Everything as usual.
    public init() {}
}

/// What an answer owes the prediction log, and what happens when the log's queue is full.
public enum PredictionLogPolicy: String, Sendable, Codable, CaseIterable {
    /// Every answer waits until its record is on the disk: none that was given is ever unknown.
    case durable
    /// The request waits.
    case block
    /// The record is dropped and counted.
    case shed

    /// What a deployment has that says nothing.
    static let usual = PredictionLogPolicy.block
}

/// One step of a canary ramp.
public struct CanaryStep: Sendable, Hashable {
    /// Share of traffic, above 0, at most 1.
    public let share: Double
    /// Least time at this share.
    public let atLeast: TimeSpan
}

/// How a model is served and how a new version comes in.
public struct DeploymentDefinition: Sendable, Hashable {
    /// Its name.
    public let name: Name
    /// The model it serves.
    public let model: Name
    /// Join keys or request features whose hash chooses the variant; the same values always get the same one.
    public let stickyBy: [String]
    /// What a full prediction log means.
    public let predictionLog: PredictionLogPolicy
    /// What callers are promised: fallback, deadline, priority, cache.
    public let promise: AnswerPromise
    /// Time a challenger spends in shadow.
    public let shadowAtLeast: TimeSpan
    /// Paired answers a shadow needs before it may go on.
    public let shadowPairsMin: Int
    /// Shares a challenger then gets, in order.
    public let canary: [CanaryStep]
    /// Highest PSI between champion's and challenger's predictions in shadow or canary.
    public let predictionPSIMax: Double
    /// Highest share of failed challenger answers.
    public let errorRateMax: Double
    /// Highest p99 of the whole request in milliseconds.
    public let latencyP99MillisecondsMax: Double
    /// Salt, holdout, experiment, and the guardrails beyond those.
    public let rollout: RolloutPolicy
    /// Source whose rows are scored as they come; `nil` for requests alone.
    public let streamSource: Name?
    /// How its worker processes run, for a model that needs some.
    public var workers = WorkersDefinition()
    /// How requests are gathered into calls of the model; `nil` for each request by itself.
    public var batching: BatchingDefinition?
}

/// How loud an alert is.
///
/// Order is that of urgency.
public enum AlertSeverity: String, Sendable, Codable, CaseIterable {
    /// Page now.
    case p0 = "P0"
    /// Business hours.
    case p1 = "P1"
    /// Within a day.
    case p2 = "P2"
    /// Queue.
    case p3 = "P3"
}

/// When a monitor raises an alert.
public struct MonitorRule: Sendable, Hashable {
    /// What is watched.
    public enum Condition: Sendable, Hashable {
        /// PSI of an input against the training profile above a bound, in the monitor's window. No name: any input.
        case psi(feature: String?, above: Double)
        /// Kolmogorov–Smirnov distance of an input above a bound.
        case ks(feature: String?, above: Double)
        /// Share of missing values of an input above the training share by more than this.
        case nullRate(feature: String?, aboveReferenceBy: Double)
        /// PSI of the predictions against the training slice's predictions.
        case predictionPSI(above: Double)
        /// A metric worse than the version's own test slice by more than this, once labels are in.
        case metricWorseThanReference(MetricName, by: Double)
    }
    /// Its name.
    public let name: String
    /// What is watched.
    public let condition: Condition
    /// How loud.
    public let severity: AlertSeverity
    /// Rows (or labelled rows) the window needs before the rule speaks.
    public let rowsMin: Int

    /// What a rule has that says nothing.
    static let usualRowsMin = 500
}

/// When drift starts training.
public struct RetrainDefinition: Sendable, Hashable {
    /// Rules whose alert starts it.
    public let on: [String]
    /// Least time between two starts.
    public let cooldown: TimeSpan
    /// How far back the new training set reaches.
    public let trainOn: TimeSpan
}

/// What is watched of a served model.
public struct MonitorDefinition: Sendable, Hashable {
    /// Its name.
    public let name: Name
    /// The model.
    public let model: Name
    /// Length of one window; windows are aligned to the epoch's Monday for `7d`, to midnight UTC otherwise.
    public let window: TimeSpan
    /// How long after a prediction its label is waited for.
    public let labelHorizon: TimeSpan
    /// When to alert.
    public let rules: [MonitorRule]
    /// When to retrain; `nil` means never by itself.
    public let retrain: RetrainDefinition?
}
