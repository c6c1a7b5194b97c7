import Definitions
public import PlatformCore
import StoragePorts

extension ModelVersionRegistry {
    /// Publishes a deployment's next policy.
    ///
    /// - Parameter expectedRevision: the revision that the caller saw; 0 for none yet, `nil` to take any.
    /// - Throws: `conflict` if another revision came in between, `invalidInput` for a policy that makes no sense,
    ///   `notFound` for an unknown version, `refused` for a version that may not be served: an archived one anywhere, one
    ///   in `development` or `staging` as a variant.
    @discardableResult
    public func publish(
        _ deployment: Name, of model: Name, _ policy: DeploymentPolicy, actor: String, reason: String,
        expectedRevision: Int? = nil
    ) async throws -> PolicyRevision {
        let subject = "deployment/\(deployment)"
        if let fault = policy.fault { throw PlatformError(.invalidInput, subject, fault) }
        let now = clock.now()
        let revision = try await store.write { transaction in
            for version in policy.versions {
                guard let stage = try StageTransition.stage(model, version, in: transaction) else {
                    throw Self.unknown(model, version)
                }
                let isVariant = policy.variants.contains { $0.version == version }
                if isVariant, !(try ModelVersion(row: Self.row(model, version, in: transaction)).isSigned) {
                    throw PlatformError(
                        .refused, subject,
                        "version \(version) has no signature; log the model with one (names and types of inputs and "
                            + "outputs), nothing is served without")
                }
                if isVariant, stage != .canary, stage != .production {
                    throw PlatformError(
                        .refused, subject,
                        "version \(version) is in \(stage.rawValue); only canary and production answer requests")
                }
                if stage == .archived, policy.shadows.contains(version) {
                    throw PlatformError(.refused, subject, "version \(version) is archived and sees no traffic")
                }
            }
            return try self.append(
                deployment, of: model, policy, at: now, actor: actor, reason: reason, expected: expectedRevision,
                restores: nil, in: transaction)
        }
        await announce(revision)
        return revision
    }

    /// Goes back to the policy before the version that came in last.
    ///
    /// Stages follow the traffic, in the same transaction: if the goal's main version was archived or withdrawn
    /// meanwhile, or the version to leave is in production, the main version is in production again and the one there
    /// is archived; other variants without a serving stage are canaries again. A canary that is left stays one, without
    /// traffic.
    /// - Throws: `notFound` if nothing was deployed, `refused` if there is nothing to go back to, `conflict`.
    @discardableResult
    public func rollback(_ deployment: Name, actor: String, reason: String, expectedRevision: Int? = nil) async throws
        -> PolicyRevision
    {
        let now = clock.now()
        let (revision, steps) = try await store.write { transaction -> (PolicyRevision, [StageTransition]) in
            let history = try Self.revisions(of: deployment, in: transaction)
            guard let current = history.last else {
                throw PlatformError(.notFound, "deployment/\(deployment)", "nothing was ever deployed")
            }
            let (goal, leaving) = try PolicyRevision.rollbackGoal(history).get()
            var stages = try StageTransition.stages(current.model, in: transaction)
            var steps: [StageTransition] = []
            func move(_ version: Int, to stage: ModelStage) throws {
                guard let from = stages[version], from != stage else { return }
                steps.append(
                    try self.append(
                        current.model, version, from: from, to: stage, at: now, actor: actor,
                        reason: "rollback of \(deployment) to revision \(goal.revision): \(reason)", evidence: nil,
                        in: transaction))
                stages[version] = stage
            }
            func answers(_ version: Int) -> Bool { stages[version] == .canary || stages[version] == .production }
            if let main = goal.policy.mainVersion, !answers(main) || stages[leaving] == .production {
                if let champion = stages.first(where: { $0.value == .production })?.key, champion != main {
                    try move(champion, to: .archived)
                }
                try move(main, to: .production)
            }
            for variant in goal.policy.variants where !answers(variant.version) {
                try move(variant.version, to: .canary)
            }
            let kept = goal.policy.shadows.indices.filter {
                goal.policy.shadows[$0] != leaving && stages[goal.policy.shadows[$0]] != .archived
            }
            var policy = DeploymentPolicy(
                variants: goal.policy.variants, shadows: kept.map { goal.policy.shadows[$0] }, previous: leaving,
                shadowShares: goal.policy.shadowShares.map { shares in kept.map { shares[$0] } })
            policy.slices = goal.policy.slices
            let revision = try self.append(
                deployment, of: current.model, policy, at: now, actor: actor, reason: reason,
                expected: expectedRevision,
                restores: goal.revision, in: transaction)
            return (revision, steps)
        }
        await announce(steps)
        await announce(revision)
        return revision
    }

    /// The policy in force; `nil` if nothing was ever deployed.
    public func current(_ deployment: Name) async throws -> PolicyRevision? {
        try await store.read {
            try $0.query(
                "SELECT * FROM deployment_policies WHERE deployment = ? ORDER BY revision DESC LIMIT 1",
                [.text(deployment.text)]
            ).first.map { try PolicyRevision(row: $0) }
        }
    }

    /// The revision that a rollback would go back to now; `nil` if there is none.
    public func rollbackGoal(_ deployment: Name) async throws -> PolicyRevision? {
        try? PolicyRevision.rollbackGoal(try await history(deployment)).get().goal
    }

    /// Every policy of a deployment, oldest first.
    public func history(_ deployment: Name) async throws -> [PolicyRevision] {
        try await store.read { try Self.revisions(of: deployment, in: $0) }
    }

    /// Names of everything that was ever deployed, sorted.
    public func deployments() async throws -> [Name] {
        try await store.read {
            try $0.query("SELECT DISTINCT deployment FROM deployment_policies ORDER BY deployment")
                .compactMap { Name($0.text("deployment")) }
        }
    }

    /// Versions of feature services that models in use were trained with: those outside the archive, and archived ones in
    /// the policy of a deployment.
    ///
    /// Two looks at an index, whatever else versions say of themselves.
    public func serviceVersionsInUse() async throws -> Set<ContentHash> {
        try await store.read { transaction in
            let active = try transaction.query(
                """
                SELECT DISTINCT service_version FROM model_versions WHERE deleted_at IS NULL AND stage <> 'archived'
                """)
            var found = Set(active.compactMap { ContentHash(hex: $0.text("service_version")) })
            let archived = try transaction.query(
                """
                SELECT model, number, service_version FROM model_versions WHERE deleted_at IS NULL AND stage = 'archived'
                """)
            var routed: [String: Set<Int>] = [:]
            for row in archived {
                guard let version = ContentHash(hex: row.text("service_version")), !found.contains(version) else {
                    continue
                }
                let model = row.text("model")
                if routed[model] == nil {
                    let revisions = try Name(model).map { try Self.currentRevisions(of: $0, in: transaction) }
                    routed[model] = Set((revisions ?? []).flatMap(\.policy.versions))
                }
                if routed[model]?.contains(Int(row.integer("number"))) == true { found.insert(version) }
            }
            return found
        }
    }

    private func announce(_ revision: PolicyRevision) async {
        let shares = revision.policy.variants.map { (String($0.version), JSONValue.number($0.share)) }
        await publish(
            PlatformEvent(
                kind: "deployment.policy.published", subject: "deployment/\(revision.deployment)", time: revision.time,
                actor: revision.actor,
                details: [
                    "model": .string(revision.model.text), "revision": .integer(Int64(revision.revision)),
                    "reason": .string(revision.reason),
                    "restores": revision.restores.map { .integer(Int64($0)) } ?? .null,
                    "shares": .object(Dictionary(shares, uniquingKeysWith: { $1 })),
                    "shadows": .array(revision.policy.shadows.map { .integer(Int64($0)) }),
                ]))
    }

    /// The policies in force for a model.
    static func currentRevisions(
        of model: Name, at moment: EventTime = EventTime.latestAccepted, in transaction: any MetadataTransaction
    ) throws -> [PolicyRevision] {
        var revisions: [PolicyRevision] = []
        var last = ""
        // From one deployment to the next by the index: a history of 100,000 revisions is not read for its few names.
        while let deployment = try transaction.query(
            "SELECT MIN(deployment) AS next FROM deployment_policies WHERE model = ? AND deployment > ?",
            [.text(model.text), .text(last)]
        ).first?["next"].textValue {
            let newest = try transaction.query(
                "SELECT * FROM deployment_policies WHERE deployment = ? AND time <= ? "
                    + "ORDER BY time DESC, revision DESC LIMIT 1",
                [.text(deployment), MetadataValue(moment)])
            if let newest = newest.first { revisions.append(try PolicyRevision(row: newest)) }
            last = deployment
        }
        return revisions
    }

    private static func revisions(of deployment: Name, in transaction: any MetadataTransaction) throws
        -> [PolicyRevision]
    {
        try transaction.query(
            "SELECT * FROM deployment_policies WHERE deployment = ? ORDER BY revision", [.text(deployment.text)]
        ).map { try PolicyRevision(row: $0) }
    }

    private func append(
        _ deployment: Name, of model: Name, _ policy: DeploymentPolicy, at now: EventTime, actor: String,
        reason: String,
        expected: Int?, restores: Int?, in transaction: any MetadataTransaction
    ) throws -> PolicyRevision {
        let subject = "deployment/\(deployment)"
        guard !reason.allSatisfy(\.isWhitespace) else {
            throw PlatformError(.invalidInput, subject, "a change of traffic needs a reason")
        }
        let last = try transaction.query(
            "SELECT revision, time, model FROM deployment_policies WHERE deployment = ? ORDER BY revision DESC LIMIT 1",
            [.text(deployment.text)]
        ).first
        let before = Int(last?.integer("revision") ?? 0)
        let previous = try transaction.query(
            "SELECT policy FROM deployment_policies WHERE deployment = ? AND revision = ?",
            [.text(deployment.text), .integer(Int64(before))]
        ).first.map { try JSONValue.parse(Array($0.text("policy").utf8)) }
        let policy =
            policy.slices == nil
            ? policy.dealing(from: try previous?.decoded(as: DeploymentPolicy.self)) : policy
        if let expected, expected != before {
            throw PlatformError(.conflict, subject, "revision \(before) is in force, not \(expected); look again")
        }
        if let last, last.text("model") != model.text {
            throw PlatformError(.refused, subject, "it serves the model '\(last.text("model"))', not '\(model)'")
        }
        let revision = PolicyRevision(
            deployment: deployment, model: model, revision: before + 1,
            time: max(now, EventTime(milliseconds: last?.integer("time") ?? .min)), actor: actor, reason: reason,
            policy: policy, restores: restores)
        try transaction.execute(
            """
            INSERT INTO deployment_policies (deployment, revision, model, time, actor, reason, policy, restores) \
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                .text(deployment.text), .integer(Int64(revision.revision)), .text(model.text),
                MetadataValue(revision.time), .text(actor), .text(reason), .text(try JSONValue.of(policy).text),
                MetadataValue(restores.map(Int64.init)),
            ])
        try journal.record(
            RecordedChange(
                actor: actor, action: "deployment.policy.published", subject: subject,
                before: previous.map { ["revision": .integer(Int64(before)), "policy": $0] } ?? .null,
                after: [
                    "model": .string(model.text), "revision": .integer(Int64(revision.revision)),
                    "policy": try JSONValue.of(policy), "reason": .string(String(reason.prefix(4000))),
                    "restores": restores.map { .integer(Int64($0)) } ?? .null,
                ], time: revision.time), in: transaction)
        return revision
    }
}

extension PolicyRevision {
    /// The revision from its row.
    init(row: MetadataRow) throws {
        let name = row.text("deployment")
        guard let deployment = Name(name), let model = Name(row.text("model")),
            let policy = try? JSONValue.parse(Array(row.text("policy").utf8)).decoded(as: DeploymentPolicy.self)
        else {
            throw PlatformError(
                .corrupted, "deployment/\(name)", "the stored revision \(row.integer("revision")) cannot be read")
        }
        self.init(
            deployment: deployment, model: model, revision: Int(row.integer("revision")),
            time: EventTime(milliseconds: row.integer("time")), actor: row.text("actor"), reason: row.text("reason"),
            policy: policy, restores: row["restores"].integerValue.map { Int($0) })
    }
}
