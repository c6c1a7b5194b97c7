import Aggregation
import PlatformCore
import Synchronization

/// How the answers of the cache came about, since the process began; `entities` and `byteCount` are as they are now.
public struct EntityCacheStatistics: Sendable, Hashable {
    /// Questions answered from it.
    public var hits: UInt64 = 0
    /// Questions that it could not answer: unknown, too old, past the time to live.
    public var misses: UInt64 = 0
    /// Answers that made room for others.
    public var evictions: UInt64 = 0
    /// Answers forgotten because a row of their entity was applied.
    public var invalidations: UInt64 = 0
    /// Answers held.
    public var entities = 0
    /// Memory that they take, about.
    public var byteCount = 0
}

/// Computed features of entities, each of use for as long as its view says.
///
/// It promises three things. An answer is never older than asked for, by the platform's clock and by one that only runs
/// forward. An answer is never of another version of its view: the key holds the version's state. And once a row has been
/// applied, no answer from before it is found any more: who computed one while it was applied cannot store it.
///
/// Bounded in entities and in memory; the one that was not used for longest makes room.
final class EntityCache: Sendable {
    /// Memory for each entity that may be held; an answer of more takes the place of several.
    static let byteCountPerEntity = 4096

    /// Whose features, of which version's state.
    struct Key: Hashable {
        let state: UInt64
        let entity: SeriesKey
    }

    /// The features of one view for one entity.
    struct Answer: Sendable {
        let presence: EntityPresence
        let values: [CellValue]
        let computedAt: EventTime
        let instant: ContinuousClock.Instant

        var byteCount: Int { values.reduce(160) { $0 + Self.byteCount(of: $1) } }

        private static func byteCount(of cell: CellValue) -> Int {
            switch cell {
            case .text(let text): 32 + text.utf8.count
            case .list(let cells): cells.reduce(48) { $0 + byteCount(of: $1) }
            default: 24
            }
        }
    }

    private let shards: [Shard]

    init(entityCountMax: Int) {
        let count = max(1, min(16, entityCountMax / 64))
        let each = max(1, entityCountMax / count)
        shards = (0..<count).map { _ in Shard(entityCountMax: each, byteCountMax: each * Self.byteCountPerEntity) }
    }

    private func shard(_ key: SeriesKey) -> Shard { shards[Int(key.hash >> 32) % shards.count] }

    /// The answer about an entity at `now`, if there is one that is at most `age` milliseconds old and whose newest event
    /// is within `timeToLive` of `tick`.
    func find(
        _ key: Key, at now: EventTime, tick: Int64, instant: ContinuousClock.Instant, age: Int64, timeToLive: Int64?
    ) -> Answer? {
        shard(key.entity).state.withLock { shard in
            if let answer = shard.use(key) {
                let elapsed = now.since(answer.computedAt).milliseconds
                let isYoung = 0...age ~= elapsed && instant - answer.instant <= .milliseconds(age)
                if isYoung, !answer.isOver(timeToLive: timeToLive, tick: tick) {
                    shard.statistics.hits += 1
                    return answer
                }
                shard.remove(key)
            }
            shard.statistics.misses += 1
            return nil
        }
    }

    /// To be taken before an answer is computed, and given with it: rows applied in between make the answer void.
    func ticket(_ entity: SeriesKey) -> UInt64 { shard(entity).state.withLock { $0.generation } }

    /// Keeps an answer, unless a row of a like entity was applied since the ticket was taken.
    func store(_ answer: Answer, for key: Key, ticket: UInt64) {
        shard(key.entity).state.withLock { shard in
            guard shard.generation == ticket else { return }
            shard.insert(answer, for: key)
        }
    }

    /// Forgets what is known of an entity, because a row of it has been applied.
    func rowWasApplied(_ key: Key) {
        shard(key.entity).state.withLock { shard in
            shard.generation &+= 1
            if shard.remove(key) { shard.statistics.invalidations += 1 }
        }
    }

    var statistics: EntityCacheStatistics {
        shards.reduce(into: EntityCacheStatistics()) { total, shard in
            let part = shard.state.withLock { state in
                var part = state.statistics
                part.entities = state.count
                part.byteCount = state.byteCount
                return part
            }
            total.hits += part.hits
            total.misses += part.misses
            total.evictions += part.evictions
            total.invalidations += part.invalidations
            total.entities += part.entities
            total.byteCount += part.byteCount
        }
    }
}

extension EntityCache.Answer {
    fileprivate func isOver(timeToLive: Int64?, tick: Int64) -> Bool {
        guard let timeToLive, case .present(let newest) = presence else { return false }
        let (edge, overflow) = tick.subtractingReportingOverflow(timeToLive)
        return !overflow && newest.milliseconds <= edge
    }
}

/// A part of the cache, with its own lock and its own order of use.
private final class Shard: Sendable {
    let state: Mutex<State>

    init(entityCountMax: Int, byteCountMax: Int) {
        state = Mutex(State(entityCountMax: entityCountMax, byteCountMax: byteCountMax))
    }

    struct State: Sendable {
        private struct Node: Sendable {
            var key: EntityCache.Key
            var answer: EntityCache.Answer
            var byteCount: Int
            /// Neighbours in the order of use; -1 at the ends.
            var newer: Int
            var older: Int
        }

        let entityCountMax: Int
        let byteCountMax: Int
        /// Counts rows applied to entities of this shard.
        var generation: UInt64 = 0
        var statistics = EntityCacheStatistics()
        private(set) var byteCount = 0
        private var places: [EntityCache.Key: Int] = [:]
        private var nodes: [Node] = []
        private var newest = -1
        private var oldest = -1

        init(entityCountMax: Int, byteCountMax: Int) {
            self.entityCountMax = entityCountMax
            self.byteCountMax = byteCountMax
        }

        var count: Int { nodes.count }

        /// What is known, which is then the last to make room.
        mutating func use(_ key: EntityCache.Key) -> EntityCache.Answer? {
            guard let place = places[key] else { return nil }
            if place != newest {
                unlink(place)
                link(place)
            }
            return nodes[place].answer
        }

        mutating func insert(_ answer: EntityCache.Answer, for key: EntityCache.Key) {
            remove(key)
            let size = answer.byteCount
            guard size <= byteCountMax else { return }
            while nodes.count >= entityCountMax || byteCount + size > byteCountMax {
                remove(nodes[oldest].key)
                statistics.evictions += 1
            }
            nodes.append(Node(key: key, answer: answer, byteCount: size, newer: -1, older: -1))
            places[key] = nodes.count - 1
            byteCount += size
            link(nodes.count - 1)
        }

        @discardableResult
        mutating func remove(_ key: EntityCache.Key) -> Bool {
            guard let place = places.removeValue(forKey: key) else { return false }
            byteCount -= nodes[place].byteCount
            unlink(place)
            // The last node takes the free place.
            let last = nodes.count - 1
            if place != last {
                let moved = nodes[last]
                nodes[place] = moved
                places[moved.key] = place
                if moved.newer >= 0 { nodes[moved.newer].older = place } else { newest = place }
                if moved.older >= 0 { nodes[moved.older].newer = place } else { oldest = place }
            }
            nodes.removeLast()
            return true
        }

        private mutating func link(_ place: Int) {
            nodes[place].newer = -1
            nodes[place].older = newest
            if newest >= 0 { nodes[newest].newer = place } else { oldest = place }
            newest = place
        }

        private mutating func unlink(_ place: Int) {
            let (newer, older) = (nodes[place].newer, nodes[place].older)
            if newer >= 0 { nodes[newer].older = older } else { newest = older }
            if older >= 0 { nodes[older].newer = newer } else { oldest = newer }
        }
    }
}
