import PlatformCore

/// Walks the fields of a protobuf message.
///
/// Bytes come from outside: every length is checked against its message before it is believed.
struct ProtobufReader {
    /// What a field holds.
    enum Value {
        /// Wire type 0: an integer, a truth value or an enumeration.
        case number(UInt64)
        /// Wire type 1: a double or a fixed integer of 64 bits.
        case fixed64(UInt64)
        /// Wire type 5: a float or a fixed integer of 32 bits.
        case fixed32(UInt32)
        /// Wire type 2: text, bytes or a message.
        case bytes(ArraySlice<UInt8>)
    }

    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

    /// The next field; `nil` at the end.
    mutating func next() throws(DecodingFailure) -> (number: Int, value: Value)? {
        if rest.isEmpty { return nil }
        let tag = try variable()
        let number = tag >> 3
        guard number > 0, number < 1 << 29 else { throw DecodingFailure("a protobuf field has no number") }
        switch tag & 7 {
        case 0: return (Int(number), .number(try variable()))
        case 1: return (Int(number), .fixed64(try fixed(UInt64.self)))
        case 2:
            let count = try variable()
            guard count <= UInt64(rest.count) else {
                throw DecodingFailure("protobuf field \(number) is longer than its message")
            }
            let content = rest.prefix(Int(count))
            rest = rest.dropFirst(Int(count))
            return (Int(number), .bytes(content))
        case 5: return (Int(number), .fixed32(try fixed(UInt32.self)))
        default: throw DecodingFailure("protobuf field \(number) has a type that is not used")
        }
    }

    private mutating func fixed<Integer: FixedWidthInteger>(_: Integer.Type) throws(DecodingFailure) -> Integer {
        guard rest.count >= Integer.bitWidth / 8 else { throw DecodingFailure("a protobuf number is cut") }
        var value: Integer = 0
        for (shift, byte) in rest.prefix(Integer.bitWidth / 8).enumerated() {
            value |= Integer(truncatingIfNeeded: byte) << (8 * shift)
        }
        rest = rest.dropFirst(Integer.bitWidth / 8)
        return value
    }

    private mutating func variable() throws(DecodingFailure) -> UInt64 {
        var result: UInt64 = 0
        for shift in stride(from: UInt64(0), through: 63, by: 7) {
            guard let byte = rest.popFirst() else { throw DecodingFailure("a protobuf number is cut") }
            guard shift < 63 || byte <= 1 else { break }
            result |= UInt64(byte & 0x7F) << shift
            if byte & 0x80 == 0 { return result }
        }
        throw DecodingFailure("a protobuf number has more than 64 bits")
    }
}

extension ProtobufReader.Value {
    func message() throws(DecodingFailure) -> ProtobufReader { ProtobufReader(try content()) }

    func content() throws(DecodingFailure) -> ArraySlice<UInt8> {
        guard case .bytes(let bytes) = self else { throw DecodingFailure("a protobuf field holds no bytes") }
        return bytes
    }

    /// Text; what is no UTF-8 is replaced.
    func text() throws(DecodingFailure) -> String { String(decoding: try content(), as: UTF8.self) }

    func unsigned() throws(DecodingFailure) -> UInt64 {
        switch self {
        case .number(let value), .fixed64(let value): return value
        case .fixed32(let value): return UInt64(value)
        case .bytes: throw DecodingFailure("a protobuf field holds no number")
        }
    }

    /// A number that JSON's readers take for an integer.
    func integer() throws(DecodingFailure) -> Int64 {
        guard let value = Int64(exactly: try unsigned()) else {
            throw DecodingFailure("a protobuf number is greater than \(Int64.max)")
        }
        return value
    }
}
