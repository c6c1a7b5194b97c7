import PlatformCore

/// What a tag of an imported thing says of the last import: of which state of the source it was, and what came with it.
struct ImportedState: Sendable, Hashable {
    /// Longest text of a tag that is kept whole everywhere.
    private static let byteCountMax = 4000

    /// SHA-256 of what the source said; empty for what was never imported.
    let state: String
    /// Names of what may go again with the source: tags, aliases.
    let names: [String]

    init(_ state: String, names: [String]) {
        self.state = state
        self.names = names.sorted()
    }

    /// Reads a tag.
    init(_ text: String?) {
        let parts = (text ?? "").split(separator: " ", maxSplits: 1).map(String.init)
        state = parts.first ?? ""
        names =
            parts.count < 2 ? [] : ((try? JSONValue.parse(parts[1]))?.arrayValue ?? []).compactMap(\.stringValue)
    }

    /// The tag: without the names where they are too many, and nothing is taken away then.
    var text: String {
        let all = "\(state) \(JSONValue.array(names.map(JSONValue.string)).text)"
        return all.utf8.count <= Self.byteCountMax ? all : state
    }
}
