public import PlatformCore

/// How a clause compares.
public enum SearchComparison: String, Sendable, CaseIterable {
    /// `=`
    case equal = "="
    /// `!=`
    case notEqual = "!="
    /// `<`
    case less = "<"
    /// `<=`
    case lessOrEqual = "<="
    /// `>`
    case greater = ">"
    /// `>=`
    case greaterOrEqual = ">="
    /// `LIKE`: `%` stands for any text, `_` for one character; case matters.
    case like = "LIKE"
    /// `LIKE` that does not mind case.
    case ilike = "ILIKE"
    /// `IN (…)`
    case isIn = "IN"
    /// `NOT IN (…)`
    case isNotIn = "NOT IN"
    /// `IS NULL`
    case isNull = "IS NULL"
    /// `IS NOT NULL`
    case isNotNull = "IS NOT NULL"

    /// Whether it asks for an order of numbers.
    public var isOrdering: Bool { [.less, .lessOrEqual, .greater, .greaterOrEqual].contains(self) }
}

/// What a clause compares with.
public enum SearchOperand: Hashable, Sendable {
    /// Nothing, for `IS NULL`.
    case none
    /// Text in quotes.
    case text(String)
    /// A bare number.
    case number(Double)
    /// A list of texts, for `IN`.
    case texts([String])
}

/// One clause of a filter: `metrics.auc > 0.8`.
public struct SearchClause: Hashable, Sendable {
    /// The part before the dot in lower case, `metrics`; `nil` for a bare attribute.
    public let entity: String?
    /// The key without quotes.
    public let key: String
    /// The comparison.
    public let comparison: SearchComparison
    /// The right side.
    public let operand: SearchOperand

    /// Makes a clause.
    public init(entity: String?, key: String, comparison: SearchComparison, operand: SearchOperand) {
        self.entity = entity
        self.key = key
        self.comparison = comparison
        self.operand = operand
    }
}

/// A search filter as MLflow's clients write it: clauses joined by `AND`.
///
/// `filter := clause (AND clause)*`, `clause := [entity "."] key op value | key IS [NOT] NULL`; no `OR`, no parentheses
/// but around a list. Keys may be bare, back-quoted or in double quotes; values are quoted text or bare numbers.
public struct SearchFilter: Hashable, Sendable {
    /// The clauses, all of which must hold.
    public let clauses: [SearchClause]

    /// Longest accepted filter in bytes.
    public static let byteCountMax = 65_536
    /// Most accepted clauses.
    public static let clauseCountMax = 100

    /// A filter that everything passes.
    public static let all = SearchFilter(clauses: [])

    private init(clauses: [SearchClause]) { self.clauses = clauses }

    /// Reads a filter; empty text passes everything.
    /// - Throws: `PlatformError` (`invalidInput`) that says where the text stops making sense.
    public init(_ text: String) throws(PlatformError) {
        var parser = SearchParser(tokens: try SearchToken.tokens(of: text), text: text)
        clauses = try parser.filter()
    }
}

/// One sort key: `metrics.auc DESC`.
public struct SearchOrder: Hashable, Sendable {
    /// The part before the dot in lower case; `nil` for an attribute.
    public let entity: String?
    /// The key without quotes.
    public let key: String
    /// Whether small values come first.
    public let isAscending: Bool

    /// Most accepted sort keys; each may be a join, and SQLite takes 64 of them.
    public static let countMax = 30

    /// Makes a sort key.
    public init(entity: String?, key: String, isAscending: Bool) {
        self.entity = entity
        self.key = key
        self.isAscending = isAscending
    }

    /// Reads `[entity.]key [ASC|DESC]`.
    /// - Throws: `PlatformError` (`invalidInput`).
    public init(_ text: String) throws(PlatformError) {
        var parser = SearchParser(tokens: try SearchToken.tokens(of: text), text: text)
        self = try parser.order()
    }

    /// Reads several sort keys; naming one twice is an error.
    public static func list(_ texts: [String]) throws(PlatformError) -> [SearchOrder] {
        guard texts.count <= countMax else {
            throw PlatformError(.invalidInput, "order_by", "more than \(countMax) sort keys")
        }
        var orders: [SearchOrder] = []
        for text in texts {
            let order = try SearchOrder(text)
            if orders.contains(where: { $0.entity == order.entity && $0.key == order.key }) {
                throw PlatformError(.invalidInput, "order_by", "the sort key '\(order.key)' is named twice")
            }
            orders.append(order)
        }
        return orders
    }
}
