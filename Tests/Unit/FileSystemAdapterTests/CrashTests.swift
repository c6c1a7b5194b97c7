import FileSystemAdapter
import Foundation
import PlatformCore
import PlatformTesting
import StoragePorts
import Testing

@Suite(.serialized) struct CrashTests {
    private let topic = Name(static: "crash")

    private func content(_ number: Int) -> LogRecord {
        LogRecord(
            key: "\(number)", time: EventTime(milliseconds: Int64(number)),
            value: (0..<(number % 300)).map { UInt8(truncatingIfNeeded: number &+ $0) })
    }

    private func all(_ log: SegmentEventLog) async throws -> [StoredRecord] {
        var found: [StoredRecord] = []
        while true {
            let portion = try await log.read(topic, from: UInt64(found.count))
            if portion.isEmpty { return found }
            found += portion
        }
    }

    /// Each round kills the writer at a random moment; what it has printed must be there, and the log must go on.
    @Test(arguments: [1, 8]) func keepsEveryAcknowledgedRecordThroughKills(writers: Int) async throws {
        let folder = try TemporaryFolder("crash")
        var generator = SplitMix64(seed: UInt64(writers))
        for round in 0..<8 {
            let writer = try ChildProgram(
                "crash-writer", ["log", "\(folder.path)/log", "\(writers)"], output: "\(folder.path)/output")
            while writer.lines().isEmpty { try await Task.sleep(for: .milliseconds(2)) }
            try await Task.sleep(for: .milliseconds(Int.random(in: 0...60, using: &generator)))
            writer.kill()
            let log = try SegmentEventLog(directory: "\(folder.path)/log")
            let found = try await all(log)
            #expect(found.map(\.offset) == Array(0..<UInt64(found.count)))
            for line in writer.lines() {
                let numbers = line.split(separator: " ").compactMap { Int($0) }
                try #require(numbers.count == 2 && numbers[1] < found.count, "round \(round): \(line) is not there")
                #expect(found[numbers[1]].record == content(numbers[0]))
            }
            #expect(try await log.append([content(round)], to: topic) == UInt64(found.count))
        }
    }

    @Test func refusesASecondWritingProcessAndLetsItRead() async throws {
        let folder = try TemporaryFolder("crash")
        let writer = try ChildProgram("crash-writer", ["log", folder.path, "1"], output: "\(folder.path)/output")
        while writer.lines().isEmpty { try await Task.sleep(for: .milliseconds(2)) }
        let log = try SegmentEventLog(directory: folder.path)
        do {
            try await log.append([content(0)], to: topic)
            Issue.record("two processes write")
        } catch {
            #expect(error.code == .locked)
            #expect(error.message.contains("(\(writer.identifier))"))
        }
        // Tails what the other process writes, over several segments, and sees each record once.
        var next: UInt64 = 0
        while next < 800 {
            try await log.waitForRecords(topic, partition: 0, past: next, timeout: .seconds(20))
            let portion = try await log.read(topic, from: next)
            try #require(!portion.isEmpty)
            for stored in portion {
                #expect(stored.offset == next)
                #expect(stored.record == content(Int(next)))
                next += 1
            }
        }
        writer.kill()
    }

    @Test func saysThatTheDiskIsFullAndGoesOnWhenItIsNot() async throws {
        let folder = try TemporaryFolder("full")
        let writer = try ChildProgram(
            "crash-writer", ["limited", "\(folder.path)/log", "20000"], output: "\(folder.path)/output")
        #expect(writer.end() == 0)
        let lines = writer.lines()
        #expect(lines.filter { $0 == "full" }.count == 1)
        #expect(lines.filter { $0 != "full" } == (0..<2_000).map { "\($0) \($0)" })
        let found = try await all(SegmentEventLog(directory: "\(folder.path)/log"))
        #expect(found.map(\.record) == (0..<2_000).map(content))
    }
}
