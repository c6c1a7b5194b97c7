public import Definitions
public import PlatformCore

/// Where a challenger stands on its way into production.
///
/// Decides; does nothing.
///
/// shadow → canary steps → production, or withdrawn. Each step needs its least time on the platform's clock, its least
/// number of answers, and guardrails that hold; what breaks a guardrail is withdrawn at once.
public struct RolloutState: Sendable, Hashable, Codable {
    /// The steps.
    public enum Phase: Sendable, Hashable, Codable {
        /// Sees a copy of the traffic.
        case shadow
        /// Gets the share of this step of the ramp.
        case canary(step: Int)
        /// Answers all traffic.
        case production
        /// Taken out.
        case withdrawn

        /// The word for it.
        public var word: String {
            switch self {
            case .shadow: "shadow"
            case .canary: "canary"
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
    }

    /// What was seen in the present phase.
    public struct Observation: Sendable, Hashable {
        /// Answers of the challenger: shadow pairs, or canary answers.
        public var answers = 0
        /// Answers of the champion meanwhile.
        public var championAnswers = 0
        /// Failed answers of the challenger.
        public var failures = 0
        /// PSI between the two distributions of predictions; `nil` with too few answers.
        public var predictionPSI: Double?
        /// Mean absolute difference of paired answers; `nil` outside shadow.
        public var meanDifference: Double?
        /// p99 of the challenger's whole requests in milliseconds; `nil` in shadow.
        public var latencyP99Milliseconds: Double?
        /// Sentence about labelled answers of both when they speak against the challenger; `nil` if they do not.
        public var worseOnLabels: String?

        /// Nothing seen.
        public init() {}
    }

    /// What to do next.
    public enum Decision: Sendable, Hashable {
        /// Nothing yet, and what is waited for.
        case wait(String)
        /// Go to the next phase.
        case advance(to: Phase, reason: String)
        /// Take the challenger out.
        case withdraw(reason: String)
    }

    /// Starts in shadow.
    public init(deployment: Name, model: Name, challenger: Int, champion: Int, at now: EventTime, reason: String) {
        self.deployment = deployment
        self.model = model
        self.challenger = challenger
        self.champion = champion
        startedAt = now
        phase = .shadow
        since = now
        decisions = [Decided(time: now, phase: "shadow", share: 0, reason: reason)]
    }

    /// What the guardrails and the ramp say now.
    public func decide(at now: EventTime, seen: Observation, policy: DeploymentDefinition) -> Decision {
        guard !phase.isOver else { return .wait("the rollout is over") }
        let total = seen.answers + seen.failures
        if total >= 100, Double(seen.failures) / Double(total) > policy.errorRateMax {
            return .withdraw(reason: "\(seen.failures) of \(total) answers failed, more than \(policy.errorRateMax)")
        }
        if let latency = seen.latencyP99Milliseconds, seen.answers >= 100, latency > policy.latencyP99MillisecondsMax {
            return .withdraw(
                reason: "p99 is \(Self.text(latency)) ms, the guardrail \(policy.latencyP99MillisecondsMax) ms")
        }
        if let reason = seen.worseOnLabels { return .withdraw(reason: reason) }
        let (least, answersMin): (TimeSpan, Int) =
            switch phase {
            case .canary(let step):  // another ramp, or none, may have been applied since the challenger entered it
                (
                    policy.canary.prefix(step + 1).last?.atLeast ?? TimeSpan(milliseconds: 0),
                    policy.shadowPairsMin / 10
                )
            default: (policy.shadowAtLeast, policy.shadowPairsMin)
            }
        if seen.answers < answersMin { return .wait("\(seen.answers) of \(answersMin) answers seen") }
        if now.since(since) < least { return .wait("\(least) at this step are not over") }
        if let psi = seen.predictionPSI, psi > policy.predictionPSIMax {
            return .withdraw(
                reason:
                    "its predictions are distributed otherwise: PSI \(Self.text(psi)) against a guardrail of \(policy.predictionPSIMax)"
            )
        }
        let evidence = evidence(seen)
        switch phase {
        case .shadow where policy.canary.isEmpty: return .advance(to: .production, reason: evidence)
        case .shadow: return .advance(to: .canary(step: 0), reason: evidence)
        case .canary(let step) where step + 1 < policy.canary.count:
            return .advance(to: .canary(step: step + 1), reason: evidence)
        default: return .advance(to: .production, reason: evidence)
        }
    }

    private func evidence(_ seen: Observation) -> String {
        var parts = ["\(seen.answers) answers in \(phase.word), \(seen.failures) failed"]
        if let psi = seen.predictionPSI { parts.append("prediction PSI \(Self.text(psi))") }
        if let difference = seen.meanDifference { parts.append("mean difference \(Self.text(difference))") }
        if let latency = seen.latencyP99Milliseconds { parts.append("p99 \(Self.text(latency)) ms") }
        return parts.joined(separator: ", ")
    }

    private static func text(_ value: Double) -> String { String((value * 10_000).rounded() / 10_000) }

    /// Stays in its phase until people have agreed to the next one.
    public mutating func wait(for approvals: String) { waitingFor = approvals }

    /// Enters a phase.
    public mutating func enter(_ next: Phase, share: Double, at now: EventTime, reason: String) {
        phase = next
        since = now
        waitingFor = nil
        decisions.append(Decided(time: now, phase: next.word, share: share, reason: reason))
    }
}
