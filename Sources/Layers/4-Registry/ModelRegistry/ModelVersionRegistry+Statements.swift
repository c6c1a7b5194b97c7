import Definitions
public import PlatformCore
import Statistics
public import StoragePorts

/// What a row of the registry's history says, in the words of the journal entry that was written with it.
public struct RegistryStatement: Sendable, Hashable {
    /// Where it stands, `model_stage_transitions, position 5`.
    public let place: String
    /// The entry's action.
    public let action: String
    /// The entry's subject.
    public let subject: String
    /// When, as the row says.
    public let time: EventTime
    /// What the row says by the names of `fields(of:)`; empty for nothing.
    public let fields: [String: String]
}

extension ModelVersionRegistry {
    /// Actions of journal entries that say the same as a row.
    public static let statedActions: Set<String> = [
        "model.version.registered", "model.stage.changed", "model.gates.asked", "model.version.approved",
        "model.version.objected", "deployment.policy.published",
    ]

    /// What a journal entry says, by name, as far as it says something; the names are those of statements.
    public static func fields(of change: RecordedChange) -> [String: String] {
        var fields = ["actor": change.actor]
        func keep(_ name: String, _ value: JSONValue?) {
            guard let value else { return }
            fields[name] = value.isNull ? "" : value.stringValue ?? value.text
        }
        let after = change.after
        switch change.action {
        case "model.version.registered":
            for name in ["artifact", "dataset", "run_id", "job", "reason"] { keep(name, after[name]) }
            for (slice, metrics) in after["metrics"]?.objectValue ?? [:] {
                for (metric, value) in metrics.objectValue ?? [:] { fields["\(metric) on \(slice)"] = number(value) }
            }
        case "model.stage.changed":
            keep("from", change.before["stage"])
            keep("to", after["stage"])
            keep("reason", after["reason"])
            fields["evidence"] = change.evidence?.hex ?? ""
        case "model.gates.asked":
            for name in ["stage", "passed", "seal"] { keep(name, after[name]) }
            fields["evidence"] = change.evidence?.hex ?? ""
        case "model.version.approved", "model.version.objected":
            for name in ["stage", "seal", "reason"] { keep(name, after[name]) }
        case "deployment.policy.published":
            for name in ["model", "revision", "policy", "reason", "restores"] { keep(name, after[name]) }
        default: break
        }
        return fields
    }

    /// Every row of the history as a statement, the older first: versions, stages, gates, approvals, policies.
    public func statements() async throws -> [RegistryStatement] {
        try await store.read { transaction in
            try Self.versionStatements(transaction) + Self.stageStatements(transaction)
                + Self.gateStatements(transaction) + Self.approvalStatements(transaction)
                + Self.policyStatements(transaction)
        }
    }

    /// What is wrong with a blob that an entry of the chain rests on; `nil` if it is as it was sealed.
    /// - Throws: `StoreError` if that cannot be said.
    public func fault(ofEvidence hash: ContentHash) async throws -> String? {
        guard try await content.contains(hash) else { return "gone" }
        do { _ = try await content.get(hash, byteCountMax: 64 << 20) } catch {
            guard error.code == .corrupted else { throw error }
            return "changed"
        }
        return nil
    }

    /// Values of a version's metrics that gates compared, `auc on test`, by the blob that keeps what they said.
    ///
    /// - Returns: `nil` if the blob is no more, or says nothing of gates.
    /// - Throws: `StoreError` (`corrupted`) if it is not what its name says.
    public func metricsSeen(in evidence: ContentHash) async throws -> [String: String]? {
        guard try await content.contains(evidence) else { return nil }
        let blob = try await content.get(evidence, byteCountMax: 16 << 20)
        guard let gates = try? JSONValue.parse(blob)["gates"]?.arrayValue else { return nil }
        var seen: [String: String] = [:]
        for gate in gates {
            let words = (gate["gate"]?.stringValue ?? "").split(separator: " ").map(String.init)
            // `auc on test ≥ 0.6`, `auc on test not worse than …`: the version's own value is what was observed.
            guard words.count > 3, words[1] == "on", MetricName(rawValue: words[0]) != nil,
                ["≥", "≤", "not"].contains(words[3]), let observed = gate["observed"], !observed.isNull
            else { continue }
            seen["\(words[0]) on \(words[2])"] = Self.number(observed)
        }
        return seen
    }

    /// Stages that versions are in now, by subject; not those of deleted ones.
    public func currentStages() async throws -> [String: String] {
        let rows = try await store.read {
            try $0.query("SELECT model, number, stage FROM model_versions WHERE deleted_at IS NULL")
        }
        return Dictionary(rows.map { (Self.subject($0), $0.text("stage")) }, uniquingKeysWith: { $1 })
    }

    private static func subject(_ row: MetadataRow) -> String {
        "model/\(row.text("model"))/versions/\(row.integer("number"))"
    }

    private static func number(_ value: JSONValue) -> String {
        value.doubleValue.map { String($0) } ?? value.text
    }

    private static func short(_ reason: String) -> String { String(reason.prefix(4000)) }

    private static func time(_ row: MetadataRow) -> EventTime { EventTime(milliseconds: row.integer("time")) }

    private static func versionStatements(_ transaction: any MetadataTransaction) throws -> [RegistryStatement] {
        try transaction.query(
            """
            SELECT v.model, v.number, v.artifact_hash, v.dataset_hash, v.run_id, v.job_id, v.metrics, t.position, t.time, \
            t.actor, t.reason FROM model_stage_transitions t JOIN model_versions v ON v.model = t.model \
            AND v.number = t.number WHERE t.from_stage IS NULL ORDER BY t.position
            """
        ).map { row in
            var fields = [
                "actor": row.text("actor"), "reason": short(row.text("reason")), "artifact": row.text("artifact_hash"),
                "dataset": row.text("dataset_hash"), "run_id": row.text("run_id"), "job": row.text("job_id"),
            ]
            let metrics = try? JSONValue.parse(row.text("metrics"))
            for (slice, values) in metrics?.objectValue ?? [:] {
                for (metric, value) in values.objectValue ?? [:] { fields["\(metric) on \(slice)"] = number(value) }
            }
            return RegistryStatement(
                place: "\(subject(row)), as registered", action: "model.version.registered",
                subject: subject(row), time: time(row), fields: fields)
        }
    }

    private static func stageStatements(_ transaction: any MetadataTransaction) throws -> [RegistryStatement] {
        try transaction.query("SELECT * FROM model_stage_transitions WHERE from_stage IS NOT NULL ORDER BY position")
            .map { row in
                RegistryStatement(
                    place: "\(subject(row)), model_stage_transitions position \(row.integer("position"))",
                    action: "model.stage.changed", subject: subject(row), time: time(row),
                    fields: [
                        "actor": row.text("actor"), "from": row.text("from_stage"), "to": row.text("to_stage"),
                        "reason": short(row.text("reason")), "evidence": row.text("evidence"),
                    ])
            }
    }

    private static func gateStatements(_ transaction: any MetadataTransaction) throws -> [RegistryStatement] {
        try transaction.query("SELECT * FROM model_examinations ORDER BY position").map { row in
            RegistryStatement(
                place: "\(subject(row)), model_examinations position \(row.integer("position"))",
                action: "model.gates.asked", subject: subject(row), time: time(row),
                fields: [
                    "actor": row.text("actor"), "stage": row.text("stage"), "seal": row.text("seal"),
                    "passed": row.integer("passed") == 0 ? "false" : "true", "evidence": row.text("evidence"),
                ])
        }
    }

    private static func approvalStatements(_ transaction: any MetadataTransaction) throws -> [RegistryStatement] {
        try transaction.query("SELECT * FROM model_approvals ORDER BY position").map { row in
            RegistryStatement(
                place: "\(subject(row)), model_approvals position \(row.integer("position"))",
                action: "model.version.\(row.text("verdict") == "approve" ? "approved" : "objected")",
                subject: subject(row), time: time(row),
                fields: [
                    "actor": row.text("actor"), "stage": row.text("stage"), "seal": row.text("seal"),
                    "reason": short(row.text("reason")),
                ])
        }
    }

    private static func policyStatements(_ transaction: any MetadataTransaction) throws -> [RegistryStatement] {
        try transaction.query("SELECT * FROM deployment_policies ORDER BY deployment, revision").map { row in
            let deployment = row.text("deployment")
            let policy = try? JSONValue.parse(row.text("policy"))
            return RegistryStatement(
                place: "deployment/\(deployment), revision \(row.integer("revision"))",
                action: "deployment.policy.published", subject: "deployment/\(deployment)", time: time(row),
                fields: [
                    "actor": row.text("actor"), "model": row.text("model"), "reason": short(row.text("reason")),
                    "revision": String(row.integer("revision")), "policy": policy?.text ?? row.text("policy"),
                    "restores": row["restores"].integerValue.map { String($0) } ?? "",
                ])
        }
    }
}
