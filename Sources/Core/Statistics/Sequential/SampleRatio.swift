import Foundation

/// Whether units fell to the variants of an experiment in the shares that were planned.
///
/// A mismatch says that the experiment is broken, not that a variant is better: requests were lost, routed elsewhere, or
/// counted twice on one side. Fabijan et al. (2019), *Diagnosing Sample Ratio Mismatch in Online Controlled Experiments*.
public struct SampleRatio: Sendable, Hashable {
    /// Units seen, variant by variant.
    public let counts: [Int]
    /// Shares planned, in the same order; they add up to 1.
    public let shares: [Double]

    /// Puts counts beside shares.
    /// - Throws: `shapeMismatch`; `undefined` if a share is not above 0 or the shares do not add up to 1, or a count is
    ///   negative.
    public init(counts: [Int], shares: [Double]) throws(StatisticsError) {
        guard counts.count == shares.count else { throw .shapeMismatch(counts.count, shares.count) }
        guard shares.allSatisfy({ $0 > 0 }), abs(shares.reduce(0, +) - 1) < 1e-6 else {
            throw .undefined("shares must be above 0 and add up to 1")
        }
        guard counts.allSatisfy({ $0 >= 0 }) else { throw .undefined("a count is below 0") }
        self.counts = counts
        self.shares = shares
    }

    /// Units in all.
    public var total: Int { counts.reduce(0, +) }

    /// Pearson's `χ² = Σ (nᵢ − n pᵢ)² / (n pᵢ)`; 0 without units.
    public var chiSquare: Double {
        let total = Double(total)
        guard total > 0 else { return 0 }
        return zip(counts, shares).reduce(0) { sum, pair in
            let expected = total * pair.1
            return sum + (Double(pair.0) - expected) * (Double(pair.0) - expected) / expected
        }
    }

    /// Chance of a `χ²` at least as large if the shares hold; for one look.
    public var chiSquarePValue: Double {
        SpecialFunctions.upperRegularizedGamma(Double(counts.count - 1) / 2, chiSquare / 2)
    }

    /// An always-valid p-value: to fall below `α` at any of many looks has a chance of at most `α` if the shares hold.
    ///
    /// The inverse of the Bayes factor against a Dirichlet mixture around the planned shares, `Dirichlet(k p)` with `k`
    /// the concentration.
    /// - SeeAlso: Lindon & Malek (2022), *Anytime-Valid Inference For Multinomial Count Data*.
    public func sequentialPValue(concentration: Double = 100) -> Double {
        guard counts.count > 1, total > 0 else { return 1 }
        let priors = shares.map { $0 * concentration }
        var logFactor = lgamma(concentration) - lgamma(concentration + Double(total))
        for (count, (prior, share)) in zip(counts, zip(priors, shares)) {
            logFactor += lgamma(prior + Double(count)) - lgamma(prior) - Double(count) * log(share)
        }
        return min(1, exp(-logFactor))
    }
}

/// Functions that the C library does not have.
enum SpecialFunctions {
    /// `Q(a, x) = Γ(a, x)/Γ(a)`: by its series below `a + 1`, by Lentz's continued fraction above.
    ///
    /// - SeeAlso: Press, Teukolsky, Vetterling & Flannery (2007), *Numerical Recipes*, section 6.2.
    static func upperRegularizedGamma(_ a: Double, _ x: Double) -> Double {
        guard a > 0, x > 0 else { return 1 }
        guard x.isFinite else { return 0 }
        let front = exp(-x + a * log(x) - lgamma(a))
        if x < a + 1 {
            var (term, sum, order) = (1 / a, 1 / a, a)
            for _ in 0..<10_000 {
                order += 1
                term *= x / order
                sum += term
                if abs(term) < abs(sum) * 1e-16 { break }
            }
            return max(0, 1 - sum * front)
        }
        let tiny = 1e-300
        var b = x + 1 - a
        var c = 1 / tiny
        var d = 1 / b
        var fraction = d
        for step in 1..<10_000 {
            let factor = -Double(step) * (Double(step) - a)
            b += 2
            d = factor * d + b
            if abs(d) < tiny { d = tiny }
            c = b + factor / c
            if abs(c) < tiny { c = tiny }
            d = 1 / d
            fraction *= d * c
            if abs(d * c - 1) < 1e-15 { break }
        }
        return min(1, front * fraction)
    }
}
