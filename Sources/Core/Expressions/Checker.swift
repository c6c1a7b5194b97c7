import PlatformCore

/// Gives every part of an expression its type, turns it into steps, and computes what is constant.
struct Checker {
    let columns: [ExpressionColumn]
    var program = Program()
    /// By step: whether it can be null.
    var nullable: [Bool] = []

    init(columns: [ExpressionColumn]) { self.columns = columns }

    // MARK: Steps

    func type(_ node: Int) -> ValueType { program.nodes[node].type }

    /// Adds a step, or its value if all that it reads is constant.
    mutating func add(
        _ operation: Operation, _ type: ValueType, _ operands: [Int], _ constants: [CellValue] = [],
        canBeNull: Bool? = nil
    ) -> Int {
        let isNullable = canBeNull ?? operands.contains { nullable[$0] }
        let node = program.append(operation, type, operands, constants)
        nullable.append(isNullable)
        guard !operands.isEmpty, operands.allSatisfy(program.isLiteral) else { return node }
        return literal(program.value(node) { _ in .null }, type)
    }

    mutating func literal(_ value: CellValue, _ type: ValueType) -> Int {
        let node = program.append(.literal, type, [], [value])
        nullable.append(value == .null)
        return node
    }

    // MARK: Types

    /// The node as a value of `wanted`: an untyped null becomes one, an integer becomes a double.
    mutating func adapted(_ node: Int, to wanted: ValueType) -> Int? {
        switch (type(node), wanted) {
        case let (found, wanted) where found == wanted: node
        case (.unknown, _): literal(.null, wanted)
        case (.integer, .real): add(.realFromInteger, .real, [node])
        default: nil
        }
    }

    mutating func need(_ node: Int, _ wanted: ValueType, _ what: String, at offset: Int) throws(ExpressionFault) -> Int
    {
        guard let adapted = adapted(node, to: wanted) else {
            throw ExpressionFault(offset, "\(what) must be \(wanted.name), and this is \(type(node).name)")
        }
        return adapted
    }

    /// The nodes as values of one type.
    mutating func unified(_ nodes: [Int], _ what: String, at offset: Int) throws(ExpressionFault) -> [Int] {
        let types = nodes.map(type).filter { $0 != .unknown }
        guard let first = types.first else {
            throw ExpressionFault(offset, "\(what): the type of null is not known here; write cast(null as float64)")
        }
        let wanted = types.contains(.real) && types.allSatisfy { $0 == .real || $0 == .integer } ? .real : first
        var result: [Int] = []
        for node in nodes {
            guard let adapted = adapted(node, to: wanted) else {
                throw ExpressionFault(offset, "\(what) mixes \(wanted.name) and \(type(node).name); use cast")
            }
            result.append(adapted)
        }
        return result
    }

    // MARK: Syntax

    mutating func check(_ syntax: SyntaxNode) throws(ExpressionFault) -> Int {
        switch syntax.kind {
        case .null: return literal(.null, .unknown)
        case .bool(let value): return literal(.bool(value), .bool)
        case .integer(let value): return literal(.integer(value), .integer)
        case .real(let value): return literal(.double(value + 0.0), .real)
        case .text(let value): return literal(.text(value), .text)
        case .column(let name): return try column(name, syntax.offset)
        case .unary(_, let operand):
            let node = try check(operand)
            guard [.integer, .real].contains(type(node)) else {
                throw ExpressionFault(syntax.offset, "'-' needs a number, and this is \(type(node).name)")
            }
            if type(node) == .integer {
                return add(.subtractInteger, .integer, [literal(.integer(0), .integer), node], canBeNull: true)
            }
            return add(.subtractReal, .real, [literal(.double(0), .real), node])
        case .binary(let symbol, let left, let right):
            return try binary(symbol, try check(left), try check(right), syntax.offset)
        case .and(let left, let right), .or(let left, let right):
            var isAnd = false
            if case .and = syntax.kind { isAnd = true }
            let what = isAnd ? "'and'" : "'or'"
            let nodes = [
                try need(try check(left), .bool, "the left side of \(what)", at: left.offset),
                try need(try check(right), .bool, "the right side of \(what)", at: right.offset),
            ]
            return add(isAnd ? .and : .or, .bool, nodes)
        case .not(let operand):
            return add(.not, .bool, [try need(try check(operand), .bool, "what follows 'not'", at: operand.offset)])
        case .isNull(let operand): return add(.isNull, .bool, [try check(operand)], canBeNull: false)
        case .isIn(let operand, let items): return try isIn(try check(operand), items, syntax.offset)
        case .between(let operand, let low, let high):
            var nodes = [try check(operand), try check(low), try check(high)]
            nodes = try unified(nodes, "'between'", at: syntax.offset)
            guard type(nodes[0]) != .bool else { throw ExpressionFault(syntax.offset, "truth values have no order") }
            return add(.between, .bool, nodes)
        case .choose(let condition, let yes, let no): return try choose(condition, yes, no, syntax.offset)
        case .cast(let operand, let type): return try cast(try check(operand), type, syntax.offset)
        case .call(let name, let arguments): return try call(name, arguments, syntax.offset)
        case .list: throw ExpressionFault(syntax.offset, "a list can only be the second argument of bucketize")
        }
    }

    private mutating func column(_ name: String, _ offset: Int) throws(ExpressionFault) -> Int {
        guard let position = columns.firstIndex(where: { $0.name == name }) else {
            let near = nearestName(to: name, among: columns.map(\.name))
            let known = columns.prefix(12).map(\.name).joined(separator: ", ") + (columns.count > 12 ? ", …" : "")
            throw ExpressionFault(
                offset,
                "no column is called '\(name.prefix(60))'; "
                    + (near.map { "did you mean '\($0)'?" } ?? (columns.isEmpty ? "there are none" : "known: \(known)"))
            )
        }
        guard let type = ValueType(columns[position].type) else {
            throw ExpressionFault(
                offset, "the column '\(name)' is a \(columns[position].type.rawValue), which expressions cannot read")
        }
        nullable.append(columns[position].nullable)
        return program.appendColumn(position, name, type)
    }

    mutating func choose(_ condition: SyntaxNode, _ yes: SyntaxNode, _ no: SyntaxNode, _ offset: Int)
        throws(ExpressionFault) -> Int
    {
        let test = try need(try check(condition), .bool, "a condition", at: condition.offset)
        let branches = try unified([try check(yes), try check(no)], "the choice", at: offset)
        // A constant condition leaves one branch.
        if program.isLiteral(test) { return branches[program.constant(test) == .bool(true) ? 0 : 1] }
        return add(
            .choose, type(branches[0]), [test] + branches, canBeNull: branches.contains { nullable[$0] })
    }

    private mutating func isIn(_ node: Int, _ items: [SyntaxNode], _ offset: Int) throws(ExpressionFault) -> Int {
        guard !items.isEmpty else { throw ExpressionFault(offset, "'in' needs at least one value") }
        var nodes = [node]
        for item in items { nodes.append(try check(item)) }
        nodes = try unified(nodes, "'in'", at: offset)
        guard type(nodes[0]) != .bool else { throw ExpressionFault(offset, "'in' does not read truth values") }
        var constants: [CellValue] = []
        for (item, node) in zip(items, nodes.dropFirst()) {
            guard program.isLiteral(node), program.constant(node) != .null else {
                throw ExpressionFault(item.offset, "the values of 'in' must be constants other than null")
            }
            if !constants.contains(program.constant(node)) { constants.append(program.constant(node)) }
        }
        constants.sort { Self.precedes($0, $1) }
        return add(.isIn, .bool, [nodes[0]], constants)
    }

    private static func precedes(_ left: CellValue, _ right: CellValue) -> Bool {
        switch (left, right) {
        case (.integer(let left), .integer(let right)): left < right
        case (.double(let left), .double(let right)): left < right
        case (.text(let left), .text(let right)): TextOperations.precedes(left, right)
        default: false
        }
    }

    // MARK: Operators

    private mutating func binary(_ symbol: Token.Symbol, _ left: Int, _ right: Int, _ offset: Int)
        throws(ExpressionFault) -> Int
    {
        switch symbol {
        case .plus, .minus, .times, .divide, .quotient, .remainder:
            return try arithmetic(symbol, left, right, offset)
        case .join:
            let nodes = [
                try need(left, .text, "the left side of '||'", at: offset),
                try need(right, .text, "the right side of '||'", at: offset),
            ]
            return add(.concat, .text, nodes)
        default:
            let nodes = try unified([left, right], "'\(symbol.rawValue)'", at: offset)
            let isEquality = symbol == .equal || symbol == .notEqual
            guard isEquality || type(nodes[0]) != .bool else {
                throw ExpressionFault(offset, "truth values have no order")
            }
            switch symbol {
            case .less: return add(.less, .bool, nodes)
            case .lessEqual: return add(.lessEqual, .bool, nodes)
            case .greater: return add(.less, .bool, nodes.reversed())
            case .greaterEqual: return add(.lessEqual, .bool, nodes.reversed())
            case .notEqual: return add(.not, .bool, [add(.equal, .bool, nodes)])
            default: return add(.equal, .bool, nodes)
            }
        }
    }

    private mutating func arithmetic(_ symbol: Token.Symbol, _ left: Int, _ right: Int, _ offset: Int)
        throws(ExpressionFault) -> Int
    {
        // Moments: plus or minus milliseconds, and the difference of two.
        switch (type(left), symbol, type(right)) {
        case (.time, .plus, .integer), (.time, .minus, .integer):
            return add(symbol == .plus ? .addInteger : .subtractInteger, .time, [left, right], canBeNull: true)
        case (.integer, .plus, .time): return add(.addInteger, .time, [right, left], canBeNull: true)
        case (.time, .minus, .time): return add(.subtractInteger, .integer, [left, right])
        default: break
        }
        let nodes = try unified([left, right], "'\(symbol.rawValue)'", at: offset)
        let type = self.type(nodes[0])
        guard type == .integer || type == .real else {
            let advice = type == .text && symbol == .plus ? "; texts are joined with '||'" : ""
            throw ExpressionFault(offset, "'\(symbol.rawValue)' needs numbers, and this is \(type.name)\(advice)")
        }
        switch (symbol, type) {
        case (.divide, _):
            let reals = [
                try need(nodes[0], .real, "the dividend", at: offset),
                try need(nodes[1], .real, "the divisor", at: offset),
            ]
            return add(.divideReal, .real, reals, canBeNull: true)
        case (.quotient, .integer): return add(.quotient, .integer, nodes, canBeNull: true)
        case (.remainder, .integer): return add(.remainder, .integer, nodes, canBeNull: true)
        case (.quotient, _), (.remainder, _):
            throw ExpressionFault(offset, "'\(symbol.rawValue)' needs int64 on both sides; cast, or use floor(a / b)")
        case (.plus, .integer): return add(.addInteger, .integer, nodes, canBeNull: true)
        case (.minus, .integer): return add(.subtractInteger, .integer, nodes, canBeNull: true)
        case (.times, .integer): return add(.multiplyInteger, .integer, nodes, canBeNull: true)
        case (.plus, _): return add(.addReal, .real, nodes, canBeNull: true)
        case (.minus, _): return add(.subtractReal, .real, nodes, canBeNull: true)
        default: return add(.multiplyReal, .real, nodes, canBeNull: true)
        }
    }

    // MARK: Casts

    mutating func cast(_ node: Int, _ columnType: ColumnType, _ offset: Int) throws(ExpressionFault) -> Int {
        guard let wanted = ValueType(columnType) else {
            throw ExpressionFault(offset, "nothing can be cast to \(columnType.rawValue)")
        }
        switch (type(node), wanted) {
        case let (found, wanted) where found == wanted: return node
        case (.unknown, _): return literal(.null, wanted)
        case (.integer, .real): return add(.realFromInteger, .real, [node])
        case (.integer, .bool): return add(.boolFromInteger, .bool, [node])
        case (.integer, .text): return add(.textFromInteger, .text, [node])
        case (.integer, .time): return add(.timeFromInteger, .time, [node], canBeNull: true)
        case (.real, .integer): return add(.integerFromReal, .integer, [node], canBeNull: true)
        case (.bool, .integer): return add(.integerFromBool, .integer, [node])
        case (.bool, .real): return add(.realFromInteger, .real, [add(.integerFromBool, .integer, [node])])
        case (.bool, .text): return add(.textFromBool, .text, [node])
        case (.text, .integer): return add(.integerFromText, .integer, [node], canBeNull: true)
        case (.text, .real): return add(.realFromText, .real, [node], canBeNull: true)
        case (.time, .integer): return add(.integerFromTime, .integer, [node])
        default:
            throw ExpressionFault(offset, "\(type(node).name) cannot be cast to \(wanted.name)")
        }
    }
}
