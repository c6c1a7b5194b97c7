/// A measure of predictions against outcomes, equal to scikit-learn's of the same meaning.
///
/// Raw values are the names that definitions use: `auc`, `f1_macro`, `ndcg@10`, `quantile_loss@0.9`. `docs/evaluation.md`
/// has every formula.
public enum EvaluationMetric: Sendable, Hashable {
    /// How a measure of one class becomes one of several.
    public enum Average: String, Sendable, CaseIterable {
        /// Mean over the classes.
        case macro
        /// Of the summed counts of all classes, which is the accuracy.
        case micro
        /// Mean over the classes, weighted by their rows.
        case weighted
    }

    /// Area under the ROC curve; ties count half (`roc_auc_score`). Of several classes the mean of one against the rest.
    case auc
    /// Average precision, `Σ (Rₙ − Rₙ₋₁) Pₙ` over distinct thresholds (`average_precision_score`).
    case averagePrecision
    /// Mean negative log likelihood, probabilities kept ε = 2⁻⁵² from 0 and 1 (`log_loss`).
    case logLoss
    /// Mean squared distance of probabilities and outcome (`brier_score_loss`).
    case brier
    /// Expected calibration error, `Σ nᵦ/n · |mean p − share of positives|` over equal-width bins.
    ///
    /// Of several classes: of the called class and whether it was right.
    case calibrationError
    /// Share of rows that were called rightly (`accuracy_score`).
    case accuracy
    /// Mean of the recalls of the classes that have rows (`balanced_accuracy_score`).
    case balancedAccuracy
    /// Share of the rows called positive that are positive (`precision_score`); without an average of class 1.
    case precision(Average?)
    /// Share of the positive rows that were called positive (`recall_score`); without an average of class 1.
    case recall(Average?)
    /// Harmonic mean of precision and recall (`f1_score`); without an average of class 1.
    case f1(Average?)
    /// Share of relevant rows among the first `k` of a query; equal scores share their places.
    case precisionAt(Int)
    /// Share of a query's relevant rows that are among its first `k`; equal scores share their places.
    case recallAt(Int)
    /// Normalized discounted cumulative gain of the first `at` rows of a query, or of all (`ndcg_score`).
    case normalizedGain(at: Int?)
    /// Mean reciprocal rank of a query's first relevant row; its expectation over the order of equal scores.
    case reciprocalRank
    /// Mean over queries of the average precision.
    case meanAveragePrecision
    /// Root mean squared error (`root_mean_squared_error`).
    case rmse
    /// Mean absolute error (`mean_absolute_error`).
    case mae
    /// Coefficient of determination R² (`r2_score`).
    case determination
    /// Mean absolute error as a share of the outcome, which counts at least 2⁻⁵² (`mean_absolute_percentage_error`).
    case meanAbsolutePercentageError
    /// Median absolute error (`median_absolute_error`).
    case medianAbsoluteError
    /// Quantile (pinball) loss at a share between 0 and 1 (`mean_pinball_loss`).
    case quantileLoss(Double)

    /// What a measure needs to know of its rows.
    public enum Family: String, Sendable, Codable {
        /// A score or probability against a class.
        case classification
        /// A score against a relevance, by query.
        case ranking
        /// A number against a number.
        case regression
    }

    /// What the rows must be.
    public var family: Family {
        switch self {
        case .auc, .averagePrecision, .logLoss, .brier, .calibrationError, .accuracy, .balancedAccuracy,
            .precision, .recall, .f1:
            .classification
        case .precisionAt, .recallAt, .normalizedGain, .reciprocalRank, .meanAveragePrecision: .ranking
        case .rmse, .mae, .determination, .meanAbsolutePercentageError,
            .medianAbsoluteError, .quantileLoss:
            .regression
        }
    }

    /// Whether more is better.
    public var higherIsBetter: Bool {
        switch self {
        case .logLoss, .brier, .calibrationError: false
        case .determination: true
        default: family != .regression
        }
    }

    /// Whether outcomes must be classes.
    public var isBinary: Bool { family == .classification }

    /// What is measured of every version and watched while it serves; all follow from predictions and outcomes alone.
    public static let basic: [EvaluationMetric] = [
        .auc, .averagePrecision, .logLoss, .brier, .calibrationError, .rmse,
        .mae,
    ]

    /// What an evaluation shows unless told otherwise.
    public static func usual(for family: Family, classCount: Int) -> [EvaluationMetric] {
        switch family {
        case .classification where classCount > 2:
            [
                .accuracy, .balancedAccuracy, .f1(.macro), .f1(.weighted), .precision(.macro), .recall(.macro),
                .auc, .averagePrecision, .logLoss, .brier, .calibrationError,
            ]
        case .classification:
            [
                .auc, .averagePrecision, .logLoss, .brier, .calibrationError, .accuracy, .balancedAccuracy,
                .precision(nil), .recall(nil), .f1(nil),
            ]
        case .ranking:
            [
                .normalizedGain(at: 10), .meanAveragePrecision, .reciprocalRank, .precisionAt(10), .recallAt(10),
            ]
        case .regression:
            [
                .rmse, .mae, .medianAbsoluteError, .determination,
                .meanAbsolutePercentageError,
            ]
        }
    }

    /// The value on some rows of one output each.
    /// - Throws: `shapeMismatch`, `emptyInput`, `notFinite`; for a measure of classes `outcomeNotBinary`,
    ///   `notAProbability` (log loss, Brier, calibration), `oneClassOnly` (AUC with one class, average precision without
    ///   positives); `undefined`.
    public func value(predictions: [Double], outcomes: [Double]) throws(StatisticsError) -> Double {
        try value(on: EvaluationRows(predictions: predictions, outcomes: outcomes))
    }

    /// The value on some rows.
    ///
    /// - Parameters:
    ///   - rows: predictions and outcomes.
    ///   - weights: how often each row counts; once without.
    ///   - threshold: a prediction at or above it calls a row positive.
    ///   - binCount: bins of the calibration error.
    /// - Throws: as `value(predictions:outcomes:)`; `unknownClass`, `needsOneOutput`, `negativeRelevance`.
    /// - Complexity: O(n), O(n log n) where rows are ranked.
    public func value(
        on rows: EvaluationRows, weights: [UInt16]? = nil, threshold: Double = 0.5, binCount: Int = 10
    ) throws(StatisticsError) -> Double {
        let prepared = try PreparedMetric(self, rows: rows, threshold: threshold, binCount: binCount)
        guard let weights else { return try prepared.value() }
        guard weights.count == rows.unitCount else { throw .shapeMismatch(weights.count, rows.unitCount) }
        return try prepared.value(weights: rows.rowWeights(weights), units: weights)
    }
}

extension EvaluationMetric: RawRepresentable, Codable, CodingKeyRepresentable, CustomStringConvertible {
    private static let plain: [EvaluationMetric] =
        [
            .auc, .averagePrecision, .logLoss, .brier, .calibrationError, .accuracy, .balancedAccuracy,
            .precision(nil), .recall(nil), .f1(nil),
        ]
        + Average.allCases.flatMap { [.precision($0), .recall($0), .f1($0)] }
        + [
            .normalizedGain(at: nil), .reciprocalRank, .meanAveragePrecision, .rmse,
            .mae, .determination, .meanAbsolutePercentageError, .medianAbsoluteError,
        ]

    private static let byName = Dictionary(uniqueKeysWithValues: plain.map { ($0.rawValue, $0) })

    /// Every name that is known, parameters shown by an example; for help and errors.
    public static let knownNames: [String] =
        plain.map(\.rawValue) + ["precision@10", "recall@10", "ndcg@10", "quantile_loss@0.9"]

    /// Reads a name; `nil` for one that is not known or whose parameter is out of range.
    public init?(rawValue: String) {
        if let known = Self.byName[rawValue] {
            self = known
            return
        }
        let parts = rawValue.split(separator: "@", omittingEmptySubsequences: false)
        guard parts.count == 2, rawValue.utf8.count <= 64 else { return nil }
        if parts[0] == "quantile_loss" {
            guard let share = Double(parts[1]), share > 0, share < 1 else { return nil }
            self = .quantileLoss(share)
            return
        }
        guard let count = Int(parts[1]), 1...1_000_000 ~= count else { return nil }
        switch parts[0] {
        case "precision": self = .precisionAt(count)
        case "recall": self = .recallAt(count)
        case "ndcg": self = .normalizedGain(at: count)
        default: return nil
        }
    }

    /// The name.
    public var rawValue: String {
        switch self {
        case .auc: "auc"
        case .averagePrecision: "average_precision"
        case .logLoss: "log_loss"
        case .brier: "brier"
        case .calibrationError: "ece"
        case .accuracy: "accuracy"
        case .balancedAccuracy: "balanced_accuracy"
        case .precision(let average): average.map { "precision_\($0.rawValue)" } ?? "precision"
        case .recall(let average): average.map { "recall_\($0.rawValue)" } ?? "recall"
        case .f1(let average): average.map { "f1_\($0.rawValue)" } ?? "f1"
        case .precisionAt(let count): "precision@\(count)"
        case .recallAt(let count): "recall@\(count)"
        case .normalizedGain(let count): count.map { "ndcg@\($0)" } ?? "ndcg"
        case .reciprocalRank: "mrr"
        case .meanAveragePrecision: "map"
        case .rmse: "rmse"
        case .mae: "mae"
        case .determination: "r2"
        case .meanAbsolutePercentageError: "mape"
        case .medianAbsoluteError: "median_ae"
        case .quantileLoss(let share): "quantile_loss@\(share)"
        }
    }

    /// The name.
    public var description: String { rawValue }

    /// The name as a key of tracked metrics, which knows no `@`: `ndcg_at_10`.
    public var trackedName: String { rawValue.split(separator: "@").joined(separator: "_at_") }
}
