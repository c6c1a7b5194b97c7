import RuntimePorts

/// The categories of a feature in the order of their codes, as a model file names them.
enum CategoryNames: Sendable, Hashable {
    case texts([String])
    /// Numbers as texts, whole ones without a fraction: a `Float` could not tell large ones apart.
    case numbers([String])
    /// Texts that may be cut at the wrong places.
    case joined(JoinedNames)

    /// The names, if they are texts that can be read without knowing what they could be.
    var texts: [String]? {
        guard case .texts(let texts) = self else { return nil }
        return texts
    }

    /// A number as it is compared by: `3E0`, `3.0` and `3` are one.
    static func word(ofNumber text: String) -> String {
        if Int64(text) != nil { return text }
        guard let number = Double(text) else { return text }
        return Int64(exactly: number).map(String.init) ?? "\(Float(number))"
    }

    /// By code, the name; `nil` for one that is none of the feature's values.
    /// - Parameter values: the texts that the feature can have.
    /// - Throws: `unsupportedModel` where it cannot be said which is which.
    func words(among values: [String]) throws(ModelError) -> [String?] {
        switch self {
        case .texts(let words), .numbers(let words): words
        case .joined(let joined): try joined.words(among: values)
        }
    }
}

/// Names that are not all ASCII, as XGBoost writes them: their bytes in a row, and the places where each begins.
///
/// XGBoost's Python package (3.1, 3.2) counts those places in characters, though it writes bytes, and leaves as many bytes out at the end
/// as the count falls short of. It reads what it is asked about in the same way, so that it is right by itself.
/// - SeeAlso: `npstr_to_arrow_strarr` in `xgboost/_data_utils.py`.
struct JoinedNames: Sendable, Hashable {
    /// Where each name begins, and the end.
    let offsets: [Int]
    let bytes: [UInt8]

    func words(among values: [String]) throws(ModelError) -> [String?] {
        // A version that counts bytes writes whole names.
        let known = Set(values)
        if let words = cutAtBytes, words.allSatisfy(known.contains) { return words }
        guard let words = cutAtCharacters(values) else {
            throw ModelError(
                .unsupportedModel,
                "XGBoost cut the names of its categories at the wrong places, since not all are ASCII, and they cannot be told "
                    + "from the feature's values: let these be the categories that it was trained with, no more and no fewer, "
                    + "or train with ASCII names")
        }
        return words
    }

    private var cutAtBytes: [String]? {
        var words: [String] = []
        for (start, end) in zip(offsets, offsets.dropFirst()) {
            guard let word = String(validating: bytes[start..<end], as: UTF8.self) else { return nil }
            words.append(word)
        }
        return Set(words).count == words.count ? words : nil
    }

    /// The names as values that have the length and the beginning of each; `nil` unless that is one way alone.
    private func cutAtCharacters(_ values: [String]) -> [String]? {
        let lengths = zip(offsets, offsets.dropFirst()).map { $1 - $0 }
        // Only where both are the same set, what was left out is what is left over.
        var left = Set(values)
        guard lengths.count == values.count, left.count == values.count else { return nil }
        var words: [String] = []
        var rest = bytes[...]
        for length in lengths {
            var (word, count, end) = (String.UnicodeScalarView(), 0, rest.startIndex)
            while count < length, end < rest.endIndex {
                let size = max(1, min(4, (~rest[end]).leadingZeroBitCount))
                guard rest.endIndex - end >= size,
                    let scalar = String(validating: rest[end..<(end + size)], as: UTF8.self)?.unicodeScalars.first
                else { break }
                word.append(scalar)
                count += 1
                end += size
            }
            if count == length {
                guard let value = left.remove(String(word)) else { return nil }
                words.append(value)
                rest = rest[end...]
            } else {
                let candidates = left.filter { $0.unicodeScalars.count == length && $0.utf8.starts(with: rest) }
                guard candidates.count == 1, let value = candidates.first else { return nil }
                left.remove(value)
                words.append(value)
                rest = rest[rest.endIndex...]
            }
        }
        return words
    }
}
