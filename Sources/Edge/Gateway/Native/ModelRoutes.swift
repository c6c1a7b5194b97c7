import APIContract
import Datasets
import Definitions
import FeatureStore
import Foundation
import ModelRegistry
import ModelServing
import PlatformCore
import RuntimePorts
import TrainingJobs
import Workflows

/// Models, versions, stages, deployments, and the lifecycle that moves them.
enum ModelRoutes {
    static func routes(_ services: PlatformServices) -> [Route] {
        let registry = services.registry
        return [
            Route("GET", "/api/v1/models") { _ in
                var models: [JSONValue] = []
                let defined = services.catalog.current.models.keys
                for model in Set(try await registry.models()).union(defined).sorted() {
                    models.append(["name": .string(model.text), "versions": try await versions(model, registry)])
                }
                return .json(["models": .array(models)])
            },
            Route("GET", "/api/v1/models/{model}") { request in
                let model = try await request.model(registry)
                let list = try await versions(model, registry)
                guard services.catalog.current.models[model] != nil || list.arrayValue?.isEmpty == false else {
                    throw PlatformError(.notFound, "model/\(model)", "no such model is defined or registered")
                }
                return .json(["name": .string(model.text), "versions": list])
            },
            Route("GET", "/api/v1/models/{model}/versions/{version}") { request in
                let version = try await registry.version(
                    try await request.model(registry), try request.versionNumber())
                return .json(try await describe(version, registry, whole: true))
            },
            Route("GET", "/api/v1/models/{model}/live") { request in
                let moment = try request.queryValue("at").map { text in
                    guard let time = EventTime(written: text) else {
                        throw PlatformError(.invalidInput, "query", "'at' must be a time such as 2013-07-01T00:00:00Z")
                    }
                    return time
                }
                let now = services.clock.now()
                guard moment ?? now <= now else {
                    throw PlatformError(
                        .invalidInput, "query", "'at' lies in the future; the platform's time is \(now)")
                }
                let model = try await request.model(registry)
                guard try await registry.isKnown(model) || services.catalog.current.models[model] != nil else {
                    throw PlatformError(.notFound, "model/\(model)", "no such model is defined or registered")
                }
                return .json(
                    try await live(
                        model, at: moment ?? now, services,
                        unloaded: moment == nil ? services.desk.unloadedVersions.filter { $0.model == model } : []))
            },
            Route("POST", "/api/v1/models/{model}/versions/{version}/stage") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["stage", "reason"])
                let (model, number, reason) = (
                    try await request.model(registry), try request.versionNumber(), try body.reason()
                )
                let stage = try Self.stage(body)
                let (gates, isTaken) = try await services.desk.promote(
                    model, number, to: stage, actor: request.actor, reason: reason)
                let list = try JSONValue.of(gates)
                guard isTaken else {
                    let failed = gates.filter { !$0.passed }.count
                    return .json(
                        [
                            "gates": list,
                            "error": [
                                "code": "refused", "subject": .string("model/\(model)/versions/\(number)"),
                                "message": .string("\(failed) of \(gates.count) gates for \(stage.rawValue) failed"),
                            ],
                        ], status: 409)
                }
                return .json([
                    "model": .string(model.text), "version": .integer(Int64(number)), "stage": .string(stage.rawValue),
                    "gates": list, "defined": .bool(services.catalog.current.models[model] != nil),
                ])
            },
            Route("POST", "/api/v1/models/{model}/versions/{version}/gates") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["stage"])
                let (model, number) = (try await request.model(registry), try request.versionNumber())
                let (stage, actor) = (try Self.stage(body), request.actor)
                let examined = try describe(try await services.desk.examine(model, number, for: stage, actor: actor))
                var members = examined.objectValue ?? [:]
                members["defined"] = .bool(services.catalog.current.models[model] != nil)
                return .json(.object(members))
            },
            Route("GET", "/api/v1/models/{model}/versions/{version}/approvals") { request in
                let (model, number) = (try await request.model(registry), try request.versionNumber())
                return .json(["approvals": .array(try await registry.approvals(of: model, number).map(describe))])
            },
            Route("POST", "/api/v1/models/{model}/versions/{version}/approvals") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["stage", "verdict", "reason", "seal"])
                guard let verdict = Approval.Verdict(rawValue: body["verdict"]?.stringValue ?? "approve") else {
                    throw PlatformError(.invalidInput, "request body", "'verdict' must be approve or object")
                }
                let seal = try body["seal"].map { value in
                    guard let seal = ContentHash(hex: value.stringValue ?? "") else {
                        throw PlatformError(.invalidInput, "request body", "'seal' must be a SHA-256")
                    }
                    return seal
                }
                let approval = try await registry.approve(
                    try await request.model(registry), try request.versionNumber(), for: try Self.stage(body),
                    seal: seal,
                    verdict: verdict, actor: request.actor, reason: try body.reason())
                return .json(describe(approval))
            },
            Route("POST", "/api/v1/models/{model}/versions/{version}/label") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["label"])
                let (model, number) = (try await request.model(registry), try request.versionNumber())
                try await registry.labelVersion(
                    number, of: try await registry.model(id: model).name, try body.text("label"), actor: request.actor)
                return .json(try await describe(try await registry.version(model, number), registry, whole: true))
            },
            Route("POST", "/models/{model}/versions/{version}/deploy") { request in try await deploy(request, services)
            },
            Route("GET", "/api/v1/deployments/{deployment}") { request in
                let name = try request.name("deployment")
                guard let current = try await registry.current(name) else {
                    throw PlatformError(.notFound, "deployment/\(name)", "nothing was ever deployed")
                }
                let history = try await registry.history(name)
                var answer = describe(current, services.desk).objectValue ?? [:]
                answer["history"] = .array(history.map(describe))
                return .json(.object(answer))
            },
            Route("POST", "/api/v1/deployments/{deployment}/rollback") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["reason", "expected_revision"])
                let revision = try await services.desk.rollback(
                    try request.name("deployment"), actor: request.actor, reason: try body.reason(),
                    expectedRevision: try body.expectedRevision())
                return .json(describe(revision, services.desk))
            },
            .page("/models") { _ in try await ModelPage.list(services) },
            .page("/models/{model}") { request in
                try await ModelPage.model(try await request.model(registry), services)
            },
            Route("GET", "/api/v1/workflows") { _ in .json(try workflows(services.lifecycle)) },
        ]
    }

    /// What people call a model.
    private static func name(of model: Name, _ registry: ModelVersionRegistry) async throws -> String {
        try await registry.isKnown(model) ? registry.model(id: model).name : model.text
    }

    /// What was live at a moment, and for each version why it was, since when, and who said so on what evidence.
    private static func live(
        _ model: Name, at moment: EventTime, _ services: PlatformServices, unloaded: [UnloadedVersion]
    ) async throws -> JSONValue {
        let registry = services.registry
        var live = try await registry.live(model, at: moment)
        var removed: [Name: JSONValue] = [:]
        for name in live.policies.keys {
            guard let removal = try await services.catalog.removal(of: "Deployment/\(name)", at: moment) else {
                continue
            }
            removed[name] = [
                "deployment": .string(name.text), "since": .string(removal.time.description),
                "actor": .string(removal.actor), "definitions_revision": .integer(Int64(removal.revision)),
            ]
        }
        live = live.without(removed.keys)
        func version(_ number: Int, share: Double?) -> JSONValue {
            var members: [String: JSONValue] = ["version": .integer(Int64(number))]
            if let share { members["share"] = .number(share) }
            if let step = live.steps[number] ?? live.archived[number] {
                members["stage"] = .string(step.to.rawValue)
                members["since"] = .string(step.time.description)
                members["actor"] = .string(step.actor)
                members["reason"] = .string(step.reason)
                members["evidence"] = step.evidence.map { .string($0.hex) } ?? .null
            }
            return .object(members)
        }
        let deployments = live.policies.values.sorted { $0.deployment < $1.deployment }.map { revision -> JSONValue in
            var members = describe(revision).objectValue ?? [:]
            members["variants"] = .array(revision.policy.variants.map { version($0.version, share: $0.share) })
            members["shadows"] = .array(revision.policy.shadows.map { version($0, share: nil) })
            return .object(members)
        }
        return [
            "model": .string(model.text), "name": .string(try await name(of: model, registry)),
            "at": .string(moment.description),
            "champion": live.champion.map { .integer(Int64($0)) } ?? .null,
            "stages": .object(
                Dictionary(
                    live.stages.map { (String($0.key), .string($0.value.rawValue)) }, uniquingKeysWith: { $1 })),
            "versions": .array(live.steps.keys.sorted().map { version($0, share: nil) }),
            "deployments": .array(deployments),
            "removed_deployments": .array(removed.sorted { $0.key < $1.key }.map(\.value)),
            "unloaded_versions": .array(unloaded.map(describe)),
        ]
    }

    private static func deploy(_ request: APIRequest, _ services: PlatformServices) async throws -> APIResponse {
        let body = try RequestBody(request)
        try body.checkKeys(["traffic", "reason"])
        let (model, number, reason) = (try request.name("model"), try request.versionNumber(), try body.reason())
        guard let deployment = services.catalog.current.deployment(of: model) else {
            throw services.catalog.current.withoutDeployment(model: model)
        }
        let share = body["traffic"].map { $0.doubleValue ?? -1 } ?? 1
        guard share > 0, share <= 1 else {
            throw PlatformError(.invalidInput, "request body", "'traffic' must be above 0 and at most 1")
        }
        let current = try await services.registry.current(deployment.name)
        var variants = [TrafficShare(version: number, share: share)]
        if share < 1 {
            guard let main = current?.policy.variants.first(where: { $0.version != number }) else {
                throw PlatformError(
                    .refused, "deployment/\(deployment.name)", "a first deployment takes all traffic (traffic 1)")
            }
            variants = [TrafficShare(version: main.version, share: 1 - share), variants[0]]
        }
        let previous = current?.policy.mainVersion.flatMap { $0 == number ? nil : $0 }
        let stages = try await services.registry.stages(of: model)
        let policy = DeploymentPolicy(
            variants: variants, previous: share < 1 || previous.flatMap { stages[$0] } == .archived ? nil : previous)
        let revision = try await services.desk.publish(policy, for: deployment, actor: request.actor, reason: reason)
        return .json(describe(revision, services.desk))
    }

    private static func stage(_ body: RequestBody) throws -> ModelStage {
        guard let stage = ModelStage(rawValue: try body.text("stage")) else {
            let known = ModelStage.allCases.map(\.rawValue).joined(separator: ", ")
            throw PlatformError(.invalidInput, "request body", "'stage' must be one of \(known)")
        }
        return stage
    }

    // MARK: JSON

    private static func describe(_ approval: Approval) -> JSONValue {
        [
            "actor": .string(approval.actor), "verdict": .string(approval.verdict.rawValue),
            "reason": .string(approval.reason), "seal": .string(approval.seal.hex),
            "time": .string(approval.time.description),
        ]
    }

    private static func describe(_ examination: GateExamination) throws -> JSONValue {
        [
            "stage": .string(examination.stage.rawValue), "passed": .bool(examination.isPassed),
            "seal": .string(examination.seal.hex), "evidence": .string(examination.evidence.hex),
            "gates": try JSONValue.of(examination.gates),
        ]
    }

    private static func versions(_ model: Name, _ registry: ModelVersionRegistry) async throws -> JSONValue {
        var list: [JSONValue] = []
        for version in try await registry.versions(of: model) {
            list.append(try await describe(version, registry, whole: false))
        }
        return .array(list)
    }

    /// One version; `whole` adds signature, transitions with evidence, and origin.
    static func describe(_ version: ModelVersion, _ registry: ModelVersionRegistry, whole: Bool) async throws
        -> JSONValue
    {
        let candidate = version.candidate
        var members: [String: JSONValue] = [
            "model": .string(version.model.text), "version": .integer(Int64(version.number)),
            "number": .integer(Int64(version.number)),
            "stage": .string(try await registry.stage(of: version.model, version.number).rawValue),
            "created_at": .string(version.createdAt.description), "created_by": .string(version.createdBy),
            "artifact": .string(candidate.artifact.hash.hex), "format": .string(candidate.artifact.format),
            "byte_count": .integer(Int64(candidate.artifact.byteCount)), "metrics": candidate.metricsJSON,
            "rows": .object(candidate.rows.mapValues { .integer(Int64($0)) }),
            "dataset": candidate.origin.dataset.map { .string($0.hex) } ?? .null,
            "run_id": .string(candidate.origin.runID),
            "job": .string(candidate.origin.jobID), "commit": .string(candidate.origin.commit),
            "branch": .string(candidate.origin.branch), "dirty": .bool(candidate.origin.isDirty),
            "seed": candidate.origin.givenSeed.map(JSONValue.integer) ?? .null,
            "service_version": candidate.origin.serviceVersion.map { .string($0.hex) } ?? .null,
            "environment": candidate.origin.environment.map { .string($0.hex) } ?? .null,
            "parameters": .object(candidate.origin.parameters.mapValues(JSONValue.string)),
        ]
        guard whole else { return .object(members) }
        members["requirement_differences"] = .array(candidate.requirementDifferences.map(JSONValue.string))
        members["label"] = try await registry.label(of: version.model, version.number).map(JSONValue.string) ?? .null
        members["signature"] = try candidate.signature.map { try JSONValue.of($0) } ?? .null
        var transitions: [JSONValue] = []
        for step in try await registry.transitions(of: version.model, version: version.number) {
            transitions.append([
                "from": step.from.map { .string($0.rawValue) } ?? .null, "to": .string(step.to.rawValue),
                "stage": .string(step.to.rawValue),
                "time": .string(step.time.description), "actor": .string(step.actor), "reason": .string(step.reason),
                "evidence": step.evidence.map { .string($0.hex) } ?? .null,
                "gates": try await registry.evidence(of: step)["gates"] ?? [],
            ])
        }
        members["transitions"] = .array(transitions)
        return .object(members)
    }

    static func describe(_ revision: PolicyRevision) -> JSONValue {
        [
            "deployment": .string(revision.deployment.text), "model": .string(revision.model.text),
            "revision": .integer(Int64(revision.revision)), "time": .string(revision.time.description),
            "actor": .string(revision.actor), "reason": .string(revision.reason),
            "variants": .array(
                revision.policy.variants.map { ["version": .integer(Int64($0.version)), "share": .number($0.share)] }),
            "shadows": .array(revision.policy.shadows.map { .integer(Int64($0)) }),
        ]
    }

    /// A revision that is in force, with what its versions find otherwise than they were logged with.
    static func describe(_ revision: PolicyRevision, _ desk: ModelDesk) -> JSONValue {
        var members = describe(revision).objectValue ?? [:]
        let found = desk.requirementDifferences(of: revision.model)
        members["requirement_differences"] = .object(
            Dictionary(
                found.map { (String($0.key), .array($0.value.map(JSONValue.string))) }, uniquingKeysWith: { $1 }))
        members["unloaded_versions"] = .array(
            desk.unloadedVersions.filter { $0.deployment == revision.deployment }.map(describe))
        return .object(members)
    }

    static func describe(_ version: UnloadedVersion) -> JSONValue {
        [
            "deployment": .string(version.deployment.text), "model": .string(version.model.text),
            "version": .integer(Int64(version.version)), "use": .string(version.use.rawValue),
            "reason": .string(version.reason), "served_as_before": .bool(version.isServedAsBefore),
        ]
    }

    private static func word(_ state: RetrainingState, _ rollout: RolloutState?) -> String {
        state.outcome?.rawValue ?? ((state.waitingFor ?? rollout?.waitingFor) == nil ? "running" : "waiting")
    }

    private static func workflows(_ lifecycle: LifecycleService) throws -> JSONValue {
        let workflows = lifecycle.retrainings.map { state -> JSONValue in
            let rollout = state.version.flatMap { version in
                lifecycle.rollouts.values.first { $0.model == state.model && $0.challenger == version }
            }
            let taken = state.taken.filter { $0.step != .rollout }.map { step -> JSONValue in
                [
                    "name": .string(step.step.rawValue), "state": "succeeded", "time": .string(step.time.description),
                    "seconds": .number(step.seconds), "reason": .string(step.result),
                ]
            }
            let decided = (rollout?.decisions ?? []).map { decision -> JSONValue in
                let share = decision.phase == "canary" ? " \(Int((decision.share * 100).rounded())) %" : ""
                return [
                    "name": .string(decision.phase + share),
                    "state": .string(decision.phase == "withdrawn" ? "failed" : "succeeded"),
                    "time": .string(decision.time.description), "share": .number(decision.share),
                    "reason": .string(decision.reason),
                ]
            }
            return [
                "id": .string(state.id), "kind": "retraining", "monitor": .string(state.monitor),
                "model": .string(state.model.text),
                "trigger": .string(state.cause), "state": .string(word(state, rollout)),
                "waiting_for": (state.waitingFor ?? rollout?.waitingFor).map(JSONValue.string) ?? .null,
                "started_at": .string(state.startedAt.description),
                "ended_at": state.outcome == nil
                    ? .null : state.taken.last.map { .string($0.time.description) } ?? .null,
                "from": .string(state.from.description), "to": .string(state.to.description),
                "dataset": state.dataset.map(JSONValue.string) ?? .null,
                "job": state.job.map(JSONValue.string) ?? .null,
                "version": state.version.map { .integer(Int64($0)) } ?? .null, "reason": .string(state.conclusion),
                "steps": .array(taken + decided),
            ]
        }
        let rollouts = lifecycle.rollouts.values.sorted { $0.challenger < $1.challenger }.map { state -> JSONValue in
            [
                "deployment": .string(state.deployment.text), "model": .string(state.model.text),
                "challenger": .integer(Int64(state.challenger)), "champion": .integer(Int64(state.champion)),
                "phase": .string(state.phase.word), "since": .string(state.since.description),
                "waiting_for": state.waitingFor.map(JSONValue.string) ?? .null,
                "decisions": .array(
                    state.decisions.map {
                        [
                            "time": .string($0.time.description), "phase": .string($0.phase),
                            "share": .number($0.share),
                            "reason": .string($0.reason),
                        ]
                    }),
            ]
        }
        return [
            "workflows": .array(workflows), "rollouts": .array(rollouts),
            "ignored_alerts": .array(lifecycle.ignoredAlerts.map(JSONValue.string)),
        ]
    }
}

extension APIRequest {
    /// The model of the path: a registered name, else an identity.
    func model(_ registry: ModelVersionRegistry) async throws -> Name {
        let text = parameters["model"] ?? ""
        guard let model = try await registry.identity(of: text) else {
            throw PlatformError(.notFound, "model/\(text.prefix(64))", "no such model is defined or registered")
        }
        return model
    }
}
