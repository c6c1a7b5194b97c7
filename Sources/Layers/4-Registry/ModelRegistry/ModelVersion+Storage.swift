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
        guard let model = Name(name) else { throw broken("model name") }
        let metrics: [String: [String: Double]] = try json("metrics")
        self.init(
            model: model, number: version, createdAt: EventTime(milliseconds: row.integer("created_at")),
            createdBy: row.text("created_by"),
            candidate: VersionCandidate(
                artifact: ModelArtifact(
                    hash: try hash("artifact_hash"), byteCount: Int(row.integer("artifact_byte_count")),
                    format: row.text("artifact_format"), fileName: row.text("artifact_file_name")),
                signature: row["signature"].textValue == nil ? nil : try json("signature"),
                origin: VersionOrigin(
                    dataset: try hash("dataset_hash"), serviceVersion: try hash("service_version"),
                    runID: row.text("run_id"), jobID: row.text("job_id"), commit: row.text("code_commit"),
                    branch: row.text("code_branch"), isDirty: row.integer("code_dirty") != 0,
                    seed: row.integer("seed"),
                    environment: row["environment_hash"].textValue == nil ? nil : try hash("environment_hash"),
                    parameters: try json("parameters")),
                metrics: SliceMetricsCoding.read(metrics), rows: try json("slice_rows"),
                referenceProfile: row["profile_hash"].textValue == nil ? nil : try hash("profile_hash"),
                description: row.text("description"), tags: try json("tags")))
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
            ("dataset_hash", .text(origin.dataset.hex)), ("service_version", .text(origin.serviceVersion.hex)),
            ("run_id", .text(origin.runID)), ("job_id", .text(origin.jobID)), ("code_commit", .text(origin.commit)),
            ("code_branch", .text(origin.branch)), ("code_dirty", .integer(origin.isDirty ? 1 : 0)),
            ("seed", .integer(origin.seed)), ("environment_hash", MetadataValue(origin.environment?.hex)),
            ("parameters", .text(try JSONValue.of(origin.parameters).text)),
            ("metrics", .text(candidate.metricsJSON.text)),
            ("slice_rows", .text(try JSONValue.of(candidate.rows).text)),
            ("profile_hash", MetadataValue(candidate.referenceProfile?.hex)),
            ("description", .text(candidate.description)), ("tags", .text(try JSONValue.of(candidate.tags).text)),
        ]
        try transaction.execute(
            "INSERT INTO model_versions (\(values.map(\.0).joined(separator: ", "))) "
                + "VALUES (\(values.map { _ in "?" }.joined(separator: ", ")))", values.map(\.1))
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

extension StageTransition {
    /// The transition from its row.
    init(row: MetadataRow) throws {
        guard let model = Name(row.text("model")), let to = ModelStage(rawValue: row.text("to_stage")) else {
            throw PlatformError(
                .corrupted, "model_stage_transitions/\(row.integer("position"))", "the stored transition cannot be read"
            )
        }
        self.init(
            position: row.integer("position"), model: model, version: Int(row.integer("number")),
            from: row["from_stage"].textValue.flatMap(ModelStage.init(rawValue:)), to: to,
            time: EventTime(milliseconds: row.integer("time")), actor: row.text("actor"), reason: row.text("reason"),
            evidence: row["evidence"].textValue.flatMap { ContentHash(hex: $0) })
    }

    /// The stage of one version; `nil` if there is no such version.
    static func stage(_ model: Name, _ version: Int, in transaction: any MetadataTransaction) throws -> ModelStage? {
        try transaction.query(
            "SELECT to_stage FROM model_stage_transitions WHERE model = ? AND number = ? "
                + "ORDER BY position DESC LIMIT 1",
            [.text(model.text), .integer(Int64(version))]
        ).first.flatMap { ModelStage(rawValue: $0.text("to_stage")) }
    }

    /// Stages of all versions of a model as they were at `moment`, or now.
    static func stages(_ model: Name, at moment: EventTime?, in transaction: any MetadataTransaction) throws
        -> [Int: ModelStage]
    {
        let rows = try transaction.query(
            "SELECT number, to_stage FROM model_stage_transitions WHERE model = ? AND time <= ? ORDER BY position",
            [.text(model.text), .integer(moment?.milliseconds ?? .max)])
        var stages: [Int: ModelStage] = [:]
        for row in rows { stages[Int(row.integer("number"))] = ModelStage(rawValue: row.text("to_stage")) }
        return stages
    }

    /// Adds a step to a version's history.
    ///
    /// Its time is never before that of the step added last, whatever the clock says.
    static func append(
        _ model: Name, _ version: Int, from: ModelStage?, to: ModelStage, at now: EventTime, actor: String,
        reason: String, evidence: ContentHash?, in transaction: any MetadataTransaction
    ) throws -> StageTransition {
        let last = try transaction.query(
            "SELECT position, time FROM model_stage_transitions ORDER BY position DESC LIMIT 1"
        ).first
        let step = StageTransition(
            position: (last?.integer("position") ?? 0) + 1, model: model, version: version, from: from, to: to,
            time: max(now, EventTime(milliseconds: last?.integer("time") ?? .min)), actor: actor, reason: reason,
            evidence: evidence)
        try transaction.execute(
            """
            INSERT INTO model_stage_transitions (position, model, number, from_stage, to_stage, time, actor, reason, \
            evidence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                .integer(step.position), .text(model.text), .integer(Int64(version)), MetadataValue(from?.rawValue),
                .text(to.rawValue), MetadataValue(step.time), .text(actor), .text(reason), MetadataValue(evidence?.hex),
            ])
        return step
    }
}
