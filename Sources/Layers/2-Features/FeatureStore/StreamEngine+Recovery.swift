import Aggregation
public import Definitions
import PlatformCore
import StoragePorts
import Synchronization

extension StreamEngine {
    /// Names a view's place in the log in a checkpoint, with the form of the state: state of another form has no place,
    /// so it is built again from the log.
    private static func offsetKey(_ view: Name, _ source: Name) -> String {
        "\(view)/\(PlatformTopic.source(source))/0/format-\(EventSeries.formatVersion)"
    }

    /// Takes up the views of `definitions` from the last checkpoint and the log after it: call it once, at the start.
    /// - Throws: what the stores throw; the engine then serves nothing.
    public func recover(definitions: DefinitionSet) async throws { try await update(definitions: definitions) }

    /// Serves the views of `definitions` from now on.
    ///
    /// A view version that is served already goes on as it is. Another one continues from its checkpoint, or reads its
    /// source's log from the start, and answers only when it has caught up. Versions that are no longer defined are
    /// forgotten. Rows that arrive meanwhile wait.
    /// - Throws: what the stores throw; then nothing has changed for readers.
    public func update(definitions: DefinitionSet) async throws {
        // A checkpoint in flight would hold rows that the store does not have yet.
        try await checkpointGate.pass { try await gate.pass { try await replaceViews(definitions) } }
    }

    private func replaceViews(_ definitions: DefinitionSet) async throws {
        let current = snapshot.withLock { $0 }
        let moved = current.views.values.contains { state in
            definitions.featureViews[state.plan.view.name].map { view in
                view.versionName == state.versionName
                    && !AggregationPlan(view: view, source: definitions.source(of: view)).reads(sameCellsAs: state.plan)
            } ?? false
        }
        // Their state goes on in the store under the new positions.
        if moved { try await write(takeChanges()) }
        let checkpoint = try await online.checkpoint(Self.checkpointName)
        var next = Snapshot()
        next.definitions = definitions
        var fresh: [Name: [ViewState]] = [:]
        for view in definitions.featureViews.values {
            var plan = AggregationPlan(view: view, source: definitions.source(of: view))
            plan.sizes = configuration.sizes
            if let state = current.views[view.versionName], plan.reads(sameCellsAs: state.plan) {
                next.views[view.versionName] = state
                continue
            }
            let offset = checkpoint?.offsets[Self.offsetKey(view.versionName, view.source)]
            // Rows without a checkpoint are what is left of a version that was forgotten.
            if offset == nil { try await online.drop(view.versionName) }
            let state = ViewState(plan: plan, nextOffset: offset ?? 0, store: online)
            next.views[view.versionName] = state
            fresh[view.source, default: []].append(state)
        }
        for state in next.views.values { next.bySource[state.source, default: []].append(state) }
        for (source, views) in fresh {
            try await catchUp(views, source: source, until: nil, definitions: definitions)
        }
        let ready = next
        snapshot.withLock { $0 = ready }
        for gone in current.views.keys where next.views[gone] == nil { try await online.drop(gone) }
    }

    /// Reads the log from the lowest offset that a view wants, up to `end` or the log's end.
    func catchUp(_ views: [ViewState], source: Name, until end: UInt64?, definitions: DefinitionSet? = nil) async throws
    {
        let known = definitions ?? snapshot.withLock { $0.definitions }
        guard let definition = known.sources[source] else { return }
        guard var offset = views.map({ $0.nextOffset.load(ordering: .relaxed) }).min() else { return }
        while end.map({ offset < $0 }) ?? true {
            let records: [StoredRecord]
            do { records = try await log.read(PlatformTopic.source(source), from: offset) } catch {
                if error.code == .notFound { return }
                throw error
            }
            guard let first = records.first, let last = records.last else { return }
            // A log has no gaps, but what was asked for may have been before its first record.
            for view in views where view.nextOffset.load(ordering: .relaxed) < first.offset {
                view.nextOffset.store(first.offset, ordering: .releasing)
            }
            try apply(
                ArrivedRows(
                    rows: records.map { decode($0.record, definition) }, arrivals: records.map(\.record.time)),
                firstOffset: first.offset, to: views)
            offset = last.offset + 1
            try Task.checkCancellation()
        }
    }

    /// Writes what has changed, and how far the log has been read, in one transaction of the online store.
    ///
    /// Rows wait only while the changed states are noted; they are packed and written while rows go on arriving.
    /// - Throws: what the store throws; everything stays marked as changed, and the next call writes it.
    public func checkpoint() async throws {
        try await checkpointGate.pass {
            let changes = await gate.pass { takeChanges() }
            try await write(changes)
            for (view, taken) in changes.states {
                view.evict(
                    taken, keeping: configuration.entityCountMax, byteCountMax: configuration.stateByteCountMax)
            }
        }
    }

    private struct Changes: Sendable {
        var states: [(view: ViewState, taken: [[TakenState]])] = []
        var offsets: [String: UInt64] = [:]
    }

    /// States and offsets of one moment between two batches; only inside the gate.
    private func takeChanges() -> Changes {
        var changes = Changes()
        for view in snapshot.withLock({ $0 }).views.values.sorted(by: { $0.versionName < $1.versionName }) {
            changes.offsets[Self.offsetKey(view.versionName, view.source)] = view.nextOffset.load(ordering: .acquiring)
            changes.states.append((view, view.takeDirty()))
        }
        return changes
    }

    private func write(_ changes: Changes) async throws {
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
                checkpoint: OnlineCheckpoint(name: Self.checkpointName, offsets: changes.offsets))
        } catch {
            for (view, taken) in changes.states { view.markNotStored(taken) }
            throw error
        }
        countCheckpoint()
    }
}
