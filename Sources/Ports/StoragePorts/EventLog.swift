public import PlatformCore

/// One record to append.
public struct LogRecord: Sendable, Hashable {
    /// Decides the partition, and names what the record is about; may be empty.
    public let key: String
    /// When it happened, or was written; `firstOffset(atOrAfter:)` finds by it.
    public let time: EventTime
    /// The content.
    public let value: [UInt8]
    /// Makes a record.
    public init(key: String = "", time: EventTime, value: [UInt8]) {
        self.key = key
        self.time = time
        self.value = value
    }
}

/// One record as read back.
public struct StoredRecord: Sendable, Hashable {
    /// Position in its partition, from 0, without gaps; what was dropped is missing at the beginning only.
    public let offset: UInt64
    /// The record.
    public let record: LogRecord
    /// Makes it.
    public init(offset: UInt64, record: LogRecord) {
        self.offset = offset
        self.record = record
    }
}

/// What may be dropped from the beginning of a partition.
public struct LogDropLimit: Sendable, Hashable {
    /// Records from this offset on stay.
    public var offset: UInt64
    /// Records with a time at or after this one stay, and all that follow them.
    public var time: EventTime
    /// A growing run of records that began before this time is closed, so that it can be dropped once it is old enough.
    public var closingBefore: EventTime?
    /// Whether only to say what would be dropped.
    public var isRehearsal: Bool

    /// Makes a limit.
    public init(offset: UInt64 = .max, time: EventTime, closingBefore: EventTime? = nil, isRehearsal: Bool = false) {
        self.offset = offset
        self.time = time
        self.closingBefore = closingBefore
        self.isRehearsal = isRehearsal
    }
}

/// What was dropped from the beginning of a partition.
public struct LogDrop: Sendable, Hashable {
    /// The first offset that stays.
    public let startOffset: UInt64
    /// Records that went.
    public let recordCount: Int
    /// Their bytes, as they were stored.
    public let byteCount: Int
    /// The latest time of all records that ever went; `nil` if this call dropped nothing.
    public let newestTime: EventTime?

    /// Makes it.
    public init(startOffset: UInt64, recordCount: Int, byteCount: Int, newestTime: EventTime?) {
        self.startOffset = startOffset
        self.recordCount = recordCount
        self.byteCount = byteCount
        self.newestTime = newestTime
    }
}

/// The durable, ordered log that everything derived can be rebuilt from.
///
/// A topic has a fixed number of partitions, set when it is made. One process writes a topic; any number read it, also
/// while it grows. An append is durable when it returns; records of one call to one partition stay together and in order,
/// and after a crash all of them are there or none.
public protocol EventLog: Sendable {
    /// Makes a topic; nothing happens if it exists with as many partitions (`conflict` if it has another number).
    func createTopic(_ topic: Name, partitions: Int) async throws(StoreError)
    /// The topics, sorted.
    func topics() async throws(StoreError) -> [Name]
    /// Appends to one partition, durably; gives the offset of the first record.
    /// - Throws: `notFound`, `invalidInput` (a record over `recordByteCountMax`), `full`, `locked` (another process
    ///   writes this topic), `unavailable`.
    func append(_ records: [LogRecord], to topic: Name, partition: Int) async throws(StoreError) -> UInt64
    /// Up to `recordCountMax` records, and up to about `byteCountMax` bytes but at least one record, from `offset` on;
    /// empty at the end. An offset past the end gives an empty answer; from one before `startOffset` reading begins there.
    func read(_ topic: Name, partition: Int, from offset: UInt64, recordCountMax: Int, byteCountMax: Int)
        async throws(StoreError) -> [StoredRecord]
    /// The records of a partition with this key, from `offset` on, in order.
    func records(_ topic: Name, partition: Int, key: String, from offset: UInt64) async throws(StoreError)
        -> [StoredRecord]
    /// The offset that the next record will get, as far as this process can see.
    func endOffset(_ topic: Name, partition: Int) async throws(StoreError) -> UInt64
    /// The offset of the first record that is kept; 0 unless older ones were dropped.
    func startOffset(_ topic: Name, partition: Int) async throws(StoreError) -> UInt64
    /// Drops records from the beginning of a partition, in runs as the log keeps them, up to a limit: never one that the
    /// limit wants kept, and never all there are. After a crash in the middle fewer are gone, and none behind one that is
    /// there.
    /// - Throws: `notFound`, `locked` (another process writes this topic), `unavailable`.
    func drop(_ topic: Name, partition: Int, upTo limit: LogDropLimit) async throws(StoreError) -> LogDrop
    /// The first offset whose record, and all after it, can have a time at or after `time`, if times rise; a reader scans on
    /// from there. `endOffset` if every record is older.
    func firstOffset(_ topic: Name, partition: Int, atOrAfter time: EventTime) async throws(StoreError) -> UInt64
    /// Remembers durably how far a consumer has read: the offset it wants next.
    func commit(_ consumer: Name, topic: Name, partition: Int, offset: UInt64) async throws(StoreError)
    /// What `commit` last remembered; 0 if nothing.
    func position(_ consumer: Name, topic: Name, partition: Int) async throws(StoreError) -> UInt64
    /// What every consumer of a partition last committed.
    func positions(_ topic: Name, partition: Int) async throws(StoreError) -> [Name: UInt64]
    /// Returns when `endOffset` is above `offset` or `timeout` has passed; also sees appends of other processes.
    func waitForRecords(_ topic: Name, partition: Int, past offset: UInt64, timeout: Duration) async throws(StoreError)
}

/// Largest record value that a log accepts.
public let recordByteCountMax = 8 << 20

extension EventLog {
    /// The records with a key, of a log that has nothing to find them by: every record is read.
    public func records(_ topic: Name, partition: Int, key: String, from offset: UInt64) async throws(StoreError)
        -> [StoredRecord]
    {
        var found: [StoredRecord] = []
        var offset = offset
        while true {
            let stored = try await read(
                topic, partition: partition, from: offset, recordCountMax: 10_000, byteCountMax: 16 << 20)
            guard let last = stored.last else { return found }
            found += stored.filter { $0.record.key == key }
            offset = last.offset + 1
        }
    }
    /// Appends to partition 0.
    @discardableResult
    public func append(_ records: [LogRecord], to topic: Name) async throws(StoreError) -> UInt64 {
        try await append(records, to: topic, partition: 0)
    }
    /// Reads partition 0 in portions of at most 10,000 records and 16 MiB.
    public func read(_ topic: Name, from offset: UInt64) async throws(StoreError) -> [StoredRecord] {
        try await read(topic, partition: 0, from: offset, recordCountMax: 10_000, byteCountMax: 16 << 20)
    }
}
