import Foundation

/// Compares the means of two streams of values and may be asked after every value.
///
/// An ordinary interval that is looked at again and again is wrong sooner or later in almost every experiment without a
/// difference. The interval here holds the true difference at *all* times together with the stated confidence, so whoever
/// stops as soon as it leaves 0 errs no more often than stated.
///
/// It is the mixture sequential probability ratio test with a normal mixture (Robbins 1970) in the two-sample form of
/// Johari, Koomen, Pekelis & Walsh (2017), *Peeking at A/B Tests*: with `V = s₁²/n₁ + s₂²/n₂` and the mixture's variance
/// `τ²` the interval is `δ̂ ± √(V (V + τ²)/τ² · ln((V + τ²)/(V α²)))`. Variances are estimated, so the promise is
/// asymptotic (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, *Time-uniform central limit theory*): nothing is said
/// before both sides have `valuesMin` values.
public struct SequentialComparison: Sendable, Hashable, Codable {
    /// The side a value belongs to.
    public enum Side: Sendable, Codable { case first, second }

    /// Values of the first side, the champion.
    public private(set) var first = RunningMoments()
    /// Values of the second side, the challenger.
    public private(set) var second = RunningMoments()
    /// The difference, in standard deviations of a value, for which the interval is narrowest: about the size that is
    /// looked for.
    ///
    /// Any choice is valid; a bad one needs more values.
    public let effect: Double
    /// Values that each side needs before anything is said.
    public let valuesMin: Int

    /// No values yet.
    public init(effect: Double = 0.1, valuesMin: Int = 100) {
        self.effect = effect > 0 && effect.isFinite ? effect : 0.1
        self.valuesMin = max(2, valuesMin)
    }

    /// Adds a value; one that is no number is left out.
    public mutating func add(_ value: Double, to side: Side) {
        guard value.isFinite else { return }
        switch side {
        case .first: first.add(value)
        case .second: second.add(value)
        }
    }

    /// Variance of the difference of the means, and of the mixture; `nil` while nothing can be said.
    private var variances: (difference: Double, mixture: Double)? {
        guard first.count >= valuesMin, second.count >= valuesMin else { return nil }
        let (left, right) = (Double(first.count), Double(second.count))
        let pooled = (first.variance * (left - 1) + second.variance * (right - 1)) / (left + right - 2)
        let difference = first.variance / left + second.variance / right
        guard difference > 0, pooled > 0 else { return nil }
        return (difference, effect * effect * pooled)
    }

    /// The difference of the means, second − first, with an interval that is valid however often it is asked for.
    ///
    /// `nil` before both sides have enough values, and where no value differs from another.
    public func interval(confidence: Double = 0.95) -> ConfidenceInterval? {
        guard confidence > 0, confidence < 1, let (v, mixture) = variances else { return nil }
        let alpha = 1 - confidence
        let reach = (v * (v + mixture) / mixture * log((v + mixture) / (v * alpha * alpha))).squareRoot()
        let estimate = second.mean - first.mean
        return ConfidenceInterval(
            estimate: estimate, lower: estimate - reach, upper: estimate + reach, confidence: confidence)
    }

    /// How strongly the values now speak against "no difference": the smallest `α` whose interval leaves out 0.
    ///
    /// An always-valid p-value: to be taken below `α` at any time has a chance of at most `α` without a difference. `nil`
    /// as for `interval`.
    public var pValue: Double? {
        guard let (v, mixture) = variances else { return nil }
        let estimate = second.mean - first.mean
        let logRatio =
            log(v / (v + mixture)) / 2 + mixture * estimate * estimate / (2 * v * (v + mixture))
        return min(1, exp(-logRatio))
    }
}
