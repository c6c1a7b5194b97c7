import Foundation
import PlatformCore
import PlatformTesting
import StoragePorts
import Synchronization
import Testing

@testable import FileSystemAdapter

@Suite struct LogRecoveryTests {
    private let topic = Name(static: "recovery")

    private func record(_ number: Int) -> LogRecord {
        LogRecord(key: "k", time: EventTime(milliseconds: Int64(number)), value: Array("value \(number)".utf8))
    }

    /// A log with five commits of two records; gives its only segment and where each commit ends.
    private func makeSegment(in folder: String) async throws -> (bytes: [UInt8], ends: [Int]) {
        let log = try SegmentEventLog(directory: folder)
        try await log.createTopic(topic, partitions: 1)
        var ends: [Int] = []
        let path = LogSegment.path(in: "\(folder)/recovery/0", 0)
        for commit in 0..<5 {
            try await log.append([record(commit * 2), record(commit * 2 + 1)], to: topic)
            ends.append(try File(path, O_RDONLY, subject: "test").byteCount())
        }
        return (try #require(FileManager.default.contents(atPath: path).map { Array($0) }), ends)
    }

    /// Makes the files of a log whose only segment has these bytes; gives the folder.
    @discardableResult
    private func place(_ bytes: [UInt8], in folder: String) throws -> String {
        try FileManager.default.createDirectory(
            atPath: "\(folder)/recovery/0", withIntermediateDirectories: true)
        try FileManager.default.createDirectory(
            atPath: "\(folder)/recovery/consumers", withIntermediateDirectories: true)
        try Data("1\n".utf8).write(to: URL(fileURLWithPath: "\(folder)/recovery/partitions"))
        try Data(bytes).write(to: URL(fileURLWithPath: LogSegment.path(in: "\(folder)/recovery/0", 0)))
        return folder
    }

    @Test func cutsATailTornAtAnyByte() async throws {
        let folder = try TemporaryFolder("recovery")
        let (bytes, ends) = try await makeSegment(in: folder.path + "/made")
        for size in ends[2]..<bytes.count {
            // A folder of its own: a log that was let go a moment ago may still save its index.
            let place = try place(Array(bytes.prefix(size)), in: "\(folder.path)/\(size)")
            let tails = Mutex<[TornTail]>([])
            let log = try SegmentEventLog(
                directory: place,
                configuration: SegmentEventLogConfiguration(
                    synchronizes: false, onTornTail: { tail in tails.withLock { $0.append(tail) } }))
            let whole = try await log.read(topic, from: 0)
            #expect(whole.count >= 6 && whole.map(\.record) == (0..<whole.count).map(record))
            #expect(whole.count == 2 * ends.count { $0 <= size }, "the records of one call are there all or none")
            #expect(tails.withLock { $0.isEmpty }, "a reader cuts nothing")
            #expect(try await log.append([record(99)], to: topic) == UInt64(whole.count))
            let after = try await log.read(topic, from: 0)
            #expect(after.map(\.record) == whole.map(\.record) + [record(99)])
            let cut = tails.withLock { $0 }
            #expect(cut.count == log.tornTailCount)
            #expect(cut.isEmpty || cut[0].position + cut[0].byteCount == size)
        }
    }

    /// A file that was cut at a commit looks whole; that consumers have read further says that it is not.
    @Test func tellsOfRecordsThatConsumersHaveRead() async throws {
        let folder = try TemporaryFolder("recovery")
        let (bytes, ends) = try await makeSegment(in: folder.path + "/made")
        for (end, read) in [(ends[1], "10"), (ends[1] + 7, "6"), (SegmentHeader.byteCount, "2"), (ends[1], "5")] {
            let count = UInt64(2 * ends.count { $0 <= end })
            let place = try place(Array(bytes.prefix(end)), in: "\(folder.path)/\(end)-\(read)")
            for (name, text) in [
                ("a.0", "3\n"), ("monitor.0", "\(read)\n"), ("b.1", "90\n"), ("c.0", "?"),
                ("d.0", "18446744073709551615\n"),
            ] where name != "a.0" || count > 2 {
                try Data(text.utf8).write(to: URL(fileURLWithPath: "\(place)/recovery/consumers/\(name)"))
            }
            let lost = Mutex<[LostRecords]>([])
            let log = try SegmentEventLog(
                directory: place,
                configuration: SegmentEventLogConfiguration(
                    synchronizes: false, onLostRecords: { found in lost.withLock { $0.append(found) } }))
            #expect(try await log.append([record(99)], to: topic) == count)
            let found = lost.withLock { $0 }
            // One more than there are is remembered of topics that had no rows.
            let isTold = try #require(UInt64(read)) > count + 1
            #expect(found.map(\.from) == (isTold ? [count] : []) && found.map(\.to) == (isTold ? [UInt64(read)] : []))
            #expect(log.lostRecordCount == found.reduce(0) { $0 + Int($1.to - $1.from) })
        }
    }

    @Test func cutsADamagedLastCommitAndNothingElse() async throws {
        let folder = try TemporaryFolder("recovery")
        let (bytes, ends) = try await makeSegment(in: folder.path + "/made")
        for position in ends[2]..<bytes.count {
            var damaged = bytes
            damaged[position] ^= 0x10
            let place = try place(damaged, in: "\(folder.path)/\(position)")
            let log = try SegmentEventLog(
                directory: place, configuration: SegmentEventLogConfiguration(synchronizes: false))
            if position >= ends[3] {
                let next = try await log.append([record(99)], to: topic)
                #expect(next == 8, "the records of one call are there all or none")
                #expect(log.tornTailCount == 1)
                let after = try await log.read(topic, from: 0).map(\.record)
                #expect(after == (0..<Int(next)).map(record) + [record(99)])
            } else {
                // The commit behind it proves that the damaged one was acknowledged.
                #expect(try await log.append([record(99)], to: topic) == 10)
                #expect(log.tornTailCount == 0)
                let before = try await log.read(topic, from: 0).map(\.record)
                #expect(6...7 ~= before.count && before == (0..<before.count).map(record))
                await #expect(throws: StoreError.self) { _ = try await log.read(topic, from: UInt64(before.count)) }
                let after = try await log.read(topic, from: 8).map(\.record)
                #expect(after == [record(8), record(9), record(99)])
            }
        }
    }

    /// What another process reads while a call is being written, or after its writer died, is nothing of that call.
    @Test func aReaderSeesNothingOfAnUnfinishedCall() async throws {
        let folder = try TemporaryFolder("recovery")
        let (bytes, ends) = try await makeSegment(in: folder.path + "/made")
        for size in stride(from: ends[1], through: bytes.count, by: 3) {
            try place(Array(bytes.prefix(ends[1])), in: folder.path)
            let reader = try SegmentEventLog(directory: folder.path)
            #expect(try await reader.endOffset(topic, partition: 0) == 4)
            try place(Array(bytes.prefix(size)), in: folder.path)
            #expect(try await reader.endOffset(topic, partition: 0) == UInt64(2 * ends.count { $0 <= size }))
            try place(bytes, in: folder.path)
            #expect(try await reader.read(topic, from: 0).map(\.record) == (0..<10).map(record))
        }
    }

    @Test func namesDamageInTheMiddleAndWhereReadingCanGoOn() async throws {
        let folder = try TemporaryFolder("recovery")
        let (bytes, ends) = try await makeSegment(in: folder.path + "/made")
        var damaged = bytes
        damaged[ends[0] + LogFrame.headerByteCount] ^= 1
        try place(damaged, in: folder.path)
        let log = try SegmentEventLog(directory: folder.path)
        #expect(try await log.endOffset(topic, partition: 0) == 10)
        #expect(try await log.read(topic, from: 0).map(\.offset) == [0, 1])
        do {
            _ = try await log.read(topic, from: 2)
            Issue.record("damage was read over")
        } catch {
            #expect(error.code == .corrupted)
            #expect(error.message.contains("reading can go on at 3"))
        }
        #expect(try await log.read(topic, from: 3).map(\.offset) == Array(3..<10))
        let found = try await log.firstOffset(topic, partition: 0, atOrAfter: EventTime(milliseconds: 6))
        #expect(found == 2, "nobody knows the time of the damaged record")
    }

    @Test func rebuildsIndexesThatAreMissingOrDamaged() async throws {
        let folder = try TemporaryFolder("recovery")
        let configuration = SegmentEventLogConfiguration(synchronizes: false, segmentByteCountMax: 200_000)
        var generator = SplitMix64(seed: 11)
        let records = (0..<900).map {
            LogRecord(time: EventTime(milliseconds: Int64($0)), value: generator.bytes(500 + $0))
        }
        do {
            let log = try SegmentEventLog(directory: folder.path, configuration: configuration)
            try await log.createTopic(topic, partitions: 1)
            for start in stride(from: 0, to: 900, by: 30) {
                try await log.append(Array(records[start..<(start + 30)]), to: topic)
            }
        }
        let partition = "\(folder.path)/recovery/0"
        let indexes = try FileManager.default.contentsOfDirectory(atPath: partition).filter { $0.hasSuffix(".index") }
        #expect(indexes.count > 3)
        for (position, name) in indexes.enumerated() {
            let path = "\(partition)/\(name)"
            if position % 2 == 0 {
                try FileManager.default.removeItem(atPath: path)
            } else {
                try Data(generator.bytes(300)).write(to: URL(fileURLWithPath: path))
            }
        }
        let log = try SegmentEventLog(directory: folder.path, configuration: configuration)
        for offset in stride(from: 0, to: 900, by: 47) {
            let found = try await log.read(
                topic, partition: 0, from: UInt64(offset), recordCountMax: 1, byteCountMax: 1)
            #expect(found.map(\.record) == [records[offset]])
            let time = EventTime(milliseconds: Int64(offset))
            #expect(try await log.firstOffset(topic, partition: 0, atOrAfter: time) == UInt64(offset))
        }
    }

    @Test(arguments: UInt64(0)..<40) func readsRandomBytesWithoutHarm(seed: UInt64) async throws {
        let folder = try TemporaryFolder("recovery")
        let (sound, _) = try await makeSegment(in: folder.path + "/made")
        var generator = SplitMix64(seed: seed)
        var bytes = seed % 2 == 0 ? generator.bytes(Int.random(in: 0...400, using: &generator)) : sound
        if seed % 2 == 1 {
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8(truncatingIfNeeded: generator.next())
            }
        }
        try place(bytes, in: folder.path)
        let log = try SegmentEventLog(
            directory: folder.path, configuration: SegmentEventLogConfiguration(synchronizes: false))
        for offset in UInt64(0)..<11 {
            do {
                for stored in try await log.read(topic, from: offset) where stored.offset < 10 {
                    #expect(stored.record == record(Int(stored.offset)), "what is given is what was written")
                }
            } catch { #expect(error.code == .corrupted) }
        }
        let end = try await log.append([record(77)], to: topic)
        #expect(try await log.read(topic, from: end).map(\.record) == [record(77)])
    }
}
