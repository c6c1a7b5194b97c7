/// One input (or the prediction) as it was in the training slice: bins fixed for good, and the rows in each.
///
/// A number's bins are cut at quantiles of the training values and hold their upper edge, `(previous edge, edge]`; the
/// fine bins serve the Kolmogorov–Smirnov distance, groups of them the population stability index. A value that holds
/// much of the mass (most delays are 0) gets a bin of its own. A category's bins are its codes, and one for codes never
/// seen in training.
public struct InputProfile: Sendable, Hashable {
    /// What the values are.
    public enum Kind: Sendable, Hashable {
        /// Numbers, binned at ascending `edges`; fine bin `i` belongs to the drift bin `driftBins[i]`.
        case number(edges: [Double], driftBins: [Int])
        /// Codes from 0 up to, not including, `codeCount`.
        case category(codeCount: Int)
    }

    /// The input's name.
    public let name: String
    /// What the values are, with the bins.
    public let kind: Kind
    /// Training rows per bin; for a category one per code and a last one, 0, for unknown codes.
    public let counts: [Int]
    /// Training rows without a value.
    public let nullCount: Int
    /// Mean of the finite values; 0 if there are none.
    ///
    /// Of a category it is of no use.
    public let mean: Double
    /// Variance (divided by the number of rows) of the finite values.
    public let variance: Double
    /// Smallest finite value; 0 if there are none.
    public let minimum: Double
    /// Largest finite value; 0 if there are none.
    public let maximum: Double

    /// For a category the drift bin of each counting bin; for numbers the same as in `kind`.
    let driftBinOfBin: [Int]
    let driftBinCount: Int
    let driftCounts: [Int]

    /// Drift bins that a number gets unless asked otherwise.
    public static let driftBinCountDefault = 10
    /// Fine bins that a number gets.
    public static let fineBinCount = 64
    /// Most codes a category may have.
    public static let codeCountMax = 1 << 20
    /// Codes of a category that are drift bins of their own; the rarer ones share one.
    static let commonCodeCount = 20
    /// Values that are sorted to find the edges; the rows per bin are counted over all values.
    static let edgeSampleCount = 1 << 16

    /// Training rows, those without a value included.
    public var rowCount: Int { counts.reduce(nullCount, +) }

    /// Share of training rows without a value; 0 without rows.
    public var nullRate: Double { rowCount == 0 ? 0 : Double(nullCount) / Double(rowCount) }

    /// Training rows per drift bin, the last bin being the rows without a value.
    public var driftBinCounts: [Int] { driftCounts + [nullCount] }

    init(
        name: String, kind: Kind, counts: [Int], nullCount: Int, mean: Double, variance: Double, minimum: Double,
        maximum: Double
    ) {
        self.name = name
        self.kind = kind
        self.counts = counts
        self.nullCount = nullCount
        self.mean = mean
        self.variance = variance
        self.minimum = minimum
        self.maximum = maximum
        switch kind {
        case .number(_, let driftBins):
            driftBinOfBin = driftBins
        case .category(let codeCount):
            let common = (0..<codeCount).sorted { counts[$0] != counts[$1] ? counts[$0] > counts[$1] : $0 < $1 }
                .prefix(Self.commonCodeCount).sorted()
            var bins = [Int](repeating: common.count, count: codeCount + 1)
            for (bin, code) in common.enumerated() { bins[code] = bin }
            bins[codeCount] = common.count + 1
            driftBinOfBin = bins
        }
        driftBinCount = (driftBinOfBin.max() ?? 0) + 1
        driftCounts = Self.grouped(counts, by: driftBinOfBin, into: driftBinCount)
    }

    static func grouped(_ counts: [Int], by bins: [Int], into count: Int) -> [Int] {
        var grouped = [Int](repeating: 0, count: count)
        for (bin, rows) in zip(bins, counts) { grouped[bin] += rows }
        return grouped
    }

    // MARK: Building

    /// The profile of a numeric column; NaN is a missing value.
    ///
    /// - Complexity: O(n log bins); sorts a fixed sample of at most 65,536 values.
    public init(
        name: String, numbers values: [Double], driftBinCount: Int = driftBinCountDefault
    ) {
        precondition(driftBinCount > 0, "a profile has a bin")
        var (count, sum, minimum, maximum) = (0, 0.0, Double.infinity, -Double.infinity)
        for value in values where value.isFinite {
            count += 1
            sum += value
            minimum = min(minimum, value)
            maximum = max(maximum, value)
        }
        if count == 0 { (minimum, maximum) = (0, 0) }
        let mean = count == 0 ? 0 : sum / Double(count)
        let (edges, driftBins) = Self.edges(
            of: Self.sortedSample(values, finiteCount: count), minimum: minimum, driftBinCount: driftBinCount)
        let empty = InputProfile(
            name: name, kind: .number(edges: edges, driftBins: driftBins),
            counts: [Int](repeating: 0, count: edges.count + 1), nullCount: 0, mean: mean, variance: 0,
            minimum: minimum, maximum: maximum)
        var histogram = InputHistogram(profile: empty)
        histogram.add(contentsOf: values, profile: empty)
        self.init(
            name: name, kind: empty.kind, counts: histogram.counts, nullCount: histogram.nullCount, mean: mean,
            variance: histogram.variance, minimum: minimum, maximum: maximum)
    }

    /// The profile of a column of codes; NaN is a missing value, what is no code counts as unknown.
    public init(name: String, codes values: [Double], codeCount: Int) {
        precondition(0...Self.codeCountMax ~= codeCount, "a category has at most a million codes")
        let empty = InputProfile(
            name: name, kind: .category(codeCount: codeCount), counts: [Int](repeating: 0, count: codeCount + 1),
            nullCount: 0, mean: 0, variance: 0, minimum: 0, maximum: 0)
        var histogram = InputHistogram(profile: empty)
        histogram.add(contentsOf: values, profile: empty)
        let finite = values.lazy.filter(\.isFinite)
        self.init(
            name: name, kind: empty.kind, counts: histogram.counts, nullCount: histogram.nullCount,
            mean: histogram.mean, variance: histogram.variance, minimum: finite.min() ?? 0, maximum: finite.max() ?? 0)
    }

    /// The finite values in order, or one drawn from each of 65,536 equal stretches of the column.
    private static func sortedSample(_ values: [Double], finiteCount: Int) -> [Double] {
        if finiteCount <= edgeSampleCount { return values.filter(\.isFinite).sorted() }
        var generator = SeededGenerator(seed: UInt64(finiteCount))
        var sample: [Double] = []
        sample.reserveCapacity(edgeSampleCount)
        for stretch in 0..<edgeSampleCount {
            let from = stretch * values.count / edgeSampleCount
            let to = (stretch + 1) * values.count / edgeSampleCount
            let value = values[from + generator.index(below: to - from)]
            if value.isFinite { sample.append(value) }
        }
        sample.sort()
        return sample
    }

    /// Quantile edges, distinct and below the largest value.
    ///
    /// Where one value spans two quantiles, an edge below it and
    /// one at it give it a bin of its own.
    private static func edges(
        of sorted: [Double], minimum: Double, driftBinCount: Int
    ) -> (edges: [Double], driftBins: [Int]) {
        guard let last = sorted.last, let first = sorted.first else { return ([], [0]) }
        if first == last { return ([first.nextDown, first], [0, 1, 2]) }
        func quantileEdges(_ count: Int) -> Set<Double> {
            var edges: Set<Double> = []
            var previous = -Double.infinity
            for step in 1..<max(2, count) {
                // The smallest value with at least this share of rows at or below it.
                let place = max(0, (step * sorted.count + count - 1) / count - 1)
                let value = sorted[min(place, sorted.count - 1)]
                if value == previous {
                    var low = sorted.startIndex
                    var high = place
                    while low < high {
                        let middle = (low + high) / 2
                        if sorted[middle] < value { low = middle + 1 } else { high = middle }
                    }
                    if low > 0 { edges.insert(sorted[low - 1]) }
                }
                edges.insert(value)
                previous = value
            }
            edges.remove(last)
            return edges
        }
        let drift = quantileEdges(driftBinCount)
        let edges = quantileEdges(fineBinCount).union(drift).sorted()
        var driftBins = [0]
        for edge in edges { driftBins.append(driftBins[driftBins.count - 1] + (drift.contains(edge) ? 1 : 0)) }
        return (edges, driftBins)
    }
}

extension InputProfile: Codable {
    private enum CodingKeys: String, CodingKey {
        case name, edges, codeCount, counts, nullCount, mean, variance, minimum, maximum
        case driftBins
    }

    /// Reads a profile and checks that its parts fit together.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let counts = try container.decode([Int].self, forKey: .counts)
        let nullCount = try container.decode(Int.self, forKey: .nullCount)
        let kind: Kind
        let fits: Bool
        if let codeCount = try container.decodeIfPresent(Int.self, forKey: .codeCount) {
            kind = .category(codeCount: codeCount)
            fits = 0...Self.codeCountMax ~= codeCount && counts.count == codeCount + 1
        } else {
            let edges = try container.decode([Double].self, forKey: .edges)
            let bins = try container.decode([Int].self, forKey: .driftBins)
            kind = .number(edges: edges, driftBins: bins)
            fits =
                edges.allSatisfy(\.isFinite) && zip(edges, edges.dropFirst()).allSatisfy { $0 < $1 }
                && counts.count == edges.count + 1 && bins.count == counts.count && bins.first == 0
                && zip(bins, bins.dropFirst()).allSatisfy { $1 == $0 || $0 < Int.max && $1 == $0 + 1 }
        }
        guard fits, (counts + [nullCount]).allSatisfy({ 0...(1 << 40) ~= $0 }) else {
            throw DecodingError.dataCorruptedError(
                forKey: .counts, in: container,
                debugDescription: "the bins and counts of the profile do not fit together")
        }
        self.init(
            name: try container.decode(String.self, forKey: .name), kind: kind, counts: counts, nullCount: nullCount,
            mean: try container.decode(Double.self, forKey: .mean),
            variance: try container.decode(Double.self, forKey: .variance),
            minimum: try container.decode(Double.self, forKey: .minimum),
            maximum: try container.decode(Double.self, forKey: .maximum))
    }

    /// Writes the profile; what follows from its counts is left out.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        switch kind {
        case .number(let edges, let driftBins):
            try container.encode(edges, forKey: .edges)
            try container.encode(driftBins, forKey: .driftBins)
        case .category(let codeCount): try container.encode(codeCount, forKey: .codeCount)
        }
        try container.encode(counts, forKey: .counts)
        try container.encode(nullCount, forKey: .nullCount)
        try container.encode(mean, forKey: .mean)
        try container.encode(variance, forKey: .variance)
        try container.encode(minimum, forKey: .minimum)
        try container.encode(maximum, forKey: .maximum)
    }
}
