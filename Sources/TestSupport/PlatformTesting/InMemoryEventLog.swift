public import PlatformCore
public import StoragePorts
import Synchronization

/// An event log in arrays, for tests of what stands on the port.
public final class InMemoryEventLog: EventLog {
    private struct Position: Hashable {
        let consumer: Name
        let topic: Name
        let partition: Int
    }
    private struct Content {
        var topics: [Name: [[LogRecord]]] = [:]
        var positions: [Position: UInt64] = [:]
        /// Records from the beginning of a partition that were dropped; they stay in `topics`, out of sight.
        var dropped: [Name: [Int: Int]] = [:]
        func start(_ topic: Name, _ partition: Int) -> Int { dropped[topic]?[partition] ?? 0 }
    }
    private let content = Mutex(Content())
    private let read = Atomic<Int>(0)
    /// Records that were ever read.
    public var readCount: Int { read.load(ordering: .relaxed) }

    /// Makes an empty log.
    public init() {}

    private func records(_ topic: Name, _ partition: Int) throws(StoreError) -> [LogRecord] {
        let partitions = content.withLock { $0.topics[topic] }
        guard let partitions, partitions.indices.contains(partition) else {
            throw StoreError(.notFound, "topic/\(topic)", "there is no such partition")
        }
        return partitions[partition]
    }
    /// Makes a topic.
    public func createTopic(_ topic: Name, partitions: Int) async throws(StoreError) {
        guard partitions > 0 else {
            throw StoreError(.invalidInput, "topic/\(topic)", "a topic has at least one partition")
        }
        let count = content.withLock { content in
            let known = content.topics[topic] ?? Array(repeating: [], count: partitions)
            content.topics[topic] = known
            return known.count
        }
        guard count == partitions else {
            throw StoreError(.conflict, "topic/\(topic)", "it exists with \(count) partitions")
        }
    }
    /// The topics, sorted.
    public func topics() async throws(StoreError) -> [Name] { content.withLock { $0.topics.keys.sorted() } }
    /// Appends to one partition.
    public func append(_ records: [LogRecord], to topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        _ = try self.records(topic, partition)
        guard records.allSatisfy({ $0.value.count <= recordByteCountMax }) else {
            throw StoreError(.invalidInput, "topic/\(topic)", "a record is too large")
        }
        return content.withLock { content in
            let first = content.topics[topic]?[partition].count ?? 0
            content.topics[topic]?[partition].append(contentsOf: records)
            return UInt64(first)
        }
    }
    /// Records from `offset` on.
    public func read(_ topic: Name, partition: Int, from offset: UInt64, recordCountMax: Int, byteCountMax: Int)
        async throws(StoreError) -> [StoredRecord]
    {
        let all = try records(topic, partition)
        let start = content.withLock { $0.start(topic, partition) }
        var found: [StoredRecord] = []
        var byteCount = 0
        for position in max(start, Int(min(offset, UInt64(all.count))))..<all.count where found.count < recordCountMax {
            byteCount += all[position].value.count
            if byteCount > byteCountMax, !found.isEmpty { break }
            found.append(StoredRecord(offset: UInt64(position), record: all[position]))
        }
        read.add(found.count, ordering: .relaxed)
        return found
    }
    /// The offset that the next record will get.
    public func endOffset(_ topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        UInt64(try records(topic, partition).count)
    }
    /// The first record at or after `time`.
    public func firstOffset(_ topic: Name, partition: Int, atOrAfter time: EventTime) async throws(StoreError) -> UInt64
    {
        let all = try records(topic, partition)
        let start = content.withLock { $0.start(topic, partition) }
        return UInt64(all[start...].firstIndex { $0.time >= time } ?? all.count)
    }
    /// The first record that was not dropped.
    public func startOffset(_ topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        _ = try records(topic, partition)
        return content.withLock { UInt64($0.start(topic, partition)) }
    }
    /// Drops record by record.
    public func drop(_ topic: Name, partition: Int, upTo limit: LogDropLimit) async throws(StoreError) -> LogDrop {
        let all = try records(topic, partition)
        return content.withLock { content in
            let start = content.start(topic, partition)
            let most = min(UInt64(max(start, all.count - 1)), limit.offset)
            let kept = all[start...].firstIndex { $0.time >= limit.time } ?? all.count
            let end = max(start, min(kept, Int(most)))
            if !limit.isRehearsal { content.dropped[topic, default: [:]][partition] = end }
            return LogDrop(
                startOffset: UInt64(end), recordCount: end - start,
                byteCount: all[start..<end].reduce(0) { $0 + $1.value.count },
                newestTime: end > start ? all[..<end].map(\.time).max() : nil)
        }
    }
    /// What every consumer last committed.
    public func positions(_ topic: Name, partition: Int) async throws(StoreError) -> [Name: UInt64] {
        _ = try records(topic, partition)
        return content.withLock { content in
            Dictionary(
                uniqueKeysWithValues: content.positions.filter {
                    $0.key.topic == topic && $0.key.partition == partition
                }
                .map { ($0.key.consumer, $0.value) })
        }
    }
    /// Remembers how far a consumer has read.
    public func commit(_ consumer: Name, topic: Name, partition: Int, offset: UInt64) async throws(StoreError) {
        _ = try records(topic, partition)
        content.withLock {
            $0.positions[Position(consumer: consumer, topic: topic, partition: partition)] = offset
        }
    }
    /// What `commit` last remembered; 0 if nothing.
    public func position(_ consumer: Name, topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        _ = try records(topic, partition)
        return content.withLock {
            $0.positions[Position(consumer: consumer, topic: topic, partition: partition)] ?? 0
        }
    }
    /// Looks every millisecond.
    public func waitForRecords(_ topic: Name, partition: Int, past offset: UInt64, timeout: Duration)
        async throws(StoreError)
    {
        let deadline = ContinuousClock.now + timeout
        while try await endOffset(topic, partition: partition) <= offset, ContinuousClock.now < deadline,
            !Task.isCancelled
        {
            try? await Task.sleep(for: .milliseconds(1))
        }
    }
}
