/// Rows of two classes from the highest score down, ready for passes with different weights.
struct RankedRows: Sendable {
    /// Row number · 4, plus 2 if the next row has a lower score, plus 1 if the row is positive.
    private let entries: [UInt32]

    /// Sorts rows; fewer than 2³⁰.
    init(scores: [Double], isPositive: (Int) -> Bool) {
        precondition(scores.count < 1 << 30, "too many rows to rank")
        let order = descendingRows(scores)
        entries = order.indices.map { place in
            let row = Int(order[place])
            let endsRun = place + 1 == order.count || scores[Int(order[place + 1])] != scores[row]
            return order[place] << 2 | (endsRun ? 2 : 0) | (isPositive(row) ? 1 : 0)
        }
    }

    /// Area under the ROC curve or average precision; ties count half, or as one threshold.
    /// - Throws: `oneClassOnly`.
    @inline(__always)
    func value(of metric: EvaluationMetric, _ weight: (Int) -> Int) throws(StatisticsError) -> Double {
        metric == .auc ? try area(weight) : try averagePrecision(weight)
    }

    @inline(__always)
    private func area(_ weight: (Int) -> Int) throws(StatisticsError) -> Double {
        // Twice the area in whole numbers: exact while rows² < 2⁶².
        var (positives, negatives, area, runPositives, runNegatives) = (0, 0, 0, 0, 0)
        for entry in entries {
            let weight = weight(Int(entry >> 2))
            let mask = -Int(entry & 1)
            runPositives &+= weight & mask
            runNegatives &+= weight & ~mask
            if entry & 2 != 0 {
                area &+= runNegatives &* (2 &* positives &+ runPositives)
                positives &+= runPositives
                negatives &+= runNegatives
                (runPositives, runNegatives) = (0, 0)
            }
        }
        guard positives > 0, negatives > 0 else { throw .oneClassOnly }
        return Double(area) / 2 / Double(positives) / Double(negatives)
    }

    @inline(__always)
    private func averagePrecision(_ weight: (Int) -> Int) throws(StatisticsError) -> Double {
        var (positives, rows, sum, runPositives) = (0, 0, 0.0, 0)
        for entry in entries {
            let weight = weight(Int(entry >> 2))
            rows &+= weight
            runPositives &+= weight & -Int(entry & 1)
            if entry & 2 != 0 {
                positives &+= runPositives
                if runPositives > 0 { sum += Double(runPositives) * Double(positives) / Double(rows) }
                runPositives = 0
            }
        }
        guard positives > 0 else { throw .oneClassOnly }
        return sum / Double(positives)
    }

    /// Positive rows among the first `count`, and all of them; rows of one score share the places that are left.
    @inline(__always)
    func hits(among count: Int, _ weight: (Int) -> Int) -> (hits: Double, positives: Int) {
        var (positives, hits, left, runRows, runPositives) = (0, 0.0, count, 0, 0)
        for entry in entries {
            let weight = weight(Int(entry >> 2))
            runRows += weight
            runPositives += weight & -Int(entry & 1)
            guard entry & 2 != 0 else { continue }
            let taken = min(left, runRows)
            if taken > 0 { hits += Double(runPositives) * Double(taken) / Double(runRows) }
            left -= taken
            positives += runPositives
            (runRows, runPositives) = (0, 0)
        }
        return (hits, positives)
    }

    /// Cumulative counts at the end of each run of equal scores: row of the run, positives and negatives so far.
    func thresholds(_ body: (_ row: Int, _ positives: Int, _ negatives: Int) -> Void) {
        var (positives, negatives) = (0, 0)
        for entry in entries {
            if entry & 1 == 1 { positives += 1 } else { negatives += 1 }
            if entry & 2 != 0 { body(Int(entry >> 2), positives, negatives) }
        }
    }
}
