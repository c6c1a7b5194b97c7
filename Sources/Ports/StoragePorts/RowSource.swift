/// A column of a query's answer.
public struct RowColumn: Sendable, Hashable {
    /// Its name.
    public let name: String
    /// Its type in the database's own words: `numeric`, `timestamp with time zone`.
    public let type: String
    /// Makes a column.
    public init(name: String, type: String) {
        self.name = name
        self.type = type
    }
}

/// A query against a database that is not the platform's.
public struct RowQuery: Sendable {
    /// How to reach it, password and all; never shown.
    public let connection: String
    /// What errors are about: `source/orders`.
    public let subject: String
    /// The query; `$1` is the parameter.
    public let sql: String
    /// Value of `$1`, if the query has one.
    public let parameter: String?
    /// Time that one statement may take.
    public let statementTimeout: Duration
    /// Makes a query.
    public init(
        connection: String, subject: String, sql: String, parameter: String? = nil,
        statementTimeout: Duration = .seconds(300)
    ) {
        self.connection = connection
        self.subject = subject
        self.sql = sql
        self.parameter = parameter
        self.statementTimeout = statementTimeout
    }
}

/// Reads rows of an outside database.
public protocol RowSource: Sendable {
    /// Runs a query on one consistent, read-only state; memory does not grow with the answer.
    ///
    /// - Parameters:
    ///   - query: what to ask.
    ///   - columns: called once, before any row.
    ///   - rows: called with portions of rows, in order; a cell is the value's text in UTC and ISO format, or null.
    /// - Throws: `StoreError`: `unavailable` if the database cannot be reached, refuses the login or breaks off,
    ///   `invalidInput` for a query that it refuses, `limitExceeded` for the timeout; or what the closures throw.
    func read(
        _ query: RowQuery, columns: @escaping @Sendable ([RowColumn]) throws -> Void,
        rows: @escaping @Sendable ([[String?]]) throws -> Void
    ) async throws
}
