public import PlatformCore
public import StoragePorts

/// A blob and what keeps it.
public struct BlobUse: Sendable, Hashable, Codable {
    /// Its hash.
    public let hash: ContentHash
    /// Its size in bytes.
    public let byteCount: Int
    /// Places that name it, at most `BlobCollector.namedMax` of them.
    public let users: [String]
    /// How many places name it.
    public let count: Int

    enum CodingKeys: String, CodingKey {
        case hash, users, count
        case byteCount = "byte_count"
    }
}

/// What a collection found and did.
public struct BlobReport: Sendable, Codable {
    /// Every blob that was stored, largest first.
    public internal(set) var blobs: [BlobUse]
    /// Bytes that something names.
    public let usedByteCount: Int
    /// Bytes that are stored once and named several times, as if each name had a copy of its own.
    public let sharedByteCount: Int
    /// Bytes that nothing names.
    public let unusedByteCount: Int
    /// Blobs that were removed.
    public internal(set) var removed = 0
    /// Bytes that were removed.
    public internal(set) var removedByteCount = 0
    /// Unnamed blobs that were left because somebody had them in hand.
    public internal(set) var inHand = 0
    /// The whole data directory, the largest place first.
    public internal(set) var places: [StoragePlace] = []
    /// Topics of the log whose old records go, and what of them is there.
    public var log: [LogTopicReport] = []

    enum CodingKeys: String, CodingKey {
        case blobs, removed, places, log
        case usedByteCount = "used_bytes"
        case sharedByteCount = "shared_bytes"
        case unusedByteCount = "unused_bytes"
        case removedByteCount = "removed_bytes"
        case inHand = "in_hand"
    }
}

/// Finds what names each stored blob, and removes those that nothing names.
///
/// A name is a SHA-256 in hexadecimal digits anywhere in a text of the metadata store, or in a JSON blob that is named
/// itself: manifests name their parts, lists of files their files, evidence what it rests on. That finds too many names
/// rather than too few. Blobs are listed before names are read, and a blob that anybody has in hand is left alone
/// (`GuardedObjectStore`), so a writer that comes in between loses nothing; a crash leaves a blob that is there or gone.
public struct BlobCollector: Sendable {
    /// Places that are remembered by name for each blob.
    public static let namedMax = 20
    /// Largest JSON blob that is searched for names; a larger one stops the collection rather than lose what it names.
    static let searchedByteCountMax = 64 << 20

    private let store: any MetadataStore
    private let content: ContentStore
    private let objects: GuardedObjectStore
    private let columns: [TextColumn]
    private let survey: StorageSurvey?

    /// A column of text, and what tells its rows apart.
    struct TextColumn: Sendable, Hashable {
        let table: String
        let column: String
        let keys: [String]
    }

    /// Makes a collector.
    /// - Parameters:
    ///   - store: where names are.
    ///   - objects: where blobs are.
    ///   - migrations: everything that made the store's tables: each text column of theirs is searched.
    ///   - survey: says what else is stored.
    public init(
        store: any MetadataStore, objects: GuardedObjectStore, migrations: [MetadataMigration],
        survey: StorageSurvey? = nil
    ) {
        self.store = store
        self.survey = survey
        self.objects = objects
        content = ContentStore(base: objects)
        columns = Self.textColumns(of: migrations.flatMap(\.statements))
    }

    /// Finds names and, unless this is a rehearsal, removes the blobs without one.
    public func collect(isRehearsal: Bool) async throws -> BlobReport {
        var sizes: [ContentHash: Int] = [:]
        for object in try await objects.list(prefix: "blobs/") {
            if let hash = object.key.split(separator: "/").last.flatMap({ ContentHash(hex: String($0)) }) {
                sizes[hash] = object.byteCount
            }
        }
        let names = try await self.names(of: sizes)
        let blobs = sizes.map { hash, size in
            BlobUse(hash: hash, byteCount: size, users: names[hash]?.users ?? [], count: names[hash]?.count ?? 0)
        }.sorted { ($0.byteCount, $1.hash.hex) > ($1.byteCount, $0.hash.hex) }
        var report = BlobReport(
            blobs: blobs, usedByteCount: blobs.reduce(0) { $0 + ($1.count > 0 ? $1.byteCount : 0) },
            sharedByteCount: blobs.reduce(0) { $0 + max(0, $1.count - 1) * $1.byteCount },
            unusedByteCount: blobs.reduce(0) { $0 + ($1.count == 0 ? $1.byteCount : 0) })
        if isRehearsal {
            report.places = await survey?.places() ?? []
            return report
        }
        for blob in blobs where blob.count == 0 {
            if try await objects.reclaim(ContentStore.key(of: blob.hash)) {
                report.removed += 1
                report.removedByteCount += blob.byteCount
            } else {
                report.inHand += 1
            }
        }
        return report
    }

    private struct Names: Sendable {
        var users: [String] = []
        var count = 0
    }

    private func names(of sizes: [ContentHash: Int]) async throws -> [ContentHash: Names] {
        let columns = columns
        var names = try await store.read { transaction -> [ContentHash: Names] in
            var names: [ContentHash: Names] = [:]
            for column in columns {
                let keys = column.keys.map { ", \($0)" }.joined()
                let rows = try transaction.query(
                    "SELECT \(column.column) AS found\(keys) FROM \(column.table) WHERE length(\(column.column)) >= 64")
                for row in rows {
                    for hash in Self.hashes(in: row.text("found").utf8) where sizes[hash] != nil {
                        let place = column.keys.map { key -> String in
                            switch row[key] {
                            case .integer(let number): "\(key) \(number)"
                            case .text(let text): String(text.prefix(80))
                            default: ""
                            }
                        }
                        Self.add("\(column.table) \(place.joined(separator: "/")) (\(column.column))", hash, &names)
                    }
                }
            }
            return names
        }
        var open = Array(names.keys)
        while let hash = open.popLast() {
            guard let size = sizes[hash], size > 64, try await isJSON(hash) else { continue }
            guard size <= Self.searchedByteCountMax else { continue }
            let bytes = try await content.get(hash, byteCountMax: Self.searchedByteCountMax)
            for inner in Self.hashes(in: bytes) where inner != hash && sizes[inner] != nil {
                if names[inner] == nil { open.append(inner) }
                Self.add("blob \(hash.hex.prefix(12))", inner, &names)
            }
        }
        return names
    }

    /// Whether a blob looks like an object or list of JSON, and not like a model of hundreds of megabytes.
    private func isJSON(_ hash: ContentHash) async throws -> Bool {
        let path = try await objects.localPath(of: ContentStore.key(of: hash))
        return FirstByte.of(path).map { $0 == 0x7B || $0 == 0x5B } ?? false
    }

    private static func add(_ user: String, _ hash: ContentHash, _ names: inout [ContentHash: Names]) {
        names[hash, default: Names()].count += 1
        if names[hash]?.users.count ?? 0 < namedMax { names[hash]?.users.append(user) }
    }

    /// Every run of exactly 64 hexadecimal digits.
    static func hashes(in bytes: some Sequence<UInt8>) -> Set<ContentHash> {
        var found: Set<ContentHash> = []
        var run: [UInt8] = []
        func end() {
            if run.count == 64, let hash = ContentHash(hex: String(decoding: run, as: UTF8.self)) { found.insert(hash) }
            run.removeAll(keepingCapacity: true)
        }
        for byte in bytes {
            switch byte {
            case 48...57, 97...102: if run.count <= 64 { run.append(byte) }
            default: end()
            }
        }
        end()
        return found
    }

    /// Text columns and primary keys of the tables that some statements make.
    static func textColumns(of statements: [String]) -> [TextColumn] {
        var tables: [String: (columns: [String], keys: [String])] = [:]
        var order: [String] = []
        for statement in statements {
            let words = statement.split(whereSeparator: \.isWhitespace).map(String.init)
            guard words.count > 2, words[1].uppercased() == "TABLE" else { continue }
            if words[0].uppercased() == "ALTER", words.count > 6, words[6].uppercased().hasPrefix("TEXT") {
                tables[words[2]]?.columns.append(words[5])
                continue
            }
            guard words[0].uppercased() == "CREATE", let open = statement.firstIndex(of: "("),
                let close = statement.lastIndex(of: ")")
            else { continue }
            let head = statement[..<open].split(whereSeparator: \.isWhitespace)
            guard let table = head.last.map(String.init) else { continue }
            var columns: [String] = []
            var keys: [String] = []
            for part in Self.parts(statement[statement.index(after: open)..<close]) {
                let words = part.split(whereSeparator: \.isWhitespace).map(String.init)
                guard let first = words.first else { continue }
                if first.uppercased() == "PRIMARY", let open = part.firstIndex(of: "("),
                    let close = part.lastIndex(of: ")")
                {
                    keys = part[part.index(after: open)..<close].split(separator: ",").map {
                        $0.trimmingPrefix { $0.isWhitespace }.split(separator: " ").first.map(String.init) ?? ""
                    }
                } else if words.count > 1, words[1].uppercased() == "TEXT" {
                    columns.append(first)
                    if part.uppercased().contains("PRIMARY KEY") { keys = [first] }
                } else if part.uppercased().contains("PRIMARY KEY") {
                    keys = [first]
                }
            }
            if tables[table] == nil { order.append(table) }
            tables[table] = (columns, keys)
        }
        return order.flatMap { table in
            (tables[table]?.columns ?? []).map {
                TextColumn(table: table, column: $0, keys: tables[table]?.keys ?? [])
            }
        }
    }

    /// The parts of a list, cut at commas outside parentheses.
    private static func parts(_ text: Substring) -> [String] {
        var parts = [""]
        var depth = 0
        for character in text {
            if character == "(" { depth += 1 }
            if character == ")" { depth -= 1 }
            if character == ",", depth == 0 { parts.append("") } else { parts[parts.count - 1].append(character) }
        }
        return parts
    }
}
