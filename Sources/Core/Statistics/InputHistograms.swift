public import PlatformCore

/// The histograms of all inputs of one version in one window, and that of its predictions.
///
/// They count as `InputHistogram` does, bit for bit, in a few arrays for all inputs: adding a row is done some ten thousand
/// times a second, and an input that is an array of its own with edges of its own costs more references than arithmetic.
public struct InputHistograms: Sendable {
    /// Rows per bin of each input, and at last of the predictions.
    private var counts: [Int]
    private var tallies: [Tally]
    private let bins: Bins

    /// What is counted of one input apart from its bins; see `InputHistogram`.
    private struct Tally: Sendable, Hashable {
        var nullCount = 0
        var unseenCount = 0
        var finiteCount = 0
        var sum = 0.0
        var squareSum = 0.0
    }

    /// Where the values of every input belong: the same for all windows of a profile.
    private final class Bins: Sendable {
        struct Input: Sendable {
            /// Codes of a category; -1 for a number.
            let codeCount: Int
            /// The first of its edges, and of its counts.
            let edgeStart: Int
            let countStart: Int
            let countCount: Int
            /// Halvings that find a bin: a number's edges are filled up with infinities to one less than `1 << steps`.
            let steps: Int
            let minimum: Double
            let maximum: Double
            let origin: Double
        }
        let inputs: [Input]
        let edges: [Double]
        let countCount: Int

        init(_ profiles: [InputProfile]) {
            var inputs: [Input] = []
            var edges: [Double] = []
            var countCount = 0
            for profile in profiles {
                let edgeStart = edges.count
                var (codeCount, steps) = (-1, 0)
                switch profile.kind {
                case .number(let own, _):
                    while (1 << steps) <= own.count { steps += 1 }
                    edges += own
                    edges += [Double](repeating: .infinity, count: (1 << steps) - 1 - own.count)
                case .category(let count): codeCount = count
                }
                inputs.append(
                    Input(
                        codeCount: codeCount, edgeStart: edgeStart, countStart: countCount,
                        countCount: profile.counts.count, steps: steps, minimum: profile.minimum,
                        maximum: profile.maximum, origin: profile.mean))
                countCount += profile.counts.count
            }
            (self.inputs, self.edges, self.countCount) = (inputs, edges, countCount)
        }
    }

    /// No rows yet.
    public init(profile: ReferenceProfile) {
        bins = Bins(profile.inputs + [profile.prediction])
        counts = [Int](repeating: 0, count: bins.countCount)
        tallies = [Tally](repeating: Tally(), count: bins.inputs.count)
    }

    /// One per input, in the order of the profile.
    public var inputs: [InputHistogram] { (0..<(tallies.count - 1)).map(histogram) }
    /// That of the predictions.
    public var prediction: InputHistogram { histogram(tallies.count - 1) }

    private func histogram(_ index: Int) -> InputHistogram {
        let (input, tally) = (bins.inputs[index], tallies[index])
        return InputHistogram(
            counts: Array(counts[input.countStart..<(input.countStart + input.countCount)]),
            nullCount: tally.nullCount, unseenCount: tally.unseenCount, finiteCount: tally.finiteCount,
            origin: input.origin, sum: tally.sum, squareSum: tally.squareSum)
    }

    /// Adds one row; a row shorter than the profile leaves the other inputs out, a longer one is cut.
    public mutating func add(_ row: [Double], prediction value: Double) {
        row.withUnsafeBytes { add(doubles: $0, prediction: value) }
    }

    /// Adds one row of doubles as they lie in memory, aligned or not, the little end first.
    ///
    /// Allocates nothing.
    public mutating func add(doubles row: UnsafeRawBufferPointer, prediction value: Double) {
        let last = tallies.count - 1
        let count = min(row.count / 8, last)
        counts.withUnsafeMutableBufferPointer { counts in
            tallies.withUnsafeMutableBufferPointer { tallies in
                bins.inputs.withUnsafeBufferPointer { inputs in
                    bins.edges.withUnsafeBufferPointer { edges in
                        for index in 0..<count {
                            let bits = row.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)
                            Self.add(
                                Double(bitPattern: UInt64(littleEndian: bits)), inputs[index], edges, counts,
                                &tallies[index])
                        }
                        Self.add(value, inputs[last], edges, counts, &tallies[last])
                    }
                }
            }
        }
    }

    @inline(__always)
    private static func add(
        _ value: Double, _ input: Bins.Input, _ edges: UnsafeBufferPointer<Double>,
        _ counts: UnsafeMutableBufferPointer<Int>, _ tally: inout Tally
    ) {
        guard !value.isNaN else {
            tally.nullCount += 1
            return
        }
        if input.codeCount < 0 {
            // The number of edges below the value: bins hold their upper edge. No edge is above another for the
            // processor to guess: what is below is a number, 0 or 1.
            var below = 0
            var step = input.steps
            while step > 0 {
                step -= 1
                let isBelow = edges[input.edgeStart &+ below &+ (1 << step) &- 1] < value
                below &+= (isBelow ? 1 : 0) << step
            }
            counts[input.countStart &+ below] += 1
            if value < input.minimum || value > input.maximum { tally.unseenCount += 1 }
        } else if value >= 0, value < Double(input.codeCount), let code = Int(exactly: value) {
            counts[input.countStart &+ code] += 1
        } else {
            counts[input.countStart &+ input.codeCount] += 1
            tally.unseenCount += 1
        }
        guard value.isFinite else { return }
        let distance = value - input.origin
        tally.finiteCount += 1
        tally.sum += distance
        tally.squareSum += distance * distance
    }

    // MARK: Codec

    /// Appends all histograms as bytes.
    public func encode(to writer: inout ByteWriter) {
        for index in tallies.indices { histogram(index).encode(to: &writer) }
    }

    /// Reads what `encode` wrote, for the same profile.
    public init(from reader: inout ByteReader, profile: ReferenceProfile) throws(DecodingFailure) {
        self.init(profile: profile)
        var counts: [Int] = []
        for (index, profile) in (profile.inputs + [profile.prediction]).enumerated() {
            let histogram = try InputHistogram(from: &reader, profile: profile)
            counts += histogram.counts
            tallies[index] = Tally(
                nullCount: histogram.nullCount, unseenCount: histogram.unseenCount,
                finiteCount: histogram.finiteCount, sum: histogram.sum, squareSum: histogram.squareSum)
        }
        self.counts = counts
    }
}

extension InputHistograms: Equatable {
    /// Whether two histograms of one profile counted the same.
    public static func == (left: InputHistograms, right: InputHistograms) -> Bool {
        left.counts == right.counts && left.tallies == right.tallies
    }
}
