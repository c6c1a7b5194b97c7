import PlatformCore

/// One word of an expression.
struct Token {
    enum Symbol: String {
        case plus = "+"
        case minus = "-"
        case times = "*"
        case divide = "/"
        case quotient = "//"
        case remainder = "%"
        case join = "||"
        case equal = "="
        case notEqual = "!="
        case less = "<"
        case lessEqual = "<="
        case greater = ">"
        case greaterEqual = ">="
        case open = "("
        case close = ")"
        case openList = "["
        case closeList = "]"
        case comma = ","
    }
    enum Kind {
        case integer(UInt64)
        case real(Double)
        case duration(Int64)
        case text(String)
        /// A word; quoted ones are never keywords or functions.
        case word(String, isQuoted: Bool)
        case symbol(Symbol)
        case end
    }
    let kind: Kind
    let offset: Int
}

/// Cuts an expression into tokens.
struct Lexer {
    private let bytes: [UInt8]
    private var at = 0

    init(_ text: String) { bytes = Array(text.utf8) }

    private var byte: UInt8? { at < bytes.count ? bytes[at] : nil }

    private static func isDigit(_ byte: UInt8) -> Bool { 48...57 ~= byte }
    private static func isWord(_ byte: UInt8) -> Bool {
        isDigit(byte) || 65...90 ~= byte || 97...122 ~= byte || byte == 95
    }

    mutating func next() throws(ExpressionFault) -> Token {
        while let byte, byte == 32 || 9...13 ~= byte { at += 1 }
        let start = at
        guard let byte else { return Token(kind: .end, offset: start) }
        if Self.isDigit(byte) { return Token(kind: try number(), offset: start) }
        if Self.isWord(byte) {
            while let byte = self.byte, Self.isWord(byte) { at += 1 }
            let word = String(decoding: bytes[start..<at], as: UTF8.self)
            return Token(kind: .word(word, isQuoted: false), offset: start)
        }
        switch byte {
        case 39, 34: return Token(kind: .text(try text(byte)), offset: start)
        case 96:
            at += 1
            let from = at
            while let byte = self.byte, byte != 96 { at += 1 }
            guard self.byte == 96 else { throw ExpressionFault(start, "a column name in ` ` is not closed") }
            at += 1
            return Token(
                kind: .word(String(decoding: bytes[from..<(at - 1)], as: UTF8.self), isQuoted: true), offset: start)
        default: return Token(kind: .symbol(try symbol(byte)), offset: start)
        }
    }

    private mutating func symbol(_ byte: UInt8) throws(ExpressionFault) -> Token.Symbol {
        let second = at + 1 < bytes.count ? bytes[at + 1] : 0
        let pair: Token.Symbol? =
            switch (byte, second) {
            case (47, 47): .quotient
            case (124, 124): .join
            case (61, 61): .equal
            case (33, 61), (60, 62): .notEqual
            case (60, 61): .lessEqual
            case (62, 61): .greaterEqual
            default: nil
            }
        if let pair {
            at += 2
            return pair
        }
        guard let single = Token.Symbol(rawValue: String(UnicodeScalar(byte))) else {
            throw ExpressionFault(at, "this character cannot stand here")
        }
        at += 1
        return single
    }

    private mutating func number() throws(ExpressionFault) -> Token.Kind {
        let start = at
        while let byte, Self.isDigit(byte) { at += 1 }
        var isReal = false
        if byte == 46, at + 1 < bytes.count, Self.isDigit(bytes[at + 1]) {
            isReal = true
            at += 1
            while let byte, Self.isDigit(byte) { at += 1 }
        }
        if byte == 101 || byte == 69 {
            var ahead = at + 1
            if ahead < bytes.count, bytes[ahead] == 43 || bytes[ahead] == 45 { ahead += 1 }
            if ahead < bytes.count, Self.isDigit(bytes[ahead]) {
                isReal = true
                at = ahead
                while let byte, Self.isDigit(byte) { at += 1 }
            }
        }
        let digits = String(decoding: bytes[start..<at], as: UTF8.self)
        if let byte, Self.isWord(byte) {
            while let byte = self.byte, Self.isWord(byte) { at += 1 }
            let word = String(decoding: bytes[start..<at], as: UTF8.self)
            guard !isReal, let span = TimeSpan(text: word) else {
                throw ExpressionFault(
                    start, "'\(word.prefix(40))' is neither a number nor a span of time such as 30s, 5m, 1h, 7d")
            }
            return .duration(span.milliseconds)
        }
        if isReal {
            guard let value = Double(digits), value.isFinite else {
                throw ExpressionFault(start, "the number is too large")
            }
            return .real(value)
        }
        guard let value = UInt64(digits), value <= UInt64(Int64.max) + 1 else {
            throw ExpressionFault(start, "the whole number does not fit in 64 bits; write 1e19 for a float64")
        }
        return .integer(value)
    }

    private mutating func text(_ quote: UInt8) throws(ExpressionFault) -> String {
        let start = at
        at += 1
        var out: [UInt8] = []
        while let byte {
            at += 1
            if byte == quote {
                guard self.byte == quote else { return String(decoding: out, as: UTF8.self) }
                at += 1
                out.append(quote)
            } else if byte == 92 {
                out += try escape()
            } else {
                out.append(byte)
            }
        }
        throw ExpressionFault(start, "the text is not closed")
    }

    private mutating func escape() throws(ExpressionFault) -> [UInt8] {
        let place = at - 1
        guard let byte else { throw ExpressionFault(place, "the text is not closed") }
        at += 1
        switch byte {
        case 110: return [10]
        case 116: return [9]
        case 92, 39, 34: return [byte]
        case 117:
            let hex = bytes[at...].prefix(6)
            if hex.first == 123, let end = bytes[at...].prefix(10).firstIndex(of: 125),
                let value = UInt32(String(decoding: bytes[(at + 1)..<end], as: UTF8.self), radix: 16), value != 0,
                let scalar = Unicode.Scalar(value)
            {
                at = end + 1
                return Array(String(Character(scalar)).utf8)
            }
            throw ExpressionFault(place, "\\u needs a code point in hexadecimal, \\u{e9}")
        default: throw ExpressionFault(place, "unknown escape; known are \\n \\t \\\\ \\' \\\" \\u{…}")
        }
    }
}
