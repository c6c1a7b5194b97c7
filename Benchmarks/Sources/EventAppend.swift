import Benchmark
import FileSystemAdapter
import PlatformCore
import StoragePorts

/// A log with one topic of one partition.
private struct AppendInput: Sendable {
    static let topic = Name(static: "departures")
    let log: SegmentEventLog
    let records: [LogRecord]

    /// Opens an empty log, and appends and reads 1,000 records for the checksum.
    static func prepared(_ what: String) async throws -> HotPath.Prepared<AppendInput> {
        let log = try SegmentEventLog(directory: try ScratchFolder.make())
        try await log.createTopic(topic, partitions: 1)
        var random = Seeded(1)
        let records = (0..<1_000).map { index in
            LogRecord(
                key: "N\(10_000 + index)", time: EventTime(milliseconds: 1_356_998_400_000 + Int64(index)),
                value: random.bytes(200))
        }
        try await log.append(records, to: topic)
        var checksum = Checksum()
        for stored in try await log.read(topic, from: 0) {
            checksum.add(stored.offset)
            checksum.add(stored.record.key.utf8)
            checksum.add(stored.record.value)
        }
        return HotPath.Prepared(
            input: AppendInput(log: log, records: records),
            size: "\(what); values of 200 bytes, fsync before the answer",
            checksum: checksum)
    }
}

/// Durable appends to the embedded event log.
func registerEventAppend() {
    HotPath(name: "append: 1 record, fsync").measureWaiting(
        { (_, input: AppendInput) in
            blackHole(try await input.log.append([input.records[0]], to: AppendInput.topic, partition: 0))
        },
        prepare: { try await AppendInput.prepared("1 appender, 1 record in a call") })

    HotPath(name: "append: 16 appenders, per record", operations: .kilo).measureWaiting(
        { (benchmark, input: AppendInput) in
            let count = benchmark.scaledIterations.count
            try await withThrowingTaskGroup(of: UInt64.self) { group in
                for appender in 0..<16 {
                    group.addTask {
                        var last: UInt64 = 0
                        for index in stride(from: appender, to: count, by: 16) {
                            last = try await input.log.append(
                                [input.records[index]], to: AppendInput.topic, partition: 0)
                        }
                        return last
                    }
                }
                for try await last in group { blackHole(last) }
            }
        }, prepare: { try await AppendInput.prepared("16 appenders at once, 1 record in a call") })

    HotPath(name: "append: batches of 1,000, per record", operations: .kilo).measureWaiting(
        { (_, input: AppendInput) in
            blackHole(try await input.log.append(input.records, to: AppendInput.topic, partition: 0))
        },
        prepare: { try await AppendInput.prepared("1 appender, 1,000 records in a call") })
}
