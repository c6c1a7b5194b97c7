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
    /// How often gates are asked again though nobody said anything: the champion or the evidence may have changed.
    private static let askAgainAfter = Duration.seconds(600)

    /// An alert that started nothing, as a sentence.
    private struct IgnoredAlert: Sendable, Codable {
        let text: String
    }

    /// When gates that people have to agree to are asked again: after another word of somebody, else now and then.
    private struct Waiting {
        let approvalCount: Int
        let askAgain: ContinuousClock.Instant
    }

    private struct State {
        var retrainings: [RetrainingState] = []
        var rollouts: [String: RolloutState] = [:]
        var pairs: [String: String] = [:]
        var offset: UInt64 = 0
        var ignored: [String] = []
        var isTicking = false
        /// Retrainings that a task works on.
        var underWay: Set<String> = []
        /// What waits for people, by model and version.
        var waiting: [String: Waiting] = [:]
    }
    private let state = Mutex(State())
    private let desk: ModelDesk
    private let registry: ModelVersionRegistry
    private let observer: RolloutObserver
    private let log: any EventLog
    private let clock: any PlatformClock
    private let definitions: @Sendable () -> DefinitionSet
    private let steps: PipelineSteps
    private let identifiers: IdentifierSource
    private let logger: Logger
    private let retrainingHistory: StateHistory<RetrainingState>
    private let rolloutHistory: StateHistory<RolloutState>
    private let ignoredHistory: StateHistory<IgnoredAlert>
    private let changed: @Sendable () -> Void
    private let queue: AsyncStream<String>
    private let enqueue: AsyncStream<String>.Continuation

    /// Makes the service.
    public init(
        desk: ModelDesk, registry: ModelVersionRegistry, observer: RolloutObserver, log: any EventLog,
        metadata: any MetadataStore, clock: any PlatformClock, definitions: @escaping @Sendable () -> DefinitionSet,
        steps: PipelineSteps, identifiers: IdentifierSource, logger: Logger,
        journal: any ChangeJournal, changed: @escaping @Sendable () -> Void
    ) {
        self.desk = desk
        self.registry = registry
        self.observer = observer
        self.log = log
        self.clock = clock
        self.definitions = definitions
        self.steps = steps
        self.identifiers = identifiers
        self.logger = logger
        self.changed = changed
        retrainingHistory = StateHistory(store: metadata, kind: "retraining", journal: journal)
        rolloutHistory = StateHistory(store: metadata, kind: "rollout", journal: journal)
        ignoredHistory = StateHistory(store: metadata, kind: "ignored_alert")
        (queue, enqueue) = AsyncStream.makeStream(of: String.self)
    }

    // MARK: What it knows

    /// Retrainings so far, oldest first.
    public var retrainings: [RetrainingState] { state.withLock { $0.retrainings } }
    /// Rollouts so far, by identifier.
    public var rollouts: [String: RolloutState] { state.withLock { $0.rollouts } }
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
                for await id in self.queue { group.addTask { await self.retrain(id) } }
                group.cancelAll()
            }
        }
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
        let retrainings = try await retrainingHistory.latest()
        let rollouts = try await rolloutHistory.latest()
        let ignored = try await ignoredHistory.latest()
        let offset = try await log.position(Self.consumer, topic: PlatformTopic.monitoring, partition: 0)
        state.withLock {
            $0.retrainings = retrainings.map(\.state)
            $0.rollouts = Dictionary(uniqueKeysWithValues: rollouts.map { ($0.id, $0.state) })
            $0.ignored = ignored.suffix(Self.ignoredCountMax).map(\.state.text)
            $0.offset = offset
        }
        for rollout in rollouts.map(\.state) where !rollout.phase.isOver { try await watchAgain(rollout) }
        for retraining in retrainings where retraining.state.outcome == nil { enqueue.yield(retraining.id) }
    }

    /// Shows the observer what the log holds since the phase began.
    private func watchAgain(_ rollout: RolloutState) async throws {
        observer.watch(model: rollout.model, challenger: rollout.challenger, since: rollout.since)
        let topic = PlatformTopic.predictions
        var offset = try await log.firstOffset(topic, partition: 0, atOrAfter: rollout.since)
        while true {
            let records = try await log.read(topic, from: offset)
            guard let last = records.last else { return }
            observer.observed(records.compactMap { try? PredictionRecord(decoding: $0.record.value) })
            offset = last.offset + 1
        }
    }

    // MARK: Alerts

    private func readMonitoring() async throws {
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
        case "monitor.pair.compared": hearPair(event)
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
    private func hearPair(_ event: PlatformEvent) {
        let details = event.details
        guard let model = details["scope"]?["model"]?.stringValue,
            let challenger = details["shadow_version"]?.integerValue,
            let interval = details["auc_difference"], let upper = interval["upper"]?.doubleValue,
            let estimate = interval["estimate"]?.doubleValue
        else { return }
        let rows = details["labelled_pairs"]?.integerValue ?? 0
        state.withLock {
            $0.pairs["\(model)/\(challenger)"] =
                upper < 0
                ? "on \(rows) labelled answers its AUC is lower than the champion's by \(String(format: "%.4f", -estimate)), "
                    + "and the whole 95 % interval is below 0" : nil
        }
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
            if let approvals = try await waits(for: gates, of: model, number, .staging, said) {
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
        guard let deployment = definitions().deployments.values.first(where: { $0.model == model }),
            let champion = try await registry.champion(of: model)
        else {
            retraining.conclude(
                .promoted, "version \(number) is in staging; the model has no deployment with a champion")
            return "all gates of staging passed"
        }
        let rollout = RolloutState(
            deployment: deployment.name, model: model, challenger: number, champion: champion.number, at: clock.now(),
            reason: "all gates of staging passed")
        observer.watch(model: model, challenger: number, since: rollout.since)
        _ = try await desk.publish(
            DeploymentPolicy(variants: [TrafficShare(version: champion.number, share: 1)], shadows: [number]),
            for: deployment,
            actor: Self.actor, reason: "version \(number) in shadow of version \(champion.number)")
        try await save(rollout)
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

    private func save(_ rollout: RolloutState) async throws {
        let id = "\(rollout.deployment)/\(rollout.challenger)"
        let told = rollout.waitingFor.map { approvals in
            RecordedChange(
                actor: Self.actor, action: "rollout.waiting",
                subject: "model/\(rollout.model)/versions/\(rollout.challenger)",
                after: ["deployment": .string(rollout.deployment.text), "for": .string(approvals)], time: clock.now())
        }
        try await rolloutHistory.append(id, rollout, told)
        changed()
        state.withLock { $0.rollouts[id] = rollout }
    }

    /// Judges every rollout under way; one judgement at a time.
    public func tick() async throws {
        let isFree = state.withLock { state in
            defer { state.isTicking = true }
            return !state.isTicking
        }
        guard isFree else { return }
        defer { state.withLock { $0.isTicking = false } }
        for retraining in retrainings where retraining.waitingFor != nil {
            guard let number = retraining.version, try await !isWaiting(retraining.model, number),
                !state.withLock({ $0.underWay.contains(retraining.id) })
            else { continue }
            enqueue.yield(retraining.id)
        }
        for rollout in rollouts.values.sorted(by: { $0.challenger < $1.challenger }) where !rollout.phase.isOver {
            guard let policy = definitions().deployments[rollout.deployment] else { continue }
            if try await registry.stage(of: rollout.model, rollout.challenger) == .archived {
                try await withdraw(rollout, policy: policy, reason: "somebody archived it")
                continue
            }
            var seen = observer.observation(model: rollout.model)
            seen.worseOnLabels = state.withLock { $0.pairs["\(rollout.model)/\(rollout.challenger)"] }
            switch rollout.decide(at: clock.now(), seen: seen, policy: policy) {
            case .wait: break
            case .advance(let phase, let reason):
                if try await isWaiting(rollout.model, rollout.challenger) { continue }
                try await advance(rollout, to: phase, policy: policy, reason: reason)
            case .withdraw(let reason): try await withdraw(rollout, policy: policy, reason: reason)
            }
        }
    }

    private func advance(
        _ rollout: RolloutState, to phase: RolloutState.Phase, policy: DeploymentDefinition, reason: String
    )
        async throws
    {
        var rollout = rollout
        let number = rollout.challenger
        let stage = try await registry.stage(of: rollout.model, number)
        let goal: ModelStage = phase == .production ? .production : .canary
        let path: [ModelStage] = stage == .staging && goal == .production ? [.canary, .production] : [goal]
        for next in path where next > stage {
            let said = try await registry.approvals(of: rollout.model, number).count
            let (gates, isTaken) = try await desk.promote(
                rollout.model, number, to: next, actor: Self.actor, reason: reason,
                details: ["observed": .string(reason)])
            guard isTaken else {
                if let approvals = try await waits(for: gates, of: rollout.model, number, next, said) {
                    guard rollout.waitingFor != approvals else { return }
                    rollout.wait(for: approvals)
                    return try await save(rollout)
                }
                let failed = gates.filter { !$0.passed }.map { "\($0.gate): \($0.detail)" }.joined(separator: "; ")
                return try await withdraw(
                    rollout, policy: policy, reason: "gates of \(next.rawValue) failed: \(failed)")
            }
        }
        let next: DeploymentPolicy
        let share: Double
        if case .canary(let step) = phase, policy.canary[step].share < 1 {
            share = policy.canary[step].share
            next = DeploymentPolicy(variants: [
                TrafficShare(version: rollout.champion, share: 1 - share), TrafficShare(version: number, share: share),
            ])
        } else {
            share = 1
            next = DeploymentPolicy(
                variants: [TrafficShare(version: number, share: 1)],
                previous: phase == .production ? nil : rollout.champion)
        }
        _ = try await desk.publish(next, for: policy, actor: Self.actor, reason: reason)
        rollout.enter(phase, share: share, at: clock.now(), reason: reason)
        if phase.isOver {
            observer.stop(model: rollout.model)
        } else {
            observer.watch(model: rollout.model, challenger: number, since: rollout.since)
        }
        try await save(rollout)
        if phase.isOver {
            await conclude(rollout, .promoted, "version \(number) replaced version \(rollout.champion): \(reason)")
        }
    }

    // MARK: Waiting for people

    /// What people have to say before a version may go on, if nothing else keeps it: remembered, to be asked again.
    /// - Parameter said: how much people had said before the gates were asked.
    /// - Returns: `nil` if another gate refuses, or somebody objected.
    private func waits(
        for gates: [GateResult], of model: Name, _ number: Int, _ stage: ModelStage, _ said: Int
    ) async throws -> String? {
        let open = gates.filter { !$0.passed }
        let given = try await registry.approvals(of: model, number, for: stage)
        let verdicts = Dictionary(given.map { ($0.actor, $0.verdict) }, uniquingKeysWith: { $1 })
        guard open.allSatisfy(\.isApproval), !verdicts.values.contains(.object) else { return nil }
        state.withLock {
            $0.waiting["\(model)/\(number)"] = Waiting(approvalCount: said, askAgain: .now + Self.askAgainAfter)
        }
        return open.map { "\($0.gate) for \(stage.rawValue): \($0.detail)" }.joined(separator: "; ")
    }

    /// Whether nobody said anything since the gates were asked.
    private func isWaiting(_ model: Name, _ number: Int) async throws -> Bool {
        guard let waiting = state.withLock({ $0.waiting["\(model)/\(number)"] }), waiting.askAgain > .now else {
            return false
        }
        return try await registry.approvals(of: model, number).count == waiting.approvalCount
    }

    private func withdraw(_ rollout: RolloutState, policy: DeploymentDefinition, reason: String) async throws {
        var rollout = rollout
        _ = try await desk.publish(
            DeploymentPolicy(variants: [TrafficShare(version: rollout.champion, share: 1)]), for: policy,
            actor: Self.actor,
            reason: "version \(rollout.challenger) withdrawn: \(reason)")
        let stage = try await registry.stage(of: rollout.model, rollout.challenger)
        if stage != .archived { try await archive(rollout.model, rollout.challenger, reason) }
        rollout.enter(.withdrawn, share: 0, at: clock.now(), reason: reason)
        observer.stop(model: rollout.model)
        try await save(rollout)
        await conclude(rollout, .rejected, "version \(rollout.challenger) was withdrawn: \(reason)")
    }

    private func conclude(_ rollout: RolloutState, _ outcome: RetrainingState.Outcome, _ conclusion: String) async {
        let found = state.withLock { state in
            state.retrainings.first {
                $0.model == rollout.model && $0.version == rollout.challenger && $0.outcome == nil
            }
        }
        guard var retraining = found else { return }
        let waited = Double(clock.now().since(rollout.startedAt).milliseconds) / 1000
        retraining.take(.rollout, at: clock.now(), seconds: waited, result: conclusion)
        retraining.conclude(outcome, conclusion)
        await save(retraining)
    }
}
