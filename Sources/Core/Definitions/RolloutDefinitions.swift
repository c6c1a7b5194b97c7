import Foundation
public import PlatformCore

/// What of labelled answers tells which of two versions is better.
public enum OnlineMeasure: String, Sendable, Hashable, Codable, CaseIterable {
    /// Logarithmic loss of a probability against a label of 0 or 1; lower is better.
    case logLoss = "log_loss"
    /// Squared distance of a probability from a label of 0 or 1; lower is better.
    case brier
    /// Squared distance from the label; lower is better.
    case squaredError = "squared_error"
    /// Distance from the label; lower is better.
    case absoluteError = "absolute_error"
    /// Whether the class is the label's: the most probable one, or that of a probability of 0.5 or more; higher is better.
    case accuracy
    /// The label itself, such as whether somebody bought; higher is better.
    case label
    /// The label itself, such as a cost; lower is better.
    case cost

    /// Whether larger values are better.
    public var isHigherBetter: Bool { self == .accuracy || self == .label }

    /// The value of one labelled answer; `nil` where the measure has none.
    /// - Parameters:
    ///   - output: what the model said: one number, or a probability for each class.
    ///   - label: what happened.
    public func value(output: [Float], label: Double) -> Double? {
        guard label.isFinite else { return nil }
        switch self {
        case .label, .cost: return label
        case .accuracy:
            guard !output.isEmpty else { return nil }
            let found =
                output.count > 1
                ? Double(output.indices.max { output[$0] < output[$1] } ?? 0) : output[0] >= 0.5 ? 1 : 0
            return found == label ? 1 : 0
        case .squaredError, .absoluteError:
            guard output.count == 1 else { return nil }
            let distance = Double(output[0]) - label
            return self == .squaredError ? distance * distance : abs(distance)
        case .brier, .logLoss:
            guard let probability = Self.probability(output, label) else { return nil }
            if self == .brier { return (1 - probability) * (1 - probability) }
            return -log(max(probability, 1e-15))
        }
    }

    /// The probability that was given to what happened.
    private static func probability(_ output: [Float], _ label: Double) -> Double? {
        if output.count == 1 {
            let positive = Double(output[0])
            guard 0...1 ~= positive, label == 0 || label == 1 else { return nil }
            return label == 1 ? positive : 1 - positive
        }
        guard let place = Int(exactly: label), output.indices.contains(place) else { return nil }
        return Double(output[place])
    }
}

/// How labelled answers of two versions are compared while a rollout goes on.
public struct OnlineMetric: Sendable, Hashable {
    /// What is compared.
    public let measure: OnlineMeasure
    /// Chance of a false verdict over the whole rollout step, however often it is looked at.
    public let alpha: Double
    /// Difference that is looked for, in standard deviations of a value; see `SequentialComparison`.
    public let effect: Double
    /// Labelled answers that each version needs before anything is said.
    public let labelsMin: Int

    /// Names everything.
    public init(measure: OnlineMeasure, alpha: Double, effect: Double, labelsMin: Int) {
        self.measure = measure
        self.alpha = alpha
        self.effect = effect
        self.labelsMin = labelsMin
    }
}

/// The A/B step between the canary ramp and production.
public struct ExperimentStep: Sendable, Hashable {
    /// What the challenger has to show.
    public enum Goal: String, Sendable, Hashable, CaseIterable {
        /// Its metric is better.
        case better
        /// Its metric is not worse by more than the margin.
        case notWorse = "not_worse"
    }
    /// Share of traffic of the challenger.
    public let share: Double
    /// Least time.
    public let atLeast: TimeSpan
    /// Time after which a challenger that has not shown it is withdrawn.
    public let atMost: TimeSpan
    /// What it has to show.
    public let goal: Goal
    /// Difference that counts as none, in units of the metric.
    public let margin: Double

    /// Names everything.
    public init(share: Double, atLeast: TimeSpan, atMost: TimeSpan, goal: Goal, margin: Double) {
        self.share = share
        self.atLeast = atLeast
        self.atMost = atMost
        self.goal = goal
        self.margin = margin
    }
}

/// What a rollout takes care of beside its steps.
public struct RolloutPolicy: Sendable, Hashable {
    /// Goes into the hash that chooses variants: another salt deals all units anew; `nil` for the deployment's name.
    public let salt: String?
    /// Share of units that stay with the champion, marked, whatever is rolled out.
    public let holdout: Double
    /// Share of requests that a challenger in shadow sees.
    public let shadowShare: Double
    /// The A/B step; `nil` for none.
    public let experiment: ExperimentStep?
    /// What labels say; `nil` to look at none.
    public let metric: OnlineMetric?
    /// Highest share of paired answers that decide otherwise; `nil` for any.
    public let disagreementMax: Double?
    /// Highest mean distance of paired answers; `nil` for any.
    public let meanDifferenceMax: Double?
    /// Chance of a false alarm about the shares of units, over a whole step.
    public let sampleRatioAlpha: Double
}
