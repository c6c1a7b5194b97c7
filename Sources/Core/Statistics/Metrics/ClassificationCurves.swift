/// One bin of a reliability curve.
public struct ReliabilityBin: Sendable, Hashable, Codable {
    /// How bins are cut.
    public enum Strategy: String, Sendable, Codable, CaseIterable {
        /// Equal widths from 0 to 1.
        case uniform
        /// Equal shares of the rows.
        case quantile
    }

    /// Lower edge of the bin, which belongs to the bin below (to this one when it is the first).
    public let from: Double
    /// Upper edge of the bin, which belongs to it.
    public let to: Double
    /// Rows in it, at least 1.
    public let rowCount: Int
    /// Mean of their predictions.
    public let meanPrediction: Double
    /// Share of positives among them.
    public let positiveShare: Double

    /// The bins that hold rows, from low to high, as scikit-learn's `calibration_curve` has them.
    /// - Throws: as `EvaluationMetric.calibrationError` does.
    public static func curve(
        predictions: [Double], outcomes: [Double], binCount: Int = 10, strategy: Strategy = .uniform
    ) throws(StatisticsError) -> [ReliabilityBin] {
        try curve(
            EvaluationRows(predictions: predictions, outcomes: outcomes), binCount: binCount, strategy: strategy)
    }

    /// The bins that hold rows; of several classes, of the called class and whether it was right.
    /// - Throws: as `EvaluationMetric.calibrationError` does.
    public static func curve(
        _ rows: EvaluationRows, binCount: Int = 10, strategy: Strategy = .uniform
    ) throws(StatisticsError) -> [ReliabilityBin] {
        precondition(binCount > 0, "a curve has a bin")
        let (probabilities, outcomes) = try PreparedMetric.confidences(rows)
        let edges =
            strategy == .uniform ? uniformEdges(binCount) : quantileEdges(probabilities.sorted(), binCount)
        var counts = [Int](repeating: 0, count: binCount)
        var sums = [Double](repeating: 0, count: binCount)
        var positives = counts
        for (probability, outcome) in zip(probabilities, outcomes) {
            let bin = bin(of: probability, edges: edges)
            counts[bin] += 1
            sums[bin] += probability
            if outcome == 1 { positives[bin] += 1 }
        }
        return counts.indices.filter { counts[$0] > 0 }.map { bin in
            ReliabilityBin(
                from: edges[bin], to: edges[bin + 1], rowCount: counts[bin],
                meanPrediction: sums[bin] / Double(counts[bin]),
                positiveShare: Double(positives[bin]) / Double(counts[bin]))
        }
    }

    /// Edges of equal-width bins, first 0, last 1.
    static func uniformEdges(_ binCount: Int) -> [Double] {
        let width = 1 / Double(binCount)
        return (0..<binCount).map { Double($0) * width } + [1]
    }

    /// Edges at equal shares of the rows, by linear interpolation with NumPy's rounding.
    static func quantileEdges(_ sorted: [Double], _ binCount: Int) -> [Double] {
        let width = 1 / Double(binCount)
        return (0...binCount).map { step in
            let share = (step == binCount ? 1 : Double(step) * width) * 100 / 100
            let place = share * Double(sorted.count - 1)
            let low = Int(place.rounded(.down))
            let high = min(low + 1, sorted.count - 1)
            let (gap, part) = (sorted[high] - sorted[low], place - Double(low))
            return part < 0.5 ? sorted[low] + gap * part : sorted[high] - gap * (1 - part)
        }
    }

    /// The bin of a probability: the number of inner edges below it.
    static func bin(of probability: Double, edges: [Double]) -> Int {
        var (low, high) = (1, edges.count - 1)
        while low < high {
            let middle = (low + high) / 2
            if edges[middle] < probability { low = middle + 1 } else { high = middle }
        }
        return low - 1
    }
}

/// One point of an ROC curve.
public struct ROCPoint: Sendable, Hashable, Codable {
    /// Share of negatives called positive.
    public let falsePositiveRate: Double
    /// Share of positives called positive.
    public let truePositiveRate: Double
    /// Rows at or above it are called positive; the first point, where no row is, has 1 above the highest prediction.
    public let threshold: Double

    /// The points at distinct thresholds from high to low, thinned evenly to at most `pointCountMax` (at least 2).
    /// - Throws: as `EvaluationMetric.auc` does.
    public static func curve(
        predictions: [Double], outcomes: [Double], pointCountMax: Int = .max
    ) throws(StatisticsError) -> [ROCPoint] {
        try checkRows(predictions, outcomes)
        try checkBinary(outcomes)
        let positiveCount = outcomes.count { $0 == 1 }
        guard positiveCount > 0, positiveCount < outcomes.count else { throw .oneClassOnly }
        var points = [
            ROCPoint(falsePositiveRate: 0, truePositiveRate: 0, threshold: (predictions.max() ?? 0) + 1)
        ]
        RankedRows(scores: predictions) { outcomes[$0] == 1 }.thresholds { row, positives, negatives in
            points.append(
                ROCPoint(
                    falsePositiveRate: Double(negatives) / Double(outcomes.count - positiveCount),
                    truePositiveRate: Double(positives) / Double(positiveCount), threshold: predictions[row]))
        }
        return thinned(points, to: pointCountMax)
    }
}

/// One point of a precision-recall curve.
public struct PrecisionRecallPoint: Sendable, Hashable, Codable {
    /// Share of positives called positive.
    public let recall: Double
    /// Share of the rows called positive that are.
    public let precision: Double
    /// Rows at or above it are called positive.
    public let threshold: Double

    /// The points at distinct thresholds from high to low, thinned evenly to at most `pointCountMax` (at least 2).
    ///
    /// As scikit-learn's `precision_recall_curve`, in the other order and without its last point of no rows.
    /// - Throws: as `EvaluationMetric.averagePrecision` does.
    public static func curve(
        predictions: [Double], outcomes: [Double], pointCountMax: Int = .max
    ) throws(StatisticsError) -> [PrecisionRecallPoint] {
        try checkRows(predictions, outcomes)
        try checkBinary(outcomes)
        let positiveCount = outcomes.count { $0 == 1 }
        guard positiveCount > 0 else { throw .oneClassOnly }
        var points: [PrecisionRecallPoint] = []
        RankedRows(scores: predictions) { outcomes[$0] == 1 }.thresholds { row, positives, negatives in
            points.append(
                PrecisionRecallPoint(
                    recall: Double(positives) / Double(positiveCount),
                    precision: Double(positives) / Double(positives + negatives), threshold: predictions[row]))
        }
        return thinned(points, to: pointCountMax)
    }
}

private func thinned<Point>(_ points: [Point], to countMax: Int) -> [Point] {
    let kept = max(2, countMax)
    guard points.count > kept else { return points }
    return (0..<kept).map { points[$0 * (points.count - 1) / (kept - 1)] }
}
