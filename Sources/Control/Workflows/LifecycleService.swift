public import Definitions
import Foundation
public import Logging
public import ModelRegistry
import ModelServing
public import PlatformCore
public import ServiceLifecycle
public import StoragePorts
import Synchronization

/// The steps of a pipeline that trains a model, as the platform carries them out.
public struct PipelineSteps: Sendable {
    /// Builds the model's training set for a span; gives its hash and a sentence.
    public let buildDataset:
        @Sendable (_ model: Name, _ from: EventTime, _ to: EventTime) async throws -> (hash: String, result: String)
    /// Runs the training job; gives its identifier and a sentence.
    public let train:
        @Sendable (_ model: Name, _ dataset: String, _ actor: String) async throws -> (job: String, result: String)
    /// Registers what the job logged.
    public let register:
        @Sendable (_ model: Name, _ job: String, _ actor: String, _ reason: String) async throws -> ModelVersion

    /// Makes the steps.
    public init(
        buildDataset:
            @escaping @Sendable (_ model: Name, _ from: EventTime, _ to: EventTime) async throws -> (
                hash: String, result: String
            ),
        train:
            @escaping @Sendable (_ model: Name, _ dataset: String, _ actor: String) async throws -> (
                job: String, result: String
            ),
        register:
            @escaping @Sendable (_ model: Name, _ job: String, _ actor: String, _ reason: String) async throws ->
            ModelVersion
    ) {
        self.buildDataset = buildDataset
        self.train = train
        self.register = register
    }
}

/// Closes the loop: hears alerts, retrains, and walks challengers through shadow and canary into production.
///
/// Everything it decides is stored before it acts on it, with the reason; after a restart it goes on where it stood.
public final class LifecycleService: Service {
    private static let consumer = Name(static: "lifecycle")
    private static let actor = "lifecycle"
    /// Ignored alerts that are shown.
    private static let ignoredCountMax = 1000

    /// An alert that started nothing, as a sentence.
    private struct IgnoredAlert: Sendable, Codable {
        let text: String
    }

    private struct State {
        var retrainings: [RetrainingState] = []
        var offset: UInt64 = 0
        var ignored: [String] = []
        var isTicking = false
        /// Retrainings that a task works on.
        var underWay: Set<String> = []
        /// Whether this process carries the workflows out.
        var leads = false
        /// When the states of another process were last read.
        var looked = ContinuousClock.now
    }
    private let state = Mutex(State())
    private let desk: ModelDesk
    private let registry: ModelVersionRegistry
    /// Moves challengers.
    public let rollout: RolloutController
    private let lease: WorkflowLease
    private let waits: ApprovalWaits
    private let log: any EventLog
    private let clock: any PlatformClock
    private let definitions: @Sendable () -> DefinitionSet
    private let steps: PipelineSteps
    private let identifiers: IdentifierSource
    private let logger: Logger
    private let retrainingHistory: StateHistory<RetrainingState>
    private let ignoredHistory: StateHistory<IgnoredAlert>
    private let changed: @Sendable () -> Void
    private let queue: AsyncStream<String>
    private let enqueue: AsyncStream<String>.Continuation

    /// Makes the service.
    public init(
        desk: ModelDesk, registry: ModelVersionRegistry, rollout: RolloutController, lease: WorkflowLease,
        log: any EventLog, metadata: any MetadataStore, clock: any PlatformClock,
        definitions: @escaping @Sendable () -> DefinitionSet, steps: PipelineSteps, identifiers: IdentifierSource,
        logger: Logger,
        journal: any ChangeJournal, changed: @escaping @Sendable () -> Void
    ) {
        self.desk = desk
        self.registry = registry
        self.rollout = rollout
        self.lease = lease
        waits = ApprovalWaits(registry: registry)
        self.log = log
        self.clock = clock
        self.definitions = definitions
        self.steps = steps
        self.identifiers = identifiers
        self.logger = logger
        self.changed = changed
        retrainingHistory = StateHistory(store: metadata, kind: "retraining", journal: journal)
        ignoredHistory = StateHistory(store: metadata, kind: "ignored_alert")
        (queue, enqueue) = AsyncStream.makeStream(of: String.self)
    }

    // MARK: What it knows

    /// Retrainings so far, oldest first.
    public var retrainings: [RetrainingState] { state.withLock { $0.retrainings } }
    /// Rollouts so far, by identifier.
    public var rollouts: [String: RolloutState] { rollout.rollouts }
    /// Whether this process carries workflows out; another one on the same store may.
    public var isLeading: Bool { state.withLock { $0.leads } }
    /// The offset of the monitoring topic that it reads next.
    public var monitoringOffset: UInt64 { state.withLock { $0.offset } }
    /// Alerts that started nothing, and why; the newest last.
    public var ignoredAlerts: [String] { state.withLock { $0.ignored } }
    /// Retrainings that compute now.
    public var computingCount: Int { state.withLock { $0.retrainings.count(where: \.isComputing) } }

    // MARK: Service

    /// Runs until graceful shutdown.
    public func run() async throws {
        await cancelWhenGracefulShutdown {
            await withDiscardingTaskGroup { group in
                group.addTask { await self.repeatedly(every: .milliseconds(50)) { try await self.readMonitoring() } }
                group.addTask { await self.repeatedly(every: .milliseconds(50)) { try await self.tick() } }
                group.addTask { await self.repeatedly(every: .seconds(1)) { await self.desk.loadUnloaded() } }
                for await id in self.queue { group.addTask { await self.retrain(id) } }
                group.cancelAll()
            }
        }
        try? await lease.release()
    }

    private func repeatedly(every pause: Duration, _ work: () async throws -> Void) async {
        while !Task.isCancelled {
            do { try await work() } catch is CancellationError { return } catch {
                logger.error("the lifecycle could not go on; trying again", metadata: ["error": "\(errorText(error))"])
                try? await Task.sleep(for: .seconds(1))
            }
            try? await Task.sleep(for: pause)
        }
    }

    /// Takes up what was under way; call it once, before requests are answered and before `run`.
    public func prepare() async throws {
        let ignored = try await ignoredHistory.latest()
        state.withLock { $0.ignored = ignored.suffix(Self.ignoredCountMax).map(\.state.text) }
        if try await !leads() { try await look() }
    }

    /// Whether this process carries workflows out; when it begins to, it takes up what is stored.
    private func leads() async throws -> Bool {
        guard try await lease.hold() else {
            if state.withLock({ state in
                defer { state.leads = false }
                return state.leads
            }) {
                logger.warning("another process carries the workflows out now")
            }
            return false
        }
        if state.withLock({ $0.leads }) { return true }
        let retrainings = try await retrainingHistory.latest()
        let offset = try await log.position(Self.consumer, topic: PlatformTopic.monitoring, partition: 0)
        try await rollout.load(observing: true)
        state.withLock {
            $0.retrainings = retrainings.map(\.state)
            $0.offset = offset
            $0.leads = true
        }
        for retraining in retrainings where retraining.state.outcome == nil { enqueue.yield(retraining.id) }
        return true
    }

    /// Reads what the process that carries them out has stored.
    private func look() async throws {
        let isDue = state.withLock { state in
            guard state.looked <= .now else { return false }
            state.looked = .now + .seconds(1)
            return true
        }
        guard isDue else { return }
        let retrainings = try await retrainingHistory.latest()
        try await rollout.load(observing: false)
        state.withLock { $0.retrainings = retrainings.map(\.state) }
    }

    // MARK: Alerts

    private func readMonitoring() async throws {
        guard try await leads() else { return }
        let offset = state.withLock { $0.offset }
        let records = try await log.read(PlatformTopic.monitoring, from: offset)
        for stored in records {
            if let event = try? JSONValue.parse(stored.record.value).decoded(as: PlatformEvent.self) {
                try await hear(event)
            }
            state.withLock { $0.offset = stored.offset + 1 }
        }
        if !records.isEmpty {
            try await log.commit(
                Self.consumer, topic: PlatformTopic.monitoring, partition: 0, offset: state.withLock { $0.offset })
        }
    }

    private func hear(_ event: PlatformEvent) async throws {
        switch event.kind {
        // An incident that goes on speaks again with each window, so one that began in a cooldown is heard after it.
        case "monitor.alert.raised", "monitor.alert.continued": try await hearAlert(event)
        case "monitor.pair.compared": await hearPair(event)
        default: break
        }
    }

    private func hearAlert(_ event: PlatformEvent) async throws {
        let details = event.details
        guard let monitorName = details["scope"]?["monitor"]?.stringValue.flatMap({ Name($0) }),
            let rule = details["rule"]?.stringValue,
            let monitor = definitions().monitors[monitorName]
        else { return }
        let alert = RetrainingTrigger.Alert(
            monitor: monitorName, rule: rule, message: details["message"]?.stringValue ?? rule,
            // The window's end, not the moment the monitor came to it: two runs then train on the same span.
            time: details["last_seen"]?.integerValue.map(EventTime.init(milliseconds:)) ?? event.time,
            version: Int(details["scope"]?["version"]?.integerValue ?? 0))
        let champion = try await registry.champion(of: monitor.model)?.number
        let rolling = rollouts.values.contains { $0.model == monitor.model && !$0.phase.isOver }
        let verdict: RetrainingTrigger.Verdict =
            rolling
            ? .ignore("a challenger is being rolled out")
            : RetrainingTrigger.judge(alert, monitor: monitor, earlier: retrainings, champion: champion)
        switch verdict {
        case .ignore(let reason):
            let ignored = IgnoredAlert(text: "\(event.time.dateText) \(rule): \(reason)")
            // Named by what it is about, so that an alert read twice after a crash is remembered once.
            try await ignoredHistory.append("\(event.time.milliseconds)/\(monitorName)/\(rule)", ignored)
            state.withLock {
                $0.ignored.append(ignored.text)
                if $0.ignored.count > Self.ignoredCountMax { $0.ignored.removeFirst() }
            }
        case .start(let from, let to, let cause):
            // The same alert read twice after a crash finds the retraining that it started.
            try await start(
                RetrainingState(
                    id: identifiers.next(), monitor: monitorName.text, model: monitor.model, cause: cause,
                    startedAt: event.time, from: from, to: to))
        }
    }

    private func start(_ retraining: RetrainingState) async throws {
        try await retrainingHistory.append(
            retraining.id, retraining, change("retraining.started", retraining, ["cause": .string(retraining.cause)]))
        changed()
        state.withLock { $0.retrainings.append(retraining) }
        enqueue.yield(retraining.id)
    }

    /// Keeps what labels say of a challenger beside its champion, for the rollout's guardrails.
    private func hearPair(_ event: PlatformEvent) async {
        let details = event.details
        guard let model = details["scope"]?["model"]?.stringValue,
            details["scope"]?["choice"]?.stringValue != PredictionRecord.Choice.holdout.word,
            let challenger = details["shadow_version"]?.integerValue,
            let interval = details["auc_difference"], let upper = interval["upper"]?.doubleValue,
            let estimate = interval["estimate"]?.doubleValue,
            let from = details["scope"]?["from"]?.integerValue, let to = details["scope"]?["to"]?.integerValue
        else { return }
        let rows = details["labelled_pairs"]?.integerValue ?? 0
        await rollout.heard(
            upper < 0
                ? "on \(rows) labelled answers its AUC is lower than the champion's by \(String(format: "%.4f", -estimate)), "
                    + "and the whole 95 % interval is below 0" : nil, of: model, Int(challenger),
            from: EventTime(milliseconds: from), to: EventTime(milliseconds: to))
    }

    // MARK: Retraining

    @concurrent
    private func retrain(_ id: String) async {
        // One at a time: a restart and a word of somebody may both wake it.
        guard state.withLock({ $0.underWay.insert(id).inserted }) else { return }
        defer { state.withLock { _ = $0.underWay.remove(id) } }
        guard var retraining = state.withLock({ $0.retrainings.first { $0.id == id } }) else { return }
        while let step = retraining.next, step != .rollout, !Task.isCancelled {
            let start = ContinuousClock.now
            do {
                guard let result = try await carryOut(step, &retraining) else { return await save(retraining) }
                let seconds = Double((ContinuousClock.now - start) / .milliseconds(1)) / 1000
                retraining.take(step, at: clock.now(), seconds: seconds, result: result)
            } catch {
                if Task.isCancelled || error is CancellationError { return }  // the next start goes on from here
                retraining.conclude(.failed, "\(step.rawValue): \(errorText(error))")
            }
            await save(retraining)
        }
    }

    /// Takes a step; gives what came of it, or `nil` if it waits for people.
    private func carryOut(_ step: RetrainingState.Step, _ retraining: inout RetrainingState) async throws -> String? {
        let model = retraining.model
        switch step {
        case .dataset:
            let built = try await steps.buildDataset(model, retraining.from, retraining.to)
            retraining.dataset = built.hash
            return built.result
        case .train:
            let trained = try await steps.train(model, retraining.dataset ?? "", Self.actor)
            retraining.job = trained.job
            return trained.result
        case .register:
            let reason = "retrained: \(retraining.cause)"
            let version = try await steps.register(model, retraining.job ?? "", Self.actor, reason)
            retraining.version = version.number
            return "version \(version.number)"
        case .gates:
            return try await enterStaging(&retraining)
        case .rollout:
            return ""
        }
    }

    private func enterStaging(_ retraining: inout RetrainingState) async throws -> String? {
        let number = retraining.version ?? 0
        let model = retraining.model
        switch try await registry.stage(of: model, number) {
        case .development:
            let said = try await registry.approvals(of: model, number).count
            let (gates, isTaken) = try await desk.promote(
                model, number, to: .staging, actor: Self.actor, reason: "retrained: \(retraining.cause)")
            if isTaken { break }
            if let approvals = try await waits.waits(for: gates, of: model, number, .staging, said) {
                retraining.wait(for: approvals)
                return nil
            }
            let failed = gates.filter { !$0.passed }.map { "\($0.gate): \($0.detail)" }.joined(separator: "; ")
            try await archive(model, number, "gates of staging failed: \(failed)")
            retraining.conclude(.rejected, "version \(number) did not pass the gates of staging: \(failed)")
            return "refused: \(failed)"
        case .staging: break
        case .archived:
            retraining.conclude(.rejected, "somebody archived version \(number) before it entered staging")
            return "archived by somebody"
        case .canary, .production:
            retraining.conclude(.promoted, "somebody moved version \(number) on by hand")
            return "moved by somebody"
        }
        guard let deployment = definitions().deployment(of: model),
            let champion = try await registry.champion(of: model)
        else {
            retraining.conclude(
                .promoted, "version \(number) is in staging; the model has no deployment with a champion")
            return "all gates of staging passed"
        }
        if rollouts["\(deployment.name)/\(number)"].map({ !$0.phase.isOver }) != true {
            try await rollout.begin(
                number, of: deployment, champion: champion.number, reason: "all gates of staging passed")
        }
        return "all gates of staging passed; in shadow of version \(champion.number)"
    }

    private func archive(_ model: Name, _ number: Int, _ reason: String) async throws {
        try await registry.transition(model, number, to: .archived, actor: Self.actor, reason: reason, gates: [])
    }

    private func save(_ retraining: RetrainingState) async {
        let before = state.withLock { state -> RetrainingState? in
            guard let index = state.retrainings.firstIndex(where: { $0.id == retraining.id }) else { return nil }
            defer { state.retrainings[index] = retraining }
            return state.retrainings[index]
        }
        if before == retraining { return }
        var told: RecordedChange?
        if let outcome = retraining.outcome {
            told = change(
                "retraining.ended", retraining,
                ["outcome": .string(outcome.rawValue), "conclusion": .string(retraining.conclusion)])
        } else if let approvals = retraining.waitingFor, before?.waitingFor != approvals {
            told = change("retraining.waiting", retraining, ["for": .string(approvals)])
        }
        do {
            try await retrainingHistory.append(retraining.id, retraining, told)
            changed()
        } catch {
            logger.error("a retraining's state cannot be stored", metadata: ["error": "\(errorText(error))"])
        }
    }

    private func change(_ action: String, _ retraining: RetrainingState, _ details: JSONValue) -> RecordedChange {
        RecordedChange(
            actor: Self.actor, action: action, subject: "model/\(retraining.model)/retrainings/\(retraining.id)",
            after: details, time: clock.now())
    }

    // MARK: Rollouts

    /// Judges every rollout under way; one judgement at a time.
    public func tick() async throws {
        let isFree = state.withLock { state in
            defer { state.isTicking = true }
            return !state.isTicking
        }
        guard isFree else { return }
        defer { state.withLock { $0.isTicking = false } }
        guard try await leads() else { return try await look() }
        for retraining in retrainings where retraining.waitingFor != nil {
            guard let number = retraining.version, try await !waits.isWaiting(retraining.model, number),
                !state.withLock({ $0.underWay.contains(retraining.id) })
            else { continue }
            enqueue.yield(retraining.id)
        }
        try await rollout.tick()
        let over = rollouts.values.filter { $0.phase.isOver && $0.isPending != true }
        for retraining in retrainings where retraining.outcome == nil && retraining.next == .rollout {
            guard
                let ended = over.first(where: {
                    $0.model == retraining.model && $0.challenger == retraining.version
                })
            else { continue }
            await conclude(retraining, with: ended)
        }
    }

    private func conclude(_ retraining: RetrainingState, with rollout: RolloutState) async {
        var retraining = retraining
        let reason = rollout.decisions.last?.reason ?? ""
        let conclusion =
            rollout.phase == .production
            ? "version \(rollout.challenger) replaced version \(rollout.champion): \(reason)"
            : "version \(rollout.challenger) was withdrawn: \(reason)"
        let waited = Double(clock.now().since(rollout.startedAt).milliseconds) / 1000
        retraining.take(.rollout, at: clock.now(), seconds: waited, result: conclusion)
        retraining.conclude(rollout.phase == .production ? .promoted : .rejected, conclusion)
        await save(retraining)
    }
}
