import PlatformCore
import PlatformTesting
public import StoragePorts
import Testing

/// What every `EventLog` promises; a test of an adapter calls one function per promise.
public struct EventLogContract: Sendable {
    private let makeLog: @Sendable (_ folder: String) async throws -> any EventLog

    /// - Parameter makeLog: opens a log that keeps what it has, if it keeps it in files, in this folder.
    public init(_ makeLog: @escaping @Sendable (_ folder: String) async throws -> any EventLog) {
        self.makeLog = makeLog
    }

    private let topic = Name(static: "source.departures")

    private func withLog(partitions: Int = 1, _ body: (any EventLog) async throws -> Void) async throws {
        let folder = try TemporaryFolder("log")
        let log = try await makeLog(folder.path)
        try await log.createTopic(topic, partitions: partitions)
        try await body(log)
        withExtendedLifetime(folder) {}
    }
    private func record(_ number: Int, time: Int64? = nil, byteCount: Int = 3) -> LogRecord {
        LogRecord(
            key: "key \(number % 7)", time: EventTime(milliseconds: time ?? Int64(number) * 10),
            value: (0..<byteCount).map { UInt8(truncatingIfNeeded: number &* 31 &+ $0) })
    }

    /// Topics are made once, with the number of partitions that they keep.
    public func makesTopicsOnce() async throws {
        try await withLog(partitions: 3) { log in
            try await log.createTopic(topic, partitions: 3)
            await expectRefusal(.conflict) { try await log.createTopic(topic, partitions: 2) }
            await expectRefusal(.invalidInput) { try await log.createTopic(Name(static: "none"), partitions: 0) }
            try await log.createTopic(Name(static: "another"), partitions: 1)
            #expect(try await log.topics() == [Name(static: "another"), topic])
            await expectRefusal(.notFound) { _ = try await log.append([record(1)], to: Name(static: "missing")) }
            for partition in [-1, 3] {
                await expectRefusal(.notFound) {
                    _ = try await log.append([record(1)], to: topic, partition: partition)
                }
                await expectRefusal(.notFound) { _ = try await log.endOffset(topic, partition: partition) }
            }
        }
    }
    /// A key finds the records that reading all of them finds, wherever one begins, also those that came since.
    public func findsByKey() async throws {
        try await withLog { log in
            var count = 0
            for round in 0..<12 {
                let batch = (0..<40).map { number in
                    let number = count + number
                    // Some keys once, some in every round; one that is empty and some that differ in their last byte.
                    let key = number % 5 == 0 ? "" : number % 3 == 0 ? "often \(number % 4)" : "once \(number)"
                    return LogRecord(
                        key: key, time: EventTime(milliseconds: Int64(number)), value: [UInt8](repeating: 7, count: 90))
                }
                _ = try await log.append(batch, to: topic)
                count += batch.count
                let all = try await log.read(
                    topic, partition: 0, from: 0, recordCountMax: 10_000, byteCountMax: 1 << 24)
                for key in ["", "often 0", "often 1", "once 1", "once \(count - 2)", "never", "ключ"] {
                    for start in [0, UInt64(round * 17), UInt64(count), UInt64(count) + 9] {
                        let found = try await log.records(topic, partition: 0, key: key, from: start)
                        #expect(found == all.filter { $0.record.key == key && $0.offset >= start })
                    }
                }
            }
            await expectRefusal(.notFound) {
                _ = try await log.records(Name(static: "missing"), partition: 0, key: "", from: 0)
            }
        }
    }
    /// Records get offsets from 0 without gaps and come back as they were.
    public func numbersRecordsWithoutGaps() async throws {
        try await withLog(partitions: 2) { log in
            let odd = [
                LogRecord(time: EventTime(milliseconds: .min), value: []),
                LogRecord(key: "ключ", time: EventTime(milliseconds: .max), value: [0]),
            ]
            #expect(try await log.append(odd, to: topic) == 0)
            #expect(try await log.append([record(1), record(2)], to: topic) == 2)
            #expect(try await log.append([], to: topic) == 4)
            #expect(try await log.append([record(3)], to: topic, partition: 1) == 0)
            #expect(try await log.endOffset(topic, partition: 0) == 4)
            let found = try await log.read(topic, from: 0)
            #expect(found.map(\.offset) == [0, 1, 2, 3])
            #expect(found.map(\.record) == odd + [record(1), record(2)])
            #expect(try await log.read(topic, from: 3).map(\.record) == [record(2)])
            #expect(try await log.read(topic, from: 4).isEmpty)
            #expect(try await log.read(topic, from: .max).isEmpty)
        }
    }
    /// A read keeps to both limits, but gives at least one record.
    public func keepsToTheReadersLimits() async throws {
        try await withLog { log in
            try await log.append((0..<20).map { record($0, byteCount: 1_000) }, to: topic)
            for (recordCountMax, byteCountMax, expected) in [
                (5, 1 << 20, 5), (100, 3_500, 3), (100, 1, 1), (0, 100, 0),
            ] {
                let found = try await log.read(
                    topic, partition: 0, from: 2, recordCountMax: recordCountMax, byteCountMax: byteCountMax)
                #expect(found.map(\.offset) == (0..<expected).map { UInt64($0 + 2) })
            }
        }
    }
    /// A record over the limit is refused and nothing of its call is kept; one at the limit is taken.
    public func refusesRecordsThatAreTooLarge() async throws {
        try await withLog { log in
            let large = LogRecord(
                time: EventTime(milliseconds: 0), value: Array(repeating: 1, count: recordByteCountMax + 1))
            await expectRefusal(.invalidInput) { try await log.append([record(1), large], to: topic) }
            #expect(try await log.endOffset(topic, partition: 0) == 0)
            let fits = LogRecord(time: large.time, value: Array(large.value.dropLast()))
            try await log.append([fits, record(2)], to: topic)
            #expect(try await log.read(topic, from: 0).map(\.record) == [fits, record(2)])
        }
    }
    /// Calls that run at once each keep their records together and in order.
    public func keepsTheRecordsOfACallTogether() async throws {
        try await withLog { log in
            let starts = try await withThrowingTaskGroup(of: (Int, UInt64).self) { group in
                for call in 0..<40 {
                    let records = (0..<5).map { record(call * 100 + $0) }
                    group.addTask { (call, try await log.append(records, to: topic)) }
                }
                return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
            }
            let found = try await log.read(topic, from: 0)
            try #require(found.map(\.offset) == Array(0..<200))
            for (call, start) in starts {
                #expect(found[Int(start)..<Int(start + 5)].map(\.record) == (0..<5).map { record(call * 100 + $0) })
            }
        }
    }
    /// Reads in portions give every record once, over however many files they lie in.
    public func readsInPortions() async throws {
        try await withLog { log in
            var generator = SplitMix64(seed: 3)
            var written: [LogRecord] = []
            while written.count < 600 {
                let batch = (0..<Int.random(in: 1...40, using: &generator)).map {
                    record(written.count + $0, byteCount: Int.random(in: 0...400, using: &generator))
                }
                try await log.append(batch, to: topic)
                written += batch
            }
            var read: [LogRecord] = []
            while true {
                let portion = try await log.read(
                    topic, partition: 0, from: UInt64(read.count),
                    recordCountMax: Int.random(in: 1...50, using: &generator), byteCountMax: 5_000)
                if portion.isEmpty { break }
                #expect(portion[0].offset == UInt64(read.count))
                read += portion.map(\.record)
            }
            #expect(read == written)
            for _ in 0..<50 {
                let offset = Int.random(in: 0..<written.count, using: &generator)
                let found = try await log.read(
                    topic, partition: 0, from: UInt64(offset), recordCountMax: 1, byteCountMax: 1)
                #expect(found == [StoredRecord(offset: UInt64(offset), record: written[offset])])
            }
        }
    }
    /// A lookup by time never skips a record at or after the time, also where times fall back.
    public func findsByTimeAndNeverTooLate() async throws {
        try await withLog { log in
            #expect(try await log.firstOffset(topic, partition: 0, atOrAfter: EventTime(milliseconds: 0)) == 0)
            var generator = SplitMix64(seed: 4)
            let times = (0..<800).map { Int64($0) * 10 + Int64.random(in: -200...200, using: &generator) }
            for start in stride(from: 0, to: times.count, by: 40) {
                try await log.append(times[start..<(start + 40)].map { record(1, time: $0, byteCount: 300) }, to: topic)
            }
            for time in stride(from: Int64(-300), to: 8_400, by: 70) {
                let first = try await log.firstOffset(topic, partition: 0, atOrAfter: EventTime(milliseconds: time))
                let exact = times.firstIndex { $0 >= time } ?? times.count
                #expect(first <= exact, "never too late")
                #expect(exact - Int(first) <= 41, "and near: times are out of order by at most 40 records")
            }
            let end = try await log.firstOffset(topic, partition: 0, atOrAfter: EventTime(milliseconds: 1 << 40))
            #expect(end == UInt64(times.count))
        }
    }
    /// A consumer's position is what it last committed, for each partition.
    public func remembersPositions() async throws {
        try await withLog(partitions: 2) { log in
            let consumer = Name(static: "aggregator")
            #expect(try await log.position(consumer, topic: topic, partition: 1) == 0)
            for offset in [UInt64(5), 3, .max] {
                try await log.commit(consumer, topic: topic, partition: 1, offset: offset)
                #expect(try await log.position(consumer, topic: topic, partition: 1) == offset)
            }
            #expect(try await log.position(consumer, topic: topic, partition: 0) == 0)
            #expect(try await log.position(Name(static: "aggregator.1"), topic: topic, partition: 1) == 0)
            await expectRefusal(.notFound) {
                try await log.commit(consumer, topic: Name(static: "missing"), partition: 0, offset: 1)
            }
        }
    }
    /// Dropping takes records from the beginning, none that the limit keeps and never all; reading goes on behind them.
    public func dropsFromTheBeginningOnly() async throws {
        try await withLog(partitions: 2) { log in
            for number in 0..<200 { try await log.append([record(number, byteCount: 200)], to: topic) }
            #expect(try await log.startOffset(topic, partition: 0) == 0)
            let nothing = try await log.drop(
                topic, partition: 0, upTo: LogDropLimit(offset: 0, time: .init(milliseconds: .max)))
            #expect(nothing == LogDrop(startOffset: 0, recordCount: 0, byteCount: 0, newestTime: nil))
            for (offset, time) in [(UInt64.max, Int64(500)), (90, 1 << 40), (.max, .max)] as [(UInt64, Int64)] {
                let before = try await log.startOffset(topic, partition: 0)
                var limit = LogDropLimit(offset: offset, time: EventTime(milliseconds: time), isRehearsal: true)
                let said = try await log.drop(topic, partition: 0, upTo: limit)
                #expect(try await log.startOffset(topic, partition: 0) == before, "a rehearsal drops nothing")
                limit.isRehearsal = false
                let done = try await log.drop(topic, partition: 0, upTo: limit)
                #expect(done == said)
                let start = try await log.startOffset(topic, partition: 0)
                #expect(start == done.startOffset && start - before == UInt64(done.recordCount) && start < 200)
                #expect(
                    start <= offset && Int64(start) * 10 <= max(time, 10)
                        && (start == before) == (done.newestTime == nil))
                if let newest = done.newestTime { #expect(newest == EventTime(milliseconds: Int64(start - 1) * 10)) }
                let kept = try await log.read(topic, from: 0)
                #expect(kept.map(\.offset) == Array(start..<200), "reading begins at the first that stays")
                #expect(kept.map(\.record) == (Int(start)..<200).map { record($0, byteCount: 200) })
                let found = try await log.firstOffset(topic, partition: 0, atOrAfter: EventTime(milliseconds: 0))
                #expect(found == start)
            }
            #expect(try await log.append([record(200)], to: topic) == 200)
            #expect(try await log.read(topic, from: 199).map(\.offset) == [199, 200])
            #expect(try await log.startOffset(topic, partition: 1) == 0, "another partition stays as it is")
            await expectRefusal(.notFound) { _ = try await log.startOffset(Name(static: "missing"), partition: 0) }
        }
    }
    /// Every consumer of a partition is known with its position.
    public func knowsItsConsumers() async throws {
        try await withLog(partitions: 12) { log in
            #expect(try await log.positions(topic, partition: 1) == [:])
            for (name, partition) in [("a", 1), ("scores.b-c.1", 1), ("d", 11)] {
                let consumer = try #require(Name(name))
                try await log.commit(consumer, topic: topic, partition: partition, offset: UInt64(partition) + 4)
            }
            let found = try await log.positions(topic, partition: 1)
            #expect(found == [Name(static: "a"): 5, Name(static: "scores.b-c.1"): 5])
        }
    }
    /// A waiting reader wakes for an append and for nothing else.
    public func wakesReadersWhenThereIsMore() async throws {
        try await withLog { log in
            try await log.append([record(0)], to: topic)
            let clock = ContinuousClock()
            let known = try await clock.measure {
                try await log.waitForRecords(topic, partition: 0, past: 0, timeout: .seconds(30))
            }
            #expect(known < .seconds(10), "it is there already")
            let nothing = try await clock.measure {
                try await log.waitForRecords(topic, partition: 0, past: 1, timeout: .milliseconds(60))
            }
            #expect(nothing >= .milliseconds(60))
            try await withThrowingTaskGroup { group in
                for _ in 0..<3 {
                    group.addTask {
                        try await log.waitForRecords(topic, partition: 0, past: 1, timeout: .seconds(30))
                        #expect(try await log.read(topic, from: 1).map(\.record) == [record(1)])
                    }
                }
                try await Task.sleep(for: .milliseconds(20))
                let appended = clock.now
                try await log.append([record(1)], to: topic)
                try await group.waitForAll()
                #expect(clock.now - appended < .seconds(10))
            }
        }
    }
    /// A log that is opened again has records and positions.
    ///
    /// Not for logs in memory.
    public func survivesReopening() async throws {
        let folder = try TemporaryFolder("log")
        for round in 0..<4 {
            let log = try await makeLog(folder.path)
            try await log.createTopic(topic, partitions: 1)
            #expect(try await log.endOffset(topic, partition: 0) == UInt64(round * 50))
            #expect(try await log.position(Name(static: "reader"), topic: topic, partition: 0) == UInt64(round))
            let records = (0..<50).map { record(round * 50 + $0, byteCount: 200) }
            #expect(try await log.append(records, to: topic) == UInt64(round * 50))
            try await log.commit(Name(static: "reader"), topic: topic, partition: 0, offset: UInt64(round + 1))
        }
        let found = try await makeLog(folder.path).read(topic, from: 0).map(\.record)
        #expect(found.prefix(50) == (0..<50).map { record($0, byteCount: 200) }[...])
    }
}
