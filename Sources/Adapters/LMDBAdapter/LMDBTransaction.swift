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

    /// Runs `body` with a cursor over a table: keys that are visited in their order are found without a way down the tree.
    func withCursor(in table: MDB_dbi, _ body: (LMDBCursor) throws(StoreError) -> Void) throws(StoreError) {
        var opened: OpaquePointer?
        try check(unsafe mdb_cursor_open(handle, table, &opened), "writing")
        guard let cursor = unsafe opened else { throw storeFailure(ENOMEM, "writing") }
        defer { unsafe mdb_cursor_close(cursor) }
        try body(unsafe LMDBCursor(handle: cursor))
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

/// A place in a table, inside a transaction that writes.
@safe struct LMDBCursor {
    private let handle: OpaquePointer

    init(handle: OpaquePointer) { unsafe self.handle = unsafe handle }

    /// Keeps a value of `byteCount` bytes under a key, in place of the one before, unless `accepts` refuses.
    ///
    /// - Parameters:
    ///   - accepts: is given the value before; `false` leaves it.
    ///   - fill: writes every byte of the new one.
    func put(
        byteCount: Int, at key: [UInt8], replacing accepts: (UnsafeRawBufferPointer) throws(StoreError) -> Bool,
        _ fill: (UnsafeMutableRawBufferPointer) -> Void
    ) throws(StoreError) {
        var before = unsafe MDB_val()
        let found = unsafe key.withUnsafeBytes { key in
            var place = unsafe key.value
            return unsafe mdb_cursor_get(handle, &place, &before, MDB_SET)
        }
        var flags = UInt32(MDB_RESERVE)
        if found != MDB_NOTFOUND {
            try check(found, "reading")
            guard try unsafe accepts(UnsafeRawBufferPointer(start: before.mv_data, count: before.mv_size)) else {
                return
            }
            flags |= UInt32(MDB_CURRENT)
        }
        var content = unsafe MDB_val(mv_size: byteCount, mv_data: nil)
        let outcome = unsafe key.withUnsafeBytes { key in
            var place = unsafe key.value
            return unsafe mdb_cursor_put(handle, &place, &content, flags)
        }
        try check(outcome, "writing")
        unsafe fill(UnsafeMutableRawBufferPointer(start: content.mv_data, count: byteCount))
    }
}

extension UnsafeRawBufferPointer {
    /// The same bytes as LMDB wants them; it does not change what it is given to read.
    fileprivate var value: MDB_val {
        unsafe MDB_val(mv_size: count, mv_data: UnsafeMutableRawPointer(mutating: baseAddress))
    }
}
