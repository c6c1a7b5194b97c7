import PlatformCore

/// Reads an expression by precedence (Pratt): `or`, `and`, `not`, comparisons, `||`, `+ -`, `* / // %`, unary minus.
struct Parser {
    static let depthMax = 64
    static let nodeCountMax = 2000

    private var lexer: Lexer
    private var token = Token(kind: .end, offset: 0)
    private var depth = 0
    private var nodeCount = 0

    static func parse(_ text: String) throws(ExpressionFault) -> SyntaxNode {
        var parser = Parser(lexer: Lexer(text))
        try parser.advance()
        let node = try parser.expression(0)
        guard case .end = parser.token.kind else {
            throw ExpressionFault(parser.token.offset, "the expression should end here; is an operator missing?")
        }
        return node
    }

    private init(lexer: Lexer) { self.lexer = lexer }

    private mutating func advance() throws(ExpressionFault) { token = try lexer.next() }

    private var keyword: String? {
        guard case .word(let word, false) = token.kind else { return nil }
        return word.lowercased()
    }

    private func isSymbol(_ symbol: Token.Symbol) -> Bool {
        if case .symbol(symbol) = token.kind { return true }
        return false
    }

    private mutating func expect(_ symbol: Token.Symbol) throws(ExpressionFault) {
        guard isSymbol(symbol) else { throw ExpressionFault(token.offset, "'\(symbol.rawValue)' is expected") }
        try advance()
    }

    private mutating func expect(_ word: String) throws(ExpressionFault) {
        guard keyword == word else { throw ExpressionFault(token.offset, "'\(word)' is expected") }
        try advance()
    }

    private mutating func node(_ kind: SyntaxNode.Kind, at offset: Int, over children: [SyntaxNode] = [])
        throws(ExpressionFault) -> SyntaxNode
    {
        nodeCount += 1
        let node = SyntaxNode(kind, at: offset, over: children)
        guard nodeCount <= Self.nodeCountMax else {
            throw ExpressionFault(offset, "the expression has more than \(Self.nodeCountMax) parts")
        }
        guard node.depth <= Self.depthMax else {
            throw ExpressionFault(offset, "the expression is more than \(Self.depthMax) levels deep; use two columns")
        }
        return node
    }

    private mutating func expression(_ power: Int) throws(ExpressionFault) -> SyntaxNode {
        depth += 1
        defer { depth -= 1 }
        guard depth <= 2 * Self.depthMax else {
            throw ExpressionFault(
                token.offset, "the expression is more than \(Self.depthMax) levels deep; use two columns")
        }
        var left = try prefix()
        while let next = try infix(left, power) { left = next }
        return left
    }

    // MARK: Infix

    private static func power(_ symbol: Token.Symbol) -> Int? {
        switch symbol {
        case .equal, .notEqual, .less, .lessEqual, .greater, .greaterEqual: 4
        case .join: 5
        case .plus, .minus: 6
        case .times, .divide, .quotient, .remainder: 7
        case .open, .close, .openList, .closeList, .comma: nil
        }
    }

    private mutating func infix(_ left: SyntaxNode, _ least: Int) throws(ExpressionFault) -> SyntaxNode? {
        let offset = token.offset
        if case .symbol(let symbol) = token.kind {
            guard let power = Self.power(symbol), power > least else { return nil }
            try advance()
            let right = try expression(power)
            if power == 4, case .symbol(let again) = token.kind, Self.power(again) == 4 {
                throw ExpressionFault(token.offset, "comparisons do not chain; join two with 'and'")
            }
            return try node(.binary(symbol, left, right), at: offset, over: [left, right])
        }
        switch keyword {
        case "or" where least < 1:
            try advance()
            let right = try expression(1)
            return try node(.or(left, right), at: offset, over: [left, right])
        case "and" where least < 2:
            try advance()
            let right = try expression(2)
            return try node(.and(left, right), at: offset, over: [left, right])
        case "is" where least < 4:
            try advance()
            let isNegated = keyword == "not"
            if isNegated { try advance() }
            try expect("null")
            return try negate(try node(.isNull(left), at: offset, over: [left]), isNegated)
        case "not" where least < 4, "in" where least < 4, "between" where least < 4:
            let isNegated = keyword == "not"
            if isNegated { try advance() }
            return try negate(try membership(left, offset), isNegated)
        default: return nil
        }
    }

    private mutating func membership(_ left: SyntaxNode, _ offset: Int) throws(ExpressionFault) -> SyntaxNode {
        if keyword == "between" {
            try advance()
            let low = try expression(4)
            try expect("and")
            let high = try expression(4)
            return try node(.between(left, low, high), at: offset, over: [left, low, high])
        }
        try expect("in")
        try expect(.open)
        let items = try list(until: .close)
        return try node(.isIn(left, items), at: offset, over: [left] + items)
    }

    private mutating func negate(_ inner: SyntaxNode, _ isNegated: Bool) throws(ExpressionFault) -> SyntaxNode {
        isNegated ? try node(.not(inner), at: inner.offset, over: [inner]) : inner
    }

    private mutating func list(until close: Token.Symbol) throws(ExpressionFault) -> [SyntaxNode] {
        var items: [SyntaxNode] = []
        if !isSymbol(close) {
            items.append(try expression(0))
            while isSymbol(.comma) {
                try advance()
                items.append(try expression(0))
            }
        }
        try expect(close)
        return items
    }

    // MARK: Prefix

    private mutating func prefix() throws(ExpressionFault) -> SyntaxNode {
        let offset = token.offset
        switch token.kind {
        case .integer(let value):
            try advance()
            guard value <= UInt64(Int64.max) else {
                throw ExpressionFault(offset, "the whole number does not fit in 64 bits; write 1e19 for a float64")
            }
            return try node(.integer(Int64(value)), at: offset)
        case .real(let value):
            try advance()
            return try node(.real(value), at: offset)
        case .duration(let value):
            try advance()
            return try node(.integer(value), at: offset)
        case .text(let value):
            try advance()
            return try node(.text(value), at: offset)
        case .word(let word, let isQuoted): return try self.word(word, isQuoted, offset)
        case .symbol(.minus):
            try advance()
            if case .integer(let value) = token.kind {
                try advance()
                return try node(.integer(Int64(truncatingIfNeeded: 0 &- value)), at: offset)
            }
            let operand = try expression(8)
            return try node(.unary(.minus, operand), at: offset, over: [operand])
        case .symbol(.plus):
            try advance()
            return try expression(8)
        case .symbol(.open):
            try advance()
            let inner = try expression(0)
            try expect(.close)
            return inner
        case .symbol(.openList):
            try advance()
            let items = try list(until: .closeList)
            return try node(.list(items), at: offset, over: items)
        case .symbol(let symbol): throw ExpressionFault(offset, "'\(symbol.rawValue)' cannot begin a value")
        case .end: throw ExpressionFault(offset, "the expression ends too early")
        }
    }

    private static let reserved: Set<String> = [
        "and", "or", "in", "is", "between", "when", "then", "else", "end", "as",
    ]

    private mutating func word(_ word: String, _ isQuoted: Bool, _ offset: Int) throws(ExpressionFault) -> SyntaxNode {
        try advance()
        guard !isQuoted else { return try node(.column(word), at: offset) }
        let lower = word.lowercased()
        switch lower {
        case "true", "false": return try node(.bool(lower == "true"), at: offset)
        case "null": return try node(.null, at: offset)
        case "not":
            let operand = try expression(3)
            return try node(.not(operand), at: offset, over: [operand])
        case "case": return try caseWhen(offset)
        default: break
        }
        guard !Self.reserved.contains(lower) else {
            throw ExpressionFault(offset, "'\(lower)' cannot begin a value; a column of that name is written `\(word)`")
        }
        guard isSymbol(.open) else { return try node(.column(word), at: offset) }
        try advance()
        if lower == "cast" || lower == "try_cast" {
            let operand = try expression(0)
            try expect("as")
            let type = try typeName()
            try expect(.close)
            return try node(.cast(operand, type), at: offset, over: [operand])
        }
        let arguments = try list(until: .close)
        return try node(.call(lower, arguments), at: offset, over: arguments)
    }

    private mutating func typeName() throws(ExpressionFault) -> ColumnType {
        let known = ["int64", "float64", "bool", "string", "timestamp"]
        guard let keyword, known.contains(keyword), let type = ColumnType(rawValue: keyword) else {
            throw ExpressionFault(token.offset, "a type is expected: \(known.joined(separator: ", "))")
        }
        try advance()
        return type
    }

    private mutating func caseWhen(_ offset: Int) throws(ExpressionFault) -> SyntaxNode {
        var branches: [(SyntaxNode, SyntaxNode, Int)] = []
        while keyword == "when" {
            let place = token.offset
            try advance()
            let condition = try expression(0)
            try expect("then")
            branches.append((condition, try expression(0), place))
        }
        guard !branches.isEmpty else { throw ExpressionFault(token.offset, "'when' is expected") }
        var result: SyntaxNode
        if keyword == "else" {
            try advance()
            result = try expression(0)
        } else {
            result = try node(.null, at: token.offset)
        }
        try expect("end")
        for (condition, value, place) in branches.reversed() {
            result = try node(.choose(condition, value, result), at: place, over: [condition, value, result])
        }
        return result
    }
}
