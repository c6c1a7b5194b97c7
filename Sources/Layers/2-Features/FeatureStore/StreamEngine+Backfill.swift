import Aggregation
import Definitions
public import PlatformCore
import StoragePorts
import Synchronization

/// A version that is being built from history.
struct Backfill: Sendable {
    let held: HeldView
    let state: ViewState
    let startOffset: UInt64
    let startedAt = ContinuousClock.now
    var endOffset: UInt64
    var failure: String?

    init(held: HeldView, state: ViewState, endOffset: UInt64) {
        self.held = held
        self.state = state
        self.endOffset = endOffset
        startOffset = state.nextOffset.load(ordering: .relaxed)
    }

    var status: ViewVersionStatus {
        let next = state.nextOffset.load(ordering: .relaxed)
        let seconds = (ContinuousClock.now - startedAt) / .seconds(1)
        return ViewVersionStatus(
            versionName: held.versionName, source: held.source.name, state: .backfilling, nextOffset: next,
            startOffset: startOffset, endOffset: max(next, endOffset),
            rowsPerSecond: seconds > 0.05 ? Double(next - min(startOffset, next)) / seconds : 0, failure: failure)
    }
}

/// What is being built, and what is kept without being served.
final class BackfillDesk: Sendable {
    private struct State {
        var pending: [Name: Backfill] = [:]
        /// Next offset of versions whose state is kept though nobody is served from it.
        var parked: [String: UInt64] = [:]
        /// The same for versions that were never built to the end.
        var halfBuilt: [String: UInt64] = [:]
        var hasStarted = false
        var pace = WritePace()
        /// Who waits for versions to answer, by a number of their own.
        var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
        var waiterCount = 0
    }
    private let state = Mutex(State())
    /// One element when there may be something to build.
    let signals: AsyncStream<Void>
    private let signal: AsyncStream<Void>.Continuation

    init() { (signals, signal) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1)) }

    var pending: [Name: Backfill] { state.withLock { $0.pending } }
    var parked: [String: UInt64] { state.withLock { $0.parked } }
    var halfBuilt: [String: UInt64] { state.withLock { $0.halfBuilt } }
    /// Whether definitions have been served since the process began.
    var hasStarted: Bool { state.withLock { $0.hasStarted } }

    func status(of version: Name) -> ViewVersionStatus? { state.withLock { $0.pending[version]?.status } }

    func replace(pending: [Name: Backfill], parked: [String: UInt64], halfBuilt: [String: UInt64]) {
        state.withLock {
            $0.pending = pending
            $0.parked = parked
            $0.halfBuilt = halfBuilt
            $0.hasStarted = true
        }
        if !pending.isEmpty { signal.yield() }
        announce()
    }

    func update(_ version: Name, _ change: (inout Backfill) -> Void) {
        state.withLock { state in
            guard var backfill = state.pending[version] else { return }
            change(&backfill)
            state.pending[version] = backfill
        }
    }

    func remove(_ versions: [Name]) {
        state.withLock { for version in versions { $0.pending[version] = nil } }
        announce()
    }

    // MARK: Waiting

    /// Returns at the next change of what is being built, or when the task is cancelled; at once if `isOver` holds already.
    func nextChange(unless isOver: () -> Bool) async {
        let number = state.withLock { state in
            state.waiterCount += 1
            return state.waiterCount
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                state.withLock { $0.waiting[number] = continuation }
                // Asked again once a change can no longer be missed.
                if isOver() || Task.isCancelled { resume(number) }
            }
        } onCancel: {
            resume(number)
        }
    }

    private func resume(_ number: Int) { state.withLock { $0.waiting.removeValue(forKey: number) }?.resume() }

    private func announce() {
        let waiting = state.withLock { state in
            defer { state.waiting.removeAll() }
            return Array(state.waiting.values)
        }
        for continuation in waiting { continuation.resume() }
    }

    func forget(_ key: String) {
        state.withLock {
            $0.parked[key] = nil
            $0.halfBuilt[key] = nil
        }
    }

    func written(_ offsets: [String: UInt64], in time: Duration) {
        state.withLock {
            $0.halfBuilt = offsets
            $0.pace.written(in: time)
        }
    }

    /// Counts rows since the last write; says whether it is time for another one.
    func isWriteDue(after rows: Int, rowCountMax: Int) -> Bool {
        state.withLock { $0.pace.isDue(after: rows, rowCountMax: rowCountMax) }
    }
}

/// When what was built is written down: after many rows, and often enough that a process that is killed again and again
/// still gets on, without spending most of its time on writing.
struct WritePace: Sendable {
    /// Time between two writes, however few rows there were.
    static let intervalMin = Duration.milliseconds(200)
    private var rowCount = 0
    private var last = ContinuousClock.now
    private var interval = intervalMin

    mutating func isDue(after rows: Int, rowCountMax: Int) -> Bool {
        rowCount += rows
        return rowCount >= rowCountMax || ContinuousClock.now - last >= interval
    }

    mutating func written(in time: Duration) {
        rowCount = 0
        last = ContinuousClock.now
        interval = max(Self.intervalMin, time * 4)
    }
}

/// What happens while versions are built.
public enum BackfillNews: Sendable, Hashable {
    /// It answers from now on.
    case ready(ViewVersionStatus, seconds: Double)
    /// A step failed; it is tried again.
    case failed(version: Name, reason: String)
}

extension StreamEngine {
    static let backfillCheckpointName = Name(static: "features.backfill")
    /// Rows times views read in one step; rows may arrive between two steps, and beside them.
    private static let stepCountMax = 10_000

    /// Versions that are held, by name.
    public var versions: [ViewVersionStatus] {
        var found = snapshot.withLock { $0 }.views.values.map {
            ViewVersionStatus(
                versionName: $0.versionName, source: $0.source, state: .ready,
                nextOffset: $0.nextOffset.load(ordering: .relaxed))
        }
        let pending = backfills.pending
        found += pending.values.map(\.status)
        let known = Set(found.map(\.versionName))
        var parked = backfills.parked
        parked.merge(backfills.halfBuilt) { max($0, $1) }
        for (key, offset) in parked {
            guard let (version, source) = Self.place(key), !known.contains(version) else { continue }
            found.append(
                ViewVersionStatus(versionName: version, source: source, state: .parked, nextOffset: offset))
        }
        return found.sorted { $0.versionName < $1.versionName }
    }

    /// Versions that answer, and those kept in the store that once did.
    public func builtVersions() async throws -> Set<Name> {
        let served = snapshot.withLock { $0.views.keys.map { $0 } }
        let stored = try await storedOffsets().ready.keys.compactMap { Self.place($0)?.version }
        return Set(served).union(stored)
    }

    /// A version that is served or being built, as it was defined.
    public func held(_ version: Name) -> HeldView? { snapshot.withLock { $0.held[version] } }

    /// Versions that are being built from history.
    public var backfillCount: Int { backfills.pending.count }

    /// Waits until versions answer, without asking again and again.
    ///
    /// - Returns: those that do not answer yet after `timeout`.
    public func waitUntilServed(_ versions: [Name], timeout: Duration) async throws -> [Name] {
        let missing: @Sendable () -> [Name] = { versions.filter { !self.serves($0) } }
        // One that is neither served nor being built is not asked for any more: there is nothing to wait for.
        let isOver: @Sendable () -> Bool = { missing().allSatisfy { self.backfills.pending[$0] == nil } }
        if isOver() { return missing() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await Task.sleep(for: timeout) }
            group.addTask { while !isOver(), !Task.isCancelled { await self.backfills.nextChange(unless: isOver) } }
            try await group.next()
            group.cancelAll()
        }
        return missing()
    }

    /// Whether a version answers now.
    public func serves(_ version: Name) -> Bool { snapshot.withLock { $0.views[version] != nil } }

    /// Builds versions from history, whenever there is something to build, until the task is cancelled.
    ///
    /// Rows go on being applied to the versions that are served. What was built is written down every now and then
    /// together with how far the log was read, so that after a crash it goes on from there. The last rows are read while
    /// arriving ones wait for some milliseconds; then the new version answers.
    public func runBackfills(_ tell: @Sendable (BackfillNews) async -> Void = { _ in }) async {
        for await _ in backfills.signals {
            await buildPending(tell)
            if Task.isCancelled { return }
        }
    }

    /// Builds everything that waits to be built, and returns.
    @concurrent
    public func buildPending(_ tell: @Sendable (BackfillNews) async -> Void = { _ in }) async {
        var pause = Duration.milliseconds(100)
        while !Task.isCancelled, let next = nextBuild() {
            do {
                for news in try await step() { await tell(news) }
                pause = .milliseconds(100)
                await Task.yield()
            } catch is CancellationError { return } catch {
                let reason = errorText(error)
                for backfill in next {
                    backfills.update(backfill.held.versionName) { $0.failure = reason }
                    await tell(.failed(version: backfill.held.versionName, reason: reason))
                }
                try? await Task.sleep(for: pause)
                pause = min(pause * 2, .seconds(10))
            }
        }
    }

    /// Versions that read the same rows, the least advanced among them first.
    private func nextBuild() -> [Backfill]? {
        let pending = backfills.pending.values
        guard let first = pending.min(by: { $0.held.versionName < $1.held.versionName }) else { return nil }
        return pending.filter { $0.held.source == first.held.source }.sorted {
            $0.state.nextOffset.load(ordering: .relaxed) < $1.state.nextOffset.load(ordering: .relaxed)
        }
    }

    private func step() async throws -> [BackfillNews] {
        try await backfillGate.pass {
            guard let group = nextBuild(), let least = group.first else { return [] }
            let source = least.held.source
            let end = try await endOffset(of: source.name)
            let offset = least.state.nextOffset.load(ordering: .relaxed)
            for backfill in group {
                backfills.update(backfill.held.versionName) {
                    $0.endOffset = end
                    $0.failure = nil
                }
            }
            // Those that are further wait for the others: they share the reading.
            let views = group.map(\.state)
            if Int(clamping: end - min(offset, end)) <= configuration.rowsAtOnceMax / group.count {
                return try await finish(group, source: source)
            }
            let countMax = max(100, Self.stepCountMax / group.count)
            let next = try await readOn(views, source: source, from: offset, countMax: countMax)
            let rows = Int(clamping: (next ?? offset) - offset) * group.count
            if next == nil { return try await finish(group, source: source) }
            if backfills.isWriteDue(after: rows, rowCountMax: configuration.rowsBuiltMax) { try await writeBackfills() }
            return []
        }
    }

    /// Reads the last rows while arriving ones wait, and lets the versions answer: none is missed, none comes twice,
    /// since a version knows the offset of the next row it wants.
    private func finish(_ group: [Backfill], source: SourceDefinition) async throws -> [BackfillNews] {
        try await checkpointGate.pass {
            try await gate.pass {
                try await catchUp(group.map(\.state), source: source, until: nil)
                serve(group)
                backfills.remove(group.map(\.held.versionName))
            }
        }
        return group.map { backfill in
            var status = backfill.status
            status.state = .ready
            return .ready(status, seconds: (ContinuousClock.now - backfill.startedAt) / .seconds(1))
        }
    }

    /// Writes what was built so far; only inside the backfill gate.
    func writeBackfills() async throws {
        var changes = changes(of: backfills.pending.values.map(\.state))
        changes.name = Self.backfillCheckpointName
        changes.offsets.merge(backfills.halfBuilt) { max($0, $1) }
        let start = ContinuousClock.now
        try await write(changes)
        backfills.written(changes.offsets, in: ContinuousClock.now - start)
        evict(changes)
    }

    /// Removes the state of a version that is not served.
    /// - Throws: `conflict` if it is served or being built, `notFound` if nothing of it is kept.
    public func retire(_ version: Name) async throws {
        try await backfillGate.pass {
            try await checkpointGate.pass {
                let subject = "feature_view/\(version)"
                guard !serves(version), backfills.pending[version] == nil else {
                    throw PlatformError(.conflict, subject, "it is in use")
                }
                guard let status = versions.first(where: { $0.versionName == version }) else {
                    throw PlatformError(.notFound, subject, "nothing is kept of this version")
                }
                backfills.forget(Self.offsetKey(version, status.source))
                // First nothing points at the rows any more, then they go: in between, a crash leaves rows that the
                // next use of the version removes.
                var built = Changes()
                built.name = Self.backfillCheckpointName
                built.offsets = backfills.halfBuilt
                try await write(built)
                try await write(await gate.pass { takeChanges() })
                try await online.drop(version)
            }
        }
    }
}
