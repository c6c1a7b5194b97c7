import Dispatch
import Foundation
import Synchronization

/// Intervals from resamples: rows (or whole queries) are drawn with replacement, and what is asked is measured on each draw.
///
/// Replicate `r` of seed `s` draws the same rows on every machine, whatever else is measured; so two models, or ten metrics,
/// see the same draws. The ends are percentiles of the replicates in which the measure is defined.
/// - SeeAlso: Efron & Tibshirani (1993), *An Introduction to the Bootstrap*, chapters 13 and 16.
public struct Bootstrap: Sendable, Hashable, Codable {
    /// Draws, at least 2.
    public let replicateCount: Int
    /// Share of repetitions in which an interval would hold the true value.
    public let confidence: Double
    /// Where the draws start.
    public let seed: UInt64

    /// Makes a plan of draws.
    public init(replicateCount: Int = 1000, confidence: Double = 0.95, seed: UInt64 = 0) {
        precondition(replicateCount > 1 && confidence > 0 && confidence < 1, "an interval needs resamples")
        self.replicateCount = replicateCount
        self.confidence = confidence
        self.seed = seed
    }

    /// As many draws as some seconds allow, 100 to 1,000.
    ///
    /// Whoever measures few enough rows draws 1,000 times, so an evaluation, a card and a gate give the same interval.
    /// - Parameters:
    ///   - visitsPerReplicate: rows that one draw looks at, each as often as it is measured.
    ///   - confidence: share of repetitions in which an interval would hold the true value.
    ///   - seed: where the draws start.
    public static func affordable(
        visitsPerReplicate: Int, confidence: Double = 0.95, seed: UInt64 = 0
    ) -> Bootstrap {
        Bootstrap(
            replicateCount: max(100, min(1000, 3_000_000_000 / max(1, visitsPerReplicate))), confidence: confidence,
            seed: seed)
    }

    /// How often replicate `number` draws each of `count` units; the draws sum up to `count`.
    public func weights(ofReplicate number: Int, count: Int) -> [UInt16] {
        var weights = [UInt16](repeating: 0, count: count)
        draw(number, into: &weights)
        return weights
    }

    private func draw(_ number: Int, into weights: inout [UInt16]) {
        var mixer = SeededGenerator(seed: UInt64(bitPattern: Int64(number)))
        var generator = SeededGenerator(seed: mixer.next() ^ seed)
        weights.withUnsafeMutableBufferPointer { weights in
            weights.update(repeating: 0)
            for _ in 0..<weights.count { weights[generator.index(below: weights.count)] &+= 1 }
        }
    }

    /// Intervals of metrics on the same rows.
    /// - Returns: one result for each metric: its interval, or why there is none.
    /// - Complexity: O(n log n + replicateCount · n) for each metric.
    public func intervals(
        of metrics: [EvaluationMetric], on rows: EvaluationRows, threshold: Double = 0.5, binCount: Int = 10
    ) -> [Result<ConfidenceInterval, StatisticsError>] {
        measure(metrics, on: [rows], threshold: threshold, binCount: binCount)
    }

    /// Interval of the difference `second − first` of a metric between two models on the same rows.
    /// - Throws: as the metric does; `shapeMismatch` unless both have the same outcomes and queries.
    public func pairedDifference(
        of metric: EvaluationMetric, first: EvaluationRows, second: EvaluationRows, threshold: Double = 0.5,
        binCount: Int = 10
    ) throws(StatisticsError) -> ConfidenceInterval {
        let found = try pairedDifferences(
            of: [metric], first: first, second: second, threshold: threshold, binCount: binCount)
        return try found[0].get()
    }

    /// Intervals of the differences `second − first` of metrics between two models on the same rows.
    /// - Throws: `shapeMismatch` unless both have the same outcomes and queries.
    public func pairedDifferences(
        of metrics: [EvaluationMetric], first: EvaluationRows, second: EvaluationRows, threshold: Double = 0.5,
        binCount: Int = 10
    ) throws(StatisticsError) -> [Result<ConfidenceInterval, StatisticsError>] {
        guard first.outcomes == second.outcomes, first.queries == second.queries else {
            throw .shapeMismatch(first.rowCount, second.rowCount)
        }
        return measure(metrics, on: [first, second], threshold: threshold, binCount: binCount)
    }

    /// The value on the first rows, or the second's less the first's.
    private func measure(
        _ metrics: [EvaluationMetric], on rows: [EvaluationRows], threshold: Double, binCount: Int
    ) -> [Result<ConfidenceInterval, StatisticsError>] {
        let prepared = metrics.map { metric -> Result<([PreparedMetric], Double), StatisticsError> in
            Result { () throws(StatisticsError) in
                var sides: [PreparedMetric] = []
                for side in rows {
                    sides.append(try PreparedMetric(metric, rows: side, threshold: threshold, binCount: binCount))
                }
                var estimate = try sides[0].value()
                if sides.count > 1 { estimate = try sides[1].value() - estimate }
                return (sides, estimate)
            }
        }
        let needed = prepared.map { (try? $0.get())?.0 }
        let found = replicates(needed, like: rows[0])
        return prepared.indices.map { place in
            prepared[place].flatMap { _, estimate in
                Result { () throws(StatisticsError) in
                    try interval(estimate, found[place], unitCount: rows[0].unitCount)
                }
            }
        }
    }

    /// Interval of an estimate from its replicates.
    func interval(
        _ estimate: Double, _ values: [Double], unitCount: Int
    ) throws(StatisticsError) -> ConfidenceInterval {
        guard unitCount > 1 else { throw .undefined("one row, or one query, has no interval") }
        guard values.count * 2 > replicateCount else {
            throw .undefined("it is undefined in most resamples: too few rows of a class")
        }
        let sorted = values.sorted()
        let tail = (1 - confidence) / 2
        return ConfidenceInterval(
            estimate: estimate, lower: ConfidenceInterval.quantile(sorted, tail),
            upper: ConfidenceInterval.quantile(sorted, 1 - tail), confidence: confidence)
    }

    /// The replicates of each measure in which it is defined, on as many processors as there are.
    private func replicates(_ measures: [[PreparedMetric]?], like rows: EvaluationRows) -> [[Double]] {
        guard rows.unitCount > 1, measures.contains(where: { $0 != nil }) else {
            return [[Double]](repeating: [], count: measures.count)
        }
        let parts = collect(over: rows) { numbers in
            var values = [[Double]](repeating: [], count: measures.count)
            forEachDraw(numbers, of: rows) { units, weights in
                for (place, sides) in measures.enumerated() {
                    guard let sides, var value = try? sides[0].value(weights: weights, units: units) else { continue }
                    if sides.count > 1 {
                        guard let other = try? sides[1].value(weights: weights, units: units) else { continue }
                        value = other - value
                    }
                    values[place].append(value)
                }
            }
            return values
        }
        return measures.indices.map { place in parts.flatMap { $0[place] } }
    }

    /// Fewest row visits that are worth another thread.
    private static let visitCountMin = 1 << 18

    /// Cuts the replicates into runs, one for each processor, and gives what `body` makes of each, in order.
    private func collect<Part: Sendable>(
        over rows: EvaluationRows, _ body: @Sendable (Range<Int>) -> Part
    ) -> [Part] {
        let count = max(
            1, min(ProcessInfo.processInfo.activeProcessorCount, rows.rowCount * replicateCount / Self.visitCountMin))
        @Sendable func run(_ part: Int) -> Range<Int> {
            replicateCount * part / count..<replicateCount * (part + 1) / count
        }
        guard count > 1 else { return [body(run(0))] }
        let found = Mutex([Int: Part]())
        DispatchQueue.concurrentPerform(iterations: count) { part in
            let result = body(run(part))
            found.withLock { $0[part] = result }
        }
        return found.withLock { found in (0..<count).compactMap { found[$0] } }
    }

    /// Gives the weights of units and of rows of each replicate.
    func forEachDraw(of rows: EvaluationRows, _ body: (_ units: [UInt16], _ weights: [UInt16]) -> Void) {
        forEachDraw(0..<replicateCount, of: rows, body)
    }

    private func forEachDraw(
        _ numbers: Range<Int>, of rows: EvaluationRows, _ body: (_ units: [UInt16], _ weights: [UInt16]) -> Void
    ) {
        var units = [UInt16](repeating: 0, count: rows.unitCount)
        for number in numbers {
            draw(number, into: &units)
            body(units, rows.rowWeights(units))
        }
    }
}
