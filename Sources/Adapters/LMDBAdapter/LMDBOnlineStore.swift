import CLMDB
import Dispatch
import Glibc
public import PlatformCore
public import StoragePorts

/// How an `LMDBOnlineStore` keeps its rows.
public struct LMDBConfiguration: Sendable {
    /// How large the file may become, in bytes.
    ///
    /// Only address space is taken; the file grows with its content.
    public var mapByteCountMax: Int
    /// Whether a write waits for the disk; where not, a loss of power can take the newest write, whole, checkpoint included.
    public var synchronizes: Bool

    /// Makes a configuration; sizes below 1 MiB become that, all become whole pages.
    public init(mapByteCountMax: Int = 64 << 30, synchronizes: Bool = true) {
        self.mapByteCountMax = max(mapByteCountMax, 1 << 20) & ~4_095
        self.synchronizes = synchronizes
    }
}

/// Online rows in LMDB: a memory-mapped tree that readers of many processes use without a lock.
///
/// A read copies the rows out of mapped memory on the calling thread; it takes no lock that a writer holds. Writes go one
/// after another through a queue of their own, since LMDB lets one thread write.
public final class LMDBOnlineStore: OnlineStore {
    /// Rows that `drop` removes in one transaction: LMDB bounds how many pages one may touch.
    private static let dropCountMax = 20_000

    private let environment: LMDBEnvironment
    private let writing = DispatchQueue(label: "online store")

    /// Opens the store in `directory`, making it where missing.
    ///
    /// One process opens a store once.
    /// - Throws: `corrupted` if the files are no such store, `locked` if this process has it open, `unavailable`, `full`.
    public init(directory: String, configuration: LMDBConfiguration = LMDBConfiguration()) throws(StoreError) {
        if unsafe mkdir(directory, 0o755) != 0, errno != EEXIST {
            throw storeFailure(errno, "making the folder \(directory)")
        }
        environment = try LMDBEnvironment(directory: directory, configuration: configuration)
    }

    private func run<Value: Sendable>(_ body: @escaping @Sendable () throws(StoreError) -> Value)
        async throws(StoreError) -> Value
    {
        let outcome: Result<Value, StoreError> = await withCheckedContinuation { continuation in
            writing.async { continuation.resume(returning: Result(catching: body)) }
        }
        return try outcome.get()
    }

    // MARK: Reading

    /// Rows in the order of `keys`; `nil` where the entity has none.
    ///
    /// Blocks no longer than mapped memory takes to read.
    public func read(_ keys: [EntityKey], from view: Name) throws(StoreError) -> [OnlineRow?] {
        var key = RowCodec.prefix(of: view)
        let prefixByteCount = key.count
        key.reserveCapacity(RowCodec.keyByteCountMax)
        var found: [OnlineRow?] = []
        found.reserveCapacity(keys.count)
        try environment.read { transaction throws(StoreError) in
            for entity in keys {
                RowCodec.setKey(&key, prefixByteCount: prefixByteCount, to: entity)
                guard let parts = try self.parts(at: key, transaction) else {
                    found.append(nil)
                    continue
                }
                try parts.require(entity)
                found.append(parts.row)
            }
        }
        return found
    }

    private func parts(at key: [UInt8], _ transaction: LMDBTransaction) throws(StoreError) -> RowCodec.Parts? {
        guard let bytes = try unsafe transaction.value(of: key, in: environment.rows) else { return nil }
        return try unsafe RowCodec.Parts(bytes)
    }

    /// The last checkpoint of this name.
    public func checkpoint(_ name: Name) async throws(StoreError) -> OnlineCheckpoint? {
        let bytes = try environment.read { transaction throws(StoreError) in
            let found = try unsafe transaction.value(of: Array(name.text.utf8), in: environment.checkpoints)
            return unsafe found.map { unsafe Array($0) }
        }
        guard let bytes else { return nil }
        return try RowCodec.checkpoint(name, from: bytes)
    }

    /// Calls `body` with each row of a view, in byte order of the key, from one consistent state, until it gives `false`.
    ///
    /// LMDB cannot reuse space that was freed since this began until it ends, so `body` should not take minutes.
    public func forEach(in view: Name, _ body: (KeyedOnlineRow) throws -> Bool) async throws {
        try forEachNow(in: view, body)
    }

    private func forEachNow(in view: Name, _ body: (KeyedOnlineRow) throws -> Bool) throws {
        let prefix = RowCodec.prefix(of: view)
        let kept = RowCodec.keptByteCount(prefixByteCount: prefix.count)
        let rows = environment.rows
        var failure: (any Error)?
        try environment.read { transaction throws(StoreError) in
            do {
                // Long keys lie in the order of their hashes behind what they have in common: those are sorted here.
                var together: [KeyedOnlineRow] = []
                var shared: [UInt8] = []
                func flush() throws -> Bool {
                    together.sort { $0.key.joined.utf8.lexicographicallyPrecedes($1.key.joined.utf8) }
                    defer { together.removeAll() }
                    for row in together where try !body(row) { return false }
                    return true
                }
                var isDone = false
                try unsafe transaction.forEach(prefix: prefix, in: rows) { key, value in
                    let entity = unsafe key[prefix.count...]
                    let parts = try unsafe RowCodec.Parts(value)
                    let found = KeyedOnlineRow(
                        key: unsafe parts.entity ?? EntityKey(joined: String(decoding: entity, as: UTF8.self)),
                        row: parts.row)
                    let start = unsafe entity.count >= kept ? Array(entity.prefix(kept)) : []
                    if !together.isEmpty, start != shared || start.isEmpty, try !flush() {
                        isDone = true
                        return false
                    }
                    shared = start
                    together.append(found)
                    return true
                }
                if !isDone { _ = try flush() }
            } catch { failure = error }
        }
        if let failure { throw failure }
    }

    // MARK: Writing

    /// Keeps and removes rows, and keeps with them, in the same transaction, how far the writer has read the log.
    public func write(
        _ rows: [Name: [KeyedOnlineRow]], removing removed: [Name: [EntityKey]], checkpoint: OnlineCheckpoint?
    ) async throws(StoreError) {
        let environment = environment
        try await run { () throws(StoreError) in
            try environment.write { transaction throws(StoreError) in
                for (view, rows) in rows { try self.write(rows, to: view, transaction) }
                for (view, keys) in removed {
                    var key = RowCodec.prefix(of: view)
                    let prefixByteCount = key.count
                    for entity in keys {
                        RowCodec.setKey(&key, prefixByteCount: prefixByteCount, to: entity)
                        try transaction.remove(key, in: environment.rows)
                    }
                }
                guard let checkpoint else { return }
                try transaction.put(
                    RowCodec.value(of: checkpoint), at: Array(checkpoint.name.text.utf8), in: environment.checkpoints)
            }
        }
    }

    /// Writes rows in the order of their keys, so that each page of the tree is looked for, and copied, once.
    private func write(_ rows: [KeyedOnlineRow], to view: Name, _ transaction: LMDBTransaction) throws(StoreError) {
        var key = RowCodec.prefix(of: view)
        let prefixByteCount = key.count
        try transaction.withCursor(in: environment.rows) { cursor throws(StoreError) in
            for index in Self.order(of: rows) {
                let entity = rows[index].key
                RowCodec.setKey(&key, prefixByteCount: prefixByteCount, to: entity)
                let isLong = RowCodec.isLong(entity, prefixByteCount: prefixByteCount)
                try unsafe cursor.put(
                    byteCount: RowCodec.byteCount(of: rows[index].row, entity: entity, isLong: isLong), at: key
                ) { stored throws(StoreError) in
                    let parts = try unsafe RowCodec.Parts(stored)
                    try parts.require(entity)
                    return parts.sequence <= rows[index].row.sequence
                } _: { bytes in
                    unsafe RowCodec.write(rows[index].row, entity: entity, isLong: isLong, to: bytes)
                }
            }
        }
    }

    /// Positions of rows in byte order of their keys; rows of one key stay in their order.
    private static func order(of rows: [KeyedOnlineRow]) -> [Int] {
        let starts = rows.map { row in
            var start: UInt64 = 0
            for byte in row.key.joined.utf8.prefix(8) { start = start << 8 | UInt64(byte) }
            return start << UInt64(8 * (8 - min(8, row.key.joined.utf8.count)))
        }
        return rows.indices.sorted { left, right in
            if starts[left] != starts[right] { return starts[left] < starts[right] }
            let (one, other) = (rows[left].key.joined.utf8, rows[right].key.joined.utf8)
            if one.count > 8 || other.count > 8 {
                if one.lexicographicallyPrecedes(other) { return true }
                if other.lexicographicallyPrecedes(one) { return false }
            }
            return one.count == other.count ? left < right : one.count < other.count
        }
    }

    /// Forgets a view version's rows, some thousands at a time: a reader meanwhile may see a part of them.
    public func drop(_ view: Name) async throws(StoreError) {
        let environment = environment
        try await run { () throws(StoreError) in
            let prefix = RowCodec.prefix(of: view)
            while true {
                let removed = try environment.write { transaction throws(StoreError) in
                    var keys: [[UInt8]] = []
                    do {
                        try unsafe transaction.forEach(prefix: prefix, in: environment.rows) { key, _ in
                            unsafe keys.append(Array(key))
                            return keys.count < Self.dropCountMax
                        }
                    } catch { throw (error as? StoreError) ?? StoreError(.unavailable, "online store", "\(error)") }
                    for key in keys { try transaction.remove(key, in: environment.rows) }
                    return keys.count
                }
                if removed < Self.dropCountMax { return }
            }
        }
    }
}
