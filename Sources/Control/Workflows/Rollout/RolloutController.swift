public import Definitions
import Foundation
public import Logging
public import ModelRegistry
import ModelServing
public import PlatformCore
public import StoragePorts
import Synchronization

/// Walks challengers through shadow, canary and experiment into production, or takes them out.
///
/// Every decision is stored, with what it was made from, before the traffic follows it, and names the state that it was
/// made on: of two controllers on one store one finds the other's state and changes nothing. After a restart it makes the
/// traffic follow what was stored and goes on.
public actor RolloutController {
    static let actor = "lifecycle"
    private static let kind = "rollout"

    private let desk: ModelDesk
    private let registry: ModelVersionRegistry
    private let observer: RolloutObserver
    private let log: any EventLog
    private let clock: any PlatformClock
    private let definitions: @Sendable () -> DefinitionSet
    private let history: StateHistory<RolloutState>
    private let changed: @Sendable () -> Void
    private let waits: ApprovalWaits
    private let logger: Logger

    private var states: [String: (state: RolloutState, position: Int64)] = [:]
    private let shown = Mutex<[String: RolloutState]>([:])
    private var pairs: [String: String] = [:]
    private var labelOffset: UInt64?
    private var isBusy = false
    private var queue: [CheckedContinuation<Void, Never>] = []

    /// Makes a controller; `load` takes up what was under way.
    public init(
        desk: ModelDesk, registry: ModelVersionRegistry, observer: RolloutObserver, log: any EventLog,
        metadata: any MetadataStore, clock: any PlatformClock, definitions: @escaping @Sendable () -> DefinitionSet,
        logger: Logger, journal: any ChangeJournal, changed: @escaping @Sendable () -> Void
    ) {
        self.desk = desk
        self.registry = registry
        self.observer = observer
        self.log = log
        self.clock = clock
        self.definitions = definitions
        self.logger = logger
        self.changed = changed
        waits = ApprovalWaits(registry: registry)
        history = StateHistory(store: metadata, kind: Self.kind, journal: journal)
    }

    /// Rollouts so far, by `deployment/challenger`, as the traffic follows them.
    public nonisolated var rollouts: [String: RolloutState] { shown.withLock { $0 } }

    // MARK: State

    /// Reads the stored states; `observing` also shows the observer what the log holds of those under way.
    func load(observing: Bool) async throws {
        let latest = try await history.latest()
        states = Dictionary(
            latest.map { ($0.id, (state: $0.state, position: $0.position)) }, uniquingKeysWith: { $1 })
        shown.withLock { $0 = states.mapValues(\.state) }
        guard observing else { return }
        labelOffset = nil
        let open = states.values.map(\.state).filter { !$0.phase.isOver && $0.isPending != true }
        for state in open { watch(state) }
        guard let since = open.map(\.since).min() else { return }
        var offset = try await log.firstOffset(PlatformTopic.predictions, partition: 0, atOrAfter: since)
        while true {
            let records = try await log.read(PlatformTopic.predictions, from: offset)
            guard let last = records.last else { break }
            observer.observed(records.compactMap { try? PredictionRecord(decoding: $0.record.value) })
            offset = last.offset + 1
        }
        labelOffset = try await log.firstOffset(PlatformTopic.labels, partition: 0, atOrAfter: since)
    }

    private static func id(_ rollout: RolloutState) -> String { "\(rollout.deployment)/\(rollout.challenger)" }

    /// Stores a state; shows it once the traffic follows.
    private func save(_ rollout: RolloutState, telling change: RecordedChange? = nil) async throws {
        let id = Self.id(rollout)
        let position = try await history.append(id, rollout, change, after: states[id]?.position ?? 0)
        states[id] = (rollout, position)
        if rollout.isPending != true { shown.withLock { $0[id] = rollout } }
        changed()
    }

    private func decided(_ rollout: RolloutState) -> RecordedChange? {
        guard let decision = rollout.decisions.last else { return nil }
        return RecordedChange(
            actor: decision.actor ?? Self.actor, action: "rollout.decided",
            subject: "model/\(rollout.model)/versions/\(rollout.challenger)",
            after: [
                "deployment": .string(rollout.deployment.text), "phase": .string(decision.phase),
                "share": .number(decision.share), "reason": .string(String(decision.reason.prefix(4000))),
                "checks": (try? JSONValue.of(decision.checks ?? [])) ?? .null,
            ], time: clock.now())
    }

    /// One at a time: a decision and a word of somebody do not cross.
    private func exclusively<Result: Sendable>(_ work: () async throws -> Result) async throws -> Result {
        if isBusy { await withCheckedContinuation { queue.append($0) } }
        isBusy = true
        defer {
            if queue.isEmpty { isBusy = false } else { queue.removeFirst().resume() }
        }
        return try await work()
    }

    // MARK: Beginning

    /// Begins a rollout of a version in `staging` or `canary`.
    /// - Throws: `conflict` if the model has one under way, or another controller began it.
    public func begin(
        _ challenger: Int, of deployment: DeploymentDefinition, champion: Int, actor: String? = nil, reason: String
    ) async throws {
        try await exclusively {
            try checkNoneIsUnderWay(of: deployment.model)
            let rollout = RolloutState(
                deployment: deployment.name, model: deployment.model, challenger: challenger, champion: champion,
                at: clock.now(), reason: reason, actor: actor)
            var begun = rollout
            begun.begin(after: states[Self.id(rollout)]?.position)
            pairs["\(rollout.model)/\(challenger)"] = nil
            try await save(begun, telling: decided(begun))
            try await settle(begun, deployment)
        }
    }

    /// Refuses while a rollout of the model is under way, whatever version it is of.
    /// - Throws: `conflict`.
    public func checkNoneIsUnderWay(of model: Name) throws {
        guard let other = active(model) else { return }
        throw PlatformError(
            .conflict, "model/\(model)",
            "version \(other.challenger) is being rolled out (\(other.phase.word)); wait for its end or abort it")
    }

    /// Rollouts that the same version had before, newest first.
    public func earlier(than rollout: RolloutState) async throws -> [RolloutState] {
        var found: [RolloutState] = []
        var next = rollout.predecessor
        while let position = next, found.count < 100,
            let state = try await history.state(of: Self.id(rollout), at: position)
        {
            found.append(state)
            next = state.predecessor
        }
        return found
    }

    private func active(_ model: Name) -> RolloutState? {
        states.values.map(\.state).first { $0.model == model && !$0.phase.isOver }
    }

    // MARK: Judging

    /// Keeps what labels say of a challenger in shadow beside its champion; `nil` if they do not speak against it.
    ///
    /// What was seen before the rollout began is of an earlier one, or of none. A version that is rolled out again has pairs of
    /// the time before, so a window counts that began within.
    func heard(_ sentence: String?, of model: String, _ challenger: Int, from: EventTime, to: EventTime) {
        guard let rollout = Name(model).flatMap(active), rollout.challenger == challenger, to > rollout.startedAt,
            from >= rollout.startedAt || rollout.predecessor == nil
        else { return }
        pairs["\(model)/\(challenger)"] = sentence
    }

    private func observation(_ rollout: RolloutState) -> RolloutState.Observation {
        var seen = observer.observation(model: rollout.model)
        seen.worseOnLabels = pairs["\(rollout.model)/\(rollout.challenger)"]
        return seen
    }

    /// Judges every rollout under way; does nothing while it is at work already.
    func tick() async throws {
        guard !isBusy else { return }
        try await exclusively {
            try await readLabels()
            var fault: (any Error)?
            for rollout in states.values.map(\.state).sorted(by: { $0.challenger < $1.challenger }) {
                do { try await step(rollout) } catch {
                    guard (error as? PlatformError)?.code == .conflict else {
                        fault = fault ?? error  // the others go on
                        continue
                    }
                    // Somebody else was faster: what they stored is looked at next time.
                    logger.notice("a rollout was moved by somebody else", metadata: ["error": "\(errorText(error))"])
                    try await load(observing: true)
                    return
                }
            }
            if let fault { throw fault }
        }
    }

    private func step(_ rollout: RolloutState) async throws {
        guard rollout.isPending == true || !rollout.phase.isOver,
            let policy = definitions().deployments[rollout.deployment]
        else { return }
        if rollout.isPending == true { return try await settle(rollout, policy) }
        if try await registry.stage(of: rollout.model, rollout.challenger) == .archived {
            let step = try await registry.transitions(of: rollout.model, version: rollout.challenger)
                .last { $0.to == .archived }
            return try await withdraw(
                rollout, policy,
                step.map { "\($0.actor) archived it at \($0.time): \($0.reason)" } ?? "somebody archived it")
        }
        if let known = rollout.revision, let current = try await registry.current(rollout.deployment),
            current.revision != known
        {
            return try await yield(rollout, to: current)
        }
        let judgement = rollout.judge(at: clock.now(), seen: observation(rollout), policy: policy)
        switch judgement.decision {
        case .wait: break
        case .advance(let phase, let reason):
            if try await waits.isWaiting(rollout.model, rollout.challenger) { return }
            try await advance(rollout, to: phase, policy, reason, checks: judgement.checks)
        case .halt(let reason):
            var rollout = rollout
            rollout.halt(reason, share: 0, at: clock.now(), checks: judgement.checks)
            try await save(rollout, telling: decided(rollout))
            try await settle(rollout, policy)
        case .withdraw(let reason): try await withdraw(rollout, policy, reason, checks: judgement.checks)
        }
    }

    private func readLabels() async throws {
        guard observer.isWatchingLabels else { return labelOffset = nil }
        let topic = PlatformTopic.labels
        if labelOffset == nil { labelOffset = try await log.endOffset(topic, partition: 0) }
        while let offset = labelOffset {
            let stored = try await log.read(topic, from: offset)
            guard let last = stored.last else { return }
            observer.labelled(stored.compactMap { try? LabelRecord(decoding: $0.record.value) })
            labelOffset = last.offset + 1
        }
    }

    /// Gives way to a policy that somebody else published.
    private func yield(_ rollout: RolloutState, to current: PolicyRevision) async throws {
        var rollout = rollout
        let what = "\(current.actor) published revision \(current.revision): \(current.reason)"
        if current.policy.versions.contains(rollout.challenger) {
            guard rollout.halted == nil else { return }
            rollout.halt("\(what); 'bottega rollout resume' takes the traffic up again", share: nil, at: clock.now())
        } else {
            rollout.enter(.withdrawn, share: 0, at: clock.now(), reason: "out of the traffic: \(what)")
            rollout.settle(revision: current.revision)
            observer.stop(model: rollout.model)
        }
        try await save(rollout, telling: decided(rollout))
    }

    // MARK: Moving

    private func advance(
        _ rollout: RolloutState, to phase: RolloutState.Phase, _ policy: DeploymentDefinition, _ reason: String,
        actor: String? = nil, checks: [RolloutCheck]
    ) async throws {
        var rollout = rollout
        let number = rollout.challenger
        let stage = try await registry.stage(of: rollout.model, number)
        let goal: ModelStage = phase == .production ? .production : .canary
        let path: [ModelStage] = stage == .staging && goal == .production ? [.canary, .production] : [goal]
        for next in path where next > stage {
            let said = try await registry.approvals(of: rollout.model, number).count
            let (gates, isTaken) = try await desk.promote(
                rollout.model, number, to: next, actor: actor ?? Self.actor, reason: reason,
                details: ["observed": .string(reason), "checks": try JSONValue.of(checks)])
            guard isTaken else {
                if let approvals = try await waits.waits(for: gates, of: rollout.model, number, next, said) {
                    guard rollout.waitingFor != approvals else { return }
                    rollout.wait(for: approvals)
                    return try await save(rollout, telling: waiting(rollout, approvals))
                }
                let failed = gates.filter { !$0.passed }.map { "\($0.gate): \($0.detail)" }.joined(separator: "; ")
                return try await withdraw(
                    rollout, policy, "gates of \(next.rawValue) failed: \(failed)", actor: actor, checks: checks)
            }
        }
        rollout.enter(
            phase, share: RolloutState.share(of: phase, policy), at: clock.now(), reason: reason, actor: actor,
            checks: checks)
        try await save(rollout, telling: decided(rollout))
        try await settle(rollout, policy)
    }

    private func waiting(_ rollout: RolloutState, _ approvals: String) -> RecordedChange {
        RecordedChange(
            actor: Self.actor, action: "rollout.waiting",
            subject: "model/\(rollout.model)/versions/\(rollout.challenger)",
            after: ["deployment": .string(rollout.deployment.text), "for": .string(approvals)], time: clock.now())
    }

    private func withdraw(
        _ rollout: RolloutState, _ policy: DeploymentDefinition, _ reason: String, actor: String? = nil,
        checks: [RolloutCheck]? = nil
    ) async throws {
        var rollout = rollout
        rollout.enter(.withdrawn, share: 0, at: clock.now(), reason: reason, actor: actor, checks: checks)
        try await save(rollout, telling: decided(rollout))
        try await settle(rollout, policy)
    }

    /// Makes the traffic follow what was decided; repeats nothing that is done.
    private func settle(_ decided: RolloutState, _ policy: DeploymentDefinition) async throws {
        var rollout = decided
        let wanted = Self.traffic(rollout, policy)
        let current = try await registry.current(rollout.deployment)
        var revision = current?.revision ?? 0
        let isThere =
            current.map {
                $0.actor == Self.actor && $0.policy.variants == wanted.variants && $0.policy.shadows == wanted.shadows
            } ?? false
        if !isThere { revision += 1 }
        rollout.settle(revision: revision)
        // Before the first answer under the new policy.
        if rollout.phase.isOver || (rollout.halted != nil && rollout.share == 0) {
            observer.stop(model: rollout.model)
        } else {
            watch(rollout)
        }
        if !isThere {
            _ = try await desk.publish(
                wanted, for: policy, actor: Self.actor, reason: Self.sentence(rollout), expectedRevision: revision - 1)
        }
        if rollout.phase == .withdrawn,
            try await registry.stage(of: rollout.model, rollout.challenger) != .archived
        {
            try await registry.transition(
                rollout.model, rollout.challenger, to: .archived, actor: Self.actor,
                reason: rollout.decisions.last?.reason ?? "withdrawn", gates: [])
        }
        try await save(rollout)
    }

    private static func sentence(_ rollout: RolloutState) -> String {
        let reason = rollout.decisions.last?.reason ?? ""
        return switch rollout.phase {
        case .shadow: "version \(rollout.challenger) in shadow of version \(rollout.champion): \(reason)"
        case .withdrawn: "version \(rollout.challenger) withdrawn: \(reason)"
        default: reason
        }
    }

    /// The policy that a phase asks for.
    private static func traffic(_ rollout: RolloutState, _ policy: DeploymentDefinition) -> DeploymentPolicy {
        let share = rollout.share
        let champion = TrafficShare(version: rollout.champion, share: 1)
        if rollout.phase == .withdrawn { return DeploymentPolicy(variants: [champion]) }
        if rollout.phase == .shadow || share == 0 {
            let shadowShare = policy.rollout.shadowShare
            return DeploymentPolicy(
                variants: [champion], shadows: [rollout.challenger],
                shadowShares: shadowShare < 1 ? [shadowShare] : nil)
        }
        guard share < 1 else {
            return DeploymentPolicy(
                variants: [TrafficShare(version: rollout.challenger, share: 1)],
                previous: rollout.phase == .production ? nil : rollout.champion)
        }
        return DeploymentPolicy(variants: [
            TrafficShare(version: rollout.champion, share: 1 - share),
            TrafficShare(version: rollout.challenger, share: share),
        ])
    }

    private func watch(_ rollout: RolloutState) {
        var scope = RolloutObserver.Scope()
        let set = definitions()
        if let policy = set.deployments[rollout.deployment] {
            let share = rollout.share
            scope.isPaired = rollout.phase == .shadow
            scope.metric = policy.rollout.metric
            if scope.isPaired, let measure = scope.metric?.measure, measure == .label || measure == .cost {
                scope.metric = nil  // the label of a pair is the same for both
            }
            if !scope.isPaired, share > 0, share < 1,
                let service = set.models[rollout.model].flatMap({ set.featureServices[$0.service] })
            {
                scope.sticky = StickyHash(policy, service: service)
                scope.shares = [1 - share, share]
                scope.revision = rollout.revision
            }
        }
        observer.watch(model: rollout.model, challenger: rollout.challenger, since: rollout.since, scope: scope)
    }

    // MARK: People

    /// What somebody may tell a rollout.
    public enum Command: String, Sendable, CaseIterable {
        /// Stand still at the present share; guardrails go on.
        case pause
        /// Go on; the step begins again.
        case resume
        /// Go to the next step now, if no guardrail is broken and the gates of its stage hold.
        case advance
        /// Take the challenger out.
        case abort
    }

    /// Does what somebody says to the rollout of a model that is under way.
    /// - Throws: `notFound` if none is, `refused` where it cannot be done, `conflict` if somebody else was faster.
    public func tell(
        _ model: Name, _ command: Command, of challenger: Int? = nil, actor: String, reason: String
    ) async throws -> RolloutState {
        try await exclusively {
            guard let rollout = active(model), let policy = definitions().deployments[rollout.deployment] else {
                throw PlatformError(
                    .notFound, "model/\(model)", "no rollout is under way; 'bottega rollout start' begins one")
            }
            let subject = "model/\(model)/versions/\(rollout.challenger)"
            guard challenger == nil || challenger == rollout.challenger else {
                throw PlatformError(
                    .conflict, subject, "this version is being rolled out, not \(challenger ?? 0) any more")
            }
            do { try await carryOut(command, rollout, policy, actor, reason) } catch let error as PlatformError {
                if error.code == .conflict { try await load(observing: true) }
                throw error
            }
            guard let now = states[Self.id(rollout)]?.state else {
                throw PlatformError(.internal, subject, "the rollout is gone")
            }
            if command == .advance, now == rollout || now.waitingFor != nil {
                throw PlatformError(.refused, subject, "it waits for \(now.waitingFor ?? "people")")
            }
            return now
        }
    }

    private func carryOut(
        _ command: Command, _ rollout: RolloutState, _ policy: DeploymentDefinition, _ actor: String, _ reason: String
    ) async throws {
        let subject = "model/\(rollout.model)/versions/\(rollout.challenger)"
        var rollout = rollout
        switch command {
        case .pause:
            guard rollout.halted == nil else {
                throw PlatformError(.refused, subject, "it stands still already: \(rollout.halted ?? "")")
            }
            rollout.halt(reason, share: nil, at: clock.now(), actor: actor)
            try await save(rollout, telling: decided(rollout))
        case .resume:
            guard rollout.halted != nil else { throw PlatformError(.refused, subject, "it does not stand still") }
            rollout.resume(
                share: RolloutState.share(of: rollout.phase, policy), at: clock.now(), reason: reason, actor: actor)
            try await save(rollout, telling: decided(rollout))
            try await settle(rollout, policy)
        case .advance:
            let judgement = rollout.judge(at: clock.now(), seen: observation(rollout), policy: policy)
            if let failed = judgement.checks.first(where: { $0.verdict == .failed || $0.isAboveGuardrail }) {
                let hint = "; wait for more answers, or publish shares of your own with 'bottega deploy variants'"
                throw PlatformError(
                    .refused, subject,
                    "a guardrail is broken: \(failed.detail)\(failed.verdict == .failed ? "" : hint)")
            }
            try await advance(
                rollout, to: rollout.next(policy), policy, reason, actor: actor, checks: judgement.checks)
        case .abort: try await withdraw(rollout, policy, reason, actor: actor)
        }
    }

    /// How a rollout under way would be judged now; `nil` for one that is over.
    public func judgement(of rollout: RolloutState) -> RolloutState.Judgement? {
        guard !rollout.phase.isOver, let policy = definitions().deployments[rollout.deployment] else { return nil }
        return rollout.judge(at: clock.now(), seen: observation(rollout), policy: policy)
    }
}
