import Foundation

/// How far one set of binned rows has moved from another.
///
/// All take rows per bin, with the same bins on both sides. Logarithms are natural, so divergences are in nats.
public enum DriftMeasure {
    /// Rows added to every bin before shares are taken, so that an empty bin stays finite (Jeffreys' prior).
    public static let pseudoCountDefault = 0.5

    /// Population stability index: how far the shares of `current` have moved from those of `reference`.
    ///
    /// `PSI = Σ (cᵢ − rᵢ) · ln(cᵢ / rᵢ)`; 0 means identical. Bins that are empty on both sides say nothing and are left
    /// out. With `pseudoCount` 0 a bin that is empty on one side throws.
    ///
    /// - Throws: `shapeMismatch`, `emptyInput` if either side has no rows, `emptyBin`.
    /// - SeeAlso: Kullback & Leibler (1951), *On Information and Sufficiency*, the symmetric divergence J.
    public static func populationStabilityIndex(
        reference: [Int], current: [Int], pseudoCount: Double = pseudoCountDefault
    ) throws(StatisticsError) -> Double {
        try sum(reference, current, pseudoCount) { share, other in (other - share) * log(other / share) }
    }

    /// Kullback–Leibler divergence `Σ cᵢ · ln(cᵢ / rᵢ)` of `current` from `reference`, with the same pseudo counts as PSI.
    public static func kullbackLeibler(
        reference: [Int], current: [Int], pseudoCount: Double = pseudoCountDefault
    ) throws(StatisticsError) -> Double {
        max(0, try sum(reference, current, pseudoCount) { share, other in other * log(other / share) })
    }

    /// Jensen–Shannon divergence, between 0 and ln 2; needs no pseudo counts, as the mixture is never empty.
    ///
    /// - SeeAlso: Lin (1991), *Divergence Measures Based on the Shannon Entropy*.
    public static func jensenShannon(reference: [Int], current: [Int]) throws(StatisticsError) -> Double {
        let value = try sum(reference, current, nil) { share, other in
            let middle = (share + other) / 2
            return (share > 0 ? share * log(share / middle) : 0) / 2
                + (other > 0 ? other * log(other / middle) : 0) / 2
        }
        return max(0, value)
    }

    /// Kolmogorov–Smirnov distance between the binned distributions: the largest gap of their cumulative shares.
    ///
    /// It is taken at bin edges, so it never exceeds the distance of the unbinned values and falls short of it by at most
    /// the largest share of one bin.
    public static func kolmogorovSmirnov(reference: [Int], current: [Int]) throws(StatisticsError) -> Double {
        let (referenceTotal, currentTotal) = try totals(reference, current)
        var (before, after, distance) = (0, 0, 0.0)
        for (left, right) in zip(reference, current) {
            before += left
            after += right
            distance = max(distance, abs(Double(before) / referenceTotal - Double(after) / currentTotal))
        }
        return distance
    }

    private static func totals(_ reference: [Int], _ current: [Int]) throws(StatisticsError) -> (Double, Double) {
        guard reference.count == current.count else { throw .shapeMismatch(reference.count, current.count) }
        let totals = (reference.reduce(0, +), current.reduce(0, +))
        guard totals.0 > 0, totals.1 > 0 else { throw .emptyInput }
        return (Double(totals.0), Double(totals.1))
    }

    private static func sum(
        _ reference: [Int], _ current: [Int], _ pseudoCount: Double?, _ term: (Double, Double) -> Double
    ) throws(StatisticsError) -> Double {
        let (referenceTotal, currentTotal) = try totals(reference, current)
        let added = pseudoCount ?? 0
        let used = Double(zip(reference, current).count { $0 > 0 || $1 > 0 })
        var total = 0.0
        for (bin, (left, right)) in zip(reference, current).enumerated() where left > 0 || right > 0 {
            if pseudoCount == 0, left == 0 || right == 0 { throw .emptyBin(bin) }
            total += term(
                (Double(left) + added) / (referenceTotal + added * used),
                (Double(right) + added) / (currentTotal + added * used))
        }
        return total
    }
}
