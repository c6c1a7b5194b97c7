import PlatformTesting
import Testing

@testable import ModelServing

/// Quantiles from buckets are those of the sorted values, up to the width of a bucket.
struct LatencyHistogramTests {
    @Test(arguments: UInt64(0)..<30) func quantilesAreWithinABucket(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let shift = UInt32.random(in: 6..<32, using: &random)
        let values = (0..<Int.random(in: 1...2000, using: &random)).map { _ in
            UInt32(truncatingIfNeeded: random.next()) >> UInt32.random(in: shift..<33, using: &random)
        }
        var histogram = LatencyHistogram()
        for value in values { histogram.add(microseconds: value) }
        #expect(histogram.count == UInt64(values.count))
        #expect(histogram.sumMicroseconds == values.reduce(0) { $0 + UInt64($1) })
        let sorted = values.sorted()
        for share in [0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1] {
            let exact = sorted[max(0, Int((Double(sorted.count) * share).rounded(.up)) - 1)]
            let found = histogram.quantile(share)
            #expect(found == LatencyHistogram.upperBound(of: LatencyHistogram.bucket(of: exact)))
            #expect(found >= Double(exact) && found <= max(1.25, Double(exact) * 1.25), "\(exact) \(found)")
        }
    }

    @Test func bucketsMeetWithoutGaps() {
        var last = 0
        for value in UInt32(1)..<100_000 {
            let bucket = LatencyHistogram.bucket(of: value)
            if bucket < last || Double(value) > LatencyHistogram.upperBound(of: bucket) {
                Issue.record("\(value) is not in bucket \(bucket)")
                return
            }
            last = bucket
        }
    }

    @Test func theEndsAreCounted() {
        var histogram = LatencyHistogram()
        #expect(histogram.quantile(0.5) == 0)
        histogram.add(microseconds: 0)
        #expect(histogram.quantile(1) == 1.25)
        histogram.add(microseconds: .max)
        #expect(histogram.count == 2)
        #expect(histogram.quantile(1) == LatencyHistogram.upperBound(of: LatencyHistogram.bucketCount - 1))
    }
}
