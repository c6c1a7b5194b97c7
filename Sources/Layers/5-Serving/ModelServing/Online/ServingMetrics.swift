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

    /// Both together.
    func merged(with other: LatencyHistogram) -> LatencyHistogram {
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
    private struct State {
        var places: [Key: Int] = [:]
        var histograms: [(key: Key, histogram: LatencyHistogram)] = []
        var refused: [String: [Int: Int]] = [:]
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

    func count(_ record: PredictionRecord) {
        let key = Key(model: record.model, version: record.version, choice: record.choice)
        part.state.withLock { $0.add(record.latency.total, to: key) }
    }

    func countRefused(model: String, status: Int) {
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
}
