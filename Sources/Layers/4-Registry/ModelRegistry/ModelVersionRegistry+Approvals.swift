import ContentHashing
public import Definitions
public import PlatformCore
import StoragePorts

/// What the gates of a stage said of a version, and the seal over what they saw.
public struct GateExamination: Sendable, Hashable {
    /// The version's stage that was asked for.
    public let stage: ModelStage
    /// One result for each gate.
    public let gates: [GateResult]
    /// Hash over what was judged; an approval is of this.
    ///
    /// Artifact, dataset, champion, and every verdict but the approvals; measured times and sizes count by their verdict alone.
    public let seal: ContentHash
    /// Blob with everything.
    public let evidence: ContentHash
    /// Whether every gate holds.
    public var isPassed: Bool { gates.allSatisfy(\.passed) }
}

/// What somebody said of a version that wants to enter a stage.
public struct Approval: Sendable, Hashable {
    /// Yes or no.
    public enum Verdict: String, Sendable, CaseIterable {
        /// It may.
        case approve
        /// It may not.
        case object
    }
    /// The stage whose gates were asked.
    public let stage: ModelStage
    /// Who.
    public let actor: String
    /// What.
    public let verdict: Verdict
    /// Why.
    public let reason: String
    /// The seal of the examination that was seen.
    public let seal: ContentHash
    /// When.
    public let time: EventTime
}

extension ModelVersionRegistry {
    /// Keeps what gates said, and counts the approvals of exactly that.
    ///
    /// - Parameters:
    ///   - gates: results of every gate that is no approval, in order.
    ///   - approvalsMin: approvals that each approval gate wants.
    ///   - facts: what else was judged; part of the seal.
    public func examine(
        _ model: Name, _ number: Int, for stage: ModelStage, gates: [GateResult], approvalsMin: [Int], facts: JSONValue,
        actor: String
    ) async throws -> GateExamination {
        let version = try await version(model, number)
        let judged = gates.map { gate -> JSONValue in
            gate.isMeasured
                ? ["gate": .string(gate.gate), "passed": .bool(gate.passed)]
                : [
                    "gate": .string(gate.gate), "passed": .bool(gate.passed),
                    "observed": gate.observed.map(JSONValue.number) ?? .null, "detail": .string(gate.detail),
                ]
        }
        let sealed: JSONValue = [
            "model": .string(model.text), "version": .integer(Int64(number)), "stage": .string(stage.rawValue),
            "artifact": .string(version.candidate.artifact.hash.hex),
            "dataset": version.candidate.origin.dataset.map { .string($0.hex) } ?? .null, "facts": facts,
            "gates": .array(judged),
        ]
        let seal = ContentHasher.hash(sealed.canonicalBytes)
        let given = try await approvals(of: model, number, for: stage)
        let authors = try await authors(of: version)
        let all = gates + approvalsMin.map { Self.approvalResult($0, given, seal: seal, authors: authors) }
        let record: JSONValue = [
            "sealed": sealed, "seal": .string(seal.hex), "gates": try JSONValue.of(all),
            "approvals": .array(
                given.map {
                    [
                        "actor": .string($0.actor), "verdict": .string($0.verdict.rawValue),
                        "reason": .string($0.reason), "seal": .string($0.seal.hex),
                        "time": .string($0.time.description),
                    ]
                }), "asked_by": .string(actor), "at": .string(clock.now().description),
        ]
        // The same question with the same answer is one entry, however often a rollout asks it.
        if let last = try await lastExamination(of: model, number, for: stage), last.seal == seal,
            last.approvals == given.count, last.isPassed == all.allSatisfy(\.passed)
        {
            return GateExamination(stage: stage, gates: all, seal: seal, evidence: last.evidence)
        }
        let evidence = try await content.put(record.canonicalBytes)
        let examination = GateExamination(stage: stage, gates: all, seal: seal, evidence: evidence)
        let now = clock.now()
        try await store.write { transaction in
            let last = try transaction.query(
                "SELECT position FROM model_examinations ORDER BY position DESC LIMIT 1"
            ).first?.integer("position")
            try transaction.execute(
                "INSERT INTO model_examinations (position, model, number, stage, passed, seal, approvals, evidence, "
                    + "time, actor) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    .integer((last ?? 0) + 1), .text(model.text), .integer(Int64(number)), .text(stage.rawValue),
                    .integer(examination.isPassed ? 1 : 0), .text(seal.hex), .integer(Int64(given.count)),
                    .text(evidence.hex), MetadataValue(now), .text(actor),
                ])
            try self.journal.record(
                RecordedChange(
                    actor: actor, action: "model.gates.asked", subject: version.subject,
                    after: [
                        "stage": .string(stage.rawValue), "passed": .bool(examination.isPassed),
                        "seal": .string(seal.hex),
                    ], evidence: evidence, time: now), in: transaction)
        }
        return examination
    }

    private func lastExamination(of model: Name, _ number: Int, for stage: ModelStage) async throws -> (
        seal: ContentHash, approvals: Int, isPassed: Bool, evidence: ContentHash
    )? {
        let row = try await store.read {
            try $0.query(
                "SELECT * FROM model_examinations WHERE model = ? AND number = ? AND stage = ? "
                    + "ORDER BY position DESC LIMIT 1",
                [.text(model.text), .integer(Int64(number)), .text(stage.rawValue)]
            ).first
        }
        guard let row, let seal = ContentHash(hex: row.text("seal")),
            let evidence = ContentHash(hex: row.text("evidence"))
        else { return nil }
        return (seal, Int(row.integer("approvals")), row.integer("passed") != 0, evidence)
    }

    /// Who made a version, and who brought it here, as `ActorName.key`.
    private func authors(of version: ModelVersion) async throws -> Set<String> {
        let first = try await store.read {
            try $0.query(
                "SELECT actor FROM model_stage_transitions WHERE model = ? AND number = ? ORDER BY position LIMIT 1",
                [.text(version.model.text), .integer(Int64(version.number))]
            ).first?.text("actor")
        }
        return Set([version.createdBy, first ?? version.createdBy].map(ActorName.key))
    }

    /// Whether enough people agreed with what was judged.
    static func approvalResult(
        _ minimum: Int, _ given: [Approval], seal: ContentHash, authors: Set<String>
    ) -> GateResult {
        var latest: [String: Approval] = [:]
        // Oldest first: the last word counts.
        for approval in given { latest[ActorName.key(of: approval.actor)] = approval }
        let current = latest.values.filter { $0.seal == seal }.sorted { $0.actor < $1.actor }
        let objections = latest.values.filter { $0.verdict == .object }.map(\.actor).sorted()
        let approvers = current.filter { $0.verdict == .approve && !authors.contains(ActorName.key(of: $0.actor)) }
            .map(\.actor)
        let stale = latest.values.filter { $0.seal != seal && $0.verdict == .approve }.map(\.actor).sorted()
        var detail =
            approvers.isEmpty ? "nobody approved this evidence" : "approved by \(approvers.joined(separator: ", "))"
        if !stale.isEmpty {
            detail += "; \(stale.joined(separator: ", ")) approved other evidence, which counts no more"
        }
        if !objections.isEmpty { detail += "; \(objections.joined(separator: ", ")) objected" }
        return GateResult(
            gate: "\(minimum) approval\(minimum == 1 ? "" : "s"), none by the author",
            passed: objections.isEmpty && approvers.count >= minimum, observed: Double(approvers.count),
            detail: detail, isApproval: true)
    }

    /// Says yes or no to what an examination saw.
    ///
    /// - Parameter seal: the examination that the caller looked at; it must be the newest of this stage.
    /// - Throws: `refused` for the version's author, `conflict` if the evidence changed since, `notFound` if the gates were
    ///   never asked, `invalidInput` without a reason.
    @discardableResult
    public func approve(
        _ model: Name, _ number: Int, for stage: ModelStage, seal: ContentHash?, verdict: Approval.Verdict,
        actor: String,
        reason: String
    ) async throws -> Approval {
        let version = try await version(model, number)
        guard !reason.allSatisfy(\.isWhitespace) else {
            throw PlatformError(.invalidInput, version.subject, "an approval needs a reason")
        }
        guard try await !authors(of: version).contains(ActorName.key(of: actor)) || verdict == .object else {
            throw PlatformError(
                .refused, version.subject, "'\(actor)' registered this version; somebody else has to approve it")
        }
        let now = clock.now()
        return try await store.write { transaction in
            let last = try transaction.query(
                "SELECT seal, evidence FROM model_examinations WHERE model = ? AND number = ? AND stage = ? "
                    + "ORDER BY position DESC LIMIT 1",
                [.text(model.text), .integer(Int64(number)), .text(stage.rawValue)]
            ).first
            guard let last, let current = ContentHash(hex: last.text("seal")) else {
                throw PlatformError(
                    .notFound, version.subject,
                    "the gates of \(stage.rawValue) were never asked, so there is nothing to approve; ask them first")
            }
            if let seal, seal != current {
                throw PlatformError(
                    .conflict, version.subject,
                    "the evidence is \(current.short) now, not \(seal.short); look at it again")
            }
            let newest = try transaction.query(
                "SELECT position, time FROM model_approvals ORDER BY position DESC LIMIT 1"
            ).first
            let time = max(now, EventTime(milliseconds: newest?.integer("time") ?? .min))
            try transaction.execute(
                "INSERT INTO model_approvals (position, model, number, stage, actor, verdict, reason, seal, time) "
                    + "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    .integer((newest?.integer("position") ?? 0) + 1), .text(model.text), .integer(Int64(number)),
                    .text(stage.rawValue), .text(actor), .text(verdict.rawValue), .text(reason), .text(current.hex),
                    MetadataValue(time),
                ])
            try self.journal.record(
                RecordedChange(
                    actor: actor, action: "model.version.\(verdict == .approve ? "approved" : "objected")",
                    subject: version.subject,
                    after: [
                        "stage": .string(stage.rawValue), "seal": .string(current.hex),
                        "reason": .string(String(reason.prefix(4000))),
                    ], evidence: ContentHash(hex: last.text("evidence")), time: time), in: transaction)
            return Approval(stage: stage, actor: actor, verdict: verdict, reason: reason, seal: current, time: time)
        }
    }

    /// Everything that was said of a version's entry into a stage, oldest first.
    public func approvals(of model: Name, _ number: Int, for stage: ModelStage? = nil) async throws -> [Approval] {
        try await store.read {
            try $0.query(
                "SELECT * FROM model_approvals WHERE model = ? AND number = ? AND (? = '' OR stage = ?) ORDER BY position",
                [
                    .text(model.text), .integer(Int64(number)), .text(stage?.rawValue ?? ""),
                    .text(stage?.rawValue ?? ""),
                ]
            ).compactMap { row in
                guard let verdict = Approval.Verdict(rawValue: row.text("verdict")),
                    let stage = ModelStage(rawValue: row.text("stage")),
                    let seal = ContentHash(hex: row.text("seal"))
                else { return nil }
                return Approval(
                    stage: stage, actor: row.text("actor"), verdict: verdict, reason: row.text("reason"), seal: seal,
                    time: EventTime(milliseconds: row.integer("time")))
            }
        }
    }
}
