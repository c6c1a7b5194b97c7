import Definitions
import PlatformCore
import Testing

/// What a deployment says of its rollouts, and how what it cannot mean is refused.
struct RolloutDefinitionTests {
    private func deployment(_ text: String) throws -> DeploymentDefinition {
        let set = try DefinitionCompiler.compile([
            DefinitionFile(
                path: "shop.yaml", folder: "/",
                text: """
                    kind: Entity
                    name: customer
                    keys: [customer]
                    ---
                    kind: Source
                    name: orders
                    event_time: at
                    key: [id]
                    schema:
                      - {name: id, type: string}
                      - {name: at, type: timestamp}
                      - {name: customer, type: string}
                      - {name: price, type: float64}
                    ---
                    kind: FeatureView
                    name: spent
                    entities: [customer]
                    source: orders
                    features: [{name: mean, aggregate: mean, column: price, window: 1h}]
                    ---
                    kind: FeatureService
                    name: loss
                    views: [spent]
                    ---
                    kind: TrainingSet
                    name: loss
                    service: loss
                    spine: orders
                    label: {name: lost, source: orders, join: [id], column: price, horizon: 1d}
                    ---
                    kind: Model
                    name: loss
                    service: loss
                    training_set: loss
                    training: {command: [train]}
                    ---
                    kind: Deployment
                    name: loss
                    model: loss
                    sticky_by: [customer]
                    \(text)
                    """)
        ])
        return try #require(set.deployments[Name(static: "loss")])
    }

    private func refusal(_ text: String) -> String {
        do {
            _ = try deployment(text)
            return "accepted"
        } catch { return "\(error)" }
    }

    @Test func everythingHasADefault() throws {
        let policy = try deployment("")
        #expect(policy.canary.map(\.share) == [0.01, 0.05, 0.1, 0.25, 0.5])
        #expect(policy.rollout.salt == nil && policy.rollout.holdout == 0 && policy.rollout.shadowShare == 1)
        #expect(policy.rollout.experiment == nil && policy.rollout.metric == nil)
        #expect(policy.rollout.sampleRatioAlpha == 0.001 && policy.rollout.disagreementMax == nil)
    }

    @Test func everythingCanBeSaid() throws {
        let policy = try deployment(
            """
            salt: spring
            holdout: 2%
            rollout:
              shadow: {at_least: 1h, pairs_min: 50, share: 20%}
              canary: [{share: 5%, at_least: 1h}]
              metric: {measure: absolute_error, alpha: 1%, effect: 0.2, labels_min: 30}
              experiment: {share: 40%, at_least: 2d, at_most: 9d, goal: not_worse, margin: 0.5}
            guardrails: {disagreement_max: 3%, mean_difference_max: 0.2, sample_ratio_alpha: 0.1%}
            """
        ).rollout
        #expect(policy.salt == "spring" && policy.holdout == 0.02 && policy.shadowShare == 0.2)
        #expect(
            policy.metric == OnlineMetric(measure: .absoluteError, alpha: 0.01, effect: 0.2, labelsMin: 30))
        #expect(
            policy.experiment
                == ExperimentStep(share: 0.4, atLeast: .days(2), atMost: .days(9), goal: .notWorse, margin: 0.5))
        #expect(policy.disagreementMax == 0.03 && policy.meanDifferenceMax == 0.2 && policy.sampleRatioAlpha == 0.001)
    }

    @Test(arguments: [
        ("holdoud: 2%", "holdout"), ("holdout: 100%", "below 100%"), ("holdout: -1%", "between 0 and 100%"),
        ("salt: ''", "1 to 200 bytes"), ("rollout: {experimant: {}}", "experiment"),
        ("rollout: {experiment: {at_least: 1d, at_most: 2d}}", "rollout.metric"),
        ("rollout: {metric: {measure: logloss}}", "log_loss"),
        ("rollout: {metric: {measure: brier, alpha: 0}}", "'alpha' must be above 0"),
        ("rollout: {metric: {measure: brier, efect: 1}}", "effect"),
        ("rollout: {metric: {measure: brier}, experiment: {at_least: 2d, at_most: 1d}}", "longer than"),
        ("rollout: {metric: {measure: brier}, experiment: {at_least: 1d, at_most: 2d, goal: not_worse}}", "margin"),
        ("rollout: {metric: {measure: brier}, experiment: {at_least: 1d, at_most: 2d, share: 1}}", "below 100%"),
        ("rollout: {shadow: {at_least: 1d, share: 0}}", "above 0"),
        ("guardrails: {disagrement_max: 1%}", "disagreement_max"),
    ]) func whatMakesNoSenseIsRefusedWithTheNearestWord(text: String, word: String) {
        #expect(refusal(text).contains(word), "\(refusal(text))")
    }

    @Test func measuresAreThoseOfTheBooks() {
        #expect(OnlineMeasure.brier.value(output: [0.25], label: 1) == 0.5625)
        #expect(OnlineMeasure.brier.value(output: [0.25], label: 2) == nil)
        #expect(OnlineMeasure.logLoss.value(output: [0.5], label: 0).map { abs($0 - 0.693147) < 1e-6 } == true)
        #expect(
            OnlineMeasure.logLoss.value(output: [0.25, 0.5, 0.25], label: 1).map { abs($0 - 0.693147) < 1e-6 } == true)
        #expect(OnlineMeasure.accuracy.value(output: [0.2, 0.7, 0.1], label: 1) == 1)
        #expect(OnlineMeasure.accuracy.value(output: [0.4], label: 1) == 0)
        #expect(OnlineMeasure.squaredError.value(output: [3], label: 5) == 4)
        #expect(OnlineMeasure.absoluteError.value(output: [3], label: 5) == 2)
        #expect(OnlineMeasure.label.value(output: [], label: 7) == 7)
        #expect(OnlineMeasure.cost.value(output: [1], label: .nan) == nil)
    }
}
