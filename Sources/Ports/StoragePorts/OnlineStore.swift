public import PlatformCore

/// The newest state of one entity in one feature view version.
public struct OnlineRow: Sendable, Hashable {
    /// Event time of the newest event in it.
    public let eventTime: EventTime
    /// Newest ingest time in it.
    public let ingestTime: EventTime
    /// Log offset of the newest record in it: which of two rows is newer is decided by this alone.
    public let sequence: UInt64
    /// The packed state; the feature store's codec reads it.
    public let payload: [UInt8]
    /// Makes a row.
    public init(eventTime: EventTime, ingestTime: EventTime, sequence: UInt64, payload: [UInt8]) {
        self.eventTime = eventTime
        self.ingestTime = ingestTime
        self.sequence = sequence
        self.payload = payload
    }
}

/// A row with its entity.
public struct KeyedOnlineRow: Sendable, Hashable {
    /// The entity.
    public let key: EntityKey
    /// Its row.
    public let row: OnlineRow
    /// Makes a pair.
    public init(key: EntityKey, row: OnlineRow) {
        self.key = key
        self.row = row
    }
}

/// Latest feature state per view version and entity, for lookups inside a prediction request.
///
/// Reads never wait for writers and see all of a `write` or nothing of it.
public protocol OnlineStore: Sendable {
    /// Rows in the order of `keys`; `nil` where the entity has none. `view` names a view version.
    func read(_ keys: [EntityKey], from view: Name) throws(StoreError) -> [OnlineRow?]
    /// Keeps the rows, removes others, and keeps with them, in the same transaction, how far the writer has read the log.
    /// A row whose `sequence` is lower than the stored one's changes nothing; writing the same row twice changes nothing.
    /// A removed row leaves no trace, its sequence included; removing one that is not there changes nothing.
    func write(
        _ rows: [Name: [KeyedOnlineRow]], removing removed: [Name: [EntityKey]], checkpoint: OnlineCheckpoint?
    ) async throws(StoreError)
    /// The last checkpoint of this name: topic (and partition) to next offset. `nil` if there is none.
    func checkpoint(_ name: Name) async throws(StoreError) -> OnlineCheckpoint?
    /// Calls `body` with each row of a view, in byte order of the key, from one consistent state, until it gives `false`.
    func forEach(in view: Name, _ body: (KeyedOnlineRow) throws -> Bool) async throws
    /// Forgets a view version's rows.
    func drop(_ view: Name) async throws(StoreError)
}

/// How far a writer of the online store has read: part of the same transaction as the rows made from that reading.
public struct OnlineCheckpoint: Sendable, Hashable {
    /// Whose progress.
    public let name: Name
    /// Next offset by `topic/partition`.
    public let offsets: [String: UInt64]
    /// Makes a checkpoint.
    public init(name: Name, offsets: [String: UInt64]) {
        self.name = name
        self.offsets = offsets
    }
}

extension OnlineStore {
    /// Keeps the rows, and with them, in the same transaction, how far the writer has read the log.
    public func write(_ rows: [Name: [KeyedOnlineRow]], checkpoint: OnlineCheckpoint?) async throws(StoreError) {
        try await write(rows, removing: [:], checkpoint: checkpoint)
    }

    /// The row of one entity.
    public func read(_ key: EntityKey, from view: Name) throws(StoreError) -> OnlineRow? {
        try read([key], from: view)[0]
    }
}
