public import PlatformCore

/// A column that an expression may read.
public struct ExpressionColumn: Hashable, Sendable {
    /// Its name.
    public let name: String
    /// Its type; lists and vectors cannot be read.
    public let type: ColumnType
    /// Whether its cells may be null.
    public let nullable: Bool
    /// Makes a column.
    public init(name: String, type: ColumnType, nullable: Bool = true) {
        self.name = name
        self.type = type
        self.nullable = nullable
    }
}

/// A row-wise expression, checked and compiled: one meaning for stored columns, request-time input and SQL.
///
/// What every operation gives is in `docs/semantics.md`. No input makes it trap or raise: what cannot be computed (division
/// by zero, an overflow, text that is no number) is null.
public struct Expression: Hashable, Sendable, CustomStringConvertible {
    /// Longest accepted text in bytes.
    public static let byteCountMax = 10_000

    /// What was written.
    public let text: String
    /// Type of the value.
    public let type: ColumnType
    /// Whether the value may be null.
    public let nullable: Bool
    /// Names of the columns it reads, in the order of first use.
    public let columns: [String]
    /// The checked expression in one spelling: equal texts mean the same, whatever blanks or synonyms were written.
    public let canonicalText: String
    let program: Program

    var root: Int { program.nodes.count - 1 }

    /// Checks and compiles.
    ///
    /// - Parameters:
    ///   - text: the expression.
    ///   - columns: what it may read; `evaluate` asks for cells by position in this list.
    /// - Throws: `invalidInput` with line, column, what is wrong, the nearest known name, and the text around the place.
    public static func compile(_ text: String, columns: [ExpressionColumn]) throws(PlatformError) -> Expression {
        guard text.utf8.count <= byteCountMax else {
            throw PlatformError(.tooLarge, "expression", "it is longer than \(byteCountMax) bytes")
        }
        do {
            return try Expression(text, columns)
        } catch {
            throw error.platformError(in: text)
        }
    }

    private init(_ text: String, _ columns: [ExpressionColumn]) throws(ExpressionFault) {
        let syntax = try Parser.parse(text)
        var checker = Checker(columns: columns)
        let root = try checker.check(syntax)
        guard checker.type(root) != .unknown else {
            throw ExpressionFault(0, "the expression is always null and has no type; write cast(null as float64)")
        }
        program = checker.program.trimmed(to: root)
        self.text = text
        type = checker.type(root).columnType
        nullable = checker.nullable[root]
        canonicalText = program.canonicalText(program.nodes.count - 1)
        var names: [String] = []
        for (index, node) in program.nodes.enumerated() where node.operation == .column {
            if case .text(let name) = program.constant(index, 1), !names.contains(name) { names.append(name) }
        }
        self.columns = names
    }

    /// Two expressions are equal if they mean the same over the same positions.
    public static func == (left: Expression, right: Expression) -> Bool { left.program == right.program }
    /// Hashes the meaning.
    public func hash(into hasher: inout Hasher) { hasher.combine(canonicalText) }
    /// What was written.
    public var description: String { text }

    // MARK: Values

    /// The value for one row.
    ///
    /// - Parameter cells: the row, in the order of the columns it was compiled with; missing ones at the end are null.
    public func evaluate(_ cells: [CellValue]) -> CellValue {
        program.value(root) { $0 < cells.count ? cells[$0] : .null }
    }

    /// The value for one row whose cells are found by position.
    public func evaluate(_ cell: (Int) -> CellValue) -> CellValue { program.value(root, cell) }

    /// Whether a condition holds; null is no.
    public func holds(_ cells: [CellValue]) -> Bool {
        program.bool(root) { $0 < cells.count ? cells[$0] : .null } == true
    }

    /// The functions, each with an example of how it is written; for help texts.
    public static var functions: [(name: String, usage: String)] { Checker.signatures }
}

/// The hash that `hash(x, n)` computes, for sampling.
public enum RowHash {
    /// The first four bytes of the text's MD5 as a number, modulo `buckets` (at least 1).
    public static func bucket(of text: String, buckets: Int64) -> Int64 {
        precondition(buckets > 0, "there is at least one bucket")
        return Int64(TextOperations.hash(text)) % buckets
    }
}
