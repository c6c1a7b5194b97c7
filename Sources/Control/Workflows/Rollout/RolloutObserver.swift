public import Definitions
public import ModelServing
public import PlatformCore
import Statistics
import Synchronization

/// Watches the predictions of challengers beside those of their champions, in memory, from the log's own stream.
///
/// Counts begin again with each phase. After a restart the controller feeds it the log from the phase's start.
public final class RolloutObserver: PredictionObserver {
    /// What is compared beyond the answers themselves.
    public struct Scope: Sendable {
        /// Finds the unit of a prediction; `nil` to count no units.
        public var sticky: StickyHash?
        /// Shares of units planned for champion and challenger, adding up to 1; `nil` where all see the same.
        public var shares: [Double]?
        /// Revision of the policy that deals the units; others do not count for the shares.
        public var revision: Int?
        /// What labels are compared by; `nil` for none.
        public var metric: OnlineMetric?
        /// Whether one answer has both versions' predictions.
        public var isPaired = false

        /// Answers alone.
        public init() {}
    }

    fileprivate struct Watch {
        let challenger: Int
        let since: EventTime
        let scope: Scope
        var answers = 0
        var championAnswers = 0
        var failures = 0
        var distributions = AnswerDistributions()
        var pairs = PairTally()
        var latency = LatencyHistogram()
        var recent = RecentAnswers()
        var units = UnitTally()
        var labels = LabelMatcher()
        var comparison: SequentialComparison?
    }
    private let watches = Mutex<[String: Watch]>([:])

    /// Watches nothing yet.
    public init() {}

    /// Begins to watch a challenger from `since` on, forgetting what was seen of the model before.
    public func watch(model: Name, challenger: Int, since: EventTime, scope: Scope = Scope()) {
        var watch = Watch(challenger: challenger, since: since, scope: scope)
        watch.labels = LabelMatcher(needsBoth: scope.isPaired)
        if let metric = scope.metric {
            watch.comparison = SequentialComparison(effect: metric.effect, valuesMin: metric.labelsMin)
        }
        watches.withLock { $0[model.text] = watch }
    }

    /// Stops watching.
    public func stop(model: Name) { watches.withLock { $0[model.text] = nil } }

    /// Whether any challenger is watched.
    public var isWatching: Bool { watches.withLock { !$0.isEmpty } }

    /// Whether labels are of use to it now.
    public var isWatchingLabels: Bool { watches.withLock { $0.values.contains { $0.comparison != nil } } }

    /// Takes records in log order.
    public func observed(_ records: [PredictionRecord]) {
        watches.withLock { watches in
            guard !watches.isEmpty else { return }
            for record in records { watches[record.model]?.add(record) }
        }
    }

    /// Takes labels in log order.
    public func labelled(_ labels: [LabelRecord]) {
        watches.withLock { watches in
            for model in watches.keys where watches[model]?.comparison != nil {
                for label in labels { watches[model]?.label(label) }
            }
        }
    }

    /// Counts an answer that a shadow could not give.
    public func shadowFailed(model: String, version: Int) {
        watches.withLock { watches in
            if watches[model]?.challenger == version { watches[model]?.failures += 1 }
        }
    }

    /// What was seen of a model's challenger.
    public func observation(model: Name) -> RolloutState.Observation {
        guard let watch = watches.withLock({ $0[model.text] }) else { return RolloutState.Observation() }
        var seen = RolloutState.Observation()
        seen.answers = watch.answers
        seen.championAnswers = watch.championAnswers
        seen.failures = watch.failures
        seen.predictionPSI = watch.distributions.populationStabilityIndex
        seen.meanDifference = watch.pairs.meanDifference
        seen.disagreement = watch.pairs.disagreement
        if watch.latency.count > 0 { seen.latencyP99Milliseconds = watch.latency.quantile(0.99) / 1000 }
        if let shares = watch.scope.shares, watch.scope.sticky != nil {
            seen.units = try? SampleRatio(counts: watch.units.counts, shares: shares)
        }
        seen.comparison = watch.comparison
        return seen
    }
}

/// How far paired answers are apart.
struct PairTally: Sendable {
    private(set) var count = 0
    private var differenceSum = 0.0
    private var otherCount = 0

    /// The number that stands for an answer: the only one, or the highest probability.
    static func value(_ output: [Float]) -> Float? { output.count == 1 ? output.first : output.max() }

    /// The class that an answer decides for; of one number whether it is 0.5 or more.
    private static func decision(_ output: [Float]) -> Int? {
        output.count == 1 ? (output[0] >= 0.5 ? 1 : 0) : output.indices.max { output[$0] < output[$1] }
    }

    mutating func add(_ first: [Float], _ second: [Float]) {
        guard let left = Self.value(first), let right = Self.value(second) else { return }
        count += 1
        differenceSum += Double(abs(left - right))
        if Self.decision(first) != Self.decision(second) { otherCount += 1 }
    }

    var meanDifference: Double? { count > 0 ? differenceSum / Double(count) : nil }
    var disagreement: Double? { count > 0 ? Double(otherCount) / Double(count) : nil }
}

extension RolloutObserver.Watch {
    fileprivate mutating func add(_ record: PredictionRecord) {
        guard record.time >= since, !record.isOfUnloadedVersion else { return }
        // Where units are dealt, those whose callers choose for themselves would make the two sides differ.
        if scope.shares != nil, record.isVersionNamed { return }
        count(record)
        if record.choice == .fallback {  // also where a constant was given instead
            if record.version == challenger { failures += 1 }
            return
        }
        guard let value = PairTally.value(record.output) else { return }
        if record.version == challenger, record.choice == .shadow || record.choice == .canary {
            distributions.addChallenger(value)
            answers += 1
            if record.choice == .canary { latency.add(microseconds: record.latency.total) }
            if record.choice == .shadow, let primary = recent.take(record.id) { pairs.add(primary, record.output) }
            if comparison != nil, (record.choice == .shadow) == scope.isPaired {
                compare(labels.add(record.id) { $0.challenger = record.output })
            }
        } else if record.choice == .primary {
            distributions.addChampion(value)
            championAnswers += 1
            if scope.shares == nil { recent.add(record.id, record.output) }
            if comparison != nil { compare(labels.add(record.id) { $0.champion = record.output }) }
        }
    }

    /// Counts the unit where units are dealt; one whose answer failed was dealt all the same.
    private mutating func count(_ record: PredictionRecord) {
        guard scope.shares != nil, record.choice != .shadow, record.choice != .holdout,
            scope.revision == nil || scope.revision == record.policyRevision, let unit = scope.sticky?.unit(of: record)
        else { return }
        units.add(unit, isChallenger: record.version == challenger)
    }

    fileprivate mutating func label(_ label: LabelRecord) { compare(labels.label(label.predictionID, label.value)) }

    private mutating func compare(_ found: (answer: LabelMatcher.Answer, label: Double)?) {
        guard let found, let metric = scope.metric else { return }
        if let output = found.answer.champion, let value = metric.measure.value(output: output, label: found.label) {
            comparison?.add(value, to: .first)
        }
        if let output = found.answer.challenger, let value = metric.measure.value(output: output, label: found.label) {
            comparison?.add(value, to: .second)
        }
    }
}
