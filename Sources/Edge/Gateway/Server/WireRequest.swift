/// The head of a plain HTTP/1.1 request, read from its bytes: what the gateway needs to answer it, or to know where it ends.
///
/// Plain means: a known length and nothing else that changes how bytes are read. Everything unusual (chunked bodies,
/// upgrades, doubled or malformed fields, line ends other than CR LF) is `foreign`, and the framework's parser decides.
struct WireRequest {
    /// What the bytes at the beginning of a buffer are.
    enum Reading {
        /// The head has not arrived whole.
        case incomplete
        /// Not plain; the framework's parser is to read it.
        case foreign
        /// A plain head.
        case plain(WireRequest)
    }

    /// Largest head that is read here.
    static let headByteCountMax = 16 << 10

    /// Places in the buffer.
    let method: Range<Int>
    let path: Range<Int>
    let host: Range<Int>
    let authorization: Range<Int>?
    let caller: Range<Int>?
    let timeout: Range<Int>?
    let priority: Range<Int>?
    /// Bytes of the head, the empty line included.
    let headByteCount: Int
    /// Bytes of the body.
    let bodyByteCount: Int
    /// Whether the caller wants to go on with this connection.
    let keepsAlive: Bool

    /// Reads the head that starts at the first of `bytes`.
    static func read(_ bytes: UnsafeRawBufferPointer) -> Reading {
        guard let end = endOfLines(bytes) else { return bytes.count < headByteCountMax ? .incomplete : .foreign }
        var lines = Lines(bytes: UnsafeRawBufferPointer(rebasing: bytes[0..<end]))
        guard let first = lines.next(), let words = requestLine(bytes, first) else { return .foreign }
        var fields = Fields()
        while let line = lines.next() {
            guard fields.take(bytes, line) else { return .foreign }
        }
        guard lines.isClean, let host = fields.host else { return .foreign }
        return .plain(
            WireRequest(
                method: words.method, path: words.path, host: host, authorization: fields.authorization,
                caller: fields.caller, timeout: fields.timeout, priority: fields.priority, headByteCount: end + 2,
                bodyByteCount: fields.length ?? 0,
                keepsAlive: fields.keepsAlive))
    }

    /// Where the empty line begins that ends a head.
    private static func endOfLines(_ bytes: UnsafeRawBufferPointer) -> Int? {
        var at = 0
        let limit = min(bytes.count, headByteCountMax) - 3
        while at < limit {
            // Every fourth byte is looked at: one of the four must be a line feed or a carriage return.
            switch bytes[at + 3] {
            case 0x0A where bytes[at] == 0x0D && bytes[at + 1] == 0x0A && bytes[at + 2] == 0x0D: return at + 2
            case 0x0A, 0x0D: at += 1
            default: at += 4
            }
        }
        return nil
    }

    /// Lines that end with CR LF and hold no other control character.
    private struct Lines {
        let bytes: UnsafeRawBufferPointer
        private var at = 0
        private(set) var isClean = true

        init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

        mutating func next() -> Range<Int>? {
            guard isClean, at < bytes.count else { return nil }
            let start = at
            while at < bytes.count, bytes[at] >= 0x20 && bytes[at] != 0x7F || bytes[at] == 0x09 { at += 1 }
            guard at + 1 < bytes.count, bytes[at] == 0x0D, bytes[at + 1] == 0x0A else {
                isClean = false
                return nil
            }
            defer { at += 2 }
            return start..<at
        }
    }

    private static let version = Array("HTTP/1.1".utf8)

    private static func requestLine(_ bytes: UnsafeRawBufferPointer, _ line: Range<Int>) -> (
        method: Range<Int>, path: Range<Int>
    )? {
        guard let first = bytes[line].firstIndex(of: 0x20), first > line.lowerBound,
            bytes[line.lowerBound..<first].allSatisfy({ 65...90 ~= $0 })
        else { return nil }
        let rest = (first + 1)..<line.upperBound
        guard let second = bytes[rest].firstIndex(of: 0x20), second > rest.lowerBound, bytes[rest.lowerBound] == 0x2F,
            bytes[rest.lowerBound..<second].allSatisfy({ 0x20 < $0 && $0 < 0x7F && $0 != 0x23 }),
            bytes[(second + 1)..<rest.upperBound].elementsEqual(version)
        else { return nil }
        return (line.lowerBound..<first, rest.lowerBound..<second)
    }

    /// Whether a byte may stand in a field's name (RFC 9110 §5.6.2): a bit for each ASCII character.
    private static func isOfToken(_ byte: UInt8) -> Bool {
        let set: UInt64 = byte < 0x40 ? 0x03FF_6CFA_0000_0000 : byte < 0x80 ? 0x57FF_FFFF_C7FF_FFFE : 0
        return set >> UInt64(byte & 0x3F) & 1 == 1
    }

    /// Whether the bytes are `text`, which is in lower case, without regard to case.
    static func equals(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, _ text: StaticString) -> Bool {
        guard range.count == text.utf8CodeUnitCount else { return false }
        for (offset, position) in range.enumerated() {
            let byte = bytes[position]
            guard (65...90 ~= byte ? byte | 0x20 : byte) == text.utf8Start[offset] else { return false }
        }
        return true
    }

    /// The value of a header field by its name in lower case, looked for in the bytes of a head that was read; the first where
    /// there are several.
    static func field(_ name: StaticString, in head: UnsafeRawBufferPointer) -> String? {
        var lines = Lines(bytes: head)
        _ = lines.next()
        while let line = lines.next() {
            let end = line.lowerBound + name.utf8CodeUnitCount
            guard end < line.upperBound, head[end] == 0x3A, equals(head, line.lowerBound..<end, name) else { continue }
            return String(decoding: head[trimmed(head, (end + 1)..<line.upperBound)], as: UTF8.self)
        }
        return nil
    }

    /// A range without the blanks around it.
    private static func trimmed(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> Range<Int> {
        var (start, end) = (range.lowerBound, range.upperBound)
        while start < end, bytes[start] == 0x20 || bytes[start] == 0x09 { start += 1 }
        while end > start, bytes[end - 1] == 0x20 || bytes[end - 1] == 0x09 { end -= 1 }
        return start..<end
    }

    private struct Fields {
        var host: Range<Int>?
        var authorization: Range<Int>?
        var caller: Range<Int>?
        var timeout: Range<Int>?
        var priority: Range<Int>?
        var length: Int?
        var keepsAlive = true

        /// Takes one field; `false` if it makes the request foreign.
        mutating func take(_ bytes: UnsafeRawBufferPointer, _ line: Range<Int>) -> Bool {
            guard let colon = bytes[line].firstIndex(of: 0x3A), colon > line.lowerBound,
                bytes[line.lowerBound..<colon].allSatisfy(WireRequest.isOfToken)
            else { return false }
            let name = line.lowerBound..<colon
            switch name.count {
            case 4 where equals(bytes, name, "host"):
                guard host == nil else { return false }
                host = trimmed(bytes, (colon + 1)..<line.upperBound)
            // A browser's request: whether it is meant is looked at where the framework answers.
            case 6 where equals(bytes, name, "origin"):
                return false
            case 6 where equals(bytes, name, "expect"), 7 where equals(bytes, name, "upgrade"),
                7 where equals(bytes, name, "trailer"), 17 where equals(bytes, name, "transfer-encoding"):
                return false
            case 10 where equals(bytes, name, "connection"):
                let value = trimmed(bytes, (colon + 1)..<line.upperBound)
                if equals(bytes, value, "close") {
                    keepsAlive = false
                } else if !equals(bytes, value, "keep-alive") {
                    return false
                }
            case 10 where equals(bytes, name, "x-priority"):
                guard priority == nil else { return false }
                priority = trimmed(bytes, (colon + 1)..<line.upperBound)
            case 13 where equals(bytes, name, "authorization"):
                guard authorization == nil else { return false }
                authorization = trimmed(bytes, (colon + 1)..<line.upperBound)
            case 14 where equals(bytes, name, "content-length"):
                let value = trimmed(bytes, (colon + 1)..<line.upperBound)
                guard length == nil, 1...15 ~= value.count, bytes[value].allSatisfy({ 48...57 ~= $0 }) else {
                    return false
                }
                length = bytes[value].reduce(0) { $0 * 10 + Int($1 - 48) }
            case 16 where equals(bytes, name, "x-bottega-caller"):
                guard caller == nil else { return false }
                caller = trimmed(bytes, (colon + 1)..<line.upperBound)
            // A packed body is unpacked where the framework answers.
            case 16 where equals(bytes, name, "content-encoding"):
                return false
            case 20 where equals(bytes, name, "x-request-timeout-ms"):
                guard timeout == nil else { return false }
                timeout = trimmed(bytes, (colon + 1)..<line.upperBound)
            default: break
            }
            return true
        }
    }
}
