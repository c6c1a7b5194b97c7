import Foundation
import PlatformCore
import PlatformTesting
import StoragePorts
import Testing

@testable import FileSystemAdapter

/// A reader that follows a log which another one writes.
struct LogFollowingTests {
    private let topic = Name(static: "predictions")

    /// The bytes by which a reader saw that the log has grown are those that it reads next.
    @Test(arguments: UInt64(0)..<6) func readsWhatWasWrittenWhereverItLooks(seed: UInt64) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "follow-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let configuration = SegmentEventLogConfiguration(synchronizes: false, segmentByteCountMax: 1 << 16)
        let writer = try SegmentEventLog(directory: folder, configuration: configuration)
        let reader = try SegmentEventLog(directory: folder, configuration: configuration)
        try await writer.createTopic(topic, partitions: 1)
        var random = SplitMix64(seed: seed)
        var written: [LogRecord] = []
        var read: [StoredRecord] = []
        for _ in 0..<60 {
            let batch = (0..<Int.random(in: 1...40, using: &random)).map { index in
                LogRecord(
                    key: "m\(index % 3)", time: EventTime(milliseconds: Int64(written.count + index)),
                    value: random.bytes(Int.random(in: 0...900, using: &random)))
            }
            try await writer.append(batch, to: topic)
            written += batch
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                switch Int.random(in: 0..<4, using: &random) {
                case 0: #expect(try await reader.endOffset(topic, partition: 0) == UInt64(written.count))
                case 1:
                    let old = UInt64.random(in: 0..<UInt64(written.count), using: &random)
                    let found = try await reader.read(
                        topic, partition: 0, from: old, recordCountMax: 3, byteCountMax: 1 << 20)
                    #expect(found.map(\.record) == Array(written[Int(old)...].prefix(found.count)))
                default:
                    let countMax = [2, 1000].randomElement(using: &random) ?? 1
                    read += try await reader.read(
                        topic, partition: 0, from: UInt64(read.count), recordCountMax: countMax,
                        byteCountMax: 1 << 20)
                }
            }
        }
        while read.count < written.count {
            let found = try await reader.read(topic, from: UInt64(read.count))
            try #require(!found.isEmpty)
            read += found
        }
        #expect(read.map(\.record) == written)
        #expect(read.map(\.offset) == (0..<UInt64(written.count)).map { $0 })
    }
}
