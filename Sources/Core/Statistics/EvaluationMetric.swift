import Foundation

/// A measure of predictions against outcomes, equal to scikit-learn's of the same meaning.
///
/// Raw values are the names that definitions use.
public enum EvaluationMetric: String, Sendable, Codable, CaseIterable {
    /// Area under the ROC curve; ties count half (`roc_auc_score`).
    case areaUnderROC = "auc"
    /// Average precision, `Σ (Rₙ − Rₙ₋₁) Pₙ` over distinct thresholds (`average_precision_score`).
    case averagePrecision = "average_precision"
    /// Mean negative log likelihood, probabilities kept ε = 2⁻⁵² from 0 and 1 (`log_loss`).
    case logLoss = "log_loss"
    /// Mean squared distance of probability and outcome (`brier_score_loss`).
    case brier
    /// Expected calibration error, `Σ nᵦ/n · |mean p − share of positives|` over ten equal-width bins.
    case calibrationError = "ece"
    /// Root mean squared error.
    case rootMeanSquaredError = "rmse"
    /// Mean absolute error.
    case meanAbsoluteError = "mae"

    /// Whether more is better.
    public var higherIsBetter: Bool { self == .areaUnderROC || self == .averagePrecision }

    /// Whether outcomes must be 0 or 1.
    public var isBinary: Bool { self != .rootMeanSquaredError && self != .meanAbsoluteError }

    /// The value on some rows.
    /// - Throws: `shapeMismatch`, `emptyInput`, `notFinite`; for a binary measure `outcomeNotBinary`, `notAProbability`
    ///   (log loss, Brier, calibration), `oneClassOnly` (AUC with one class, average precision without positives).
    public func value(predictions: [Double], outcomes: [Double]) throws(StatisticsError) -> Double {
        try PreparedMetric(self, predictions: predictions, outcomes: outcomes).value()
    }
}

/// A metric with the rows checked and sorted once, so that resamples cost one pass each.
struct PreparedMetric {
    private let metric: EvaluationMetric
    /// For ranking metrics: row numbers from the highest prediction down.
    ///
    /// Otherwise empty.
    private let order: [Int]
    /// For ranking metrics: whether the row at this place of `order` ends a run of equal predictions.
    private let endsRun: [Bool]
    private let positive: [Bool]
    /// For additive metrics: each row's own loss.
    private let losses: [Double]
    /// For calibration: each row's bin, and the predictions.
    private let bins: [Int]
    private let predictions: [Double]

    init(_ metric: EvaluationMetric, predictions: [Double], outcomes: [Double]) throws(StatisticsError) {
        self.metric = metric
        try checkRows(predictions, outcomes)
        if metric.isBinary { try checkBinary(outcomes) }
        let positive = metric.isBinary ? outcomes.map { $0 == 1 } : []
        self.positive = positive
        switch metric {
        case .areaUnderROC, .averagePrecision:
            let hasPositive = positive.contains(true)
            guard hasPositive, metric == .averagePrecision || positive.contains(false) else { throw .oneClassOnly }
            let order = descendingOrder(predictions)
            self.order = order
            endsRun = order.indices.map {
                $0 == order.count - 1 || predictions[order[$0]] != predictions[order[$0 + 1]]
            }
            (losses, bins, self.predictions) = ([], [], [])
        case .calibrationError:
            try checkProbabilities(predictions)
            (order, endsRun, losses) = ([], [], [])
            bins = predictions.map { calibrationBin(of: $0, binCount: 10) }
            self.predictions = predictions
        case .logLoss, .brier, .rootMeanSquaredError, .meanAbsoluteError:
            if metric.isBinary { try checkProbabilities(predictions) }
            (order, endsRun, bins, self.predictions) = ([], [], [], [])
            losses = zip(predictions, outcomes).map { prediction, outcome in
                switch metric {
                case .logLoss:
                    -log(min(max(outcome == 1 ? prediction : 1 - prediction, Double.ulpOfOne), 1 - Double.ulpOfOne))
                case .meanAbsoluteError: abs(prediction - outcome)
                default: (prediction - outcome) * (prediction - outcome)
                }
            }
        }
    }

    /// The value when row `i` counts `weights[i]` times; every row once without weights.
    func value(weights: [UInt32]? = nil) throws(StatisticsError) -> Double {
        switch metric {
        case .areaUnderROC: try ranked(weights).area
        case .averagePrecision: try ranked(weights).precision
        case .calibrationError: calibration(weights)
        case .rootMeanSquaredError: mean(weights).squareRoot()
        case .logLoss, .brier, .meanAbsoluteError: mean(weights)
        }
    }

    private func mean(_ weights: [UInt32]?) -> Double {
        guard let weights else { return losses.reduce(0, +) / Double(losses.count) }
        var (total, rows) = (0.0, 0.0)
        for (loss, weight) in zip(losses, weights) where weight > 0 {
            total += loss * Double(weight)
            rows += Double(weight)
        }
        return total / rows
    }

    private func ranked(_ weights: [UInt32]?) throws(StatisticsError) -> (area: Double, precision: Double) {
        var (positives, negatives, area, precision) = (0.0, 0.0, 0.0, 0.0)
        var (runPositives, runNegatives) = (0.0, 0.0)
        for (place, row) in order.enumerated() {
            let weight = weights.map { Double($0[row]) } ?? 1
            if positive[row] { runPositives += weight } else { runNegatives += weight }
            guard endsRun[place] else { continue }
            area += runNegatives * (positives + runPositives / 2)
            positives += runPositives
            negatives += runNegatives
            if runPositives > 0 { precision += runPositives * positives / (positives + negatives) }
            (runPositives, runNegatives) = (0, 0)
        }
        guard positives > 0, metric == .averagePrecision || negatives > 0 else { throw .oneClassOnly }
        return (negatives > 0 ? area / positives / negatives : 0, precision / positives)
    }

    private func calibration(_ weights: [UInt32]?) -> Double {
        var (gap, rows) = ([Double](repeating: 0, count: 10), 0.0)
        for row in predictions.indices {
            let weight = weights.map { Double($0[row]) } ?? 1
            gap[bins[row]] += weight * (predictions[row] - (positive[row] ? 1 : 0))
            rows += weight
        }
        return gap.reduce(0) { $0 + abs($1) } / rows
    }
}

/// Row numbers from the highest value down; equal values by row number.
func descendingOrder(_ values: [Double]) -> [Int] {
    values.indices.sorted { values[$0] != values[$1] ? values[$0] > values[$1] : $0 < $1 }
}

/// The equal-width bin of a probability.
///
/// Bins hold their upper edge, as scikit-learn's `calibration_curve` has it.
func calibrationBin(of probability: Double, binCount: Int) -> Int {
    let width = 1 / Double(binCount)
    var bin = min(binCount - 1, max(0, Int(probability * Double(binCount))))
    while bin > 0, probability <= Double(bin) * width { bin -= 1 }
    while bin < binCount - 1, probability > Double(bin + 1) * width { bin += 1 }
    return bin
}

func checkRows(_ predictions: [Double], _ outcomes: [Double]) throws(StatisticsError) {
    guard predictions.count == outcomes.count else { throw .shapeMismatch(predictions.count, outcomes.count) }
    guard !predictions.isEmpty else { throw .emptyInput }
    guard predictions.allSatisfy(\.isFinite), outcomes.allSatisfy(\.isFinite) else { throw .notFinite }
}

func checkBinary(_ outcomes: [Double]) throws(StatisticsError) {
    if let other = outcomes.first(where: { $0 != 0 && $0 != 1 }) { throw .outcomeNotBinary(other) }
}

func checkProbabilities(_ predictions: [Double]) throws(StatisticsError) {
    if let other = predictions.first(where: { !(0...1 ~= $0) }) { throw .notAProbability(other) }
}
