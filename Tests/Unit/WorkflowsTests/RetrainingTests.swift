import Definitions
import PlatformCore
import Testing
import Workflows

/// Which alerts start a retraining, and how one goes through its steps.
struct RetrainingTests {
    private let start = WorkflowFixture.start

    private func alert(_ rule: String = "drift", version: Int = 1, after span: TimeSpan = .days(0))
        -> RetrainingTrigger.Alert
    {
        RetrainingTrigger.Alert(
            monitor: WorkflowFixture.model, rule: rule, message: "PSI 0.4", time: start.advanced(by: span),
            version: version)
    }

    private func retraining(model: Name = WorkflowFixture.model, isOver: Bool = true) -> RetrainingState {
        var state = RetrainingState(
            id: "r1", monitor: "delay", model: model, cause: "PSI 0.4", startedAt: start,
            from: start.advanced(by: .days(-90)), to: start)
        if isOver { state.conclude(.rejected, "gates") }
        return state
    }

    private func verdict(
        _ alert: RetrainingTrigger.Alert, earlier: [RetrainingState] = [], champion: Int? = 1,
        retrain: String = "retrain: {on: [drift, quality], cooldown: 7d, train_on: 90d}"
    ) throws -> RetrainingTrigger.Verdict {
        RetrainingTrigger.judge(
            alert, monitor: try WorkflowFixture.monitor(retrain: retrain), earlier: earlier, champion: champion)
    }

    @Test func anAlertStartsTrainingOnTheSpanBeforeIt() throws {
        let expected = RetrainingTrigger.Verdict.start(
            from: start.advanced(by: .days(-90)), to: start, cause: "PSI 0.4")
        #expect(try verdict(alert()) == expected)
        #expect(try verdict(alert("quality")) == expected)
        #expect(try verdict(alert(), champion: nil) == expected)
    }

    @Test func otherAlertsStartNothingAndSayWhy() throws {
        #expect(try verdict(alert(), retrain: "") == .ignore("the monitor has no retrain rule"))
        #expect(try verdict(alert("nulls")) == .ignore("the retrain rule does not name 'nulls'"))
        #expect(try verdict(alert(version: 1), champion: 2) == .ignore("version 1 is not in production any more"))
        #expect(
            try verdict(alert(after: .days(30)), earlier: [retraining(isOver: false)])
                == .ignore("a retraining since 2013-07-01 is under way"))
        #expect(
            try verdict(alert(after: .days(6)), earlier: [retraining()])
                == .ignore("the last retraining began on 2013-07-01, within the cooldown of 7d"))
    }

    @Test func theCooldownEndsAndOtherModelsDoNotCount() throws {
        func starts(_ verdict: RetrainingTrigger.Verdict) -> Bool { if case .start = verdict { true } else { false } }
        #expect(starts(try verdict(alert(after: .days(7)), earlier: [retraining()])))
        let other = Name(static: "other")
        #expect(
            starts(try verdict(alert(), earlier: [retraining(model: other), retraining(model: other, isOver: false)])))
    }

    @Test func stepsComeInTheirOrder() {
        var state = retraining(isOver: false)
        var steps: [RetrainingState.Step] = []
        while let step = state.next {
            #expect(state.isComputing == (step != .rollout))
            steps.append(step)
            state.take(step, at: start, seconds: 1, result: "\(step)")
        }
        #expect(steps == [.dataset, .train, .register, .gates, .rollout])
        #expect(state.taken.map(\.result) == ["dataset", "train", "register", "gates", "rollout"])
        #expect(!state.isComputing)
    }

    @Test(arguments: 0..<5) func whatWasStoredGoesOnWhereItStood(count: Int) throws {
        var state = retraining(isOver: false)
        state.dataset = "abc"
        for step in RetrainingState.Step.allCases.prefix(count) {
            state.take(step, at: start, seconds: 0.5, result: "ok")
        }
        let read = try JSONValue.parse(JSONValue.of(state).text).decoded(as: RetrainingState.self)
        #expect(read == state)
        #expect(read.next == RetrainingState.Step.allCases[count])
    }

    @Test func anEndIsAnEnd() {
        for outcome in [RetrainingState.Outcome.promoted, .rejected, .failed] {
            var state = retraining(isOver: false)
            state.take(.dataset, at: start, seconds: 1, result: "")
            state.conclude(outcome, "because")
            #expect(state.next == nil && !state.isComputing)
            #expect(state.outcome == outcome && state.conclusion == "because")
        }
    }
}
