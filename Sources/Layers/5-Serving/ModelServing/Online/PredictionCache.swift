import Definitions
import PlatformCore
import Synchronization

/// Predictions that were made a short while ago, by version and exact input.
///
/// It belongs to one route: another policy, and with it another version, begins with nothing remembered.
final class PredictionCache: Sendable {
    private struct Key: Hashable {
        let version: Int
        /// Bits of the row, so that a missing value is equal to itself.
        let row: [UInt32]
    }
    private struct Entry {
        let output: [Float]
        let time: EventTime
    }
    private struct Part {
        var entries: [Key: Entry] = [:]
        /// Keys in the order in which they came, as a ring.
        var ring: [Key] = []
        var next = 0
    }
    private final class Shard: Sendable { let part = Mutex(Part()) }
    private let shards: [Shard]
    private let shardCountMax: Int
    private let keptFor: Int64

    init(_ definition: PredictionCacheDefinition) {
        keptFor = definition.keptFor.milliseconds
        let count = definition.entryCountMax < 64 ? 1 : 8
        shardCountMax = definition.entryCountMax / count
        shards = (0..<count).map { _ in Shard() }
    }

    private func shard(_ key: Key) -> Shard { shards[Int(UInt(bitPattern: key.hashValue) % UInt(shards.count))] }

    private static func key(_ version: Int, _ row: [Float]) -> Key { Key(version: version, row: row.map(\.bitPattern)) }

    /// What the version predicted for this row not longer ago than it is kept; a clock that went back finds nothing.
    func output(version: Int, row: [Float], at now: EventTime) -> [Float]? {
        let key = Self.key(version, row)
        return shard(key).part.withLock { part in
            guard let entry = part.entries[key], 0..<keptFor ~= now.milliseconds - entry.time.milliseconds else {
                return nil
            }
            return entry.output
        }
    }

    /// Remembers a prediction; where there is no room, the oldest goes.
    func remember(_ output: [Float], version: Int, row: [Float], at now: EventTime) {
        let key = Self.key(version, row)
        let limit = shardCountMax
        shard(key).part.withLock { part in
            if part.entries.updateValue(Entry(output: output, time: now), forKey: key) != nil { return }
            if part.ring.count < limit { return part.ring.append(key) }
            part.entries[part.ring[part.next]] = nil
            part.ring[part.next] = key
            part.next = (part.next + 1) % limit
        }
    }

    /// Predictions remembered, old ones included.
    var count: Int { shards.reduce(0) { $0 + $1.part.withLock { $0.entries.count } } }
}
