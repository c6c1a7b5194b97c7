import Foundation
import Statistics
import Testing

struct EvaluationReportTests {
    private func rows(_ count: Int, seed: UInt64, lift: Double = 0.4) throws -> (EvaluationRows, SliceColumn) {
        var generator = SeededGenerator(seed: seed)
        func unit() -> Double { Double(generator.index(below: 1 << 30)) / Double(1 << 30) }
        let outcomes = (0..<count).map { _ in unit() < 0.4 ? 1.0 : 0.0 }
        let predictions = outcomes.map { (1 - lift) * unit() + lift * $0 }
        let groups = (0..<count).map { _ in ["young", "old", "9"][generator.index(below: 3)] }
        return (
            try EvaluationRows(predictions: predictions, outcomes: outcomes), SliceColumn(name: "age", texts: groups)
        )
    }

    @Test func drawsAreTheSameForTheSameSeedAndSumUp() {
        let plan = Bootstrap(replicateCount: 3, seed: 5)
        #expect(plan.weights(ofReplicate: 1, count: 50) == plan.weights(ofReplicate: 1, count: 50))
        #expect(plan.weights(ofReplicate: 1, count: 50) != plan.weights(ofReplicate: 2, count: 50))
        #expect(Bootstrap(seed: 6).weights(ofReplicate: 1, count: 50) != plan.weights(ofReplicate: 1, count: 50))
        #expect(plan.weights(ofReplicate: 0, count: 5000).reduce(0) { $0 + Int($1) } == 5000)
    }

    @Test func anIntervalOfTheMeanIsAsWideAsTheorySays() throws {
        let (rows, _) = try rows(2000, seed: 1)
        let found = try Bootstrap(replicateCount: 600).intervals(of: [.brier], on: rows)[0].get()
        let losses = zip(rows.predictions, rows.outcomes).map { ($0 - $1) * ($0 - $1) }
        let deviation = (losses.reduce(0) { $0 + ($1 - found.estimate) * ($1 - found.estimate) } / 2000).squareRoot()
        let width = 2 * 1.96 * deviation / 2000.0.squareRoot()
        #expect(abs((found.upper - found.lower) / width - 1) < 0.12)
    }

    @Test func theBetterModelIsCalledBetterAndTheSameUnclear() throws {
        let (poor, _) = try rows(600, seed: 3, lift: 0.1)
        let good = try EvaluationRows(
            predictions: zip(poor.predictions, poor.outcomes).map { 0.7 * $0 + 0.3 * $1 }, outcomes: poor.outcomes)
        let plan = EvaluationPlan()
        let metrics: [EvaluationMetric] = [.auc, .logLoss, .precisionAt(20)]
        let better = try MetricDifference.compare(poor, good, metrics: metrics, plan: plan)
        #expect(better.prefix(2).map(\.verdict) == [.better, .better])
        #expect(try MetricDifference.compare(good, poor, metrics: metrics, plan: plan)[1].verdict == .worse)
        #expect(try MetricDifference.compare(good, good, metrics: metrics, plan: plan)[0].verdict == .unclear)
        let one = try EvaluationRows(predictions: [0.1, 0.2], outcomes: [1, 1])
        #expect(try MetricDifference.compare(one, one, metrics: [.auc], plan: plan)[0].verdict == .undefined)
    }

    @Test func slicesHoldEveryRowOnceAndSmallOnesAreMarked() throws {
        let (rows, groups) = try rows(400, seed: 2)
        var plan = EvaluationPlan()
        plan.bootstrap = Bootstrap(replicateCount: 50)
        let report = try EvaluationReport(rows, plan: plan, slices: [groups], protected: [groups])
        #expect(report.slices.map(\.value) == ["9", "old", "young"])
        #expect(report.slices.map(\.rowCount).reduce(0, +) == 400)
        #expect(report.slices.allSatisfy { !$0.isSmall && $0[.auc]?.interval != nil })
        #expect(report.family == .classification && report.confusion?.rowCount == 400)
        let old = groups.places[1]
        let expected = try EvaluationMetric.logLoss.value(on: rows.rows(at: old))
        #expect(report.slices[1][.logLoss]?.value == expected)
        plan.smallBelow = 1000
        #expect(try EvaluationReport(rows, plan: plan, slices: [groups]).slices.allSatisfy(\.isSmall))
        let coded = try JSONEncoder().encode(report)
        #expect(try JSONDecoder().decode(EvaluationReport.self, from: coded) == report)
    }

    @Test func aSliceOfOneClassHasNoAreaButSaysWhy() throws {
        let rows = try EvaluationRows(predictions: [0.1, 0.4, 0.2, 0.9], outcomes: [0, 1, 1, 1])
        let report = try EvaluationReport(rows, slices: [SliceColumn(name: "g", texts: ["a", "a", "b", "b"])])
        let auc = try #require(report.slices[1][.auc])
        #expect(auc.value == nil && auc.reason == "all outcomes are of one class")
        #expect(report.slices[1][.brier]?.value != nil)
    }

    @Test func fairnessIsThatOfTheWorkedExample() throws {
        // a: 2 of 4 called positive, both positives found; b: 1 of 4, one of two positives found.
        let rows = try EvaluationRows(
            predictions: [0.9, 0.8, 0.1, 0.2, 0.7, 0.1, 0.2, 0.3], outcomes: [1, 1, 0, 0, 1, 1, 0, 0])
        let groups = SliceColumn(name: "g", texts: ["a", "a", "a", "a", "b", "b", "b", "b"])
        let report = try FairnessReport(
            attribute: "g", rows: rows, groups: groups, bootstrap: Bootstrap(replicateCount: 100))
        #expect(report[.demographicParityDifference]?.estimate == 0.25)
        #expect(report[.demographicParityRatio]?.estimate == 0.5)
        #expect(report[.equalOpportunityDifference]?.estimate == 0.5)
        #expect(report[.equalizedOddsDifference]?.estimate == 0.5)
        #expect(report.groups.map(\.isSmall) == [true, true])
        let alone = try FairnessReport(
            attribute: "g", rows: rows, groups: SliceColumn(name: "g", texts: .init(repeating: "a", count: 8)))
        #expect(alone.measures.isEmpty && alone.undefined["demographic_parity_ratio"] == "there is one group only")
    }

    @Test func groupsOfWhichNobodyIsCalledPositiveShowNothing() throws {
        let rows = try EvaluationRows(predictions: [0.2, 0.4, 0.1, 0.3], outcomes: [1, 0, 1, 0])
        let groups = SliceColumn(name: "g", texts: ["a", "a", "b", "b"])
        func report(_ threshold: Double) throws -> FairnessReport {
            try FairnessReport(attribute: "g", rows: rows, groups: groups, threshold: threshold)
        }
        let (none, all, some) = (try report(2), try report(0.05), try report(0.35))
        #expect(none.onlyCall == false && all.onlyCall == true && some.onlyCall == nil)
        // The measures are fairlearn's all the same: groups without a positive call are equal.
        #expect(none[.demographicParityDifference]?.estimate == 0)
        #expect(none.undefined["selection_rate"]?.hasPrefix("no row is called positive at the threshold 2.0") == true)
        #expect(some.undefined["selection_rate"] == nil)
    }

    @Test func fewRowsAreDrawnAThousandTimesWhoeverAsks() {
        #expect(Bootstrap.affordable(visitsPerReplicate: 10) == Bootstrap())
        #expect(Bootstrap.affordable(visitsPerReplicate: 6_000_000).replicateCount == 500)
        #expect(Bootstrap.affordable(visitsPerReplicate: .max).replicateCount == 100)
    }

    @Test func sharesHaveWilsonsInterval() throws {
        // statsmodels: proportion_confint(8, 10, method="wilson").
        let interval = try ConfidenceInterval.share(8, of: 10)
        #expect(abs(interval.lower - 0.4901624715) < 1e-9 && abs(interval.upper - 0.9433178485) < 1e-9)
        #expect(try ConfidenceInterval.share(0, of: 10).lower == 0 && ConfidenceInterval.share(0, of: 10).upper > 0.2)
    }

    @Test func queriesAreDrawnWhole() throws {
        let rows = try EvaluationRows(
            predictions: [0.9, 0.1, 0.8, 0.3, 0.2, 0.7], outcomes: [1, 0, 0, 1, 1, 0], queries: [4, 4, 7, 7, 2, 2])
        let report = try EvaluationReport(rows)
        #expect(report.family == .ranking && report.queryCount == 3)
        let found = try #require(report[.reciprocalRank])
        #expect(found.value == 2.0 / 3 && found.interval?.lower == 0.5 && found.interval?.upper == 1)
    }
}
