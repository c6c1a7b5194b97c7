public import Definitions
public import PlatformCore
import Statistics
public import StoragePorts

/// Models, their versions and the stages these go through.
///
/// It keeps facts and history and refuses steps that break the rules; it neither loads models nor computes metrics.
/// Every change is a new row, so what was true at any moment can be asked. After a change is durable, `publish` hears
/// of it.
public struct ModelVersionRegistry: Sendable {
    let store: any MetadataStore
    let content: ContentStore
    let clock: any PlatformClock
    let journal: any ChangeJournal
    let publish: @Sendable (PlatformEvent) async -> Void

    /// Makes a registry.
    ///
    /// - Parameters:
    ///   - store: its rows; the migrations have run.
    ///   - content: where evidence goes, and where artifacts are looked for.
    ///   - clock: the time of changes.
    ///   - journal: keeps every change in the transaction that makes it.
    ///   - publish: called after each committed change: `model.version.registered`, `model.stage.changed`,
    ///     `deployment.policy.published`, `model.alias.set` and the like.
    public init(
        store: any MetadataStore, content: ContentStore, clock: any PlatformClock,
        journal: any ChangeJournal = SilentJournal(), publish: @escaping @Sendable (PlatformEvent) async -> Void
    ) {
        self.store = store
        self.content = content
        self.clock = clock
        self.journal = journal
        self.publish = publish
    }

    // MARK: Versions

    /// Registers a version in the stage `development`.
    ///
    /// A repeated call with the same run, job and artifact gives the version that is there already.
    /// - Parameter wanted: the number to give it, if it is above every number given so far.
    /// - Throws: `invalidInput` if a blob that it names is not stored.
    @discardableResult
    public func register(
        _ model: Name, _ candidate: VersionCandidate, actor: String, reason: String = "", number wanted: Int? = nil
    ) async throws -> ModelVersion {
        let named = [
            ("artifact", candidate.artifact.hash), ("reference profile", candidate.referenceProfile),
            ("environment record", candidate.origin.environment), ("list of files", candidate.source?.files),
        ]
        for (what, hash) in named {
            guard let hash, try await !content.contains(hash) else { continue }
            throw PlatformError(.invalidInput, "model/\(model)", "the \(what) \(hash.short) is not stored")
        }
        if let bad = candidate.metrics.values.flatMap({ $0 }).first(where: { !$0.value.isFinite }) {
            throw PlatformError(
                .invalidInput, "model/\(model)", "the metric \(bad.key.rawValue) is not a finite number")
        }
        let now = clock.now()
        let (version, step) = try await store.write { transaction -> (ModelVersion, StageTransition?) in
            let origin = candidate.origin
            let same = try transaction.query(
                """
                SELECT * FROM model_versions WHERE model = ? AND artifact_hash = ? AND run_id = ? AND job_id = ? \
                AND deleted_at IS NULL ORDER BY number LIMIT 1
                """,
                [
                    .text(model.text), .text(candidate.artifact.hash.hex), .text(origin.runID), .text(origin.jobID),
                ])
            // A client of MLflow that registers twice means two versions.
            if let row = same.first, !(origin.runID.isEmpty && origin.jobID.isEmpty), candidate.source == nil {
                return (try ModelVersion(row: row), nil)
            }
            try self.ensureModel(model, at: now, actor: actor, in: transaction)
            let last = try transaction.query(
                "SELECT MAX(number) AS last FROM model_versions WHERE model = ?", [.text(model.text)])
            let version = ModelVersion(
                model: model, number: max(Int(last.first?.integer("last") ?? 0) + 1, wanted ?? 1), createdAt: now,
                createdBy: actor,
                candidate: candidate)
            try version.insert(in: transaction)
            let step = try StageTransition.append(
                model, version.number, from: nil, to: .development, at: now, actor: actor,
                reason: reason.isEmpty ? "registered" : reason, evidence: nil, in: transaction)
            var told = version.facts.objectValue ?? [:]
            told["reason"] = .string(String(step.reason.prefix(4000)))
            told["metrics"] = candidate.metricsJSON
            try self.journal.record(
                RecordedChange(
                    actor: actor, action: "model.version.registered", subject: version.subject,
                    after: .object(told), time: step.time), in: transaction)
            return (version, step)
        }
        if let step {
            await publish(event("model.version.registered", version.subject, step.time, actor, version.facts))
        }
        return version
    }

    /// A model that versions are registered of without anybody having made it comes to be with its first version.
    private func ensureModel(
        _ model: Name, at now: EventTime, actor: String, in transaction: any MetadataTransaction
    ) throws {
        let row = try transaction.query("SELECT * FROM models WHERE model_id = ?", [.text(model.text)]).first
        if let row {
            if row["deleted_at"].isNull {
                try transaction.execute(
                    "UPDATE models SET updated_at = ? WHERE model_id = ?", [MetadataValue(now), .text(model.text)])
                return
            }
        }
        if let other = try Self.find(model.text, in: transaction) {
            throw PlatformError(
                .conflict, "model/\(model)",
                "the model '\(other.id)' was renamed to '\(model)'; give one of them another name")
        }
        try insertModel(model, named: model.text, description: nil, at: now, actor: actor, in: transaction)
    }

    /// One version, also one that was deleted.
    /// - Throws: `notFound`.
    public func version(_ model: Name, _ number: Int) async throws -> ModelVersion {
        let rows = try await store.read {
            try $0.query(
                "SELECT * FROM model_versions WHERE model = ? AND number = ?",
                [.text(model.text), .integer(Int64(number))])
        }
        guard let row = rows.first else { throw Self.unknown(model, number) }
        return try ModelVersion(row: row)
    }

    /// All versions of a model, oldest first.
    public func versions(of model: Name) async throws -> [ModelVersion] {
        try await store.read {
            try $0.query(
                "SELECT * FROM model_versions WHERE model = ? AND deleted_at IS NULL ORDER BY number",
                [.text(model.text)]
            ).map { try ModelVersion(row: $0) }
        }
    }

    /// Versions whose artifact has these bytes, of any model.
    public func versions(withArtifact hash: ContentHash) async throws -> [ModelVersion] {
        try await store.read {
            try $0.query(
                "SELECT * FROM model_versions WHERE artifact_hash = ? ORDER BY model, number", [.text(hash.hex)]
            )
            .map { try ModelVersion(row: $0) }
        }
    }

    /// Identities of the models that are not deleted, sorted.
    public func models() async throws -> [Name] {
        try await store.read {
            try $0.query("SELECT model_id FROM models WHERE deleted_at IS NULL ORDER BY model_id").compactMap {
                Name($0.text("model_id"))
            }
        }
    }

    // MARK: Stages

    /// The stage of a version.
    /// - Throws: `notFound`.
    public func stage(of model: Name, _ number: Int) async throws -> ModelStage {
        guard let stage = try await store.read({ try StageTransition.stage(model, number, in: $0) }) else {
            throw Self.unknown(model, number)
        }
        return stage
    }

    /// Stages of all versions of a model by number.
    public func stages(of model: Name) async throws -> [Int: ModelStage] {
        try await store.read { try StageTransition.stages(model, in: $0) }
    }

    /// The version in production; `nil` if there is none.
    public func champion(of model: Name) async throws -> ModelVersion? {
        let number = try await store.read { try Self.champion(model, in: $0) }
        guard let number else { return nil }
        return try await version(model, number)
    }

    /// Every step of a model's versions, or of one of them, oldest first.
    public func transitions(of model: Name, version: Int? = nil) async throws -> [StageTransition] {
        let filter = version == nil ? "" : "AND number = ? "
        let arguments: [MetadataValue] = [.text(model.text)] + (version.map { [.integer(Int64($0))] } ?? [])
        return try await store.read {
            try $0.query("SELECT * FROM model_stage_transitions WHERE model = ? \(filter)ORDER BY position", arguments)
                .map { try StageTransition(row: $0) }
        }
    }

    /// Whether a version may go from one stage to another, gates aside: one step up, or out, or from the archive back into
    /// staging.
    public static func allows(from: ModelStage, to: ModelStage) -> Bool {
        switch (from, to) {
        case (.development, .staging), (.staging, .canary), (.canary, .production), (.production, .archived): true
        case (.canary, .staging), (.canary, .archived), (.staging, .archived), (.development, .archived): true
        // What was put away may be tried again, from where traffic is only copied.
        case (.archived, .staging): true
        default: false
        }
    }

    /// Moves a version to another stage, with the gates' results as evidence.
    ///
    /// A version that enters production sends the one that was there into the archive, in the same transaction.
    /// - Parameters:
    ///   - gates: results of every gate that guards the stage; each must have passed.
    ///   - details: more evidence to keep beside the gates: the metrics, who was asked.
    ///   - expected: the stage that the caller believes the version to be in; `nil` takes any.
    ///   - isHeld: asked of a version that goes into the archive: whether a policy in force that names it keeps it out.
    /// - Returns: the steps taken: this version's, then that of the version it replaced.
    /// - Throws: `refused` for a failed gate, a step out of order or a version that is held, `conflict` if the stage is not
    ///   the expected one, `notFound`, `invalidInput` without a reason.
    @discardableResult
    public func transition(
        _ model: Name, _ number: Int, to stage: ModelStage, actor: String, reason: String, gates: [GateResult],
        details: JSONValue = .null, expected: ModelStage? = nil,
        isHeld: @escaping @Sendable (PolicyRevision) -> Bool = { _ in false }
    ) async throws -> [StageTransition] {
        let subject = ModelVersion.subject(model, number)
        guard !reason.allSatisfy(\.isWhitespace) else {
            throw PlatformError(.invalidInput, subject, "a change of stage needs a reason")
        }
        let failed = gates.filter { !$0.passed }
        guard failed.isEmpty else {
            throw PlatformError(
                .refused, subject,
                "\(failed.count) of \(gates.count) gates for \(stage.rawValue) failed: "
                    + failed.map { "\($0.gate) (\($0.detail))" }.joined(separator: "; "))
        }
        var evidence: ContentHash?
        if !gates.isEmpty || !details.isNull {
            let record: JSONValue = [
                "model": .string(model.text), "version": .integer(Int64(number)), "to": .string(stage.rawValue),
                "actor": .string(actor), "reason": .string(reason), "gates": try JSONValue.of(gates),
                "details": details,
            ]
            evidence = try await content.put(record.canonicalBytes)
        }
        let now = clock.now()
        let steps = try await store.write { [evidence] transaction -> [StageTransition] in
            guard let current = try StageTransition.stage(model, number, in: transaction) else {
                throw Self.unknown(model, number)
            }
            if let expected, expected != current {
                throw PlatformError(
                    .conflict, subject, "the version is in \(current.rawValue), not in \(expected.rawValue); look again"
                )
            }
            guard Self.allows(from: current, to: stage) else {
                throw PlatformError(.refused, subject, Self.orderMessage(from: current, to: stage))
            }
            if stage == .archived,
                let holder = try Self.currentRevisions(of: model, in: transaction)
                    .first(where: { $0.names(number) && isHeld($0) })
            {
                throw PlatformError(
                    .refused, subject,
                    "the deployment '\(holder.deployment)' sends traffic to it, and would go on: deploy another version first"
                )
            }
            let replaced = stage == .production ? try Self.champion(model, in: transaction) : nil
            var steps = [
                try append(
                    model, number, from: current, to: stage, at: now, actor: actor, reason: reason, evidence: evidence,
                    in: transaction)
            ]
            if let replaced {
                steps.append(
                    try append(
                        model, replaced, from: .production, to: .archived, at: now, actor: actor,
                        reason: "replaced by version \(number)", evidence: nil, in: transaction))
            }
            return steps
        }
        await announce(steps)
        return steps
    }

    /// What gates said when a step was taken, as it was stored; `null` for a step without evidence.
    public func evidence(of step: StageTransition) async throws -> JSONValue {
        guard let hash = step.evidence else { return .null }
        return try JSONValue.parse(try await content.get(hash, byteCountMax: 16 << 20))
    }

    /// Adds a step and keeps it in the journal.
    func append(
        _ model: Name, _ version: Int, from: ModelStage?, to: ModelStage, at now: EventTime, actor: String,
        reason: String, evidence: ContentHash?, in transaction: any MetadataTransaction
    ) throws -> StageTransition {
        let step = try StageTransition.append(
            model, version, from: from, to: to, at: now, actor: actor, reason: reason, evidence: evidence,
            in: transaction)
        try journal.record(
            RecordedChange(
                actor: actor, action: "model.stage.changed", subject: ModelVersion.subject(model, version),
                before: ["stage": from.map { .string($0.rawValue) } ?? .null],
                after: ["stage": .string(to.rawValue), "reason": .string(String(reason.prefix(4000)))],
                evidence: evidence, time: step.time), in: transaction)
        return step
    }

    func announce(_ steps: [StageTransition]) async {
        for step in steps {
            await publish(
                PlatformEvent(
                    kind: "model.stage.changed", subject: ModelVersion.subject(step.model, step.version),
                    time: step.time,
                    actor: step.actor,
                    details: [
                        "from": step.from.map { .string($0.rawValue) } ?? .null, "to": .string(step.to.rawValue),
                        "reason": .string(step.reason), "evidence": step.evidence.map { .string($0.hex) } ?? .null,
                    ]))
        }
    }

    static func champion(_ model: Name, in transaction: any MetadataTransaction) throws -> Int? {
        try StageTransition.stages(model, only: [.production], in: transaction).first?.key
    }

    static func unknown(_ model: Name, _ number: Int) -> PlatformError {
        PlatformError(.notFound, ModelVersion.subject(model, number), "there is no such version")
    }

    /// Why a version does not go from a stage to another, and where it can go from there.
    public static func orderMessage(from: ModelStage, to: ModelStage) -> String {
        let next = ModelStage.allCases.filter { allows(from: from, to: $0) }.map(\.rawValue)
        return from == to
            ? "the version is in \(to.rawValue) already"
            : "a version cannot go from \(from.rawValue) to \(to.rawValue); from \(from.rawValue) it can go to "
                + (next.isEmpty ? "no other stage" : next.joined(separator: " or "))
    }
}
