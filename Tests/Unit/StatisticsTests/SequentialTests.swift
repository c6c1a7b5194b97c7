import Foundation
import Statistics
import Testing

/// Tests that may be asked after every value keep their promise, and see a difference that is there.
struct SequentialTests {
    /// Normal values by Box–Muller from SplitMix64: the same on every machine.
    private struct Normal {
        var state: UInt64
        mutating func uniform() -> Double {
            state &+= 0x9E37_79B9_7F4A_7C15
            var value = state
            value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
            return Double((value ^ (value >> 31)) >> 11) * 0x1p-53
        }
        mutating func next() -> Double { (-2 * log(1 - uniform())).squareRoot() * cos(2 * .pi * uniform()) }
    }

    /// Share of experiments that a test decides within `length` values, looking after every tenth.
    private func rejections(
        of experiments: Int, length: Int, share: Double, difference: Double, isBinary: Bool = false
    ) -> (sequential: Double, fixed: Double) {
        var (sequential, fixed) = (0, 0)
        for experiment in 0..<experiments {
            var random = Normal(state: UInt64(experiment) &* 7919)
            var comparison = SequentialComparison(effect: 0.2, valuesMin: 50)
            var (isOut, isOutFixed) = (false, false)
            for index in 1...length {
                let isSecond = random.uniform() < share
                let value =
                    isBinary
                    ? (random.uniform() < 0.2 + (isSecond ? difference : 0) ? 1 : 0)
                    : random.next() + (isSecond ? difference : 0)
                comparison.add(value, to: isSecond ? .second : .first)
                guard index % 10 == 0, let interval = comparison.interval() else { continue }
                isOut = isOut || interval.lower > 0 || interval.upper < 0
                let (first, second) = (comparison.first, comparison.second)
                let error = (first.variance / Double(first.count) + second.variance / Double(second.count)).squareRoot()
                isOutFixed = isOutFixed || abs(interval.estimate) > 1.96 * error
                if isOut && isOutFixed { break }
            }
            sequential += isOut ? 1 : 0
            fixed += isOutFixed ? 1 : 0
        }
        return (Double(sequential) / Double(experiments), Double(fixed) / Double(experiments))
    }

    /// 300 experiments: four standard errors of a share of 5 % are 5 points, the ordinary interval errs far beyond that.
    @Test(arguments: [(0.5, false), (0.1, false), (0.5, true)])
    func peekingErrsNoMoreOftenThanStated(share: Double, isBinary: Bool) {
        let found = rejections(of: 300, length: 2000, share: share, difference: 0, isBinary: isBinary)
        #expect(found.sequential <= 0.05 + 0.05)
        #expect(found.fixed > 0.2, "an ordinary interval that is looked at again and again is wrong")
    }

    @Test func aDifferenceIsFoundTheSoonerTheLargerItIs() {
        let powers = [0.1, 0.2, 0.4].map {
            rejections(of: 60, length: 2000, share: 0.5, difference: $0).sequential
        }
        #expect(powers == powers.sorted())
        #expect(powers[1] > 0.8 && powers[2] == 1)
    }

    @Test func theIntervalIsThatOfTheFormula() throws {
        var comparison = SequentialComparison(effect: 0.5, valuesMin: 2)
        for value in [1.0, 2, 3, 4] { comparison.add(value, to: .first) }
        for value in [2.0, 4, 6, 8] { comparison.add(value, to: .second) }
        comparison.add(.nan, to: .second)
        let interval = try #require(comparison.interval())
        // V = (5/3)/4 + (20/3)/4 = 25/12, τ² = 0.25 · (5 + 20)/6 = 25/24.
        let (v, mixture) = (25.0 / 12, 25.0 / 24)
        let reach = (v * (v + mixture) / mixture * log((v + mixture) / (v * 0.05 * 0.05))).squareRoot()
        #expect(interval.estimate == 2.5)
        #expect(abs(interval.upper - (2.5 + reach)) < 1e-12 && abs(interval.lower - (2.5 - reach)) < 1e-12)
    }

    /// Interval and p-value are two views of one test.
    @Test func theIntervalLeavesOutZeroWhereThePValueIsSmall() throws {
        var random = Normal(state: 3)
        var comparison = SequentialComparison(valuesMin: 20)
        for index in 0..<4000 {
            comparison.add(random.next() + (index % 2 == 0 ? 0.15 : 0), to: index % 2 == 0 ? .second : .first)
            guard let interval = comparison.interval(), let p = comparison.pValue else { continue }
            #expect((interval.lower > 0 || interval.upper < 0) == (p < 0.05))
        }
        #expect(try #require(comparison.pValue) < 0.05)
    }

    /// Against SciPy's `binom.sf(count - 1, total, share)`.
    @Test(arguments: [
        (23, 73, 0.05, 5.851918585741706e-13), (9, 99, 0.01, 7.699134090263502e-07), (3, 10, 0.1, 0.0701908264),
        (200, 1000, 0.18, 0.05568578298336666),
    ])
    func theBinomialTailIsTheLibrarys(count: Int, total: Int, share: Double, expected: Double) {
        #expect(abs(BinomialTail.atLeast(count, of: total, share: share) / expected - 1) < 1e-9)
    }

    @Test func theBinomialTailHasItsEnds() {
        #expect(BinomialTail.atLeast(0, of: 10, share: 0.5) == 1 && BinomialTail.atLeast(1, of: 10, share: 1) == 1)
        #expect(BinomialTail.atLeast(1, of: 10, share: 0) == 0 && BinomialTail.atLeast(11, of: 10, share: 0.5) == 0)
    }

    @Test func nothingIsSaidTooEarlyOrOfValuesThatAreAllTheSame() {
        var comparison = SequentialComparison(valuesMin: 10)
        for _ in 0..<9 { comparison.add(1, to: .first) }
        for _ in 0..<100 { comparison.add(2, to: .second) }
        #expect(comparison.interval() == nil && comparison.pValue == nil)
        for _ in 0..<9 { comparison.add(1, to: .first) }
        #expect(comparison.interval() == nil)
    }

    /// Values of SciPy's `chisquare` and `chi2.sf`.
    @Test func chiSquareIsTheLibrarys() throws {
        let first = try SampleRatio(counts: [480, 520], shares: [0.5, 0.5])
        #expect(abs(first.chiSquare - 1.6) < 1e-12)
        #expect(abs(first.chiSquarePValue - 0.205_903_210_732_068_3) < 1e-12)
        let second = try SampleRatio(counts: [10, 20, 70], shares: [0.2, 0.2, 0.6])
        #expect(abs(second.chiSquare - 6.666_666_666_666_667) < 1e-12)
        #expect(abs(second.chiSquarePValue - 0.035_673_993_347_252_415) < 1e-12)
        let large = try SampleRatio(counts: [9000, 1500], shares: [0.9, 0.1])
        #expect(abs(large.chiSquarePValue / 1.595_468_484_307_069_5e-48 - 1) < 1e-6)
    }

    @Test func lookingAgainDoesNotMakeAMismatch() throws {
        var mismatches = 0
        for experiment in 0..<300 {
            var random = Normal(state: UInt64(experiment) &* 104_729)
            var counts = [0, 0, 0]
            for index in 1...2000 {
                let point = random.uniform()
                counts[point < 0.05 ? 0 : point < 0.3 ? 1 : 2] += 1
                guard index % 20 == 0 else { continue }
                let ratio = try SampleRatio(counts: counts, shares: [0.05, 0.25, 0.7])
                if ratio.sequentialPValue() < 0.05 {
                    mismatches += 1
                    break
                }
            }
        }
        #expect(Double(mismatches) / 300 <= 0.05 + 0.05)
    }

    @Test func aLostShareIsSeen() throws {
        // A tenth of the challenger's units never arrive.
        let ratio = try SampleRatio(counts: [50_000, 45_000], shares: [0.5, 0.5])
        #expect(ratio.sequentialPValue() < 1e-6 && ratio.chiSquarePValue < 1e-6)
        #expect(try SampleRatio(counts: [500, 498], shares: [0.5, 0.5]).sequentialPValue() == 1)
        #expect(try SampleRatio(counts: [0, 0], shares: [0.5, 0.5]).sequentialPValue() == 1)
    }

    @Test func badSharesAreRefused() {
        #expect(throws: StatisticsError.self) { try SampleRatio(counts: [1], shares: [0.5, 0.5]) }
        #expect(throws: StatisticsError.self) { try SampleRatio(counts: [1, 1], shares: [0.5, 0.6]) }
        #expect(throws: StatisticsError.self) { try SampleRatio(counts: [1, -1], shares: [0.5, 0.5]) }
        #expect(throws: StatisticsError.self) { try SampleRatio(counts: [1, 1], shares: [0, 1]) }
    }
}
