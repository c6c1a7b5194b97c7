import Statistics
import Testing

struct DriftAndBootstrapTests {
    @Test func stabilityIndexOfTheWorkedExample() throws {
        let value = try DriftMeasure.populationStabilityIndex(
            reference: [60, 20, 10, 10], current: [30, 50, 5, 15], pseudoCount: 0)
        #expect(abs(value - 0.5378) < 0.00005)
    }

    @Test func undefinedCasesAreNamed() {
        #expect(throws: StatisticsError.emptyInput) {
            try DriftMeasure.populationStabilityIndex(reference: [1, 2], current: [0, 0])
        }
        #expect(throws: StatisticsError.shapeMismatch(1, 2)) {
            try DriftMeasure.kolmogorovSmirnov(reference: [1], current: [0, 1])
        }
        #expect(throws: StatisticsError.emptyBin(1)) {
            try DriftMeasure.populationStabilityIndex(reference: [1, 2], current: [3, 0], pseudoCount: 0)
        }
        #expect(throws: StatisticsError.notAProbability(1.5)) {
            try EvaluationMetric.logLoss.value(predictions: [1.5], outcomes: [1])
        }
        #expect(throws: StatisticsError.outcomeNotBinary(2)) {
            try EvaluationMetric.auc.value(predictions: [0.5, 0.1], outcomes: [2, 0])
        }
        #expect(throws: StatisticsError.notFinite) {
            try EvaluationMetric.rmse.value(predictions: [.nan], outcomes: [0])
        }
        #expect(throws: StatisticsError.emptyInput) { try EvaluationMetric.brier.value(predictions: [], outcomes: []) }
        #expect(throws: StatisticsError.oneClassOnly) {
            try ROCPoint.curve(predictions: [0.1, 0.2], outcomes: [1, 1])
        }
    }

    private func rows(_ count: Int, seed: UInt64) -> (good: [Double], poor: [Double], outcomes: [Double]) {
        var generator = SeededGenerator(seed: seed)
        func unit() -> Double { Double(generator.index(below: 1 << 30)) / Double(1 << 30) }
        let outcomes = (0..<count).map { _ in unit() < 0.4 ? 1.0 : 0.0 }
        return (
            outcomes.map { 0.6 * unit() + 0.4 * $0 }, outcomes.map { 0.9 * unit() + 0.1 * $0 }, outcomes
        )
    }

    @Test(arguments: EvaluationMetric.basic)
    func pairedIntervalHoldsTheEstimateAndRepeats(metric: EvaluationMetric) throws {
        let rows = rows(300, seed: 7)
        let interval = try ConfidenceInterval.pairedDifference(
            of: metric, first: rows.poor, second: rows.good, outcomes: rows.outcomes, resampleCount: 200, seed: 1)
        let again = try ConfidenceInterval.pairedDifference(
            of: metric, first: rows.poor, second: rows.good, outcomes: rows.outcomes, resampleCount: 200, seed: 1)
        #expect(interval == again)
        let estimate =
            try metric.value(predictions: rows.good, outcomes: rows.outcomes)
            - metric.value(predictions: rows.poor, outcomes: rows.outcomes)
        #expect(interval.estimate == estimate)
        #expect(interval.lower < interval.upper)
        if metric != .calibrationError {  // resampling biases calibration error upwards
            #expect(interval.lower < estimate && estimate < interval.upper)
        }
        if metric == .auc { #expect(interval.lower > 0) }
    }

    @Test func identicalModelsDifferByNothing() throws {
        let rows = rows(100, seed: 3)
        let interval = try ConfidenceInterval.pairedDifference(
            of: .auc, first: rows.good, second: rows.good, outcomes: rows.outcomes, resampleCount: 50, seed: 1)
        #expect(interval.estimate == 0 && interval.lower == 0 && interval.upper == 0)
    }

    @Test func aucIntervalCoversTheTruthAsOftenAsItSays() throws {
        // Scores U + 0.4·y, scaled: the true area is 1 − (1 − 0.4/0.6)² / 2.
        let truth = 1 - (1 - 0.4 / 0.6) * (1 - 0.4 / 0.6) / 2
        var held = 0
        for seed in 0..<200 as Range<UInt64> {
            let rows = rows(200, seed: seed)
            let interval = try ConfidenceInterval.areaUnderROC(predictions: rows.good, outcomes: rows.outcomes)
            if interval.lower <= truth, truth <= interval.upper { held += 1 }
        }
        #expect(180...200 ~= held)
    }

    @Test func rocCurveIsThinnedButKeepsItsEnds() throws {
        let rows = rows(500, seed: 9)
        let points = try ROCPoint.curve(predictions: rows.good, outcomes: rows.outcomes, pointCountMax: 50)
        #expect(points.count == 50)
        #expect(points.first?.truePositiveRate == 0 && points.last?.truePositiveRate == 1)
    }
}
