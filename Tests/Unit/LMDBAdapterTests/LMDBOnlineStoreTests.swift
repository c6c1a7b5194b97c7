import Foundation
import PlatformCore
import PlatformTesting
import StoragePorts
import Testing

@testable import LMDBAdapter

@Suite struct LMDBOnlineStoreTests {
    private let view = Name(static: "crash")

    private func row(_ sequence: UInt64, byteCount: Int) -> OnlineRow {
        OnlineRow(
            eventTime: EventTime(milliseconds: 1), ingestTime: EventTime(milliseconds: 2), sequence: sequence,
            payload: Array(repeating: 7, count: byteCount))
    }

    @Test func keepsEveryAcknowledgedWriteThroughKills() async throws {
        let folder = try TemporaryFolder("online")
        var generator = SplitMix64(seed: 5)
        let keys = (0..<100).map { EntityKey(joined: "entity \($0)") }
        for _ in 0..<6 {
            let writer = try ChildProgram("crash-writer", ["online", folder.path], output: "\(folder.path)/output")
            while writer.lines().isEmpty { try await Task.sleep(for: .milliseconds(2)) }
            try await Task.sleep(for: .milliseconds(Int.random(in: 0...40, using: &generator)))
            writer.kill()
            let store = try LMDBOnlineStore(
                directory: folder.path, configuration: LMDBConfiguration(mapByteCountMax: 64 << 20))
            let last = try #require(writer.lines().last.flatMap { UInt64($0) })
            let sequences = Set(try store.read(keys, from: view).map { $0?.sequence ?? 0 })
            #expect(sequences.count == 1 && (sequences.first ?? 0) >= last)
            #expect(try await store.checkpoint(view)?.offsets["crash/0"] == sequences.first)
        }
    }

    @Test func readsWhileAnotherProcessWrites() async throws {
        let folder = try TemporaryFolder("online")
        let writer = try ChildProgram("crash-writer", ["online", folder.path], output: "\(folder.path)/output")
        while writer.lines().isEmpty { try await Task.sleep(for: .milliseconds(2)) }
        let store = try LMDBOnlineStore(
            directory: folder.path, configuration: LMDBConfiguration(mapByteCountMax: 64 << 20))
        let keys = (0..<100).map { EntityKey(joined: "entity \($0)") }
        var newest: UInt64 = 0
        while newest < 30 {
            let sequences = Set(try store.read(keys, from: view).map { $0?.sequence ?? 0 })
            #expect(sequences.count == 1, "one state")
            newest = max(newest, sequences.first ?? 0)
            await Task.yield()
        }
        writer.kill()
    }

    @Test func saysThatItIsFullAndKeepsWhatItHas() async throws {
        let folder = try TemporaryFolder("online")
        let store = try LMDBOnlineStore(
            directory: folder.path, configuration: LMDBConfiguration(mapByteCountMax: 1 << 20))
        var written = 0
        do {
            while written < 10_000 {
                let rows = (0..<10).map {
                    KeyedOnlineRow(key: EntityKey(joined: "\(written)-\($0)"), row: row(1, byteCount: 1_000))
                }
                try await store.write(
                    [view: rows], checkpoint: OnlineCheckpoint(name: view, offsets: ["t/0": UInt64(written)]))
                written += 1
            }
        } catch { #expect(error.code == .full) }
        #expect((10..<200) ~= written)
        #expect(try store.read(EntityKey(joined: "\(written - 1)-9"), from: view) == row(1, byteCount: 1_000))
        #expect(try store.read(EntityKey(joined: "\(written)-0"), from: view) == nil)
        #expect(try await store.checkpoint(view)?.offsets["t/0"] == UInt64(written - 1))
        try await store.drop(view)
        try await store.write(
            [view: [KeyedOnlineRow(key: EntityKey(joined: "new"), row: row(1, byteCount: 9))]], checkpoint: nil)
    }

    @Test func refusesToOpenTwiceAndFilesThatAreNone() async throws {
        let folder = try TemporaryFolder("online")
        let store = try LMDBOnlineStore(directory: folder.path)
        #expect { try LMDBOnlineStore(directory: folder.path) } throws: { ($0 as? StoreError)?.code == .locked }
        #expect(try store.read([], from: view).isEmpty)
        let other = try TemporaryFolder("online")
        var generator = SplitMix64(seed: 6)
        try Data(generator.bytes(20_000)).write(to: URL(fileURLWithPath: other.path + "/data.mdb"))
        #expect { try LMDBOnlineStore(directory: other.path) } throws: { ($0 as? StoreError)?.code == .corrupted }
    }

    @Test func reportsAFileThatWasCut() async throws {
        let folder = try TemporaryFolder("online")
        let keys = (0..<3_000).map { EntityKey(joined: "entity \($0)") }
        do {
            let store = try LMDBOnlineStore(directory: folder.path)
            try await store.write(
                [view: keys.map { KeyedOnlineRow(key: $0, row: row(1, byteCount: 100)) }], checkpoint: nil)
        }
        let path = folder.path + "/data.mdb"
        let size = try #require(FileManager.default.contents(atPath: path)).count
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try handle.truncate(atOffset: UInt64(size / 2 & ~4_095))
        try handle.close()
        #expect { try LMDBOnlineStore(directory: folder.path).read(keys, from: view) } throws: {
            ($0 as? StoreError)?.code == .corrupted
        }
    }

    @Test(arguments: UInt64(0)..<50) func refusesRowsAndCheckpointsOfRandomBytes(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        var bytes = generator.bytes(Int.random(in: 0...60, using: &generator))
        if !bytes.isEmpty, seed % 3 > 0 { bytes[0] = UInt8(seed % 3) }
        let read: OnlineRow? = unsafe bytes.withUnsafeBytes { unsafe (try? RowCodec.Parts($0))?.row }
        if let read { #expect(read.payload.count <= bytes.count) }
        if let checkpoint = try? RowCodec.checkpoint(view, from: bytes) {
            #expect(checkpoint.offsets.count < bytes.count)
        }
    }
}
