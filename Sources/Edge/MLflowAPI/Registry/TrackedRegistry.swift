public import ExperimentTracking
public import PlatformCore
public import StoragePorts

/// A plain registry in the metadata store: names, versions, stages, aliases, tags, and no gates.
///
/// Each model and version is one document; searches read all of them. Meant for thousands of versions, not millions.
public struct TrackedRegistry: MLflowRegistryBackend {
    private let metadata: any MetadataStore
    private let clock: any PlatformClock

    /// The schema.
    public static let migrations: [MetadataMigration] = [
        MetadataMigration(
            name: "mlflow-registry-1",
            statements: [
                "CREATE TABLE mlflow_registry_model (name TEXT PRIMARY KEY, document TEXT NOT NULL)",
                """
                CREATE TABLE mlflow_registry_version (
                    name TEXT NOT NULL, version BIGINT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (name, version))
                """,
            ])
    ]

    /// Keeps models in `metadata`.
    ///
    /// Call `prepare` before anything else.
    public init(metadata: any MetadataStore, clock: any PlatformClock) {
        self.metadata = metadata
        self.clock = clock
    }

    /// Brings the schema up to date.
    public func prepare() async throws { try await metadata.migrate(Self.migrations) }

    private struct Model: Codable {
        var name: String
        var createdAt: EventTime
        var updatedAt: EventTime
        var description: String?
        var tags: [String: String] = [:]
        var aliases: [String: Int] = [:]
        var nextVersion = 1
    }

    private struct Version: Codable {
        var name: String
        var version: Int
        var createdAt: EventTime
        var updatedAt: EventTime
        var userName: String?
        var stage = "None"
        var description: String?
        var source: String
        var artifactURI: String
        var runID: String?
        var runLink: String?
        var modelID: String?
        var tags: [String: String] = [:]

        func record(aliases: [String: Int]) -> ModelVersionRecord {
            ModelVersionRecord(
                name: name, version: version, createdAt: createdAt, updatedAt: updatedAt, userName: userName,
                stage: stage, description: description, source: source, artifactURI: artifactURI, runID: runID,
                runLink: runLink, modelID: modelID, tags: tags.sorted,
                aliases: aliases.filter { $0.value == version }.keys.sorted())
        }
    }

    // MARK: Models

    /// Makes a model without versions.
    public func createModel(
        _ name: String, description: String?, tags: [TrackedTag]
    ) async throws -> RegisteredModelRecord {
        try Self.check(name: name)
        for tag in tags { try Self.check(tag) }
        let now = clock.now()
        return try await metadata.write { transaction in
            let taken = try transaction.query("SELECT name FROM mlflow_registry_model WHERE name = ?", [.text(name)])
            guard taken.isEmpty else {
                throw PlatformError(.conflict, "model/\(name)", "Registered Model (name=\(name)) already exists.")
            }
            let model = Model(
                name: name, createdAt: now, updatedAt: now, description: description, tags: Dictionary(tags: tags))
            try Self.store(model, transaction)
            return try Self.record(model, transaction)
        }
    }

    /// A model.
    public func model(_ name: String) async throws -> RegisteredModelRecord {
        try await metadata.read { transaction in try Self.record(Self.model(name, transaction), transaction) }
    }

    /// Gives a model and its versions another name.
    public func renameModel(_ name: String, to newName: String) async throws -> RegisteredModelRecord {
        try Self.check(name: newName)
        let now = clock.now()
        return try await metadata.write { transaction in
            var model = try Self.model(name, transaction)
            if newName == name { return try Self.record(model, transaction) }
            let taken = try transaction.query("SELECT name FROM mlflow_registry_model WHERE name = ?", [.text(newName)])
            guard taken.isEmpty else {
                throw PlatformError(.conflict, "model/\(newName)", "Registered Model (name=\(newName)) already exists.")
            }
            let versions = try Self.versions(of: name, transaction)
            try Self.remove(name, transaction)
            model.name = newName
            model.updatedAt = now
            try Self.store(model, transaction)
            for var version in versions {
                version.name = newName
                try Self.store(version, transaction)
            }
            return try Self.record(model, transaction)
        }
    }

    /// Changes a model's description.
    public func updateModel(_ name: String, description: String?) async throws -> RegisteredModelRecord {
        try await change(name) { $0.description = description }
    }

    /// Removes a model and its versions.
    public func deleteModel(_ name: String) async throws {
        try await metadata.write { transaction in
            _ = try Self.model(name, transaction)
            try Self.remove(name, transaction)
        }
    }

    /// Models that pass a filter, by name unless `orders` says otherwise.
    public func searchModels(
        filter: SearchFilter, orders: [SearchOrder], offset: Int, countMax: Int
    ) async throws -> TrackedPage<RegisteredModelRecord> {
        let all = try await metadata.read { transaction in
            try transaction.query("SELECT document FROM mlflow_registry_model ORDER BY name").map {
                try Self.record(Self.decoded($0, as: Model.self), transaction)
            }
        }
        var found: [RegisteredModelRecord] = []
        for model in all {
            // A model without the tag passes `!=`: clients leave prompts out by `tag.… != 'true'`.
            let matches = try filter.matches(absentDiffers: true) { (clause) throws(PlatformError) in
                try model.operand(entity: clause.entity, key: clause.key)
            }
            if matches { found.append(model) }
        }
        let byName = [SearchOrder(entity: nil, key: "name", isAscending: true)]
        let sorted = try sort(found, by: orders + byName) { (model, order) throws(PlatformError) in
            try model.operand(entity: order.entity, key: order.key)
        }
        return TrackedPage(of: sorted, offset: offset, countMax: countMax)
    }

    // MARK: Versions

    /// Adds a version.
    public func createVersion(of name: String, _ request: ModelVersionRequest) async throws -> ModelVersionRecord {
        for tag in request.tags { try Self.check(tag) }
        let now = clock.now()
        return try await metadata.write { transaction in
            var model = try Self.model(name, transaction)
            let version = Version(
                name: name, version: model.nextVersion, createdAt: now, updatedAt: now, userName: request.userName,
                description: request.description, source: request.source, artifactURI: request.artifactURI,
                runID: request.runID, runLink: request.runLink, modelID: request.modelID,
                tags: Dictionary(tags: request.tags))
            model.nextVersion += 1
            model.updatedAt = now
            try Self.store(model, transaction)
            try Self.store(version, transaction)
            return version.record(aliases: model.aliases)
        }
    }

    /// A version.
    public func version(_ version: Int, of name: String) async throws -> ModelVersionRecord {
        try await metadata.read { transaction in
            try Self.version(version, of: name, transaction).record(aliases: Self.model(name, transaction).aliases)
        }
    }

    /// The version that an alias points at.
    public func version(alias: String, of name: String) async throws -> ModelVersionRecord {
        try await metadata.read { transaction in
            let model = try Self.model(name, transaction)
            guard let version = model.aliases[alias] else {
                throw PlatformError(
                    .invalidInput, "model/\(name)", "Registered model alias \(alias.prefix(255)) not found.")
            }
            return try Self.version(version, of: name, transaction).record(aliases: model.aliases)
        }
    }

    /// Changes a version's description.
    public func updateVersion(
        _ version: Int, of name: String, description: String?
    ) async throws -> ModelVersionRecord {
        try await change(version, of: name) { $0.description = description }
    }

    /// Moves a version to a stage.
    public func setStage(
        _ stage: String, ofVersion version: Int, of name: String, archivingOthers: Bool
    ) async throws -> ModelVersionRecord {
        let stage = try Self.stage(stage)
        guard !archivingOthers || stage == "Staging" || stage == "Production" else {
            throw PlatformError(
                .invalidInput, "stage", "archive_existing_versions is for the stages Staging and Production alone")
        }
        let now = clock.now()
        return try await metadata.write { transaction in
            let model = try Self.model(name, transaction)
            var moved = try Self.version(version, of: name, transaction)
            for var other in try Self.versions(of: name, transaction)
            where archivingOthers && other.stage == stage && other.version != version {
                other.stage = "Archived"
                other.updatedAt = now
                try Self.store(other, transaction)
            }
            moved.stage = stage
            moved.updatedAt = now
            try Self.store(moved, transaction)
            return moved.record(aliases: model.aliases)
        }
    }

    /// Removes a version and the aliases that point at it; its number is not given again.
    public func deleteVersion(_ version: Int, of name: String) async throws {
        try await metadata.write { transaction in
            _ = try Self.version(version, of: name, transaction)
            var model = try Self.model(name, transaction)
            model.aliases = model.aliases.filter { $0.value != version }
            try Self.store(model, transaction)
            try transaction.execute(
                "DELETE FROM mlflow_registry_version WHERE name = ? AND version = ?",
                [.text(name), .integer(Int64(version))])
        }
    }

    /// Versions that pass a filter, newest first unless `orders` says otherwise.
    public func searchVersions(
        filter: SearchFilter, orders: [SearchOrder], offset: Int, countMax: Int
    ) async throws -> TrackedPage<ModelVersionRecord> {
        let all = try await metadata.read { transaction in
            let models = try transaction.query("SELECT document FROM mlflow_registry_model").map {
                try Self.decoded($0, as: Model.self)
            }
            let aliases = Dictionary(models.map { ($0.name, $0.aliases) }, uniquingKeysWith: { $1 })
            return try transaction.query(
                "SELECT document FROM mlflow_registry_version ORDER BY name, version DESC"
            ).map { row in
                let version = try Self.decoded(row, as: Version.self)
                return version.record(aliases: aliases[version.name] ?? [:])
            }
        }
        var found: [ModelVersionRecord] = []
        for version in all {
            let matches = try filter.matches(absentDiffers: true) { (clause) throws(PlatformError) in
                try version.operand(entity: clause.entity, key: clause.key)
            }
            if matches { found.append(version) }
        }
        let newestFirst = [
            SearchOrder(entity: nil, key: "last_updated_timestamp", isAscending: false),
            SearchOrder(entity: nil, key: "name", isAscending: true),
            SearchOrder(entity: nil, key: "version_number", isAscending: false),
        ]
        let sorted = try sort(found, by: orders.isEmpty ? newestFirst : orders) {
            (version, order) throws(PlatformError) in
            try version.operand(entity: order.entity, key: order.key)
        }
        return TrackedPage(of: sorted, offset: offset, countMax: countMax)
    }

    /// The newest version of each of some stages; of every stage if none is named.
    public func latestVersions(of name: String, stages: [String]) async throws -> [ModelVersionRecord] {
        let stages = try stages.map { stage throws(PlatformError) in try Self.stage(stage) }
        let latest = try await model(name).latestVersions
        return stages.isEmpty ? latest : latest.filter { stages.contains($0.stage) }
    }

    // MARK: Tags and aliases

    /// Sets a tag of a model, or of a version of it.
    public func setTag(_ tag: TrackedTag, of name: String, version: Int?) async throws {
        try Self.check(tag)
        if let version {
            _ = try await change(version, of: name) { $0.tags[tag.key] = tag.value }
        } else {
            _ = try await change(name) { $0.tags[tag.key] = tag.value }
        }
    }

    /// Removes a tag of a model, or of a version of it.
    public func deleteTag(_ key: String, of name: String, version: Int?) async throws {
        if let version {
            _ = try await change(version, of: name) { $0.tags[key] = nil }
        } else {
            _ = try await change(name) { $0.tags[key] = nil }
        }
    }

    /// Points an alias at a version.
    public func setAlias(_ alias: String, of name: String, version: Int) async throws {
        let bytes = alias.utf8
        let isWord = bytes.allSatisfy {
            48...57 ~= $0 || 65...90 ~= $0 || 97...122 ~= $0 || $0 == 95 || $0 == 45
        }
        let isVersion =
            bytes.count > 1 && (bytes.first == 118 || bytes.first == 86)
            && bytes.dropFirst().allSatisfy { 48...57 ~= $0 }
        guard 1...255 ~= bytes.count, isWord, !isVersion, alias.lowercased() != "latest" else {
            throw PlatformError(
                .invalidInput, "alias",
                "'\(alias.prefix(64))' is no alias: letters, digits, _ and - are accepted, at most "
                    + "255, and neither 'latest' nor a version such as 'v1'")
        }
        _ = try await self.version(version, of: name)
        _ = try await change(name) { $0.aliases[alias] = version }
    }

    /// Removes an alias.
    public func deleteAlias(_ alias: String, of name: String) async throws {
        _ = try await change(name) { $0.aliases[alias] = nil }
    }

    // MARK: Documents

    private func change(
        _ name: String, _ body: @escaping @Sendable (inout Model) -> Void
    ) async throws -> RegisteredModelRecord {
        let now = clock.now()
        return try await metadata.write { transaction in
            var model = try Self.model(name, transaction)
            body(&model)
            model.updatedAt = now
            try Self.store(model, transaction)
            return try Self.record(model, transaction)
        }
    }

    private func change(
        _ number: Int, of name: String, _ body: @escaping @Sendable (inout Version) -> Void
    ) async throws -> ModelVersionRecord {
        let now = clock.now()
        return try await metadata.write { transaction in
            let model = try Self.model(name, transaction)
            var version = try Self.version(number, of: name, transaction)
            body(&version)
            version.updatedAt = now
            try Self.store(version, transaction)
            return version.record(aliases: model.aliases)
        }
    }

    private static func decoded<Value: Decodable>(_ row: MetadataRow, as type: Value.Type) throws -> Value {
        try JSONValue.parse(row.text("document")).decoded(as: type)
    }

    private static func model(_ name: String, _ transaction: any MetadataTransaction) throws -> Model {
        guard
            let row = try transaction.query(
                "SELECT document FROM mlflow_registry_model WHERE name = ?", [.text(name)]
            ).first
        else {
            throw PlatformError(
                .notFound, "model/\(name.prefix(64))", "Registered Model with name=\(name.prefix(64)) not found")
        }
        return try decoded(row, as: Model.self)
    }

    private static func version(
        _ number: Int, of name: String, _ transaction: any MetadataTransaction
    ) throws -> Version {
        guard
            let row = try transaction.query(
                "SELECT document FROM mlflow_registry_version WHERE name = ? AND version = ?",
                [.text(name), .integer(Int64(number))]
            ).first
        else {
            throw PlatformError(
                .notFound, "model/\(name.prefix(64))",
                "Model Version (name=\(name.prefix(64)), version=\(number)) not found")
        }
        return try decoded(row, as: Version.self)
    }

    private static func versions(of name: String, _ transaction: any MetadataTransaction) throws -> [Version] {
        try transaction.query(
            "SELECT document FROM mlflow_registry_version WHERE name = ? ORDER BY version", [.text(name)]
        ).map { try decoded($0, as: Version.self) }
    }

    private static func record(_ model: Model, _ transaction: any MetadataTransaction) throws -> RegisteredModelRecord {
        var latest: [String: Version] = [:]
        for version in try versions(of: model.name, transaction) { latest[version.stage] = version }
        return RegisteredModelRecord(
            name: model.name, createdAt: model.createdAt, updatedAt: model.updatedAt, description: model.description,
            tags: model.tags.sorted,
            aliases: model.aliases.sorted { $0.key < $1.key }.map { ModelAlias(alias: $0.key, version: $0.value) },
            latestVersions: latest.values.sorted { $0.version < $1.version }.map { $0.record(aliases: model.aliases) })
    }

    private static func store(_ model: Model, _ transaction: any MetadataTransaction) throws {
        try transaction.execute(
            """
            INSERT INTO mlflow_registry_model (name, document) VALUES (?, ?)
            ON CONFLICT (name) DO UPDATE SET document = excluded.document
            """, [.text(model.name), .text(JSONValue.of(model).text)])
    }

    private static func store(_ version: Version, _ transaction: any MetadataTransaction) throws {
        try transaction.execute(
            """
            INSERT INTO mlflow_registry_version (name, version, document) VALUES (?, ?, ?)
            ON CONFLICT (name, version) DO UPDATE SET document = excluded.document
            """, [.text(version.name), .integer(Int64(version.version)), .text(JSONValue.of(version).text)])
    }

    private static func remove(_ name: String, _ transaction: any MetadataTransaction) throws {
        try transaction.execute("DELETE FROM mlflow_registry_version WHERE name = ?", [.text(name)])
        try transaction.execute("DELETE FROM mlflow_registry_model WHERE name = ?", [.text(name)])
    }

    private static func stage(_ text: String) throws(PlatformError) -> String {
        let stages = ["None", "Staging", "Production", "Archived"]
        guard let stage = stages.first(where: { $0.lowercased() == text.lowercased() }) else {
            throw PlatformError(
                .invalidInput, "stage",
                "Invalid Model Version stage: \(text.prefix(64)). Value must be one of \(stages.joined(separator: ", "))."
            )
        }
        return stage
    }

    private static func check(name: String) throws(PlatformError) {
        guard !name.isEmpty, name.utf8.count <= 256, !name.contains("/"), !name.contains(":"),
            !name.unicodeScalars.contains(where: { $0.value < 0x20 })
        else {
            throw PlatformError(
                .invalidInput, "registered model",
                "Invalid name for a registered model: '\(name.prefix(64))'. It is at most 256 bytes long and holds "
                    + "neither '/' nor ':'.")
        }
    }

    private static func check(_ tag: TrackedTag) throws(PlatformError) {
        guard !tag.key.isEmpty, tag.key.utf8.count <= 250, tag.value.utf8.count <= 100_000 else {
            throw PlatformError(.invalidInput, "tag '\(tag.key.prefix(64))'", "its key or value is empty or too long")
        }
    }
}

extension [String: String] {
    fileprivate init(tags: [TrackedTag]) {
        self.init(tags.map { ($0.key, $0.value) }, uniquingKeysWith: { $1 })
    }
    fileprivate var sorted: [TrackedTag] { sorted { $0.key < $1.key }.map { TrackedTag($0.key, $0.value) } }
}

extension RegisteredModelRecord {
    fileprivate func operand(entity: String?, key: String) throws(PlatformError) -> SearchOperand? {
        switch (entity, key) {
        case ("tag", let key), ("tags", let key): return tags.first { $0.key == key }.map { .text($0.value) }
        case (nil, "name"), ("attribute", "name"), ("attributes", "name"): return .text(name)
        case (nil, "creation_timestamp"): return .number(Double(createdAt.milliseconds))
        case (nil, "timestamp"), (nil, "last_updated_timestamp"): return .number(Double(updatedAt.milliseconds))
        default:
            throw PlatformError(
                .invalidInput, "filter", "'\(key)' is no key of a registered model; known are name and tags.…")
        }
    }
}

extension ModelVersionRecord {
    fileprivate func operand(entity: String?, key: String) throws(PlatformError) -> SearchOperand? {
        switch (entity, key) {
        case ("tag", let key), ("tags", let key): return tags.first { $0.key == key }.map { .text($0.value) }
        case (nil, let key), ("attribute", let key), ("attributes", let key):
            switch key {
            case "name": return .text(name)
            case "run_id": return runID.map(SearchOperand.text)
            case "source_path", "source": return .text(source)
            case "version_number", "version": return .number(Double(version))
            case "creation_timestamp": return .number(Double(createdAt.milliseconds))
            case "last_updated_timestamp": return .number(Double(updatedAt.milliseconds))
            default: break
            }
        default: break
        }
        throw PlatformError(
            .invalidInput, "filter",
            "'\(key)' is no key of a model version; known are name, run_id, source_path, "
                + "version_number and tags.…")
    }
}
