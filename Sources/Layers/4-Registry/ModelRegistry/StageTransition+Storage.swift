import Definitions
import PlatformCore
import StoragePorts

extension StageTransition {
    /// Transitions of a model between two snapshots of what was live.
    static let snapshotEvery = 256

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

    /// The stage of one version; `nil` if there is no such version or it was deleted.
    static func stage(_ model: Name, _ version: Int, in transaction: any MetadataTransaction) throws -> ModelStage? {
        try transaction.query(
            "SELECT stage FROM model_versions WHERE model = ? AND number = ? AND deleted_at IS NULL",
            [.text(model.text), .integer(Int64(version))]
        ).first.flatMap { ModelStage(rawValue: $0.text("stage")) }
    }

    /// Stages of all versions of a model that are not deleted, or of those in some stages.
    static func stages(
        _ model: Name, only stages: [ModelStage] = ModelStage.allCases, in transaction: any MetadataTransaction
    ) throws -> [Int: ModelStage] {
        let marks = stages.map { _ in "?" }.joined(separator: ", ")
        let rows = try transaction.query(
            "SELECT number, stage FROM model_versions WHERE model = ? AND stage IN (\(marks)) AND deleted_at IS NULL",
            [.text(model.text)] + stages.map { .text($0.rawValue) })
        return Dictionary(
            rows.compactMap { row in
                ModelStage(rawValue: row.text("stage")).map { (Int(row.integer("number")), $0) }
            }, uniquingKeysWith: { $1 })
    }

    /// Versions that were seen by traffic at a moment: in staging, canary or production, with the step that led there.
    ///
    /// - Complexity: O(versions in such a stage + `snapshotEvery`), however long the history is.
    static func visible(_ model: Name, at moment: EventTime, in transaction: any MetadataTransaction) throws
        -> [Int: Int64]
    {
        let snapshot = try transaction.query(
            "SELECT position, time, stages FROM model_stage_snapshots WHERE model = ? AND time <= ? "
                + "ORDER BY time DESC, position DESC LIMIT 1",
            [.text(model.text), MetadataValue(moment)]
        ).first
        var steps: [Int: Int64] = [:]
        if let snapshot {
            for (number, position) in try JSONValue.parse(snapshot.text("stages")).objectValue ?? [:] {
                if let number = Int(number), let position = position.integerValue { steps[number] = position }
            }
        }
        let rows = try transaction.query(
            "SELECT position, number, to_stage FROM model_stage_transitions WHERE model = ? AND time >= ? "
                + "AND time <= ? AND position > ? ORDER BY time, position",
            [
                .text(model.text), .integer(snapshot?.integer("time") ?? .min), MetadataValue(moment),
                .integer(snapshot?.integer("position") ?? 0),
            ])
        for row in rows {
            let isVisible = [.staging, .canary, .production].contains(ModelStage(rawValue: row.text("to_stage")))
            steps[Int(row.integer("number"))] = isVisible ? row.integer("position") : nil
        }
        return steps
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
        try transaction.execute(
            "UPDATE model_versions SET stage = ?, updated_at = ? WHERE model = ? AND number = ?",
            [.text(to.rawValue), MetadataValue(step.time), .text(model.text), .integer(Int64(version))])
        // As MLflow counts it: a version that moves is a change of its model.
        try transaction.execute(
            "UPDATE models SET updated_at = ? WHERE model_id = ?", [MetadataValue(step.time), .text(model.text)])
        try snapshot(after: step, in: transaction)
        return step
    }

    /// Keeps what is live after every `snapshotEvery` steps of a model, so that no question reads its whole history.
    private static func snapshot(after step: StageTransition, in transaction: any MetadataTransaction) throws {
        let last = try transaction.query(
            "SELECT position, time FROM model_stage_snapshots WHERE model = ? ORDER BY time DESC, position DESC LIMIT 1",
            [.text(step.model.text)]
        ).first
        let newer = try transaction.query(
            "SELECT COUNT(*) AS steps FROM model_stage_transitions WHERE model = ? AND time >= ? AND position > ?",
            [
                .text(step.model.text), .integer(last?.integer("time") ?? .min),
                .integer(last?.integer("position") ?? 0),
            ]
        ).first?.integer("steps")
        guard newer ?? 0 >= Int64(snapshotEvery) else { return }
        let steps = try visible(step.model, at: step.time, in: transaction)
        let members = steps.map { (String($0.key), JSONValue.integer($0.value)) }
        try transaction.execute(
            "INSERT INTO model_stage_snapshots (model, position, time, stages) VALUES (?, ?, ?, ?)",
            [
                .text(step.model.text), .integer(step.position), MetadataValue(step.time),
                .text(JSONValue.object(Dictionary(members, uniquingKeysWith: { $1 })).text),
            ])
    }
}
