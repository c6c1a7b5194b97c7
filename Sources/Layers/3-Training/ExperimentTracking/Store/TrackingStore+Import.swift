public import PlatformCore
import StoragePorts

/// A run that was made elsewhere, with the identity and times that it had there.
public struct ImportedRun: Sendable, Hashable {
    /// Its identifier.
    public let id: String
    /// The experiment that it belongs to here.
    public let experiment: String
    /// Its name.
    public let name: String
    /// Who started it.
    public let userName: String
    /// How it stands.
    public let status: RunStatus
    /// When it began.
    public let startedAt: EventTime
    /// When it ended.
    public let endedAt: EventTime?

    /// Makes one.
    public init(
        id: String, experiment: String, name: String, userName: String, status: RunStatus, startedAt: EventTime,
        endedAt: EventTime?
    ) {
        self.id = id
        self.experiment = experiment
        self.name = name
        self.userName = userName
        self.status = status
        self.startedAt = startedAt
        self.endedAt = endedAt
    }
}

/// A logged model that was made elsewhere, with the identity and times that it had there.
public struct ImportedModel: Sendable, Hashable {
    /// Its identifier, `m-…`.
    public let id: String
    /// The experiment that it belongs to here.
    public let experiment: String
    /// Its name.
    public let name: String
    /// Its kind.
    public let modelType: String?
    /// The run that gave it.
    public let sourceRunID: String?
    /// Whether its files are complete.
    public let status: LoggedModelStatus
    /// When it was made.
    public let createdAt: EventTime
    /// When it changed last.
    public let updatedAt: EventTime

    /// Makes one.
    public init(
        id: String, experiment: String, name: String, modelType: String?, sourceRunID: String?,
        status: LoggedModelStatus, createdAt: EventTime, updatedAt: EventTime
    ) {
        self.id = id
        self.experiment = experiment
        self.name = name
        self.modelType = modelType
        self.sourceRunID = sourceRunID
        self.status = status
        self.createdAt = createdAt
        self.updatedAt = updatedAt
    }
}

/// What the protocol of the clients cannot say, for importers: identities and times of things that were made elsewhere.
extension TrackingStore {
    /// The experiment of this name, restored if it was deleted, or a new one with these times.
    /// - Returns: its number, and whether it was made now.
    public func importExperiment(
        named name: String, createdAt: EventTime?, updatedAt: EventTime?
    ) async throws -> (id: String, isNew: Bool) {
        let known = try await experiment(named: name)
        if let known {
            if known.isDeleted { try await setExperiment(known.id, deleted: false) }
            // One that was made here keeps its times.
            guard known.tags.contains(where: { $0.key == Self.importTag }) else { return (known.id, false) }
        }
        let id: String
        if let known { id = known.id } else { id = try await findOrCreateExperiment(named: name) }
        let number = try Self.experimentNumber(id)
        try await metadata.write { transaction in
            for (column, time) in [("created_at", createdAt), ("updated_at", updatedAt)] {
                guard let time else { continue }
                try transaction.execute(
                    "UPDATE tracking_experiment SET \(column) = ? WHERE number = ?",
                    [MetadataValue(time), .integer(number)])
            }
        }
        return (id, known == nil)
    }

    /// Tag of what an import brought: from where.
    private static let importTag = "bottega.import.source"

    /// Makes a run with the identity that it had elsewhere, or brings the one of this identity to that state; it is
    /// active afterwards.
    /// - Throws: `conflict` if a run of another experiment has this identity.
    public func importRun(_ run: ImportedRun) async throws -> RunInfo {
        try TrackingLimits.check(freeKey: run.id, of: "run_id")
        let known = try? await runInfo(run.id)
        if let known, known.experimentID != run.experiment {
            throw PlatformError(
                .conflict, "run/\(run.id)", "a run of experiment \(known.experimentID) has this identity")
        }
        if let known, known.isDeleted { try await setRun(run.id, deleted: false) }
        try await metadata.write { transaction in
            let experiment = try Self.activeExperiment(run.experiment, transaction)
            if known == nil {
                let location =
                    try transaction.query(
                        "SELECT artifact_location FROM tracking_experiment WHERE number = ?", [.integer(experiment)]
                    ).first?.text("artifact_location") ?? ""
                try transaction.execute(
                    """
                    INSERT INTO tracking_run (number, run_id, experiment_number, name, user_name, status, started_at,
                        ended_at, artifact_uri, is_deleted) VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?, 0)
                    """,
                    [
                        .integer(try transaction.nextNumber(in: "tracking_run")), .text(run.id), .integer(experiment),
                        .text(run.name), .text(run.userName), .text(run.status.rawValue), MetadataValue(run.startedAt),
                        .text("\(location)/\(run.id)/artifacts"),
                    ])
            }
            try transaction.execute(
                """
                UPDATE tracking_run SET name = ?, user_name = ?, status = ?, started_at = ?, ended_at = ? WHERE run_id = ?
                """,
                [
                    .text(run.name), .text(run.userName), .text(run.status.rawValue), MetadataValue(run.startedAt),
                    run.endedAt.map { MetadataValue($0) } ?? .null, .text(run.id),
                ])
            try Self.touch(Self.info(run.id, transaction).number, transaction)
        }
        return try await runInfo(run.id)
    }

    /// Makes a logged model with the identity that it had elsewhere, or brings the one of this identity to that state.
    /// - Throws: `conflict` if a model of another experiment has this identity.
    public func importLoggedModel(_ model: ImportedModel) async throws -> LoggedModel {
        try TrackingLimits.check(freeKey: model.id, of: "model_id")
        let number = try Self.experimentNumber(model.experiment)
        try await metadata.write { transaction in
            let known = try transaction.query(
                "SELECT experiment_number FROM tracking_logged_model WHERE model_id = ?", [.text(model.id)]
            ).first
            guard known == nil || known?.integer("experiment_number") == number else {
                throw PlatformError(
                    .conflict, "model/\(model.id)", "a logged model of another experiment has this identity")
            }
            let location =
                try transaction.query(
                    "SELECT artifact_location FROM tracking_experiment WHERE number = ?", [.integer(number)]
                ).first?.text("artifact_location") ?? ""
            try transaction.execute(
                """
                INSERT INTO tracking_logged_model (model_id, experiment_number, name, model_type, source_run_id, status,
                    created_at, updated_at, artifact_uri, is_deleted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)
                ON CONFLICT (model_id) DO UPDATE SET name = excluded.name, model_type = excluded.model_type,
                    source_run_id = excluded.source_run_id, status = excluded.status,
                    created_at = excluded.created_at, updated_at = excluded.updated_at, is_deleted = 0
                """,
                [
                    .text(model.id), .integer(number), .text(model.name), MetadataValue(model.modelType),
                    MetadataValue(model.sourceRunID), .text(model.status.rawValue), MetadataValue(model.createdAt),
                    MetadataValue(model.updatedAt), .text("\(location)/models/\(model.id)/artifacts"),
                ])
        }
        return try await loggedModel(model.id)
    }
}
