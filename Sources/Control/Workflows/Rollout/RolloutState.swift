public import PlatformCore

/// Where a challenger stands on its way into production.
///
/// Decides; does nothing.
///
/// shadow → canary steps → experiment → production, or withdrawn. Each step needs its least time on the platform's clock, its
/// least number of answers, and guardrails that hold; what breaks a guardrail is withdrawn at once, and where the shares of
/// units are not the planned ones the traffic goes back to the champion until people have looked.
public struct RolloutState: Sendable, Hashable, Codable {
    /// The steps.
    public enum Phase: Sendable, Hashable, Codable {
        /// Sees a copy of the traffic.
        case shadow
        /// Gets the share of this step of the ramp.
        case canary(step: Int)
        /// Gets its share beside the champion until labels have decided.
        case experiment
        /// Answers all traffic.
        case production
        /// Taken out.
        case withdrawn

        /// The word for it.
        public var word: String {
            switch self {
            case .shadow: "shadow"
            case .canary: "canary"
            case .experiment: "experiment"
            case .production: "production"
            case .withdrawn: "withdrawn"
            }
        }
        /// Whether nothing more will happen.
        public var isOver: Bool { self == .production || self == .withdrawn }
    }

    /// The deployment.
    public let deployment: Name
    /// The model.
    public let model: Name
    /// The version that wants in.
    public let challenger: Int
    /// The version that it would replace.
    public let champion: Int
    /// When the rollout began.
    public let startedAt: EventTime
    /// Where it stands.
    public private(set) var phase: Phase
    /// Since when.
    public private(set) var since: EventTime
    /// What was decided, oldest first.
    public private(set) var decisions: [Decided]
    /// What people have to say before the next phase, in one sentence; `nil` while it waits for nobody.
    public private(set) var waitingFor: String?
    /// Why it stands still until somebody resumes it; `nil` while it does not.
    public private(set) var halted: String?
    /// Revision of the policy that the phase published; `nil` in states of before this was kept.
    public private(set) var revision: Int?
    /// Whether the traffic does not yet follow what was decided: decisions are stored before they are carried out.
    public private(set) var isPending: Bool?
    /// Where the last state of the rollout is that this version had before; `nil` if it had none.
    public private(set) var predecessor: Int64?

    /// One decision as it is remembered.
    public struct Decided: Sendable, Hashable, Codable {
        /// When.
        public let time: EventTime
        /// The phase it led to.
        public let phase: String
        /// Share of live traffic from then on.
        public let share: Double
        /// Why.
        public let reason: String
        /// Who decided; `nil` for the controller.
        public let actor: String?
        /// What it was decided from; `nil` where nothing was looked at.
        public let checks: [RolloutCheck]?

        init(
            time: EventTime, phase: String, share: Double, reason: String, actor: String? = nil,
            checks: [RolloutCheck]? = nil
        ) {
            self.time = time
            self.phase = phase
            self.share = share
            self.reason = reason
            self.actor = actor
            self.checks = checks
        }
    }

    /// Starts in shadow.
    public init(
        deployment: Name, model: Name, challenger: Int, champion: Int, at now: EventTime, reason: String,
        actor: String? = nil
    ) {
        self.deployment = deployment
        self.model = model
        self.challenger = challenger
        self.champion = champion
        startedAt = now
        phase = .shadow
        since = now
        decisions = [Decided(time: now, phase: "shadow", share: 0, reason: reason, actor: actor)]
    }

    /// Stays in its phase until people have agreed to the next one.
    public mutating func wait(for approvals: String) { waitingFor = approvals }

    /// Enters a phase.
    public mutating func enter(
        _ next: Phase, share: Double, at now: EventTime, reason: String, actor: String? = nil,
        checks: [RolloutCheck]? = nil
    ) {
        phase = next
        since = now
        waitingFor = nil
        halted = nil
        isPending = true
        decisions.append(
            Decided(time: now, phase: next.word, share: share, reason: reason, actor: actor, checks: checks))
    }

    /// Stands still in its phase.
    /// - Parameter share: the challenger's share of traffic meanwhile; `nil` if that stays as it is.
    mutating func halt(
        _ reason: String, share: Double?, at now: EventTime, actor: String? = nil, checks: [RolloutCheck]? = nil
    ) {
        halted = reason
        if share != nil { isPending = true }
        decisions.append(
            Decided(
                time: now, phase: actor == nil ? "halted" : "paused", share: share ?? decisions.last?.share ?? 0,
                reason: reason, actor: actor, checks: checks))
    }

    /// Goes on in its phase, whose counts and time begin again.
    mutating func resume(share: Double, at now: EventTime, reason: String, actor: String) {
        halted = nil
        since = now
        isPending = true
        decisions.append(Decided(time: now, phase: phase.word, share: share, reason: reason, actor: actor))
    }

    /// The traffic does not follow the first decision yet.
    /// - Parameter predecessor: position of the last state of the rollout that the version had before.
    mutating func begin(after predecessor: Int64?) {
        isPending = true
        self.predecessor = predecessor
    }

    /// `paused` or `halted` while it stands still: the word of somebody, or the controller's.
    public var stillness: String? {
        guard halted != nil, !phase.isOver else { return nil }
        return decisions.last?.phase == "paused" ? "paused" : "halted"
    }

    /// The traffic follows what was decided.
    mutating func settle(revision: Int?) {
        if let revision { self.revision = revision }
        isPending = nil
    }

    /// The challenger's share of traffic now.
    public var share: Double { decisions.last?.share ?? 0 }
}
