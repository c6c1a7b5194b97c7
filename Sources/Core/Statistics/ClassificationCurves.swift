/// Counts of a binary decision at one threshold, and what follows from them.
public struct ConfusionCounts: Sendable, Hashable, Codable {
    /// Positive rows that were called positive.
    public let truePositives: Int
    /// Negative rows that were called positive.
    public let falsePositives: Int
    /// Negative rows that were called negative.
    public let trueNegatives: Int
    /// Positive rows that were called negative.
    public let falseNegatives: Int

    /// Counts rows; a prediction at or above `threshold` calls the row positive.
    /// - Throws: `shapeMismatch`, `emptyInput`, `notFinite`, `outcomeNotBinary`.
    public init(predictions: [Double], outcomes: [Double], threshold: Double = 0.5) throws(StatisticsError) {
        try checkRows(predictions, outcomes)
        try checkBinary(outcomes)
        var counts = [0, 0, 0, 0]
        for (prediction, outcome) in zip(predictions, outcomes) {
            counts[(prediction >= threshold ? 2 : 0) + (outcome == 1 ? 1 : 0)] += 1
        }
        (trueNegatives, falseNegatives, falsePositives, truePositives) = (counts[0], counts[1], counts[2], counts[3])
    }

    /// All rows.
    public var rowCount: Int { truePositives + falsePositives + trueNegatives + falseNegatives }

    /// Share of rows that were called rightly.
    public var accuracy: Double { Double(truePositives + trueNegatives) / Double(rowCount) }

    /// Share of the rows called positive that are positive.
    /// - Throws: `undefined` when no row was called positive.
    public func precision() throws(StatisticsError) -> Double {
        try ratio(truePositives, truePositives + falsePositives, "no row was called positive")
    }

    /// Share of the positive rows that were called positive.
    /// - Throws: `undefined` when no row is positive.
    public func recall() throws(StatisticsError) -> Double {
        try ratio(truePositives, truePositives + falseNegatives, "no row is positive")
    }

    /// Harmonic mean of precision and recall, `2 TP / (2 TP + FP + FN)`.
    /// - Throws: `undefined` when no row is positive and none was called so.
    public func f1() throws(StatisticsError) -> Double {
        try ratio(
            2 * truePositives, 2 * truePositives + falsePositives + falseNegatives,
            "no row is positive and none was called so")
    }

    private func ratio(_ part: Int, _ whole: Int, _ reason: String) throws(StatisticsError) -> Double {
        guard whole > 0 else { throw .undefined(reason) }
        return Double(part) / Double(whole)
    }
}

/// One bin of a reliability curve.
public struct ReliabilityBin: Sendable, Hashable, Codable {
    /// Lower edge of the bin, which belongs to the bin below (to this one when it is 0).
    public let from: Double
    /// Upper edge of the bin, which belongs to it.
    public let to: Double
    /// Rows in it, at least 1.
    public let rowCount: Int
    /// Mean of their predictions.
    public let meanPrediction: Double
    /// Share of positives among them.
    public let positiveShare: Double

    /// The bins that hold rows, from low to high.
    /// - Throws: as `EvaluationMetric.calibrationError` does.
    public static func curve(
        predictions: [Double], outcomes: [Double], binCount: Int = 10
    ) throws(StatisticsError) -> [ReliabilityBin] {
        precondition(binCount > 0, "a curve has a bin")
        try checkRows(predictions, outcomes)
        try checkBinary(outcomes)
        try checkProbabilities(predictions)
        var rows = [Int](repeating: 0, count: binCount)
        var sums = [Double](repeating: 0, count: binCount)
        var positives = rows
        for (prediction, outcome) in zip(predictions, outcomes) {
            let bin = calibrationBin(of: prediction, binCount: binCount)
            rows[bin] += 1
            sums[bin] += prediction
            if outcome == 1 { positives[bin] += 1 }
        }
        let width = 1 / Double(binCount)
        return rows.indices.filter { rows[$0] > 0 }.map { bin in
            ReliabilityBin(
                from: Double(bin) * width, to: bin == binCount - 1 ? 1 : Double(bin + 1) * width, rowCount: rows[bin],
                meanPrediction: sums[bin] / Double(rows[bin]),
                positiveShare: Double(positives[bin]) / Double(rows[bin]))
        }
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
    /// - Throws: as `EvaluationMetric.areaUnderROC` does.
    public static func curve(
        predictions: [Double], outcomes: [Double], pointCountMax: Int = .max
    ) throws(StatisticsError) -> [ROCPoint] {
        try checkRows(predictions, outcomes)
        try checkBinary(outcomes)
        let positiveCount = outcomes.count { $0 == 1 }
        guard positiveCount > 0, positiveCount < outcomes.count else { throw .oneClassOnly }
        let order = descendingOrder(predictions)
        var points = [ROCPoint(falsePositiveRate: 0, truePositiveRate: 0, threshold: predictions[order[0]] + 1)]
        var (positives, negatives) = (0, 0)
        for (place, row) in order.enumerated() {
            if outcomes[row] == 1 { positives += 1 } else { negatives += 1 }
            if place + 1 < order.count, predictions[order[place + 1]] == predictions[row] { continue }
            points.append(
                ROCPoint(
                    falsePositiveRate: Double(negatives) / Double(outcomes.count - positiveCount),
                    truePositiveRate: Double(positives) / Double(positiveCount), threshold: predictions[row]))
        }
        let kept = max(2, pointCountMax)
        guard points.count > kept else { return points }
        return (0..<kept).map { points[$0 * (points.count - 1) / (kept - 1)] }
    }
}
