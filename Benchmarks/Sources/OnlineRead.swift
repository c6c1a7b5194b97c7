import Benchmark
import LMDBAdapter
import PlatformCore
import StoragePorts

/// Rows of one view in LMDB.
private struct OnlineInput {
    static let view = Name(static: "delays")
    let store: LMDBOnlineStore
    /// 1,000 times the keys of one read, drawn at random.
    let reads: [[EntityKey]]

    static func prepared(keysInRead: Int) async throws -> HotPath.Prepared<OnlineInput> {
        let rowCount = HotPath.isTiny ? 2_000 : 100_000
        let store = try LMDBOnlineStore(
            directory: try ScratchFolder.make(), configuration: LMDBConfiguration(synchronizes: false))
        var random = Seeded(4)
        let keys = (0..<rowCount).map { EntityKey(joined: "N\(1_000_000 + $0)") }
        for first in stride(from: 0, to: rowCount, by: 10_000) {
            let rows = keys[first..<min(first + 10_000, rowCount)].enumerated().map { index, key in
                let time = EventTime(milliseconds: 1_356_998_400_000 + Int64(first + index))
                return KeyedOnlineRow(
                    key: key,
                    row: OnlineRow(
                        eventTime: time, ingestTime: time, sequence: UInt64(first + index), payload: random.bytes(300)))
            }
            try await store.write([view: rows], checkpoint: nil)
        }
        let reads = (0..<1_000).map { _ in
            (0..<keysInRead).map { _ in keys[Int(random.unit() * Double(rowCount))] }
        }
        var checksum = Checksum()
        for row in try store.read(reads[0], from: view) {
            guard let row else { throw BrokenBenchmark("every key has a row") }
            checksum.add(row.sequence)
            checksum.add(row.payload)
        }
        return HotPath.Prepared(
            input: OnlineInput(store: store, reads: reads),
            size:
                "\(rowCount) rows of 300 bytes, read by random keys, \(keysInRead) at a time",
            checksum: checksum)
    }
}

/// Reads of the embedded online store.
func registerOnlineRead() {
    HotPath(name: "online read: LMDB, 1 key", operations: .kilo).measure(
        { (benchmark, input: OnlineInput) in
            for index in benchmark.scaledIterations {
                blackHole(try input.store.read(input.reads[index], from: OnlineInput.view))
            }
        }, prepare: { try await OnlineInput.prepared(keysInRead: 1) })

    HotPath(name: "online read: LMDB, 100 keys").measure(
        { (benchmark, input: OnlineInput) in
            let keys = input.reads[benchmark.currentIteration % input.reads.count]
            blackHole(try input.store.read(keys, from: OnlineInput.view))
        }, prepare: { try await OnlineInput.prepared(keysInRead: 100) })
}
