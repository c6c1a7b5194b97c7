public import Definitions
public import PlatformCore

/// What the values of one feature look like.
public struct ValueSummary: Sendable, Hashable {
    /// One bar of a histogram.
    public struct Bin: Sendable, Hashable {
        /// Smallest value that falls in.
        public let from: Double
        /// Values below it fall in; the last bin holds this one too.
        public let to: Double
        /// Values.
        public let count: Int
    }
    /// How often one value occurs.
    public struct Frequency: Sendable, Hashable {
        /// The value.
        public let value: CellValue
        /// Times.
        public let count: Int
    }

    /// Bars of a histogram.
    public static let binCount = 12
    /// Most values listed with their frequency.
    public static let frequencyCountMax = 10

    /// The feature.
    public let feature: String
    /// Type of its values.
    public let type: ColumnType
    /// Values, missing ones included.
    public let count: Int
    /// Missing values.
    public let nullCount: Int
    /// Different values, null apart.
    public let distinctCount: Int
    /// Smallest; `nil` for what is no number, and where there is none.
    public let minimum: Double?
    /// Largest.
    public let maximum: Double?
    /// Mean.
    public let mean: Double?
    /// Standard deviation of the values as a population.
    public let standardDeviation: Double?
    /// Half of the values are at most this; the lower one of two.
    public let median: Double?
    /// 99 of 100 values are at most this.
    public let percentile99: Double?
    /// Bars of equal width from the smallest to the largest; empty where all values are equal, and for no numbers.
    public let histogram: [Bin]
    /// The most frequent values, the most frequent first; for texts and truth values, and for numbers of a few values.
    public let frequencies: [Frequency]

    /// Summarizes the values of a feature.
    public init(of feature: FeatureDefinition, _ values: [CellValue]) {
        self.init(feature: feature.name, type: feature.type, values)
    }

    init(feature: String, type: ColumnType, _ values: [CellValue]) {
        self.feature = feature
        self.type = type
        count = values.count
        let present = values.filter { !$0.isNull }
        nullCount = count - present.count
        var counts: [CellValue: Int] = [:]
        for value in present { counts[value, default: 0] += 1 }
        distinctCount = counts.count
        let isNumber = type == .float64 || type == .int64 || type == .timestamp
        let numbers = isNumber ? present.compactMap(\.number).filter(\.isFinite).sorted() : []
        minimum = numbers.first
        maximum = numbers.last
        let mean = numbers.isEmpty ? nil : numbers.reduce(0) { $0 + $1 / Double(numbers.count) }
        self.mean = mean
        standardDeviation = mean.map { mean in
            numbers.reduce(0) { $0 + ($1 - mean) * ($1 - mean) / Double(numbers.count) }.squareRoot()
        }
        func quantile(_ share: Double) -> Double? {
            numbers.isEmpty ? nil : numbers[min(numbers.count - 1, Int(share * Double(numbers.count - 1)))]
        }
        median = quantile(0.5)
        percentile99 = quantile(0.99)
        histogram = Self.bins(numbers)
        let isListed = type == .string || type == .bool || (isNumber && counts.count <= Self.frequencyCountMax)
        frequencies =
            isListed
            ? counts.sorted { $0.value != $1.value ? $0.value > $1.value : Self.text($0.key) < Self.text($1.key) }
                .prefix(Self.frequencyCountMax).map { Frequency(value: $0.key, count: $0.value) }
            : []
    }

    private static func text(_ value: CellValue) -> String { value.keyText ?? "" }

    /// Bars of equal width over rising numbers.
    private static func bins(_ numbers: [Double]) -> [Bin] {
        guard let low = numbers.first, let high = numbers.last, low < high else { return [] }
        let width = high / Double(binCount) - low / Double(binCount)
        guard width > 0, width.isFinite else { return [] }
        var counts = [Int](repeating: 0, count: binCount)
        for number in numbers { counts[max(0, min(binCount - 1, Int((number / width) - (low / width))))] += 1 }
        return counts.enumerated().map { index, count in
            Bin(
                from: low + width * Double(index), to: index == binCount - 1 ? high : low + width * Double(index + 1),
                count: count)
        }
    }
}
