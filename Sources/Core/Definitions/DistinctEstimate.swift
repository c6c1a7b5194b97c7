import Foundation

/// How many different values there are, from a bounded number of coupons: what `approx_count_distinct` is.
///
/// Each value draws a coupon by its hash: one of `2^precision` registers, and in it a level that half as many values draw
/// as the level before. The number of *different* coupons grows with the logarithm of the number of different values, and
/// tells it: this is probabilistic counting (Flajolet and Martin, 1985) with the estimator of Lang's "Back to the Future: an
/// Even More Nearly Optimal Cardinality Estimation Algorithm" (2017), which Apache DataSketches calls CPC. HyperLogLog keeps
/// only the highest level of each register; a level cannot be taken back when its event leaves a window, a coupon can: a
/// coupon is in a window while one of its events is. So coupons are counted as values are, over sliding windows, by every
/// engine, with late rows, and give the same integer everywhere.
///
/// While the coupons are few the count is exact. Relative standard error beyond: 0.693 / √registers.
public enum DistinctEstimate {
    /// Logarithms of the number of registers that are allowed.
    public static let precisions = 4...14
    /// 1,024 registers: exact to some 39,000 values, standard error 2.2 % beyond.
    public static let precisionByDefault = 10

    /// Values of a hash.
    private static let hashCount: Int64 = 1 << 31
    /// Levels of a register and one more, as a power of two.
    private static let levelCount: Int64 = 32
    /// Coupons for each register up to which values are counted exactly: from there on one formula fits all.
    private static let exactCouponsEach = 5.6
    /// The constant of that formula: a register with `c` coupons stands for `0.794 · 2^c` values.
    private static let factor = 0.7940236163830469
    /// Fixed point of a mantissa.
    private static let one = 16_777_216.0

    /// Registers of a precision.
    public static func registerCount(_ precision: Int) -> Int64 { 1 << Int64(precision) }

    /// The most coupons with which values are counted exactly: never fewer values than that.
    public static func exactCouponCountMax(_ precision: Int) -> Int64 {
        Int64(exactCouponsEach * Double(registerCount(precision)))
    }

    /// How many values are worth remembering: half of them are so many that they are estimated.
    public static func rememberedCountMax(_ precision: Int) -> Int { 96 << precision }

    /// Standard error of an estimate, as a share of the true number.
    public static func standardError(_ precision: Int) -> Double {
        0.6931 / Double(registerCount(precision)).squareRoot()
    }

    /// The count of so many different values with so many different coupons: exact while the coupons are few.
    public static func count(exact: Int64, coupons: Int64, precision: Int) -> Int64 {
        coupons <= exactCouponCountMax(precision) ? exact : estimate(coupons: coupons, precision: precision)
    }

    /// How many different values so many different coupons stand for.
    ///
    /// `⌊round(0.794 · 2^(c mod r / r) · 2^24) · r · 2^(c div r) / 2^24⌋` with `r` registers: whole numbers but for one
    /// rounding, whose result no engine's power function can move (`DistinctEstimateTests` looks at all of them).
    public static func estimate(coupons: Int64, precision: Int) -> Int64 {
        let registers = registerCount(precision)
        let (whole, rest) = coupons.quotientAndRemainder(dividingBy: registers)
        let mantissa = Int64(scaledMantissa(rest, precision).rounded())
        // 25 bits, those of a register's number, and as many as there are levels: 57.
        return ((mantissa * registers) << min(max(whole, 0), 32 - Int64(precision))) / fixedPoint
    }

    /// The mantissa before it is rounded.
    static func scaledMantissa(_ rest: Int64, _ precision: Int) -> Double {
        mantissaOfOne * Foundation.pow(2, Double(rest) / Double(registerCount(precision)))
    }

    /// `0.794 · 2^24`, for engines that compute the same in SQL.
    public static let mantissaOfOne = factor * one
    /// `2^24`.
    public static let fixedPoint = Int64(one)

    // MARK: Expressions

    /// The expression that hashes a column.
    static func hash(of column: String) -> String { "hash(\(column), \(hashCount))" }

    /// The expression of the coupon of a hash: its register and, as the length of the rest in bits, its level.
    static func coupon(of hash: String, precision: Int) -> String {
        let registers = registerCount(precision)
        let edges = (0..<(31 - precision)).map { String(Int64(1) << Int64($0)) }.joined(separator: ", ")
        return "\(hash) % \(registers) * \(levelCount) + bucketize(\(hash) // \(registers), [\(edges)])"
    }
}
