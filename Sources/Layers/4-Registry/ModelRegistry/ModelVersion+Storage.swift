import Definitions
public import PlatformCore
import Statistics
import StoragePorts

extension ModelVersion {
    /// The version from its row.
    /// - Throws: `corrupted` if a stored value cannot be read.
    init(row: MetadataRow) throws {
        let name = row.text("model")
        let version = Int(row.integer("number"))
        func broken(_ what: String) -> PlatformError {
            PlatformError(.corrupted, "model/\(name)/versions/\(version)", "the stored \(what) cannot be read")
        }
        func hash(_ column: String) throws -> ContentHash {
            guard let hash = ContentHash(hex: row.text(column)) else { throw broken(column) }
            return hash
        }
        func json<Value: Decodable>(_ column: String, as type: Value.Type = Value.self) throws -> Value {
            do {
                return try JSONValue.parse(Array(row.text(column).utf8)).decoded()
            } catch { throw broken(column) }
        }
        // Mostly empty in a version from elsewhere, and a page of a search has a thousand of them.
        func members<Value: Decodable & ExpressibleByDictionaryLiteral>(_ column: String) throws -> Value {
            row.text(column) == "{}" ? [:] : try json(column)
        }
        guard let model = Name(name) else { throw broken("model name") }
        let metrics: [String: [String: Double]] = try members("metrics")
        self.init(
            model: model, number: version, createdAt: EventTime(milliseconds: row.integer("created_at")),
            createdBy: row.text("created_by"),
            candidate: VersionCandidate(
                artifact: ModelArtifact(
                    hash: try hash("artifact_hash"), byteCount: Int(row.integer("artifact_byte_count")),
                    format: row.text("artifact_format"), fileName: row.text("artifact_file_name")),
                signature: row["signature"].textValue == nil ? nil : try json("signature"),
                origin: VersionOrigin(
                    dataset: row.text("dataset_hash").isEmpty ? nil : try hash("dataset_hash"),
                    serviceVersion: row.text("service_version").isEmpty ? nil : try hash("service_version"),
                    runID: row.text("run_id"), jobID: row.text("job_id"), commit: row.text("code_commit"),
                    branch: row.text("code_branch"), isDirty: row.integer("code_dirty") != 0,
                    seed: row.integer("seed"),
                    environment: row["environment_hash"].textValue == nil ? nil : try hash("environment_hash"),
                    parameters: try members("parameters")),
                metrics: SliceMetricsCoding.read(metrics), rows: try members("slice_rows"),
                referenceProfile: row["profile_hash"].textValue == nil ? nil : try hash("profile_hash"),
                description: row.text("description"), tags: try members("tags"),
                source: row.text("source").isEmpty
                    ? nil
                    : VersionSource(
                        uri: row.text("source"), artifactURI: row.text("artifact_uri"),
                        loggedModel: row["logged_model"].textValue, runLink: row["run_link"].textValue,
                        files: row["files_hash"].textValue == nil ? nil : try hash("files_hash")),
                requirementDifferences: row["requirement_differences"].textValue == nil
                    ? [] : try json("requirement_differences")))
    }

    /// Writes the version as a new row.
    func insert(in transaction: any MetadataTransaction) throws {
        let origin = candidate.origin
        let values: [(String, MetadataValue)] = [
            ("model", .text(model.text)), ("number", .integer(Int64(number))),
            ("created_at", MetadataValue(createdAt)), ("created_by", .text(createdBy)),
            ("artifact_hash", .text(candidate.artifact.hash.hex)),
            ("artifact_byte_count", .integer(Int64(candidate.artifact.byteCount))),
            ("artifact_format", .text(candidate.artifact.format)),
            ("artifact_file_name", .text(candidate.artifact.fileName)),
            ("signature", MetadataValue(try candidate.signature.map { try JSONValue.of($0).text })),
            ("dataset_hash", .text(origin.dataset?.hex ?? "")),
            ("service_version", .text(origin.serviceVersion?.hex ?? "")),
            ("run_id", .text(origin.runID)), ("job_id", .text(origin.jobID)), ("code_commit", .text(origin.commit)),
            ("code_branch", .text(origin.branch)), ("code_dirty", .integer(origin.isDirty ? 1 : 0)),
            ("seed", .integer(origin.seed)), ("environment_hash", MetadataValue(origin.environment?.hex)),
            ("parameters", .text(try JSONValue.of(origin.parameters).text)),
            ("metrics", .text(candidate.metricsJSON.text)),
            ("slice_rows", .text(try JSONValue.of(candidate.rows).text)),
            ("profile_hash", MetadataValue(candidate.referenceProfile?.hex)),
            ("description", .text(candidate.description)), ("tags", .text(try JSONValue.of(candidate.tags).text)),
            ("updated_at", MetadataValue(createdAt)),
            ("note", MetadataValue(candidate.description.isEmpty ? nil : candidate.description)),
            ("source", .text(candidate.source?.uri ?? "")),
            ("artifact_uri", .text(candidate.source?.artifactURI ?? "")),
            ("logged_model", MetadataValue(candidate.source?.loggedModel)),
            ("run_link", MetadataValue(candidate.source?.runLink)),
            ("files_hash", MetadataValue(candidate.source?.files?.hex)),
            (
                "requirement_differences",
                MetadataValue(
                    candidate.requirementDifferences.isEmpty
                        ? nil : try JSONValue.of(candidate.requirementDifferences).text)
            ),
        ]
        try transaction.execute(
            "INSERT INTO model_versions (\(values.map(\.0).joined(separator: ", "))) "
                + "VALUES (\(values.map { _ in "?" }.joined(separator: ", ")))", values.map(\.1))
        for (key, value) in candidate.tags {
            try transaction.execute(
                "INSERT INTO model_tags (model_id, number, key, value) VALUES (?, ?, ?, ?)",
                [.text(model.text), .integer(Int64(number)), .text(key), .text(value)])
        }
    }
}

/// Metrics by their wire names, slice by slice.
enum SliceMetricsCoding {
    /// Names that this version of the platform does not know are left out.
    static func read(_ texts: [String: [String: Double]]) -> SliceMetrics {
        texts.mapValues { metrics in
            Dictionary(
                metrics.compactMap { name, value in MetricName(rawValue: name).map { ($0, value) } },
                uniquingKeysWith: { $1 })
        }
    }

    static func json(_ metrics: SliceMetrics) -> JSONValue {
        .object(
            metrics.mapValues { slice in
                .object(Dictionary(uniqueKeysWithValues: slice.map { ($0.key.rawValue, .number($0.value)) }))
            })
    }
}

extension VersionCandidate {
    /// The metrics as JSON: an object of slices, each an object of metrics.
    public var metricsJSON: JSONValue { SliceMetricsCoding.json(metrics) }
}
