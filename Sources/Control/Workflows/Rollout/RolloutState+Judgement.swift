public import Definitions
public import PlatformCore
import Statistics

extension RolloutState {
    /// What to do next.
    public enum Decision: Sendable, Hashable {
        /// Nothing yet, and what is waited for.
        case wait(String)
        /// Go to the next phase.
        case advance(to: Phase, reason: String)
        /// Take the traffic back and wait for people: what was seen cannot be trusted.
        case halt(reason: String)
        /// Take the challenger out.
        case withdraw(reason: String)
    }

    /// A decision and everything that it was made from.
    public struct Judgement: Sendable, Hashable {
        /// What to do.
        public let decision: Decision
        /// What was looked at, in the order in which it decides.
        public let checks: [RolloutCheck]
    }

    /// What the guardrails and the ramp say now.
    public func decide(at now: EventTime, seen: Observation, policy: DeploymentDefinition) -> Decision {
        judge(at: now, seen: seen, policy: policy).decision
    }

    /// What the guardrails and the ramp say now, with what they looked at.
    public func judge(at now: EventTime, seen: Observation, policy: DeploymentDefinition) -> Judgement {
        guard !phase.isOver else { return Judgement(decision: .wait("the rollout is over"), checks: []) }
        let alarms = alarms(seen, policy)
        let conditions = conditions(at: now, seen, policy)
        let similar = similarity(seen, policy)
        let goal = goal(at: now, seen, policy)
        let checks = alarms + conditions + similar + goal
        let standing = halted.map { "\(stillness ?? "halted"): \($0)" }
        func judgement(_ decision: Decision) -> Judgement { Judgement(decision: decision, checks: checks) }
        if let failed = alarms.first(where: { $0.verdict == .failed }) {
            return judgement(
                failed.name == "sample_ratio" ? .halt(reason: failed.detail) : .withdraw(reason: failed.detail))
        }
        if let open = conditions.first(where: { $0.verdict == .waiting }) {
            return judgement(.wait(standing ?? open.detail))
        }
        if let failed = (similar + goal).first(where: { $0.verdict == .failed }) {
            return judgement(.withdraw(reason: failed.detail))
        }
        if let standing { return judgement(.wait(standing)) }
        if let open = alarms.first(where: { $0.verdict == .waiting }) { return judgement(.wait(open.detail)) }
        if let open = goal.first(where: { $0.verdict == .waiting }) { return judgement(.wait(open.detail)) }
        return judgement(.advance(to: next(policy), reason: evidence(seen, policy)))
    }

    /// The phase after this one.
    public func next(_ policy: DeploymentDefinition) -> Phase {
        let last: Phase = policy.rollout.experiment == nil ? .production : .experiment
        return switch phase {
        case .shadow: policy.canary.isEmpty ? last : .canary(step: 0)
        case .canary(let step): step + 1 < policy.canary.count ? .canary(step: step + 1) : last
        default: .production
        }
    }

    /// The challenger's share of traffic in a phase.
    public static func share(of phase: Phase, _ policy: DeploymentDefinition) -> Double {
        switch phase {
        case .shadow, .withdrawn: 0
        // Another ramp, or none, may have been applied since the challenger entered it.
        case .canary(let step): policy.canary.prefix(step + 1).last?.share ?? 1
        case .experiment: policy.rollout.experiment?.share ?? policy.canary.last?.share ?? 1
        case .production: 1
        }
    }

    // MARK: What decides

    /// What ends a step at once.
    private func alarms(_ seen: Observation, _ policy: DeploymentDefinition) -> [RolloutCheck] {
        var checks = [errorRate(seen, policy)]
        if let latency = seen.latencyP99Milliseconds {
            let bound = policy.latencyP99MillisecondsMax
            let isSlow = latency > bound
            let isKnown = seen.answers >= Self.answersOfAShare
            checks.append(
                RolloutCheck(
                    "latency_p99", !isSlow ? .passed : isKnown ? .failed : .waiting, value: latency, bound: bound,
                    "p99 is \(Self.text(latency)) ms, the guardrail \(bound) ms"
                        + (isSlow && !isKnown
                            ? "; \(seen.answers) answers are too few to say so, \(Self.answersOfAShare) are enough"
                            : "")))
        }
        if let reason = seen.worseOnLabels { checks.append(RolloutCheck("paired_labels", .failed, reason)) }
        if let units = seen.units {
            let (value, alpha) = (units.sequentialPValue(), policy.rollout.sampleRatioAlpha)
            let planned = units.shares.map { "\(Self.text($0 * 100)) %" }.joined(separator: " to ")
            let counts = units.counts.map(String.init).joined(separator: " to ")
            let chance =
                "always-valid p \(Self.small(value)), χ² \(Self.text(units.chiSquare)) with p "
                + Self.small(units.chiSquarePValue)
            checks.append(
                RolloutCheck(
                    "sample_ratio", value < alpha ? .failed : .passed, value: value, bound: alpha,
                    value < alpha
                        ? "sample ratio mismatch: \(counts) units where \(planned) were planned (\(chance)); requests are "
                            + "lost or routed otherwise, so nothing seen at this step can be trusted"
                        : "\(counts) units, planned \(planned) (\(chance))"))
        }
        if let metric = policy.rollout.metric, let comparison = seen.comparison {
            let labels = "\(comparison.first.count) and \(comparison.second.count) labelled answers"
            if let better = seen.improvement(metric) {
                checks.append(
                    RolloutCheck(
                        "online_metric", better.upper < 0 ? .failed : .passed, value: better.estimate, bound: 0,
                        "\(metric.measure.rawValue) on \(labels) is \(Self.comparison(better.estimate)), "
                            + "improvement within "
                            + "[\(Self.text(better.lower)), \(Self.text(better.upper))] at any time"))
            } else {
                checks.append(
                    RolloutCheck(
                        "online_metric", .unknown, "\(labels), fewer than \(metric.labelsMin) each say nothing yet"))
            }
        }
        return checks
    }

    /// Answers from which on the share seen among them is taken as it is.
    private static let answersOfAShare = 100
    /// Failures below which that many answers have to be waited for: one or two may be anything.
    private static let failuresMin = 3
    /// Chance of a false alarm among fewer answers, for one look at them.
    private static let errorRateAlpha = 0.001

    /// Failed answers: out where their rate is above the guardrail, and none above it ever passes.
    private func errorRate(_ seen: Observation, _ policy: DeploymentDefinition) -> RolloutCheck {
        let bound = policy.errorRateMax
        let total = seen.answers + seen.failures
        let share = total == 0 ? nil : Double(seen.failures) / Double(total)
        func check(_ verdict: RolloutCheck.Verdict, _ more: String) -> RolloutCheck {
            RolloutCheck(
                "error_rate", verdict, value: share, bound: bound, "\(seen.failures) of \(total) answers failed\(more)")
        }
        guard let share, share > bound else {
            let isEnough = seen.answers >= leastOfStep(policy).answers
            return check(isEnough || total >= Self.answersOfAShare ? .passed : .waiting, isEnough ? "" : " so far")
        }
        if total >= Self.answersOfAShare { return check(.failed, ", more than \(bound)") }
        let chance = BinomialTail.atLeast(seen.failures, of: total, share: bound)
        if seen.failures >= Self.failuresMin, chance < Self.errorRateAlpha {
            return check(.failed, ", more than \(bound) (p \(Self.small(chance)))")
        }
        return check(.waiting, ", more than \(bound); \(Self.answersOfAShare) answers or more failures settle it")
    }

    /// Least time and number of answers of the present step.
    private func leastOfStep(_ policy: DeploymentDefinition) -> (time: TimeSpan, answers: Int) {
        switch phase {
        case .canary(let step):
            (policy.canary.prefix(step + 1).last?.atLeast ?? TimeSpan(milliseconds: 0), policy.shadowPairsMin / 10)
        case .experiment:
            (policy.rollout.experiment?.atLeast ?? TimeSpan(milliseconds: 0), policy.shadowPairsMin / 10)
        default: (policy.shadowAtLeast, policy.shadowPairsMin)
        }
    }

    /// What a step needs before anything else is asked.
    private func conditions(at now: EventTime, _ seen: Observation, _ policy: DeploymentDefinition) -> [RolloutCheck] {
        let (least, answersMin) = leastOfStep(policy)
        let (hasAnswers, hasTime) = (seen.answers >= answersMin, now.since(since) >= least)
        return [
            RolloutCheck(
                "answers", hasAnswers ? .passed : .waiting, value: Double(seen.answers), bound: Double(answersMin),
                "\(seen.answers) of \(answersMin) answers seen"),
            RolloutCheck(
                "time", hasTime ? .passed : .waiting, value: Double(now.since(since).milliseconds) / 1000,
                bound: Double(least.milliseconds) / 1000,
                hasTime ? "\(least) at this step are over" : "\(least) at this step are not over"),
        ]
    }

    /// What is asked of the answers themselves once there are enough.
    private func similarity(_ seen: Observation, _ policy: DeploymentDefinition) -> [RolloutCheck] {
        var checks: [RolloutCheck] = []
        func add(_ name: String, _ value: Double?, bound: Double, _ nothing: String, _ detail: (Double) -> String) {
            let verdict: RolloutCheck.Verdict = value.map { $0 > bound ? .failed : .passed } ?? .unknown
            checks.append(RolloutCheck(name, verdict, value: value, bound: bound, value.map(detail) ?? nothing))
        }
        let bound = policy.predictionPSIMax
        add("prediction_psi", seen.predictionPSI, bound: bound, "too few answers of both to compare") { psi in
            psi > bound
                ? "its predictions are distributed otherwise: PSI \(Self.text(psi)) against a guardrail of \(bound)"
                : "prediction PSI \(Self.text(psi))"
        }
        // Pairs are of shadows: where both see other requests, there are none.
        guard phase == .shadow else { return checks }
        if let bound = policy.rollout.disagreementMax {
            add("disagreement", seen.disagreement, bound: bound, "no answers of both to the same request yet") {
                "\(Self.text($0 * 100)) % of paired answers decide otherwise"
            }
        }
        if let bound = policy.rollout.meanDifferenceMax {
            add("mean_difference", seen.meanDifference, bound: bound, "no answers of both to the same request yet") {
                "paired answers differ by \(Self.text($0)) on average"
            }
        }
        return checks
    }

    /// What an experiment has to show.
    private func goal(at now: EventTime, _ seen: Observation, _ policy: DeploymentDefinition) -> [RolloutCheck] {
        guard phase == .experiment, let experiment = policy.rollout.experiment, let metric = policy.rollout.metric
        else { return [] }
        let bound = experiment.goal == .better ? experiment.margin : -experiment.margin
        let what = experiment.goal == .better ? "better" : "not worse"
        let found = seen.improvement(metric)
        let name = metric.measure.rawValue
        if let found, found.lower > bound {
            return [
                RolloutCheck(
                    "experiment", .passed, value: found.lower, bound: bound,
                    "\(name) is shown to be \(what): improvement above \(Self.text(found.lower)) at any time")
            ]
        }
        let seenText =
            found.map { "improvement within [\(Self.text($0.lower)), \(Self.text($0.upper))]" } ?? "too few labels"
        let isLate = now.since(since) >= experiment.atMost
        return [
            RolloutCheck(
                "experiment", isLate ? .failed : .waiting, value: found?.lower, bound: bound,
                isLate
                    ? "within \(experiment.atMost) \(name) was not shown to be \(what): \(seenText)"
                    : "\(name) is not shown to be \(what) yet: \(seenText)")
        ]
    }

    private func evidence(_ seen: Observation, _ policy: DeploymentDefinition) -> String {
        var parts = ["\(seen.answers) answers in \(phase.word), \(seen.failures) failed"]
        if let psi = seen.predictionPSI { parts.append("prediction PSI \(Self.text(psi))") }
        if let difference = seen.meanDifference { parts.append("mean difference \(Self.text(difference))") }
        if let latency = seen.latencyP99Milliseconds { parts.append("p99 \(Self.text(latency)) ms") }
        if let metric = policy.rollout.metric, let better = seen.improvement(metric) {
            parts.append(
                "\(metric.measure.rawValue) is \(Self.comparison(better.estimate)), improvement within "
                    + "[\(Self.text(better.lower)), \(Self.text(better.upper))]")
        }
        return parts.joined(separator: ", ")
    }

    static func text(_ value: Double) -> String { String((value * 10_000).rounded() / 10_000) }

    /// An improvement in words, by its sign as it is printed.
    private static func comparison(_ improvement: Double) -> String {
        let size = text(abs(improvement))
        if size == text(0) { return "no different" }
        return "\(improvement < 0 ? "worse" : "better") by \(size)"
    }

    /// A chance, also a very small one.
    private static func small(_ value: Double) -> String { value < 0.0001 ? "below 0.0001" : text(value) }
}
