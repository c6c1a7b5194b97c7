/// Why bytes could not be decoded.
public struct DecodingFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// What was expected and what was found, with the byte position.
    public let description: String
    /// Whether the content is longer than was allowed.
    public let isTooLong: Bool
    /// Makes a failure.
    public init(_ description: String, isTooLong: Bool = false) {
        self.description = description
        self.isTooLong = isTooLong
    }
}

/// Builds a compact binary record: little-endian fixed integers, variable-length integers, length-prefixed text.
public struct ByteWriter: Sendable {
    /// The bytes so far.
    public private(set) var bytes: [UInt8] = []

    /// Starts empty, with room for `capacity` bytes.
    public init(capacity: Int = 0) { bytes.reserveCapacity(capacity) }

    /// Adds one byte.
    public mutating func write(_ byte: UInt8) { bytes.append(byte) }
    /// Adds raw bytes.
    public mutating func write(bytes more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }
    /// Adds a fixed-width integer, little end first.
    public mutating func write<Integer: FixedWidthInteger>(fixed value: Integer) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
    /// Adds the bit pattern of a double, every NaN included.
    public mutating func write(_ value: Double) { write(fixed: value.bitPattern) }
    /// Adds the bit patterns of doubles one after the other.
    public mutating func write(_ values: [Double]) {
        #if _endian(little)
        values.withUnsafeBytes { bytes.append(contentsOf: $0) }
        #else
        for value in values { write(value) }
        #endif
    }
    /// Adds an unsigned integer in 1 to 10 bytes (LEB128).
    public mutating func write(varint value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }
    /// Adds a signed integer, small magnitudes in few bytes (zigzag).
    public mutating func write(signed value: Int64) { write(varint: UInt64(bitPattern: (value << 1) ^ (value >> 63))) }
    /// Adds UTF-8 text after its length.
    public mutating func write(_ text: String) {
        var text = text
        text.withUTF8 {
            write(varint: UInt64($0.count))
            bytes.append(contentsOf: $0)
        }
    }
}

/// Reads what `ByteWriter` wrote.
///
/// Never traps on foreign bytes: each read checks what is left.
public struct ByteReader: Sendable {
    private let bytes: [UInt8]
    /// Position of the next byte.
    public private(set) var position: Int
    private let end: Int

    /// Reads all of `bytes`, from `start`.
    public init(_ bytes: [UInt8], from start: Int = 0) {
        self.bytes = bytes
        position = min(max(0, start), bytes.count)
        end = bytes.count
    }

    /// Bytes not read yet.
    public var remaining: Int { end - position }

    private mutating func take(_ count: Int, for what: StaticString) throws(DecodingFailure) -> Int {
        guard count >= 0, count <= end - position else {
            throw DecodingFailure("\(what) needs \(count) bytes at \(position), \(end - position) are left")
        }
        defer { position += count }
        return position
    }
    /// One byte.
    public mutating func byte() throws(DecodingFailure) -> UInt8 { bytes[try take(1, for: "a byte")] }
    /// A fixed-width integer.
    public mutating func fixed<Integer: FixedWidthInteger & BitwiseCopyable>(_: Integer.Type) throws(DecodingFailure)
        -> Integer
    {
        let start = try take(MemoryLayout<Integer>.size, for: "an integer")
        return Integer(
            littleEndian: bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: start, as: Integer.self) })
    }
    /// A double.
    public mutating func double() throws(DecodingFailure) -> Double { Double(bitPattern: try fixed(UInt64.self)) }
    /// Doubles one after the other.
    public mutating func doubles(_ count: Int) throws(DecodingFailure) -> [Double] {
        guard count <= remaining / 8 else {
            throw DecodingFailure("\(count) doubles at \(position) exceed what is left")
        }
        let start = try take(count * 8, for: "doubles")
        return bytes.withUnsafeBytes { bytes in
            Array(unsafeUninitializedCapacity: count) { target, filled in
                for index in 0..<count {
                    let bits = bytes.loadUnaligned(fromByteOffset: start + index * 8, as: UInt64.self)
                    target.initializeElement(at: index, to: Double(bitPattern: UInt64(littleEndian: bits)))
                }
                filled = count
            }
        }
    }
    /// An unsigned variable-length integer.
    public mutating func varint() throws(DecodingFailure) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while shift <= 63 {
            let next = try byte()
            guard shift < 63 || next < 2 else { break }
            value |= UInt64(next & 0x7F) << shift
            if next < 0x80 { return value }
            shift += 7
        }
        throw DecodingFailure("a variable-length integer before \(position) is longer than 10 bytes")
    }
    /// A count of things that take at least `unitByteCount` bytes each, refused when the bytes cannot hold that many.
    public mutating func count(unitByteCount: Int = 1) throws(DecodingFailure) -> Int {
        let value = try varint()
        guard value <= UInt64(remaining / max(1, unitByteCount)) else {
            throw DecodingFailure("a count of \(value) before \(position) exceeds the \(remaining) bytes left")
        }
        return Int(value)
    }
    /// A signed variable-length integer.
    public mutating func signed() throws(DecodingFailure) -> Int64 {
        let value = try varint()
        return Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
    }
    /// Passes over `count` bytes.
    public mutating func skip(_ count: Int) throws(DecodingFailure) { _ = try take(count, for: "what is passed over") }
    /// `count` raw bytes.
    public mutating func raw(_ count: Int) throws(DecodingFailure) -> [UInt8] {
        let start = try take(count, for: "raw bytes")
        return Array(bytes[start..<(start + count)])
    }
    /// Length-prefixed UTF-8 text; broken UTF-8 is refused.
    public mutating func text() throws(DecodingFailure) -> String {
        let length = try count()
        let start = try take(length, for: "text")
        let text = bytes.withUnsafeBytes { bytes -> String? in
            // What is broken comes out repaired, and so as other bytes: much quicker than `String(validating:as:)` of a slice.
            let part = UnsafeRawBufferPointer(rebasing: bytes[start..<(start + length)])
            var text = String(decoding: part, as: UTF8.self)
            return text.withUTF8 { $0.elementsEqual(part) } ? text : nil
        }
        guard let text else { throw DecodingFailure("the text at \(start) is not UTF-8") }
        return text
    }
    /// Passes over length-prefixed text.
    public mutating func skipText() throws(DecodingFailure) { try skip(try count()) }
}
