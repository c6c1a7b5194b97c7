import Foundation

/// A metric with the rows checked, classed and sorted once, so that a resample costs one pass.
struct PreparedMetric: Sendable {
    /// What a pass needs, by how the metric is put together.
    private enum Form: Sendable {
        /// Mean of a loss of each row.
        case rowMean(losses: [Double])
        /// Mean of a value of each query.
        case queryMean(values: [Double])
        /// Rows by score, once for each class that stands against the rest.
        case ranked([RankedRows])
        /// True class and called class of each row, as a cell of the matrix.
        case decisions(cells: [UInt32], classCount: Int)
        /// Bin of each row, and prediction less outcome.
        case calibration(bins: [UInt16], gaps: [Double], binCount: Int)
        /// Squared error of each row, and outcome less the mean outcome.
        case determination(squares: [Double], deviations: [Double])
        /// Rows by error, and those errors in order.
        case median(rows: [UInt32], errors: [Double])
        /// The first `k` rows, by relevance.
        case top(RankedRows, count: Int)
    }

    let metric: EvaluationMetric
    private let form: Form

    init(
        _ metric: EvaluationMetric, rows: EvaluationRows, threshold: Double = 0.5, binCount: Int = 10
    ) throws(StatisticsError) {
        self.metric = metric
        if metric.family != .classification, rows.outputCount > 1 { throw .needsOneOutput(rows.outputCount) }
        switch metric {
        case .auc, .averagePrecision:
            let classes = try rows.classes()
            var ranked: [RankedRows] = []
            for number in rows.outputCount == 1 ? [1] : Array(0..<rows.outputCount) {
                ranked.append(RankedRows(scores: rows.output(number)) { classes[$0] == Int32(number) })
            }
            form = .ranked(ranked)
        case .logLoss: form = .rowMean(losses: try Self.logLosses(rows))
        case .brier: form = .rowMean(losses: try Self.brierLosses(rows))
        case .calibrationError:
            let (probabilities, outcomes) = try Self.confidences(rows)
            let edges = ReliabilityBin.uniformEdges(binCount)
            form = .calibration(
                bins: probabilities.map { UInt16(ReliabilityBin.bin(of: $0, edges: edges)) },
                gaps: zip(probabilities, outcomes).map { $0 - $1 }, binCount: binCount)
        case .accuracy, .balancedAccuracy, .precision, .recall, .f1:
            let classCount = rows.classCount
            form = .decisions(
                cells: zip(try rows.classes(), rows.calledClasses(threshold: threshold)).map {
                    UInt32($0) * UInt32(classCount) + UInt32($1)
                }, classCount: classCount)
        case .precisionAt(let count) where rows.queries == nil, .recallAt(let count) where rows.queries == nil:
            try QueryRanking.checkRelevance(rows.outcomes)
            form = .top(RankedRows(scores: rows.predictions) { rows.outcomes[$0] > 0 }, count: count)
        case .precisionAt, .recallAt, .normalizedGain, .reciprocalRank, .meanAveragePrecision:
            form = .queryMean(values: try QueryRanking(rows).values(of: metric))
        case .rmse:
            form = .rowMean(losses: zip(rows.predictions, rows.outcomes).map { ($0 - $1) * ($0 - $1) })
        case .mae: form = .rowMean(losses: zip(rows.predictions, rows.outcomes).map { abs($0 - $1) })
        case .meanAbsolutePercentageError:
            form = .rowMean(
                losses: zip(rows.predictions, rows.outcomes).map { abs($0 - $1) / max(abs($1), Double.ulpOfOne) })
        case .quantileLoss(let share):
            form = .rowMean(
                losses: zip(rows.predictions, rows.outcomes).map {
                    let short = $1 - $0
                    return short >= 0 ? share * short : (share - 1) * short
                })
        case .determination:
            guard rows.rowCount > 1 else { throw .undefined("R² needs two rows") }
            let mean = pairwiseSum(rows.outcomes) / Double(rows.rowCount)
            form = .determination(
                squares: zip(rows.predictions, rows.outcomes).map { ($0 - $1) * ($0 - $1) },
                deviations: rows.outcomes.map { $0 - mean })
        case .medianAbsoluteError:
            let errors = zip(rows.predictions, rows.outcomes).map { abs($0 - $1) }
            let order = descendingRows(errors)
            form = .median(rows: order, errors: order.map { errors[Int($0)] })
        }
    }

    /// The value with every row once.
    func value() throws(StatisticsError) -> Double {
        switch form {
        case .rowMean(let losses): return finish(pairwiseSum(losses) / Double(losses.count))
        case .queryMean(let values): return pairwiseSum(values) / Double(values.count)
        case .calibration(let bins, let gaps, let binCount):
            return calibration(bins, gaps, binCount) { _ in 1 }
        case .determination(let squares, let deviations):
            return try Self.determination(
                residual: pairwiseSum(squares), total: pairwiseSum(deviations.map { $0 * $0 }), rows: deviations.count)
        case .ranked(let classes):
            return try mean(classes) { ranked throws(StatisticsError) in try ranked.value(of: metric) { _ in 1 } }
        case .decisions(let cells, let classCount): return try decisions(cells, classCount) { _ in 1 }
        case .median(let rows, let errors): return try Self.median(rows, errors) { _ in 1 }
        case .top(let rows, let count): return try top(rows, count) { _ in 1 }
        }
    }

    /// The value when row `i` counts `weights[i]` times and query `j` `units[j]` times.
    ///
    /// - Precondition: `weights` has as many elements as there are rows, `units` as there are units.
    func value(weights: [UInt16], units: [UInt16]) throws(StatisticsError) -> Double {
        switch form {
        case .rowMean(let losses): return finish(try Self.mean(losses, weights))
        case .queryMean(let values): return try Self.mean(values, units)
        case .calibration(let bins, let gaps, let binCount):
            return calibration(bins, gaps, binCount) { Int(weights[$0]) }
        case .determination(let squares, let deviations):
            var (residual, total, sum, count) = (0.0, 0.0, 0.0, 0)
            for row in squares.indices {
                let weight = Double(weights[row])
                residual += weight * squares[row]
                sum += weight * deviations[row]
                total += weight * deviations[row] * deviations[row]
                count += Int(weights[row])
            }
            guard count > 1 else { throw .undefined("R² needs two rows") }
            return try Self.determination(residual: residual, total: total - sum * sum / Double(count), rows: count)
        case .ranked(let classes):
            return try weights.withUnsafeBufferPointer { weights throws(StatisticsError) in
                try mean(classes) { ranked throws(StatisticsError) in
                    try ranked.value(of: metric) { Int(weights[$0]) }
                }
            }
        case .decisions(let cells, let classCount): return try decisions(cells, classCount) { Int(weights[$0]) }
        case .median(let rows, let errors): return try Self.median(rows, errors) { Int(weights[$0]) }
        case .top(let rows, let count): return try top(rows, count) { Int(weights[$0]) }
        }
    }

    // MARK: Parts

    private func finish(_ mean: Double) -> Double { metric == .rmse ? mean.squareRoot() : mean }

    private static func mean(_ values: [Double], _ weights: [UInt16]) throws(StatisticsError) -> Double {
        var (total, count) = (0.0, 0)
        for (value, weight) in zip(values, weights) {
            total += value * Double(weight)
            count += Int(weight)
        }
        guard count > 0 else { throw .emptyInput }
        return total / Double(count)
    }

    private func mean(
        _ classes: [RankedRows], _ measure: (RankedRows) throws(StatisticsError) -> Double
    ) throws(StatisticsError) -> Double {
        var total = 0.0
        for ranked in classes { total += try measure(ranked) }
        return total / Double(classes.count)
    }

    @inline(__always)
    private func calibration(_ bins: [UInt16], _ gaps: [Double], _ binCount: Int, _ weight: (Int) -> Int) -> Double {
        var (gap, rows) = ([Double](repeating: 0, count: binCount), 0)
        for row in bins.indices {
            let weight = weight(row)
            gap[Int(bins[row])] += Double(weight) * gaps[row]
            rows += weight
        }
        return gap.reduce(0) { $0 + abs($1) } / Double(rows)
    }

    @inline(__always)
    private func decisions(
        _ cells: [UInt32], _ classCount: Int, _ weight: (Int) -> Int
    ) throws(StatisticsError) -> Double {
        var counts = [Int](repeating: 0, count: classCount * classCount)
        for row in cells.indices { counts[Int(cells[row])] += weight(row) }
        return try ConfusionMatrix(classCount: classCount, counts: counts).value(of: metric)
    }

    /// R² of a constant outcome is 1 if every prediction is right and 0 if not, as scikit-learn has it.
    private static func determination(
        residual: Double, total: Double, rows: Int
    ) throws(StatisticsError) -> Double {
        if total <= 0 { return residual == 0 ? 1 : 0 }
        return 1 - residual / total
    }

    /// The middle error, or the mean of the two in the middle; `errors` fall.
    @inline(__always)
    private static func median(
        _ rows: [UInt32], _ errors: [Double], _ weight: (Int) -> Int
    ) throws(StatisticsError) -> Double {
        let count = rows.reduce(0) { $0 + weight(Int($1)) }
        guard count > 0 else { throw .emptyInput }
        let (low, high) = ((count - 1) / 2, count / 2)
        var (seen, first) = (0, Double.nan)
        for (place, row) in rows.enumerated() {
            seen += weight(Int(row))
            if first.isNaN, seen > low { first = errors[place] }
            if seen > high { return (first + errors[place]) / 2 }
        }
        throw .emptyInput
    }

    @inline(__always)
    private func top(
        _ rows: RankedRows, _ count: Int, _ weight: (Int) -> Int
    ) throws(StatisticsError) -> Double {
        let (hits, relevant) = rows.hits(among: count, weight)
        guard case .recallAt = metric else { return hits / Double(count) }
        return relevant == 0 ? 0 : hits / Double(relevant)
    }

    // MARK: Losses

    private static func logLosses(_ rows: EvaluationRows) throws(StatisticsError) -> [Double] {
        let classes = try rows.classes()
        try checkProbabilities(rows.predictions)
        let (least, most) = (Double.ulpOfOne, 1 - Double.ulpOfOne)
        if rows.outputCount == 1 {
            return zip(rows.predictions, classes).map { prediction, outcome in
                -log(min(max(outcome == 1 ? prediction : 1 - prediction, least), most))
            }
        }
        return classes.indices.map { row in
            -log(min(max(rows.predictions[row * rows.outputCount + Int(classes[row])], least), most))
        }
    }

    private static func brierLosses(_ rows: EvaluationRows) throws(StatisticsError) -> [Double] {
        let classes = try rows.classes()
        try checkProbabilities(rows.predictions)
        if rows.outputCount == 1 {
            return zip(rows.predictions, rows.outcomes).map { ($0 - $1) * ($0 - $1) }
        }
        return classes.indices.map { row in
            (0..<rows.outputCount).reduce(0) { sum, output in
                let gap = rows.predictions[row * rows.outputCount + output] - (Int32(output) == classes[row] ? 1 : 0)
                return sum + gap * gap
            }
        }
    }

    /// Probability and outcome for calibration: of class 1, or of the called class and whether it was right.
    static func confidences(
        _ rows: EvaluationRows
    ) throws(StatisticsError) -> (probabilities: [Double], outcomes: [Double]) {
        let classes = try rows.classes()
        try checkProbabilities(rows.predictions)
        if rows.outputCount == 1 { return (rows.predictions, rows.outcomes) }
        let called = rows.calledClasses(threshold: 0.5)
        return (
            called.indices.map { rows.predictions[$0 * rows.outputCount + Int(called[$0])] },
            zip(classes, called).map { $0 == $1 ? 1 : 0 }
        )
    }
}
