import PlatformCore

/// A checked expression as steps over other steps, children before parents.
struct Program: Hashable, Sendable {
    private(set) var nodes: [Node] = []
    private(set) var operands: [Int32] = []
    private(set) var constants: [CellValue] = []

    @inline(__always)
    func operand(_ node: Int, _ index: Int) -> Int { Int(operands[Int(nodes[node].first) + index]) }

    func operands(of node: Int) -> [Int] { (0..<Int(nodes[node].count)).map { operand(node, $0) } }

    @inline(__always)
    func constant(_ node: Int, _ index: Int = 0) -> CellValue { constants[Int(nodes[node].constant) + index] }

    func constants(of node: Int) -> ArraySlice<CellValue> {
        let first = Int(nodes[node].constant)
        return constants[first..<(first + Int(nodes[node].constantCount))]
    }

    func isLiteral(_ node: Int) -> Bool { nodes[node].operation == .literal }

    /// Whether the node is the word `null` or a constant that came to null.
    func isNullLiteral(_ node: Int) -> Bool { isLiteral(node) && constant(node) == .null }

    mutating func append(_ operation: Operation, _ type: ValueType, _ children: [Int], _ parameters: [CellValue]) -> Int
    {
        nodes.append(
            Node(
                operation: operation, type: type, first: Int32(operands.count), count: Int32(children.count),
                constant: Int32(constants.count), constantCount: Int32(parameters.count)))
        operands += children.map(Int32.init)
        constants += parameters
        return nodes.count - 1
    }

    mutating func appendColumn(_ position: Int, _ name: String, _ type: ValueType) -> Int {
        append(.column, type, [], [.integer(Int64(position)), .text(name)])
    }

    /// Only what `root` needs; its root is the last node.
    func trimmed(to root: Int) -> Program {
        var result = Program()
        func copy(_ node: Int) -> Int {
            let children = operands(of: node).map(copy)
            return result.append(nodes[node].operation, nodes[node].type, children, Array(constants(of: node)))
        }
        _ = copy(root)
        return result
    }

    /// The node as text: operations with their operands, then constants; two equal texts mean the same.
    func canonicalText(_ node: Int) -> String {
        let parameters = constants(of: node)
        switch nodes[node].operation {
        case .literal:
            let value = constant(node)
            return value == .null ? "null:\(nodes[node].type.name)" : Self.text(value, nodes[node].type)
        case .column:
            guard case .text(let name)? = parameters.last else { return "" }
            return "`\(name)`:\(nodes[node].type.name)"
        default:
            let inner = operands(of: node).map(canonicalText) + parameters.map { Self.text($0, nil) }
            return "\(nodes[node].operation.rawValue)(\(inner.joined(separator: ", ")))"
        }
    }

    private static func text(_ value: CellValue, _ type: ValueType?) -> String {
        switch value {
        case .text: value.json.text
        case .integer(let number) where type == .time: "\(number)ms"
        default: value.json.text
        }
    }
}
