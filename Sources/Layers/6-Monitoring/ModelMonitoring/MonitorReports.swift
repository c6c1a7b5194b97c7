public import Definitions
public import PlatformCore
public import Statistics

/// Which rows a report is about: one version in one role in one window of one monitor.
public struct WindowScope: Sendable, Hashable, Codable {
    /// The monitor.
    public let monitor: String
    /// The model.
    public let model: String
    /// Its version; 0 for the fallback.
    public let version: Int
    /// Why it answered: `primary`, `canary`, `shadow` or `fallback`.
    public let choice: String
    /// Start of the window.
    public let from: EventTime
    /// First moment after the window.
    public let to: EventTime

    /// Makes a scope.
    public init(monitor: String, model: String, version: Int, choice: String, from: EventTime, to: EventTime) {
        self.monitor = monitor
        self.model = model
        self.version = version
        self.choice = choice
        self.from = from
        self.to = to
    }
}

/// How one input, or the prediction, of a window compares with the version's training slice.
public struct InputReport: Sendable, Hashable, Codable {
    /// The input's name; `prediction` for the prediction.
    public let name: String
    /// Population stability index, missing values as a bin of their own.
    public let psi: Double
    /// Kolmogorov–Smirnov distance; `nil` for a category and where either side has no values.
    public let ks: Double?
    /// Share of rows without a value.
    public let nullRate: Double
    /// That share in training.
    public let referenceNullRate: Double
    /// Mean of the values; `nil` if there are none.
    public let mean: Double?
    /// That mean in training.
    public let referenceMean: Double
    /// Share of rows outside of the range, or the codes, of training.
    public let unseenShare: Double

    enum CodingKeys: String, CodingKey {
        case name, psi, ks, mean
        case nullRate = "null_rate"
        case referenceNullRate = "reference_null_rate"
        case referenceMean = "reference_mean"
        case unseenShare = "unseen_share"
    }

    init?(_ histogram: InputHistogram, _ profile: InputProfile) {
        guard let psi = try? histogram.populationStabilityIndex(against: profile) else { return nil }
        name = profile.name
        self.psi = psi
        ks = try? histogram.kolmogorovSmirnov(against: profile)
        nullRate = histogram.nullRate
        referenceNullRate = profile.nullRate
        mean = histogram.hasValues ? histogram.mean : nil
        referenceMean = profile.mean
        unseenShare = histogram.unseenShare
    }
}

/// What labels say of a window's predictions.
public struct PerformanceReport: Sendable, Hashable, Codable {
    /// Rows with a label that came within the horizon.
    public let labelled: Int
    /// Rows without one.
    public let unlabelled: Int
    /// Mean of the labels: for a binary model the share of positives.
    ///
    /// `nil` without labels.
    public let labelMean: Double?
    /// Mean of the predictions of the labelled rows.
    public let predictionMean: Double?
    /// Values by `EvaluationMetric`'s name; a metric that is undefined on these rows is in `undefined` instead.
    public let metrics: [String: Double]
    /// Why a metric has no value.
    public let undefined: [String: String]
    /// The AUC with its 95 % interval.
    public let aucInterval: ConfidenceInterval?
    /// Bins of the reliability curve; empty for a model that is not binary.
    public let reliability: [ReliabilityBin]

    enum CodingKeys: String, CodingKey {
        case labelled, unlabelled, metrics, undefined, reliability
        case labelMean = "label_mean"
        case predictionMean = "prediction_mean"
        case aucInterval = "auc_interval"
    }

    init(predictions: [Double], outcomes: [Double], unlabelled: Int) {
        labelled = outcomes.count
        self.unlabelled = unlabelled
        labelMean = outcomes.isEmpty ? nil : outcomes.reduce(0, +) / Double(outcomes.count)
        predictionMean = outcomes.isEmpty ? nil : predictions.reduce(0, +) / Double(outcomes.count)
        var metrics: [String: Double] = [:]
        var undefined: [String: String] = [:]
        for metric in EvaluationMetric.basic {
            do throws(StatisticsError) {
                metrics[metric.rawValue] = try metric.value(predictions: predictions, outcomes: outcomes)
            } catch { undefined[metric.rawValue] = error.description }
        }
        self.metrics = metrics
        self.undefined = undefined
        aucInterval = try? ConfidenceInterval.areaUnderROC(predictions: predictions, outcomes: outcomes)
        reliability = (try? ReliabilityBin.curve(predictions: predictions, outcomes: outcomes)) ?? []
    }
}

/// One window of one version: its inputs when the window has ended, its performance when the labels are in.
public struct WindowReport: Sendable, Hashable, Codable {
    /// What the report holds.
    public enum Kind: String, Sendable, Codable {
        /// Inputs and predictions; final when the window has ended.
        case inputs
        /// Labels; final when the label horizon after the window has passed.
        case performance
    }
    /// What the report holds.
    public let kind: Kind
    /// Which rows it is about.
    public let scope: WindowScope
    /// Predictions in the window, so far as they were on time.
    public let rows: Int
    /// Whether the version has a reference profile; without one `inputs` is empty.
    public let hasReference: Bool
    /// Each input against training; empty in a performance report.
    public let inputs: [InputReport]
    /// The prediction against training.
    public let prediction: InputReport?
    /// What labels say; `nil` in an inputs report.
    public let performance: PerformanceReport?

    enum CodingKeys: String, CodingKey {
        case kind, scope, rows, inputs, prediction, performance
        case hasReference = "has_reference"
    }
}

/// Two versions on the same requests: the one that answered and its shadow.
public struct PairReport: Sendable, Hashable, Codable {
    /// `inputs` when the window has ended; `performance`, with the difference in AUC, when the labels are in.
    public let kind: WindowReport.Kind
    /// The rows of the version that answered.
    public let scope: WindowScope
    /// The version that ran in its shadow.
    public let shadowVersion: Int
    /// Requests that both scored.
    public let pairs: Int
    /// Share of pairs on different sides of 0.5.
    public let disagreementShare: Double
    /// Mean of |shadow − answer|.
    public let meanAbsoluteDifference: Double
    /// PSI of the shadow's predictions against the answers, over 20 quantile bins of the answers.
    public let predictionPSI: Double
    /// Pairs with a label.
    public let labelledPairs: Int
    /// AUC of the shadow minus that of the answers, with a paired bootstrap interval; `nil` before labels are in.
    public let aucDifference: ConfidenceInterval?
    /// Why there is no difference in a performance report.
    public let undefined: String?

    enum CodingKeys: String, CodingKey {
        case kind, scope, pairs, undefined
        case shadowVersion = "shadow_version"
        case disagreementShare = "disagreement_share"
        case meanAbsoluteDifference = "mean_absolute_difference"
        case predictionPSI = "prediction_psi"
        case labelledPairs = "labelled_pairs"
        case aucDifference = "auc_difference"
    }
}

/// One incident: a rule that fires, from the first window in which it does until a window in which it is quiet.
public struct Alert: Sendable, Hashable, Codable {
    /// An input beyond the rule's bound.
    public struct Observation: Sendable, Hashable, Codable {
        /// The input; `prediction` for the prediction, a metric's name for a metric.
        public let name: String
        /// What was measured.
        public let observed: Double
    }
    /// Made of monitor, rule, version and first window, so the same incident has the same identifier after a restart.
    public let id: String
    /// The rule.
    public let rule: String
    /// How loud.
    public let severity: AlertSeverity
    /// The rows of the first window in which it fired.
    public let scope: WindowScope
    /// The worst observation of the newest window in which it fired.
    public var observed: Double
    /// The bound it is beyond.
    public let threshold: Double
    /// The input with the worst observation; `nil` for a metric.
    public var feature: String?
    /// All inputs beyond the bound, worst first.
    public var features: [Observation]
    /// What is wrong, in one sentence.
    public var message: String
    /// Windows in which it fired.
    public var count: Int
    /// End of the newest window in which it fired.
    public var lastSeen: EventTime
    /// End of the window that was quiet; `nil` while the incident is open.
    public var resolvedAt: EventTime?
    /// Why it was resolved.
    public var resolution: String?

    enum CodingKeys: String, CodingKey {
        case id, rule, severity, scope, observed, threshold, feature, features, message, count, resolution
        case lastSeen = "last_seen"
        case resolvedAt = "resolved_at"
    }
}

/// What the engine found; the service writes it to the log.
public enum MonitorEffect: Sendable, Hashable {
    /// A window's inputs are final.
    case windowClosed(WindowReport)
    /// A window's labels are final.
    case performanceMeasured(WindowReport)
    /// Two versions were compared on the same requests.
    case pairCompared(PairReport)
    /// A new incident.
    case alertRaised(Alert)
    /// A known incident fired again.
    case alertContinued(Alert)
    /// An incident is over.
    case alertResolved(Alert)

    /// The kind of the platform event that carries it.
    public var kind: String {
        switch self {
        case .windowClosed: "monitor.window.closed"
        case .performanceMeasured: "monitor.performance.measured"
        case .pairCompared: "monitor.pair.compared"
        case .alertRaised: "monitor.alert.raised"
        case .alertContinued: "monitor.alert.continued"
        case .alertResolved: "monitor.alert.resolved"
        }
    }

    /// Made of what it is about alone, so that a repetition after a restart is recognized.
    public var id: String {
        switch self {
        case .windowClosed(let report), .performanceMeasured(let report): "\(kind)/\(report.scope.path)"
        case .pairCompared(let report): "\(kind)/\(report.scope.path)/\(report.shadowVersion)/\(report.kind.rawValue)"
        case .alertRaised(let alert), .alertResolved(let alert): "\(kind)/\(alert.id)"
        case .alertContinued(let alert): "\(kind)/\(alert.id)/\(alert.count)"
        }
    }

    /// The platform event: its details are the report or alert as JSON with the member `event_id` added.
    public func event(at time: EventTime) throws -> PlatformEvent {
        let (value, subject): (JSONValue, String) =
            switch self {
            case .windowClosed(let report), .performanceMeasured(let report): (try .of(report), report.scope.subject)
            case .pairCompared(let report): (try .of(report), report.scope.subject)
            case .alertRaised(let alert), .alertContinued(let alert), .alertResolved(let alert):
                (try .of(alert), alert.scope.subject)
            }
        var members = value.objectValue ?? [:]
        members["event_id"] = .string(id)
        return PlatformEvent(kind: kind, subject: subject, time: time, actor: "monitor", details: .object(members))
    }
}

extension WindowScope {
    var path: String { "\(monitor)/\(model)/\(version)/\(choice)/\(from.milliseconds)-\(to.milliseconds)" }
    var subject: String { "model/\(model)/versions/\(version)" }
}
