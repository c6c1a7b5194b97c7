import Definitions
public import ModelServing
public import PlatformCore
import Statistics
import Synchronization

/// Watches the predictions of challengers beside those of their champions, in memory, from the log's own stream.
///
/// Counts begin again with each phase. After a restart the controller feeds it the log from the phase's start.
public final class RolloutObserver: PredictionObserver {
    private static let binCount = 20

    fileprivate struct Watch {
        let challenger: Int
        let since: EventTime
        var challengerBins = [Int](repeating: 0, count: binCount)
        var championBins = [Int](repeating: 0, count: binCount)
        var answers = 0
        var championAnswers = 0
        var failures = 0
        var differenceSum = 0.0
        var pairs = 0
        var latency = LatencyHistogram()
        var lastPrimary: (id: String, output: Float)?
    }
    private let watches = Mutex<[String: Watch]>([:])

    /// Watches nothing yet.
    public init() {}

    /// Begins to watch a challenger from `since` on, forgetting what was seen of the model before.
    public func watch(model: Name, challenger: Int, since: EventTime) {
        watches.withLock { $0[model.text] = Watch(challenger: challenger, since: since) }
    }

    /// Stops watching.
    public func stop(model: Name) { watches.withLock { $0[model.text] = nil } }

    /// Whether any challenger is watched.
    public var isWatching: Bool { watches.withLock { !$0.isEmpty } }

    /// Takes records in log order.
    public func observed(_ records: [PredictionRecord]) {
        watches.withLock { watches in
            guard !watches.isEmpty else { return }
            for record in records { watches[record.model]?.add(record) }
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
        if watch.answers >= 200, watch.championAnswers >= 200 {
            seen.predictionPSI = try? DriftMeasure.populationStabilityIndex(
                reference: watch.championBins, current: watch.challengerBins, pseudoCount: 0.5)
        }
        if watch.pairs > 0 { seen.meanDifference = watch.differenceSum / Double(watch.pairs) }
        if watch.latency.count > 0 { seen.latencyP99Milliseconds = watch.latency.quantile(0.99) / 1000 }
        return seen
    }
}

extension RolloutObserver.Watch {
    fileprivate static func bin(_ value: Float) -> Int {
        guard value.isFinite else { return 0 }
        // Bounded before it is cut: a regression's value may exceed any integer.
        return Int(min(19, max(0, value * 20)))
    }

    fileprivate mutating func add(_ record: PredictionRecord) {
        guard record.time >= since else { return }
        if record.choice == .fallback {  // also where a constant was given instead
            if record.version == challenger { failures += 1 }
            return
        }
        guard let value = record.output.count == 1 ? record.output.first : record.output.max() else { return }
        if record.version == challenger, record.choice == .shadow || record.choice == .canary {
            challengerBins[Self.bin(value)] += 1
            answers += 1
            if record.choice == .canary { latency.add(microseconds: record.latency.total) }
            if record.choice == .shadow, let primary = lastPrimary, primary.id == record.id {
                differenceSum += Double(abs(primary.output - value))
                pairs += 1
            }
        } else if record.choice == .primary {
            championBins[Self.bin(value)] += 1
            championAnswers += 1
            lastPrimary = (record.id, value)
        }
    }
}
