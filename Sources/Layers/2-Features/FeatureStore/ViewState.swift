import Aggregation
import Datasets
import Definitions
import PlatformCore
import StoragePorts
import Synchronization

/// Rows with the moments at which the log took them; `nil` for a record that is no row.
struct ArrivedRows: Sendable {
    let rows: [SourceRow?]
    let arrivals: [EventTime]

    func arrival(_ index: Int) -> EventTime? { index < arrivals.count ? arrivals[index] : nil }
}

/// The state of one view version: all its entities, by shard.
final class ViewState: Sendable {
    static let shardCount = 64

    let plan: AggregationPlan
    let versionName: Name
    /// Whether a feature counts different values.
    let countsValues: Bool
    let source: Name
    let store: any OnlineStore
    private let shards: [ViewShard]
    /// Log offset of the next row to apply; written only inside the engine's gate.
    let nextOffset: Atomic<UInt64>

    /// What the last checkpoint left in memory.
    private let keptEntityCount = Atomic(0)
    private let keptByteCount = Atomic(0)
    private let appliedCount = Atomic(0)

    /// Forgets answers about entities whose rows are applied; `nil` where nothing is remembered.
    let cache: EntityCache?
    /// Names the state in the cache, anew each time that answers begin to be remembered; 0 while they are not.
    private let cacheSerial = Atomic<UInt64>(0)
    private let answerAge = Atomic<Int64>(0)
    private static let nextCacheSerial = Atomic<UInt64>(1)

    init(plan: AggregationPlan, nextOffset: UInt64, store: any OnlineStore, cache: EntityCache?) {
        self.cache = cache
        self.plan = plan
        versionName = plan.view.versionName
        countsValues = plan.view.features.contains(where: \.aggregate.countsValues)
        source = plan.view.source
        self.store = store
        self.nextOffset = Atomic(nextOffset)
        shards = (0..<Self.shardCount).map { _ in ViewShard() }
    }

    /// Says how many milliseconds old an answer may be; 0 for none.
    func remember(answersFor milliseconds: Int64) {
        answerAge.store(milliseconds, ordering: .relaxed)
        let isOn = cacheSerial.load(ordering: .relaxed) != 0
        // What was remembered before it was switched off has missed rows since, so it is never found again.
        if milliseconds <= 0 {
            cacheSerial.store(0, ordering: .relaxed)
        } else if !isOn {
            cacheSerial.store(Self.nextCacheSerial.add(1, ordering: .relaxed).oldValue, ordering: .relaxed)
        }
    }

    /// The state's name in the cache, and how old an answer may be; `nil` if answers are not remembered.
    var cached: (serial: UInt64, age: Int64)? {
        let serial = cacheSerial.load(ordering: .relaxed)
        return serial == 0 ? nil : (serial, answerAge.load(ordering: .relaxed))
    }

    // The top bits: a shard's dictionary uses the lower ones.
    private static func shardIndex(_ key: SeriesKey) -> Int { Int(key.hash >> 58) }

    /// Asks the state of an entity; see `ViewShard.read`.
    func read<Value: Sendable>(
        _ key: SeriesKey, _ body: (EntityState?, inout [PageReference]) throws -> Value
    ) throws -> Value {
        try shards[Self.shardIndex(key)].read(key, of: self, body)
    }

    /// Whether `read` of an entity would not take long; see `ViewShard.isReady`.
    func isReady(_ key: SeriesKey) -> Bool {
        !countsValues || shards[Self.shardIndex(key)].isReady(key, of: self)
    }

    /// Makes what reads of an entity go by, where that takes long.
    func prepare(_ key: SeriesKey) throws { try shards[Self.shardIndex(key)].prepare(key, of: self) }

    /// Applies rows, each shard's together, so that a lock is taken once for each of them.
    func apply(_ rows: [KeyedRow], of batch: ArrivedRows, pastQuestions: TimeSpan) throws -> AppliedRows {
        var starts = [Int](repeating: 0, count: Self.shardCount + 1)
        for row in rows { starts[Self.shardIndex(row.key) + 1] += 1 }
        for shard in 0..<Self.shardCount { starts[shard + 1] += starts[shard] }
        var next = starts
        var order = [Int](repeating: 0, count: rows.count)
        for (index, row) in rows.enumerated() {
            let shard = Self.shardIndex(row.key)
            order[next[shard]] = index
            next[shard] += 1
        }
        let sorted = order.map { rows[$0] }
        var total = AppliedRows()
        for shard in 0..<Self.shardCount where starts[shard] < starts[shard + 1] {
            let part = sorted[starts[shard]..<starts[shard + 1]]
            defer {  // after a failure too: some of them may have been applied
                if let cache, let (serial, _) = cached {
                    for row in part { cache.rowWasApplied(EntityCache.Key(state: serial, entity: row.key)) }
                }
            }
            let done = try shards[shard].apply(part, of: batch, to: self, pastQuestions: pastQuestions)
            total.applied += done.applied
            total.seenBefore += done.seenBefore
            total.unsummable += done.unsummable
        }
        return total
    }

    /// States changed since the last call, by shard; only inside the engine's gate.
    func takeDirty() -> [[TakenState]] { shards.map { $0.takeDirty() } }

    /// What has to be written of states that were taken.
    func rows(of taken: [[TakenState]]) -> (rows: [KeyedOnlineRow], removed: [EntityKey]) {
        var rows: [KeyedOnlineRow] = []
        var removed: [EntityKey] = []
        for entry in taken.joined() {
            let stored = entry.series.changes(plan: plan)
            rows.append(
                KeyedOnlineRow(
                    key: entry.key.head,
                    row: OnlineRow(
                        eventTime: EventTime(milliseconds: entry.series.newestEventTime ?? .min),
                        ingestTime: EventTime(milliseconds: entry.series.newestIngestTime),
                        sequence: max(entry.series.nextSequence, 1) - 1, payload: stored.head)))
            // Pages are found through the head, which says what is newer; they carry nothing of when they were written.
            let never = EventTime(milliseconds: 0)
            for page in stored.pages {
                rows.append(
                    KeyedOnlineRow(
                        key: entry.key.page(page.identifier),
                        row: OnlineRow(eventTime: never, ingestTime: never, sequence: 0, payload: page.bytes)))
            }
            removed += stored.removed.map(entry.key.page)
        }
        return (rows, removed)
    }

    func markNotStored(_ taken: [[TakenState]]) {
        for (shard, taken) in zip(shards, taken) { shard.markNotStored(taken) }
    }

    func evict(_ stored: [[TakenState]], keeping countMax: Int, byteCountMax: Int) {
        var (entities, bytes) = (0, 0)
        for (shard, stored) in zip(shards, stored) {
            shard.evict(
                stored, keeping: countMax / Self.shardCount + 1, byteCountMax: byteCountMax / Self.shardCount + 1)
            entities += shard.count
            bytes += shard.byteCount
        }
        keptEntityCount.store(entities, ordering: .relaxed)
        keptByteCount.store(bytes, ordering: .relaxed)
    }

    /// Whether memory holds so many more entities, or bytes, than the last checkpoint left there; looks each thousand rows.
    func hasGrown(by rowCount: Int, entityCountMax: Int, byteCountMax: Int) -> Bool {
        guard appliedCount.add(rowCount, ordering: .relaxed).newValue >= 1_000 else { return false }
        appliedCount.store(0, ordering: .relaxed)
        var (entities, bytes) = (0, 0)
        for shard in shards {
            entities += shard.count
            bytes += shard.byteCount
        }
        return entities > keptEntityCount.load(ordering: .relaxed) + entityCountMax
            || bytes > keptByteCount.load(ordering: .relaxed) + byteCountMax
    }

    var entityCount: Int { shards.reduce(0) { $0 + $1.count } }
    var byteCount: Int { shards.reduce(0) { $0 + $1.byteCount } }
}
