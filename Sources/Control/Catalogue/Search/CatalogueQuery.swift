public import PlatformCore

/// What somebody types to find something: words, and conditions such as `owner:ops kind:feature tag:pii column:dep_delay`.
public struct CatalogueQuery: Sendable, Hashable {
    /// Lower-case words; all of them must be found.
    public private(set) var words: [String] = []
    /// Owners, any of which will do; lower case, as below.
    public private(set) var owners: [String] = []
    /// Kinds, any of which will do.
    public private(set) var kinds: [CatalogueItem.Kind] = []
    /// Tags that it must all have.
    public private(set) var tags: [String] = []
    /// Columns that it must all be or read.
    public private(set) var columns: [String] = []

    /// Most bytes of a query.
    public static let byteCountMax = 1000
    /// Most words and conditions.
    public static let partCountMax = 32

    /// Reads a query; a value with blanks stands in double quotes, `owner:"flight ops"`.
    /// - Throws: `PlatformError` (`invalidInput`) that names the condition that is not known, or the limit.
    public init(_ text: String) throws(PlatformError) {
        guard text.utf8.count <= Self.byteCountMax else {
            throw PlatformError(.invalidInput, "query", "longer than \(Self.byteCountMax) bytes")
        }
        let parts = Self.parts(text)
        guard parts.count <= Self.partCountMax else {
            throw PlatformError(.invalidInput, "query", "more than \(Self.partCountMax) words")
        }
        for part in parts {
            guard let colon = part.firstIndex(of: ":"), colon != part.startIndex else {
                words.append(part)
                continue
            }
            let (key, value) = (String(part[..<colon]), String(part[part.index(after: colon)...]))
            guard !value.isEmpty else { continue }  // somebody is still typing
            switch key {
            case "owner": owners.append(value)
            case "tag": tags.append(value)
            case "column": columns.append(value)
            case "kind":
                guard let kind = CatalogueItem.Kind(rawValue: value) else {
                    let known = CatalogueItem.Kind.allCases.map(\.rawValue)
                    let near = nearestName(to: value, among: known)
                    throw PlatformError(
                        .invalidInput, "query",
                        "no kind is called '\(value.prefix(40))'; known: \(known.joined(separator: ", "))"
                            + (near.map { "; did you mean '\($0)'?" } ?? ""))
                }
                kinds.append(kind)
            default:
                let near = nearestName(to: key, among: ["owner", "tag", "column", "kind"])
                throw PlatformError(
                    .invalidInput, "query",
                    "no condition is called '\(key.prefix(40))'; known: owner, tag, column, kind"
                        + (near.map { "; did you mean '\($0):'?" } ?? ""))
            }
        }
    }

    private static func parts(_ text: String) -> [String] {
        var parts: [String] = []
        var part = ""
        var isQuoted = false
        for character in text.lowercased() {
            if character == "\"" {
                isQuoted.toggle()
            } else if character.isWhitespace, !isQuoted {
                if !part.isEmpty { parts.append(part) }
                part = ""
            } else {
                part.append(character)
            }
        }
        if !part.isEmpty { parts.append(part) }
        return parts
    }
}
