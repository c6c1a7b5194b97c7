import APIContract
import ExperimentTracking
import Governance
import ModelRegistry
import PlatformCore

/// What an importer needs beside MLflow's own calls: identities and times of things that were made elsewhere.
enum ImportRoutes {
    static func routes(_ services: PlatformServices) -> [Route] {
        runRoutes(services) + evaluationRoutes(services)
    }

    private static func evaluationRoutes(_ services: PlatformServices) -> [Route] {
        [
            Route("POST", "/api/v1/import/evaluation-datasets") { request in
                let body = try RequestBody(request)
                try body.checkKeys([
                    "dataset_id", "name", "digest", "schema", "profile", "created_at", "updated_at", "created_by",
                    "updated_by", "tags", "experiment_ids",
                ])
                let created = try body.time("created_at") ?? EventTime(milliseconds: 0)
                let tags = (body["tags"]?.objectValue ?? [:]).sorted { $0.key < $1.key }
                try await services.tracking.importEvaluationDataset(
                    EvaluationDataset(
                        id: try RunRoutes.checkedRunID(try body.text("dataset_id")), name: try body.text("name"),
                        digest: body["digest"]?.stringValue ?? "", schema: body["schema"]?.stringValue,
                        profile: body["profile"]?.stringValue, createdAt: created,
                        updatedAt: try body.time("updated_at") ?? created, createdBy: body["created_by"]?.stringValue,
                        updatedBy: body["updated_by"]?.stringValue,
                        tags: tags.map { TrackedTag($0.key, $0.value.stringValue ?? $0.value.text) }),
                    experiments: (body["experiment_ids"]?.arrayValue ?? []).compactMap(\.stringValue))
                return .json([:])
            },
            Route("POST", "/api/v1/import/evaluation-records") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["dataset_id", "records"])
                let given = body["records"]?.arrayValue ?? []
                guard given.count <= EvaluationLimits.recordsPerCall else {
                    throw PlatformError(
                        .invalidInput, "request body",
                        "\(given.count) records, \(EvaluationLimits.recordsPerCall) are accepted")
                }
                let records = try given.map(record)
                try await services.tracking.importRecords(records, ofEvaluationDataset: try body.text("dataset_id"))
                return .json(["records": .integer(Int64(records.count))])
            },
            Route("POST", "/api/v1/import/scorers") { request in
                let body = try RequestBody(request)
                try body.checkKeys([
                    "experiment_id", "scorer_id", "name", "version", "serialized_scorer", "created_at",
                ])
                let made = try await services.tracking.importScorer(
                    ScorerVersion(
                        scorerID: try RunRoutes.checkedRunID(try body.text("scorer_id")),
                        experimentID: try body.text("experiment_id"), name: try body.text("name"),
                        version: try body.integer("version", default: 1, in: 1...Int64(Int32.max)),
                        document: try body.text("serialized_scorer"),
                        createdAt: try body.time("created_at") ?? EventTime(milliseconds: 0)))
                return .json(["made": .bool(made)])
            },
        ]
    }

    /// A record of an evaluation dataset as MLflow's servers tell it.
    private static func record(_ value: JSONValue) throws -> EvaluationRecord {
        let body = try RequestBody(value)
        try body.checkKeys([
            "dataset_record_id", "dataset_id", "inputs", "outputs", "expectations", "tags", "source", "source_id",
            "source_type", "created_time", "last_update_time", "created_by", "last_updated_by",
        ])
        guard let inputs = body["inputs"], inputs.objectValue != nil else {
            throw PlatformError(.invalidInput, "request body", "'inputs' of a record must be an object")
        }
        let created = try body.time("created_time") ?? EventTime(milliseconds: 0)
        return EvaluationRecord(
            id: try RunRoutes.checkedRunID(try body.text("dataset_record_id")), inputs: inputs.text,
            outputs: body["outputs"]?.text, expectations: body["expectations"]?.text, tags: body["tags"]?.text ?? "{}",
            source: body["source"]?.text, sourceID: body["source_id"]?.stringValue,
            sourceType: body["source_type"]?.stringValue, createdAt: created,
            updatedAt: try body.time("last_update_time") ?? created, createdBy: body["created_by"]?.stringValue,
            updatedBy: body["last_updated_by"]?.stringValue)
    }

    private static func runRoutes(_ services: PlatformServices) -> [Route] {
        [
            Route("POST", "/api/v1/import/experiments") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["name", "created_at", "updated_at"])
                let (id, isNew) = try await services.tracking.importExperiment(
                    named: try body.text("name"), createdAt: try body.time("created_at"),
                    updatedAt: try body.time("updated_at"))
                return .json(["experiment_id": .string(id), "made": .bool(isNew)])
            },
            Route("POST", "/api/v1/import/runs") { request in
                let body = try RequestBody(request)
                try body.checkKeys([
                    "run_id", "experiment_id", "name", "user", "status", "started_at", "ended_at",
                ])
                let id = try RunRoutes.checkedRunID(try body.text("run_id"))
                let text = try body.text("status")
                guard let status = RunStatus(rawValue: text) else {
                    throw PlatformError(.invalidInput, "request body", "'\(text.prefix(64))' is no status of a run")
                }
                let info = try await services.tracking.importRun(
                    ImportedRun(
                        id: id, experiment: try body.text("experiment_id"), name: try body.text("name"),
                        userName: try body.text("user"), status: status,
                        startedAt: try body.time("started_at") ?? EventTime(milliseconds: 0),
                        endedAt: try body.time("ended_at")))
                return .json(["run_id": .string(info.id), "artifact_uri": .string(info.artifactURI)])
            },
            Route("POST", "/api/v1/import/registry") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["name", "version", "created_at", "updated_at", "user"])
                let version = try body.integer("version", default: 0, in: 0...Int64(Int32.max))
                try await services.registry.restate(
                    try body.text("name"), version: version == 0 ? nil : Int(version),
                    createdAt: try body.time("created_at"), updatedAt: try body.time("updated_at"),
                    createdBy: body["user"]?.stringValue, actor: request.actor)
                return .json([:])
            },
            Route("POST", "/api/v1/import/notes") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["source", "state", "report"])
                let state = try body.text("state")
                guard ["started", "ended"].contains(state) else {
                    throw PlatformError(.invalidInput, "request body", "'state' must be started or ended")
                }
                try await services.auditLog.append(
                    AuditRecord(
                        actor: request.actor, action: "import.\(state)",
                        subject: "import/\(try body.text("source").prefix(500))", after: body["report"] ?? .null))
                services.changed()
                return .json([:])
            },
            Route("GET", "/api/v1/import/files") { request in
                let root = try TrackingStore.checkedArtifactPath(request.queryValue("below") ?? "")
                let files = try await services.tracking.allArtifacts(below: root)
                return .json([
                    "files": .array(
                        files.map {
                            [
                                "path": .string(String($0.path.dropFirst(root.count + 1))),
                                "sha256": .string($0.hash.hex), "bytes": .integer(Int64($0.byteCount)),
                            ]
                        })
                ])
            },
            Route("POST", "/api/v1/import/logged-models") { request in
                let body = try RequestBody(request)
                try body.checkKeys([
                    "model_id", "experiment_id", "name", "model_type", "source_run_id", "status", "created_at",
                    "updated_at",
                ])
                let created = try body.time("created_at") ?? EventTime(milliseconds: 0)
                let model = try await services.tracking.importLoggedModel(
                    ImportedModel(
                        id: try RunRoutes.checkedRunID(try body.text("model_id")),
                        experiment: try body.text("experiment_id"), name: try body.text("name"),
                        modelType: body["model_type"]?.stringValue, sourceRunID: body["source_run_id"]?.stringValue,
                        status: LoggedModelStatus(rawValue: try body.text("status")) ?? .pending, createdAt: created,
                        updatedAt: try body.time("updated_at") ?? created))
                return .json([
                    "model_id": .string(model.id), "artifact_uri": .string(model.artifactURI),
                    "tags": .object(
                        Dictionary(model.tags.map { ($0.key, .string($0.value)) }, uniquingKeysWith: { $1 })),
                ])
            },
        ]
    }
}
