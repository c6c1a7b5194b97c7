import ModelServing
import PlatformCore
import Testing

@testable import Workflows

/// What the observer counts of a challenger and its champion.
struct RolloutObserverTests {
    private let start = WorkflowFixture.start

    private func record(
        _ id: Int, _ choice: PredictionRecord.Choice, version: Int, _ output: [Float], seconds: Int64 = 0,
        model: String = "delay", microseconds: UInt32 = 1000
    ) -> PredictionRecord {
        PredictionRecord(
            id: "id-\(id)", time: start.advanced(by: .seconds(seconds)), model: model, version: version, artifact: "",
            policyRevision: 1, choice: choice, serviceVersion: "", entities: [], inputs: [], ages: [], statuses: [],
            overridden: [], output: output, fallbackReason: "", latency: .init(total: microseconds), caller: "")
    }

    private func observer() -> RolloutObserver {
        let observer = RolloutObserver()
        observer.watch(model: WorkflowFixture.model, challenger: 2, since: start)
        return observer
    }

    private func seen(_ observer: RolloutObserver) -> RolloutState.Observation {
        observer.observation(model: WorkflowFixture.model)
    }

    @Test func pairsAreCounted() {
        let observer = observer()
        observer.observed([
            record(1, .primary, version: 1, [0.5]), record(1, .shadow, version: 2, [0.75]),
            record(2, .primary, version: 1, [0.5]), record(2, .shadow, version: 2, [0.25]),
            record(3, .primary, version: 1, [0.5]), record(4, .shadow, version: 2, [0.0]),  // not this one's shadow
        ])
        let seen = seen(observer)
        #expect(seen.answers == 3 && seen.championAnswers == 3 && seen.failures == 0)
        #expect(seen.meanDifference == 0.25)
        #expect(seen.latencyP99Milliseconds == nil && seen.predictionPSI == nil)
    }

    @Test func pairsMayBeSplitBetweenBatches() {
        let observer = observer()
        observer.observed([record(1, .primary, version: 1, [0.5])])
        observer.observed([record(1, .shadow, version: 2, [1])])
        #expect(seen(observer).meanDifference == 0.5)
    }

    /// Shadows that are waited for come after other answers.
    @Test func aShadowMayComeLate() {
        let observer = observer()
        observer.observed((0..<1000).map { record($0, .primary, version: 1, [0.5]) })
        observer.observed((0..<1000).map { record($0, .shadow, version: 2, [0.75]) })
        #expect(seen(observer).meanDifference == 0.25 && seen(observer).disagreement == 0)
        observer.observed([record(3, .shadow, version: 2, [0])])
        #expect(seen(observer).meanDifference == 0.25, "no pair is counted twice")
    }

    @Test func answersWithoutAShadowAreForgotten() {
        var recent = RecentAnswers()
        let count = RecentAnswers.countMax
        for index in 0...(count + 10) { recent.add("id-\(index)", [Float(index)]) }
        #expect(recent.take("id-9") == nil && recent.take("id-10") == [10])
        #expect(recent.take("id-\(count + 10)") == [Float(count + 10)])
        #expect(recent.take("id-\(count + 10)") == nil)
    }

    @Test func onlyTheChallengersAnswersCount() {
        let observer = observer()
        observer.observed([
            record(1, .shadow, version: 3, [0.5]), record(2, .canary, version: 3, [0.5]),
            record(3, .primary, version: 1, [0.5], model: "other"), record(4, .primary, version: 1, [0.5], seconds: -1),
            record(5, .canary, version: 2, [0.5], seconds: -1), record(6, .canary, version: 2, [0.5]),
        ])
        let seen = seen(observer)
        #expect(seen.answers == 1 && seen.championAnswers == 0)
    }

    @Test func canariesHaveALatency() throws {
        let observer = observer()
        observer.observed(
            (0..<200).map { record($0, .canary, version: 2, [0.5], microseconds: $0 < 190 ? 1000 : 50_000) })
        let latency = try #require(seen(observer).latencyP99Milliseconds)
        #expect(50...62.5 ~= latency)
    }

    @Test func distributionsAreComparedOnceBothAreLargeEnough() throws {
        let observer = observer()
        func feed(_ count: Int, _ challenger: Float) {
            for index in 0..<count {
                observer.observed([
                    record(index, .primary, version: 1, [Float(index % 20) / 20]),
                    record(index, .shadow, version: 2, [challenger < 0 ? Float(index % 20) / 20 : challenger]),
                ])
            }
        }
        feed(199, -1)
        #expect(seen(observer).predictionPSI == nil)
        feed(1, -1)
        #expect(try #require(seen(observer).predictionPSI) < 0.001)
        feed(400, 0.99)
        #expect(try #require(seen(observer).predictionPSI) > 0.25)
    }

    /// The answer that a caller gets instead does not make the failure undone.
    @Test func fallbacksAreFailuresWithOrWithoutAConstant() {
        let observer = observer()
        observer.observed([record(1, .fallback, version: 2, []), record(2, .fallback, version: 2, [0.25])])
        let seen = seen(observer)
        #expect(seen.failures == 2 && seen.answers == 0 && seen.championAnswers == 0)
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity, -5, 1e30, 1])
    func strangeOutputsAreCountedToo(value: Float) {
        let observer = observer()
        observer.observed([record(1, .primary, version: 1, [value]), record(1, .shadow, version: 2, [value])])
        #expect(seen(observer).answers == 1)
    }

    @Test func classesAreWatchedByTheirHighestProbability() {
        let observer = observer()
        observer.observed([
            record(1, .primary, version: 1, [0.5, 0.25, 0.25]), record(1, .shadow, version: 2, [0, 1, 0]),
        ])
        #expect(seen(observer).meanDifference == 0.5)
    }

    @Test func watchingAgainForgetsAndStoppingEnds() {
        let observer = observer()
        observer.observed([record(1, .canary, version: 2, [0.5])])
        observer.watch(model: WorkflowFixture.model, challenger: 2, since: start)
        #expect(seen(observer) == RolloutState.Observation())
        observer.observed([record(1, .canary, version: 2, [0.5])])
        observer.stop(model: WorkflowFixture.model)
        observer.observed([record(2, .canary, version: 2, [0.5])])
        #expect(seen(observer) == RolloutState.Observation())
    }
}
