import Glibc
public import PlatformCore
public import StoragePorts
import Synchronization

/// An event log in segment files: a folder per topic, in it a folder per partition.
///
/// ```
/// departures/partitions                    how many there are
/// departures/lock                          held by the process that writes
/// departures/0/00000000000000000000.log    records, each with its CRC
/// departures/0/00000000000000000000.index  where to find them; rebuilt where missing
/// departures/0/00000000000000000000.keys   where to find them by their keys, once somebody asked so; rebuilt where missing
/// departures/consumers/aggregator.0        how far a consumer has read
/// ```
///
/// Appends that arrive together share one trip to the disk. A writer that opens after a crash cuts the unfinished tail,
/// which nobody was told had been written; damage in front of that stays where it is and makes a read that gets there
/// fail with `corrupted`, naming the offset at which reading can go on. Any number of processes may read while one writes.
public final class SegmentEventLog: EventLog {
    private struct Topic {
        let partitions: [LogPartition]
    }
    private static let partitionCountMax = 1_024
    private static let keyByteCountMax = LogFrame.keyByteCountMax
    private static let appendByteCountMax = 256 << 20

    private let directory: String
    private let configuration: SegmentEventLogConfiguration
    private let threads = FileThreads(label: "event log")
    private let known = Mutex<[Name: Topic]>([:])  // held for copies only
    private let tornTails = Atomic<Int>(0)
    private let lostRecords = Atomic<Int>(0)

    /// How many torn tails this log has cut.
    public var tornTailCount: Int { tornTails.load(ordering: .relaxed) }
    /// How many records were found gone that consumers had read.
    public var lostRecordCount: Int { lostRecords.load(ordering: .relaxed) }

    /// Opens the log in `directory`, making it where missing.
    ///
    /// Looks at no topic before it is used.
    /// - Throws: `unavailable`, `full`.
    public init(directory: String, configuration: SegmentEventLogConfiguration = SegmentEventLogConfiguration())
        throws(StoreError)
    {
        self.directory = directory
        self.configuration = configuration
        try Folder.make(directory, subject: "event log")
    }

    // MARK: Topics

    private static func subject(_ topic: Name) -> String { "topic/\(topic)" }

    /// Makes a topic; nothing happens if it exists with as many partitions.
    public func createTopic(_ topic: Name, partitions: Int) async throws(StoreError) {
        let subject = Self.subject(topic)
        guard 1...Self.partitionCountMax ~= partitions else {
            throw StoreError(.invalidInput, subject, "a topic has 1 to \(Self.partitionCountMax) partitions")
        }
        try await threads.run { () throws(StoreError) in
            let path = "\(self.directory)/\(topic)"
            if try self.partitionCount(topic) == nil {
                // Built aside and renamed, so that a topic is there with all of its parts or not at all.
                let new = "\(self.directory)/.new-\(String(UInt64.random(in: .min ... .max), radix: 16))"
                for partition in 0..<partitions { try Folder.make("\(new)/\(partition)", subject: subject) }
                try Folder.make("\(new)/consumers", subject: subject)
                try Folder.replaceFile(
                    "\(new)/partitions", with: Array("\(partitions)\n".utf8), durable: true, subject: subject)
                if rename(new, path) == 0 {
                    try Folder.synchronize(self.directory, subject: subject)
                } else {
                    let number = errno
                    self.removeUnused(new, partitions: partitions)
                    guard number == EEXIST || number == ENOTEMPTY else {
                        throw systemFailure(number, subject, "making \(path)")
                    }
                }
            }
            let count = try self.partitionCount(topic)
            guard count == partitions else {
                throw StoreError(
                    .conflict, subject, "it exists with \(count ?? 0) partitions; their number cannot be changed")
            }
        }
    }

    private func removeUnused(_ path: String, partitions: Int) {
        unlink("\(path)/partitions")
        rmdir("\(path)/consumers")
        for partition in 0..<partitions { rmdir("\(path)/\(partition)") }
        rmdir(path)
    }

    private func partitionCount(_ topic: Name) throws(StoreError) -> Int? {
        let path = "\(directory)/\(topic)/partitions"
        guard access(path, F_OK) == 0 else { return nil }
        let bytes = try File(path, O_RDONLY, subject: Self.subject(topic)).read(16, at: 0)
        guard bytes.last == 10, let count = Int(String(decoding: bytes.dropLast(), as: UTF8.self)),
            1...Self.partitionCountMax ~= count
        else { throw StoreError(.corrupted, Self.subject(topic), "\(path) does not hold a number of partitions") }
        return count
    }

    /// The topics, sorted.
    public func topics() async throws(StoreError) -> [Name] {
        try await threads.run { () throws(StoreError) in
            try Folder.names(in: self.directory, subject: "event log")
                .compactMap { Name($0) }
                .filter { access("\(self.directory)/\($0)/partitions", F_OK) == 0 }
                .sorted()
        }
    }

    /// The partition, from memory if it was used before.
    private func partition(_ topic: Name, _ partition: Int) async throws(StoreError) -> LogPartition {
        let subject = Self.subject(topic)
        var found = known.withLock { $0[topic] }
        if found == nil {
            let count = try await threads.run { () throws(StoreError) in try self.partitionCount(topic) }
            guard let count else { throw StoreError(.notFound, subject, "there is no such topic") }
            found = known.withLock { known in
                if let found = known[topic] { return found }
                let made = makeTopic(topic, partitions: count)
                known[topic] = made
                return made
            }
        }
        guard let found, found.partitions.indices.contains(partition) else {
            throw StoreError(.notFound, subject, "it has no partition \(partition)")
        }
        return found.partitions[partition]
    }

    private func makeTopic(_ topic: Name, partitions: Int) -> Topic {
        var configuration = configuration
        configuration.onTornTail = { [weak self, onTornTail = configuration.onTornTail] tail in
            self?.tornTails.add(1, ordering: .relaxed)
            onTornTail(tail)
        }
        configuration.onLostRecords = { [weak self, onLostRecords = configuration.onLostRecords] lost in
            self?.lostRecords.add(Int(clamping: lost.to - lost.from), ordering: .relaxed)
            onLostRecords(lost)
        }
        let subject = Self.subject(topic)
        let lock = TopicLock(path: "\(directory)/\(topic)/lock", subject: subject)
        let consumers = "\(directory)/\(topic)/consumers"
        return Topic(
            partitions: (0..<partitions).map { number in
                LogPartition(
                    directory: "\(directory)/\(topic)/\(number)", subject: "\(subject)/\(number)",
                    configuration: configuration, lock: lock,
                    consumedOffset: { Self.consumedOffset(in: consumers, partition: number) })
            })
    }

    // MARK: Records

    /// Appends to one partition, durably; gives the offset of the first record.
    ///
    /// When it throws `full`, none of the records is kept. `invalidInput` also means a key over 64 KiB or records of over
    /// 256 MiB together.
    public func append(_ records: [LogRecord], to topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        var byteCount = 0
        for (position, record) in records.enumerated() {
            guard record.value.count <= recordByteCountMax, record.key.utf8.count <= Self.keyByteCountMax else {
                throw StoreError(
                    .invalidInput, Self.subject(topic),
                    "record \(position) has \(record.value.count) bytes and a key of \(record.key.utf8.count); "
                        + "the limits are \(recordByteCountMax) and \(Self.keyByteCountMax)")
            }
            byteCount += LogFrame.byteCount(of: record)
        }
        guard byteCount <= Self.appendByteCountMax else {
            throw StoreError(
                .invalidInput, Self.subject(topic),
                "the records have \(byteCount) bytes together, the limit is \(Self.appendByteCountMax)")
        }
        let target = try await self.partition(topic, partition)
        if records.isEmpty { return try await endOffset(topic, partition: partition) }
        return try await target.append(records, byteCount: byteCount)
    }

    /// Records from `offset` on.
    ///
    /// See `EventLog`.
    public func read(_ topic: Name, partition: Int, from offset: UInt64, recordCountMax: Int, byteCountMax: Int)
        async throws(StoreError) -> [StoredRecord]
    {
        let source = try await self.partition(topic, partition)
        return try await threads.run { () throws(StoreError) in
            try source.read(from: offset, recordCountMax: recordCountMax, byteCountMax: byteCountMax)
        }
    }

    /// Records by their key.
    ///
    /// See `EventLog`.
    ///
    /// A segment that is full is read once for the first question, and a table of its keys is kept beside it; of the growing one
    /// the keys are remembered as it grows. A question then takes some dozen reads for each segment.
    public func records(_ topic: Name, partition: Int, key: String, from offset: UInt64) async throws(StoreError)
        -> [StoredRecord]
    {
        let source = try await self.partition(topic, partition)
        return try await threads.run { () throws(StoreError) in try source.records(key: key, from: offset) }
    }

    /// The offset that the next record will get, as far as this process can see.
    public func endOffset(_ topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        let source = try await self.partition(topic, partition)
        let known = source.state.withLock { $0.writer == nil ? nil : $0.content?.index.endOffset }
        if let known { return known }
        return try await threads.run { () throws(StoreError) in try source.currentContent().index.endOffset }
    }

    /// The offset of the first record that is kept.
    public func startOffset(_ topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        let source = try await self.partition(topic, partition)
        return try await threads.run { () throws(StoreError) in try source.startOffset() }
    }

    /// Drops whole segments from the beginning of a partition; see the port.
    ///
    /// The last segment always stays, and the one before it while the last has no record.
    public func drop(_ topic: Name, partition: Int, upTo limit: LogDropLimit) async throws(StoreError) -> LogDrop {
        try await self.partition(topic, partition).drop(upTo: limit)
    }

    /// Where a reader that wants records from `time` on begins.
    ///
    /// See `EventLog`.
    ///
    /// It is the first record with a time at or after `time`, also when times do not rise: never too late.
    public func firstOffset(_ topic: Name, partition: Int, atOrAfter time: EventTime) async throws(StoreError) -> UInt64
    {
        let source = try await self.partition(topic, partition)
        return try await threads.run { () throws(StoreError) in try source.firstOffset(atOrAfter: time) }
    }

    /// Returns when there is something past `offset`, when `timeout` has passed, or when the task is cancelled.
    ///
    /// Appends of this process wake it; for those of another one it looks at the file every 25 ms.
    public func waitForRecords(_ topic: Name, partition: Int, past offset: UInt64, timeout: Duration)
        async throws(StoreError)
    {
        let source = try await self.partition(topic, partition)
        let deadline = ContinuousClock.now + timeout
        while try await endOffset(topic, partition: partition) <= offset {
            let left = deadline - ContinuousClock.now
            if left <= .zero || Task.isCancelled { return }
            let isWriter = source.state.withLock { $0.writer != nil }
            let span = isWriter ? left : min(left, .milliseconds(25))
            await withTaskGroup { group in
                group.addTask { try? await Task.sleep(for: span) }
                group.addTask { await source.sleep(past: offset) }
                await group.next()
                group.cancelAll()
            }
        }
    }

    // MARK: Consumers

    /// Largest position that is taken for one.
    private static let offsetMax: UInt64 = 1 << 53

    /// The furthest that a consumer has read; what cannot be read counts as nothing.
    private static func consumedOffset(in folder: String, partition: Int) -> UInt64 {
        let names = (try? Folder.names(in: folder, subject: "consumers")) ?? []
        return names.reduce(0) { furthest, name in
            guard name.hasSuffix(".\(partition)"),
                let bytes = try? File("\(folder)/\(name)", O_RDONLY, subject: "consumers").read(32, at: 0),
                let offset = UInt64(String(decoding: bytes.dropLast(), as: UTF8.self)), offset <= offsetMax
            else { return furthest }
            return max(furthest, offset)
        }
    }

    private func positionPath(_ consumer: Name, _ topic: Name, _ partition: Int) -> String {
        "\(directory)/\(topic)/consumers/\(consumer).\(partition)"
    }

    /// Remembers durably how far a consumer has read: the offset it wants next.
    public func commit(_ consumer: Name, topic: Name, partition: Int, offset: UInt64) async throws(StoreError) {
        _ = try await self.partition(topic, partition)
        let path = positionPath(consumer, topic, partition)
        try await threads.run { () throws(StoreError) in
            try Folder.replaceFile(
                path, with: Array("\(offset)\n".utf8), durable: self.configuration.synchronizes,
                subject: Self.subject(topic))
        }
    }

    /// What `commit` last remembered; 0 if nothing.
    public func position(_ consumer: Name, topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        _ = try await self.partition(topic, partition)
        let path = positionPath(consumer, topic, partition)
        return try await threads.run { () throws(StoreError) in
            guard access(path, F_OK) == 0 else { return 0 }
            let bytes = try File(path, O_RDONLY, subject: Self.subject(topic)).read(32, at: 0)
            guard bytes.last == 10, let offset = UInt64(String(decoding: bytes.dropLast(), as: UTF8.self)) else {
                throw StoreError(.corrupted, Self.subject(topic), "\(path) does not hold an offset")
            }
            return offset
        }
    }
    /// What every consumer of a partition last committed.
    public func positions(_ topic: Name, partition: Int) async throws(StoreError) -> [Name: UInt64] {
        _ = try await self.partition(topic, partition)
        let folder = "\(directory)/\(topic)/consumers"
        let names = try await threads.run { () throws(StoreError) in
            try Folder.names(in: folder, subject: Self.subject(topic))
        }
        var found: [Name: UInt64] = [:]
        for name in names where name.hasSuffix(".\(partition)") {
            guard let consumer = Name(name.dropLast(partition.description.utf8.count + 1)) else { continue }
            found[consumer] = try await position(consumer, topic: topic, partition: partition)
        }
        return found
    }
}
