/// What an evaluation measures, and how.
public struct EvaluationPlan: Sendable, Hashable, Codable {
    /// What is measured; empty for what is usual for such rows.
    public var metrics: [EvaluationMetric] = []
    /// A prediction at or above it calls a row positive.
    public var threshold = 0.5
    /// Bins of the calibration error and the reliability curve.
    public var binCount = 10
    /// How the bins of the reliability curve are cut; those of the calibration error have equal widths.
    public var binStrategy = ReliabilityBin.Strategy.uniform
    /// Rows of a group, or of a class of it, below which it is marked as small.
    public var smallBelow = 30
    /// Draws of intervals.
    public var bootstrap = Bootstrap()

    /// A plan with everything as usual.
    public init() {}
}

/// A metric on some rows.
public struct MetricResult: Sendable, Hashable, Codable {
    /// Which one.
    public let metric: EvaluationMetric
    /// Its value; `nil` if it is undefined.
    public let value: Double?
    /// Its interval; `nil` if there is none.
    public let interval: ConfidenceInterval?
    /// Why there is no value, or no interval.
    public let reason: String?

    /// Measures it.
    static func measure(_ metrics: [EvaluationMetric], on rows: EvaluationRows, _ plan: EvaluationPlan)
        -> [MetricResult]
    {
        let found = plan.bootstrap.intervals(
            of: metrics, on: rows, threshold: plan.threshold, binCount: plan.binCount)
        return zip(metrics, found).map { metric, result in
            switch result {
            case .success(let interval):
                return MetricResult(metric: metric, value: interval.estimate, interval: interval, reason: nil)
            case .failure(let error):
                // Without an interval there may still be a value: one query, one row.
                let value = try? metric.value(on: rows, threshold: plan.threshold, binCount: plan.binCount)
                return MetricResult(metric: metric, value: value, interval: nil, reason: error.description)
            }
        }
    }
}

/// Metrics of the rows that share a value of a column.
public struct SliceReport: Sendable, Hashable, Codable {
    /// The column.
    public let column: String
    /// Its value.
    public let value: String
    /// Rows.
    public let rowCount: Int
    /// Mean outcome: the share of positives of a binary label.
    public let outcomeMean: Double
    /// Whether there are too few rows, or too few of a class, for a metric to be trusted.
    public let isSmall: Bool
    /// The metrics.
    public let metrics: [MetricResult]

    enum CodingKeys: String, CodingKey {
        case column, value, metrics
        case rowCount = "rows"
        case outcomeMean = "label_mean"
        case isSmall = "is_small"
    }

    /// A metric's result; `nil` if it was not asked for.
    public subscript(metric: EvaluationMetric) -> MetricResult? { metrics.first { $0.metric == metric } }
}

/// What predictions show on some rows: metrics with intervals, curves, slices, fairness.
public struct EvaluationReport: Sendable, Hashable, Codable {
    /// What kind of prediction it is.
    public let family: EvaluationMetric.Family
    /// Rows.
    public let rowCount: Int
    /// Queries; 0 without.
    public let queryCount: Int
    /// Classes; `nil` for numbers and rankings.
    public let classCount: Int?
    /// Mean outcome: the share of positives of a binary label.
    public let outcomeMean: Double
    /// How it was measured, the metrics filled in.
    public let plan: EvaluationPlan
    /// The metrics on all rows.
    public let metrics: [MetricResult]
    /// Counts of decisions; `nil` unless outcomes are classes.
    public let confusion: ConfusionMatrix?
    /// Reliability curve; empty unless predictions are probabilities.
    public let calibration: [ReliabilityBin]
    /// At most 200 points; empty unless there are two classes.
    public let roc: [ROCPoint]
    /// At most 200 points; empty unless there are two classes.
    public let precisionRecall: [PrecisionRecallPoint]
    /// The metrics by value of each slice column.
    public let slices: [SliceReport]
    /// How decisions fall on protected attributes.
    public let fairness: [FairnessReport]

    enum CodingKeys: String, CodingKey {
        case family, plan, metrics, confusion, calibration, roc, slices, fairness
        case rowCount = "rows"
        case queryCount = "queries"
        case classCount = "classes"
        case outcomeMean = "label_mean"
        case precisionRecall = "precision_recall"
    }

    /// A metric's result on all rows; `nil` if it was not asked for.
    public subscript(metric: EvaluationMetric) -> MetricResult? { metrics.first { $0.metric == metric } }

    /// What rows are: a ranking if they have queries, classes if there are several outputs or outcomes are 0 or 1 and
    /// predictions probabilities, else numbers.
    public static func family(of rows: EvaluationRows) -> EvaluationMetric.Family {
        if rows.queries != nil { return .ranking }
        if rows.outputCount > 1 { return .classification }
        let isBinary =
            rows.outcomes.allSatisfy { $0 == 0 || $0 == 1 } && rows.predictions.allSatisfy { 0...1 ~= $0 }
        return isBinary ? .classification : .regression
    }

    /// Evaluates rows.
    /// - Parameters:
    ///   - rows: predictions and outcomes.
    ///   - plan: what to measure.
    ///   - slices: columns by whose values the metrics are repeated.
    ///   - protected: columns whose groups are compared for fairness; looked at for two classes only.
    ///   - progress: hears the share that is done, between 0 and 1.
    /// - Throws: `shapeMismatch` if a column has another number of rows.
    public init(
        _ rows: EvaluationRows, plan: EvaluationPlan = EvaluationPlan(), slices: [SliceColumn] = [],
        protected: [SliceColumn] = [], progress: (Double) -> Void = { _ in }
    ) throws(StatisticsError) {
        for column in slices + protected where column.codes.count != rows.rowCount {
            throw .shapeMismatch(column.codes.count, rows.rowCount)
        }
        family = Self.family(of: rows)
        let classes = family == .classification ? rows.classCount : nil
        var plan = plan
        if plan.metrics.isEmpty { plan.metrics = EvaluationMetric.usual(for: family, classCount: classes ?? 2) }
        let steps = Double(1 + slices.count + protected.count)
        metrics = MetricResult.measure(plan.metrics, on: rows, plan)
        progress(1 / steps)
        var cuts: [SliceReport] = []
        for (number, column) in slices.enumerated() {
            for (value, places) in zip(column.values, column.places) where !places.isEmpty {
                let part = try rows.rows(at: places)
                cuts.append(
                    SliceReport(
                        column: column.name, value: value, rowCount: part.rowCount,
                        outcomeMean: Self.mean(part.outcomes),
                        isSmall: Self.isSmall(part, classCount: classes, below: plan.smallBelow),
                        metrics: MetricResult.measure(plan.metrics, on: part, plan)))
            }
            progress(Double(number + 2) / steps)
        }
        self.slices = cuts
        var groups: [FairnessReport] = []
        for (number, column) in protected.enumerated() where classes == 2 {
            groups.append(
                try FairnessReport(
                    attribute: column.name, rows: rows, groups: column, threshold: plan.threshold,
                    smallBelow: plan.smallBelow, bootstrap: plan.bootstrap))
            progress(Double(number + 2 + slices.count) / steps)
        }
        fairness = groups
        rowCount = rows.rowCount
        queryCount = rows.queryCount
        classCount = classes
        outcomeMean = Self.mean(rows.outcomes)
        confusion = classes == nil ? nil : try? ConfusionMatrix(rows, threshold: plan.threshold)
        calibration =
            classes == nil
            ? [] : (try? ReliabilityBin.curve(rows, binCount: plan.binCount, strategy: plan.binStrategy)) ?? []
        let isBinary = classes == 2
        roc =
            isBinary
            ? (try? ROCPoint.curve(predictions: rows.predictions, outcomes: rows.outcomes, pointCountMax: 200)) ?? []
            : []
        precisionRecall =
            isBinary
            ? (try? PrecisionRecallPoint.curve(
                predictions: rows.predictions, outcomes: rows.outcomes, pointCountMax: 200)) ?? [] : []
        self.plan = plan
    }

    private static func mean(_ values: [Double]) -> Double { pairwiseSum(values) / Double(values.count) }

    private static func isSmall(_ rows: EvaluationRows, classCount: Int?, below least: Int) -> Bool {
        if rows.queries != nil { return rows.queryCount < least }
        guard classCount == 2 else { return rows.rowCount < least }
        let positives = rows.outcomes.count { $0 == 1 }
        return min(positives, rows.rowCount - positives) < least
    }
}

/// A metric of two models on the same rows.
public struct MetricDifference: Sendable, Hashable, Codable {
    /// What the interval of the difference says.
    public enum Verdict: String, Sendable, Codable {
        /// The interval lies on the better side of 0.
        case better
        /// The interval lies on the worse side of 0.
        case worse
        /// The interval holds 0.
        case unclear
        /// There is no difference to speak of.
        case undefined
    }

    /// Which one.
    public let metric: EvaluationMetric
    /// The second model's value less the first's, with its interval; `nil` if there is none.
    public let difference: ConfidenceInterval?
    /// Why there is none.
    public let reason: String?
    /// What it says of the second model.
    public let verdict: Verdict

    /// Compares two models on the same rows.
    /// - Throws: `shapeMismatch` unless both have the same outcomes and queries.
    public static func compare(
        _ first: EvaluationRows, _ second: EvaluationRows, metrics: [EvaluationMetric], plan: EvaluationPlan
    ) throws(StatisticsError) -> [MetricDifference] {
        let found = try plan.bootstrap.pairedDifferences(
            of: metrics, first: first, second: second, threshold: plan.threshold, binCount: plan.binCount)
        return zip(metrics, found).map { metric, result in
            switch result {
            case .failure(let error):
                return MetricDifference(
                    metric: metric, difference: nil, reason: error.description, verdict: .undefined)
            case .success(let interval):
                let (low, high) =
                    metric.higherIsBetter ? (interval.lower, interval.upper) : (-interval.upper, -interval.lower)
                return MetricDifference(
                    metric: metric, difference: interval, reason: nil,
                    verdict: low > 0 ? .better : high < 0 ? .worse : .unclear)
            }
        }
    }
}
