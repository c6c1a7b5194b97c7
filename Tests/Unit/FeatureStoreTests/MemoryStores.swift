import PlatformCore
import PlatformTesting
import StoragePorts
import Synchronization

/// The promises of the online store in memory, with a switch that makes writes fail.
final class MemoryOnlineStore: OnlineStore {
    struct State {
        var rows: [Name: [EntityKey: OnlineRow]] = [:]
        var checkpoints: [Name: OnlineCheckpoint] = [:]
        var failsWrites = false
    }
    let state = Mutex(State())
    /// Is called before rows are read, with the number of keys; a test may hold the reader up here.
    let willRead = Mutex<(@Sendable (Int) -> Void)?>(nil)
    /// Is awaited before rows are written.
    let willWrite = Mutex<(@Sendable () async -> Void)?>(nil)

    func read(_ keys: [EntityKey], from view: Name) throws(StoreError) -> [OnlineRow?] {
        willRead.withLock { $0 }?(keys.count)
        return state.withLock { state in keys.map { state.rows[view]?[$0] } }
    }
    func write(
        _ rows: [Name: [KeyedOnlineRow]], removing removed: [Name: [EntityKey]], checkpoint: OnlineCheckpoint?
    ) async throws(StoreError) {
        await willWrite.withLock { $0 }?()
        let failed = state.withLock { state in
            if state.failsWrites { return true }
            for (view, list) in rows {
                for keyed in list where keyed.row.sequence >= state.rows[view]?[keyed.key]?.sequence ?? 0 {
                    state.rows[view, default: [:]][keyed.key] = keyed.row
                }
            }
            for (view, keys) in removed { for key in keys { state.rows[view]?[key] = nil } }
            if let checkpoint { state.checkpoints[checkpoint.name] = checkpoint }
            return false
        }
        if failed { throw StoreError(.full, "online", "no space left") }
    }
    func checkpoint(_ name: Name) async throws(StoreError) -> OnlineCheckpoint? {
        state.withLock { $0.checkpoints[name] }
    }
    func forEach(in view: Name, _ body: (KeyedOnlineRow) throws -> Bool) async throws {
        for (key, row) in state.withLock({ $0.rows[view] ?? [:] }).sorted(by: { $0.key < $1.key }) {
            if try !body(KeyedOnlineRow(key: key, row: row)) { return }
        }
    }
    func drop(_ view: Name) async throws(StoreError) { state.withLock { $0.rows[view] = nil } }
}

/// Records of topics in memory, one partition each.
final class MemoryEventLog: EventLog {
    private let records = Mutex<[Name: [LogRecord]]>([:])
    /// The offset from which reads fail, as if the process ended there.
    let failsFrom = Mutex<UInt64?>(nil)

    func createTopic(_ topic: Name, partitions: Int) async throws(StoreError) {}
    func topics() async throws(StoreError) -> [Name] { records.withLock { $0.keys.sorted() } }
    func append(_ new: [LogRecord], to topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        records.withLock { records in
            let first = UInt64(records[topic]?.count ?? 0)
            records[topic, default: []] += new
            return first
        }
    }
    func read(_ topic: Name, partition: Int, from offset: UInt64, recordCountMax: Int, byteCountMax: Int)
        async throws(StoreError) -> [StoredRecord]
    {
        if let limit = failsFrom.withLock({ $0 }), offset >= limit { throw StoreError(.unavailable, "log", "cut off") }
        let found = records.withLock { $0[topic] }
        guard let found else { throw StoreError(.notFound, "topic/\(topic)", "no such topic") }
        // Small portions, so that a backfill has several.
        return found.enumerated().dropFirst(Int(offset)).prefix(7).map { StoredRecord(offset: UInt64($0), record: $1) }
    }
    func endOffset(_ topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        records.withLock { UInt64($0[topic]?.count ?? 0) }
    }
    func firstOffset(_ topic: Name, partition: Int, atOrAfter time: EventTime) async throws(StoreError) -> UInt64 { 0 }
    func commit(_ consumer: Name, topic: Name, partition: Int, offset: UInt64) async throws(StoreError) {}
    func position(_ consumer: Name, topic: Name, partition: Int) async throws(StoreError) -> UInt64 { 0 }
    func waitForRecords(_ topic: Name, partition: Int, past offset: UInt64, timeout: Duration) async throws(StoreError)
    {}
}
