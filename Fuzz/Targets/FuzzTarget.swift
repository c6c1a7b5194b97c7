#if DEBUG || FUZZED  // it looks into modules, which a release build does not allow

/// A reader of bytes from outside, as something to throw bytes at.
///
/// `run` returns for every input: a typed error is an answer like any other. A trap, a hang or growth without bound is a
/// fault, and so is a promise that does not hold, which `run` states as a precondition.
public struct FuzzTarget: Sendable {
    /// What it is called on the command line, and the name of its folder of inputs.
    public let name: String
    /// Largest input worth trying.
    public let byteCountMax: Int
    /// Words that the format knows, for the mutations.
    public let words: [String]
    /// Inputs that the reader accepts, to begin with.
    public let seeds: [[UInt8]]
    /// Reads one input.
    public let run: @Sendable ([UInt8]) -> Void

    init(
        _ name: String, byteCountMax: Int = 4096, words: [String] = [], seeds: [[UInt8]],
        run: @escaping @Sendable ([UInt8]) -> Void
    ) {
        self.name = name
        self.byteCountMax = byteCountMax
        self.words = words
        self.seeds = seeds
        self.run = run
    }

    /// Every reader.
    public static let all: [FuzzTarget] = requests + wire + serving + tracking + models + texts + tables + storage
}

extension [UInt8] {
    /// The bytes of a text.
    static func text(_ text: String) -> [UInt8] { Array(text.utf8) }
}

/// Bytes written in hexadecimal digits; anything else between them is passed over.
func hexadecimal(_ text: String) -> [UInt8] {
    let digits = text.compactMap(\.hexDigitValue)
    return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

#endif
