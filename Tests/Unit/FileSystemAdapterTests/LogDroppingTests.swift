import Foundation
import PlatformCore
import PlatformTesting
import StoragePorts
import Testing

@testable import FileSystemAdapter

/// Old segments go whole, from the beginning, and whatever interrupts that leaves a log without holes.
@Suite struct LogDroppingTests {
    private let topic = Name(static: "old")
    private let ever = EventTime(milliseconds: .max)

    private func record(_ number: Int) -> LogRecord {
        LogRecord(
            key: "k", time: EventTime(milliseconds: Int64(number)),
            value: Array("value \(number) \(String(repeating: "x", count: 300))".utf8))
    }

    private func open(_ folder: String) throws -> SegmentEventLog {
        try SegmentEventLog(
            directory: folder, configuration: .init(synchronizes: false, segmentByteCountMax: 4_096))
    }

    private func fill(_ log: SegmentEventLog, _ numbers: Range<Int>) async throws {
        try await log.createTopic(topic, partitions: 1)
        for number in numbers { try await log.append([record(number)], to: topic) }
    }

    private func expectWhole(_ log: SegmentEventLog, from start: UInt64, to end: Int) async throws {
        let found = try await log.read(topic, from: 0)
        #expect(found.map(\.offset) == Array(start..<UInt64(end)))
        #expect(found.map(\.record) == (Int(start)..<end).map(record), "another content")
    }

    /// Every state that a removal passes through, file by file, as a crash would leave it.
    @Test func leavesNoHoleWhereverARemovalEnds() async throws {
        let folder = try TemporaryFolder("dropping")
        let made = "\(folder.path)/made"
        try await fill(try open(made), 0..<60)
        let partition = "\(made)/old/0"
        let bases = try LogSegment.baseOffsets(in: partition, subject: "test")
        try #require(bases.count >= 4)
        try Data([1]).write(to: URL(fileURLWithPath: LogSegment.path(in: partition, bases[1]).dropLast(4) + ".torn-77"))
        let start = bases[3]
        let order = LogSegment.files(before: start, in: try FileManager.default.contentsOfDirectory(atPath: partition))
        #expect(order.count >= 7 && order.filter { $0.hasSuffix(".log") }.count == 3)
        for count in 0...order.count {
            let copy = "\(folder.path)/\(count)"
            try FileManager.default.copyItem(atPath: made, toPath: copy)
            for name in order.prefix(count) { try FileManager.default.removeItem(atPath: "\(copy)/old/0/\(name)") }
            let gone = order.prefix(count).count { $0.hasSuffix(".log") }
            let reader = try open(copy)
            try await expectWhole(reader, from: bases[gone], to: 60)
            let writer = try open(copy)
            #expect(try await writer.append([record(60)], to: topic) == 60)
            let drop = try await writer.drop(topic, partition: 0, upTo: LogDropLimit(offset: start, time: ever))
            #expect(drop.startOffset == start)
            try await expectWhole(writer, from: start, to: 61)
            // It may still have files open whose names are gone; it sees no hole either.
            let seen = try await reader.read(topic, from: 0).map(\.offset)
            #expect(seen.first.map { $0 <= start } ?? false && seen == Array((seen.first ?? 0)..<61))
            let left = try FileManager.default.contentsOfDirectory(atPath: "\(copy)/old/0")
            if gone < 3 { #expect(LogSegment.files(before: start, in: left).isEmpty) }
        }
    }

    @Test func aReaderOfAnotherProcessGoesOn() async throws {
        let folder = try TemporaryFolder("dropping")
        let writer = try open(folder.path)
        try await fill(writer, 0..<60)
        // It has looked at the files, and has none of them open but the last.
        let reader = try open(folder.path)
        #expect(try await reader.endOffset(topic, partition: 0) == 60)
        let drop = try await writer.drop(topic, partition: 0, upTo: LogDropLimit(offset: 40, time: ever))
        #expect(drop.recordCount > 0 && drop.startOffset <= 40)
        #expect(
            try await reader.firstOffset(topic, partition: 0, atOrAfter: .init(milliseconds: 0)) == drop.startOffset)
        #expect(try await reader.startOffset(topic, partition: 0) == drop.startOffset)
        let late = try open(folder.path)
        try await expectWhole(late, from: drop.startOffset, to: 60)
        try await expectWhole(reader, from: drop.startOffset, to: 60)
    }

    @Test func closesWhatHasGrownOldSoThatItCanGo() async throws {
        let folder = try TemporaryFolder("dropping")
        let log = try SegmentEventLog(directory: folder.path, configuration: .init(synchronizes: false))
        try await fill(log, 0..<10)
        var limit = LogDropLimit(time: EventTime(milliseconds: 10), closingBefore: EventTime(milliseconds: 0))
        #expect(try await log.drop(topic, partition: 0, upTo: limit).recordCount == 0, "one segment that still grows")
        limit.closingBefore = EventTime(milliseconds: 5)
        #expect(try await log.drop(topic, partition: 0, upTo: limit).recordCount == 0, "one record stays at least")
        try await log.append([record(10)], to: topic)
        #expect(try await log.drop(topic, partition: 0, upTo: limit).recordCount == 10)
        try await expectWhole(log, from: 10, to: 11)
        #expect(try await log.drop(topic, partition: 0, upTo: limit).recordCount == 0)
        #expect(try await open(folder.path).read(topic, from: 0).map(\.offset) == [10])
    }
}
