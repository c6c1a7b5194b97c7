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
    /// Position in its partition, from 0, without gaps.
    public let offset: UInt64
    /// The record.
    public let record: LogRecord
    /// Makes it.
    public init(offset: UInt64, record: LogRecord) {
        self.offset = offset
        self.record = record
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
    /// empty at the end. An offset past the end gives an empty answer.
    func read(_ topic: Name, partition: Int, from offset: UInt64, recordCountMax: Int, byteCountMax: Int)
        async throws(StoreError) -> [StoredRecord]
    /// The offset that the next record will get, as far as this process can see.
    func endOffset(_ topic: Name, partition: Int) async throws(StoreError) -> UInt64
    /// The first offset whose record, and all after it, can have a time at or after `time`, if times rise; a reader scans on
    /// from there. `endOffset` if every record is older.
    func firstOffset(_ topic: Name, partition: Int, atOrAfter time: EventTime) async throws(StoreError) -> UInt64
    /// Remembers durably how far a consumer has read: the offset it wants next.
    func commit(_ consumer: Name, topic: Name, partition: Int, offset: UInt64) async throws(StoreError)
    /// What `commit` last remembered; 0 if nothing.
    func position(_ consumer: Name, topic: Name, partition: Int) async throws(StoreError) -> UInt64
    /// Returns when `endOffset` is above `offset` or `timeout` has passed; also sees appends of other processes.
    func waitForRecords(_ topic: Name, partition: Int, past offset: UInt64, timeout: Duration) async throws(StoreError)
}

/// Largest record value that a log accepts.
public let recordByteCountMax = 8 << 20

extension EventLog {
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
