import PlatformCore

/// Walks over JSON without making values of it: numbers of large tensors are then read where they stand.
///
/// It finds where values begin and end; what is inside of them is checked by whoever reads them. Never recursive, never
/// past the end.
struct JSONScanner {
    let bytes: UnsafeRawBufferPointer
    var at: Int

    init(_ bytes: UnsafeRawBufferPointer, from start: Int = 0) {
        self.bytes = bytes
        at = start
    }

    /// Deepest nesting of a value that is walked over.
    private static let depthMax = 64

    mutating func skipBlanks() {
        while at < bytes.count, bytes[at] == 0x20 || bytes[at] == 0x0A || bytes[at] == 0x0D || bytes[at] == 0x09 {
            at += 1
        }
    }

    /// The next byte that is no blank; 0 at the end.
    mutating func peek() -> UInt8 {
        skipBlanks()
        return at < bytes.count ? bytes[at] : 0
    }

    mutating func take(_ byte: UInt8) -> Bool {
        guard peek() == byte, at < bytes.count else { return false }
        at += 1
        return true
    }

    func fault(_ message: String) -> PlatformError {
        InferenceFault.invalid("failed to parse the request JSON buffer: \(message) at byte \(at)")
    }

    /// Calls `member` for each member of an object, with the scanner at the beginning of its value; it must walk over that.
    mutating func object(_ member: (inout JSONScanner, String) throws(PlatformError) -> Void) throws(PlatformError) {
        guard take(0x7B) else { throw fault("an object is expected") }
        if take(0x7D) { return }
        var seen: Set<String> = []
        repeat {
            guard peek() == 0x22 else { throw fault("the name of a member is expected") }
            let name = try string()
            guard seen.insert(name).inserted else { throw fault("'\(name.prefix(64))' stands twice") }
            guard seen.count <= 10_000 else { throw fault("an object has too many members") }
            guard take(0x3A) else { throw fault("a colon is expected") }
            try member(&self, name)
        } while take(0x2C)
        guard take(0x7D) else { throw fault("a comma or the end of an object is expected") }
    }

    /// Calls `element` for each element of a list, with the scanner at its beginning; it must walk over it.
    mutating func list(_ element: (inout JSONScanner) throws(PlatformError) -> Void) throws(PlatformError) {
        guard take(0x5B) else { throw fault("a list is expected") }
        if take(0x5D) { return }
        repeat { try element(&self) } while take(0x2C)
        guard take(0x5D) else { throw fault("a comma or the end of a list is expected") }
    }

    /// A text.
    mutating func string() throws(PlatformError) -> String {
        skipBlanks()
        let start = at
        guard at < bytes.count, bytes[at] == 0x22 else { throw fault("text is expected") }
        at += 1
        var isPlain = true
        while at < bytes.count, bytes[at] != 0x22 {
            if bytes[at] == 0x5C {
                isPlain = false
                at += 1
            } else if bytes[at] < 0x20 || bytes[at] >= 0x80 {
                isPlain = false
            }
            at += 1
        }
        guard at < bytes.count else { throw fault("a text does not end") }
        at += 1
        if isPlain { return String(decoding: bytes[(start + 1)..<(at - 1)], as: UTF8.self) }
        guard case .string(let text) = try value(start..<at) else { throw fault("text is expected") }
        return text
    }

    /// The value at the scanner.
    mutating func value() throws(PlatformError) -> JSONValue { try value(try skip()) }

    /// The value that stands in a range.
    func value(_ range: Range<Int>) throws(PlatformError) -> JSONValue {
        do {
            return try JSONValue.parse(
                Array(UnsafeRawBufferPointer(rebasing: bytes[range])), limits: JSONLimits(depthMax: Self.depthMax))
        } catch {
            throw InferenceFault.invalid("failed to parse the request JSON buffer: \(error.description)")
        }
    }

    /// Walks over a value; where it stands.
    mutating func skip() throws(PlatformError) -> Range<Int> {
        skipBlanks()
        let start = at
        var depth = 0
        repeat {
            switch peek() {
            case 0x22:
                at += 1
                while at < bytes.count, bytes[at] != 0x22 { at += bytes[at] == 0x5C ? 2 : 1 }
                guard at < bytes.count else { throw fault("a text does not end") }
                at += 1
            case 0x7B, 0x5B:
                depth += 1
                guard depth <= Self.depthMax else { throw fault("it is nested too deep") }
                at += 1
            case 0x7D, 0x5D:
                depth -= 1
                guard depth >= 0 else { throw fault("a value is expected") }
                at += 1
            case 0x2C, 0x3A:
                guard depth > 0 else { throw fault("a value is expected") }
                at += 1
            default:
                let word = at
                while at < bytes.count, Self.isWord(bytes[at]) { at += 1 }
                guard at > word else { throw fault("a value is expected") }
            }
        } while depth > 0
        return start..<at
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2B, 0x2D, 0x2E: true
        default: false
        }
    }

    /// Whether a word stands here; if so, walks over it.
    mutating func takeWord(_ word: StaticString) -> Bool {
        let count = word.utf8CodeUnitCount
        guard at + count <= bytes.count,
            bytes[at..<(at + count)].elementsEqual(UnsafeBufferPointer(start: word.utf8Start, count: count)),
            at + count == bytes.count || !Self.isWord(bytes[at + count])
        else { return false }
        at += count
        return true
    }
}
