public import PlatformCore
public import StoragePorts

/// Which training sets were built, and when: what tables must stay readable for, and where lineage begins.
public struct DatasetIndex: Sendable {
    /// One build.
    public struct Entry: Sendable, Hashable {
        /// Hash of the manifest, the dataset's name.
        public let hash: ContentHash
        /// The training set's definition.
        public let trainingSet: Name
        /// When it was first built.
        public let builtAt: EventTime
    }

    /// The table, for `MetadataStore.migrate`.
    public static let migrations = [
        MetadataMigration(
            name: "dataset-builds-1",
            statements: [
                "CREATE TABLE dataset_builds (hash TEXT PRIMARY KEY, training_set TEXT NOT NULL, built_at BIGINT NOT NULL)"
            ])
    ]

    private let store: any MetadataStore

    /// Keeps the index in `store`, whose migrations have run.
    public init(store: any MetadataStore) { self.store = store }

    /// Notes a build; nothing happens if the same dataset was built before.
    public func record(_ hash: ContentHash, trainingSet: Name, at time: EventTime) async throws {
        _ = try await store.write { transaction in
            let known = try transaction.query("SELECT hash FROM dataset_builds WHERE hash = ?", [.text(hash.hex)])
            guard known.isEmpty else { return 0 }
            return try transaction.execute(
                "INSERT INTO dataset_builds (hash, training_set, built_at) VALUES (?, ?, ?)",
                [.text(hash.hex), .text(trainingSet.text), MetadataValue(time)])
        }
    }

    /// All builds, oldest first.
    public func all() async throws -> [Entry] {
        try await store.read { try $0.query("SELECT * FROM dataset_builds ORDER BY built_at, hash") }.compactMap(
            Self.entry)
    }

    /// A page of builds, newest first.
    ///
    /// - Parameters:
    ///   - trainingSet: only its builds; `nil` for all.
    ///   - before: the build after which the page begins; `nil` for the newest.
    ///   - countMax: how many at most.
    public func page(of trainingSet: Name?, before: Entry?, countMax: Int) async throws -> (
        entries: [Entry], isLast: Bool
    ) {
        var (conditions, values): ([String], [MetadataValue]) = ([], [])
        if let trainingSet {
            conditions.append("training_set = ?")
            values.append(.text(trainingSet.text))
        }
        if let before {
            conditions.append("(built_at < ? OR (built_at = ? AND hash < ?))")
            values += [MetadataValue(before.builtAt), MetadataValue(before.builtAt), .text(before.hash.hex)]
        }
        let sql =
            "SELECT * FROM dataset_builds"
            + (conditions.isEmpty ? "" : " WHERE \(conditions.joined(separator: " AND "))")
            + " ORDER BY built_at DESC, hash DESC LIMIT \(countMax + 1)"
        let rows = try await store.read { [values] in try $0.query(sql, values) }
        return (rows.prefix(countMax).compactMap(Self.entry), rows.count <= countMax)
    }

    /// Builds whose hash begins with `digits`, hexadecimal and in lower case; two at most: more than one is ambiguous.
    public func named(_ digits: String) async throws -> [Entry] {
        let sql = "SELECT * FROM dataset_builds WHERE hash >= ? AND hash < ? ORDER BY hash LIMIT 2"
        // 'g' comes behind every digit.
        return try await store.read { try $0.query(sql, [.text(digits), .text(digits + "g")]) }.compactMap(Self.entry)
    }

    private static func entry(_ row: MetadataRow) -> Entry? {
        guard let hash = ContentHash(hex: row.text("hash")), let name = Name(row.text("training_set")) else {
            return nil
        }
        return Entry(hash: hash, trainingSet: name, builtAt: EventTime(milliseconds: row.integer("built_at")))
    }
}
