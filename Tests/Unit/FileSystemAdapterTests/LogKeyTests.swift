import Foundation
import PlatformCore
import PlatformTesting
import StoragePorts
import Testing

@testable import FileSystemAdapter

/// Records that are found by their keys.
struct LogKeyTests {
    private let topic = Name(static: "labels")

    /// A log of 3,000 records in segments of 64 KiB, its folder, and what was written.
    private func filled(_ folder: String) async throws -> (log: SegmentEventLog, written: [LogRecord]) {
        let log = try SegmentEventLog(
            directory: folder,
            configuration: SegmentEventLogConfiguration(synchronizes: false, segmentByteCountMax: 1 << 16))
        try await log.createTopic(topic, partitions: 1)
        var written: [LogRecord] = []
        for part in 0..<30 {
            let batch = (0..<100).map { number in
                LogRecord(
                    key: "key \((part * 100 + number) % 1700)",
                    time: EventTime(milliseconds: Int64(part * 100 + number)), value: Array("value \(number)".utf8))
            }
            try await log.append(batch, to: topic)
            written += batch
        }
        return (log, written)
    }

    private func withFolder(_ body: (String) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "keys-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await body(folder)
    }

    private func files(_ folder: String, _ suffix: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "\(folder)/labels/0").filter { $0.hasSuffix(suffix) }
            .sorted().map { "\(folder)/labels/0/\($0)" }
    }

    @Test func aQuestionReadsNoOtherRecordsOfAFullSegment() async throws {
        try await withFolder { folder in
            let (log, written) = try await filled(folder)
            let expected = written.filter { $0.key == "key 7" }
            #expect(try await log.records(topic, partition: 0, key: "key 7", from: 0).map(\.record) == expected)
            let segments = try files(folder, ".log")
            #expect(try files(folder, ".keys").count == segments.count - 1)
            // The end of the first segment is damaged: who reads it all stumbles, the table leads past it.
            var bytes = try Data(contentsOf: URL(fileURLWithPath: segments[0]))
            for place in (bytes.count - 2000)..<bytes.count { bytes[place] = 0xFF }
            try bytes.write(to: URL(fileURLWithPath: segments[0]))
            let other = try SegmentEventLog(directory: folder)
            await #expect(throws: StoreError.self) {
                var offset: UInt64 = 0
                while let last = try await other.read(topic, from: offset).last { offset = last.offset + 1 }
            }
            #expect(try await other.records(topic, partition: 0, key: "key 7", from: 0).map(\.record) == expected)
        }
    }

    @Test func aDamagedTableIsMadeAgain() async throws {
        try await withFolder { folder in
            let (log, written) = try await filled(folder)
            _ = try await log.records(topic, partition: 0, key: "", from: 0)
            for (number, path) in try files(folder, ".keys").enumerated() {
                var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
                switch number % 3 {
                case 0: bytes.removeLast(100)
                case 1: for place in stride(from: 9, to: bytes.count, by: 97) { bytes[place] ^= 4 }
                default: bytes = Data()
                }
                try bytes.write(to: URL(fileURLWithPath: path))
            }
            for key in ["key 0", "key 3", "key 1699", "none"] {
                let found = try await log.records(topic, partition: 0, key: key, from: 0)
                #expect(found.map(\.record) == written.filter { $0.key == key })
            }
        }
    }

    @Test func everyKeyOfManyIsFound() async throws {
        try await withFolder { folder in
            let (log, written) = try await filled(folder)
            for number in stride(from: 0, to: 1700, by: 13) {
                let key = "key \(number)"
                let found = try await log.records(topic, partition: 0, key: key, from: 900)
                #expect(found.map(\.record) == written[900...].filter { $0.key == key })
            }
        }
    }

    /// More entries than one block has, many of one key.
    @Test func aTableOfSeveralBlocksFindsEveryPlace() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "table-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let keys = (0..<5000).map { $0 % 3 == 0 ? "many" : "key \($0 % 900)" }
        let entries = keys.enumerated().map { KeyEntry($1, place: UInt64($0)) }
        try Data(KeyTable.encoded(entries)).write(to: URL(fileURLWithPath: folder))
        let table = try #require(KeyTable(path: folder, subject: "test"))
        for key in Set(keys) {
            let expected = keys.indices.filter { keys[$0] == key }.map(UInt64.init)
            #expect(try table.places(of: key) == expected)
        }
        #expect(try table.places(of: "none") == [])
    }
}
