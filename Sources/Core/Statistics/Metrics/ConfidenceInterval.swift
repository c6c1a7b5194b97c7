import Foundation

/// A value with the range that holds it at a stated confidence.
public struct ConfidenceInterval: Sendable, Hashable, Codable {
    /// The value on the rows themselves.
    public let estimate: Double
    /// Lower end.
    public let lower: Double
    /// Upper end.
    public let upper: Double
    /// Share of repetitions in which the range would hold the true value, 0.95.
    public let confidence: Double

    /// Makes it.
    public init(estimate: Double, lower: Double, upper: Double, confidence: Double) {
        self.estimate = estimate
        self.lower = lower
        self.upper = upper
        self.confidence = confidence
    }

    /// Area under the ROC curve with a 95 % interval by DeLong's normal approximation, cut to 0…1.
    ///
    /// - Throws: as `EvaluationMetric.auc` does; `undefined` with fewer than two rows of a class.
    /// - Complexity: O(n log n).
    /// - SeeAlso: DeLong, DeLong & Clarke-Pearson (1988); Sun & Xu (2014) for the ranks.
    public static func areaUnderROC(
        predictions: [Double], outcomes: [Double]
    ) throws(StatisticsError) -> ConfidenceInterval {
        let area = try EvaluationMetric.auc.value(predictions: predictions, outcomes: outcomes)
        let positives = zip(predictions, outcomes).filter { $1 == 1 }.map(\.0).sorted()
        let negatives = zip(predictions, outcomes).filter { $1 == 0 }.map(\.0).sorted()
        guard positives.count > 1, negatives.count > 1 else { throw .undefined("a class has fewer than two rows") }
        let ofPositives = placements(of: positives, among: negatives)
        let ofNegatives = placements(of: negatives, among: positives).map { 1 - $0 }
        let variance =
            sampleVariance(ofPositives, mean: area) / Double(positives.count)
            + sampleVariance(ofNegatives, mean: area) / Double(negatives.count)
        let reach = 1.959_963_984_540_054 * variance.squareRoot()
        return ConfidenceInterval(
            estimate: area, lower: max(0, area - reach), upper: min(1, area + reach), confidence: 0.95)
    }

    /// For each value the share of `others` below it, equal ones counting half.
    ///
    /// Both lists are sorted.
    private static func placements(of values: [Double], among others: [Double]) -> [Double] {
        var (below, upTo) = (0, 0)
        return values.map { value in
            while below < others.count, others[below] < value { below += 1 }
            upTo = max(upTo, below)
            while upTo < others.count, others[upTo] <= value { upTo += 1 }
            return Double(below + upTo) / 2 / Double(others.count)
        }
    }

    private static func sampleVariance(_ values: [Double], mean: Double) -> Double {
        values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count - 1)
    }

    /// The difference `second − first` of a metric between two models on the same rows, with a percentile bootstrap
    /// interval: each resample draws rows with replacement and measures both models on them.
    ///
    /// Resamples in which the metric is undefined (one class) are left out.
    /// - Throws: as the metric does; `undefined` if that is so in more than half of the resamples.
    /// - Complexity: O(n log n + resampleCount · n).
    /// - SeeAlso: Efron & Tibshirani (1993), *An Introduction to the Bootstrap*, chapter 13.
    public static func pairedDifference(
        of metric: EvaluationMetric, first: [Double], second: [Double], outcomes: [Double], resampleCount: Int = 1000,
        confidence: Double = 0.95, seed: UInt64
    ) throws(StatisticsError) -> ConfidenceInterval {
        guard first.count == second.count else { throw .shapeMismatch(first.count, second.count) }
        return try Bootstrap(replicateCount: resampleCount, confidence: confidence, seed: seed).pairedDifference(
            of: metric, first: EvaluationRows(predictions: first, outcomes: outcomes),
            second: EvaluationRows(predictions: second, outcomes: outcomes))
    }

    /// Wilson's 95 % interval of a share of rows; it stays within 0…1 and has a width even at the ends.
    ///
    /// - Throws: `emptyInput` without rows.
    /// - SeeAlso: Wilson (1927), *Probable Inference, the Law of Succession, and Statistical Inference*.
    public static func share(_ count: Int, of rows: Int) throws(StatisticsError) -> ConfidenceInterval {
        guard rows > 0 else { throw .emptyInput }
        let (z, n) = (1.959_963_984_540_054, Double(rows))
        let share = Double(count) / n
        let middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        let reach = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)).squareRoot()
        return ConfidenceInterval(
            estimate: share, lower: count == 0 ? 0 : max(0, middle - reach),
            upper: count == rows ? 1 : min(1, middle + reach), confidence: 0.95)
    }

    /// Linear interpolation between order statistics (Hyndman & Fan's type 7, NumPy's default).
    static func quantile(_ sorted: [Double], _ share: Double) -> Double {
        let place = share * Double(sorted.count - 1)
        let low = Int(place.rounded(.down))
        let high = min(low + 1, sorted.count - 1)
        return sorted[low] + (sorted[high] - sorted[low]) * (place - Double(low))
    }
}
