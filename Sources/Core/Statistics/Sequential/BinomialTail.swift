import Foundation

/// How surprising a count is if each of its cases happens with a known chance.
public enum BinomialTail {
    /// The exact chance of `count` or more of `total` cases that each happen with the chance `share`.
    ///
    /// Its time grows with `total - count`. 1 for a count of 0 or less; 0 where `share` is 0 and the count is not.
    public static func atLeast(_ count: Int, of total: Int, share: Double) -> Double {
        guard count > 0 else { return 1 }
        guard count <= total, share > 0 else { return 0 }
        guard share < 1 else { return 1 }
        let (rate, rest) = (log(share), log1p(-share))
        let whole: Double = lgamma(Double(total) + 1)
        let sum = (count...total).reduce(0.0) { sum, cases in
            let (taken, left): (Double, Double) = (lgamma(Double(cases) + 1), lgamma(Double(total - cases) + 1))
            return sum + exp(whole - taken - left + Double(cases) * rate + Double(total - cases) * rest)
        }
        return min(1, sum)
    }
}
