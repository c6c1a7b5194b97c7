import RuntimePorts

/// Reads an XGBoost JSON model.
///
/// Accepts what XGBoost writes beyond RFC 8259: `NaN`, `Infinity`, `-Infinity`.
struct JSONCursor: ModelCursor {
    private let bytes: UnsafeBufferPointer<UInt8>
    private var at = 0
    private var path = ModelPath()
    private let decodesEscapes: Bool

    /// Reads `bytes`, which must outlive the cursor.
    ///
    /// - Parameter decodesEscapes: whether `\u00e9` is a letter; XGBoost keeps such escapes as they stand.
    init(_ bytes: UnsafeBufferPointer<UInt8>, decodesEscapes: Bool = false) {
        self.bytes = bytes
        self.decodesEscapes = decodesEscapes
    }

    private func failure(_ what: String) -> ModelError {
        ModelError(.malformedModel, "byte \(at) of the JSON model, in \(path.text): \(what)")
    }

    @inline(__always)
    private mutating func skipBlanks() {
        while at < bytes.count, bytes[at] == 32 || (bytes[at] >= 9 && bytes[at] <= 13) { at += 1 }
    }

    /// The next byte that is no blank, without passing it; 0 at the end.
    @inline(__always)
    private mutating func peek() -> UInt8 {
        skipBlanks()
        return at < bytes.count ? bytes[at] : 0
    }

    private mutating func expect(_ byte: UInt8, _ what: StaticString) throws(ModelError) {
        guard peek() == byte, at < bytes.count else { throw unexpected(what) }
        at += 1
    }

    private func unexpected(_ what: StaticString) -> ModelError {
        at < bytes.count ? failure("\(what) is expected") : failure("the file ends where \(what) is expected")
    }

    private func checkDepth() throws(ModelError) {
        if path.depth >= modelDepthMax { throw failure("nested deeper than \(modelDepthMax) levels") }
    }

    mutating func eachMember(_ body: (inout Self, String) throws(ModelError) -> Void) throws(ModelError) {
        try checkDepth()
        try expect(0x7B, "'{'")
        if peek() == 0x7D {
            at += 1
            return
        }
        while true {
            guard peek() == 0x22 else { throw unexpected("a member name") }
            let name = try string()
            try expect(0x3A, "':'")
            path.enter(member: name)
            try body(&self, name)
            path.leave()
            if try endsAfterValue(0x7D, "',' or '}'") { return }
        }
    }

    mutating func eachElement(_ body: (inout Self) throws(ModelError) -> Void) throws(ModelError) {
        try checkDepth()
        try expect(0x5B, "'['")
        if peek() == 0x5D {
            at += 1
            return
        }
        var index = 0
        while true {
            path.enter(element: index)
            try body(&self)
            path.leave()
            index += 1
            if try endsAfterValue(0x5D, "',' or ']'") { return }
        }
    }

    /// Passes a comma (`false`) or the closing bracket (`true`).
    @inline(__always)
    private mutating func endsAfterValue(_ close: UInt8, _ what: StaticString) throws(ModelError) -> Bool {
        let byte = peek()
        guard byte == close || byte == 0x2C else { throw unexpected(what) }
        at += 1
        return byte == close
    }

    mutating func floats() throws(ModelError) -> [Float] {
        var values: [Float] = []
        try expect(0x5B, "a list of numbers")
        if peek() == 0x5D {
            at += 1
            return values
        }
        repeat {
            skipBlanks()
            values.append(try number())
        } while try !endsAfterValue(0x5D, "',' or ']'")
        return values
    }

    private mutating func number() throws(ModelError) -> Float {
        if let end = NumberText.end(of: bytes, from: at) {
            defer { at = end }
            return NumberText.float(bytes, from: at, to: end)
        }
        if passes("NaN") { return .nan }
        if passes("Infinity") { return .infinity }
        if passes("-Infinity") { return -.infinity }
        throw unexpected("a number")
    }

    /// Passes `word` if it stands here.
    private mutating func passes(_ word: StaticString) -> Bool {
        let count = word.utf8CodeUnitCount
        guard count <= bytes.count - at else { return false }
        for offset in 0..<count where word.utf8Start[offset] != bytes[at + offset] { return false }
        at += count
        return true
    }

    mutating func integers() throws(ModelError) -> [Int32] {
        var values: [Int32] = []
        try expect(0x5B, "a list of integers")
        if peek() == 0x5D {
            at += 1
            return values
        }
        repeat {
            skipBlanks()
            values.append(try integer())
        } while try !endsAfterValue(0x5D, "',' or ']'")
        return values
    }

    private mutating func integer() throws(ModelError) -> Int32 {
        let start = at
        var magnitude: Int64 = 0
        let negative = at < bytes.count && bytes[at] == 0x2D
        if negative { at += 1 }
        let first = at
        while at < bytes.count, bytes[at] &- 48 < 10 {
            magnitude = magnitude &* 10 &+ Int64(bytes[at] &- 48)
            at += 1
            if at - first > 10 { throw failure("the integer does not fit in 32 bits") }
        }
        if at == first {
            at = start
            if passes("true") { return 1 }
            if passes("false") { return 0 }
            throw unexpected("an integer")
        }
        guard let value = Int32(exactly: negative ? -magnitude : magnitude) else {
            throw failure("the integer does not fit in 32 bits")
        }
        return value
    }

    /// Whether the next value is text in quotes.
    var isAtText: Bool {
        mutating get { peek() == 0x22 }
    }

    /// Whether the next value is `true` or `false`.
    var isAtTruth: Bool {
        mutating get { [0x74, 0x66].contains(peek()) }
    }

    mutating func text() throws(ModelError) -> String {
        if peek() == 0x22 { return try string() }
        guard let end = NumberText.end(of: bytes, from: at) else { throw unexpected("text or a number") }
        defer { at = end }
        return String(decoding: bytes[at..<end], as: UTF8.self)
    }

    private mutating func string() throws(ModelError) -> String {
        let start = at + 1
        guard let end = try passString() else {
            return String(decoding: bytes[start..<(at - 1)], as: UTF8.self)
        }
        var content: [UInt8] = []
        var from = start
        while from < end {
            if bytes[from] == 0x5C {
                from += 1
                switch bytes[from] {
                case 0x62: content.append(8)
                case 0x66: content.append(12)
                case 0x6E: content.append(10)
                case 0x72: content.append(13)
                case 0x74: content.append(9)
                case 0x75 where decodesEscapes:
                    let (scalar, last) = try escape(from, end)
                    content.append(contentsOf: Array(String(scalar).utf8))
                    from = last
                case 0x75: content.append(contentsOf: [0x5C, 0x75])
                default: content.append(bytes[from])
                }
            } else {
                content.append(bytes[from])
            }
            from += 1
        }
        return String(decoding: content, as: UTF8.self)
    }

    /// The letter of the escape whose `u` is at `place`, which may need a second one, and where it ends.
    private func escape(_ place: Int, _ end: Int) throws(ModelError) -> (Unicode.Scalar, last: Int) {
        func unit(_ place: Int) -> UInt32? {
            guard place + 4 < end, bytes[place] == 0x75 else { return nil }
            var value: UInt32 = 0
            for at in (place + 1)...(place + 4) {
                guard let digit = Character(Unicode.Scalar(bytes[at])).hexDigitValue else { return nil }
                value = value << 4 | UInt32(digit)
            }
            return value
        }
        guard let first = unit(place) else { throw failure("four hexadecimal digits are expected behind '\\u'") }
        if let scalar = Unicode.Scalar(first) { return (scalar, place + 4) }
        guard first < 0xDC00, place + 6 < end, bytes[place + 5] == 0x5C, let second = unit(place + 6),
            0xDC00...0xDFFF ~= second,
            let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
        else { throw failure("half of a letter stands alone: '\\u' and a surrogate") }
        return (scalar, place + 10)
    }

    /// Passes a string; returns where its content ends if it holds escapes.
    private mutating func passString() throws(ModelError) -> Int? {
        var escaped = false
        var end = at + 1
        while end < bytes.count, bytes[end] != 0x22 {
            if bytes[end] == 0x5C {
                escaped = true
                end += 1
            }
            end += 1
        }
        guard end < bytes.count else { throw failure("the text has no closing quote") }
        at = end + 1
        return escaped ? end : nil
    }

    mutating func skip() throws(ModelError) {
        var closers: [UInt8] = []
        repeat {
            switch peek() {
            case 0x7B, 0x5B:
                let closer: UInt8 = bytes[at] == 0x7B ? 0x7D : 0x5D
                guard path.depth + closers.count < modelDepthMax else { try checkTooDeep() }
                at += 1
                if peek() == closer {
                    at += 1
                    break
                }
                closers.append(closer)
                if closer == 0x7D { try passMemberName() }
                continue
            case 0x22: _ = try passString()
            case 0x74 where passes("true"), 0x66 where passes("false"), 0x6E where passes("null"): break
            default:
                if let end = NumberText.end(of: bytes, from: at) { at = end } else { _ = try number() }
            }
            while let closer = closers.last {
                guard try endsAfterValue(closer, "',' or a closing bracket") else {
                    if closer == 0x7D { try passMemberName() }
                    break
                }
                closers.removeLast()
            }
        } while !closers.isEmpty
    }

    private func checkTooDeep() throws(ModelError) -> Never {
        throw failure("nested deeper than \(modelDepthMax) levels")
    }

    private mutating func passMemberName() throws(ModelError) {
        guard peek() == 0x22 else { throw unexpected("a member name") }
        _ = try passString()
        try expect(0x3A, "':'")
    }

    mutating func finish() throws(ModelError) {
        skipBlanks()
        if at < bytes.count { throw failure("more bytes follow the model") }
    }
}
