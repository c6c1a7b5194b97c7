public import PlatformCore
public import StoragePorts
import Synchronization

/// An online store in a dictionary, for tests of what stands on the port.
public final class InMemoryOnlineStore: OnlineStore {
    private struct Content {
        var rows: [Name: [EntityKey: OnlineRow]] = [:]
        var checkpoints: [Name: OnlineCheckpoint] = [:]
    }
    private let content = Mutex(Content())

    /// Makes an empty store.
    public init() {}

    /// Rows in the order of `keys`.
    public func read(_ keys: [EntityKey], from view: Name) throws(StoreError) -> [OnlineRow?] {
        content.withLock { content in keys.map { content.rows[view]?[$0] } }
    }
    /// Keeps the rows that are not older than what is there, and the checkpoint.
    public func write(
        _ rows: [Name: [KeyedOnlineRow]], removing removed: [Name: [EntityKey]], checkpoint: OnlineCheckpoint?
    ) async throws(StoreError) {
        content.withLock { content in
            for (view, rows) in rows {
                for row in rows where row.row.sequence >= content.rows[view]?[row.key]?.sequence ?? 0 {
                    content.rows[view, default: [:]][row.key] = row.row
                }
            }
            for (view, keys) in removed { for key in keys { content.rows[view]?[key] = nil } }
            if let checkpoint { content.checkpoints[checkpoint.name] = checkpoint }
        }
    }
    /// The last checkpoint of this name.
    public func checkpoint(_ name: Name) async throws(StoreError) -> OnlineCheckpoint? {
        content.withLock { $0.checkpoints[name] }
    }
    /// Calls `body` with the rows that were there when it began.
    public func forEach(in view: Name, _ body: (KeyedOnlineRow) throws -> Bool) async throws {
        let rows = content.withLock { $0.rows[view] ?? [:] }
        let keys = rows.keys.sorted { $0.joined.utf8.lexicographicallyPrecedes($1.joined.utf8) }
        for key in keys {
            guard let row = rows[key], try body(KeyedOnlineRow(key: key, row: row)) else { return }
        }
    }
    /// Forgets a view version's rows.
    public func drop(_ view: Name) async throws(StoreError) { content.withLock { $0.rows[view] = nil } }
}
