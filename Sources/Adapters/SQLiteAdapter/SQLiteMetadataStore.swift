import GRDB
public import StoragePorts
import Synchronization

/// The platform's relational memory in one SQLite file.
///
/// Write-ahead log with `synchronous=FULL`: an acknowledged write survives `kill -9` and loss of power. Writes that wait
/// for each other share one commit (each in its own savepoint), so the disk is asked once per group and not once per
/// write. `LIKE` is case-sensitive, as in PostgreSQL. A `CREATE TABLE` that ends in `/* clustered */` keeps its rows in
/// the primary key's tree (`WITHOUT ROWID`) and not beside it.
public final class SQLiteMetadataStore: MetadataStore {
    private let pool: DatabasePool
    private let pending = Mutex(PendingWrites())  // held for an append or a swap, never during a statement
    private let writesPerGroupMax: Int
    private let pendingWritesMax: Int

    private struct PendingWrites {
        var waiting: [any PendingWrite] = []
        var isDraining = false
    }

    /// Opens the file at `path`, or makes it; its folder exists already.
    ///
    /// - Parameters:
    ///   - path: the database file; its `-wal` and `-shm` files lie beside it.
    ///   - readerCountMax: connections that read at the same time.
    ///   - busyMillisecondsMax: how long a statement waits for another process.
    ///   - writesPerGroupMax: most writes in one commit.
    ///   - pendingWritesMax: most writes that may wait; one more is refused with `limitExceeded`.
    /// - Throws: `corrupted` for a file that is no database, `locked`, `unavailable`.
    public init(
        path: String, readerCountMax: Int = 4, busyMillisecondsMax: Int = 5000, writesPerGroupMax: Int = 128,
        pendingWritesMax: Int = 16_384
    ) throws(StoreError) {
        var configuration = Configuration()
        configuration.label = "metadata"
        configuration.maximumReaderCount = readerCountMax
        configuration.busyMode = .timeout(Double(busyMillisecondsMax) / 1000)
        configuration.foreignKeysEnabled = true
        configuration.prepareDatabase { database in
            try database.execute(sql: "PRAGMA case_sensitive_like = ON")
            try database.execute(sql: "PRAGMA cache_size = -4000")
            // Searches touch thousands of pages; a copy of each by a system call cost as much as the search itself.
            try database.execute(sql: "PRAGMA mmap_size = 2147418112")
        }
        do {
            pool = try DatabasePool(path: path, configuration: configuration)
            // Here and not in `prepareDatabase`: opening a pool sets NORMAL after it, which does not wait for the disk.
            try pool.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = FULL") }
        } catch {
            throw StoreError(sqlite: error, subject: path)
        }
        self.writesPerGroupMax = writesPerGroupMax
        self.pendingWritesMax = pendingWritesMax
    }

    /// Closes every connection after the work in hand.
    ///
    /// Later calls fail with `unavailable`.
    public func close() throws(StoreError) {
        do { try pool.close() } catch { throw StoreError(sqlite: error, subject: "metadata") }
    }

    /// Runs the steps that have not run yet, each once and all of one call in one transaction.
    /// - Throws: `preconditionFailed` if a step that has run is given with other statements.
    public func migrate(_ steps: [MetadataMigration]) async throws {
        let known = try? await read { try Self.migrationsDone($0) }
        if let known, try Self.remaining(steps, known: known).isEmpty { return }
        try await write { transaction in
            try transaction.execute(
                "CREATE TABLE IF NOT EXISTS metadata_migration (name TEXT PRIMARY KEY, statements TEXT NOT NULL)")
            for step in try Self.remaining(steps, known: Self.migrationsDone(transaction)) {
                for statement in step.statements { try transaction.execute(statement) }
                try transaction.execute(
                    "INSERT INTO metadata_migration (name, statements) VALUES (?, ?)",
                    [.text(step.name), .text(step.statements.joined(separator: ";\n"))])
            }
        }
    }

    private static func migrationsDone(_ transaction: any MetadataTransaction) throws -> [String: String] {
        let rows = try transaction.query("SELECT name, statements FROM metadata_migration")
        return Dictionary(rows.map { ($0.text("name"), $0.text("statements")) }, uniquingKeysWith: { $1 })
    }

    private static func remaining(_ steps: [MetadataMigration], known: [String: String]) throws -> [MetadataMigration] {
        try steps.filter { step in
            guard let statements = known[step.name] else { return true }
            guard statements == step.statements.joined(separator: ";\n") else {
                throw StoreError(
                    .preconditionFailed, "migration/\(step.name)",
                    "this step has run with other statements; a shipped step never changes")
            }
            return false
        }
    }

    /// Runs `body` on one consistent state; a statement in it that would write is refused with `invalidInput`.
    public func read<Value: Sendable>(
        _ body: @escaping @Sendable (any MetadataTransaction) throws -> Value
    ) async throws -> Value {
        do {
            return try await pool.read { database in
                try body(SQLiteTransaction(database: database))
            }
        } catch let error as DatabaseError {
            throw StoreError(sqlite: error, subject: "metadata")
        }
    }

    /// Runs `body` in one transaction and returns when it is on the disk.
    public func write<Value: Sendable>(
        _ body: @escaping @Sendable (any MetadataTransaction) throws -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            let write = Write(body: body, continuation: continuation)
            let (accepted, mustStart) = pending.withLock { state in
                guard state.waiting.count < pendingWritesMax else { return (false, false) }
                state.waiting.append(write)
                defer { state.isDraining = true }
                return (true, !state.isDraining)
            }
            if !accepted {
                write.finish(
                    StoreError(.limitExceeded, "metadata", "\(pendingWritesMax) writes wait already; try again later"))
            }
            if mustStart { pool.asyncWriteWithoutTransaction { self.drain($0) } }
        }
    }

    /// Runs waiting writes until none is left.
    ///
    /// Called on the writer's queue alone.
    private func drain(_ database: Database) {
        while true {
            let group = pending.withLock { state in
                let group = Array(state.waiting.prefix(writesPerGroupMax))
                state.waiting.removeFirst(group.count)
                if group.isEmpty { state.isDraining = false }
                return group
            }
            if group.isEmpty { return }
            do {
                try database.inTransaction(.immediate) {
                    let transaction = SQLiteTransaction(database: database)
                    for write in group {
                        // A lone write needs no savepoint: when it throws, the transaction rolls back.
                        if group.count == 1 {
                            try write.run(transaction)
                        } else {
                            try write.runInSavepoint(transaction)
                        }
                    }
                    return .commit
                }
                for write in group { write.finish(nil) }
            } catch {
                let failure = (error as? DatabaseError).map { StoreError(sqlite: $0, subject: "metadata") } ?? error
                for write in group { write.finish(failure) }
            }
        }
    }
}

/// A write that waits for its turn, whatever its value.
private protocol PendingWrite: Sendable {
    func run(_ transaction: SQLiteTransaction) throws
    func runInSavepoint(_ transaction: SQLiteTransaction) throws
    /// Answers the caller: with `failure`, else with what the body gave or threw.
    func finish(_ failure: (any Error)?)
}

private final class Write<Value: Sendable>: PendingWrite {
    private let body: @Sendable (any MetadataTransaction) throws -> Value
    private let continuation: CheckedContinuation<Value, any Error>
    private let result = Mutex<Result<Value, any Error>?>(nil)

    init(
        body: @escaping @Sendable (any MetadataTransaction) throws -> Value,
        continuation: CheckedContinuation<Value, any Error>
    ) {
        self.body = body
        self.continuation = continuation
    }

    func run(_ transaction: SQLiteTransaction) throws {
        let value = try body(transaction)
        result.withLock { $0 = .success(value) }
    }

    func runInSavepoint(_ transaction: SQLiteTransaction) throws {
        var bodyFailure: (any Error)?
        do {
            try transaction.database.inSavepoint {
                do { try run(transaction) } catch {
                    bodyFailure = error
                    return .rollback
                }
                return .commit
            }
        } catch {
            // The disk is full or the transaction is gone: the whole group fails with it.
            if !transaction.database.isInsideTransaction || bodyFailure == nil { throw error }
        }
        if let bodyFailure {
            if !transaction.database.isInsideTransaction { throw bodyFailure }
            result.withLock { $0 = .failure(bodyFailure) }
        }
    }

    func finish(_ failure: (any Error)?) {
        if let failure { return continuation.resume(throwing: failure) }
        switch result.withLock({ $0 }) {
        case .success(let value): continuation.resume(returning: value)
        case .failure(let error): continuation.resume(throwing: error)
        case nil: continuation.resume(throwing: StoreError(.unavailable, "metadata", "the write did not run"))
        }
    }
}
