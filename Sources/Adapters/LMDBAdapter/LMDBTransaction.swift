import CLMDB
import Glibc
import StoragePorts

/// Turns an answer of LMDB, or an error number of the system, into the port's error.
func storeFailure(_ outcome: Int32, _ doing: String) -> StoreError {
    let code: StoreError.Code =
        switch outcome {
        case MDB_MAP_FULL, ENOSPC, EDQUOT, EFBIG: .full
        case MDB_NOTFOUND, ENOENT: .notFound
        case MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_INVALID, MDB_VERSION_MISMATCH, MDB_INCOMPATIBLE: .corrupted
        case MDB_BAD_VALSIZE: .invalidInput
        case MDB_READERS_FULL, MDB_TXN_FULL: .limitExceeded
        default: .unavailable
        }
    let reason = unsafe mdb_strerror(outcome).map { unsafe String(cString: $0) } ?? "error \(outcome)"
    return StoreError(code, "online store", "\(doing): \(reason)")
}

/// Throws unless `outcome` is success.
func check(_ outcome: Int32, _ doing: @autoclosure () -> String) throws(StoreError) {
    if outcome != MDB_SUCCESS { throw storeFailure(outcome, doing()) }
}

/// What can be done inside a transaction.
///
/// Bytes that it gives are in the mapped file and live as long as the transaction, or until its next write.
@safe struct LMDBTransaction {
    private let handle: OpaquePointer

    init(handle: OpaquePointer) { unsafe self.handle = unsafe handle }

    /// The value of a key, `nil` if there is none.
    func value(of key: [UInt8], in table: MDB_dbi) throws(StoreError) -> UnsafeRawBufferPointer? {
        var found = unsafe MDB_val()
        let outcome = unsafe key.withUnsafeBytes { key in
            var wanted = unsafe key.value
            return unsafe mdb_get(handle, table, &wanted, &found)
        }
        if outcome == MDB_NOTFOUND { return nil }
        try check(outcome, "reading")
        return unsafe UnsafeRawBufferPointer(start: found.mv_data, count: found.mv_size)
    }

    /// Keeps a value under a key, in place of the one before.
    func put(_ value: [UInt8], at key: [UInt8], in table: MDB_dbi) throws(StoreError) {
        let outcome = unsafe key.withUnsafeBytes { key in
            unsafe value.withUnsafeBytes { value in
                var place = unsafe key.value
                var content = unsafe value.value
                return unsafe mdb_put(handle, table, &place, &content, 0)
            }
        }
        try check(outcome, "writing")
    }

    /// Removes a key.
    func remove(_ key: [UInt8], in table: MDB_dbi) throws(StoreError) {
        let outcome = unsafe key.withUnsafeBytes { key in
            var place = unsafe key.value
            return unsafe mdb_del(handle, table, &place, nil)
        }
        if outcome != MDB_NOTFOUND { try check(outcome, "removing") }
    }

    /// Calls `body` with the keys that begin with `prefix`, in byte order, until it gives `false`.
    func forEach(
        prefix: [UInt8], in table: MDB_dbi,
        _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws -> Bool
    ) throws {
        var opened: OpaquePointer?
        try check(unsafe mdb_cursor_open(handle, table, &opened), "reading")
        guard let cursor = unsafe opened else { throw storeFailure(ENOMEM, "reading") }
        defer { unsafe mdb_cursor_close(cursor) }
        var key = unsafe MDB_val()
        var value = unsafe MDB_val()
        var outcome = unsafe prefix.withUnsafeBytes { start in
            unsafe key = start.value
            return unsafe mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE)
        }
        while outcome == MDB_SUCCESS {
            let found = unsafe UnsafeRawBufferPointer(start: key.mv_data, count: key.mv_size)
            guard unsafe found.starts(with: prefix) else { return }
            let content = unsafe UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size)
            guard try unsafe body(found, content) else { return }
            outcome = unsafe mdb_cursor_get(cursor, &key, &value, MDB_NEXT)
        }
        if outcome != MDB_NOTFOUND { try check(outcome, "reading") }
    }
}

extension UnsafeRawBufferPointer {
    /// The same bytes as LMDB wants them; it does not change what it is given to read.
    fileprivate var value: MDB_val {
        unsafe MDB_val(mv_size: count, mv_data: UnsafeMutableRawPointer(mutating: baseAddress))
    }
}
