public import PlatformCore

/// What a version must show on logged traffic, with the features as they were, before it meets live traffic.
public struct ReplayBounds: Sendable, Hashable {
    /// How much of the log is replayed, up to now.
    public let span: TimeSpan
    /// Answers that must have been compared.
    public let pairsMin: Int
    /// Highest share of pairs that decide otherwise: another class, or the other side of 0.5; `nil` for any.
    public let disagreementMax: Double?
    /// Highest mean distance of pairs; `nil` for any.
    public let meanDifferenceMax: Double?
    /// Highest PSI of the predictions; `nil` for any.
    public let predictionPSIMax: Double?
    /// Highest share of rows that the version fails on.
    public let errorRateMax: Double

    /// Names everything.
    public init(
        span: TimeSpan, pairsMin: Int, disagreementMax: Double?, meanDifferenceMax: Double?, predictionPSIMax: Double?,
        errorRateMax: Double
    ) {
        self.span = span
        self.pairsMin = pairsMin
        self.disagreementMax = disagreementMax
        self.meanDifferenceMax = meanDifferenceMax
        self.predictionPSIMax = predictionPSIMax
        self.errorRateMax = errorRateMax
    }

    init(span: TimeSpan, _ reader: FieldReader) throws(PlatformError) {
        guard span.milliseconds <= 3660 * 86_400_000 else {
            throw reader.error("replay_shadow", "'replay_shadow' reaches back 3660 days at most")
        }
        self.span = span
        pairsMin = try reader.integer("pairs_min", default: 1000, in: 1...1_000_000_000)
        disagreementMax = try reader.optionalShare("disagreement_max")
        meanDifferenceMax = try reader.optionalBound("mean_difference_max")
        predictionPSIMax = try reader.optionalBound("prediction_psi_max")
        errorRateMax = try reader.share("error_rate_max", default: 0)
        guard disagreementMax ?? meanDifferenceMax ?? predictionPSIMax != nil else {
            throw reader.error(
                "replay_shadow",
                "a replay needs a bound: 'disagreement_max', 'mean_difference_max' or 'prediction_psi_max'")
        }
    }

    /// One line for people and evidence.
    var summary: String {
        let bounds = [
            disagreementMax.map { "disagreement ≤ \($0)" }, meanDifferenceMax.map { "mean difference ≤ \($0)" },
            predictionPSIMax.map { "prediction PSI ≤ \($0)" }, "failures ≤ \(errorRateMax)",
        ]
        return "replay of \(span), \(pairsMin) pairs: \(bounds.compactMap(\.self).joined(separator: ", "))"
    }
}
