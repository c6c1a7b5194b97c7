import CPostgreSQL
import StoragePorts

/// One connection, used by one thread from its beginning to its end.
final class PostgreSQLSession {
    private let connection: OpaquePointer
    private let query: RowQuery
    private var subject: String { query.subject }

    init(_ query: RowQuery, connectTimeout: Int) throws(StoreError) {
        self.query = query
        // The connection string comes first and may be a URL; what stands before it here is a default it can change.
        let settings: [(String, String)] = [
            ("connect_timeout", String(connectTimeout)), ("application_name", "bottega"),
            ("fallback_application_name", "bottega"), ("dbname", query.connection), ("client_encoding", "UTF8"),
        ]
        let opened: OpaquePointer? = Self.withTexts(settings.map(\.0)) { names in
            Self.withTexts(settings.map(\.1)) { values in PQconnectdbParams(names, values, 1) }
        }
        guard let opened else { throw StoreError(.unavailable, query.subject, "no memory for a connection") }
        connection = opened
        guard PQstatus(connection) == CONNECTION_OK else {
            let reason = Self.line(PQerrorMessage(connection))
            throw StoreError(.unavailable, query.subject, "PostgreSQL cannot be reached: \(Self.hidden(reason, query))")
        }
    }

    deinit { PQfinish(connection) }

    func read(
        portionRowCount: Int, isStopped: () -> Bool, columns: ([RowColumn]) throws -> Void,
        rows: ([[String?]]) throws -> Void
    ) throws {
        let milliseconds =
            query.statementTimeout.components.seconds * 1000
            + query.statementTimeout.components.attoseconds / 1_000_000_000_000_000
        _ = try run("SET TIME ZONE 'UTC'")
        _ = try run("SET datestyle = 'ISO, YMD'; SET extra_float_digits = 1; SET bytea_output = 'hex'")
        _ = try run("SET statement_timeout = \(milliseconds)")
        _ = try run("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        _ = try run("DECLARE bottega NO SCROLL CURSOR FOR \(query.sql)", parameter: query.parameter)
        var types: [RowColumn]?
        while !isStopped() {
            let answer = try run("FETCH FORWARD \(portionRowCount) FROM bottega")
            if types == nil {
                let found = try self.columns(of: answer)
                types = found
                try columns(found)
            }
            let portion = answer.rows()
            if portion.isEmpty { break }
            try rows(portion)
            if portion.count < portionRowCount { break }
        }
        if isStopped() { throw CancellationError() }
        _ = try run("COMMIT")
    }

    private func columns(of answer: Answer) throws(StoreError) -> [RowColumn] {
        let raw = answer.columns()
        guard !raw.isEmpty else { return [] }
        let list = raw.map { "format_type(\($0.type)::oid, \($0.modifier))" }.joined(separator: ", ")
        let names = try run("SELECT \(list)").rows().first ?? []
        return zip(raw, names).map { RowColumn(name: $0.name, type: $1 ?? "unknown") }
    }

    private func run(_ sql: String, parameter: String? = nil) throws(StoreError) -> Answer {
        let result: OpaquePointer?
        if let parameter {
            result = Self.withTexts([parameter]) { values in
                PQexecParams(connection, sql, 1, nil, values, nil, nil, 0)
            }
        } else {
            result = PQexec(connection, sql)
        }
        let answer = Answer(result)
        let status = PQresultStatus(result)
        if status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK { return answer }
        let state = answer.field(Int32(UInt8(ascii: "C")))
        let primary = answer.field(Int32(UInt8(ascii: "M"))) ?? Self.line(PQerrorMessage(connection))
        var message = Self.hidden(primary, query)
        if let hint = answer.field(Int32(UInt8(ascii: "H"))) { message += " (\(hint))" }
        switch state {
        case "57014":
            throw StoreError(
                .limitExceeded, subject, "PostgreSQL stopped the query: \(message); 'timeout' says how long it may take"
            )
        case .some(let state) where !["08", "53", "57", "58", "XX", "40"].contains(String(state.prefix(2))):
            throw StoreError(.invalidInput, subject, "PostgreSQL refuses the query: \(message) [\(state)]")
        default:
            throw StoreError(.unavailable, subject, "the connection to PostgreSQL broke off: \(message)")
        }
    }

    // MARK: C

    /// An answer; freed with its last reference.
    private final class Answer {
        private let result: OpaquePointer?

        init(_ result: OpaquePointer?) { self.result = result }
        deinit { PQclear(result) }

        func field(_ code: Int32) -> String? {
            PQresultErrorField(result, code).map { PostgreSQLSession.line($0) }
        }

        func columns() -> [(name: String, type: UInt32, modifier: Int32)] {
            (0..<PQnfields(result)).map { index in
                (
                    PQfname(result, index).map { String(cString: $0) } ?? "", PQftype(result, index),
                    PQfmod(result, index)
                )
            }
        }

        func rows() -> [[String?]] {
            let columnCount = PQnfields(result)
            return (0..<PQntuples(result)).map { row in
                (0..<columnCount).map { column in
                    if PQgetisnull(result, row, column) == 1 { return nil }
                    let bytes = UnsafeRawBufferPointer(
                        start: PQgetvalue(result, row, column), count: Int(PQgetlength(result, row, column)))
                    return String(decoding: bytes, as: UTF8.self)
                }
            }
        }
    }

    private static func withTexts<Value>(
        _ texts: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Value
    ) -> Value {
        var copies = texts.map { text in
            let bytes = UnsafeMutableBufferPointer<CChar>.allocate(capacity: text.utf8.count + 1)
            _ = bytes.initialize(from: text.utf8.map { CChar(bitPattern: $0) } + [0])
            return bytes
        }
        defer {
            for copy in copies { copy.deallocate() }
            copies = []
        }
        let pointers: [UnsafePointer<CChar>?] = copies.map { UnsafePointer($0.baseAddress) } + [nil]
        return pointers.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { preconditionFailure("a list that ends with nil is not empty") }
            return body(base)
        }
    }

    /// A message of the library in one line.
    private static func line(_ text: UnsafePointer<CChar>?) -> String {
        guard let text else { return "unknown" }
        return String(cString: text).split(whereSeparator: \.isNewline).joined(separator: " ")
    }

    /// Without the password, should a message ever repeat it.
    private static func hidden(_ message: String, _ query: RowQuery) -> String {
        let message = message.replacing(query.connection, with: "…").replacing(#/password=('[^']*'|\S+)/#, with: "…")
            .replacing(#/:\/\/[^\s@]*@/#, with: "://…@")
        return message
    }
}
