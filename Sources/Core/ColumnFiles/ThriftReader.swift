/// Thrift's compact protocol, as Parquet's metadata is written; skips what it does not know.
struct ThriftReader {
    /// Deepest nesting that is followed.
    static let depthMax = 24

    private let bytes: [UInt8]
    private(set) var position: Int
    private let end: Int

    init(_ bytes: [UInt8], from start: Int = 0, to end: Int? = nil) {
        self.bytes = bytes
        position = start
        self.end = end ?? bytes.count
    }

    mutating func byte() throws(ColumnFileError) -> UInt8 {
        guard position < end else { throw .corrupted("the metadata end too early") }
        defer { position += 1 }
        return bytes[position]
    }

    mutating func varint() throws(ColumnFileError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let next = try byte()
            value |= UInt64(next & 0x7F) << shift
            if next & 0x80 == 0 { return value }
            shift += 7
            guard shift < 70 else { throw .corrupted("an integer in the metadata is too long") }
        }
    }

    mutating func integer() throws(ColumnFileError) -> Int64 {
        let raw = try varint()
        return Int64(bitPattern: (raw >> 1) ^ (0 &- (raw & 1)))
    }

    mutating func text() throws(ColumnFileError) -> String {
        let count = try varint()
        guard count <= UInt64(end - position) else { throw .corrupted("a text in the metadata is too long") }
        defer { position += Int(count) }
        return String(decoding: bytes[position..<(position + Int(count))], as: UTF8.self)
    }

    /// Calls `body` for each field of a struct; it returns whether it read the field, else the field is skipped.
    ///
    /// Truth values have their value in the type: 1 is true, 2 is false.
    mutating func structure(
        depth: Int, _ body: (inout ThriftReader, _ field: Int, _ type: UInt8) throws(ColumnFileError) -> Bool
    ) throws(ColumnFileError) {
        guard depth < Self.depthMax else { throw .corrupted("the metadata are nested too deep") }
        var field = 0
        while true {
            let head = try byte()
            if head == 0 { return }
            let delta = Int(head >> 4)
            if delta == 0 { field = Int(truncatingIfNeeded: try integer()) } else { field &+= delta }
            let type = head & 15
            if try !body(&self, field, type) { try skip(type, depth: depth + 1) }
        }
    }

    /// Calls `body` for each element of a list.
    mutating func list(_ body: (inout ThriftReader, UInt8) throws(ColumnFileError) -> Void) throws(ColumnFileError) {
        let (count, type) = try listHead()
        for _ in 0..<count { try body(&self, type) }
    }

    private mutating func listHead() throws(ColumnFileError) -> (Int, UInt8) {
        let head = try byte()
        var count = UInt64(head >> 4)
        if count == 15 { count = try varint() }
        // An element has at least one byte, so a list is never longer than what is left.
        guard count <= UInt64(end - position) else { throw .corrupted("a list in the metadata is too long") }
        return (Int(count), head & 15)
    }

    mutating func skip(_ type: UInt8, depth: Int) throws(ColumnFileError) {
        guard depth < Self.depthMax else { throw .corrupted("the metadata are nested too deep") }
        switch type {
        case 1, 2: return
        case 3: _ = try byte()
        case 4, 5, 6: _ = try varint()
        case 7: for _ in 0..<8 { _ = try byte() }
        case 8:
            let count = try varint()
            guard count <= UInt64(end - position) else { throw .corrupted("a text in the metadata is too long") }
            position += Int(count)
        case 9, 10:
            let (count, element) = try listHead()
            for _ in 0..<count {
                if element == 1 || element == 2 { _ = try byte() } else { try skip(element, depth: depth + 1) }
            }
        case 11:
            let count = try varint()
            guard count <= UInt64(end - position) else { throw .corrupted("a map in the metadata is too long") }
            if count > 0 {
                let types = try byte()
                for _ in 0..<count {
                    try skip(types >> 4, depth: depth + 1)
                    try skip(types & 15, depth: depth + 1)
                }
            }
        case 12: try structure(depth: depth + 1) { _, _, _ in false }
        default: throw .corrupted("the metadata have the unknown type \(type)")
        }
    }
}

/// Writes Thrift's compact protocol.
struct ThriftWriter {
    private(set) var bytes: [UInt8] = []
    private var fields: [Int] = [0]

    private mutating func head(_ field: Int, _ type: UInt8) {
        let last = fields[fields.count - 1]
        if 1...15 ~= field - last {
            bytes.append(UInt8(field - last) << 4 | type)
        } else {
            bytes.append(type)
            zigzag(Int64(field))
        }
        fields[fields.count - 1] = field
    }
    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }
    private mutating func zigzag(_ value: Int64) { varint(UInt64(bitPattern: (value << 1) ^ (value >> 63))) }

    mutating func int32(_ field: Int, _ value: Int) {
        head(field, 5)
        zigzag(Int64(value))
    }
    mutating func int64(_ field: Int, _ value: Int) {
        head(field, 6)
        zigzag(Int64(value))
    }
    mutating func bool(_ field: Int, _ value: Bool) { head(field, value ? 1 : 2) }
    mutating func binary(_ field: Int, _ value: some Collection<UInt8>) {
        head(field, 8)
        varint(UInt64(value.count))
        bytes.append(contentsOf: value)
    }
    mutating func element(_ value: some Collection<UInt8>) {
        varint(UInt64(value.count))
        bytes.append(contentsOf: value)
    }
    mutating func element(_ value: Int) { zigzag(Int64(value)) }
    mutating func structure(_ field: Int, _ body: (inout ThriftWriter) -> Void) {
        head(field, 12)
        element(body)
    }
    /// A struct as an element of a list, or as the whole.
    mutating func element(_ body: (inout ThriftWriter) -> Void) {
        fields.append(0)
        body(&self)
        fields.removeLast()
        bytes.append(0)
    }
    mutating func list(_ field: Int, count: Int, type: UInt8) {
        head(field, 9)
        if count < 15 {
            bytes.append(UInt8(count) << 4 | type)
        } else {
            bytes.append(0xF0 | type)
            varint(UInt64(count))
        }
    }
}
