import PlatformCore

/// One word of a filter.
struct SearchToken {
    enum Kind: Equatable {
        case word(String)
        /// Text in single quotes.
        case text(String)
        /// Text in back quotes or double quotes: a key, or with double quotes also a value.
        case quoted(String, isDouble: Bool)
        case comparison(SearchComparison)
        case open
        case close
        case comma
    }
    let kind: Kind
    /// Byte position of the first byte and of the byte after the last.
    let start: Int
    let end: Int

    /// Cuts a filter into words.
    static func tokens(of text: String) throws(PlatformError) -> [SearchToken] {
        let bytes = Array(text.utf8)
        guard bytes.count <= SearchFilter.byteCountMax else {
            throw PlatformError(
                .invalidInput, "filter", "it is \(bytes.count) bytes long, \(SearchFilter.byteCountMax) are accepted")
        }
        var tokens: [SearchToken] = []
        var at = 0
        while at < bytes.count {
            let start = at
            let byte = bytes[at]
            at += 1
            let kind: Kind
            switch byte {
            case 9, 10, 13, 32: continue
            case 40: kind = .open
            case 41: kind = .close
            case 44: kind = .comma
            case 39, 34, 96:
                let content = try quotedContent(bytes, &at, quote: byte)
                kind = byte == 39 ? .text(content) : .quoted(content, isDouble: byte == 34)
            case 61: kind = .comparison(.equal)
            case 33, 60, 62:
                let hasEqual = at < bytes.count && bytes[at] == 61
                if hasEqual { at += 1 }
                switch (byte, hasEqual) {
                case (33, true): kind = .comparison(.notEqual)
                case (60, true): kind = .comparison(.lessOrEqual)
                case (60, false): kind = .comparison(.less)
                case (62, true): kind = .comparison(.greaterOrEqual)
                case (62, false): kind = .comparison(.greater)
                default: throw PlatformError(.invalidInput, "filter", "'!' stands alone at position \(start)")
                }
            default:
                while at < bytes.count, !isDelimiter(bytes[at]) { at += 1 }
                kind = .word(String(decoding: bytes[start..<at], as: UTF8.self))
            }
            tokens.append(SearchToken(kind: kind, start: start, end: at))
        }
        return tokens
    }

    private static func quotedContent(_ bytes: [UInt8], _ at: inout Int, quote: UInt8) throws(PlatformError) -> String {
        let start = at - 1
        var content: [UInt8] = []
        while at < bytes.count {
            if bytes[at] == quote {
                at += 1
                guard at < bytes.count, bytes[at] == quote else { return String(decoding: content, as: UTF8.self) }
            }
            content.append(bytes[at])  // a doubled quote stands for one
            at += 1
        }
        throw PlatformError(.invalidInput, "filter", "the quote at position \(start) is not closed")
    }

    private static func isDelimiter(_ byte: UInt8) -> Bool {
        switch byte {
        case 9, 10, 13, 32, 33, 34, 39, 40, 41, 44, 60, 61, 62, 96: true
        default: false
        }
    }
}

/// Reads clauses and sort keys from words.
struct SearchParser {
    let tokens: [SearchToken]
    let text: String
    private var at = 0

    init(tokens: [SearchToken], text: String) {
        self.tokens = tokens
        self.text = text
    }

    private var current: SearchToken? { at < tokens.count ? tokens[at] : nil }

    private func failure(_ expected: String) -> PlatformError {
        let place = current.map { "at position \($0.start)" } ?? "at the end"
        return PlatformError(.invalidInput, "filter", "\(expected) is expected \(place) of '\(text.prefix(200))'")
    }

    /// Takes the word if it is next, in any case.
    private mutating func take(word: String) -> Bool {
        guard case .word(let next)? = current?.kind, next.uppercased() == word else { return false }
        at += 1
        return true
    }

    mutating func filter() throws(PlatformError) -> [SearchClause] {
        if tokens.isEmpty { return [] }
        var clauses = [try clause()]
        while current != nil {
            guard take(word: "AND") else { throw failure("AND") }
            clauses.append(try clause())
            guard clauses.count <= SearchFilter.clauseCountMax else {
                throw PlatformError(.invalidInput, "filter", "more than \(SearchFilter.clauseCountMax) clauses")
            }
        }
        return clauses
    }

    mutating func order() throws(PlatformError) -> SearchOrder {
        let (entity, key) = try key()
        let isDescending = take(word: "DESC")
        if !isDescending { _ = take(word: "ASC") }
        guard current == nil else { throw failure("ASC, DESC or nothing") }
        return SearchOrder(entity: entity, key: key, isAscending: !isDescending)
    }

    private mutating func key() throws(PlatformError) -> (entity: String?, key: String) {
        guard let token = current else { throw failure("a key") }
        at += 1
        switch token.kind {
        case .quoted(let key, _): return (nil, key)
        case .word(let word):
            guard let dot = word.firstIndex(of: ".") else { return (nil, word) }
            let entity = word[..<dot].lowercased()
            let rest = word[word.index(after: dot)...]
            if !rest.isEmpty, !rest.hasSuffix(".") { return (entity, String(rest)) }
            guard let next = current, next.start == token.end else { throw failure("a key after '\(word)'") }
            switch next.kind {
            case .quoted(let key, _), .text(let key):
                at += 1
                return (entity, rest + key)  // `` span.attributes.`user.id` ``
            default: throw failure("a key after '\(word)'")
            }
        default:
            at -= 1
            throw failure("a key")
        }
    }

    private mutating func clause() throws(PlatformError) -> SearchClause {
        let (entity, key) = try key()
        if take(word: "IS") {
            let isNegated = take(word: "NOT")
            guard take(word: "NULL") else { throw failure("NULL") }
            return SearchClause(
                entity: entity, key: key, comparison: isNegated ? .isNotNull : .isNull, operand: .none)
        }
        if take(word: "LIKE") { return try patternClause(entity, key, .like) }
        if take(word: "ILIKE") { return try patternClause(entity, key, .ilike) }
        if take(word: "NOT") {
            guard take(word: "IN") else { throw failure("IN") }
            return SearchClause(entity: entity, key: key, comparison: .isNotIn, operand: .texts(try list()))
        }
        if take(word: "IN") {
            return SearchClause(entity: entity, key: key, comparison: .isIn, operand: .texts(try list()))
        }
        guard case .comparison(let comparison)? = current?.kind else { throw failure("a comparison") }
        at += 1
        return SearchClause(entity: entity, key: key, comparison: comparison, operand: try value())
    }

    private mutating func patternClause(
        _ entity: String?, _ key: String, _ comparison: SearchComparison
    ) throws(PlatformError) -> SearchClause {
        let operand = try value()
        guard case .text = operand else {
            at -= 1
            throw failure("a pattern in quotes")
        }
        return SearchClause(entity: entity, key: key, comparison: comparison, operand: operand)
    }

    private mutating func value() throws(PlatformError) -> SearchOperand {
        guard let token = current else { throw failure("a value") }
        switch token.kind {
        case .text(let text), .quoted(let text, isDouble: true):
            at += 1
            return .text(text)
        case .word(let word):
            // Decimal only; 1e400 is more than any number, and so compared with them.
            guard word.utf8.count <= 64, word.utf8.allSatisfy(Self.isOfNumber), let number = Double(word) else {
                throw failure("a number or text in quotes")
            }
            at += 1
            return .number(number)
        default: throw failure("a number or text in quotes")
        }
    }

    private static func isOfNumber(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, UInt8(ascii: "."), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "e"), UInt8(ascii: "E"):
            true
        default: false
        }
    }

    private mutating func list() throws(PlatformError) -> [String] {
        guard case .open? = current?.kind else { throw failure("'('") }
        at += 1
        var texts: [String] = []
        while true {
            guard case .text(let text) = try value() else {
                at -= 1
                throw failure("text in quotes")
            }
            texts.append(text)
            guard let token = current else { throw failure("',' or ')'") }
            at += 1
            if token.kind == .close { return texts }
            if token.kind != .comma {
                at -= 1
                throw failure("',' or ')'")
            }
            if case .close? = current?.kind {  // the trailing comma of a Python tuple of one
                at += 1
                return texts
            }
        }
    }
}
