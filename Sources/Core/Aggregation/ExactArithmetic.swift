/// Sums without rounding: values become whole multiples of a power of ten, and only the last step is a division.
///
/// Every engine does these same steps on the same integers and then the same IEEE operations in the same order, so the
/// answers have equal bits. `docs/semantics.md` holds the rules.
public enum ExactArithmetic {
    /// Marks a value whose multiple does not fit in 64 bits: a window that holds it has no sum.
    public static let unsummable = Int64.min
    /// What an unsummable value adds to a sum.
    ///
    /// No sum of summable values of up to 2^27 events comes near it (below 2^90), and as many of it fit in a decimal of 38 digits.
    public static let poison = Int128(1) << 92
    /// Sums at or above this hold an unsummable value.
    public static let poisonThreshold = Int128(1) << 91
    /// Multiples from here on have no square, so that 2^27 squares fit in 127 bits.
    public static let squareBound = Int64(1) << 49

    /// `value · power` rounded half away from zero; `unsummable` when that does not fit in 64 bits or is no number.
    @inlinable
    public static func scaled(_ value: Double, by power: Double) -> Int64 {
        let product = value * power
        guard product.magnitude < 0x1p63 else { return unsummable }
        // Cut, then looked at what was cut off: both exact, and without the call that rounding costs.
        let whole = Int64(product)
        let rest = product - Double(whole)
        return rest >= 0.5 ? whole + 1 : rest <= -0.5 ? whole - 1 : whole
    }

    /// The nearest double for integers of up to 63 bits; for wider ones the sum of two doubles, each rounded once.
    ///
    /// `value = high · 2^62 + low`, cut towards zero. Any engine with 128-bit integers can do these steps; a plain cast
    /// rounds differently from engine to engine.
    public static func double(_ value: Int128) -> Double {
        if let narrow = Int64(exactly: value) { return Double(narrow) }
        let (high, low) = value.quotientAndRemainder(dividingBy: 1 << 62)
        // Below 2^125, which every sum is, both parts fit in 64 bits.
        return Double(Int64(truncatingIfNeeded: high)) * 0x1p62 + Double(Int64(truncatingIfNeeded: low))
    }

    /// A sum as a double; `nil` if it holds an unsummable value.
    public static func sum(_ exact: Int128, power: Double) -> Double? {
        exact < poisonThreshold ? double(exact) / power : nil
    }

    /// A mean, divided once; `nil` for no values or an unsummable one.
    public static func mean(_ exact: Int128, count: Int, power: Double) -> Double? {
        count > 0 && exact < poisonThreshold ? double(exact) / (power * Double(count)) : nil
    }

    /// Population standard deviation from the exact sum and sum of squares; `nil` for no values or one without a square.
    ///
    /// With `m` the whole number nearest the mean and `r = sum − m · count`, the squared distances from `m` are
    /// `squares − m · (sum + r)`, exactly, and those from the mean are less by `r² / count`. As `|r| ≤ count / 2`, that
    /// difference loses at most one bit.
    public static func standardDeviation(_ exact: Int128, squares: Int128, count: Int, power: Double) -> Double? {
        guard count > 0, exact < poisonThreshold else { return nil }
        let wide = Int128(count)
        var (middle, rest) = exact.quotientAndRemainder(dividingBy: wide)
        if 2 * rest > wide {
            middle += 1
            rest -= wide
        } else if 2 * rest < -wide {
            middle -= 1
            rest += wide
        }
        // Sums of stored bytes that somebody has changed may wrap; true ones cannot.
        let distances = double(squares &- middle &* (exact &+ rest))
        let shift = Double(Int64(truncatingIfNeeded: rest))
        return ((distances - shift * shift / Double(count)) / Double(count)).squareRoot() / power
    }

    /// One number divided by another; `nil` where either is no number, the divisor is zero or the quotient is infinite.
    ///
    /// A negative zero becomes zero.
    public static func ratio(_ numerator: Double, _ denominator: Double) -> Double? {
        guard denominator != 0 else { return nil }
        let quotient = numerator / denominator + 0.0
        return quotient.isFinite ? quotient : nil
    }
}
