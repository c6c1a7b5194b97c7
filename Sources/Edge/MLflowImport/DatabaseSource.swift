import Foundation
public import PlatformCore
public import StoragePorts

/// A database that belongs to somebody else; it is only read.
public protocol ForeignDatabase: Sendable {
    /// The rows of a query.
    func query(_ sql: String, _ arguments: [MetadataValue]) async throws -> [MetadataRow]
}

/// The database file of an MLflow server, with its artifacts beside it.
public struct DatabaseSource: ImportSource {
    /// The source's name in reports and tags, without secrets.
    public let name: String
    private let database: any ForeignDatabase
    /// The folder that `mlflow-artifacts:` stands for; `nil` where files are left out.
    private let artifacts: String?
    /// Whether files come along.
    public var hasFiles: Bool { artifacts != nil }

    /// Where the files of a database are.
    public enum Artifacts: Sendable {
        /// In `mlartifacts` or `mlruns` beside it, or in its own folder.
        case beside
        /// In this folder.
        case folder(String)
        /// They are left out.
        case none
    }

    /// - Parameters:
    ///   - database: the open file.
    ///   - path: where the file is.
    ///   - artifacts: where the files are that the server kept.
    /// - Throws: `invalidInput` where there is no such folder and the database speaks of files.
    public init(_ database: any ForeignDatabase, path: String, artifacts: Artifacts) async throws {
        self.database = database
        name = path
        switch artifacts {
        case .none: self.artifacts = nil
        case .folder(let folder):
            guard Self.isFolder(folder) else {
                throw PlatformError(
                    .invalidInput, folder, "there is no such folder; --artifacts names that of the files")
            }
            self.artifacts = folder
        case .beside:
            self.artifacts = try await Self.folder(beside: path, database)
        }
    }

    private static func isFolder(_ path: String) -> Bool {
        var isFolder: ObjCBool = false
        return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder.boolValue
    }

    /// The folder beside a database that has some of the files which it speaks of, or that would have them.
    private static func folder(beside path: String, _ database: any ForeignDatabase) async throws -> String {
        let home = (path as NSString).deletingLastPathComponent
        let isServer = try await !database.query(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'runs'", []
        ).isEmpty
        let places =
            isServer
            ? try await database.query(
                "SELECT artifact_uri FROM runs WHERE artifact_uri LIKE 'mlflow-artifacts:%' LIMIT 10000", []
            ).compactMap { ServerSource.proxied($0.text("artifact_uri")) } : []
        let folders = ["\(home)/mlartifacts", "\(home)/mlruns", home]
        if let folder = folders.first(where: { folder in places.contains { isFolder("\(folder)/\($0)") } }) {
            return folder
        }
        if let folder = folders.dropLast().first(where: isFolder) { return folder }
        guard places.isEmpty else {
            throw PlatformError(
                .invalidInput, path,
                "neither mlartifacts nor mlruns is beside it, and it speaks of files: name their folder with --artifacts DIR, "
                    + "or leave them out with --no-artifacts")
        }
        return home
    }

    func rows(_ sql: String, _ arguments: [MetadataValue] = []) async throws -> [MetadataRow] {
        try await database.query(sql, arguments)
    }

    func has(_ table: String) async throws -> Bool {
        try await !rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?", [.text(table)]).isEmpty
    }

    func tags(_ sql: String, _ arguments: [MetadataValue] = []) async throws -> [String: [JSONValue]] {
        var found: [String: [JSONValue]] = [:]
        for row in try await rows(sql, arguments) {
            found[row.text("owner"), default: []].append([
                "key": .string(row.text("key")), "value": .string(row["value"].textValue ?? ""),
            ])
        }
        return found
    }

    /// Every experiment, deleted ones too.
    public func experiments() async throws -> [JSONValue] {
        guard try await has("experiments") else {
            throw PlatformError(
                .invalidInput, name, "it is no database of an MLflow server: it has no table 'experiments'")
        }
        let tags = try await tags("SELECT CAST(experiment_id AS TEXT) AS owner, key, value FROM experiment_tags")
        return try await rows("SELECT * FROM experiments ORDER BY experiment_id").map { row in
            let id = String(row.integer("experiment_id"))
            return [
                "experiment_id": .string(id), "name": .string(row.text("name")),
                "artifact_location": .string(row["artifact_location"].textValue ?? ""),
                "lifecycle_stage": .string(row["lifecycle_stage"].textValue ?? "active"),
                "creation_time": Self.integer(row, "creation_time"),
                "last_update_time": Self.integer(row, "last_update_time"), "tags": .array(tags[id] ?? []),
            ]
        }
    }

    static func integer(_ row: MetadataRow, _ column: String) -> JSONValue {
        row[column].integerValue.map(JSONValue.integer) ?? .null
    }
    static func string(_ row: MetadataRow, _ column: String) -> JSONValue {
        row[column].textValue.map(JSONValue.string) ?? .null
    }
    private static func value(_ row: MetadataRow) -> JSONValue {
        if row.integer("is_nan") != 0 { return .string("NaN") }
        return .number(row["value"].doubleValue ?? 0)
    }

    /// Every run of an experiment, deleted ones too.
    public func runs(of experiment: String) async throws -> [JSONValue] {
        let id: [MetadataValue] = [.integer(Int64(experiment) ?? -1)]
        let ours = "WHERE r.experiment_id = ?"
        let params = try await tags(
            "SELECT p.run_uuid AS owner, p.key, p.value FROM params p JOIN runs r ON r.run_uuid = p.run_uuid \(ours)",
            id)
        let tags = try await tags(
            "SELECT t.run_uuid AS owner, t.key, t.value FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid \(ours)", id)
        var metrics: [String: [JSONValue]] = [:]
        for row in try await rows(
            """
            SELECT m.run_uuid, m.key, m.value, m.is_nan, m.timestamp, m.step FROM latest_metrics m
            JOIN runs r ON r.run_uuid = m.run_uuid \(ours)
            """, id)
        {
            metrics[row.text("run_uuid"), default: []].append([
                "key": .string(row.text("key")), "value": Self.value(row), "timestamp": Self.integer(row, "timestamp"),
                "step": Self.integer(row, "step"),
            ])
        }
        let inputs = try await inputs(id)
        return try await rows("SELECT r.* FROM runs r \(ours) ORDER BY r.start_time, r.run_uuid", id).map { row in
            let run = row.text("run_uuid")
            return [
                "info": [
                    "run_id": .string(run), "experiment_id": .string(experiment),
                    "run_name": Self.string(row, "name"), "user_id": Self.string(row, "user_id"),
                    "status": .string(row["status"].textValue ?? "FINISHED"),
                    "start_time": Self.integer(row, "start_time"), "end_time": Self.integer(row, "end_time"),
                    "artifact_uri": Self.string(row, "artifact_uri"),
                    "lifecycle_stage": .string(row["lifecycle_stage"].textValue ?? "active"),
                ],
                "data": [
                    "params": .array(params[run] ?? []), "tags": .array(tags[run] ?? []),
                    "metrics": .array(metrics[run] ?? []),
                ],
                "inputs": [
                    "dataset_inputs": .array(inputs.datasets[run] ?? []),
                    "model_inputs": .array(inputs.models[run] ?? []),
                ],
                "outputs": ["model_outputs": .array(inputs.outputs[run] ?? [])],
            ]
        }
    }

    private struct Inputs {
        var datasets: [String: [JSONValue]] = [:]
        var models: [String: [JSONValue]] = [:]
        var outputs: [String: [JSONValue]] = [:]
    }

    private func inputs(_ experiment: [MetadataValue]) async throws -> Inputs {
        var found = Inputs()
        guard try await has("inputs") else { return found }
        var tags: [String: [JSONValue]] = [:]
        for row in try await rows("SELECT input_uuid, name, value FROM input_tags") {
            tags[row.text("input_uuid"), default: []].append([
                "key": .string(row.text("name")), "value": .string(row.text("value")),
            ])
        }
        for row in try await rows(
            """
            SELECT i.input_uuid, i.destination_id, d.* FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id
            JOIN runs r ON r.run_uuid = i.destination_id WHERE i.source_type = 'DATASET' AND r.experiment_id = ?
            ORDER BY d.name, d.digest
            """, experiment)
        {
            found.datasets[row.text("destination_id"), default: []].append([
                "tags": .array(tags[row.text("input_uuid")] ?? []),
                "dataset": [
                    "name": .string(row.text("name")), "digest": .string(row.text("digest")),
                    "source_type": .string(row.text("dataset_source_type")),
                    "source": .string(row.text("dataset_source")), "schema": Self.string(row, "dataset_schema"),
                    "profile": Self.string(row, "dataset_profile"),
                ],
            ])
        }
        for row in try await rows(
            """
            SELECT i.* FROM inputs i JOIN runs r ON r.run_uuid = i.source_id
            WHERE i.source_type IN ('RUN_INPUT', 'RUN_OUTPUT') AND r.experiment_id = ? ORDER BY i.destination_id
            """, experiment)
        {
            let (run, model) = (row.text("source_id"), JSONValue.string(row.text("destination_id")))
            if row.text("source_type") == "RUN_INPUT" {
                found.models[run, default: []].append(["model_id": model])
            } else {
                found.outputs[run, default: []].append(["model_id": model, "step": Self.integer(row, "step")])
            }
        }
        return found
    }

    /// The run: a database leaves nothing out.
    public func whole(_ run: JSONValue) async throws -> JSONValue { run }

    /// All values of a metric.
    public func history(run: String, key: String) async throws -> [ImportedPoint] {
        try await rows(
            "SELECT value, is_nan, timestamp, step FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY timestamp, step",
            [.text(run), .text(key)]
        ).map {
            ImportedPoint(
                milliseconds: $0.integer("timestamp"), step: $0.integer("step"),
                value: $0.integer("is_nan") != 0 ? .nan : $0["value"].doubleValue ?? 0)
        }
    }

    /// Every logged model of an experiment.
    public func loggedModels(of experiment: String) async throws -> [JSONValue] {
        guard try await has("logged_models") else { return [] }
        let id: [MetadataValue] = [.integer(Int64(experiment) ?? -1)]
        let params = try await tags(
            "SELECT model_id AS owner, param_key AS key, param_value AS value FROM logged_model_params WHERE experiment_id = ?",
            id)
        let tags = try await tags(
            "SELECT model_id AS owner, tag_key AS key, tag_value AS value FROM logged_model_tags WHERE experiment_id = ?",
            id)
        var metrics: [String: [JSONValue]] = [:]
        for row in try await rows(
            // Its own experiment is that of the run, which may be another one.
            "SELECT m.* FROM logged_model_metrics m JOIN logged_models l ON l.model_id = m.model_id WHERE l.experiment_id = ?",
            id)
        {
            metrics[row.text("model_id"), default: []].append([
                "key": .string(row.text("metric_name")), "value": .number(row["metric_value"].doubleValue ?? 0),
                "timestamp": Self.integer(row, "metric_timestamp_ms"), "step": Self.integer(row, "metric_step"),
                "run_id": .string(row.text("run_id")), "dataset_name": Self.string(row, "dataset_name"),
                "dataset_digest": Self.string(row, "dataset_digest"),
            ])
        }
        let states = [
            "LOGGED_MODEL_STATUS_UNSPECIFIED", "LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY",
            "LOGGED_MODEL_UPLOAD_FAILED",
        ]
        return try await rows(
            "SELECT * FROM logged_models WHERE experiment_id = ? AND lifecycle_stage = 'active' ORDER BY model_id", id
        ).map { row in
            let model = row.text("model_id")
            let status = Int(row.integer("status"))
            return [
                "info": [
                    "model_id": .string(model), "experiment_id": .string(experiment), "name": .string(row.text("name")),
                    "artifact_uri": .string(row.text("artifact_location")),
                    "creation_timestamp_ms": Self.integer(row, "creation_timestamp_ms"),
                    "last_updated_timestamp_ms": Self.integer(row, "last_updated_timestamp_ms"),
                    "status": .string(states.indices.contains(status) ? states[status] : states[1]),
                    "model_type": Self.string(row, "model_type"), "source_run_id": Self.string(row, "source_run_id"),
                    "tags": .array(tags[model] ?? []),
                ],
                "data": ["params": .array(params[model] ?? []), "metrics": .array(metrics[model] ?? [])],
            ]
        }
    }

    /// How many traces an experiment has; no more than `countMax` are counted.
    public func traceCount(of experiment: String, countMax: Int) async throws -> Int {
        guard try await has("trace_info") else { return 0 }
        return try await rows(
            "SELECT 1 FROM trace_info WHERE experiment_id = ? LIMIT ?",
            [.integer(Int64(experiment) ?? -1), .integer(Int64(countMax))]
        ).count
    }

    /// Every registered model, prompts too.
    public func registeredModels() async throws -> [JSONValue] {
        let tags = try await tags("SELECT name AS owner, key, value FROM registered_model_tags")
        var aliases: [String: [JSONValue]] = [:]
        if try await has("registered_model_aliases") {
            for row in try await rows("SELECT * FROM registered_model_aliases") {
                aliases[row.text("name"), default: []].append([
                    "alias": .string(row.text("alias")), "version": .string(String(row.integer("version"))),
                ])
            }
        }
        return try await rows("SELECT * FROM registered_models ORDER BY name").map { row in
            let name = row.text("name")
            return [
                "name": .string(name), "creation_timestamp": Self.integer(row, "creation_time"),
                "last_updated_timestamp": Self.integer(row, "last_updated_time"),
                "description": Self.string(row, "description"), "tags": .array(tags[name] ?? []),
                "aliases": .array(aliases[name] ?? []),
            ]
        }
    }

    /// Every version of every registered model, prompts' too.
    public func modelVersions() async throws -> [JSONValue] {
        let tags = try await tags(
            "SELECT name || '/' || CAST(version AS TEXT) AS owner, key, value FROM model_version_tags")
        return try await rows(
            "SELECT * FROM model_versions WHERE current_stage IS NULL OR current_stage <> 'Deleted_Internal' ORDER BY name, version"
        ).map { row in
            let (name, number) = (row.text("name"), row.integer("version"))
            return [
                "name": .string(name), "version": .string(String(number)),
                "creation_timestamp": Self.integer(row, "creation_time"),
                "last_updated_timestamp": Self.integer(row, "last_updated_time"),
                "description": Self.string(row, "description"), "user_id": Self.string(row, "user_id"),
                "current_stage": Self.string(row, "current_stage"), "source": Self.string(row, "source"),
                "storage_location": Self.string(row, "storage_location"),
                "run_id": Self.string(row, "run_id"), "run_link": Self.string(row, "run_link"),
                "tags": .array(tags["\(name)/\(number)"] ?? []),
            ]
        }
    }

    /// Where a version's files are.
    public func location(of version: JSONValue) async throws -> String { version.text("storage_location") }

    // MARK: Files

    /// The local folder that an artifact URI names.
    private func folder(of uri: String) throws -> String {
        if let path = ServerSource.proxied(uri) {
            let parts = path.split(separator: "/")
            guard !parts.contains("..") else {
                throw PlatformError(.invalidInput, uri, "it leaves the artifacts' folder")
            }
            return "\(artifacts ?? "")/\(path)"
        }
        if uri.hasPrefix("file:") { return URL(string: uri)?.path ?? "" }
        if uri.hasPrefix("/") { return uri }
        guard !uri.contains("://") else {
            throw PlatformError(
                .unavailable, uri, "its files are in another store; import from the running server instead")
        }
        return "\((name as NSString).deletingLastPathComponent)/\(uri)"
    }

    /// Files below an artifact URI, of a run if it belongs to one.
    public func files(below uri: String, run: String?) async throws -> [ImportedFile] {
        guard hasFiles else { return [] }
        let folder = URL(fileURLWithPath: try folder(of: uri)).resolvingSymlinksInPath().path
        guard let walk = FileManager.default.enumerator(atPath: folder) else { return [] }
        var files: [ImportedFile] = []
        while let path = walk.nextObject() as? String {
            guard let attributes = try? FileManager.default.attributesOfItem(atPath: "\(folder)/\(path)"),
                attributes[.type] as? FileAttributeType == .typeRegular
            else { continue }
            files.append(ImportedFile(path: path, byteCount: attributes[.size] as? Int))
        }
        return files.sorted { $0.path < $1.path }
    }

    /// Copies a file into a local one.
    public func fetch(_ path: String, below uri: String, run: String?, to file: String) async throws {
        try? FileManager.default.removeItem(atPath: file)
        try FileManager.default.copyItem(atPath: "\(try folder(of: uri))/\(path)", toPath: file)
    }
}
