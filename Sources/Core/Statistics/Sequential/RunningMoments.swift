/// Count, mean and variance of values that come one by one.
///
/// - SeeAlso: Welford (1962), *Note on a Method for Calculating Corrected Sums of Squares and Products*.
public struct RunningMoments: Sendable, Hashable, Codable {
    /// Values so far.
    public private(set) var count = 0
    /// Their mean; 0 without values.
    public private(set) var mean = 0.0
    private var squares = 0.0

    /// No values yet.
    public init() {}

    /// Adds a value.
    public mutating func add(_ value: Double) {
        count += 1
        let difference = value - mean
        mean += difference / Double(count)
        squares += difference * (value - mean)
    }

    /// The sample variance; 0 with fewer than two values.
    public var variance: Double { count > 1 ? max(0, squares / Double(count - 1)) : 0 }
}
