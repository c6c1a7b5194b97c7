import Foundation
import GRDB
import StoragePorts

/// Statements of one transaction, prepared once per connection.
struct SQLiteTransaction: MetadataTransaction {
    let database: Database

    func query(_ sql: String, _ arguments: [MetadataValue]) throws -> [MetadataRow] {
        do {
            let statement = try prepared(sql, arguments)
            let columns = statement.columnNames
            var rows: [MetadataRow] = []
            let cursor = try Row.fetchCursor(statement)
            while let row = try cursor.next() {
                var values: [MetadataValue] = []
                values.reserveCapacity(columns.count)
                for index in columns.indices { values.append(MetadataValue(row[index] as DatabaseValue)) }
                rows.append(MetadataRow(columns: columns, values: values))
            }
            return rows
        } catch let error as DatabaseError { throw StoreError(sqlite: error, subject: "metadata") }
    }

    @discardableResult
    func execute(_ sql: String, _ arguments: [MetadataValue]) throws -> Int {
        do {
            let before = database.totalChangesCount
            try prepared(sql, arguments).execute()
            return database.totalChangesCount - before
        } catch let error as DatabaseError { throw StoreError(sqlite: error, subject: "metadata") }
    }

    private func prepared(_ sql: String, _ arguments: [MetadataValue]) throws -> Statement {
        let clustered = "/* clustered */"
        let sql = sql.hasSuffix(clustered) ? sql.dropLast(clustered.utf8.count) + " WITHOUT ROWID" : sql
        let statement = try database.cachedStatement(sql: sql)
        var values: [DatabaseValue] = []
        values.reserveCapacity(arguments.count)
        for argument in arguments {
            if case .text(let text) = argument, text.utf8.contains(0) {
                // SQLite would keep the part before it, PostgreSQL refuses it.
                throw StoreError(.invalidInput, "metadata", "a text holds the character U+0000")
            }
            values.append(argument.databaseValue)  // no key path in a map: it cost a sixth of a large batch
        }
        try statement.setArguments(StatementArguments(values))
        return statement
    }
}

extension MetadataValue {
    fileprivate var databaseValue: DatabaseValue {
        switch self {
        case .null: .null
        case .integer(let value): value.databaseValue
        case .real(let value): value.databaseValue
        case .text(let value): value.databaseValue
        case .blob(let value): Data(value).databaseValue
        }
    }

    fileprivate init(_ value: DatabaseValue) {
        switch value.storage {
        case .null: self = .null
        case .int64(let value): self = .integer(value)
        case .double(let value): self = .real(value)
        case .string(let value): self = .text(value)
        case .blob(let value): self = .blob([UInt8](value))
        }
    }
}

extension StoreError {
    /// SQLite's failure in the platform's words.
    ///
    /// The message names tables and columns, never values.
    init(sqlite error: any Error, subject: String) {
        guard let error = error as? DatabaseError else {
            self.init(.unavailable, subject, "the database failed", cause: error)
            return
        }
        let text = error.message ?? "no message"
        switch error.resultCode {
        case .SQLITE_CONSTRAINT:
            // "UNIQUE constraint failed: experiment.name" and the like.
            let parts = text.split(separator: ": ", maxSplits: 1)
            let columns = parts.count == 2 ? String(parts[1]) : subject
            let message =
                switch error.extendedResultCode {
                case .SQLITE_CONSTRAINT_UNIQUE, .SQLITE_CONSTRAINT_PRIMARYKEY: "a row with the same key exists already"
                case .SQLITE_CONSTRAINT_FOREIGNKEY: "the row refers to one that does not exist, or is still referred to"
                case .SQLITE_CONSTRAINT_NOTNULL: "a value is missing"
                default: "a stated condition of the table does not hold"
                }
            self.init(.conflict, columns, message)
        case .SQLITE_FULL:
            self.init(.full, subject, "no space is left on the disk; free some and try again")
        case .SQLITE_CORRUPT, .SQLITE_NOTADB:
            self.init(.corrupted, subject, "the file is damaged or is no database; restore it from a backup (\(text))")
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            self.init(.locked, subject, "another process holds the database; stop it or wait")
        case .SQLITE_READONLY:
            self.init(.invalidInput, subject, "a read must not write, or the file is read-only")
        case .SQLITE_ERROR, .SQLITE_RANGE, .SQLITE_MISUSE, .SQLITE_MISMATCH, .SQLITE_AUTH:
            self.init(.invalidInput, subject, "the statement cannot run: \(text)")
        case .SQLITE_TOOBIG: self.init(.limitExceeded, subject, "a value is larger than the database takes")
        case .SQLITE_NOMEM: self.init(.limitExceeded, subject, "no memory is left for the statement")
        default: self.init(.unavailable, subject, "the database failed: \(text)", cause: error)
        }
    }
}
