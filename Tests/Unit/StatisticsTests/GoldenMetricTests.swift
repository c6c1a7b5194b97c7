import Foundation
import PlatformCore
import Statistics
import Testing

/// Cases computed by scikit-learn; `Tests/Golden/statistics/make_cases.py` makes them.
///
/// `STATISTICS_CASES` names another file of the same form, for a comparison wider than what is committed.
struct GoldenMetricTests {
    let document: JSONValue

    init() throws {
        let committed = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "Golden/statistics/metrics.json").path
        let path = ProcessInfo.processInfo.environment["STATISTICS_CASES"] ?? committed
        let bytes = try Array(Data(contentsOf: URL(filePath: path)))
        document = try JSONValue.parse(bytes, limits: JSONLimits(byteCountMax: 64 << 20))
    }

    private func cases(_ name: String) throws -> [JSONValue] {
        let cases = try #require(document[name]?.arrayValue)
        try #require(cases.count >= 20)
        return cases
    }

    private func numbers(_ value: JSONValue?) throws -> [Double] {
        try #require(value?.arrayValue).map { try #require($0.doubleValue) }
    }

    private func close(_ value: Double, _ expected: Double) -> Bool {
        abs(value - expected) <= 1e-12 * max(1, abs(expected))
    }

    @Test func metricsEqualScikitLearn() throws {
        for (number, item) in try cases("metrics").enumerated() {
            let predictions = try numbers(item["predictions"])
            let outcomes = try numbers(item["outcomes"])
            for metric in EvaluationMetric.basic {
                let expected = try #require(item["expected"]?[metric.rawValue])
                if let expected = expected.doubleValue {
                    let value = try metric.value(predictions: predictions, outcomes: outcomes)
                    #expect(close(value, expected), "case \(number) \(metric): \(value) against \(expected)")
                } else {
                    #expect(throws: StatisticsError.oneClassOnly, "case \(number) \(metric)") {
                        try metric.value(predictions: predictions, outcomes: outcomes)
                    }
                }
            }
        }
    }

    @Test func decisionsAndCurvesEqualScikitLearn() throws {
        for (number, item) in try cases("metrics").enumerated() {
            let predictions = try numbers(item["predictions"])
            let outcomes = try numbers(item["outcomes"])
            let threshold = try #require(item["threshold"]?.doubleValue)
            let counts = try ConfusionMatrix(predictions: predictions, outcomes: outcomes, threshold: threshold)
            let cells = [(1, 1), (0, 1), (0, 0), (1, 0)].map { counts[truth: $0.0, called: $0.1] }
            #expect(try cells.map(Double.init) == numbers(item["confusion"]))
            #expect(close(counts.accuracy, try #require(item["accuracy"]?.doubleValue)))
            for (name, value) in [
                ("precision", try? counts.precision()), ("recall", try? counts.recall()), ("f1", try? counts.f1()),
            ] {
                let expected = item[name]?.doubleValue
                #expect((value == nil) == (expected == nil), "case \(number) \(name)")
                if let value, let expected { #expect(close(value, expected)) }
            }
            let curve = try ReliabilityBin.curve(predictions: predictions, outcomes: outcomes)
            let bins = try #require(item["reliability"]?.arrayValue).map(numbers)
            #expect(curve.count == bins.count)
            #expect(curve.map(\.rowCount).reduce(0, +) == predictions.count)
            for (bin, expected) in zip(curve, bins) {
                #expect(close(bin.meanPrediction, expected[0]) && close(bin.positiveShare, expected[1]))
            }
            guard let points = try item["roc"]?.arrayValue?.map(numbers) else { continue }
            let roc = try ROCPoint.curve(predictions: predictions, outcomes: outcomes)
            #expect(roc.count == points.count)
            for (point, expected) in zip(roc, points) {
                #expect(close(point.falsePositiveRate, expected[0]) && close(point.truePositiveRate, expected[1]))
            }
        }
    }

    @Test func driftMeasuresEqualSciPy() throws {
        for item in try cases("drift") {
            let reference = try numbers(item["reference"]).map { Int($0) }
            let current = try numbers(item["current"]).map { Int($0) }
            let psi = try DriftMeasure.populationStabilityIndex(reference: reference, current: current)
            #expect(close(psi, try #require(item["psi"]?.doubleValue)))
            let kl = try DriftMeasure.kullbackLeibler(reference: reference, current: current)
            #expect(close(kl, try #require(item["kl"]?.doubleValue)))
            let js = try DriftMeasure.jensenShannon(reference: reference, current: current)
            #expect(close(js, try #require(item["js"]?.doubleValue)))
            let ks = try DriftMeasure.kolmogorovSmirnov(reference: reference, current: current)
            #expect(close(ks, try #require(item["ks"]?.doubleValue)))
        }
    }

    @Test func aucIntervalFollowsDeLong() throws {
        for item in try cases("intervals") {
            let interval = try ConfidenceInterval.areaUnderROC(
                predictions: numbers(item["predictions"]), outcomes: numbers(item["outcomes"]))
            let area = try #require(item["auc"]?.doubleValue)
            let reach = 1.959963984540054 * (try #require(item["deviation"]?.doubleValue))
            #expect(close(interval.estimate, area))
            #expect(close(interval.lower, max(0, area - reach)) && close(interval.upper, min(1, area + reach)))
        }
    }
}
