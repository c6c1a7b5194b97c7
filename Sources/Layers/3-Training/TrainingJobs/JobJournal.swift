import Foundation
import PlatformCore
import RuntimePorts
import StoragePorts

/// The rows of training jobs: what was asked for, and each state that followed.
struct JobJournal: Sendable {
    static let migrations = [
        MetadataMigration(
            name: "training-jobs-1",
            statements: [
                """
                CREATE TABLE training_jobs (id TEXT PRIMARY KEY, model TEXT NOT NULL, dataset TEXT NOT NULL, \
                seed BIGINT NOT NULL, parameters TEXT NOT NULL, actor TEXT NOT NULL, created_at BIGINT NOT NULL, \
                run_id TEXT NOT NULL, folder TEXT NOT NULL)
                """,
                "CREATE INDEX training_jobs_by_model ON training_jobs (model, created_at)",
                """
                CREATE TABLE training_job_states (job_id TEXT NOT NULL, position BIGINT NOT NULL, state TEXT NOT NULL, \
                time BIGINT NOT NULL, detail TEXT NOT NULL, PRIMARY KEY (job_id, position), \
                FOREIGN KEY (job_id) REFERENCES training_jobs (id))
                """,
            ])
    ]

    let store: any MetadataStore

    func insert(_ job: TrainingJob) async throws {
        let parameters = try JSONValue.of(job.parameters).text
        try await store.write { transaction in
            try transaction.execute(
                """
                INSERT INTO training_jobs (id, model, dataset, seed, parameters, actor, created_at, run_id, folder) \
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
                [
                    .text(job.id), .text(job.model.text), .text(job.dataset.hex), .integer(job.seed), .text(parameters),
                    .text(job.actor), MetadataValue(job.createdAt), .text(job.runID), .text(job.folder),
                ])
            try Self.append(job.id, .queued, at: job.createdAt, detail: .object([:]), in: transaction)
        }
    }

    /// Adds a state; nothing happens if the job is at its end already.
    /// - Returns: the state the job is in afterwards.
    @discardableResult
    func append(_ id: String, _ state: TrainingJobState, at time: EventTime, detail: JSONValue) async throws
        -> TrainingJobState
    {
        try await store.write { transaction in
            let last = try transaction.query(
                "SELECT state FROM training_job_states WHERE job_id = ? ORDER BY position DESC LIMIT 1", [.text(id)])
            if let current = last.first.flatMap({ TrainingJobState(rawValue: $0.text("state")) }), current.isFinal {
                return current
            }
            try Self.append(id, state, at: time, detail: detail, in: transaction)
            return state
        }
    }

    private static func append(
        _ id: String, _ state: TrainingJobState, at time: EventTime, detail: JSONValue,
        in transaction: any MetadataTransaction
    ) throws {
        let last = try transaction.query(
            "SELECT position FROM training_job_states WHERE job_id = ? ORDER BY position DESC LIMIT 1", [.text(id)])
        try transaction.execute(
            "INSERT INTO training_job_states (job_id, position, state, time, detail) VALUES (?, ?, ?, ?, ?)",
            [
                .text(id), .integer((last.first?.integer("position") ?? 0) + 1), .text(state.rawValue),
                MetadataValue(time), .text(detail.text),
            ])
    }

    func job(_ id: String) async throws -> TrainingJob? {
        try await store.read { transaction in
            try transaction.query("SELECT * FROM training_jobs WHERE id = ?", [.text(id)]).first
                .map { try Self.job($0, in: transaction) }
        }
    }

    func jobs(of model: Name?, countMax: Int) async throws -> [TrainingJob] {
        let filter = model == nil ? "" : "WHERE model = ? "
        let arguments: [MetadataValue] = (model.map { [.text($0.text)] } ?? []) + [.integer(Int64(max(0, countMax)))]
        return try await store.read { transaction in
            try transaction.query(
                "SELECT * FROM training_jobs \(filter)ORDER BY created_at DESC, id DESC LIMIT ?", arguments
            ).map { try Self.job($0, in: transaction) }
        }
    }

    /// Jobs whose last state is no end.
    func unfinished() async throws -> [String] {
        try await store.read { transaction in
            try transaction.query(
                """
                SELECT job_id FROM training_job_states AS s WHERE state IN ('queued', 'running') AND NOT EXISTS \
                (SELECT 1 FROM training_job_states AS n WHERE n.job_id = s.job_id AND n.position > s.position) \
                ORDER BY job_id
                """
            ).map { $0.text("job_id") }
        }
    }

    private static func job(_ row: MetadataRow, in transaction: any MetadataTransaction) throws -> TrainingJob {
        let id = row.text("id")
        func broken(_ what: String) -> PlatformError {
            PlatformError(.corrupted, "training_job/\(id)", "the stored \(what) cannot be read")
        }
        guard let model = Name(row.text("model")), let dataset = ContentHash(hex: row.text("dataset")),
            let parameters = try? JSONValue.parse(row.text("parameters")).decoded(as: [String: String].self)
        else { throw broken("request") }
        let states = try transaction.query(
            "SELECT state, time, detail FROM training_job_states WHERE job_id = ? ORDER BY position", [.text(id)])
        guard let last = states.last, let state = TrainingJobState(rawValue: last.text("state")) else {
            throw broken("state")
        }
        var startedAt: EventTime?
        var facts: TrainingFacts?
        var outcome: JobOutcome?
        for row in states {
            guard let detail = try? JSONValue.parse(row.text("detail")) else { throw broken("state") }
            if row.text("state") == TrainingJobState.running.rawValue, startedAt == nil {
                startedAt = EventTime(milliseconds: row.integer("time"))
            }
            facts = try detail["facts"].map { try $0.decoded() } ?? facts
            outcome = try detail["outcome"].map { try $0.decoded() } ?? outcome
        }
        return TrainingJob(
            id: id, model: model, dataset: dataset, seed: row.integer("seed"), parameters: parameters,
            actor: row.text("actor"), createdAt: EventTime(milliseconds: row.integer("created_at")),
            runID: row.text("run_id"), folder: row.text("folder"), state: state,
            stateTime: EventTime(milliseconds: last.integer("time")), startedAt: startedAt, facts: facts,
            outcome: outcome)
    }
}
