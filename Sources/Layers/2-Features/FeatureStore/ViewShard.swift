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
    /// Stays in memory while something is made for it.
    var isPinned = false
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
    /// Held by who prepares an entity, so that nothing is made twice; taken before `lock`.
    private let preparing = Mutex(())
    private var entities: [SeriesKey: EntityState] = [:]
    private var dirty: [SeriesKey] = []
    private var byteCountNow = 0

    // MARK: Reading

    /// Runs `body` on the state of an entity, if there is one, reading it and the pages that `body` misses from the store.
    ///
    /// What distinct counts of a long series go by is made first; other entities are read and applied meanwhile.
    /// - Parameter body: asks the series where it lies, as a copy would look up each of its parts; called again with more in
    ///   memory as long as it notes missing pages.
    func read<Value: Sendable>(
        _ key: SeriesKey, of view: ViewState, _ body: (EntityState?, inout [PageReference]) throws -> Value
    ) throws -> Value {
        // It could be let go between two steps again and again, so the last try makes it while the lock is held.
        for _ in 0..<2 {
            let value = try lock.withLock { _ in try unlockedRead(key, of: view, makesAll: false, body) }
            if let value { return value }
            try prepare(key, of: view)
        }
        let value = try lock.withLock { _ in try unlockedRead(key, of: view, makesAll: true, body) }
        guard let value else { preconditionFailure("it makes all that it needs") }
        return value
    }

    /// `nil` if something has to be made first that takes long.
    private func unlockedRead<Value: Sendable>(
        _ key: SeriesKey, of view: ViewState, makesAll: Bool,
        _ body: (EntityState?, inout [PageReference]) throws -> Value
    ) throws -> Value? {
        var missing: [PageReference] = []
        guard let state = try state(key, of: view) else { return try body(nil, &missing) }
        if view.countsValues {
            state.unreadCount = 0
            if state.series.wantsValueIndexes(view.plan) {
                if !makesAll, state.series.wantsLargeValueIndexes(view.plan) { return nil }
                try Self.reading(of: view) {
                    try state.series.makeValueIndexes(plan: view.plan) { try Self.pages($0, key, of: view) }
                }
                measure(state)
            }
        }
        while true {
            let value = try body(state, &missing)
            if missing.isEmpty { return value }
            for page in Set(missing) { try load(page, into: state, key, of: view) }
            missing.removeAll(keepingCapacity: true)
        }
    }

    /// The entity's state, from memory or the store.
    private func state(_ key: SeriesKey, of view: ViewState) throws -> EntityState? {
        if let known = entities[key] { return known }
        guard let row = try view.store.read(key.head, from: view.versionName) else { return nil }
        let series = try Self.reading(of: view) {
            var series = try EventSeries(head: row.payload, plan: view.plan)
            let groups = series.missingGroups
            if !groups.isEmpty {
                for page in try view.store.read(groups.map(key.page), from: view.versionName) {
                    guard let page else { throw DecodingFailure("a page of the series is missing") }
                    try series.load(group: page.payload, plan: view.plan)
                }
            }
            return series
        }
        let loaded = EntityState(series)
        entities[key] = loaded
        measure(loaded)
        return loaded
    }

    private func load(_ page: PageReference, into state: EntityState, _ key: SeriesKey, of view: ViewState) throws {
        try Self.reading(of: view) {
            let bytes = try Self.pages([page], key, of: view)
            try state.series.load(page, bytes[0], plan: view.plan)
        }
        measure(state)
    }

    private static func pages(_ pages: [PageReference], _ key: SeriesKey, of view: ViewState) throws -> [[UInt8]] {
        try view.store.read(pages.map { key.page($0.identifier) }, from: view.versionName).map { row in
            guard let row else { throw DecodingFailure("a page of the series is missing") }
            return row.payload
        }
    }

    /// Says of bytes that are not those of a series whose they are.
    private static func reading<Value>(of view: ViewState, _ body: () throws -> Value) throws -> Value {
        do { return try body() } catch let failure as DecodingFailure {
            throw StoreError(.corrupted, "feature_view/\(view.versionName)", failure.description)
        }
    }

    // MARK: Preparing

    /// Whether `read` of an entity would answer without making something first that takes long.
    func isReady(_ key: SeriesKey, of view: ViewState) -> Bool {
        lock.withLock { _ in
            if let known = entities[key] { return !known.series.wantsLargeValueIndexes(view.plan) }
            // Whatever is wrong with the store is told by `read`.
            guard let row = try? view.store.read(key.head, from: view.versionName),
                let series = try? EventSeries(head: row.payload, plan: view.plan)
            else { return true }
            return !series.wantsLargeValueIndexes(view.plan)
        }
    }

    /// Makes what distinct counts of a long series go by, from a copy of the series: the lock is held for short moments.
    func prepare(_ key: SeriesKey, of view: ViewState) throws {
        try preparing.withLock { _ in
            for attempt in 1...3 {
                guard let copy = try lock.withLock({ _ in try unlockedCopy(key, of: view) }) else { return }
                var made: ValueIndexes?
                do {
                    made = try copy.makingValueIndexes(plan: view.plan) { try Self.pages($0, key, of: view) }
                } catch {
                    // A late event can have changed a page in the store since the copy was taken.
                    if attempt == 3 || !(error is DecodingFailure) {
                        lock.withLock { _ in unlockedAdopt(nil, key, of: view) }
                        if error is DecodingFailure { return }  // `read` finds out under the lock
                        throw error
                    }
                }
                lock.withLock { _ in unlockedAdopt(made, key, of: view) }
                if made != nil { return }
            }
        }
    }

    /// A copy of a long series that is to be prepared; `nil` if it is not.
    private func unlockedCopy(_ key: SeriesKey, of view: ViewState) throws -> EventSeries? {
        guard let state = try state(key, of: view), state.series.wantsLargeValueIndexes(view.plan) else { return nil }
        state.isPinned = true
        state.unreadCount = 0
        state.series.beginValueIndexes()
        return state.series
    }

    private func unlockedAdopt(_ made: ValueIndexes?, _ key: SeriesKey, of view: ViewState) {
        guard let state = entities[key] else { return }
        state.isPinned = false
        if let made {
            _ = state.series.adopt(made, plan: view.plan)
        } else {
            state.series.dropValueIndexes()
        }
        measure(state)
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
                if state.unreadCount > Self.unreadCountMax, !state.isPinned { state.series.dropValueIndexes() }
                measure(state)
            }
            guard entities.count > countMax || byteCountNow > byteCountMax else { return }
            for (key, state) in entities where !state.isDirty && !state.isPinned {
                entities[key] = nil
                byteCountNow -= state.byteCount
                if entities.count <= countMax, byteCountNow <= byteCountMax { break }
            }
        }
    }

    var count: Int { lock.withLock { _ in entities.count } }
    var byteCount: Int { lock.withLock { _ in byteCountNow } }
}
