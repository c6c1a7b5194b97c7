import RuntimePorts

/// Walks the fields of a protobuf message.
///
/// Bytes come from outside: every length is checked against its message before it is believed.
struct ProtobufCursor {
    /// What a field holds.
    enum Value {
        /// Wire type 0.
        case number(UInt64)
        /// Wire type 2: text, bytes or a message.
        case bytes(Range<Int>)
        /// Wire types 1 and 5, of no interest here.
        case fixed
    }

    private let base: UnsafeRawBufferPointer
    private var position: Int
    private let end: Int

    /// Walks a part of `base`, which must outlive the cursor.
    init(_ base: UnsafeRawBufferPointer, _ range: Range<Int>) {
        self.base = base
        position = range.lowerBound
        end = range.upperBound
    }

    /// The next field; `nil` at the end.
    mutating func next() throws(ModelError) -> (number: Int, value: Value)? {
        guard position < end else { return nil }
        let start = position
        let tag = try variable()
        let number = tag >> 3
        guard number > 0, number < 1 << 29 else { throw Self.malformed(start, "has no field number") }
        switch tag & 7 {
        case 0: return (Int(number), .number(try variable()))
        case 1: try skip(8)
        case 2:
            let count = try variable()
            guard count <= UInt64(end - position) else { throw Self.malformed(start, "is longer than its message") }
            let range = position..<(position + Int(count))
            position = range.upperBound
            return (Int(number), .bytes(range))
        case 5: try skip(4)
        default: throw Self.malformed(start, "has a type that ONNX does not use")
        }
        return (Int(number), .fixed)
    }

    private mutating func skip(_ count: Int) throws(ModelError) {
        guard count <= end - position else { throw Self.malformed(position, "is cut") }
        position += count
    }

    private mutating func variable() throws(ModelError) -> UInt64 {
        var result: UInt64 = 0
        var shift: UInt64 = 0
        let start = position
        while position < end {
            let byte = base[position]
            position += 1
            if shift == 63, byte > 1 { throw Self.malformed(start, "is a number of more than 64 bits") }
            result |= UInt64(byte & 0x7F) << shift
            if byte & 0x80 == 0 { return result }
            shift += 7
            if shift > 63 { throw Self.malformed(start, "is a number of more than 64 bits") }
        }
        throw Self.malformed(start, "is cut")
    }

    private static func malformed(_ position: Int, _ what: String) -> ModelError {
        ModelError(.malformedModel, "this is no ONNX model: the field at byte \(position) \(what)")
    }
}
