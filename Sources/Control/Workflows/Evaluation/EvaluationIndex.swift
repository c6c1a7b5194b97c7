public import PlatformCore
import Statistics
public import StoragePorts

/// Which evaluations of which versions are kept.
public struct EvaluationIndex: Sendable {
    /// One version in one evaluation.
    public struct Entry: Sendable, Hashable {
        /// The evaluation's name.
        public let hash: ContentHash
        /// The version.
        public let version: Int
        /// When it was made.
        public let createdAt: EventTime
        /// Who asked.
        public let actor: String
        /// Hash of the training set, else of the file.
        public let data: ContentHash
        /// Part of the training set; empty for a file.
        public let part: String
        /// Rows.
        public let rowCount: Int
        /// Metrics by name.
        public let metrics: [String: Double]
    }

    /// The table, for `MetadataStore.migrate`.
    public static let migrations = [
        MetadataMigration(
            name: "model-evaluations-1",
            statements: [
                """
                CREATE TABLE model_evaluations (position BIGINT NOT NULL, hash TEXT NOT NULL, model TEXT NOT NULL, number BIGINT NOT NULL,
                    created_at BIGINT NOT NULL, actor TEXT NOT NULL, data TEXT NOT NULL, file TEXT NOT NULL,
                    part TEXT NOT NULL, row_count BIGINT NOT NULL, metrics TEXT NOT NULL,
                    PRIMARY KEY (hash, number))
                """,
                "CREATE INDEX model_evaluations_by_model ON model_evaluations (model, created_at)",
            ])
    ]

    private let store: any MetadataStore

    /// Keeps the index in `store`, whose migrations have run.
    public init(store: any MetadataStore) { self.store = store }

    func record(_ found: ModelEvaluation, _ hash: ContentHash) async throws {
        let rows = try found.versions.map { version in
            let metrics = Dictionary(
                version.report.metrics.compactMap { result in result.value.map { (result.metric.rawValue, $0) } },
                uniquingKeysWith: { $1 })
            return (version.version, try JSONValue.of(metrics).text)
        }
        _ = try await store.write { transaction in
            for (number, metrics) in rows {
                try transaction.execute(
                    """
                    INSERT INTO model_evaluations (position, hash, model, number, created_at, actor, data, file, part, row_count,
                        metrics) VALUES ((SELECT COALESCE(MAX(position), 0) + 1 FROM model_evaluations), ?, ?, ?, ?, ?, ?, ?,
                        ?, ?, ?) ON CONFLICT (hash, number) DO NOTHING
                    """,
                    [
                        .text(hash.hex), .text(found.model.text), .integer(Int64(number)),
                        MetadataValue(found.createdAt), .text(found.actor),
                        .text((found.data.dataset ?? found.data.file).hex), .text(found.data.file.hex),
                        .text(found.data.part ?? ""), .integer(Int64(found.data.rowCount)), .text(metrics),
                    ])
            }
            return 0
        }
    }

    func contains(_ hash: ContentHash) async throws -> Bool {
        try await store.read { transaction in
            try !transaction.query("SELECT hash FROM model_evaluations WHERE hash = ? LIMIT 1", [.text(hash.hex)])
                .isEmpty
        }
    }

    /// Evaluations of a model, or of one version, the newest first.
    public func entries(of model: Name, version: Int? = nil, countMax: Int) async throws -> [Entry] {
        let rows = try await store.read { transaction in
            try transaction.query(
                """
                SELECT * FROM model_evaluations WHERE model = ?\(version == nil ? "" : " AND number = ?")
                ORDER BY created_at DESC, position DESC LIMIT ?
                """,
                [.text(model.text)] + (version.map { [.integer(Int64($0))] } ?? []) + [.integer(Int64(countMax))])
        }
        return try rows.compactMap { row in
            guard let hash = ContentHash(hex: row.text("hash")), let data = ContentHash(hex: row.text("data")) else {
                return nil
            }
            return Entry(
                hash: hash, version: Int(row.integer("number")),
                createdAt: EventTime(milliseconds: row.integer("created_at")), actor: row.text("actor"), data: data,
                part: row.text("part"), rowCount: Int(row.integer("row_count")),
                metrics: try JSONValue.parse(Array(row.text("metrics").utf8)).decoded())
        }
    }
}
