public import PlatformCore

/// Reads the fields of a protocol buffers message, in whatever order they come.
///
/// Bytes come from outside: every length is checked, nothing recurses.
public struct ProtobufReader {
    /// What a field holds on the wire.
    public enum Value {
        case varint(UInt64)
        case fixed64(UInt64)
        case fixed32(UInt32)
        case bytes(ArraySlice<UInt8>)
    }

    private let bytes: ArraySlice<UInt8>
    private var at: Int

    /// Reads a message from its first byte to its last.
    public init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        at = bytes.startIndex
    }

    static func fault(_ text: String) -> PlatformError { PlatformError(.invalidInput, "", text) }

    /// Whether nothing is left.
    public var isAtEnd: Bool { at == bytes.endIndex }

    /// The next field; `nil` at the end.
    public mutating func next() throws(PlatformError) -> (number: Int, value: Value)? {
        guard !isAtEnd else { return nil }
        let tag = try varint()
        let number = Int(truncatingIfNeeded: tag >> 3)
        guard 1...0x1FFF_FFFF ~= number else { throw Self.fault("a protobuf field has no number") }
        switch tag & 7 {
        case 0: return (number, .varint(try varint()))
        case 1: return (number, .fixed64(try fixed(UInt64.self)))
        case 2:
            let count = try varint()
            guard count <= UInt64(bytes.endIndex - at) else {
                throw Self.fault("protobuf field \(number) is longer than its message")
            }
            defer { at += Int(count) }
            return (number, .bytes(bytes[at..<(at + Int(count))]))
        case 5: return (number, .fixed32(try fixed(UInt32.self)))
        default: throw Self.fault("protobuf field \(number) has a type that is not used")
        }
    }

    /// A number of seven bits in each byte, the lowest first.
    public mutating func varint() throws(PlatformError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while shift < 64 {
            guard at < bytes.endIndex else { throw Self.fault("a protobuf number is cut") }
            let byte = bytes[at]
            at += 1
            guard shift < 63 || byte <= 1 else { break }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        throw Self.fault("a protobuf number has more than 64 bits")
    }

    /// A number of all its bytes, the lowest first.
    public mutating func fixed<Number: FixedWidthInteger>(_: Number.Type) throws(PlatformError) -> Number {
        let width = MemoryLayout<Number>.size
        guard bytes.endIndex - at >= width else { throw Self.fault("a protobuf number is cut") }
        var value: Number = 0
        for place in 0..<width { value |= Number(truncatingIfNeeded: bytes[at + place]) << Number(8 * place) }
        at += width
        return value
    }
}

extension ProtobufReader.Value {
    /// As text.
    public func text() throws(PlatformError) -> String {
        guard case .bytes(let bytes) = self, let text = String(validating: bytes, as: UTF8.self) else {
            throw PlatformError(.invalidInput, "", "a text of the message is no UTF-8")
        }
        return text
    }

    /// As the bytes of a message or a field of bytes.
    public func content() throws(PlatformError) -> ArraySlice<UInt8> {
        guard case .bytes(let bytes) = self else { throw ProtobufReader.fault("a protobuf field holds no bytes") }
        return bytes
    }

    /// As a whole number.
    public func number() throws(PlatformError) -> UInt64 {
        guard case .varint(let number) = self else { throw ProtobufReader.fault("a protobuf field holds no number") }
        return number
    }

    /// Appends the numbers of a repeated field, packed or not.
    public func numbers(_ append: (UInt64) throws(PlatformError) -> Void) throws(PlatformError) {
        switch self {
        case .varint(let number): try append(number)
        case .bytes(let bytes):
            var reader = ProtobufReader(bytes)
            while !reader.isAtEnd { try append(try reader.varint()) }
        case .fixed32, .fixed64: throw ProtobufReader.fault("a protobuf field holds no list of numbers")
        }
    }
}

/// Writes the fields of a protocol buffers message; fields with their default are left out, as the format has it.
public struct ProtobufWriter {
    /// What was written.
    public private(set) var bytes: [UInt8] = []

    /// Makes one without fields.
    public init() {}

    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    /// A whole number.
    public mutating func write(_ number: Int, _ value: UInt64) {
        guard value != 0 else { return }
        varint(UInt64(number) << 3)
        varint(value)
    }

    /// A flag.
    public mutating func write(_ number: Int, _ value: Bool) { write(number, value ? UInt64(1) : 0) }

    /// A text.
    public mutating func write(_ number: Int, _ text: String) {
        guard !text.isEmpty else { return }
        write(number, bytes: Array(text.utf8))
    }

    /// Bytes, also where there are none: an element of a repeated field.
    public mutating func write(_ number: Int, bytes content: [UInt8]) {
        varint(UInt64(number) << 3 | 2)
        varint(UInt64(content.count))
        bytes.append(contentsOf: content)
    }

    /// A message, also an empty one.
    public mutating func write(_ number: Int, message: (inout ProtobufWriter) -> Void) {
        var inner = ProtobufWriter()
        message(&inner)
        write(number, bytes: inner.bytes)
    }

    /// A packed list.
    public mutating func write(_ number: Int, packed values: some Sequence<UInt64>) {
        var inner = ProtobufWriter()
        for value in values { inner.varint(value) }
        guard !inner.bytes.isEmpty else { return }
        write(number, bytes: inner.bytes)
    }
}
