import Definitions
import Foundation
import ModelServing
import PlatformCore
import Statistics
import Testing

@testable import Workflows

/// What is observed decides each step, and every decision says from what it was made.
struct RolloutJudgementTests {
    private let start = WorkflowFixture.start

    private func policy(_ rollout: String = "", guardrails: String = "prediction_psi_max: 0.25") throws
        -> DeploymentDefinition
    {
        let text = WorkflowFixture.files()[0].text
            .replacing(
                "  canary: [{share: 10%, at_least: 1d}, {share: 50%, at_least: 2d}]",
                with: "  canary: [{share: 10%, at_least: 1d}]\n\(rollout)"
            )
            .replacing("guardrails: {prediction_psi_max: 0.25,", with: "guardrails: {\(guardrails),")
        return try #require(
            try DefinitionCompiler.compile([DefinitionFile(path: "delay.yaml", folder: "/", text: text)])
                .deployments[WorkflowFixture.model])
    }

    private static let experiment = """
          metric: {measure: log_loss, labels_min: 50, effect: 0.3}
          experiment: {share: 50%, at_least: 3d, at_most: 14d}
        """

    private func rollout(_ phase: RolloutState.Phase) -> RolloutState {
        var state = RolloutState(
            deployment: WorkflowFixture.model, model: WorkflowFixture.model, challenger: 2, champion: 1, at: start,
            reason: "gates passed")
        if phase != .shadow { state.enter(phase, share: 0.5, at: start, reason: "good so far") }
        return state
    }

    private func seen(_ answers: Int, _ change: (inout RolloutState.Observation) -> Void = { _ in })
        -> RolloutState.Observation
    {
        var seen = RolloutState.Observation()
        (seen.answers, seen.championAnswers) = (answers, answers)
        change(&seen)
        return seen
    }

    /// Labelled values whose means differ: first − second.
    private func comparison(_ count: Int, _ first: Double, _ second: Double) -> SequentialComparison {
        var comparison = SequentialComparison(effect: 0.3, valuesMin: 50)
        for index in 0..<count {
            let wave = Double(index % 11) / 50
            comparison.add(first + wave, to: .first)
            comparison.add(second + wave, to: .second)
        }
        return comparison
    }

    @Test func unitsThatDoNotComeAsPlannedHaltTheRollout() throws {
        let bad = try SampleRatio(counts: [90_000, 8_000], shares: [0.9, 0.1])
        let judged = rollout(.canary(step: 0)).judge(
            at: start.advanced(by: .seconds(9)), seen: seen(8000) { $0.units = bad }, policy: try policy())
        guard case .halt(let reason) = judged.decision else { return #expect(Bool(false), "\(judged.decision)") }
        #expect(reason.contains("sample ratio mismatch: 90000 to 8000 units where 90.0 % to 10.0 % were planned"))
        #expect(judged.checks.first { $0.name == "sample_ratio" }?.verdict == .failed)
        let good = try SampleRatio(counts: [90_000, 10_050], shares: [0.9, 0.1])
        let fine = rollout(.canary(step: 0)).judge(
            at: start.advanced(by: .days(1)), seen: seen(8000) { $0.units = good }, policy: try policy())
        guard case .advance = fine.decision else { return #expect(Bool(false), "\(fine.decision)") }
    }

    @Test func aHaltedRolloutWaitsForPeopleButItsGuardrailsGoOn() throws {
        var state = rollout(.canary(step: 0))
        state.halt("looking at it", share: nil, at: start)
        #expect(
            state.decide(at: start.advanced(by: .days(9)), seen: seen(8000), policy: try policy())
                == .wait("halted: looking at it"))
        let failing = state.decide(
            at: start.advanced(by: .days(9)), seen: seen(80) { $0.failures = 80 }, policy: try policy())
        guard case .withdraw = failing else { return #expect(Bool(false), "\(failing)") }
        state.resume(share: 0.1, at: start.advanced(by: .days(9)), reason: "a broken sensor", actor: "ann")
        #expect(state.halted == nil && state.since == start.advanced(by: .days(9)))
        #expect(state.decisions.map(\.phase) == ["shadow", "canary", "halted", "canary"])
    }

    @Test func pairsThatDecideOtherwiseWithdraw() throws {
        let strict = try policy(guardrails: "prediction_psi_max: 0.25, disagreement_max: 2%, mean_difference_max: 0.1")
        let late = start.advanced(by: .days(2))
        for (share, difference, isOut) in [(0.03, 0.05, true), (0.01, 0.2, true), (0.02, 0.1, false)] {
            let decision = rollout(.shadow).decide(
                at: late,
                seen: seen(1000) {
                    $0.disagreement = share
                    $0.meanDifference = difference
                }, policy: strict)
            if case .withdraw = decision { #expect(isOut) } else { #expect(!isOut, "\(decision)") }
        }
    }

    @Test func aChallengerThatLabelsShowToBeWorseIsWithdrawnAtOnce() throws {
        let policy = try policy(Self.experiment)
        let worse = rollout(.canary(step: 0)).decide(
            at: start.advanced(by: .seconds(1)), seen: seen(10) { $0.comparison = comparison(2000, 0.3, 0.4) },
            policy: policy)
        guard case .withdraw(let reason) = worse else { return #expect(Bool(false), "\(worse)") }
        #expect(reason.contains("log_loss on 2000 and 2000 labelled answers is worse by 0.1"))
        let early = rollout(.canary(step: 0)).decide(
            at: start.advanced(by: .seconds(1)), seen: seen(10) { $0.comparison = comparison(40, 0.3, 0.9) },
            policy: policy)
        #expect(early == .wait("10 of 100 answers seen"))
    }

    /// Also where nothing is sure, and in every sentence that says it.
    @Test func aDifferenceIsSaidByItsSign() throws {
        let policy = try policy(Self.experiment)
        for (second, words) in [(0.405, "is worse by 0.005"), (0.395, "is better by 0.005"), (0.4, "is no different")] {
            let judged = rollout(.canary(step: 0)).judge(
                at: start.advanced(by: .days(3)), seen: seen(5000) { $0.comparison = comparison(200, 0.4, second) },
                policy: policy)
            let detail = judged.checks.first { $0.name == "online_metric" }?.detail ?? ""
            #expect(detail.contains(words), "\(detail)")
            guard case .advance(_, let reason) = judged.decision else {
                Issue.record("\(judged.decision)")
                continue
            }
            #expect(reason.contains("log_loss \(words), improvement within ["), "\(reason)")
        }
    }

    @Test func anExperimentWaitsUntilItIsShownOrItsTimeIsUp() throws {
        let policy = try policy(Self.experiment)
        #expect(rollout(.canary(step: 0)).next(policy) == .experiment)
        #expect(rollout(.experiment).next(policy) == .production)
        #expect(RolloutState.share(of: .experiment, policy) == 0.5)
        func decide(_ days: Int64, _ first: Double, _ second: Double) -> RolloutState.Decision {
            rollout(.experiment).decide(
                at: start.advanced(by: .days(days)),
                seen: seen(5000) { $0.comparison = comparison(2000, first, second) }, policy: policy)
        }
        guard case .wait = decide(2, 0.4, 0.3) else { return #expect(Bool(false), "before at_least") }
        guard case .advance(to: .production, let reason) = decide(3, 0.4, 0.3) else {
            return #expect(Bool(false), "it is shown")
        }
        #expect(reason.contains("log_loss is better by 0.1, improvement within ["))
        guard case .wait(let open) = decide(13, 0.4, 0.4) else { return #expect(Bool(false), "not shown yet") }
        #expect(open.contains("not shown to be better yet"))
        guard case .withdraw(let late) = decide(14, 0.4, 0.4) else { return #expect(Bool(false), "too late") }
        #expect(late.contains("within 14d log_loss was not shown to be better"))
    }

    @Test func notBeingWorseIsShownWithinAMargin() throws {
        let policy = try policy(
            """
              metric: {measure: log_loss, labels_min: 50, effect: 0.3}
              experiment: {at_least: 3d, at_most: 14d, goal: not_worse, margin: 0.05}
            """)
        func decide(_ second: Double) -> RolloutState.Decision {
            rollout(.experiment).decide(
                at: start.advanced(by: .days(3)),
                seen: seen(5000) { $0.comparison = comparison(4000, 0.4, second) }, policy: policy)
        }
        guard case .advance = decide(0.4) else { return #expect(Bool(false), "equal is not worse") }
        guard case .withdraw = decide(0.5) else { return #expect(Bool(false), "worse") }
    }

    // MARK: What the observer counts for it

    private func record(
        _ id: Int, _ choice: PredictionRecord.Choice, key: String, revision: Int = 7, output: Float = 0.5
    )
        -> PredictionRecord
    {
        PredictionRecord(
            id: "id-\(id)", time: start, model: "delay", version: choice == .canary ? 2 : 1, artifact: "",
            policyRevision: revision, choice: choice, serviceVersion: "",
            entities: [.init(key: "tailnum", value: key)], inputs: [], ages: [], statuses: [], overridden: [],
            output: [output], fallbackReason: "", latency: .init(), caller: "")
    }

    private func scope(_ metric: OnlineMetric? = nil) throws -> RolloutObserver.Scope {
        let set = try DefinitionCompiler.compile(WorkflowFixture.files())
        var scope = RolloutObserver.Scope()
        scope.sticky = StickyHash(
            try #require(set.deployments[WorkflowFixture.model]),
            service: try #require(set.featureServices[WorkflowFixture.model]))
        scope.shares = [0.9, 0.1]
        scope.revision = 7
        scope.metric = metric
        return scope
    }

    @Test func unitsAreCountedOnceAndOnlyUnderTheirPolicy() throws {
        let observer = RolloutObserver()
        observer.watch(model: WorkflowFixture.model, challenger: 2, since: start, scope: try scope())
        observer.observed(
            (0..<30).map { record($0, .primary, key: "N\($0 % 9)") } + [record(99, .canary, key: "N100")]
                + [record(1, .primary, key: "old", revision: 6), record(2, .holdout, key: "held")]
                + [record(3, .canary, key: "N100"), record(4, .fallback, key: "N0")])
        #expect(observer.observation(model: WorkflowFixture.model).units?.counts == [9, 1])
    }

    /// Who asks for a version by its number was not dealt by the hash: neither units nor answers are comparable.
    @Test func answersOfAVersionThatTheCallerNamedCountForNothing() throws {
        let observer = RolloutObserver()
        let metric = OnlineMetric(measure: .squaredError, alpha: 0.05, effect: 0.1, labelsMin: 2)
        observer.watch(model: WorkflowFixture.model, challenger: 2, since: start, scope: try scope(metric))
        let named = (0..<300).map { index in
            var record = record(index, index % 2 == 0 ? .canary : .primary, key: "V\(index)")
            record.isVersionNamed = true
            return record
        }
        observer.observed(named + [record(900, .primary, key: "a"), record(901, .canary, key: "b")])
        observer.labelled((0..<300).map { LabelRecord(predictionID: "id-\($0)", time: start, value: 1) })
        let seen = observer.observation(model: WorkflowFixture.model)
        #expect(seen.units?.counts == [1, 1])
        #expect(seen.answers == 1 && seen.championAnswers == 1 && seen.latencyP99Milliseconds != nil)
        #expect(seen.comparison?.first.count == 0 && seen.comparison?.second.count == 0)
    }

    /// In shadow both versions answer the same question, whoever chose the first.
    @Test func pairsOfANamedVersionCount() {
        let observer = RolloutObserver()
        observer.watch(model: WorkflowFixture.model, challenger: 2, since: start)
        var answer = record(1, .primary, key: "a")
        answer.isVersionNamed = true
        var shadow = answer
        (shadow.choice, shadow.version, shadow.output) = (.shadow, 2, [0.75])
        observer.observed([answer, shadow])
        #expect(observer.observation(model: WorkflowFixture.model).meanDifference == 0.25)
    }

    /// In shadow labels judge the same answers of both versions: no shadow of a held-out unit, and none that a label overtook
    /// is left out on one side alone.
    @Test func labelsJudgePairs() throws {
        let observer = RolloutObserver()
        var scope = RolloutObserver.Scope()
        scope.metric = OnlineMetric(measure: .squaredError, alpha: 0.05, effect: 0.1, labelsMin: 2)
        scope.isPaired = true
        observer.watch(model: WorkflowFixture.model, challenger: 2, since: start, scope: scope)
        func answered(_ id: Int, _ choice: PredictionRecord.Choice, _ output: Float) -> PredictionRecord {
            var record = record(id, choice, key: "a", output: output)
            record.version = choice == .shadow ? 2 : 1
            return record
        }
        func label(_ id: Int) -> LabelRecord { LabelRecord(predictionID: "id-\(id)", time: start, value: 1) }
        observer.observed([answered(1, .primary, 0.5), answered(2, .holdout, 0.5), answered(2, .shadow, 0)])
        observer.labelled([label(1), label(2), label(3)])
        observer.observed([answered(1, .shadow, 0), answered(3, .primary, 0.5), answered(3, .shadow, 0)])
        observer.observed([answered(4, .primary, 0.5)])
        observer.labelled([label(4), label(1)])
        let seen = try #require(observer.observation(model: WorkflowFixture.model).comparison)
        #expect(seen.first.count == 2 && seen.first.mean == 0.25)
        #expect(seen.second.count == 2 && seen.second.mean == 1)
    }

    @Test func labelsThatWaitAreBounded() {
        var matcher = LabelMatcher()
        let count = LabelMatcher.earlyCountMax
        for index in 0...count { #expect(matcher.label("id-\(index)", Double(index)) == nil) }
        #expect(matcher.label("id-7", 99) == nil, "the first label of an answer counts")
        #expect(matcher.add("id-0") { $0.champion = [1] } == nil, "the oldest is forgotten")
        #expect(matcher.add("id-7") { $0.champion = [1] }?.1 == 7)
        #expect(matcher.add("id-\(count)") { $0.champion = [1] }?.1 == Double(count))
    }

    @Test func labelsReachTheirAnswersAlsoWhenTheyComeFirst() throws {
        let observer = RolloutObserver()
        let metric = OnlineMetric(measure: .squaredError, alpha: 0.05, effect: 0.1, labelsMin: 2)
        observer.watch(model: WorkflowFixture.model, challenger: 2, since: start, scope: try scope(metric))
        #expect(observer.isWatchingLabels)
        func label(_ id: Int, _ value: Double) -> LabelRecord {
            LabelRecord(predictionID: "id-\(id)", time: start, value: value)
        }
        observer.labelled([label(1, 1)])
        observer.observed([
            record(1, .primary, key: "a", output: 0.5), record(2, .canary, key: "b", output: 0),
            record(3, .canary, key: "c", output: 0),
        ])
        observer.labelled([label(2, 2), label(2, 9), label(8, 1)])
        let seen = try #require(observer.observation(model: WorkflowFixture.model).comparison)
        #expect(seen.first.count == 1 && seen.first.mean == 0.25)
        #expect(seen.second.count == 1 && seen.second.mean == 4)
    }

    @Test func distributionsOfAnyRangeAreCompared() throws {
        for scale in [1.0, 1e6, 1e-6] {
            var same = AnswerDistributions()
            var moved = AnswerDistributions()
            for index in 0..<1000 {
                let value = Float(Double(index % 97) * scale)
                same.addChampion(value)
                same.addChallenger(value)
                moved.addChampion(value)
                moved.addChallenger(value + Float(50 * scale))
            }
            #expect(try #require(same.populationStabilityIndex) < 0.01)
            #expect(try #require(moved.populationStabilityIndex) > 0.5)
        }
        // By hand: a challenger whose range is a little wider is no other one, in ten bins of a tenth each.
        var (wider, tenth) = (AnswerDistributions(), [Double](repeating: 0, count: 10))
        for index in 0..<1000 {
            wider.addChampion(Float(index % 200))
            wider.addChallenger(Float(index % 200) * 1.1 - 10)
            tenth[max(0, min(9, Int((Double(Float(index % 200) * 1.1 - 10) / 20).rounded(.down))))] += 1
        }
        let byHand = tenth.reduce(0.0) { sum, count in
            let (share, base) = ((count + 0.5) / 1005.5, 100.5 / 1005.5)
            return sum + (share - base) * log(share / base)
        }
        #expect(abs(try #require(wider.populationStabilityIndex) - byHand) < 0.01 && byHand < 0.1)
        var constant = AnswerDistributions()
        for _ in 0..<300 {
            constant.addChampion(3)
            constant.addChallenger(4)
        }
        #expect(try #require(constant.populationStabilityIndex) > 1)
    }

    @Test func unitsAreBounded() {
        var tally = UnitTally()
        var state: UInt64 = 1
        for index in 0..<600_000 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            tally.add(state ^ (state >> 29), isChallenger: index % 4 == 0)
        }
        let counts = tally.counts
        #expect(counts[0] + counts[1] <= 1 << 18)
        #expect(abs(Double(counts[1]) / Double(counts[0] + counts[1]) - 0.25) < 0.01)
    }
}
