public import Governance
import ModelServing
public import PlatformCore
public import StoragePorts

/// Predictions that are asked for now and fetched later.
///
/// A job is durable when it is accepted, and what is computed of it is durable part by part: after a crash it goes on
/// with the part that was not finished, whose predictions may then be in the prediction log twice.
public struct PredictionJob: Sendable, Hashable {
    /// How a job stands.
    public enum State: String, Sendable, CaseIterable {
        /// Nothing is computed yet.
        case queued
        /// A part of it is computed; it is stored as `queued`, with the number of what is done.
        case running
        /// All predictions are there.
        case succeeded
        /// It ended with an error.
        case failed
        /// Somebody called it off.
        case cancelled
    }
    /// A UUID.
    public let id: String
    /// The model.
    public let model: String
    /// Who asked.
    public let caller: String
    /// How it stands.
    public let state: State
    /// Instances in it.
    public let instanceCount: Int
    /// Instances predicted.
    public let doneCount: Int
    /// When it was accepted.
    public let createdAt: EventTime
    /// When it ended; `nil` before.
    public let finishedAt: EventTime?
    /// The answer that ended it, as JSON; `nil` for a job that did not fail.
    public let fault: JSONValue?
    /// Where its end is told; empty for nowhere.
    public let webhook: String
    /// `pending`, `delivered` or `failed`; empty without a webhook.
    public let delivery: String

    init(row: MetadataRow) {
        id = row.text("id")
        model = row.text("model")
        caller = row.text("caller")
        instanceCount = Int(row.integer("instances"))
        doneCount = Int(row.integer("done"))
        let stored = State(rawValue: row.text("state")) ?? .failed
        state = stored == .queued && doneCount > 0 ? .running : stored
        createdAt = EventTime(milliseconds: row.integer("created_at"))
        finishedAt = row["finished_at"].integerValue.map { EventTime(milliseconds: $0) }
        fault = row["fault"].textValue.flatMap { try? JSONValue.parse(Array($0.utf8)) }
        webhook = row.text("webhook")
        delivery = row.text("delivery")
    }

    /// What is told of it, without the predictions.
    public var json: JSONValue {
        var members: [String: JSONValue] = [
            "job": .string(id), "model": .string(model), "state": .string(state.rawValue),
            "instances": .integer(Int64(instanceCount)), "done": .integer(Int64(doneCount)),
            "created_at": .string(createdAt.description),
            "finished_at": finishedAt.map { .string($0.description) } ?? .null, "error": fault ?? .null,
        ]
        if !webhook.isEmpty { members["webhook"] = ["url": .string(webhook), "state": .string(delivery)] }
        return .object(members)
    }
}

/// Keeps prediction jobs: what was asked, what is computed, who is told.
public struct PredictionJobStore: Sendable {
    /// The tables, for `MetadataStore.migrate`.
    public static let migrations = [
        MetadataMigration(
            name: "prediction-jobs-1",
            statements: [
                """
                CREATE TABLE prediction_jobs (position BIGINT NOT NULL PRIMARY KEY, id TEXT NOT NULL UNIQUE, model TEXT NOT NULL, caller TEXT NOT NULL,
                    priority TEXT NOT NULL, state TEXT NOT NULL, instances BIGINT NOT NULL, done BIGINT NOT NULL,
                    created_at BIGINT NOT NULL, finished_at BIGINT, fault TEXT, webhook TEXT NOT NULL,
                    delivery TEXT NOT NULL, attempts BIGINT NOT NULL, due_at BIGINT NOT NULL)
                """,
                """
                CREATE TABLE prediction_job_parts (job TEXT NOT NULL, part BIGINT NOT NULL, request BLOB NOT NULL,
                    predictions BLOB, PRIMARY KEY (job, part))
                """,
                "CREATE INDEX prediction_jobs_by_state ON prediction_jobs (state, position)",
                "CREATE INDEX prediction_jobs_by_delivery ON prediction_jobs (delivery, due_at)",
            ]),
        MetadataMigration(
            name: "prediction-jobs-2",
            statements: [
                "ALTER TABLE prediction_jobs ADD COLUMN secret TEXT",
                "CREATE INDEX prediction_jobs_by_end ON prediction_jobs (finished_at)",
            ]),
    ]
    /// Instances that are computed and made durable together.
    static let partCount = 200

    let store: any MetadataStore
    let clock: any PlatformClock
    private let identifiers: IdentifierSource
    private let box: SecretBox

    /// Keeps jobs in `store`, whose migrations have run; `box` seals the secrets of their webhooks.
    public init(store: any MetadataStore, clock: any PlatformClock, identifiers: IdentifierSource, box: SecretBox) {
        self.store = store
        self.clock = clock
        self.box = box
        self.identifiers = identifiers
    }

    /// Accepts a job; durable when it returns.
    /// - Throws: `PlatformError` (`overloaded`) when `instanceCountMax` instances wait already.
    func add(
        model: String, caller: String, priority: String, instances: [JSONValue], wishes: Predictor.Wishes,
        webhook: String,
        secret: String?, instanceCountMax: Int
    ) async throws -> PredictionJob {
        let secret = try secret.map { try box.seal($0) }
        let (id, now) = (identifiers.next(), clock.now())
        let partCount =
            wishes.withExplanations ? min(Self.partCount, Predictor.explainedInstanceCountMax) : Self.partCount
        let parts = stride(from: 0, to: instances.count, by: partCount).map { start in
            let slice = Array(instances[start..<min(start + partCount, instances.count)])
            return JSONValue.object(wishes.members.merging(["instances": .array(slice)]) { $1 }).canonicalBytes
        }
        let count = instances.count
        let rows = try await store.write { transaction in
            let waiting = try transaction.query(
                "SELECT COALESCE(SUM(instances - done), 0) AS n FROM prediction_jobs WHERE state = 'queued'")
            guard Int(waiting.first?.integer("n") ?? 0) + count <= instanceCountMax else {
                throw PlatformError(
                    .overloaded, "predict/\(model)", "\(instanceCountMax) instances wait already; try again later")
            }
            try transaction.execute(
                """
                INSERT INTO prediction_jobs (position, id, model, caller, priority, state, instances, done, created_at, webhook, secret,
                    delivery, attempts, due_at) VALUES ((SELECT COALESCE(MAX(position), 0) + 1 FROM prediction_jobs), ?, ?, ?,
                    ?, 'queued', ?, 0, ?, ?, ?, '', 0, 0)
                """,
                [
                    .text(id), .text(model), .text(caller), .text(priority), .integer(Int64(count)),
                    .integer(now.milliseconds), .text(webhook), MetadataValue(secret),
                ])
            for (index, part) in parts.enumerated() {
                try transaction.execute(
                    "INSERT INTO prediction_job_parts (job, part, request) VALUES (?, ?, ?)",
                    [.text(id), .integer(Int64(index)), .blob(part)])
            }
            return try transaction.query("SELECT * FROM prediction_jobs WHERE id = ?", [.text(id)])
        }
        guard let row = rows.first else { throw PlatformError(.internal, "prediction job", "it is not there") }
        return PredictionJob(row: row)
    }

    /// A job by its identifier.
    /// - Throws: `PlatformError` (`notFound`).
    public func job(_ id: String) async throws -> PredictionJob {
        let rows = try await store.read {
            try $0.query("SELECT * FROM prediction_jobs WHERE id = ?", [.text(id)])
        }
        guard let row = rows.first else {
            throw PlatformError(
                .notFound, "prediction job/\(id.prefix(64))",
                "there is no such job; finished ones are kept for a while only")
        }
        return PredictionJob(row: row)
    }

    /// Some jobs, newest first, and where the next page begins.
    ///
    /// - Parameters:
    ///   - model: those of one model; `nil` for all.
    ///   - state: those in one state; `nil` for all.
    ///   - before: what a page before said; `nil` to begin.
    public func jobs(model: String?, state: PredictionJob.State?, before: Int64?, countMax: Int) async throws
        -> (jobs: [PredictionJob], next: Int64?)
    {
        var conditions = ["position < ?"]
        var values: [MetadataValue] = [.integer(before ?? .max)]
        if let model { (conditions, values) = (conditions + ["model = ?"], values + [.text(model)]) }
        switch state {
        case .queued?: conditions.append("state = 'queued' AND done = 0")
        case .running?: conditions.append("state = 'queued' AND done > 0")
        case let state?: (conditions, values) = (conditions + ["state = ?"], values + [.text(state.rawValue)])
        case nil: break
        }
        let sql =
            "SELECT * FROM prediction_jobs WHERE \(conditions.joined(separator: " AND ")) ORDER BY position DESC LIMIT ?"
        let rows = try await store.read { [values] in try $0.query(sql, values + [.integer(Int64(countMax) + 1)]) }
        let page = rows.prefix(countMax)
        return (page.map { PredictionJob(row: $0) }, rows.count > countMax ? page.last?.integer("position") : nil)
    }

    /// Calls a job off; what is in hand of it is computed to its end and thrown away.
    /// - Throws: `PlatformError`: `notFound`, `conflict` for a job that has ended.
    func cancel(_ id: String) async throws -> PredictionJob {
        let now = clock.now()
        let count = try await store.write { transaction in
            try transaction.execute(
                """
                UPDATE prediction_jobs SET state = 'cancelled', finished_at = ?, due_at = ?,
                    delivery = CASE WHEN webhook = '' THEN '' ELSE 'pending' END WHERE id = ? AND state = 'queued'
                """, [.integer(now.milliseconds), .integer(now.milliseconds), .text(id)])
        }
        let job = try await job(id)
        guard count > 0 else {
            throw PlatformError(
                .conflict, "prediction job/\(job.id)",
                "it has ended already (\(job.state.rawValue)); there is nothing to cancel")
        }
        return job
    }

    /// The predictions of a job that are there, as the text of a JSON list.
    public func predictions(of id: String) async throws -> [UInt8] {
        let rows = try await store.read {
            try $0.query(
                "SELECT predictions FROM prediction_job_parts WHERE job = ? AND predictions IS NOT NULL ORDER BY part",
                [.text(id)])
        }
        var bytes: [UInt8] = [0x5B]
        for row in rows {
            guard let part = row["predictions"].blobValue, !part.isEmpty else { continue }
            if bytes.count > 1 { bytes.append(0x2C) }
            bytes += part
        }
        return bytes + [0x5D]
    }

    // MARK: Work

    /// What is to be computed next: the first part of the oldest job that is not done.
    struct Work: Sendable {
        let job: PredictionJob
        let priority: String
        let part: Int64
        let request: [UInt8]
    }

    func next() async throws -> Work? {
        let rows = try await store.read { transaction in
            try transaction.query(
                """
                SELECT j.*, p.part AS part, p.request AS request FROM prediction_jobs j JOIN prediction_job_parts p ON p.job = j.id
                WHERE j.state = 'queued' AND p.predictions IS NULL ORDER BY j.position, p.part LIMIT 1
                """)
        }
        guard let row = rows.first, let request = row["request"].blobValue else { return nil }
        return Work(
            job: PredictionJob(row: row), priority: row.text("priority"), part: row.integer("part"), request: request)
    }

    /// Keeps what a part came to, and ends the job with its last part or with a fault.
    func finish(_ work: Work, predictions: [UInt8], count: Int, fault: String?) async throws {
        let now = clock.now()
        try await store.write { transaction in
            let isWanted = try transaction.query(
                "SELECT id FROM prediction_jobs WHERE id = ? AND state = 'queued'", [.text(work.job.id)])
            guard !isWanted.isEmpty else { return }  // cancelled meanwhile
            try transaction.execute(
                "UPDATE prediction_job_parts SET predictions = ? WHERE job = ? AND part = ?",
                [.blob(predictions), .text(work.job.id), .integer(work.part)])
            try transaction.execute(
                "UPDATE prediction_jobs SET done = done + ? WHERE id = ?", [.integer(Int64(count)), .text(work.job.id)])
            try transaction.execute(
                """
                UPDATE prediction_jobs SET state = ?, fault = ?, finished_at = ?, due_at = ?,
                    delivery = CASE WHEN webhook = '' THEN '' ELSE 'pending' END
                WHERE id = ? AND state = 'queued' AND (done >= instances OR ? = 'failed')
                """,
                [
                    .text(fault == nil ? "succeeded" : "failed"), MetadataValue(fault), .integer(now.milliseconds),
                    .integer(now.milliseconds), .text(work.job.id), .text(fault == nil ? "succeeded" : "failed"),
                ])
        }
    }

    /// Forgets jobs that ended before a moment and whose end was told.
    func forget(finishedBefore time: EventTime) async throws {
        try await store.write { transaction in
            let condition = "state <> 'queued' AND delivery <> 'pending' AND finished_at < ?"
            try transaction.execute(
                "DELETE FROM prediction_job_parts WHERE job IN (SELECT id FROM prediction_jobs WHERE \(condition))",
                [.integer(time.milliseconds)])
            try transaction.execute("DELETE FROM prediction_jobs WHERE \(condition)", [.integer(time.milliseconds)])
        }
    }

    /// When the oldest job that ended did; `nil` if there is none that could be forgotten.
    func oldestEnd() async throws -> EventTime? {
        let rows = try await store.read {
            try $0.query(
                "SELECT MIN(finished_at) AS t FROM prediction_jobs WHERE state <> 'queued' AND delivery <> 'pending'")
        }
        return rows.first?["t"].integerValue.map(EventTime.init(milliseconds:))
    }

    // MARK: Webhooks

    /// Jobs whose end is to be told now.
    func dueDeliveries() async throws -> [(job: PredictionJob, attempts: Int)] {
        let now = clock.now()
        let rows = try await store.read {
            try $0.query(
                "SELECT * FROM prediction_jobs WHERE delivery = 'pending' AND due_at <= ? ORDER BY due_at LIMIT 16",
                [.integer(now.milliseconds)])
        }
        return rows.map { (PredictionJob(row: $0), Int($0.integer("attempts"))) }
    }

    /// When the next end is to be told; `nil` if all know.
    func nextDelivery() async throws -> EventTime? {
        let rows = try await store.read {
            try $0.query("SELECT MIN(due_at) AS t FROM prediction_jobs WHERE delivery = 'pending'")
        }
        return rows.first?["t"].integerValue.map(EventTime.init(milliseconds:))
    }

    /// The key of the signatures of a job's webhook; `nil` without one.
    func secret(of id: String) async throws -> String? {
        let sealed = try await store.read {
            try $0.query("SELECT secret FROM prediction_jobs WHERE id = ?", [.text(id)]).first?["secret"].textValue
        }
        return try sealed.map { try box.open($0) }
    }

    func delivered(_ id: String, _ state: String, attempts: Int, dueAt: EventTime) async throws {
        _ = try await store.write { transaction in
            try transaction.execute(
                "UPDATE prediction_jobs SET delivery = ?, attempts = ?, due_at = ? WHERE id = ?",
                [.text(state), .integer(Int64(attempts)), .integer(dueAt.milliseconds), .text(id)])
        }
    }
}
