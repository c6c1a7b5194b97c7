import Crypto
import PlatformCore

/// Operations on UTF-8 text, byte by byte or code point by code point; none knows a language or locale.
enum TextOperations {
    @inline(__always)
    static func precedes(_ left: String, _ right: String) -> Bool { left.utf8.lexicographicallyPrecedes(right.utf8) }
    @inline(__always)
    static func equal(_ left: String, _ right: String) -> Bool { left.utf8.elementsEqual(right.utf8) }

    /// The letters A to Z in lower case.
    static func lower(_ text: String) -> String { mapped(text) { 65...90 ~= $0 ? $0 + 32 : $0 } }
    /// The letters a to z in upper case.
    static func upper(_ text: String) -> String { mapped(text) { 97...122 ~= $0 ? $0 - 32 : $0 } }

    private static func mapped(_ text: String, _ map: (UInt8) -> UInt8) -> String {
        String(decoding: text.utf8.map(map), as: UTF8.self)
    }

    /// Without blanks (U+0020) at both ends.
    static func trim(_ text: String) -> String {
        let bytes = Array(text.utf8)
        guard let first = bytes.firstIndex(where: { $0 != 32 }), let last = bytes.lastIndex(where: { $0 != 32 }) else {
            return ""
        }
        return String(decoding: bytes[first...last], as: UTF8.self)
    }

    /// Code points.
    static func length(_ text: String) -> Int64 {
        var count: Int64 = 0
        for byte in text.utf8 where byte & 0xC0 != 0x80 { count += 1 }
        return count
    }

    /// Code points from `start`, counted from 1.
    static func substring(_ text: String, from start: Int64, count: Int64?) -> String {
        var scalars = text.unicodeScalars[...]
        scalars = scalars.dropFirst(Int(clamping: start - 1))
        if let count { scalars = scalars.prefix(Int(clamping: count)) }
        return String(scalars)
    }

    static func starts(_ text: String, with prefix: String) -> Bool { text.utf8.starts(with: prefix.utf8) }
    static func ends(_ text: String, with suffix: String) -> Bool {
        text.utf8.count >= suffix.utf8.count && text.utf8.suffix(suffix.utf8.count).elementsEqual(suffix.utf8)
    }

    /// Places where `part`, which is not empty, begins; from left to right, without overlap.
    private static func places(of part: [UInt8], in bytes: [UInt8], limit: Int = .max) -> [Int] {
        var found: [Int] = []
        var at = 0
        while at + part.count <= bytes.count, found.count < limit {
            if bytes[at] == part[0], bytes[at..<(at + part.count)].elementsEqual(part) {
                found.append(at)
                at += part.count
            } else {
                at += 1
            }
        }
        return found
    }

    static func contains(_ text: String, _ part: String) -> Bool {
        !places(of: Array(part.utf8), in: Array(text.utf8), limit: 1).isEmpty
    }

    static func replace(_ text: String, _ part: String, with other: String) -> String {
        let bytes = Array(text.utf8)
        var out: [UInt8] = []
        var at = 0
        for place in places(of: Array(part.utf8), in: bytes) {
            out += bytes[at..<place]
            out += other.utf8
            at = place + part.utf8.count
        }
        return String(decoding: out + bytes[at...], as: UTF8.self)
    }

    /// The `number`th piece, from 1, between separators; empty where there is none.
    static func part(_ text: String, _ separator: String, _ number: Int64) -> String {
        let bytes = Array(text.utf8)
        let number = Int(clamping: number)
        let cuts = places(of: Array(separator.utf8), in: bytes, limit: number)
        guard number - 1 <= cuts.count else { return "" }
        let start = number == 1 ? 0 : cuts[number - 2] + separator.utf8.count
        let end = number - 1 < cuts.count ? cuts[number - 1] : bytes.count
        return String(decoding: bytes[start..<end], as: UTF8.self)
    }

    // MARK: Numbers in text

    /// `[+-]?[0-9]{1,19}`, within 64 bits.
    static func integer(_ text: String) -> Int64? {
        let digits = text.utf8.first == 43 || text.utf8.first == 45 ? text.utf8.dropFirst() : text.utf8[...]
        guard 1...19 ~= digits.count, digits.allSatisfy({ 48...57 ~= $0 }) else { return nil }
        return Int64(text)
    }

    /// `[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?`, finite.
    static func real(_ text: String) -> Double {
        var rest = text.utf8[...]
        func digits() -> Int {
            let count = rest.prefix { 48...57 ~= $0 }.count
            rest = rest.dropFirst(count)
            return count
        }
        if rest.first == 43 || rest.first == 45 { rest = rest.dropFirst() }
        var count = digits()
        if rest.first == 46 {
            rest = rest.dropFirst()
            count += digits()
        }
        guard count > 0 else { return .nan }
        if rest.first == 101 || rest.first == 69 {
            rest = rest.dropFirst()
            if rest.first == 43 || rest.first == 45 { rest = rest.dropFirst() }
            guard 1...3 ~= digits() else { return .nan }
        }
        guard rest.isEmpty, let value = Double(text), value.isFinite else { return .nan }
        return value
    }

    // MARK: Hash

    /// The first four bytes of the text's MD5, most significant first.
    static func hash(_ text: String) -> UInt32 {
        var text = text
        let digest = text.withUTF8 { Insecure.MD5.hash(data: UnsafeRawBufferPointer($0)) }
        return digest.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }
}
