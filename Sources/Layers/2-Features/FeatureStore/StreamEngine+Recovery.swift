import Aggregation
public import Definitions
public import PlatformCore
import StoragePorts
import Synchronization

extension StreamEngine {
    /// Names a view's place in the log in a checkpoint, with the form of the state: state of another form has no place,
    /// so it is built again from the log.
    static func offsetKey(_ view: Name, _ source: Name) -> String {
        "\(view)/\(PlatformTopic.source(source))/0/\(formatMark)"
    }
    private static var formatMark: String { "format-\(EventSeries.formatVersion)" }

    /// The version and the source that a place in a checkpoint is about; `nil` if its state has another form.
    static func place(_ key: String) -> (version: Name, source: Name)? {
        let parts = key.split(separator: "/")
        guard parts.count == 4, parts[3] == formatMark, let version = Name(parts[0]),
            let source = Name(parts[1].dropFirst("source.".count))
        else { return nil }
        return (version, source)
    }

    /// Takes up the views of `definitions` from the last checkpoint and the log after it: call it once, at the start.
    /// - Throws: what the stores throw; the engine then serves nothing.
    public func recover(definitions: DefinitionSet) async throws { try await update(definitions: definitions) }

    /// Serves the views of `definitions`, and beside them older versions that something uses, from now on.
    ///
    /// A version that is served already goes on as it is. Another one continues from its checkpoint, or reads its
    /// source's log from the start; where that is little, it is done before this returns, else `runBackfills` does it
    /// while rows go on arriving, and until then the version before answers for the view's name. A version that is not
    /// asked for any more is parked: its state stays in the store as it is, and goes on from there when it is asked for
    /// again; `retire` removes it.
    /// - Parameter kept: older versions to serve beside those in force; where several are of one view, the newest first.
    /// - Throws: what the stores throw; then nothing has changed for readers.
    public func update(definitions: DefinitionSet, keeping kept: [HeldView] = []) async throws {
        // A checkpoint in flight would hold rows that the store does not have yet.
        try await backfillGate.pass {
            try await checkpointGate.pass { try await gate.pass { try await replaceViews(definitions, kept) } }
        }
    }

    /// A version that is to be served, compiled, and whether it takes rows as ingestion gives them.
    private struct WantedView {
        let held: HeldView
        let plan: AggregationPlan
        let isApart: Bool
    }

    private func wanted(_ definitions: DefinitionSet, _ kept: [HeldView]) -> [Name: WantedView] {
        var wanted: [Name: WantedView] = [:]
        func want(_ held: HeldView, isApart: Bool) {
            var plan = AggregationPlan(view: held.view, source: held.source)
            plan.sizes = configuration.sizes
            wanted[held.versionName] = WantedView(held: held, plan: plan, isApart: isApart)
        }
        for view in definitions.featureViews.values {
            want(HeldView(view: view, source: definitions.source(of: view)), isApart: false)
        }
        for held in kept where wanted[held.versionName] == nil {
            let moved = held.moved(to: definitions.sources[held.source.name])
            want(moved ?? held, isApart: moved == nil)
        }
        return wanted
    }

    private func replaceViews(_ definitions: DefinitionSet, _ kept: [HeldView]) async throws {
        let current = snapshot.withLock { $0 }
        let wanted = wanted(definitions, kept)
        let mayStay = { (state: ViewState) in
            wanted[state.versionName].map { $0.plan.reads(sameCellsAs: state.plan) } ?? false
        }
        // Whoever does not go on as it is goes on from the store, under new positions or some other day.
        if !current.views.values.allSatisfy(mayStay) { try await write(takeChanges()) }
        let pending = backfills.pending
        if !pending.values.allSatisfy({ mayStay($0.state) }) { try await writeBackfills() }
        let stored = try await storedOffsets()

        var next = Snapshot()
        next.definitions = definitions
        var building: [Name: Backfill] = [:]
        var fresh: [SourceDefinition: [(view: WantedView, state: ViewState, wasReady: Bool)]] = [:]
        for (name, view) in wanted {
            next.held[name] = view.held
            if let state = current.views[name], mayStay(state) {
                next.views[name] = state
            } else if let backfill = pending[name], mayStay(backfill.state) {
                building[name] = backfill
            } else {
                let key = Self.offsetKey(name, view.held.source.name)
                let offset = stored.offset(key)
                // Rows without a checkpoint are what is left of a version that was forgotten.
                if offset == nil { try await dropRows(of: name) }
                fresh[view.held.source, default: []].append(
                    (
                        view, ViewState(plan: view.plan, nextOffset: offset ?? 0, store: online, cache: cache),
                        stored.ready[key] != nil
                    ))
            }
        }
        let isStart = !backfills.hasStarted
        for (source, views) in fresh {
            let end = try await endOffset(of: source.name)
            let first = views.map { $0.state.nextOffset.load(ordering: .relaxed) }.min() ?? end
            let isLittle = Int(clamping: end - min(first, end)) <= configuration.rowsAtOnceMax / views.count
            var now: [ViewState] = []
            for (view, state, wasReady) in views {
                // At the start nobody is served yet, so what was served before is brought up to date first.
                if isLittle || (isStart && wasReady) {
                    now.append(state)
                    next.views[view.held.versionName] = state
                } else {
                    building[view.held.versionName] = Backfill(held: view.held, state: state, endOffset: end)
                }
            }
            guard !now.isEmpty else { continue }
            if isLittle {
                try await catchUp(now, source: source, until: nil)
            } else {
                try await catchUpAtStart(now, source: source)
            }
        }
        // Whoever stands in for a version to be built does so after a crash too, so it is written down first.
        if building.keys.contains(where: { pending[$0] == nil }), !current.views.isEmpty {
            try await write(takeChanges())
        }
        for (name, state) in next.views {
            if wanted[name]?.isApart == true {
                next.bySourceApart[state.source, default: []].append(state)
            } else {
                next.bySource[state.source, default: []].append(state)
            }
        }
        resolve(&next, before: current, kept)
        let written = try await storedOffsets()
        let parked = written.ready.filter { key, _ in
            !next.views.contains { Self.offsetKey($0.key, $0.value.source) == key }
        }
        let ready = next
        backfills.replace(pending: building, parked: parked, halfBuilt: written.built)
        snapshot.withLock { $0 = ready }
    }

    /// Says which version answers for the name of each view, and how each service is read.
    private func resolve(_ next: inout Snapshot, before: Snapshot, _ kept: [HeldView]) {
        next.generation = before.generation + 1
        for view in next.definitions.featureViews.values {
            var candidates = [next.held[view.versionName], before.served[view.name]]
            candidates += kept.filter { $0.view.name == view.name }
            let ready = candidates.compactMap { $0 }.first { next.views[$0.versionName] != nil }
            next.served[view.name] = ready.map { next.held[$0.versionName] ?? $0 }
            next.viewPlans[view.name] = next.served[view.name].map(OnlinePlan.init)
        }
        // The name's definition in force says it for every version that answers.
        for (version, state) in next.views {
            let view = next.held[version].flatMap { next.definitions.featureViews[$0.view.name] ?? $0.view }
            state.remember(answersFor: (view?.maxStaleness ?? configuration.maxStaleness).milliseconds)
        }
        for service in next.definitions.featureServices.values {
            next.servicePlans[service.name] = ServingPlan(service: service, views: next.served).map(OnlinePlan.init)
        }
    }

    /// Puts versions that have been built among those that are served; only inside the gate.
    func serve(_ built: [Backfill]) {
        var next = snapshot.withLock { $0 }
        let before = next
        for backfill in built {
            let source = backfill.held.source
            next.views[backfill.held.versionName] = backfill.state
            if next.definitions.sources[source.name] == source {
                next.bySource[source.name, default: []].append(backfill.state)
            } else {
                next.bySourceApart[source.name, default: []].append(backfill.state)
            }
        }
        resolve(&next, before: before, [])
        let ready = next
        snapshot.withLock { $0 = ready }
    }

    /// Reads the log from the lowest offset that a view wants, up to `end` or the log's end.
    func catchUp(_ views: [ViewState], source: SourceDefinition, until end: UInt64?) async throws {
        guard var offset = views.map({ $0.nextOffset.load(ordering: .relaxed) }).min() else { return }
        while end.map({ offset < $0 }) ?? true {
            guard let next = try await readOn(views, source: source, from: offset) else { return }
            offset = next
            try Task.checkCancellation()
        }
    }

    /// Reads much of the log before anybody is served, and writes down how far it is: a start that is cut off again and
    /// again still comes to its end.
    private func catchUpAtStart(_ views: [ViewState], source: SourceDefinition) async throws {
        guard var offset = views.map({ $0.nextOffset.load(ordering: .relaxed) }).min() else { return }
        var pace = WritePace()
        while let next = try await readOn(views, source: source, from: offset) {
            if pace.isDue(after: Int(clamping: next - offset) * views.count, rowCountMax: configuration.rowsBuiltMax) {
                let start = ContinuousClock.now
                var changes = changes(of: views)
                changes.name = Self.backfillCheckpointName
                changes.offsets.merge(try await storedOffsets().built) { max($0, $1) }
                try await write(changes)
                evict(changes)
                pace.written(in: ContinuousClock.now - start)
            }
            offset = next
            try Task.checkCancellation()
        }
    }

    /// Applies one portion of the log to views; gives the offset behind it, `nil` at the log's end.
    func readOn(_ views: [ViewState], source: SourceDefinition, from offset: UInt64, countMax: Int = 10_000)
        async throws -> UInt64?
    {
        let records: [StoredRecord]
        do {
            records = try await log.read(
                PlatformTopic.source(source.name), partition: 0, from: offset, recordCountMax: countMax,
                byteCountMax: 8 << 20)
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
        guard let first = records.first, let last = records.last else { return nil }
        // A log has no gaps, but what was asked for may have been before its first record.
        for view in views where view.nextOffset.load(ordering: .relaxed) < first.offset {
            view.nextOffset.store(first.offset, ordering: .releasing)
        }
        try apply(
            ArrivedRows(rows: records.map { decode($0.record, source) }, arrivals: records.map(\.record.time)),
            firstOffset: first.offset, to: views)
        return last.offset + 1
    }

    /// Rows in the log of a source; 0 if it has none yet.
    public func endOffset(of source: Name) async throws -> UInt64 {
        do { return try await log.endOffset(PlatformTopic.source(source), partition: 0) } catch {
            if error.code == .notFound { return 0 }
            throw error
        }
    }

    // MARK: Checkpoints

    /// How far versions had read the log when their rows were last written.
    struct StoredOffsets {
        /// Of those that were served.
        var ready: [String: UInt64] = [:]
        /// Of those that were being built.
        var built: [String: UInt64] = [:]
        /// Both are written together with their rows, so the higher one is what the rows hold.
        func offset(_ key: String) -> UInt64? {
            guard let one = ready[key], let other = built[key] else { return ready[key] ?? built[key] }
            return max(one, other)
        }
    }

    func storedOffsets() async throws -> StoredOffsets {
        func offsets(_ name: Name) async throws -> [String: UInt64] {
            (try await online.checkpoint(name)?.offsets ?? [:]).filter { Self.place($0.key) != nil }
        }
        return StoredOffsets(
            ready: try await offsets(Self.checkpointName), built: try await offsets(Self.backfillCheckpointName))
    }

    func dropRows(of version: Name) async throws {
        var isEmpty = true
        try await online.forEach(in: version) { _ in
            isEmpty = false
            return false
        }
        if !isEmpty { try await online.drop(version) }
    }

    /// Writes what has changed, and how far the log has been read, in one transaction of the online store.
    ///
    /// Rows wait only while the changed states are noted; they are packed and written while rows go on arriving.
    /// - Throws: what the store throws; everything stays marked as changed, and the next call writes it.
    public func checkpoint() async throws {
        try await checkpointGate.pass {
            let changes = await gate.pass { takeChanges() }
            try await write(changes)
            evict(changes)
        }
    }

    struct Changes: Sendable {
        var states: [(view: ViewState, taken: [[TakenState]])] = []
        var offsets: [String: UInt64] = [:]
        var name = StreamEngine.checkpointName
    }

    /// States and offsets of one moment between two batches; only inside the gate.
    func takeChanges() -> Changes {
        var changes = changes(of: snapshot.withLock { $0.views }.values.sorted { $0.versionName < $1.versionName })
        changes.offsets.merge(backfills.parked) { ready, _ in ready }
        return changes
    }

    func changes(of views: [ViewState]) -> Changes {
        var changes = Changes()
        for view in views {
            changes.offsets[Self.offsetKey(view.versionName, view.source)] = view.nextOffset.load(ordering: .acquiring)
            changes.states.append((view, view.takeDirty()))
        }
        return changes
    }

    func write(_ changes: Changes) async throws {
        do {
            var rows: [Name: [KeyedOnlineRow]] = [:]
            var removed: [Name: [EntityKey]] = [:]
            for (view, taken) in changes.states {
                let written = view.rows(of: taken)
                if !written.rows.isEmpty { rows[view.versionName] = written.rows }
                if !written.removed.isEmpty { removed[view.versionName] = written.removed }
            }
            try await online.write(
                rows, removing: removed,
                checkpoint: OnlineCheckpoint(name: changes.name, offsets: changes.offsets))
        } catch {
            for (view, taken) in changes.states { view.markNotStored(taken) }
            throw error
        }
        countCheckpoint()
    }

    func evict(_ changes: Changes) {
        for (view, taken) in changes.states {
            view.evict(taken, keeping: configuration.entityCountMax, byteCountMax: configuration.stateByteCountMax)
        }
    }
}
