/// Decimal text to `float64`, correctly rounded.
///
/// A mantissa of at most 2⁵³ and a power of ten up to 22 give the correctly rounded value in one operation, because both
/// are exact (Clinger, "How to read floating point numbers accurately", 1990). All other texts go to the standard library.
public enum DecimalText {
    /// 10⁰ … 10²², each exact as a double.
    private static let powersOfTen: [Double] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
        1e20, 1e21, 1e22,
    ]
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
        if digits <= 19, let value = exact(mantissa, scale) {
            return Number(end: at, value: isNegative ? -value : value, isWhole: isWhole)
        }
        return Number(end: at, value: slow(bytes, start, at), isWhole: isWhole)
    }

    private static func exact(_ mantissa: UInt64, _ scale: Int) -> Double? {
        guard mantissa <= 1 << 53, -22...22 ~= scale else { return nil }
        return scale < 0 ? Double(mantissa) / powersOfTen[-scale] : Double(mantissa) * powersOfTen[scale]
    }

    private static func slow(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int) -> Double {
        Double(String(decoding: bytes[start..<end], as: UTF8.self)) ?? .infinity
    }
}
