/// Decimal text to `float64`, correctly rounded.
///
/// A mantissa of at most 2⁵³ and a power of ten up to 22 give the correctly rounded value in one operation, because both
/// are exact (Clinger, "How to read floating point numbers accurately", 1990). Up to 19 digits and a power of 27, what
/// programs write of a double, take one product or quotient of whole numbers, of which the lost bits are known. All other
/// texts go to the standard library.
public enum DecimalText {
    /// 10⁰ … 10²², each exact as a double.
    private static let powersOfTen: [Double] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
        1e20, 1e21, 1e22,
    ]
    /// 5⁰ … 5²⁷, the last that has room in 64 bits.
    private static let powersOfFive: [UInt64] = (0...27).reduce(into: []) { powers, _ in
        powers.append(powers.last.map { $0 * 5 } ?? 1)
    }
    /// Longest text that is read.
    public static let byteCountMax = 400

    /// A JSON number (RFC 8259) as found in a text.
    public struct Number: Sendable, Hashable {
        /// Where it ends.
        public let end: Int
        /// Its value; infinite where the text is beyond the range of a double.
        public let value: Double
        /// Whether it is written without fraction and exponent.
        public let isWhole: Bool
    }

    /// Reads the number that starts at `start`; `nil` where none does, or one of more than `byteCountMax` bytes.
    public static func number(in bytes: UnsafeRawBufferPointer, at start: Int) -> Number? {
        var at = start
        let isNegative = at < bytes.count && bytes[at] == 0x2D
        if isNegative { at += 1 }
        guard at < bytes.count, bytes[at] &- 48 < 10 else { return nil }
        if bytes[at] == 48, at + 1 < bytes.count, bytes[at + 1] &- 48 < 10 { return nil }
        var mantissa: UInt64 = 0
        let first = at
        while at < bytes.count, bytes[at] &- 48 < 10 {
            mantissa = mantissa &* 10 &+ UInt64(bytes[at] &- 48)
            at += 1
        }
        var digits = at - first
        var scale = 0
        var isWhole = true
        if at < bytes.count, bytes[at] == 0x2E {
            isWhole = false
            let point = at
            at += 1
            while at < bytes.count, bytes[at] &- 48 < 10 {
                mantissa = mantissa &* 10 &+ UInt64(bytes[at] &- 48)
                at += 1
            }
            guard at > point + 1 else { return nil }
            digits += at - point - 1
            scale = point + 1 - at
        }
        if at < bytes.count, bytes[at] | 0x20 == 0x65 {
            isWhole = false
            at += 1
            let isBelow = at < bytes.count && bytes[at] == 0x2D
            if at < bytes.count, bytes[at] == 0x2B || isBelow { at += 1 }
            let start = at
            var exponent = 0
            while at < bytes.count, bytes[at] &- 48 < 10 {
                if exponent < 100_000 { exponent = exponent * 10 + Int(bytes[at] &- 48) }
                at += 1
            }
            guard at > start else { return nil }
            scale += isBelow ? -exponent : exponent
        }
        guard at - start <= byteCountMax else { return nil }
        if digits <= 19, let value = exact(mantissa, scale) ?? rounded(mantissa, scale) {
            return Number(end: at, value: isNegative ? -value : value, isWhole: isWhole)
        }
        return Number(end: at, value: slow(bytes, start, at), isWhole: isWhole)
    }

    private static func exact(_ mantissa: UInt64, _ scale: Int) -> Double? {
        guard mantissa <= 1 << 53, -22...22 ~= scale else { return nil }
        return scale < 0 ? Double(mantissa) / powersOfTen[-scale] : Double(mantissa) * powersOfTen[scale]
    }

    /// `mantissa` · 10^`scale`, rounded to the nearest double, to the even one of two.
    private static func rounded(_ mantissa: UInt64, _ scale: Int) -> Double? {
        guard mantissa > 0, -27...27 ~= scale else { return nil }
        let shift = mantissa.leadingZeroBitCount
        let dividend = mantissa << UInt64(shift)
        // The value is significand · 2^exponent, and a little more where bits were lost.
        var (significand, exponent, isMore): (UInt64, Int, Bool)
        if scale >= 0 {
            let product = dividend.multipliedFullWidth(by: powersOfFive[scale])
            let blank = product.high.leadingZeroBitCount
            significand = product.high << UInt64(blank) | product.low >> UInt64(64 - blank)
            (exponent, isMore) = (scale - shift + 64 - blank, product.low << UInt64(blank) != 0)
        } else {
            let blank = powersOfFive[-scale].leadingZeroBitCount
            let divisor = powersOfFive[-scale] << UInt64(blank)
            let (quotient, remainder) = divisor.dividingFullWidth((dividend >> 1, dividend << 63))
            let lead = quotient.leadingZeroBitCount
            significand = quotient << UInt64(lead)
            (exponent, isMore) = (scale - shift + blank - 63 - lead, remainder != 0)
        }
        let lost = significand & 0x7FF
        significand >>= 11
        exponent += 11
        if lost > 0x400 || lost == 0x400 && (isMore || significand & 1 == 1) { significand += 1 }
        return Double(significand) * Double(bitPattern: UInt64(1023 + exponent) << 52)
    }

    private static func slow(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int) -> Double {
        Double(String(decoding: bytes[start..<end], as: UTF8.self)) ?? .infinity
    }
}
