public import PlatformCore

/// Rows of a watched window on the bins of an `InputProfile`; two of the same profile merge.
public struct InputHistogram: Sendable, Hashable, Codable {
    /// Rows per bin of the profile.
    public private(set) var counts: [Int]
    /// Rows without a value.
    public private(set) var nullCount = 0
    /// Rows with a number below the smallest or above the largest of training, or with an unknown code.
    public private(set) var unseenCount = 0
    private(set) var finiteCount = 0
    /// Finite values are summed relative to this, so that a large mean does not eat the variance.
    let origin: Double
    private(set) var sum = 0.0
    private(set) var squareSum = 0.0

    /// No rows yet.
    public init(profile: InputProfile) {
        counts = [Int](repeating: 0, count: profile.counts.count)
        origin = profile.mean
    }

    /// Puts together what was counted elsewhere.
    init(
        counts: [Int], nullCount: Int, unseenCount: Int, finiteCount: Int, origin: Double, sum: Double,
        squareSum: Double
    ) {
        (self.counts, self.nullCount, self.unseenCount) = (counts, nullCount, unseenCount)
        (self.finiteCount, self.origin, self.sum, self.squareSum) = (finiteCount, origin, sum, squareSum)
    }

    /// All rows, those without a value included.
    public var rowCount: Int { counts.reduce(nullCount, +) }
    /// Share of rows without a value; 0 without rows.
    public var nullRate: Double { rowCount == 0 ? 0 : Double(nullCount) / Double(rowCount) }
    /// Share of rows with a value outside of what training saw; 0 without rows.
    public var unseenShare: Double { rowCount == 0 ? 0 : Double(unseenCount) / Double(rowCount) }
    /// Mean of the finite values; 0 if there are none.
    public var mean: Double { finiteCount == 0 ? 0 : origin + sum / Double(finiteCount) }
    /// Variance (divided by the number of rows) of the finite values.
    public var variance: Double {
        guard finiteCount > 0 else { return 0 }
        let shift = sum / Double(finiteCount)
        return max(0, squareSum / Double(finiteCount) - shift * shift)
    }
    /// Whether there is a finite value.
    public var hasValues: Bool { finiteCount > 0 }

    /// Adds one value; NaN is a missing one.
    ///
    /// Allocates nothing.
    ///
    /// `profile` is the one that the histogram was made for.
    @inline(__always)
    public mutating func add(_ value: Double, profile: InputProfile) {
        guard !value.isNaN else {
            nullCount += 1
            return
        }
        switch profile.kind {
        case .number(let edges, _):
            // The number of edges below the value: bins hold their upper edge.
            counts[edges.withUnsafeBufferPointer { Self.edges($0, below: value) }] += 1
            if value < profile.minimum || value > profile.maximum { unseenCount += 1 }
        case .category(let codeCount):
            if value >= 0, value < Double(codeCount), let code = Int(exactly: value) {
                counts[code] += 1
            } else {
                counts[codeCount] += 1
                unseenCount += 1
            }
        }
        guard value.isFinite else { return }
        let distance = value - origin
        finiteCount += 1
        sum += distance
        squareSum += distance * distance
    }

    /// Adds a column.
    public mutating func add(contentsOf values: [Double], profile: InputProfile) {
        for value in values { add(value, profile: profile) }
    }

    @inline(__always)
    private static func edges(_ edges: UnsafeBufferPointer<Double>, below value: Double) -> Int {
        var (base, length) = (0, edges.count)
        while length > 0 {
            let half = length / 2
            let goesOn = edges[base + half] < value
            base = goesOn ? base + half + 1 : base
            length = goesOn ? length - half - 1 : half
        }
        return base
    }

    /// Adds the rows of another histogram of the same profile.
    public mutating func merge(_ other: InputHistogram) {
        precondition(counts.count == other.counts.count && origin == other.origin, "histograms of one profile merge")
        for bin in counts.indices { counts[bin] += other.counts[bin] }
        nullCount += other.nullCount
        unseenCount += other.unseenCount
        finiteCount += other.finiteCount
        sum += other.sum
        squareSum += other.squareSum
    }

    // MARK: Drift

    /// PSI against the profile, over its drift bins; missing values are a bin of their own.
    /// - Throws: `emptyInput` if either side has no rows.
    public func populationStabilityIndex(against profile: InputProfile) throws(StatisticsError) -> Double {
        try DriftMeasure.populationStabilityIndex(reference: profile.driftBinCounts, current: driftBinCounts(profile))
    }

    /// Jensen–Shannon divergence against the profile, over the same bins as PSI.
    /// - Throws: `emptyInput` if either side has no rows.
    public func jensenShannon(against profile: InputProfile) throws(StatisticsError) -> Double {
        try DriftMeasure.jensenShannon(reference: profile.driftBinCounts, current: driftBinCounts(profile))
    }

    /// Kolmogorov–Smirnov distance of the present values from those of the profile, over its fine bins.
    /// - Throws: `emptyInput` if either side has no values, `undefined` for a category, which has no order.
    public func kolmogorovSmirnov(against profile: InputProfile) throws(StatisticsError) -> Double {
        guard case .number = profile.kind else { throw .undefined("a category has no order") }
        return try DriftMeasure.kolmogorovSmirnov(reference: profile.counts, current: counts)
    }

    private func driftBinCounts(_ profile: InputProfile) -> [Int] {
        InputProfile.grouped(counts, by: profile.driftBinOfBin, into: profile.driftBinCount) + [nullCount]
    }

    // MARK: Codec

    /// Appends the histogram as bytes.
    public func encode(to writer: inout ByteWriter) {
        writer.write(varint: UInt64(counts.count))
        for count in counts + [nullCount, unseenCount, finiteCount] { writer.write(varint: UInt64(count)) }
        writer.write(origin)
        writer.write(sum)
        writer.write(squareSum)
    }

    /// Reads what `encode` wrote, for the same profile.
    public init(from reader: inout ByteReader, profile: InputProfile) throws(DecodingFailure) {
        guard try reader.count() == profile.counts.count else {
            throw DecodingFailure("the histogram before \(reader.position) is of another profile")
        }
        var numbers: [Int] = []
        for _ in 0..<(profile.counts.count + 3) {
            let number = try reader.varint()
            guard number <= 1 << 40 else { throw DecodingFailure("a count before \(reader.position) is too large") }
            numbers.append(Int(number))
        }
        counts = Array(numbers.prefix(profile.counts.count))
        nullCount = numbers[numbers.count - 3]
        unseenCount = numbers[numbers.count - 2]
        finiteCount = numbers[numbers.count - 1]
        origin = try reader.double()
        guard origin == profile.mean else {
            throw DecodingFailure("the histogram before \(reader.position) is of another profile")
        }
        sum = try reader.double()
        squareSum = try reader.double()
    }
}
