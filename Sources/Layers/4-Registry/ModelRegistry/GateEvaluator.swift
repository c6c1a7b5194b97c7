public import Definitions
import PlatformCore
import Statistics

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

    /// Makes a result.
    public init(gate: String, passed: Bool, observed: Double?, detail: String) {
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

/// What is known of a version when its gates are asked.
public struct VersionEvidence: Sendable, Hashable {
    /// Metrics of the real artifact by slice.
    public let metrics: SliceMetrics
    /// The champion's metrics on the same rows; `nil` if there is no champion.
    public let championMetrics: SliceMetrics?
    /// Rows by slice.
    public let rows: [String: Int]
    /// Whether the version has a signature.
    public let hasSignature: Bool
    /// Measured 99th percentile of scoring one row with the real artifact, in milliseconds; `nil` if not measured.
    public let latencyP99Milliseconds: Double?
    /// What a comparison of the version's features as served with the offline engine found; `nil` if there was none.
    public let parity: ParityEvidence?

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
            GateResult(gate: gate.summary, passed: passed, observed: observed, detail: detail)
        }
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
        }
    }

    private static func finite(_ value: Double?) -> Double? { value.flatMap { $0.isFinite ? $0 : nil } }

    /// Four digits after the point, more for small values: enough to see which side of a bound a value is on.
    private static func text(_ value: Double) -> String {
        let scale = abs(value) < 0.01 ? 1e8 : 1e6
        let rounded = (value * scale).rounded() / scale
        return rounded.isFinite ? rounded.description : value.description
    }
}
