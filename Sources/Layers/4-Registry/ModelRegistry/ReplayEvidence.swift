import Definitions
public import PlatformCore

/// What a replay of logged traffic found, as gates read it.
public struct ReplayEvidence: Sendable, Hashable {
    /// Its identifier: `GET /api/v1/shadow-replays/{id}`.
    public let id: String
    /// Hash of its report.
    public let report: String
    /// Answers of both versions.
    public let pairs: Int
    /// Rows that the version failed on.
    public let failures: Int
    /// Share of pairs that decide otherwise; `nil` without pairs.
    public let disagreement: Double?
    /// Mean distance of pairs; `nil` without pairs.
    public let meanDifference: Double?
    /// PSI of the predictions; `nil` with too few.
    public let predictionPSI: Double?
    /// When the records begin, if its span begins earlier.
    public let recordsFrom: EventTime?

    /// Makes evidence.
    public init(
        id: String, report: String, pairs: Int, failures: Int, disagreement: Double?, meanDifference: Double?,
        predictionPSI: Double?, recordsFrom: EventTime? = nil
    ) {
        self.id = id
        self.report = report
        self.pairs = pairs
        self.failures = failures
        self.disagreement = disagreement
        self.meanDifference = meanDifference
        self.predictionPSI = predictionPSI
        self.recordsFrom = recordsFrom
    }

    /// Whether it keeps within bounds, and why in a sentence.
    func verdict(_ bounds: ReplayBounds) -> (passed: Bool, detail: String) {
        let proof =
            "replay \(id), report \(report.prefix(8))" + (recordsFrom.map { ", of records since \($0)" } ?? "")
        let total = pairs + failures
        let errors = total > 0 ? Double(failures) / Double(total) : 0
        if errors > bounds.errorRateMax {
            return (false, "it failed on \(failures) of \(total) logged requests (\(proof))")
        }
        guard pairs >= bounds.pairsMin else {
            return (false, "\(pairs) answers could be compared, \(bounds.pairsMin) are needed (\(proof))")
        }
        var found: [String] = []
        var faults: [String] = []
        for (name, value, bound) in [
            ("disagreement", disagreement, bounds.disagreementMax),
            ("mean difference", meanDifference, bounds.meanDifferenceMax),
            ("prediction PSI", predictionPSI, bounds.predictionPSIMax),
        ] {
            guard let bound else { continue }
            guard let value, value.isFinite else {
                faults.append("the \(name) could not be measured")
                continue
            }
            let text = "\(name) \(GateEvaluator.text(value))"
            if value > bound { faults.append("\(text) is above \(bound)") } else { found.append(text) }
        }
        let detail = faults.isEmpty ? found : faults
        return (faults.isEmpty, "\(detail.joined(separator: ", ")) on \(pairs) pairs (\(proof))")
    }
}
