import Definitions
public import Statistics

extension RolloutState {
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
        /// Share of paired answers that decide otherwise: another class, or the other side of 0.5; `nil` outside shadow.
        public var disagreement: Double?
        /// p99 of the challenger's whole requests in milliseconds; `nil` in shadow.
        public var latencyP99Milliseconds: Double?
        /// Sentence about labelled answers of both when they speak against the challenger; `nil` if they do not.
        public var worseOnLabels: String?
        /// Units of champion and challenger beside the shares planned for them; `nil` where all see the same.
        public var units: SampleRatio?
        /// Values of the online metric of champion (first) and challenger (second); `nil` without a metric.
        public var comparison: SequentialComparison?

        /// Nothing seen.
        public init() {}

        /// How much better the challenger is by the online metric, above 0 is better; valid whenever it is asked for.
        ///
        /// `nil` while nothing can be said.
        func improvement(_ metric: OnlineMetric) -> ConfidenceInterval? {
            guard let interval = comparison?.interval(confidence: 1 - metric.alpha) else { return nil }
            if metric.measure.isHigherBetter { return interval }
            return ConfidenceInterval(
                estimate: -interval.estimate, lower: -interval.upper, upper: -interval.lower,
                confidence: interval.confidence)
        }
    }
}
