import PlatformCore
import StoragePorts

/// A search as SQL, page by page in the order of its terms.
///
/// Each page begins behind the last row of the one before, so a later page costs no more than the first.
struct KeysetQuery {
    typealias Fragment = RunQuery.Fragment

    /// The table and its alias: `tracking_trace t`.
    let table: String
    let alias: String
    /// What of a row is wanted; all of it unless said.
    var selection: String
    var conditions: [Fragment] = []
    /// Expressions of the order, each under the name `place` and its position.
    private var columns: [Fragment] = []
    private var terms: [RunQuery.Term] = []

    var termCount: Int { terms.count }

    init(_ table: String, alias: String) {
        (self.table, self.alias) = (table, alias)
        selection = "\(alias).*"
    }

    mutating func require(_ sql: String, _ arguments: [MetadataValue] = []) {
        conditions.append(Fragment(sql: sql, arguments: arguments))
    }

    /// Requires that a column holds one of some numbers.
    mutating func require(numbers column: String, _ numbers: [Int64]) {
        let marks = Array(repeating: "?", count: numbers.count).joined(separator: ", ")
        require(
            numbers.count == 1 ? "\(column) = ?" : "\(column) IN (\(marks))", numbers.map(MetadataValue.integer))
    }

    mutating func order(by sql: String, _ arguments: [MetadataValue] = [], isAscending: Bool) {
        columns.append(Fragment(sql: "\(sql) AS place\(terms.count)", arguments: arguments))
        terms.append(RunQuery.Term(sql: "found.place\(terms.count)", isAscending: isAscending))
    }

    /// Orders by a column that may hold nothing, which comes last in both directions.
    mutating func order(byOptional column: String, isAscending: Bool) {
        order(by: "CASE WHEN \(column) IS NULL THEN 1 ELSE 0 END", isAscending: true)
        order(by: column, isAscending: isAscending)
    }

    /// Orders by the value of a key in a table of keys and values; what lacks the key comes last.
    mutating func order(byValueIn table: String, where owner: String, key: String, isAscending: Bool) {
        let from = "FROM \(table) v WHERE \(owner) AND v.key = ?"
        order(by: "CASE WHEN EXISTS (SELECT 1 \(from)) THEN 0 ELSE 1 END", [.text(key)], isAscending: true)
        order(by: "(SELECT v.value \(from))", [.text(key)], isAscending: isAscending)
    }

    /// Requires something of the value of a key in a table of keys and values.
    mutating func require(valueIn table: String, where owner: String, key: String, _ clause: SearchClause)
        throws(PlatformError)
    {
        let negation = clause.comparison == .isNull ? "NOT " : ""
        let (test, arguments) = clause.isNullCheck ? ("1 = 1", []) : try RunQuery.textTest("v.value", clause)
        require(
            "\(negation)EXISTS (SELECT 1 FROM \(table) v WHERE \(owner) AND v.key = ? AND \(test))",
            [.text(key)] + arguments)
    }

    /// Requires something of a column of text.
    mutating func require(text column: String, _ clause: SearchClause) throws(PlatformError) {
        if clause.isNullCheck { return require("\(column) \(clause.comparison.sql)") }
        let (test, arguments) = try RunQuery.textTest(column, clause)
        require(test, arguments)
    }

    /// Requires something of a column of numbers.
    mutating func require(number column: String, _ clause: SearchClause) throws(PlatformError) {
        if clause.isNullCheck { return require("\(column) \(clause.comparison.sql)") }
        let (number, comparison) = try clause.number()
        require("\(column) \(comparison) ?", [.real(number)])
    }

    /// Rows of one page.
    func rows(
        behind place: [MetadataValue]?, countMax: Int, _ transaction: any MetadataTransaction
    ) throws -> [MetadataRow] {
        let question = statement(behind: place, countMax: countMax)
        return try transaction.query(question.sql, question.arguments)
    }

    /// How the database goes about a page, step by step.
    func plan(
        behind place: [MetadataValue]?, countMax: Int, _ transaction: any MetadataTransaction
    ) throws -> [String] {
        let question = statement(behind: place, countMax: countMax)
        return try transaction.query("EXPLAIN QUERY PLAN " + question.sql, question.arguments).map { $0.text("detail") }
    }

    private func statement(behind place: [MetadataValue]?, countMax: Int) -> Fragment {
        let behind = place.map { RunQuery.behind($0, terms) }
        let order = terms.map { "\($0.sql) \($0.isAscending ? "ASC" : "DESC")" }.joined(separator: ", ")
        let conditions = conditions.isEmpty ? [Fragment(sql: "1 = 1", arguments: [])] : conditions
        return Fragment(
            sql: """
                SELECT * FROM (SELECT \(selection), \(columns.map(\.sql).joined(separator: ", ")) FROM \(table) \(alias)
                WHERE \(conditions.map(\.sql).joined(separator: " AND "))) found
                \(behind.map { "WHERE \($0.sql)" } ?? "") ORDER BY \(order) LIMIT \(countMax)
                """,
            arguments: columns.flatMap(\.arguments) + conditions.flatMap(\.arguments) + (behind?.arguments ?? []))
    }

    /// Where a row stands in the order.
    func place(of row: MetadataRow) -> [MetadataValue] { terms.indices.map { row["place\($0)"] } }
}

extension SearchClause {
    var isNullCheck: Bool { comparison == .isNull || comparison == .isNotNull }

    /// The number that the clause compares with, and how in SQL.
    func number() throws(PlatformError) -> (Double, comparison: String) {
        guard case .number(let number) = operand, comparison.isOrdering || isEquality else {
            throw PlatformError(.invalidInput, "filter", "'\(key)' is compared with a bare number")
        }
        return (number, comparison.sql)
    }
}

/// A page of rows, and where the one behind it begins.
struct KeysetPage: Sendable {
    let rows: [MetadataRow]
    let last: [MetadataValue]?
}

extension KeysetQuery {
    /// The first rows of a page as a page.
    func beginning(_ count: Int, of page: KeysetPage) -> KeysetPage {
        if count >= page.rows.count { return page }
        let rows = Array(page.rows.prefix(count))
        return KeysetPage(rows: rows, last: rows.last.map(place))
    }

    /// One page of a search whose tokens are bound to `question`.
    func page(
        behind place: [MetadataValue]?, countMax: Int, _ transaction: any MetadataTransaction
    ) throws -> KeysetPage {
        let rows = try rows(behind: place, countMax: countMax + 1, transaction)
        return KeysetPage(
            rows: Array(rows.prefix(countMax)), last: rows.count > countMax ? self.place(of: rows[countMax - 1]) : nil)
    }
}

extension TrackingStore {
    /// Where the page of a token begins; `nil` for the first page.
    func place(_ token: String?, question: JSONValue, _ query: KeysetQuery) throws(PlatformError) -> [MetadataValue]? {
        guard let token, !token.isEmpty else { return nil }
        return try Self.place(pageSeal.place(token, question: question), termCount: query.termCount)
    }

    /// The token of the page behind another; `nil` if there is none.
    func token(behind page: KeysetPage, question: JSONValue) -> String? {
        page.last.map { pageSeal.token(Self.json($0), question: question) }
    }
}
