import Glibc

/// Decimal text to `float32`, correctly rounded, without a copy or a call into the C library for the usual numbers.
enum NumberText {
    /// 10⁰ … 10²², each exact as a double.
    private static let powersOfTen: [Double] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
        1e20, 1e21, 1e22,
    ]
    /// Longest number text that is read; XGBoost writes at most 16 bytes, older releases about 50.
    static let byteCountMax = 400

    /// Where a number that starts at `start` ends, or `nil` when no JSON number starts there.
    @inline(__always)
    static func end(of bytes: UnsafeBufferPointer<UInt8>, from start: Int) -> Int? {
        var at = start
        func isDigit() -> Bool { at < bytes.count && bytes[at] &- 48 < 10 }
        if at < bytes.count, bytes[at] == 0x2D { at += 1 }
        guard isDigit() else { return nil }
        while isDigit() { at += 1 }
        if at < bytes.count, bytes[at] == 0x2E {
            at += 1
            guard isDigit() else { return nil }
            while isDigit() { at += 1 }
        }
        if at < bytes.count, bytes[at] | 0x20 == 0x65 {
            at += 1
            if at < bytes.count, bytes[at] == 0x2B || bytes[at] == 0x2D { at += 1 }
            guard isDigit() else { return nil }
            while isDigit() { at += 1 }
        }
        return at - start <= byteCountMax ? at : nil
    }

    /// The value of the number text `bytes[start..<end]`, as found by `end(of:from:)`.
    ///
    /// A mantissa below 2⁵³ and a power of ten up to 22 give the correctly rounded double in one operation (Clinger
    /// 1990). Rounding that double again to `float32` can only go wrong when it lies exactly in the middle between two
    /// floats; that case, subnormal results and long texts go to `strtof`, which rounds once.
    @inline(__always)
    static func float(_ bytes: UnsafeBufferPointer<UInt8>, from start: Int, to end: Int) -> Float {
        var mantissa: UInt64 = 0
        var digits = 0
        var scale = 0
        var at = start
        let negative = bytes[at] == 0x2D
        if negative { at += 1 }
        while at < end, bytes[at] &- 48 < 10 {
            mantissa = mantissa &* 10 &+ UInt64(bytes[at] &- 48)
            digits += 1
            at += 1
        }
        if at == end, digits <= 15 {  // an integer; XGBoost reads `-0` as the integer zero
            return mantissa == 0
                ? 0 : roundedOnce(negative ? -Double(mantissa) : Double(mantissa)) ?? slow(bytes, start, end)
        }
        if at < end, bytes[at] == 0x2E {
            at += 1
            while at < end, bytes[at] &- 48 < 10 {
                mantissa = mantissa &* 10 &+ UInt64(bytes[at] &- 48)
                digits += 1
                scale -= 1
                at += 1
            }
        }
        if at < end {  // the exponent
            at += 1
            let downwards = bytes[at] == 0x2D
            if downwards || bytes[at] == 0x2B { at += 1 }
            var exponent = 0
            while at < end {
                exponent = min(exponent * 10 + Int(bytes[at] &- 48), 100_000)
                at += 1
            }
            scale += downwards ? -exponent : exponent
        }
        guard digits <= 15, abs(scale) <= 22 else { return slow(bytes, start, end) }
        if mantissa == 0 { return negative ? -0.0 : 0.0 }
        let magnitude = scale < 0 ? Double(mantissa) / powersOfTen[-scale] : Double(mantissa) * powersOfTen[scale]
        return roundedOnce(negative ? -magnitude : magnitude) ?? slow(bytes, start, end)
    }

    @inline(__always)
    private static func roundedOnce(_ value: Double) -> Float? {
        let halfway = value.bitPattern & 0x1FFF_FFFF == 0x1000_0000
        let size = value.magnitude
        guard !halfway, size > 1.2e-38, size < 3.4e38 else { return nil }
        return Float(value)
    }

    private static func slow(_ bytes: UnsafeBufferPointer<UInt8>, _ start: Int, _ end: Int) -> Float {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: end - start + 1) { text in
            for offset in 0..<(end - start) { text[offset] = CChar(bitPattern: bytes[start + offset]) }
            text[end - start] = 0
            return text.baseAddress.map { strtof($0, nil) } ?? .nan
        }
    }

    /// The float that a whole text such as `5E-1` stands for, or `nil` when it is no number.
    static func float(_ text: Substring) -> Float? {
        let bytes = Array(text.utf8)
        return bytes.withUnsafeBufferPointer { buffer in
            guard let end = end(of: buffer, from: 0), end == buffer.count else { return nil }
            return float(buffer, from: 0, to: end)
        }
    }
}
