import Foundation

/// The rows of each query from the highest score down.
///
/// Without queries all rows are one. Where scores are equal, a measure is its mean over every order of the equal rows;
/// average precision takes them as one threshold, as scikit-learn does. A query without a relevant row has 0.
/// - SeeAlso: McSherry & Najork (2008), *Computing Information Retrieval Performance Measures Efficiently in the Presence
///   of Tied Scores*.
struct QueryRanking {
    /// Rows of equal score.
    struct Run {
        var rows = 0
        var relevant = 0
        var gain = 0.0
    }
    private var queries: [[Run]] = []
    /// Relevances of each query from the highest down.
    private var ideals: [[Double]] = []

    static func checkRelevance(_ outcomes: [Double]) throws(StatisticsError) {
        if let other = outcomes.first(where: { $0 < 0 }) { throw .negativeRelevance(other) }
    }

    init(_ rows: EvaluationRows) throws(StatisticsError) {
        try Self.checkRelevance(rows.outcomes)
        let count = max(1, rows.queryCount)
        var previous = [Double](repeating: .nan, count: count)
        queries = [[Run]](repeating: [], count: count)
        ideals = [[Double]](repeating: [], count: count)
        for row in descendingOrder(rows.predictions) {
            let query = rows.queries?[row] ?? 0
            if rows.predictions[row] != previous[query] {
                queries[query].append(Run())
                previous[query] = rows.predictions[row]
            }
            let last = queries[query].count - 1
            queries[query][last].rows += 1
            queries[query][last].gain += rows.outcomes[row]
            if rows.outcomes[row] > 0 { queries[query][last].relevant += 1 }
            ideals[query].append(rows.outcomes[row])
        }
        for query in ideals.indices { ideals[query].sort(by: >) }
    }

    /// The measure of each query.
    func values(of metric: EvaluationMetric) throws(StatisticsError) -> [Double] {
        let discounts = Self.discounts(ideals.reduce(0) { max($0, $1.count) })
        return queries.indices.map { query in
            let runs = queries[query]
            let relevant = runs.reduce(0) { $0 + $1.relevant }
            guard relevant > 0 else { return 0 }
            switch metric {
            case .precisionAt(let count): return Self.hits(runs, among: count) / Double(count)
            case .recallAt(let count): return Self.hits(runs, among: count) / Double(relevant)
            case .normalizedGain(let count):
                let ideal = ideals[query]
                let counted = min(count ?? .max, ideal.count)
                var most = 0.0
                for place in 0..<counted { most += ideal[place] * discounts.single[place] }
                return Self.gain(runs, among: counted, discounts.cumulative) / most
            case .reciprocalRank: return Self.reciprocalRank(runs)
            case .meanAveragePrecision: return Self.averagePrecision(runs) / Double(relevant)
            default: preconditionFailure("\(metric) is no measure of queries")
            }
        }
    }

    /// `1 / log₂(place + 2)` and its running sums, which begin with 0.
    private static func discounts(_ count: Int) -> (single: [Double], cumulative: [Double]) {
        let single = (0..<count).map { 1 / log2(Double($0) + 2) }
        var cumulative = [0.0]
        for discount in single { cumulative.append(cumulative[cumulative.count - 1] + discount) }
        return (single, cumulative)
    }

    private static func hits(_ runs: [Run], among count: Int) -> Double {
        var (left, hits) = (count, 0.0)
        for run in runs where left > 0 {
            let taken = min(left, run.rows)
            hits += Double(run.relevant) * Double(taken) / Double(run.rows)
            left -= taken
        }
        return hits
    }

    private static func gain(_ runs: [Run], among count: Int, _ discounts: [Double]) -> Double {
        var (from, gain) = (0, 0.0)
        for run in runs where from < count {
            let to = min(count, from + run.rows)
            gain += run.gain / Double(run.rows) * (discounts[to] - discounts[from])
            from += run.rows
        }
        return gain
    }

    /// The first run with a relevant row decides: with `r` rows, `m` of them relevant, after `b` others, the first stands at
    /// place `j` of the run with probability `C(r − j, m − 1) / C(r, m)`.
    private static func reciprocalRank(_ runs: [Run]) -> Double {
        var before = 0
        for run in runs {
            guard run.relevant > 0 else {
                before += run.rows
                continue
            }
            var (probability, sum) = (Double(run.relevant) / Double(run.rows), 0.0)
            for place in 1...(run.rows - run.relevant + 1) {
                sum += probability / Double(before + place)
                // C(r − j − 1, m − 1) / C(r − j, m − 1) = (r − j − m + 1) / (r − j)
                let rest = run.rows - place
                if rest > 0 { probability *= Double(rest - run.relevant + 1) / Double(rest) }
            }
            return sum
        }
        return 0
    }

    private static func averagePrecision(_ runs: [Run]) -> Double {
        var (rows, relevant, sum) = (0, 0, 0.0)
        for run in runs {
            rows += run.rows
            relevant += run.relevant
            sum += Double(run.relevant) * Double(relevant) / Double(rows)
        }
        return sum
    }
}
