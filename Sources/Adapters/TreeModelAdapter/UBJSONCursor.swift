import RuntimePorts

/// Reads an XGBoost UBJSON model (Universal Binary JSON, draft 12): typed arrays, numbers big end first.
struct UBJSONCursor: ModelCursor {
    private let bytes: UnsafeBufferPointer<UInt8>
    private var at = 0
    private var path = ModelPath()
    /// Type of the next value where its container states it, else 0.
    private var stated: UInt8 = 0

    /// Reads `bytes`, which must outlive the cursor.
    init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    private func failure(_ what: String) -> ModelError {
        ModelError(.malformedModel, "byte \(at) of the UBJSON model, in \(path.text): \(what)")
    }

    /// A type marker for messages.
    private func name(_ marker: UInt8) -> String {
        marker > 32 && marker < 127 ? "'\(Character(Unicode.Scalar(marker)))'" : "byte \(marker)"
    }

    /// The type of the value here, with its marker passed.
    private mutating func marker() throws(ModelError) -> UInt8 {
        if stated != 0 {
            defer { stated = 0 }
            return stated
        }
        while at < bytes.count, bytes[at] == 0x4E { at += 1 }  // N: no operation
        guard at < bytes.count else { throw failure("the file ends where a value is expected") }
        at += 1
        return bytes[at - 1]
    }

    @inline(__always)
    private mutating func fixed<Integer: FixedWidthInteger>(_: Integer.Type) throws(ModelError) -> Integer {
        let size = Integer.bitWidth / 8
        guard bytes.count - at >= size, let base = bytes.baseAddress else {
            throw failure("the file ends inside a number of \(size) bytes")
        }
        defer { at += size }
        return Integer(bigEndian: UnsafeRawPointer(base + at).loadUnaligned(as: Integer.self))
    }

    private mutating func integer(_ marker: UInt8) throws(ModelError) -> Int64 {
        switch marker {
        case 0x69: Int64(try fixed(Int8.self))  // i
        case 0x55: Int64(try fixed(UInt8.self))  // U
        case 0x49: Int64(try fixed(Int16.self))  // I
        case 0x75: Int64(try fixed(UInt16.self))  // u
        case 0x6C: Int64(try fixed(Int32.self))  // l
        case 0x6D: Int64(try fixed(UInt32.self))  // m
        case 0x4C: try fixed(Int64.self)  // L
        case 0x54: 1  // T
        case 0x46: 0  // F
        default: throw failure("an integer is expected, not type \(name(marker))")
        }
    }

    private mutating func float(_ marker: UInt8) throws(ModelError) -> Float {
        switch marker {
        case 0x64: Float(bitPattern: try fixed(UInt32.self))  // d
        case 0x44: Float(Double(bitPattern: try fixed(UInt64.self)))  // D
        default: Float(try integer(marker))
        }
    }

    /// Bytes that a value of this type takes at least.
    private static func byteCountMin(_ marker: UInt8) -> Int {
        switch marker {
        case 0x4C, 0x44: 8
        case 0x6C, 0x6D, 0x64: 4
        case 0x49, 0x75: 2
        case 0x54, 0x46, 0x5A: 0
        default: 1
        }
    }

    /// A count of things of at least `unit` bytes each, refused when the bytes that are left cannot hold them.
    private mutating func count(unit: Int) throws(ModelError) -> Int {
        let value = try integer(try marker())
        guard value >= 0 else { throw failure("the count \(value) is negative") }
        guard value <= Int64((bytes.count - at) / max(1, unit)) else {
            throw failure("the count \(value) needs more than the \(bytes.count - at) bytes that are left")
        }
        return Int(value)
    }

    /// What the head of an array or object states.
    private struct Head {
        var type: UInt8 = 0
        var count: Int?
    }

    private mutating func head() throws(ModelError) -> Head {
        var head = Head()
        if at < bytes.count, bytes[at] == 0x24 {  // $
            guard bytes.count - at >= 3 else { throw failure("the file ends inside the head of a container") }
            head.type = bytes[at + 1]
            at += 2
            guard bytes[at] == 0x23 else { throw failure("a typed container states no count") }
            // Values without bytes would let a file of a few bytes ask for lists of any length.
            guard Self.byteCountMin(head.type) > 0 else {
                throw failure("a container of type \(name(head.type)), whose values have no bytes")
            }
        }
        if at < bytes.count, bytes[at] == 0x23 {  // #
            at += 1
            head.count = try count(unit: head.type == 0 ? 1 : Self.byteCountMin(head.type))
        }
        return head
    }

    private mutating func open(_ bracket: UInt8, _ what: StaticString) throws(ModelError) -> Head {
        if path.depth >= modelDepthMax { throw failure("nested deeper than \(modelDepthMax) levels") }
        let marker = try marker()
        guard marker == bracket else { throw failure("\(what) is expected, not type \(name(marker))") }
        return try head()
    }

    /// Whether the container has another item; passes its closing bracket when it states no count.
    private mutating func hasNext(_ head: Head, index: Int, close: UInt8) throws(ModelError) -> Bool {
        if let count = head.count { return index < count }
        while at < bytes.count, bytes[at] == 0x4E { at += 1 }
        guard at < bytes.count else { throw failure("the file ends inside a container") }
        guard bytes[at] == close else { return true }
        at += 1
        return false
    }

    mutating func eachMember(_ body: (inout Self, String) throws(ModelError) -> Void) throws(ModelError) {
        let head = try open(0x7B, "an object")
        var index = 0
        while try hasNext(head, index: index, close: 0x7D) {
            let name = try string()
            path.enter(member: name)
            stated = head.type
            try body(&self, name)
            path.leave()
            index += 1
        }
    }

    mutating func eachElement(_ body: (inout Self) throws(ModelError) -> Void) throws(ModelError) {
        let head = try open(0x5B, "a list")
        var index = 0
        while try hasNext(head, index: index, close: 0x5D) {
            path.enter(element: index)
            stated = head.type
            try body(&self)
            path.leave()
            index += 1
        }
    }

    mutating func floats() throws(ModelError) -> [Float] {
        let head = try open(0x5B, "a list of numbers")
        var values: [Float] = []
        if let count = head.count { values.reserveCapacity(count) }
        while try hasNext(head, index: values.count, close: 0x5D) {
            values.append(try float(head.type == 0 ? try marker() : head.type))
        }
        return values
    }

    mutating func integers() throws(ModelError) -> [Int32] {
        let head = try open(0x5B, "a list of integers")
        var values: [Int32] = []
        if let count = head.count { values.reserveCapacity(count) }
        while try hasNext(head, index: values.count, close: 0x5D) {
            let value = try integer(head.type == 0 ? try marker() : head.type)
            guard let narrow = Int32(exactly: value) else {
                throw failure("the integer \(value) does not fit in 32 bits")
            }
            values.append(narrow)
        }
        return values
    }

    private mutating func string() throws(ModelError) -> String {
        let length = try count(unit: 1)
        defer { at += length }
        return String(decoding: bytes[at..<(at + length)], as: UTF8.self)
    }

    mutating func text() throws(ModelError) -> String {
        let marker = try marker()
        switch marker {
        case 0x53, 0x48: return try string()  // S, H
        case 0x64, 0x44: return "\(try float(marker))"
        default: return "\(try integer(marker))"
        }
    }

    mutating func skip() throws(ModelError) { try skip(try marker(), depth: path.depth) }

    private mutating func skip(_ marker: UInt8, depth: Int) throws(ModelError) {
        switch marker {
        case 0x5A, 0x54, 0x46: break
        case 0x69, 0x55, 0x43, 0x49, 0x75, 0x6C, 0x6D, 0x64, 0x4C, 0x44:
            let size = Self.byteCountMin(marker)
            guard bytes.count - at >= size else { throw failure("the file ends inside a number of \(size) bytes") }
            at += size
        case 0x53, 0x48:
            let length = try count(unit: 1)
            at += length
        case 0x5B, 0x7B:
            guard depth < modelDepthMax else { throw failure("nested deeper than \(modelDepthMax) levels") }
            let head = try head()
            let isObject = marker == 0x7B
            if !isObject, let count = head.count, head.type != 0, head.type != 0x53, head.type != 0x48,
                head.type != 0x5B, head.type != 0x7B
            {  // values of a fixed size: pass them at once, however many
                guard "ZTFiUCIulmdLD".utf8.contains(head.type) else {
                    throw failure("unknown type \(name(head.type))")
                }
                at += count * Self.byteCountMin(head.type)  // `count` has checked that they are there
                return
            }
            var index = 0
            while try hasNext(head, index: index, close: isObject ? 0x7D : 0x5D) {
                if isObject { try passName() }
                try skip(head.type == 0 ? try self.marker() : head.type, depth: depth + 1)
                index += 1
            }
        default: throw failure("unknown type \(name(marker))")
        }
    }

    private mutating func passName() throws(ModelError) {
        let length = try count(unit: 1)
        at += length
    }

    mutating func finish() throws(ModelError) {
        while at < bytes.count, bytes[at] == 0x4E { at += 1 }
        if at < bytes.count { throw failure("more bytes follow the model") }
    }
}
