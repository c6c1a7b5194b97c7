/// Why a measure has no value.
///
/// A measure that is undefined throws one of these; it never gives NaN.
public enum StatisticsError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Two lists that belong together differ in length.
    case shapeMismatch(Int, Int)
    /// There are no rows.
    case emptyInput
    /// The measure needs positive and negative outcomes and only one kind is there.
    case oneClassOnly
    /// An outcome of a binary measure is neither 0 nor 1.
    case outcomeNotBinary(Double)
    /// An outcome is the number of no class that the model knows.
    case unknownClass(Double, classCount: Int)
    /// A relevance is below 0.
    case negativeRelevance(Double)
    /// The measure is defined for rows of one output only.
    case needsOneOutput(Int)
    /// A prediction is outside 0…1 where a probability is needed.
    case notAProbability(Double)
    /// A prediction or outcome is NaN or infinite.
    case notFinite
    /// The measure divides by a count that is zero; the text says which.
    case undefined(String)
    /// A bin is empty on one side and no pseudo count was given.
    case emptyBin(Int)

    /// The reason in one line.
    public var description: String {
        switch self {
        case .shapeMismatch(let left, let right): "\(left) values stand against \(right)"
        case .emptyInput: "there are no rows"
        case .oneClassOnly: "all outcomes are of one class"
        case .outcomeNotBinary(let value): "the outcome \(value) is neither 0 nor 1"
        case .unknownClass(let value, let count): "the outcome \(value) is none of the classes 0 to \(count - 1)"
        case .negativeRelevance(let value): "the relevance \(value) is below 0"
        case .needsOneOutput(let count): "the measure is of one output, not of \(count)"
        case .notAProbability(let value): "the prediction \(value) is no probability"
        case .notFinite: "a prediction or outcome is not finite"
        case .undefined(let reason): reason
        case .emptyBin(let bin): "bin \(bin) is empty on one side"
        }
    }
}

/// A small seeded generator (SplitMix64): the same seed gives the same numbers on every machine and Swift version.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    /// Starts from `seed`.
    public init(seed: UInt64) { state = seed }

    /// The next 64 bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// A whole number from 0 up to, not including, `count`; its bias is below `count` / 2⁶⁴.
    public mutating func index(below count: Int) -> Int {
        Int(truncatingIfNeeded: next().multipliedFullWidth(by: UInt64(count)).high)
    }
}
