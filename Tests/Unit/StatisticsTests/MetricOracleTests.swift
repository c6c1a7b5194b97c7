import Foundation
import Statistics
import Testing

/// Every metric against an obvious slow version on generated rows with many ties; `Tests/Python/test_evaluation_metrics.py`
/// compares with scikit-learn.
struct MetricOracleTests {
    private struct Case {
        var predictions: [Double] = []
        var outcomes: [Double] = []
        var queries: [Int] = []
        var weights: [UInt16] = []
        var generator: SeededGenerator

        init(seed: UInt64, relevances: Int = 2, isProbability: Bool = true) {
            generator = SeededGenerator(seed: seed)
            let count = 1 + generator.index(below: 700)
            let steps = [3, 20, 1 << 20][generator.index(below: 3)]
            for _ in 0..<count {
                let score = Double(generator.index(below: steps + 1)) / Double(steps)
                predictions.append(isProbability ? score : (score - 0.5) * 40)
                outcomes.append(Double(generator.index(below: relevances)))
                queries.append(generator.index(below: 1 + count / 6) * 3)
                weights.append(UInt16(generator.index(below: 4)))
            }
        }

        /// Rows repeated as often as their weight says.
        func repeated(_ values: [Double]) -> [Double] {
            zip(values, weights).flatMap { Array(repeating: $0, count: Int($1)) }
        }
    }

    private func close(_ value: Double, _ expected: Double) -> Bool {
        abs(value - expected) <= 1e-12 * max(1, abs(expected))
    }

    static let rowMetrics: [EvaluationMetric] =
        [
            .auc, .averagePrecision, .logLoss, .brier, .calibrationError, .accuracy, .balancedAccuracy,
            .rmse, .mae, .determination, .meanAbsolutePercentageError,
            .medianAbsoluteError, .quantileLoss(0.9), .precisionAt(7), .recallAt(7),
        ]
        + [nil, .macro, .micro, .weighted].flatMap { average -> [EvaluationMetric] in
            [.precision(average), .recall(average), .f1(average)]
        }

    private func slow(_ metric: EvaluationMetric, _ predictions: [Double], _ outcomes: [Double]) -> Double? {
        let rows = Array(zip(predictions, outcomes))
        let count = Double(rows.count)
        func mean(_ loss: (Double, Double) -> Double) -> Double? { rows.reduce(0) { $0 + loss($1.0, $1.1) } / count }
        func cell(_ truth: Double, _ called: Double) -> Double {
            Double(rows.count { $0.1 == truth && ($0.0 >= 0.5 ? 1 : 0) == called })
        }
        func averaged(_ average: EvaluationMetric.Average?, _ measure: (Double) -> Double?) -> Double? {
            guard let average else { return measure(1) }
            let present = [0.0, 1.0].filter { cell($0, 0) + cell($0, 1) + cell(0, $0) + cell(1, $0) > 0 }
            let sizes = present.map { average == .macro ? 1 : cell($0, 0) + cell($0, 1) }
            if average == .micro { return (cell(0, 0) + cell(1, 1)) / count }
            return zip(present, sizes).reduce(0) { $0 + (measure($1.0) ?? 0) * $1.1 } / sizes.reduce(0, +)
        }
        func share(_ part: Double, _ whole: Double) -> Double? { whole == 0 ? nil : part / whole }
        switch metric {
        case .auc:
            let (positives, negatives) = (rows.filter { $0.1 == 1 }, rows.filter { $0.1 == 0 })
            guard !positives.isEmpty, !negatives.isEmpty else { return nil }
            var wins = 0.0
            for positive in positives {
                for negative in negatives {
                    wins += positive.0 > negative.0 ? 1 : positive.0 == negative.0 ? 0.5 : 0
                }
            }
            return wins / Double(positives.count * negatives.count)
        case .averagePrecision:
            let positives = Double(rows.count { $0.1 == 1 })
            guard positives > 0 else { return nil }
            var (total, before) = (0.0, 0.0)
            for threshold in Set(predictions).sorted(by: >) {
                let hits = Double(rows.count { $0.0 >= threshold && $0.1 == 1 })
                total += (hits - before) / positives * hits / Double(rows.count { $0.0 >= threshold })
                before = hits
            }
            return total
        case .logLoss: return mean { -log(min(max($1 == 1 ? $0 : 1 - $0, .ulpOfOne), 1 - .ulpOfOne)) }
        case .brier: return mean { ($0 - $1) * ($0 - $1) }
        case .rmse: return mean { ($0 - $1) * ($0 - $1) }?.squareRoot()
        case .mae: return mean { abs($0 - $1) }
        case .meanAbsolutePercentageError: return mean { abs($0 - $1) / max(abs($1), .ulpOfOne) }
        case .quantileLoss(let share): return mean { $1 >= $0 ? share * ($1 - $0) : (1 - share) * ($0 - $1) }
        case .determination:
            guard rows.count > 1 else { return nil }
            let middle = outcomes.reduce(0, +) / count
            let (residual, total) = (
                rows.reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) },
                outcomes.reduce(0) { $0 + ($1 - middle) * ($1 - middle) }
            )
            return total == 0 ? (residual == 0 ? 1 : 0) : 1 - residual / total
        case .medianAbsoluteError:
            let errors = rows.map { abs($0.0 - $0.1) }.sorted()
            return (errors[(errors.count - 1) / 2] + errors[errors.count / 2]) / 2
        case .calibrationError:
            var total = 0.0
            for bin in 0..<10 {
                let inside = rows.filter {
                    $0.0 <= (bin == 9 ? 1 : Double(bin + 1) * 0.1) && ($0.0 > Double(bin) * 0.1 || bin == 0)
                }
                total += abs(inside.reduce(0) { $0 + $1.0 - $1.1 }) / count
            }
            return total
        case .accuracy: return (cell(0, 0) + cell(1, 1)) / count
        case .balancedAccuracy:
            let shares = [0.0, 1.0].compactMap { share(cell($0, $0), cell($0, 0) + cell($0, 1)) }
            return shares.reduce(0, +) / Double(shares.count)
        case .precision(let average): return averaged(average) { share(cell($0, $0), cell(0, $0) + cell(1, $0)) }
        case .recall(let average): return averaged(average) { share(cell($0, $0), cell($0, 0) + cell($0, 1)) }
        case .f1(let average):
            return averaged(average) {
                share(2 * cell($0, $0), cell(0, $0) + cell(1, $0) + cell($0, 0) + cell($0, 1))
            }
        case .precisionAt(let places), .recallAt(let places):
            // A row of relevance stands among the first with a probability: 1, 0, or the places left for its equals.
            let hits = rows.filter { $0.1 > 0 }.reduce(0.0) { sum, row in
                let (above, equal) = (rows.count { $0.0 > row.0 }, rows.count { $0.0 == row.0 })
                return sum + Double(max(0, min(equal, places - above))) / Double(equal)
            }
            if case .precisionAt = metric { return hits / Double(places) }
            return share(hits, Double(rows.count { $0.1 > 0 })) ?? 0
        default: return .nan
        }
    }

    @Test(arguments: UInt64(0)..<24) func metricsEqualTheObviousOnes(seed: UInt64) throws {
        let rows = Case(seed: seed)
        for metric in Self.rowMetrics {
            let value = try? metric.value(predictions: rows.predictions, outcomes: rows.outcomes)
            let expected = slow(metric, rows.predictions, rows.outcomes)
            #expect((value == nil) == (expected == nil), "\(metric) of seed \(seed)")
            if let value, let expected { #expect(close(value, expected), "\(metric): \(value), not \(expected)") }
        }
    }

    @Test(arguments: UInt64(0)..<12) func aRowThatCountsTwiceIsTwoRows(seed: UInt64) throws {
        var rows = Case(seed: seed)
        rows.weights[0] = 3
        let whole = try EvaluationRows(predictions: rows.predictions, outcomes: rows.outcomes)
        for metric in Self.rowMetrics {
            let weighted = try? metric.value(on: whole, weights: rows.weights)
            let plain = try? metric.value(
                predictions: rows.repeated(rows.predictions), outcomes: rows.repeated(rows.outcomes))
            #expect((weighted == nil) == (plain == nil), "\(metric) of seed \(seed)")
            if let weighted, let plain { #expect(close(weighted, plain), "\(metric): \(weighted), not \(plain)") }
        }
    }

    /// Mean over many random orders of equal scores comes near the closed forms.
    @Test(arguments: [
        EvaluationMetric.normalizedGain(at: 3), .normalizedGain(at: nil), .reciprocalRank, .precisionAt(3),
    ])
    func tiesAreTheMeanOverOrders(metric: EvaluationMetric) throws {
        for seed in 0..<6 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let scores = (0..<6).map { _ in Double(generator.index(below: 3)) }
            let relevances = (0..<6).map { _ in Double(generator.index(below: 3)) }
            let value = try metric.value(
                on: EvaluationRows(predictions: scores, outcomes: relevances, queries: [Int](repeating: 1, count: 6)))
            var (total, orders) = (0.0, 0.0)
            forEachOrder(Array(0..<6)) { order in
                guard zip(order, order.dropFirst()).allSatisfy({ scores[$0] >= scores[$1] }) else { return }
                let ranked = order.map { relevances[$0] }
                orders += 1
                let places = { (values: [Double], count: Int) in
                    values.prefix(count).enumerated().reduce(0) { $0 + $1.element / log2(Double($1.offset) + 2) }
                }
                switch metric {
                case .normalizedGain(let count):
                    let ideal = places(relevances.sorted(by: >), count ?? 6)
                    total += ideal == 0 ? 0 : places(ranked, count ?? 6) / ideal
                case .reciprocalRank: total += ranked.firstIndex { $0 > 0 }.map { 1 / Double($0 + 1) } ?? 0
                default: total += Double(ranked.prefix(3).count { $0 > 0 }) / 3
                }
            }
            #expect(close(value, total / orders), "\(metric) of seed \(seed): \(value), not \(total / orders)")
        }
    }

    private func forEachOrder(_ items: [Int], _ body: ([Int]) -> Void) {
        func extend(_ order: [Int], _ left: [Int]) {
            if left.isEmpty { body(order) }
            for (place, item) in left.enumerated() {
                var rest = left
                rest.remove(at: place)
                extend(order + [item], rest)
            }
        }
        extend([], items)
    }

    @Test(arguments: UInt64(0)..<8) func queryMeasuresAreTheMeanOfTheirQueries(seed: UInt64) throws {
        let rows = Case(seed: seed, relevances: 3, isProbability: false)
        for metric in [EvaluationMetric.meanAveragePrecision, .reciprocalRank, .normalizedGain(at: 4), .recallAt(2)] {
            let value = try metric.value(
                on: EvaluationRows(predictions: rows.predictions, outcomes: rows.outcomes, queries: rows.queries))
            var single: [Double] = []
            for query in Set(rows.queries) {
                let places = rows.queries.indices.filter { rows.queries[$0] == query }
                let (scores, relevances) = (places.map { rows.predictions[$0] }, places.map { rows.outcomes[$0] })
                if case .meanAveragePrecision = metric {
                    single.append(slow(.averagePrecision, scores, relevances.map { min(1, $0) }) ?? 0)
                } else {
                    single.append(
                        try metric.value(
                            on: EvaluationRows(
                                predictions: scores, outcomes: relevances,
                                queries: [Int](repeating: 9, count: places.count))))
                }
            }
            #expect(close(value, single.reduce(0, +) / Double(single.count)), "\(metric)")
        }
    }

    @Test func severalClassesEqualScikitLearn() throws {
        // Computed with scikit-learn 1.9.1.
        let rows = try EvaluationRows(
            predictions: [0.7, 0.2, 0.1, 0.3, 0.3, 0.4, 0.2, 0.6, 0.2, 0.5, 0.25, 0.25, 0.1, 0.1, 0.8, 0.4, 0.4, 0.2],
            outcomes: [0, 1, 1, 2, 2, 0], outputCount: 3)
        let expected: [(EvaluationMetric, Double)] = [
            (.accuracy, 4.0 / 6), (.f1(.macro), 0.6555555555555556), (.precision(.macro), 13.0 / 18),
            (.recall(.macro), 2.0 / 3),
            (.auc, 0.875), (.brier, 0.43583333333333335),
            (.logLoss, 0.7662003360564857),
        ]
        for (metric, value) in expected { #expect(try close(metric.value(on: rows), value), "\(metric)") }
        #expect(throws: StatisticsError.unknownClass(3, classCount: 3)) {
            try EvaluationMetric.accuracy.value(
                on: EvaluationRows(predictions: [0.2, 0.3, 0.5], outcomes: [3], outputCount: 3))
        }
    }

    @Test func namesAreReadAndWritten() {
        for name in EvaluationMetric.knownNames {
            #expect(EvaluationMetric(rawValue: name)?.rawValue == name, "\(name)")
        }
        for name in [
            "", "AUC", "ndcg@0", "ndcg@-1", "ndcg@", "ndcg@1@2", "quantile_loss@1", "quantile_loss@nan", "f1@3",
        ] {
            #expect(EvaluationMetric(rawValue: name) == nil, "\(name)")
        }
        #expect(EvaluationMetric.normalizedGain(at: 10).trackedName == "ndcg_at_10")
    }
}
