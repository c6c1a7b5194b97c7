import Aggregation
import Datasets
import Definitions
import PlatformCore
import StoragePorts
import Synchronization

/// The state of one entity in memory.
final class EntityState {
    var series: EventSeries
    var isDirty = false
    /// What it was last said to take.
    var byteCount = 0
    /// Checkpoints that wrote it since it was last asked.
    var unreadCount = 0
    init(_ series: EventSeries) { self.series = series }
}

/// A row to apply to an entity.
struct KeyedRow {
    let key: SeriesKey
    let offset: UInt64
    /// Position in the batch.
    let index: Int
}

/// What applying rows did.
struct AppliedRows {
    var applied = 0
    var seenBefore = 0
    var unsummable = 0
}

/// An entity's state as it was when a checkpoint began.
struct TakenState: Sendable {
    let key: SeriesKey
    let series: EventSeries
}

/// Entities of a view version whose keys hash to one shard.
///
/// `@unchecked`: everything is only touched under `lock`.
final class ViewShard: @unchecked Sendable {
    /// Bytes that the keys and objects of an entity take beside its events, about.
    private static let entityByteCount = 320
    /// Checkpoints that an entity is written in, unread, before what its distinct counts go by is let go.
    private static let unreadCountMax = 60

    private let lock = Mutex(())
    private var entities: [SeriesKey: EntityState] = [:]
    private var dirty: [SeriesKey] = []
    private var byteCountNow = 0

    // MARK: Reading

    /// Runs `body` on the series of an entity, reading it and the pages that `body` misses from the store.
    /// - Parameter body: asks the series; called again with more in memory as long as it notes missing pages.
    func read<Value: Sendable>(
        _ key: SeriesKey, of view: ViewState, _ body: (EventSeries?, inout [PageReference]) throws -> Value
    ) throws -> Value {
        try lock.withLock { _ in try unlockedRead(key, of: view, body) }
    }

    private func unlockedRead<Value: Sendable>(
        _ key: SeriesKey, of view: ViewState, _ body: (EventSeries?, inout [PageReference]) throws -> Value
    ) throws -> Value {
        var missing: [PageReference] = []
        guard let state = try state(key, of: view) else { return try body(nil, &missing) }
        if view.countsValues {
            state.unreadCount = 0
            if state.series.wantsValueIndexes(view.plan) { try index(state, key, of: view) }
        }
        while true {
            let value = try body(state.series, &missing)
            if missing.isEmpty { return value }
            for page in Set(missing) { try load(page, into: state, key, of: view) }
            missing.removeAll(keepingCapacity: true)
        }
    }

    /// The entity's state, from memory or the store.
    private func state(_ key: SeriesKey, of view: ViewState) throws -> EntityState? {
        if let known = entities[key] { return known }
        guard let row = try view.store.read(key.head, from: view.versionName) else { return nil }
        do {
            var series = try EventSeries(head: row.payload, plan: view.plan)
            let groups = series.missingGroups
            if !groups.isEmpty {
                for page in try view.store.read(groups.map(key.page), from: view.versionName) {
                    guard let page else { throw DecodingFailure("a page of the series is missing") }
                    try series.load(group: page.payload, plan: view.plan)
                }
            }
            let loaded = EntityState(series)
            entities[key] = loaded
            measure(loaded)
            return loaded
        } catch let failure as DecodingFailure {
            throw StoreError(.corrupted, "feature_view/\(view.versionName)", failure.description)
        }
    }

    private func load(_ page: PageReference, into state: EntityState, _ key: SeriesKey, of view: ViewState) throws {
        do {
            guard let row = try view.store.read(key.page(page.identifier), from: view.versionName) else {
                throw DecodingFailure("a page of the series is missing")
            }
            try state.series.load(page, row.payload, plan: view.plan)
            measure(state)
        } catch let failure as DecodingFailure {
            throw StoreError(.corrupted, "feature_view/\(view.versionName)", failure.description)
        }
    }

    /// Makes what distinct counts of a long series go by.
    private func index(_ state: EntityState, _ key: SeriesKey, of view: ViewState) throws {
        do {
            try state.series.makeValueIndexes(plan: view.plan) { page in
                guard let row = try view.store.read(key.page(page.identifier), from: view.versionName) else {
                    throw DecodingFailure("a page of the series is missing")
                }
                return row.payload
            }
            measure(state)
        } catch let failure as DecodingFailure {
            throw StoreError(.corrupted, "feature_view/\(view.versionName)", failure.description)
        }
    }

    private func measure(_ state: EntityState) {
        let now = state.series.byteCount + Self.entityByteCount
        byteCountNow += now - state.byteCount
        state.byteCount = now
    }

    // MARK: Applying

    /// Applies rows of this shard, in the order of their offsets; a row that its entity has had changes nothing.
    func apply(
        _ rows: ArraySlice<KeyedRow>, of batch: ArrivedRows, to view: ViewState, pastQuestions: TimeSpan
    ) throws -> AppliedRows {
        try lock.withLock { _ in try unlockedApply(rows, of: batch, to: view, pastQuestions: pastQuestions) }
    }

    private func unlockedApply(
        _ rows: ArraySlice<KeyedRow>, of batch: ArrivedRows, to view: ViewState, pastQuestions: TimeSpan
    ) throws -> AppliedRows {
        var done = AppliedRows()
        let plan = view.plan
        for keyed in rows {
            guard let row = batch.rows[keyed.index] else { continue }
            let state: EntityState
            if let known = try self.state(keyed.key, of: view) {
                state = known
            } else {
                state = EntityState(EventSeries(plan: plan))
                entities[keyed.key] = state
                measure(state)
            }
            var outcome = state.series.offer(
                eventTime: row.eventTime, ingestTime: row.ingestTime, sequence: keyed.offset, cells: row.cells,
                plan: plan)
            if case .needs(let page) = outcome {
                try load(page, into: state, keyed.key, of: view)
                outcome = state.series.offer(
                    eventTime: row.eventTime, ingestTime: row.ingestTime, sequence: keyed.offset, cells: row.cells,
                    plan: plan)
            }
            guard case .added(let unsummable) = outcome else {
                done.seenBefore += 1
                continue
            }
            if !state.isDirty {
                state.isDirty = true
                dirty.append(keyed.key)
            }
            done.unsummable += unsummable
            done.applied += 1
            // By the row's arrival, not by the clock: who builds the state again from the log forgets the same.
            let arrival = batch.arrival(keyed.index) ?? row.ingestTime
            state.series.trimIfGrown(
                answeringFrom: arrival.advanced(by: TimeSpan(milliseconds: -pastQuestions.milliseconds)), plan: plan)
        }
        return done
    }

    // MARK: Checkpoints

    /// The states that have changed since the last call: copies that share their events with the state.
    func takeDirty() -> [TakenState] { lock.withLock { _ in unlockedTakeDirty() } }

    private func unlockedTakeDirty() -> [TakenState] {
        var taken: [TakenState] = []
        taken.reserveCapacity(dirty.count)
        for key in dirty {
            guard let state = entities[key] else { continue }
            state.isDirty = false
            var series = state.series
            series.dropValueIndexes()  // not stored; shared, the next event would copy them
            taken.append(TakenState(key: key, series: series))
            state.series.markStored()
            measure(state)
        }
        dirty.removeAll(keepingCapacity: true)
        return taken
    }

    /// Marks states as changed again, after a write that failed.
    func markNotStored(_ taken: [TakenState]) {
        lock.withLock { _ in
            for entry in taken {
                guard let state = entities[entry.key] else { continue }
                state.series.markNotStored(entry.series)
                if state.isDirty { continue }
                state.isDirty = true
                dirty.append(entry.key)
            }
        }
    }

    /// Lets go of what is stored: pages of these long series, and unchanged entities beyond the limits.
    func evict(_ stored: [TakenState], keeping countMax: Int, byteCountMax: Int) {
        lock.withLock { _ in
            for entry in stored where entry.series.hasPages {
                guard let state = entities[entry.key] else { continue }
                state.series.unloadPages()
                state.unreadCount += 1
                if state.unreadCount > Self.unreadCountMax { state.series.dropValueIndexes() }
                measure(state)
            }
            guard entities.count > countMax || byteCountNow > byteCountMax else { return }
            for (key, state) in entities where !state.isDirty {
                entities[key] = nil
                byteCountNow -= state.byteCount
                if entities.count <= countMax, byteCountNow <= byteCountMax { break }
            }
        }
    }

    var count: Int { lock.withLock { _ in entities.count } }
    var byteCount: Int { lock.withLock { _ in byteCountNow } }
}
