import Definitions
import PlatformCore
import Testing

@testable import Workflows

/// A challenger goes forward when time, traffic and guardrails allow, and out when a guardrail breaks.
struct RolloutStateTests {
    private let start = WorkflowFixture.start

    private func rollout() -> RolloutState {
        RolloutState(
            deployment: WorkflowFixture.model, model: WorkflowFixture.model, challenger: 2, champion: 1, at: start,
            reason: "gates passed")
    }

    private func canary(_ step: Int) -> RolloutState {
        var rollout = rollout()
        rollout.enter(.canary(step: step), share: 0.1, at: start, reason: "good in shadow")
        return rollout
    }

    private func seen(_ answers: Int, _ change: (inout RolloutState.Observation) -> Void = { _ in })
        -> RolloutState.Observation
    {
        var seen = RolloutState.Observation()
        seen.answers = answers
        seen.championAnswers = answers
        change(&seen)
        return seen
    }

    private func decide(
        _ rollout: RolloutState, after span: TimeSpan, _ seen: RolloutState.Observation,
        _ policy: DeploymentDefinition? = nil
    ) throws -> RolloutState.Decision {
        rollout.decide(at: start.advanced(by: span), seen: seen, policy: try policy ?? WorkflowFixture.policy())
    }

    private func withdrawal(_ decision: RolloutState.Decision) -> String? {
        if case .withdraw(let reason) = decision { reason } else { nil }
    }

    @Test func aShadowWaitsForAnswersThenForTime() throws {
        #expect(try decide(rollout(), after: .days(9), seen(999)) == .wait("999 of 1000 answers seen"))
        #expect(try decide(rollout(), after: .hours(47), seen(5000)) == .wait("2d at this step are not over"))
        #expect(
            try decide(rollout(), after: .days(2), seen(1000))
                == .advance(to: .canary(step: 0), reason: "1000 answers in shadow, 0 failed"))
    }

    @Test func aCanaryNeedsATenthOfTheAnswersAndItsOwnTime() throws {
        #expect(try decide(canary(0), after: .days(1), seen(99)) == .wait("99 of 100 answers seen"))
        #expect(try decide(canary(0), after: .hours(23), seen(100)) == .wait("1d at this step are not over"))
        #expect(
            try decide(canary(0), after: .days(1), seen(100))
                == .advance(to: .canary(step: 1), reason: "100 answers in canary, 0 failed"))
        #expect(try decide(canary(1), after: .days(1), seen(100)) == .wait("2d at this step are not over"))
        #expect(
            try decide(canary(1), after: .days(2), seen(100))
                == .advance(to: .production, reason: "100 answers in canary, 0 failed"))
    }

    @Test func failedAnswersWithdrawAtOnce() throws {
        for state in [rollout(), canary(0)] {
            let reason = withdrawal(try decide(state, after: .seconds(1), seen(97) { $0.failures = 3 }))
            #expect(reason == "3 of 100 answers failed, more than 0.01")
            // One in a hundred is the bound, not past it; nine of ninety-nine are no accident.
            #expect(withdrawal(try decide(state, after: .seconds(1), seen(99) { $0.failures = 1 })) == nil)
            #expect(withdrawal(try decide(state, after: .seconds(1), seen(90) { $0.failures = 9 })) != nil)
            #expect(withdrawal(try decide(state, after: .seconds(1), seen(0) { $0.failures = 100 })) != nil)
        }
    }

    @Test func noStepGoesUpWhileTheRateSeenIsAboveTheGuardrail() throws {
        func verdict(_ state: RolloutState, _ seen: RolloutState.Observation) throws -> RolloutCheck.Verdict? {
            try state.judge(at: start.advanced(by: .days(9)), seen: seen, policy: WorkflowFixture.policy()).checks
                .first { $0.name == "error_rate" }?.verdict
        }
        for failures in [1, 2] {  // early errors end nothing
            for answers in [0, 5, 90] {
                let few = seen(answers) { $0.failures = failures }
                #expect(withdrawal(try decide(canary(0), after: .days(9), few)) == nil)
                #expect(try verdict(canary(0), few) == .waiting)
            }
        }
        #expect(try verdict(canary(0), seen(5)) == .waiting && verdict(canary(0), seen(100)) == .passed)
        // A step that needs few answers: what is open about the rate is waited for, what is sure ends the rollout.
        let small = try WorkflowFixture.policy(pairsMin: 50)
        let open = try decide(rollout(), after: .days(9), seen(50) { $0.failures = 1 }, small)
        #expect(
            open == .wait("1 of 51 answers failed, more than 0.01; 100 answers or more failures settle it"))
        let shown = withdrawal(try decide(rollout(), after: .days(9), seen(50) { $0.failures = 23 }, small))
        #expect(shown == "23 of 73 answers failed, more than 0.01 (p below 0.0001)")
        let inCanary = withdrawal(try decide(canary(0), after: .days(9), seen(30) { $0.failures = 14 }, small))
        #expect(inCanary?.hasPrefix("14 of 44 answers failed") == true)
        let slow = seen(30) { $0.latencyP99Milliseconds = 1000 }
        guard case .wait(let reason) = try decide(canary(0), after: .days(9), slow, small) else {
            Issue.record("a slow version goes on")
            return
        }
        #expect(reason.contains("30 answers are too few"))
        #expect(
            canary(0).judge(at: start.advanced(by: .days(9)), seen: slow, policy: small).checks
                .contains { $0.isAboveGuardrail })
    }

    @Test func slowAnswersWithdraw() throws {
        let slow = seen(100) { $0.latencyP99Milliseconds = 100.25 }
        #expect(
            withdrawal(try decide(canary(0), after: .seconds(1), slow)) == "p99 is 100.25 ms, the guardrail 100.0 ms")
        let few = seen(99) { $0.latencyP99Milliseconds = 1000 }
        #expect(withdrawal(try decide(canary(0), after: .seconds(1), few)) == nil)
        let fast = seen(100) { $0.latencyP99Milliseconds = 100 }
        #expect(withdrawal(try decide(canary(0), after: .seconds(1), fast)) == nil)
    }

    @Test func worseLabelsWithdraw() throws {
        let worse = seen(10) { $0.worseOnLabels = "its AUC is lower" }
        #expect(try decide(rollout(), after: .seconds(1), worse) == .withdraw(reason: "its AUC is lower"))
    }

    @Test func otherPredictionsWithdrawOnceTheStepIsOver() throws {
        let other = seen(1000) { $0.predictionPSI = 0.26 }
        #expect(withdrawal(try decide(rollout(), after: .hours(1), other)) == nil)
        let reason = try #require(withdrawal(try decide(rollout(), after: .days(2), other)))
        #expect(reason.contains("PSI 0.26") && reason.contains("0.25"))
        let same = seen(1000) { $0.predictionPSI = 0.25 }
        #expect(withdrawal(try decide(rollout(), after: .days(2), same)) == nil)
    }

    @Test func theReasonHoldsTheEvidence() throws {
        let rich = seen(1000) {
            $0.failures = 2
            $0.predictionPSI = 0.01234
            $0.meanDifference = 0.5
            $0.latencyP99Milliseconds = 3
        }
        #expect(
            try decide(canary(1), after: .days(2), rich)
                == .advance(
                    to: .production,
                    reason: "1000 answers in canary, 2 failed, prediction PSI 0.0123, mean difference 0.5, p99 3.0 ms"))
    }

    @Test func withoutCanaryStepsAShadowGoesToProduction() throws {
        let policy = try WorkflowFixture.policy(canary: "[]")
        #expect(
            try decide(rollout(), after: .days(2), seen(1000), policy)
                == .advance(to: .production, reason: "1000 answers in shadow, 0 failed"))
    }

    /// Somebody may apply another ramp while a challenger is on it.
    @Test func aRampThatShrinksUnderACanaryStillEnds() throws {
        let shorter = try WorkflowFixture.policy(canary: "[{share: 20%, at_least: 1h}]")
        #expect(
            try decide(canary(1), after: .hours(1), seen(100), shorter)
                == .advance(to: .production, reason: "100 answers in canary, 0 failed"))
        let none = try WorkflowFixture.policy(canary: "[]")
        #expect(
            try decide(canary(1), after: .seconds(0), seen(100), none)
                == .advance(to: .production, reason: "100 answers in canary, 0 failed"))
    }

    @Test func whatIsOverStaysOver() throws {
        for phase in [RolloutState.Phase.production, .withdrawn] {
            var rollout = rollout()
            rollout.enter(phase, share: 1, at: start, reason: "done")
            #expect(rollout.phase.isOver)
            #expect(
                try decide(rollout, after: .days(99), seen(9999) { $0.failures = 9999 }) == .wait("the rollout is over")
            )
        }
        #expect(!RolloutState.Phase.shadow.isOver && !RolloutState.Phase.canary(step: 0).isOver)
    }

    @Test func everyStepIsRemembered() throws {
        var rollout = rollout()
        let later = start.advanced(by: .days(2))
        rollout.enter(.canary(step: 0), share: 0.1, at: later, reason: "good")
        rollout.enter(.withdrawn, share: 0, at: later.advanced(by: .days(1)), reason: "bad")
        #expect(rollout.decisions.map(\.phase) == ["shadow", "canary", "withdrawn"])
        #expect(rollout.decisions.map(\.reason) == ["gates passed", "good", "bad"])
        #expect(rollout.decisions.map(\.share) == [0, 0.1, 0])
        #expect(rollout.since == later.advanced(by: .days(1)) && rollout.startedAt == start)
        #expect(try JSONValue.parse(JSONValue.of(rollout).text).decoded(as: RolloutState.self) == rollout)
    }

    @Test func timeAtAStepCountsFromItsBeginning() throws {
        var rollout = rollout()
        rollout.enter(.canary(step: 0), share: 0.1, at: start.advanced(by: .days(5)), reason: "good")
        #expect(try decide(rollout, after: .hours(5 * 24 + 23), seen(100)) == .wait("1d at this step are not over"))
    }
}
