public import Definitions
import PlatformCore

/// Everything defined, ready to be searched: made anew from each revision of the definitions, never changed.
///
/// A search looks at every item once, in bytes: at 10,000 features that is a few milliseconds, and there is no second
/// structure that could disagree with the definitions.
public struct CatalogueIndex: Sendable {
    /// One thing that was found.
    public struct Hit: Sendable, Hashable {
        /// The thing.
        public let item: CatalogueItem
        /// The higher the better; what it is made of is not promised.
        public let score: Int
    }
    /// What a search found.
    public struct Answer: Sendable {
        /// The best hits, best first; equal ones by kind and name.
        public let hits: [Hit]
        /// All that match.
        public let count: Int
        /// Matches by kind, the condition on kinds apart.
        public let kinds: [CatalogueItem.Kind: Int]
    }

    private struct Entry: Sendable {
        let item: CatalogueItem
        /// Lower-case bytes of the name, its words, the qualified name, and of all other text.
        let name: [UInt8]
        let words: [[UInt8]]
        let qualified: [UInt8]
        let text: [UInt8]
        let owner: String
        let tags: Set<String>
        let columns: Set<String>
    }
    private let entries: [Entry]
    private let positions: [String: Int]

    /// Indexes a set of definitions, and items that no definition makes.
    public init(_ set: DefinitionSet, others: [CatalogueItem] = []) {
        entries = (CatalogueItem.items(of: set) + others).sorted { $0.identifier < $1.identifier }.map { item in
            let name = item.name.lowercased()
            let tags = item.tags.map { $0.lowercased() }
            let text = ([item.description, item.owner, item.type ?? ""] + tags + item.columns).joined(separator: " ")
            return Entry(
                item: item, name: Array(name.utf8), words: Self.words(name),
                qualified: Array(item.qualifiedName.lowercased().utf8),
                text: Array(text.lowercased().utf8), owner: item.owner.lowercased(), tags: Set(tags),
                columns: Set(item.columns.map { $0.lowercased() } + (item.kind == .column ? [name] : [])))
        }
        positions = Dictionary(
            entries.enumerated().map { ($1.item.identifier, $0) }, uniquingKeysWith: { first, _ in first })
    }

    /// Items in all.
    public var count: Int { entries.count }
    /// Every item, by identifier.
    public var items: [CatalogueItem] { entries.map(\.item) }

    /// The item with an identifier such as `feature/carrier_delays.mean_24h`.
    public func item(_ identifier: String) -> CatalogueItem? { positions[identifier].map { entries[$0].item } }

    /// Items that a person may mean by a name: an identifier, or a plain or qualified name of any kind.
    public func items(named name: String) -> [CatalogueItem] {
        if let item = item(name) { return [item] }
        let bytes = Array(name.lowercased().utf8)
        let qualified = entries.filter { $0.qualified == bytes }
        return (qualified.isEmpty ? entries.filter { $0.name == bytes } : qualified).map(\.item)
    }

    /// Finds what matches: exact names first, then beginnings, words, parts, other text, and near misses last.
    public func search(_ query: CatalogueQuery, countMax: Int) -> Answer {
        var answer = search(query, isFuzzy: false)
        if answer.isEmpty, !query.words.isEmpty { answer = search(query, isFuzzy: true) }
        var kinds: [CatalogueItem.Kind: Int] = [:]
        for hit in answer { kinds[entries[hit.position].item.kind, default: 0] += 1 }
        if !query.kinds.isEmpty { answer.removeAll { !query.kinds.contains(entries[$0.position].item.kind) } }
        let count = answer.count
        // Positions are in order of the identifier already.
        answer.sort { $0.score != $1.score ? $0.score > $1.score : $0.position < $1.position }
        return Answer(
            hits: answer.prefix(max(0, countMax)).map { Hit(item: entries[$0.position].item, score: $0.score) },
            count: count, kinds: kinds)
    }

    private func search(_ query: CatalogueQuery, isFuzzy: Bool) -> [(position: Int, score: Int)] {
        let words = query.words.map { Array($0.utf8) }
        var found: [(position: Int, score: Int)] = []
        for (position, entry) in entries.enumerated() {
            guard query.owners.isEmpty || query.owners.contains(entry.owner),
                query.tags.allSatisfy({ entry.tags.contains($0) }),
                query.columns.allSatisfy({ entry.columns.contains($0) })
            else { continue }
            var total = 0
            var matches = true
            for word in words {
                let score = isFuzzy ? Self.fuzzyScore(word, entry) : Self.score(word, entry)
                if score == 0 {
                    matches = false
                    break
                }
                total += score
            }
            if matches {
                found.append(
                    (position, words.isEmpty ? Self.weight(entry.item.kind) : total + Self.weight(entry.item.kind)))
            }
        }
        return found
    }

    /// Of equal matches a view stands before its features, a source before its columns.
    private static func weight(_ kind: CatalogueItem.Kind) -> Int {
        switch kind {
        case .source, .view, .model: 3
        case .service, .trainingSet, .entity, .deployment, .monitor, .scores: 2
        case .feature, .onDemand: 1
        case .column: 0
        }
    }

    private static func score(_ word: [UInt8], _ entry: Entry) -> Int {
        if entry.name == word || entry.qualified == word { return 1000 }
        if starts(entry.name, with: word) { return 600 - min(100, entry.name.count - word.count) }
        for part in entry.words where part == word { return 450 - min(100, entry.name.count) }
        for part in entry.words where starts(part, with: word) { return 300 - min(100, entry.name.count) }
        if contains(entry.qualified, word) { return 150 }
        return contains(entry.text, word) ? 50 : 0
    }

    private static func fuzzyScore(_ word: [UInt8], _ entry: Entry) -> Int {
        let exact = score(word, entry)
        if exact > 0 { return exact }
        let limit = word.count < 4 ? 1 : 2
        let whole = distance(word, entry.name, limit: limit)
        if whole <= limit { return 60 - whole * 10 }
        var best = limit + 1
        for part in entry.words { best = min(best, distance(word, part, limit: limit)) }
        return best > limit ? 0 : 40 - best * 10
    }

    private static func words(_ name: String) -> [[UInt8]] {
        name.utf8.split(whereSeparator: { $0 == 0x5F || $0 == 0x2D || $0 == 0x2E }).map(Array.init)
    }

    private static func starts(_ text: [UInt8], with word: [UInt8]) -> Bool {
        text.count >= word.count
            && text.withUnsafeBufferPointer { text in
                word.withUnsafeBufferPointer { word in
                    for index in 0..<word.count where text[index] != word[index] { return false }
                    return true
                }
            }
    }

    private static func contains(_ text: [UInt8], _ word: [UInt8]) -> Bool {
        guard let first = word.first, text.count >= word.count else { return word.isEmpty }
        return text.withUnsafeBufferPointer { text in
            word.withUnsafeBufferPointer { word in
                var at = 0
                let last = text.count - word.count
                while at <= last {
                    if text[at] == first {
                        var length = 1
                        while length < word.count, text[at + length] == word[length] { length += 1 }
                        if length == word.count { return true }
                    }
                    at += 1
                }
                return false
            }
        }
    }

    /// Letters to change, insert or drop (Levenshtein 1966); `limit + 1` as soon as it is more than `limit`.
    private static func distance(_ left: [UInt8], _ right: [UInt8], limit: Int) -> Int {
        if abs(left.count - right.count) > limit { return limit + 1 }
        var row = Array(0...right.count)
        for (i, a) in left.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            var least = row[0]
            for (j, b) in right.enumerated() {
                let next = min(diagonal + (a == b ? 0 : 1), row[j] + 1, row[j + 1] + 1)
                diagonal = row[j + 1]
                row[j + 1] = next
                least = min(least, next)
            }
            if least > limit { return limit + 1 }
        }
        return row[right.count]
    }
}
