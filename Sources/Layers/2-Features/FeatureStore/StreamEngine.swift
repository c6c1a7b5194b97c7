public import Aggregation
public import Datasets
public import Definitions
import Dispatch
public import PlatformCore
public import StoragePorts
import Synchronization

/// What the stream engine may use.
public struct StreamEngineConfiguration: Sendable {
    /// Entities of one view kept in memory; beyond it, unchanged ones are read again from the online store when asked for.
    public var entityCountMax: Int
    /// Bytes of memory that the entities of one view may take, about, after a checkpoint.
    public var stateByteCountMax: Int
    /// How far before the present a question may lie and still be answered exactly.
    public var pastQuestions: TimeSpan
    /// How the events of an entity are cut into pages.
    public var sizes: SeriesSizes
    /// Rows times views that a change of definitions reads at once, while rows wait; more is built in the background.
    public var rowsAtOnceMax: Int
    /// Rows times views that a background build applies before it writes them down: what a crash lets it do again.
    public var rowsBuiltMax: Int

    /// Entities whose answers are remembered, over all views; 0 for none.
    public var cachedEntityCountMax: Int
    /// How old a remembered answer may be in a view that does not say; 0 for not remembering it.
    public var maxStaleness: TimeSpan

    /// Makes a configuration.
    public init(
        entityCountMax: Int = 1_000_000, stateByteCountMax: Int = 2 << 30, pastQuestions: TimeSpan = .days(1),
        sizes: SeriesSizes = SeriesSizes(), rowsAtOnceMax: Int = 20_000, rowsBuiltMax: Int = 1_000_000,
        cachedEntityCountMax: Int = 10_000, maxStaleness: TimeSpan = TimeSpan(milliseconds: 0)
    ) {
        self.cachedEntityCountMax = cachedEntityCountMax
        self.maxStaleness = maxStaleness
        self.rowsAtOnceMax = rowsAtOnceMax
        self.rowsBuiltMax = rowsBuiltMax
        self.sizes = sizes
        self.entityCountMax = entityCountMax
        self.stateByteCountMax = stateByteCountMax
        self.pastQuestions = pastQuestions
    }
}

/// Turns an accepted row's log record back into the row; `nil` for a record that is no row.
public typealias SourceRowDecoder = @Sendable (LogRecord, SourceDefinition) -> SourceRow?

/// Counters for metrics and status pages; they only rise, but for `entities` and `stateByteCount`.
public struct StreamEngineStatistics: Sendable, Hashable {
    /// Rows applied, once for each view that reads their source.
    public var rowsApplied: UInt64 = 0
    /// Rows given again although they had been applied.
    public var rowsSeenBefore: UInt64 = 0
    /// Rows without a usable key, for a view.
    public var rowsWithoutKey: UInt64 = 0
    /// Rows that became known later than a view's lateness allows, for a view: they stay in the source's table and log.
    public var rowsTooLate: UInt64 = 0
    /// The same by view.
    public var rowsTooLateByView: [Name: UInt64] = [:]
    /// Values too large to be summed exactly; a window that holds one has no sum.
    public var valuesUnsummable: UInt64 = 0
    /// Rows that could not be applied because the online store failed.
    public var rowsFailed: UInt64 = 0
    /// Checkpoints written.
    public var checkpoints: UInt64 = 0
    /// Entities in memory, over all views.
    public var entities = 0
    /// Bytes of memory that they take, about.
    public var stateByteCount = 0
    /// Of remembered answers.
    public var cache = EntityCacheStatistics()
}

/// Keeps the window state of every feature view and answers reads from it.
///
/// Rows arrive in log order through `received`, or are read from the log when some are missing. Each is applied exactly
/// once: a view knows the offset it wants next, and a checkpoint stores rows and offsets in one transaction. Views are
/// held by version; a new version reads its source's log from the start before it answers.
///
/// Reads are synchronous and take one shard's lock for the time of one computation; they never wait for a writer's disk.
public final class StreamEngine: SourceListener {
    /// Everything that reads need, replaced as a whole.
    struct Snapshot: Sendable {
        var views: [Name: ViewState] = [:]
        /// Views that take a source's rows as ingestion gives them.
        var bySource: [Name: [ViewState]] = [:]
        /// Views under an older definition of their source, which read the log's records themselves.
        var bySourceApart: [Name: [ViewState]] = [:]
        var held: [Name: HeldView] = [:]
        /// The version that answers for a view's name: the one in force, or, until that is built, the one before.
        var served: [Name: HeldView] = [:]
        /// What answers by the name of a view, and of a service.
        var viewPlans: [Name: OnlinePlan] = [:]
        var servicePlans: [Name: OnlinePlan] = [:]
        var definitions = DefinitionSet()
        /// Rises whenever another version may answer for a name.
        var generation: UInt64 = 0
    }

    static let checkpointName = Name(static: "features")

    let online: any OnlineStore
    let log: any EventLog
    let clock: any PlatformClock
    let configuration: StreamEngineConfiguration
    let decode: SourceRowDecoder
    /// Changes of state pass here one by one; reads do not.
    let gate = AsyncGate()
    /// One checkpoint at a time; rows may arrive while one is being written.
    let checkpointGate = AsyncGate()
    let snapshot = Mutex(Snapshot())
    /// One change of what is built, or one step of building, at a time; taken before the other gates.
    let backfillGate = AsyncGate()
    let backfills = BackfillDesk()
    let usage = UsageDesk()
    /// Prepares entities one after another: at most one processor is taken from those who answer.
    let preparation = DispatchQueue(label: "feature preparation")
    /// Answers of views that say how stale one may be.
    let cache: EntityCache?
    private let counters = Mutex(StreamEngineStatistics())
    private let lastFailure = Mutex<String?>(nil)

    /// Makes an engine without views; `update(definitions:)` brings them.
    public init(
        online: any OnlineStore, log: any EventLog, clock: any PlatformClock,
        configuration: StreamEngineConfiguration = StreamEngineConfiguration(), decode: @escaping SourceRowDecoder
    ) {
        self.online = online
        self.log = log
        self.clock = clock
        self.configuration = configuration
        self.decode = decode
        cache =
            configuration.cachedEntityCountMax > 0
            ? EntityCache(entityCountMax: configuration.cachedEntityCountMax) : nil
    }

    /// The counters now.
    public var statistics: StreamEngineStatistics {
        var now = counters.withLock { $0 }
        for view in snapshot.withLock({ $0.views }).values {
            now.entities += view.entityCount
            now.stateByteCount += view.byteCount
        }
        if let cache { now.cache = cache.statistics }
        return now
    }

    /// Why rows could last not be applied; `nil` while all is well.
    ///
    /// The next batch tries them again, from the log.
    public var failure: String? { lastFailure.withLock { $0 } }

    /// Applies rows in log order; rows applied before change nothing, and missing ones are first read from the log.
    public func received(_ batch: SourceBatch) async {
        await gate.pass {
            let current = snapshot.withLock { $0 }
            let views = current.bySource[batch.source] ?? []
            let apart = current.bySourceApart[batch.source] ?? []
            guard !views.isEmpty || !apart.isEmpty else { return }
            do {
                if let source = current.definitions.sources[batch.source],
                    views.contains(where: { $0.nextOffset.load(ordering: .relaxed) < batch.firstOffset })
                {
                    try await catchUp(views, source: source, until: batch.firstOffset)
                }
                try apply(
                    ArrivedRows(rows: batch.rows, arrivals: batch.arrivals), firstOffset: batch.firstOffset, to: views)
                for view in apart {
                    guard let held = current.held[view.versionName] else { continue }
                    try await catchUp(
                        [view], source: held.source, until: batch.firstOffset + UInt64(batch.rows.count))
                }
                lastFailure.withLock { $0 = nil }
            } catch {
                lastFailure.withLock { $0 = errorText(error) }
            }
        }
        await relieve(batch.source, rowCount: batch.rows.count)
    }

    /// Lets who brings rows wait for a checkpoint where new entities come in faster than checkpoints write them down: only
    /// what is written can leave memory.
    private func relieve(_ source: Name, rowCount: Int) async {
        let views = snapshot.withLock { $0.bySource[source] ?? [] }
        var isFull = false
        for view in views
        where view.hasGrown(
            by: rowCount, entityCountMax: max(configuration.entityCountMax, 1_000),
            byteCountMax: configuration.stateByteCountMax)
        { isFull = true }
        // What the store could not take now, the next checkpoint writes; its failure is told there.
        if isFull { try? await checkpoint() }
    }

    // MARK: Applying

    /// Applies rows with offsets from `firstOffset` on to each view that has not had them.
    ///
    /// On failure a view's next offset stays where it was and the view catches up from the log later; entities that have
    /// had a row by then know it by its offset.
    func apply(_ batch: ArrivedRows, firstOffset: UInt64, to views: [ViewState]) throws {
        for view in views {
            var counted = StreamEngineStatistics()
            defer { add(counted) }
            let wanted = view.nextOffset.load(ordering: .relaxed)
            guard wanted >= firstOffset else {
                throw StoreError(
                    .unavailable, "topic/\(PlatformTopic.source(view.source))",
                    "the log does not give the rows from \(wanted) to \(firstOffset)")
            }
            let skipped = min(UInt64(batch.rows.count), wanted - firstOffset)
            counted.rowsSeenBefore += skipped
            let start = ContinuousClock.now
            var keyed: [KeyedRow] = []
            keyed.reserveCapacity(batch.rows.count - Int(skipped))
            for index in Int(skipped)..<batch.rows.count {
                guard let row = batch.rows[index] else { continue }
                if view.plan.isTooLate(eventTime: row.eventTime, ingestTime: row.ingestTime) {
                    counted.rowsTooLate += 1
                } else if let key = Self.key(of: row, plan: view.plan) {
                    keyed.append(KeyedRow(key: key, offset: firstOffset + UInt64(index), index: index))
                } else {
                    counted.rowsWithoutKey += 1
                }
            }
            do {
                let done = try view.apply(keyed, of: batch, pastQuestions: configuration.pastQuestions)
                counted.rowsApplied += UInt64(done.applied)
                usage.spent(view.versionName, rows: done.applied, time: ContinuousClock.now - start)
                counted.rowsSeenBefore += UInt64(done.seenBefore)
                counted.valuesUnsummable += UInt64(done.unsummable)
            } catch {
                counted.rowsFailed += 1
                throw error
            }
            if counted.rowsTooLate > 0 { counted.rowsTooLateByView[view.plan.view.name] = counted.rowsTooLate }
            view.nextOffset.store(max(wanted, firstOffset + UInt64(batch.rows.count)), ordering: .releasing)
        }
    }

    private func add(_ counted: StreamEngineStatistics) {
        counters.withLock {
            $0.rowsApplied += counted.rowsApplied
            $0.rowsSeenBefore += counted.rowsSeenBefore
            $0.rowsWithoutKey += counted.rowsWithoutKey
            $0.rowsTooLate += counted.rowsTooLate
            $0.rowsTooLateByView.merge(counted.rowsTooLateByView, uniquingKeysWith: +)
            $0.valuesUnsummable += counted.valuesUnsummable
            $0.rowsFailed += counted.rowsFailed
            $0.checkpoints += counted.checkpoints
        }
    }

    func countCheckpoint() {
        var counted = StreamEngineStatistics()
        counted.checkpoints = 1
        add(counted)
    }

    /// The key of a row; `nil` if a part is null or cannot be a key.
    static func key(of row: SourceRow, plan: AggregationPlan) -> SeriesKey? {
        if plan.keyPositions.count == 1 {
            let position = plan.keyPositions[0]
            guard position < row.cells.count, let text = row.cells[position].keyText, EntityKey.accepts(text) else {
                return nil
            }
            return SeriesKey(text)
        }
        var values: [String] = []
        for position in plan.keyPositions {
            guard position < row.cells.count, let text = row.cells[position].keyText else { return nil }
            values.append(text)
        }
        return EntityKey(values: values).map { SeriesKey($0.joined) }
    }
}
