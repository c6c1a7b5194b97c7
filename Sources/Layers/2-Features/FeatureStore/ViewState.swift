import Aggregation
import Definitions
import PlatformCore
import StoragePorts
import Synchronization

/// An entity key compared by its bytes, as every store and engine compares it; a Swift string would hold differently
/// composed letters equal.
struct SeriesKey: Hashable {
    let text: String
    init(_ text: String) {
        var text = text
        text.makeContiguousUTF8()
        self.text = text
    }
    static func == (left: SeriesKey, right: SeriesKey) -> Bool { left.text.utf8.elementsEqual(right.text.utf8) }
    func hash(into hasher: inout Hasher) {
        let done: Void? = text.utf8.withContiguousStorageIfAvailable {
            hasher.combine(bytes: UnsafeRawBufferPointer($0))
        }
        if done == nil { for byte in text.utf8 { hasher.combine(byte) } }
    }
}

/// The state of one entity in memory.
final class EntityState {
    var series: EventSeries
    var isDirty = false
    init(_ series: EventSeries) { self.series = series }
}

/// Entities of a view version whose keys hash to one shard.
///
/// `@unchecked`: `entities` and `dirty` are only touched under `lock`.
final class ViewShard: @unchecked Sendable {
    private let lock = Mutex(())
    private var entities: [SeriesKey: EntityState] = [:]
    private var dirty: [SeriesKey] = []

    /// Runs `body` on the entity's state, loading it from the store on a miss.
    /// - Parameter isWrite: makes the state if there is none, and marks it as changed.
    func withState<Value: Sendable>(
        _ key: SeriesKey, of view: ViewState, isWrite: Bool, _ body: (EntityState?) throws -> Value
    ) throws -> Value {
        try lock.withLock { _ in try unlockedState(key, of: view, isWrite: isWrite, body) }
    }

    private func unlockedState<Value: Sendable>(
        _ key: SeriesKey, of view: ViewState, isWrite: Bool, _ body: (EntityState?) throws -> Value
    ) throws -> Value {
        var state = entities[key]
        if state == nil, let row = try view.store.read(EntityKey(joined: key.text), from: view.versionName) {
            do {
                let loaded = EntityState(try EventSeries(decoding: row.payload, plan: view.plan))
                entities[key] = loaded
                state = loaded
            } catch {
                throw StoreError(.corrupted, "feature_view/\(view.versionName)", error.description)
            }
        }
        if isWrite {
            let written = state ?? EntityState(EventSeries(plan: view.plan))
            if state == nil { entities[key] = written }
            if !written.isDirty {
                written.isDirty = true
                dirty.append(key)
            }
            return try body(written)
        }
        return try body(state)
    }

    /// Rows of everything changed since the last call.
    func takeDirtyRows(plan: AggregationPlan, answeringFrom earliest: EventTime) -> [KeyedOnlineRow] {
        lock.withLock { _ in unlockedDirtyRows(plan: plan, answeringFrom: earliest) }
    }

    private func unlockedDirtyRows(plan: AggregationPlan, answeringFrom earliest: EventTime) -> [KeyedOnlineRow] {
        var rows: [KeyedOnlineRow] = []
        rows.reserveCapacity(dirty.count)
        for key in dirty {
            guard let state = entities[key] else { continue }
            state.isDirty = false
            state.series.trimIfGrown(answeringFrom: earliest, plan: plan)
            let series = state.series
            rows.append(
                KeyedOnlineRow(
                    key: EntityKey(joined: key.text),
                    row: OnlineRow(
                        eventTime: EventTime(milliseconds: series.newestEventTime ?? .min),
                        ingestTime: EventTime(milliseconds: series.newestIngestTime),
                        sequence: series.newestSequence, payload: series.encoded(plan: plan))))
        }
        dirty.removeAll(keepingCapacity: true)
        return rows
    }

    /// Marks entities as changed again, after a write that failed.
    func markDirty(_ keys: [SeriesKey]) {
        lock.withLock { _ in
            for key in keys {
                guard let state = entities[key], !state.isDirty else { continue }
                state.isDirty = true
                dirty.append(key)
            }
        }
    }

    /// Forgets unchanged entities until at most `countMax` are left in memory.
    func evict(keeping countMax: Int) {
        lock.withLock { _ in
            guard entities.count > countMax else { return }
            for (key, state) in entities where !state.isDirty {
                entities[key] = nil
                if entities.count <= countMax { break }
            }
        }
    }

    var count: Int { lock.withLock { _ in entities.count } }
}

/// The state of one view version: all its entities, by shard.
final class ViewState: Sendable {
    static let shardCount = 64

    let plan: AggregationPlan
    let versionName: Name
    let source: Name
    let store: any OnlineStore
    private let shards: [ViewShard]
    /// Log offset of the next row to apply; written only inside the engine's gate.
    let nextOffset: Atomic<UInt64>

    init(plan: AggregationPlan, nextOffset: UInt64, store: any OnlineStore) {
        self.plan = plan
        versionName = plan.view.versionName
        source = plan.view.source
        self.store = store
        self.nextOffset = Atomic(nextOffset)
        shards = (0..<Self.shardCount).map { _ in ViewShard() }
    }

    private func shard(of key: SeriesKey) -> ViewShard {
        // The top bits: a shard's dictionary uses the lower ones.
        shards[Int(truncatingIfNeeded: UInt(bitPattern: key.hashValue) >> (UInt.bitWidth - 6))]
    }

    func withState<Value: Sendable>(
        _ key: SeriesKey, isWrite: Bool, _ body: (EntityState?) throws -> Value
    ) throws -> Value {
        try shard(of: key).withState(key, of: self, isWrite: isWrite, body)
    }

    func takeDirtyRows(answeringFrom earliest: EventTime) -> [KeyedOnlineRow] {
        shards.flatMap { $0.takeDirtyRows(plan: plan, answeringFrom: earliest) }
    }

    func markDirty(_ rows: [KeyedOnlineRow]) {
        for row in rows {
            let key = SeriesKey(row.key.joined)
            shard(of: key).markDirty([key])
        }
    }

    func evict(keeping countMax: Int) { for shard in shards { shard.evict(keeping: countMax / Self.shardCount + 1) } }

    var entityCount: Int { shards.reduce(0) { $0 + $1.count } }
}
