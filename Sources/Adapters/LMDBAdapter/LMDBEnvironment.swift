import CLMDB
import Glibc
import StoragePorts
import Synchronization

/// An open LMDB environment with its two tables, and a pool of read transactions.
@safe final class LMDBEnvironment: @unchecked Sendable {  // the handles are set once; LMDB lets any thread use them
    let rows: MDB_dbi
    let checkpoints: MDB_dbi
    private let handle: OpaquePointer
    private let identity: FileIdentity
    /// Read transactions at rest.
    ///
    /// Renewing one takes a fraction of beginning one.
    private let idle = Mutex<[ReadTransaction]>([])
    private static let idleCountMax = 64

    /// Opens the environment in a folder that exists.
    init(directory: String, configuration: LMDBConfiguration) throws(StoreError) {
        identity = try FileIdentity(claiming: directory)
        var created: OpaquePointer?
        do throws(StoreError) {
            try check(unsafe mdb_env_create(&created), "creating the environment")
            guard let environment = unsafe created else { throw storeFailure(ENOMEM, "creating the environment") }
            try check(unsafe mdb_env_set_mapsize(environment, configuration.mapByteCountMax), "setting the map size")
            try check(unsafe mdb_env_set_maxreaders(environment, 1_024), "setting the number of readers")
            try check(unsafe mdb_env_set_maxdbs(environment, 4), "setting the number of tables")
            var flags = UInt32(MDB_NOTLS) | UInt32(MDB_NORDAHEAD)
            if !configuration.synchronizes { flags |= UInt32(MDB_NOMETASYNC) }
            try check(unsafe mdb_env_open(environment, directory, flags, 0o644), "opening \(directory)")
            var dead: Int32 = 0
            try check(unsafe mdb_reader_check(environment, &dead), "checking for readers that have died")
            try unsafe Self.extendFile(of: environment)
            (rows, checkpoints) = try unsafe Self.openTables(of: environment)
            unsafe handle = environment
        } catch {
            if let created = unsafe created { unsafe mdb_env_close(created) }
            identity.release()
            throw error
        }
    }

    deinit {
        for transaction in idle.withLock({ $0 }) { transaction.abort() }
        unsafe mdb_env_close(handle)
        identity.release()
    }

    /// Makes the file as long as its last used page says it is.
    ///
    /// A file that was cut would otherwise kill the process when a page behind its end is touched; so it reads as zeros,
    /// which LMDB reports as damage.
    private static func extendFile(of environment: OpaquePointer) throws(StoreError) {
        var info = unsafe MDB_envinfo()
        var statistics = MDB_stat()
        var descriptor: Int32 = -1
        try check(unsafe mdb_env_info(environment, &info), "looking at the environment")
        try check(unsafe mdb_env_stat(environment, &statistics), "looking at the environment")
        try check(unsafe mdb_env_get_fd(environment, &descriptor), "looking at the environment")
        let needed = (unsafe info.me_last_pgno + 1) * Int(statistics.ms_psize)
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0, Int(status.st_size) < needed else { return }
        guard ftruncate(descriptor, needed) == 0 else { throw storeFailure(errno, "extending a cut file") }
    }

    private static func openTables(of environment: OpaquePointer) throws(StoreError) -> (MDB_dbi, MDB_dbi) {
        var started: OpaquePointer?
        try check(unsafe mdb_txn_begin(environment, nil, 0, &started), "beginning a transaction")
        guard let transaction = unsafe started else { throw storeFailure(ENOMEM, "beginning a transaction") }
        var rows: MDB_dbi = 0
        var checkpoints: MDB_dbi = 0
        do throws(StoreError) {
            try check(unsafe mdb_dbi_open(transaction, "rows", UInt32(MDB_CREATE), &rows), "opening the rows")
            try check(
                unsafe mdb_dbi_open(transaction, "checkpoints", UInt32(MDB_CREATE), &checkpoints),
                "opening the checkpoints")
        } catch {
            unsafe mdb_txn_abort(transaction)
            throw error
        }
        try check(unsafe mdb_txn_commit(transaction), "opening the tables")
        return (rows, checkpoints)
    }

    // MARK: Transactions

    /// Runs `body` on one consistent state.
    ///
    /// Never waits for a writer.
    func read<Value>(_ body: (LMDBTransaction) throws(StoreError) -> Value) throws(StoreError) -> Value {
        let transaction = try readTransaction()
        defer {
            transaction.reset()
            let kept = idle.withLock { idle in
                if idle.count >= Self.idleCountMax { return false }
                idle.append(transaction)
                return true
            }
            if !kept { transaction.abort() }
        }
        return try body(transaction.content)
    }

    private func readTransaction() throws(StoreError) -> ReadTransaction {
        if let transaction = idle.withLock({ $0.popLast() }) { return try transaction.renewed() }
        return try unsafe ReadTransaction(of: handle)
    }

    /// Runs `body` in one transaction that is on the disk when this returns, or has changed nothing when it throws.
    ///
    /// Waits for the writer of another process; begins and ends on the calling thread, as LMDB demands.
    func write<Value>(_ body: (LMDBTransaction) throws(StoreError) -> Value) throws(StoreError) -> Value {
        var started: OpaquePointer?
        try check(unsafe mdb_txn_begin(handle, nil, 0, &started), "beginning a transaction")
        guard let transaction = unsafe started else { throw storeFailure(ENOMEM, "beginning a transaction") }
        let value: Value
        do throws(StoreError) { value = try body(unsafe LMDBTransaction(handle: transaction)) } catch {
            unsafe mdb_txn_abort(transaction)
            throw error
        }
        try check(unsafe mdb_txn_commit(transaction), "committing")
        return value
    }
}

/// A read transaction that is used by one thread at a time.
@safe private struct ReadTransaction: @unchecked Sendable {  // in use by one call, or in the pool under its lock
    private let handle: OpaquePointer

    init(of environment: OpaquePointer) throws(StoreError) {
        var started: OpaquePointer?
        try check(unsafe mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &started), "beginning to read")
        guard let transaction = unsafe started else { throw storeFailure(ENOMEM, "beginning to read") }
        unsafe handle = transaction
    }

    var content: LMDBTransaction { unsafe LMDBTransaction(handle: handle) }

    func renewed() throws(StoreError) -> ReadTransaction {
        let outcome = unsafe mdb_txn_renew(handle)
        if outcome != MDB_SUCCESS { abort() }
        try check(outcome, "beginning to read")
        return self
    }
    func reset() { unsafe mdb_txn_reset(handle) }
    func abort() { unsafe mdb_txn_abort(handle) }
}

/// Keeps one process from opening an environment twice: LMDB's file locks belong to the process, so that closing one
/// would silently unlock the other.
private struct FileIdentity: Hashable, Sendable {
    private let device: UInt64
    private let inode: UInt64
    private static let open = Mutex<Set<FileIdentity>>([])

    /// Tries for a quarter of a second, for an environment that was let go a moment ago.
    init(claiming directory: String) throws(StoreError) {
        var status = stat()
        guard unsafe stat(directory, &status) == 0 else { throw storeFailure(errno, "opening \(directory)") }
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        var tries = 0
        while !Self.open.withLock({ [self] in $0.insert(self).inserted }) {
            tries += 1
            guard tries <= 25 else {
                throw StoreError(.locked, "online store", "this process has \(directory) open already")
            }
            usleep(10_000)
        }
    }

    func release() { Self.open.withLock { _ = $0.remove(self) } }
}
