import Foundation

/// A JSON document as a value.
///
/// One parser for every byte of JSON that comes from outside: bounded in size and depth, positions in its errors,
/// duplicate keys refused. Integers that fit keep all 64 bits.
public enum JSONValue: Hashable, Sendable {
    /// The JSON `null`.
    case null
    /// `true` or `false`
    case bool(Bool)
    /// A number written without fraction or exponent that fits in 64 bits.
    case integer(Int64)
    /// Any other number; always finite when it was parsed.
    case number(Double)
    /// Text.
    case string(String)
    /// `[…]`
    case array([JSONValue])
    /// `{…}`, in no particular order.
    case object([String: JSONValue])

    /// The member `key` of an object; `nil` if this is no object or has no such member.
    public subscript(key: String) -> JSONValue? {
        if case .object(let members) = self { members[key] } else { nil }
    }
    /// The text, if this is one.
    public var stringValue: String? { if case .string(let text) = self { text } else { nil } }
    /// The truth value, if this is one.
    public var boolValue: Bool? { if case .bool(let flag) = self { flag } else { nil } }
    /// The number as a double, if this is one.
    public var doubleValue: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }
    /// The number as an integer, if it is a whole one that fits.
    public var integerValue: Int64? {
        switch self {
        case .integer(let value): value
        case .number(let value): Int64(exactly: value)
        default: nil
        }
    }
    /// The elements, if this is an array.
    public var arrayValue: [JSONValue]? { if case .array(let elements) = self { elements } else { nil } }
    /// The members, if this is an object.
    public var objectValue: [String: JSONValue]? { if case .object(let members) = self { members } else { nil } }
    /// Whether this is `null`.
    public var isNull: Bool { self == .null }
    /// The value, or `nil` for `null`: `members["time"]?.unlessNull` takes a member that is null as one that is missing.
    ///
    /// Written with a type, because in `isNull ? nil : self` the `nil` would be the value `null`.
    public var unlessNull: JSONValue? { isNull ? Optional<JSONValue>.none : .some(self) }
    /// What kind of value this is, for error messages: `text`, `a number`, ….
    public var kindName: String {
        switch self {
        case .null: "null"
        case .bool: "true or false"
        case .integer, .number: "a number"
        case .string: "text"
        case .array: "a list"
        case .object: "an object"
        }
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
    /// Member names.
    public typealias Key = String
    /// Member values.
    public typealias Value = JSONValue
    /// Text.
    public init(stringLiteral value: String) { self = .string(value) }
    /// An integer.
    public init(integerLiteral value: Int64) { self = .integer(value) }
    /// A number.
    public init(floatLiteral value: Double) { self = .number(value) }
    /// A truth value.
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    /// A list.
    public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    /// An object; a later value of the same key wins.
    public init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(Dictionary(elements, uniquingKeysWith: { $1 }))
    }
    /// The JSON `null`.
    public init(nilLiteral: ()) { self = .null }
}

// MARK: - Parsing

/// Limits for a JSON text from outside.
public struct JSONLimits: Sendable {
    /// Longest accepted text in bytes.
    public var byteCountMax: Int
    /// Deepest accepted nesting.
    public var depthMax: Int
    /// Whether `NaN`, `Infinity` and `-Infinity`, which are no JSON but which Python writes, are read as `null`.
    public var hasPythonNumbers: Bool
    /// Makes limits.
    public init(byteCountMax: Int = 16 << 20, depthMax: Int = 64, hasPythonNumbers: Bool = false) {
        self.byteCountMax = byteCountMax
        self.depthMax = depthMax
        self.hasPythonNumbers = hasPythonNumbers
    }
}

extension JSONValue {
    /// Reads one JSON text (RFC 8259) that fills `bytes`.
    /// - Throws: `DecodingFailure` with line and column.
    public static func parse(_ bytes: [UInt8], limits: JSONLimits = JSONLimits()) throws(DecodingFailure) -> JSONValue {
        try parse(bytes[...], limits: limits)
    }

    /// Reads one JSON text that fills the slice.
    public static func parse(_ bytes: ArraySlice<UInt8>, limits: JSONLimits = JSONLimits()) throws(DecodingFailure)
        -> JSONValue
    {
        guard bytes.count <= limits.byteCountMax else {
            throw DecodingFailure("the JSON is \(bytes.count) bytes long, \(limits.byteCountMax) are accepted")
        }
        return try bytes.withUnsafeBufferPointer { (buffer) throws(DecodingFailure) -> JSONValue in
            var parser = JSONParser(bytes: buffer, limits: limits)
            return try parser.document()
        }
    }

    /// Reads one JSON text.
    public static func parse(_ text: String, limits: JSONLimits = JSONLimits()) throws(DecodingFailure) -> JSONValue {
        try parse(Array(text.utf8), limits: limits)
    }
}

private struct JSONParser {
    let bytes: UnsafeBufferPointer<UInt8>
    let depthMax: Int
    let hasPythonNumbers: Bool
    var at = 0

    init(bytes: UnsafeBufferPointer<UInt8>, limits: JSONLimits) {
        self.bytes = bytes
        depthMax = limits.depthMax
        hasPythonNumbers = limits.hasPythonNumbers
    }

    func failure(_ what: String, at position: Int? = nil) -> DecodingFailure {
        var line = 1
        var column = 1
        for byte in bytes.prefix(position ?? at) {
            column += 1
            if byte == 10 {
                line += 1
                column = 1
            }
        }
        return DecodingFailure("line \(line), column \(column): \(what)")
    }

    mutating func skipBlanks() {
        while at < bytes.count, bytes[at] == 32 || bytes[at] == 10 || bytes[at] == 13 || bytes[at] == 9 { at += 1 }
    }

    mutating func document() throws(DecodingFailure) -> JSONValue {
        skipBlanks()
        if at == bytes.count { throw DecodingFailure("the JSON text is empty") }
        let value = try value(depth: 0)
        skipBlanks()
        if at < bytes.count { throw failure("more text follows the JSON value") }
        return value
    }

    mutating func value(depth: Int) throws(DecodingFailure) -> JSONValue {
        guard at < bytes.count else { throw failure("the JSON text ends where a value is expected") }
        switch bytes[at] {
        case 0x7B:  // {
            guard depth < depthMax else { throw failure("the JSON is nested deeper than \(depthMax) levels") }
            at += 1
            var members: [String: JSONValue] = [:]
            skipBlanks()
            if at < bytes.count, bytes[at] == 0x7D {
                at += 1
                return .object(members)
            }
            while true {
                skipBlanks()
                guard at < bytes.count, bytes[at] == 0x22 else { throw failure("a member name in quotes is expected") }
                let start = at
                let key = try string()
                skipBlanks()
                guard at < bytes.count, bytes[at] == 0x3A else { throw failure("':' is expected after a member name") }
                at += 1
                skipBlanks()
                let member = try value(depth: depth + 1)
                guard members.updateValue(member, forKey: key) == nil else {
                    throw failure("the member '\(key.prefix(64))' appears twice", at: start)
                }
                skipBlanks()
                guard at < bytes.count else { throw failure("the JSON text ends inside an object") }
                at += 1
                if bytes[at - 1] == 0x7D { return .object(members) }
                guard bytes[at - 1] == 0x2C else { throw failure("',' or '}' is expected", at: at - 1) }
            }
        case 0x5B:  // [
            guard depth < depthMax else { throw failure("the JSON is nested deeper than \(depthMax) levels") }
            at += 1
            var elements: [JSONValue] = []
            skipBlanks()
            if at < bytes.count, bytes[at] == 0x5D {
                at += 1
                return .array(elements)
            }
            while true {
                skipBlanks()
                elements.append(try value(depth: depth + 1))
                skipBlanks()
                guard at < bytes.count else { throw failure("the JSON text ends inside a list") }
                at += 1
                if bytes[at - 1] == 0x5D { return .array(elements) }
                guard bytes[at - 1] == 0x2C else { throw failure("',' or ']' is expected", at: at - 1) }
            }
        case 0x22: return .string(try string())
        case 0x74: return try literal("true", .bool(true))
        case 0x66: return try literal("false", .bool(false))
        case 0x6E: return try literal("null", .null)
        case 0x4E where hasPythonNumbers: return try literal("NaN", .null)
        case 0x49 where hasPythonNumbers: return try literal("Infinity", .null)
        case 0x2D where hasPythonNumbers && at + 1 < bytes.count && bytes[at + 1] == 0x49:
            return try literal("-Infinity", .null)
        case 0x2D, 0x30...0x39: return try number()
        default: throw failure("a JSON value is expected")
        }
    }

    mutating func literal(_ text: StaticString, _ value: JSONValue) throws(DecodingFailure) -> JSONValue {
        let count = text.utf8CodeUnitCount
        guard at + count <= bytes.count, memcmp(bytes.baseAddress.unsafelyUnwrapped + at, text.utf8Start, count) == 0
        else { throw failure("a JSON value is expected") }
        at += count
        return value
    }

    mutating func number() throws(DecodingFailure) -> JSONValue {
        let start = at
        var negative = false
        if bytes[at] == 0x2D {
            negative = true
            at += 1
        }
        func isDigit(_ position: Int) -> Bool {
            position < bytes.count && bytes[position] >= 48 && bytes[position] <= 57
        }
        guard isDigit(at) else { throw failure("a digit is expected after '-'") }
        if bytes[at] == 48, isDigit(at + 1) { throw failure("a number does not begin with 0") }
        var magnitude: UInt64 = 0
        var fits = true
        while isDigit(at) {
            let (product, overflowed) = magnitude.multipliedReportingOverflow(by: 10)
            let (sum, carried) = product.addingReportingOverflow(UInt64(bytes[at] - 48))
            magnitude = sum
            if overflowed || carried { fits = false }
            at += 1
        }
        var whole = true
        if at < bytes.count, bytes[at] == 0x2E {
            whole = false
            at += 1
            guard isDigit(at) else { throw failure("a digit is expected after '.'") }
            while isDigit(at) { at += 1 }
        }
        if at < bytes.count, bytes[at] == 0x65 || bytes[at] == 0x45 {
            whole = false
            at += 1
            if at < bytes.count, bytes[at] == 0x2B || bytes[at] == 0x2D { at += 1 }
            guard isDigit(at) else { throw failure("a digit is expected in the exponent") }
            while isDigit(at) { at += 1 }
        }
        if whole, fits {
            if !negative, magnitude <= UInt64(Int64.max) { return .integer(Int64(magnitude)) }
            if negative, magnitude > 0, magnitude <= Int64.min.magnitude {
                return .integer(Int64(truncatingIfNeeded: 0 &- magnitude))
            }
        }
        guard let number = DecimalText.number(in: UnsafeRawBufferPointer(bytes), at: start), number.end == at,
            number.value.isFinite
        else { throw failure("the number does not fit in 64 bits", at: start) }
        return .number(number.value)
    }

    mutating func string() throws(DecodingFailure) -> String {
        let start = at
        at += 1
        var end = at
        while end < bytes.count, bytes[end] != 0x22, bytes[end] != 0x5C, bytes[end] >= 0x20 { end += 1 }
        if end < bytes.count, bytes[end] == 0x22 {  // the usual case: no escape
            guard let text = String(validating: UnsafeBufferPointer(rebasing: bytes[at..<end]), as: UTF8.self) else {
                throw failure("the text is not UTF-8", at: start)
            }
            at = end + 1
            return text
        }
        var content: [UInt8] = []
        while true {
            guard at < bytes.count else { throw failure("the text has no closing quote", at: start) }
            let byte = bytes[at]
            at += 1
            switch byte {
            case 0x22:
                guard let text = String(validating: content, as: UTF8.self) else {
                    throw failure("the text is not UTF-8", at: start)
                }
                return text
            case 0x5C:
                guard at < bytes.count else { throw failure("the text has no closing quote", at: start) }
                let escape = bytes[at]
                at += 1
                switch escape {
                case 0x22, 0x5C, 0x2F: content.append(escape)
                case 0x62: content.append(8)
                case 0x66: content.append(12)
                case 0x6E: content.append(10)
                case 0x72: content.append(13)
                case 0x74: content.append(9)
                case 0x75: content.append(contentsOf: String(try unicodeEscape()).utf8)
                default: throw failure("'\\' is followed by a character that has no meaning there", at: at - 1)
                }
            case 0..<0x20: throw failure("a control character must be escaped", at: at - 1)
            default: content.append(byte)
            }
        }
    }

    mutating func hexUnit() throws(DecodingFailure) -> UInt32 {
        guard at + 4 <= bytes.count else { throw failure("four hexadecimal digits are expected") }
        var unit: UInt32 = 0
        for _ in 0..<4 {
            let byte = bytes[at]
            switch byte {
            case 48...57: unit = unit << 4 | UInt32(byte - 48)
            case 65...70: unit = unit << 4 | UInt32(byte - 55)
            case 97...102: unit = unit << 4 | UInt32(byte - 87)
            default: throw failure("four hexadecimal digits are expected")
            }
            at += 1
        }
        return unit
    }

    mutating func unicodeEscape() throws(DecodingFailure) -> Character {
        let first = try hexUnit()
        var scalar = first
        if 0xD800..<0xDC00 ~= first {
            guard at + 6 <= bytes.count, bytes[at] == 0x5C, bytes[at + 1] == 0x75 else {
                throw failure("half of a surrogate pair stands alone")
            }
            at += 2
            let second = try hexUnit()
            guard 0xDC00..<0xE000 ~= second else { throw failure("half of a surrogate pair stands alone") }
            scalar = 0x10000 + (first - 0xD800) << 10 + (second - 0xDC00)
        }
        guard let unicode = Unicode.Scalar(scalar) else { throw failure("half of a surrogate pair stands alone") }
        return Character(unicode)
    }
}

// MARK: - Writing

extension JSONValue {
    /// The value as compact JSON with sorted keys: equal values give equal bytes.
    public var canonicalBytes: [UInt8] {
        var out: [UInt8] = []
        write(to: &out, indent: nil)
        return out
    }

    /// The value as compact JSON text with sorted keys.
    public var text: String { String(decoding: canonicalBytes, as: UTF8.self) }

    /// The value as indented JSON text with sorted keys, for people.
    public var prettyText: String {
        var out: [UInt8] = []
        write(to: &out, indent: 0)
        return String(decoding: out, as: UTF8.self)
    }

    /// Appends the value as JSON with sorted keys.
    ///
    /// A number that is not finite is written as `null`.
    public func write(to out: inout [UInt8], indent: Int? = nil) {
        switch self {
        case .null: out.append(contentsOf: "null".utf8)
        case .bool(let flag): out.append(contentsOf: (flag ? "true" : "false").utf8)
        case .integer(let value): Self.write(value, to: &out)
        case .number(let value): Self.write(value, to: &out)
        case .string(let text): Self.write(text, to: &out)
        case .array(let elements):
            out.append(0x5B)
            for (index, element) in elements.enumerated() {
                if index > 0 { out.append(0x2C) }
                Self.newLine(indent.map { $0 + 1 }, to: &out)
                element.write(to: &out, indent: indent.map { $0 + 1 })
            }
            if !elements.isEmpty { Self.newLine(indent, to: &out) }
            out.append(0x5D)
        case .object(let members):
            out.append(0x7B)
            for (index, key) in members.keys.sorted().enumerated() {
                if index > 0 { out.append(0x2C) }
                Self.newLine(indent.map { $0 + 1 }, to: &out)
                Self.write(key, to: &out)
                out.append(0x3A)
                if indent != nil { out.append(0x20) }
                members[key]?.write(to: &out, indent: indent.map { $0 + 1 })
            }
            if !members.isEmpty { Self.newLine(indent, to: &out) }
            out.append(0x7D)
        }
    }

    private static func newLine(_ indent: Int?, to out: inout [UInt8]) {
        guard let indent else { return }
        out.append(10)
        for _ in 0..<(indent * 2) { out.append(32) }
    }

    /// Appends a number in the shortest text that reads back as the same bits; `null` if it is not finite.
    public static func write(_ value: Double, to out: inout [UInt8]) {
        guard value.isFinite else {
            out.append(contentsOf: "null".utf8)
            return
        }
        if let whole = Int64(exactly: value), whole.magnitude < 1 << 53, value.sign == .plus || whole != 0 {
            write(whole, to: &out)
            out.append(0x2E)
            out.append(0x30)
        } else if let (digits, places) = shortDecimal(value) {
            write(digits, places: places, isNegative: value < 0, to: &out)
        } else {
            out.append(contentsOf: value.description.utf8)
        }
    }

    /// A number of at most 15 digits, up to 6 of them behind the point, taken apart; `nil` for any other.
    ///
    /// `digits / 10^places` is the number itself: up to 15 digits both are exact and the division rounds once, as reading
    /// does. Two decimals of at most 15 digits are two doubles, so this one, without zeros at its end, is the shortest.
    private static func shortDecimal(_ value: Double) -> (digits: UInt64, places: Int)? {
        let magnitude = value.magnitude
        guard magnitude >= 1e-3, magnitude < 1e9 else { return nil }
        var power = 1.0
        for places in 1...6 {
            power *= 10
            // Below 2^50, so the half that rounds it is added exactly enough; `rounded` would be a call.
            let digits = UInt64(magnitude * power + 0.5)
            if Double(digits) / power == magnitude { return (digits, places) }
        }
        return nil
    }

    private static func write(_ digits: UInt64, places: Int, isNegative: Bool, to out: inout [UInt8]) {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 32) { buffer in
            var (at, rest) = (32, digits)
            var place = 0
            repeat {
                if place == places {
                    at -= 1
                    buffer[at] = 0x2E
                }
                at -= 1
                buffer[at] = 48 + UInt8(truncatingIfNeeded: rest % 10)
                rest /= 10
                place += 1
            } while rest > 0 || place <= places
            if isNegative {
                at -= 1
                buffer[at] = 0x2D
            }
            out.append(contentsOf: UnsafeBufferPointer(rebasing: buffer[at...]))
        }
    }

    /// Appends an integer.
    public static func write(_ value: Int64, to out: inout [UInt8]) {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 20) { buffer in
            var (at, rest) = (20, value.magnitude)
            repeat {
                at -= 1
                buffer[at] = 48 + UInt8(truncatingIfNeeded: rest % 10)
                rest /= 10
            } while rest > 0
            if value < 0 {
                at -= 1
                buffer[at] = 0x2D
            }
            out.append(contentsOf: UnsafeBufferPointer(rebasing: buffer[at...]))
        }
    }

    /// Appends text in quotes, escaped.
    public static func write(_ text: String, to out: inout [UInt8]) {
        var text = text
        let isPlain = text.withUTF8 { bytes in
            for byte in bytes where byte < 0x20 || byte == 0x22 || byte == 0x5C { return false }
            out.append(0x22)
            out.append(contentsOf: bytes)
            out.append(0x22)
            return true
        }
        if !isPlain { writeEscaped(text, to: &out) }
    }

    private static func writeEscaped(_ text: String, to out: inout [UInt8]) {
        let digits = Array("0123456789abcdef".utf8)
        out.append(0x22)
        for byte in text.utf8 {
            switch byte {
            case 0x22, 0x5C:
                out.append(0x5C)
                out.append(byte)
            case 10: out.append(contentsOf: "\\n".utf8)
            case 13: out.append(contentsOf: "\\r".utf8)
            case 9: out.append(contentsOf: "\\t".utf8)
            case 0..<0x20:
                out.append(contentsOf: "\\u00".utf8)
                out.append(digits[Int(byte >> 4)])
                out.append(digits[Int(byte & 15)])
            default: out.append(byte)
            }
        }
        out.append(0x22)
    }
}

// MARK: - Bridging to Codable

extension JSONValue: Codable {
    private struct MemberKey: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    /// Reads any value.
    public init(from decoder: any Decoder) throws {
        if let container = try? decoder.container(keyedBy: MemberKey.self) {
            var members: [String: JSONValue] = [:]
            for key in container.allKeys {
                members[key.stringValue] = try container.decode(JSONValue.self, forKey: key)
            }
            self = .object(members)
        } else if var container = try? decoder.unkeyedContainer() {
            var elements: [JSONValue] = []
            while !container.isAtEnd { elements.append(try container.decode(JSONValue.self)) }
            self = .array(elements)
        } else {
            let container = try decoder.singleValueContainer()
            if container.decodeNil() {
                self = .null
            } else if let flag = try? container.decode(Bool.self) {
                self = .bool(flag)
            } else if let whole = try? container.decode(Int64.self) {
                self = .integer(whole)
            } else if let number = try? container.decode(Double.self) {
                self = .number(number)
            } else {
                self = .string(try container.decode(String.self))
            }
        }
    }

    /// Writes the value.
    public func encode(to encoder: any Encoder) throws {
        switch self {
        case .object(let members):
            var container = encoder.container(keyedBy: MemberKey.self)
            for (key, member) in members { try container.encode(member, forKey: MemberKey(stringValue: key)) }
        case .array(let elements):
            var container = encoder.unkeyedContainer()
            for element in elements { try container.encode(element) }
        case .null:
            var container = encoder.singleValueContainer()
            try container.encodeNil()
        case .bool(let flag):
            var container = encoder.singleValueContainer()
            try container.encode(flag)
        case .integer(let whole):
            var container = encoder.singleValueContainer()
            try container.encode(whole)
        case .number(let number):
            var container = encoder.singleValueContainer()
            try container.encode(number)
        case .string(let text):
            var container = encoder.singleValueContainer()
            try container.encode(text)
        }
    }

    /// Any encodable value as JSON.
    public static func of(_ value: some Encodable) throws -> JSONValue {
        let encoder = JSONEncoder()
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
        return try parse(Array(encoder.encode(value)), limits: JSONLimits(byteCountMax: 1 << 30, depthMax: 128))
    }

    /// This value as a `Decodable` type.
    public func decoded<Value: Decodable>(as type: Value.Type = Value.self) throws -> Value {
        try JSONDecoder().decode(Value.self, from: Data(canonicalBytes))
    }
}
