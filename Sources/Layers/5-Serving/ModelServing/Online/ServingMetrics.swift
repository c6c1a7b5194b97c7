public import Definitions
import Foundation
import Synchronization

/// Counts of a latency in buckets that grow by a quarter of a power of two: 19 % wide, from 1 µs to about 1 minute.
public struct LatencyHistogram: Sendable, Hashable {
    /// Number of buckets.
    public static let bucketCount = 104
    /// Observations by bucket.
    public private(set) var counts = [UInt64](repeating: 0, count: bucketCount)
    /// Observations in all.
    public private(set) var count: UInt64 = 0
    /// Sum in microseconds.
    public private(set) var sumMicroseconds: UInt64 = 0

    /// An empty histogram.
    public init() {}

    /// Adds one observation in microseconds.
    public mutating func add(microseconds: UInt32) {
        counts[Self.bucket(of: microseconds)] += 1
        count += 1
        sumMicroseconds += UInt64(microseconds)
    }

    /// What was added after `earlier`, an older state of the same histogram.
    public func since(_ earlier: LatencyHistogram) -> LatencyHistogram {
        var rest = self
        for bucket in counts.indices { rest.counts[bucket] -= min(counts[bucket], earlier.counts[bucket]) }
        rest.count -= min(count, earlier.count)
        rest.sumMicroseconds -= min(sumMicroseconds, earlier.sumMicroseconds)
        return rest
    }

    /// Both together.
    public func merged(with other: LatencyHistogram) -> LatencyHistogram {
        var sum = self
        for bucket in counts.indices { sum.counts[bucket] += other.counts[bucket] }
        sum.count += other.count
        sum.sumMicroseconds += other.sumMicroseconds
        return sum
    }

    static func bucket(of microseconds: UInt32) -> Int {
        guard microseconds > 0 else { return 0 }
        let power = 31 - microseconds.leadingZeroBitCount
        let quarter =
            power >= 2 ? Int(microseconds >> UInt32(power - 2)) & 3 : Int(microseconds << UInt32(2 - power)) & 3
        return min(bucketCount - 1, power * 4 + quarter)
    }

    /// Upper bound of a bucket in microseconds.
    public static func upperBound(of bucket: Int) -> Double {
        let power = bucket / 4
        return Double(sign: .plus, exponent: power, significand: 1) * (1 + Double(bucket % 4 + 1) / 4)
    }

    /// The value in microseconds below which `share` of the observations lie, at the resolution of a bucket.
    public func quantile(_ share: Double) -> Double {
        guard count > 0 else { return 0 }
        let target = (Double(count) * share).rounded(.up)
        var seen: UInt64 = 0
        for (bucket, value) in counts.enumerated() {
            seen += value
            if Double(seen) >= target { return Self.upperBound(of: bucket) }
        }
        return Self.upperBound(of: Self.bucketCount - 1)
    }
}

/// What serving has done since the start, by model, version and variant.
public final class ServingMetrics: Sendable {
    /// What is counted apart.
    public struct Key: Hashable, Sendable {
        /// Model.
        public let model: String
        /// Version; 0 for the fallback.
        public let version: Int
        /// Why this variant answered.
        public let choice: PredictionRecord.Choice
    }
    /// Fallbacks that are counted together.
    public struct FallbackKey: Hashable, Sendable {
        /// Model.
        public let model: String
        /// Why its model did not answer.
        public let cause: AnswerFault
        /// The step that answered; empty if none did.
        public let step: String
    }
    /// Predictions that no model computed at that moment and that are counted together.
    public struct OriginKey: Hashable, Sendable {
        /// Model.
        public let model: String
        /// Where they come from.
        public let origin: PredictionRecord.Origin
    }
    /// Requests refused under load that are counted together.
    public struct ShedKey: Hashable, Sendable {
        /// Model.
        public let model: String
        /// Their priority.
        public let priority: RequestPriority
    }
    private struct State {
        var places: [Key: Int] = [:]
        var histograms: [(key: Key, histogram: LatencyHistogram)] = []
        var refused: [String: [Int: Int]] = [:]
        var fallbacks: [FallbackKey: Int] = [:]
        var origins: [OriginKey: Int] = [:]
        var shed: [ShedKey: Int] = [:]
        /// Where the last answer was counted: mostly the next one goes there too.
        var last = 0

        mutating func add(_ microseconds: UInt32, to key: Key) {
            if !histograms.indices.contains(last) || histograms[last].key != key {
                last = places[key] ?? histograms.count
                if last == histograms.count {
                    places[key] = last
                    histograms.append((key, LatencyHistogram()))
                }
            }
            histograms[last].histogram.add(microseconds: microseconds)
        }
    }
    /// Event loops count into different parts, so that they do not wait for each other; readers add the parts up.
    private final class Part: Sendable { let state = Mutex(State()) }
    private let parts = (0..<16).map { _ in Part() }

    /// Starts with nothing counted.
    public init() {}

    private var part: Part { parts[Int(truncatingIfNeeded: UInt(pthread_self()) >> 12) & 15] }

    func count(_ record: borrowing PredictionRecord) {
        let key = Key(model: record.model, version: record.version, choice: record.choice)
        part.state.withLock { state in
            state.add(record.latency.total, to: key)
            if record.origin != .model {
                state.origins[OriginKey(model: record.model, origin: record.origin), default: 0] += 1
            }
        }
    }

    func countFallback(model: String, cause: AnswerFault, step: String) {
        part.state.withLock { $0.fallbacks[FallbackKey(model: model, cause: cause, step: step), default: 0] += 1 }
    }

    func countShed(model: String, priority: RequestPriority) {
        part.state.withLock { $0.shed[ShedKey(model: model, priority: priority), default: 0] += 1 }
    }

    /// Counts a request that was refused; an empty model where none serves it.
    public func countRefused(model: String, status: Int) {
        part.state.withLock { $0.refused[model, default: [:]][status, default: 0] += 1 }
    }

    /// Latency of answered predictions by model, version and variant.
    public func latencies() -> [Key: LatencyHistogram] {
        parts.reduce(into: [:]) { sum, part in
            for (key, histogram) in part.state.withLock({ $0.histograms }) {
                sum[key] = sum[key].map { $0.merged(with: histogram) } ?? histogram
            }
        }
    }
    /// Refused requests by model (empty: unknown model) and status.
    public func refused() -> [String: [Int: Int]] {
        parts.reduce(into: [:]) { sum, part in
            sum.merge(part.state.withLock { $0.refused }) { $0.merging($1) { $0 + $1 } }
        }
    }
    /// Predictions whose own model did not answer, by cause and the step that answered.
    public func fallbacks() -> [FallbackKey: Int] { sum { $0.fallbacks } }
    /// Predictions that were remembered or computed before.
    public func origins() -> [OriginKey: Int] { sum { $0.origins } }
    /// Requests refused because there were too many.
    public func shed() -> [ShedKey: Int] { sum { $0.shed } }

    private func sum<Counted: Hashable>(_ counts: (State) -> [Counted: Int]) -> [Counted: Int] {
        parts.reduce(into: [:]) { sum, part in
            sum.merge(counts(part.state.withLock { $0 })) { $0 + $1 }
        }
    }
}
