public import Definitions
import PlatformCore
public import Statistics

/// What a gate said.
public struct GateResult: Sendable, Hashable, Codable {
    /// The gate in one line, `auc on test ≥ 0.65`.
    public let gate: String
    /// Whether it holds.
    public let passed: Bool
    /// The value that was compared; `nil` if there is none.
    public let observed: Double?
    /// Why, in a sentence for people.
    public let detail: String
    /// Whether `observed` is a time or size of this moment, which another moment gives a little different.
    public let isMeasured: Bool
    /// Whether people decide it.
    public let isApproval: Bool

    enum CodingKeys: String, CodingKey {
        case gate, passed, observed, detail
        case isMeasured = "measured"
        case isApproval = "approval"
    }

    /// Makes a result.
    public init(
        gate: String, passed: Bool, observed: Double?, detail: String, isMeasured: Bool = false,
        isApproval: Bool = false
    ) {
        self.isMeasured = isMeasured
        self.isApproval = isApproval
        self.gate = gate
        self.passed = passed
        self.observed = observed
        self.detail = detail
    }
}

/// What a parity certificate says, as gates read it.
public struct ParityEvidence: Sendable, Hashable {
    /// Values compared.
    public let compared: Int
    /// Values that differ.
    public let different: Int
    /// Hash of the certificate.
    public let certificate: String
    /// The first difference in one line; `nil` without one.
    public let example: String?
    /// Makes evidence.
    public init(compared: Int, different: Int, certificate: String, example: String?) {
        self.compared = compared
        self.different = different
        self.certificate = certificate
        self.example = example
    }
}

/// What a search for leaks in a training set found, as gates read it.
public struct LeakEvidence: Sendable, Hashable {
    /// Leaks.
    public let count: Int
    /// The first one in one line; `nil` without one.
    public let example: String?
    /// Makes evidence.
    public init(count: Int, example: String?) {
        self.count = count
        self.example = example
    }
}

/// A metric in one group of rows.
public struct GroupEvidence: Sendable, Hashable {
    /// The group.
    public let value: String
    /// Its rows.
    public let rows: Int
    /// The metric; `nil` where it is not defined.
    public let observed: Double?
    /// Makes evidence.
    public init(value: String, rows: Int, observed: Double?) {
        self.value = value
        self.rows = rows
        self.observed = observed
    }
}

/// What is known of a version when its gates are asked.
public struct VersionEvidence: Sendable, Hashable {
    /// Metrics of the real artifact by slice.
    public var metrics: SliceMetrics
    /// The champion's metrics on the same rows; `nil` if there is no champion.
    public var championMetrics: SliceMetrics?
    /// Rows by slice.
    public var rows: [String: Int]
    /// Whether the version has a signature.
    public var hasSignature: Bool
    /// Measured 99th percentile of scoring one row with the real artifact, in milliseconds; `nil` if not measured.
    public var latencyP99Milliseconds: Double?
    /// What a comparison of the version's features as served with the offline engine found; `nil` if there was none.
    public var parity: ParityEvidence?

    /// What callers of the champion would notice; `nil` if a signature is missing.
    public var breaks: [String]?
    /// Whether there is a champion that somebody calls.
    public var hasCallers = false
    /// Memory of the artifact in bytes; `nil` if not measured.
    public var memoryByteCount: Int?
    /// Age of what the training set knows; `nil` if unknown.
    public var datasetAgeMilliseconds: Int64?
    /// What a search for leaks found; `nil` if there was none.
    public var leaks: LeakEvidence?
    /// Metric of the version less that of the champion, for each gate that asks.
    public var differences: [GateDefinition: ConfidenceInterval] = [:]
    /// The metric by group, for each gate that asks.
    public var groups: [GateDefinition: [GroupEvidence]] = [:]
    /// Measures of fairness, for each gate that asks.
    public var fairness: [GateDefinition: ConfidenceInterval] = [:]
    /// What a replay of logged traffic found, for each gate that asks.
    public var replays: [GateDefinition: ReplayEvidence] = [:]
    /// Why what a gate asks for could not be measured.
    public var faults: [GateDefinition: String] = [:]

    /// Makes evidence.
    public init(
        metrics: SliceMetrics, championMetrics: SliceMetrics?, rows: [String: Int], hasSignature: Bool,
        latencyP99Milliseconds: Double?, parity: ParityEvidence? = nil
    ) {
        self.metrics = metrics
        self.championMetrics = championMetrics
        self.rows = rows
        self.hasSignature = hasSignature
        self.latencyP99Milliseconds = latencyP99Milliseconds
        self.parity = parity
    }
}

/// Compares evidence with gates.
///
/// Evidence that is missing, or not a finite number, fails its gate.
public enum GateEvaluator {
    /// One result for each gate, in their order.
    public static func evaluate(_ gates: [GateDefinition], on evidence: VersionEvidence) -> [GateResult] {
        gates.map { evaluate($0, on: evidence) }
    }

    private static func evaluate(_ gate: GateDefinition, on evidence: VersionEvidence) -> GateResult {
        func result(_ passed: Bool, _ observed: Double?, _ detail: String) -> GateResult {
            let isMeasured: Bool =
                switch gate {
                case .latency, .memory, .datasetAge, .featureParity, .replayShadow: true
                default: false
                }
            return GateResult(
                gate: gate.summary, passed: passed, observed: observed, detail: detail, isMeasured: isMeasured)
        }
        func bounded(_ value: Double, _ minimum: Double?, _ maximum: Double?) -> Bool {
            value >= minimum ?? -.infinity && value <= maximum ?? .infinity
        }
        if let fault = evidence.faults[gate] { return result(false, nil, fault) }
        switch gate {
        case .signaturePresent:
            return result(
                evidence.hasSignature, nil,
                evidence.hasSignature ? "the version has a signature" : "the version has no signature")
        case .metric(let metric, let slice, let minimum, let maximum):
            guard let value = finite(evidence.metrics[slice]?[metric]) else {
                return result(false, nil, "\(metric.rawValue) on \(slice) was not measured")
            }
            if let minimum, value < minimum { return result(false, value, "\(value) is below \(minimum)") }
            if let maximum, value > maximum { return result(false, value, "\(value) is above \(maximum)") }
            return result(true, value, "\(text(value)) is within bounds")
        case .notWorseThanChampion(let metric, let slice, let margin):
            guard let value = finite(evidence.metrics[slice]?[metric]) else {
                return result(false, nil, "\(metric.rawValue) on \(slice) was not measured")
            }
            guard let championMetrics = evidence.championMetrics else {
                return result(true, value, "there is no champion to compare with")
            }
            guard let champion = finite(championMetrics[slice]?[metric]) else {
                return result(false, value, "the champion's \(metric.rawValue) on \(slice) was not measured")
            }
            let loss = metric.higherIsBetter ? champion - value : value - champion
            return result(
                loss <= margin, value,
                "\(text(value)) against the champion's \(text(champion)): "
                    + (loss <= 0
                        ? (loss == 0 ? "equal" : "better by \(text(-loss))")
                        : "worse by \(text(loss)), \(loss <= margin ? "within" : "more than") \(text(margin))"))
        case .latency(let bound):
            guard let value = finite(evidence.latencyP99Milliseconds) else {
                return result(false, nil, "the latency of the artifact was not measured")
            }
            return result(
                value <= bound, value, "\(text(value)) ms is \(value <= bound ? "within" : "above") \(text(bound)) ms")
        case .rows(let slice, let minimum):
            guard let count = evidence.rows[slice] else {
                return result(false, nil, "the rows of \(slice) were not counted")
            }
            return result(count >= minimum, Double(count), "\(count) rows, \(minimum) are needed")
        case .featureParity(let least):
            guard let parity = evidence.parity else { return result(false, nil, "the features were not compared") }
            let text = "compared \(parity.compared), different \(parity.different)"
            let proof = "certificate \(parity.certificate.prefix(8))"
            guard parity.different == 0 else {
                return result(
                    false, Double(parity.different), "\(text): \(parity.example ?? "see the certificate") (\(proof))")
            }
            return result(
                parity.compared >= least, 0,
                parity.compared >= least ? "\(text) (\(proof))" : "\(text); \(least) are needed (\(proof))")
        case .signatureCompatible:
            guard evidence.hasCallers else { return result(true, nil, "nobody calls an earlier version") }
            guard let breaks = evidence.breaks else {
                return result(false, nil, "the version or the champion has no signature")
            }
            return result(
                breaks.isEmpty, Double(breaks.count),
                breaks.isEmpty ? "callers of the champion notice nothing" : breaks.prefix(5).joined(separator: "; "))
        case .memory(let bound):
            guard let bytes = evidence.memoryByteCount else { return result(false, nil, "the memory was not measured") }
            return result(
                bytes <= bound, Double(bytes), "\(bytes) bytes are \(bytes <= bound ? "within" : "above") \(bound)")
        case .datasetAge(let span):
            guard let age = evidence.datasetAgeMilliseconds else {
                return result(false, nil, "the age of the training set is not known")
            }
            let days = (Double(age) / 86_400_000 * 10).rounded() / 10
            return result(age <= span.milliseconds, days, "it knows nothing of the last \(days) days")
        case .noLeakage:
            guard let leaks = evidence.leaks else { return result(false, nil, "nobody looked for leaks") }
            return result(
                leaks.count == 0, Double(leaks.count),
                leaks.count == 0 ? "no leak was found" : "\(leaks.count) found: \(leaks.example ?? "")")
        case .betterThanChampion(let metric, _, let margin, let confidence):
            guard evidence.hasCallers else { return result(true, nil, "there is no champion to compare with") }
            guard let interval = evidence.differences[gate], let estimate = finite(interval.estimate) else {
                return result(false, nil, "\(metric.rawValue) of both was not measured")
            }
            let gain = metric.higherIsBetter ? interval.lower : -interval.upper
            let sides = "\(text(interval.lower)) to \(text(interval.upper)) with \(text(confidence)) confidence"
            return result(
                gain > margin, estimate,
                "the difference is \(text(estimate)), \(sides): "
                    + (gain > margin ? "better" : "not surely better by more than \(text(margin))"))
        case .perGroup(let metric, _, let column, let rowsMin, let minimum, let maximum):
            guard let groups = evidence.groups[gate] else {
                return result(false, nil, "\(metric.rawValue) by \(column) was not measured")
            }
            let large = groups.filter { $0.rows >= rowsMin }
            guard !large.isEmpty else { return result(false, nil, "no group has \(rowsMin) rows") }
            let bad = large.filter { group in
                finite(group.observed).map { !bounded($0, minimum, maximum) } ?? true
            }
            let worst = large.compactMap { finite($0.observed) }.min {
                metric.higherIsBetter ? $0 < $1 : $0 > $1
            }
            return result(
                bad.isEmpty, worst,
                bad.isEmpty
                    ? "all \(large.count) groups are within bounds; \(groups.count - large.count) are too small to judge"
                    : bad.prefix(5).map { "\($0.value): \($0.observed.map(text) ?? "undefined") on \($0.rows) rows" }
                        .joined(separator: "; "))
        case .fairness(let measure, _, let column, _, let minimum, let maximum):
            guard let interval = evidence.fairness[gate], let value = finite(interval.estimate) else {
                return result(false, nil, "\(measure) by \(column) is not defined on these rows")
            }
            return result(
                bounded(value, minimum, maximum), value,
                "\(text(value)) (\(text(interval.lower)) to \(text(interval.upper))) is "
                    + (bounded(value, minimum, maximum) ? "within bounds" : "out of bounds"))
        case .replayShadow(let bounds):
            guard evidence.hasCallers else { return result(true, nil, "no earlier version has answered anything") }
            guard let replay = evidence.replays[gate] else { return result(false, nil, "no traffic was replayed") }
            let (passed, detail) = replay.verdict(bounds)
            return result(passed, replay.disagreement ?? replay.meanDifference, detail)
        case .approvals(let count): return result(false, 0, "\(count) people have to approve")
        }
    }

    private static func finite(_ value: Double?) -> Double? { value.flatMap { $0.isFinite ? $0 : nil } }

    /// Four digits after the point, more for small values: enough to see which side of a bound a value is on.
    static func text(_ value: Double) -> String {
        let scale = abs(value) < 0.01 ? 1e8 : 1e6
        let rounded = (value * scale).rounded() / scale
        return rounded.isFinite ? rounded.description : value.description
    }
}
