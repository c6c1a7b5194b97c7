import APIContract
import Definitions
import ModelRegistry
import PlatformCore
import Workflows

/// Rollouts as people see and steer them, and policies with several variants.
enum RolloutRoutes {
    static func routes(_ services: PlatformServices) -> [Route] {
        let (registry, lifecycle) = (services.registry, services.lifecycle)
        return [
            Route("GET", "/api/v1/models/{model}/rollout") { request in
                let model = try await request.model(registry)
                guard
                    let rollout = lifecycle.rollouts.values.filter({ $0.model == model }).max(by: {
                        ($0.startedAt, $0.challenger) < ($1.startedAt, $1.challenger)
                    })
                else { throw PlatformError(.notFound, "model/\(model)", "it never had a rollout") }
                return .json(try await describe(rollout, services))
            },
            Route("POST", "/api/v1/models/{model}/rollout") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["version", "reason"])
                let (model, reason) = (try await request.model(registry), try body.reason())
                let number = Int(try body.integer("version", default: 0, in: 1...Int64(Int32.max)))
                guard number > 0 else {
                    throw PlatformError(.invalidInput, "request body", "'version' is missing")
                }
                return try await start(model, number, actor: request.actor, reason: reason, services)
            },
            Route("POST", "/api/v1/models/{model}/rollout/{command}") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["reason", "version"])
                let word = request.parameters["command"] ?? ""
                guard let command = RolloutController.Command(rawValue: word) else {
                    let known = RolloutController.Command.allCases.map(\.rawValue)
                    throw PlatformError(
                        .notFound, "rollout/\(word.prefix(64))",
                        "no such command"
                            + (nearestName(to: word, among: known).map { "; did you mean '\($0)'?" }
                                ?? "; known: \(known.joined(separator: ", "))"))
                }
                let model = try await request.model(registry)
                let version =
                    body["version"] == nil
                    ? nil : Int(try body.integer("version", default: 0, in: 1...Int64(Int32.max)))
                let rollout = try await lifecycle.rollout.tell(
                    model, command, of: version, actor: request.actor, reason: try body.reason())
                return .json(try await describe(rollout, services))
            },
            Route("POST", "/api/v1/deployments/{deployment}/policy") { request in
                try await publish(request, services)
            },
            .page("/rollouts") { _ in
                let rollouts = Array(lifecycle.rollouts.values)
                var policies: [Name: PolicyRevision] = [:]
                for deployment in Set(rollouts.map(\.deployment)) {
                    policies[deployment] = try await registry.current(deployment)
                }
                return RolloutPage.list(rollouts, policies: policies)
            },
            .page("/rollouts/{model}/{version}") { request in
                let (model, number) = (try await request.model(registry), try request.versionNumber())
                let found = lifecycle.rollouts.values.filter { $0.model == model && $0.challenger == number }
                guard let rollout = found.max(by: { $0.startedAt < $1.startedAt }) else {
                    throw PlatformError(.notFound, "model/\(model)/versions/\(number)", "it never had a rollout")
                }
                let now = await lifecycle.rollout.judgement(of: rollout).map { judgement in
                    let (decision, reason) = words(judgement.decision)
                    return (decision: decision, reason: reason, checks: judgement.checks)
                }
                return RolloutPage.html(
                    rollout, now: now, policy: try await registry.current(rollout.deployment),
                    earlier: try await lifecycle.rollout.earlier(than: rollout))
            },
        ]
    }

    /// Brings a version into staging if its gates hold, and from there on the way.
    private static func start(
        _ model: Name, _ number: Int, actor: String, reason: String, _ services: PlatformServices
    ) async throws -> APIResponse {
        let registry = services.registry
        guard let deployment = services.catalog.current.deployment(of: model) else {
            throw services.catalog.current.withoutDeployment(model: model)
        }
        let subject = "model/\(model)/versions/\(number)"
        guard let champion = try await registry.champion(of: model) else {
            throw PlatformError(
                .refused, subject, "no version is in production yet; 'bottega deploy' puts the first one there")
        }
        // Before the version moves: a rollout that cannot begin changes nothing.
        try await services.lifecycle.rollout.checkNoneIsUnderWay(of: model)
        if let policy = try await registry.current(deployment.name)?.policy, policy.variants.count > 1 {
            let shares = policy.variants.map { "\($0.version)=\(($0.share * 1000).rounded() / 10)%" }
            throw PlatformError(
                .conflict, "deployment/\(deployment.name)",
                "its traffic is split (\(shares.joined(separator: " "))), and a rollout would end that; give one version all of "
                    + "it first with 'bottega deploy'")
        }
        switch try await registry.stage(of: model, number) {
        case .development:
            let (gates, isTaken) = try await services.desk.promote(
                model, number, to: .staging, actor: actor, reason: reason)
            guard isTaken else {
                let failed = gates.filter { !$0.passed }.map { "\($0.gate): \($0.detail)" }
                throw PlatformError(.refused, subject, "gates for staging failed: \(failed.joined(separator: "; "))")
            }
        case .staging, .canary: break
        case .production: throw PlatformError(.refused, subject, "it is in production")
        case .archived: throw PlatformError(.refused, subject, "it is archived; bring it back into staging first")
        }
        try await services.lifecycle.rollout.begin(
            number, of: deployment, champion: champion.number, actor: actor, reason: reason)
        guard let rollout = services.lifecycle.rollouts["\(deployment.name)/\(number)"] else {
            throw PlatformError(.internal, subject, "the rollout is gone")
        }
        return .json(try await describe(rollout, services))
    }

    /// Publishes any policy: variants and their shares, shadows and theirs.
    private static func publish(_ request: APIRequest, _ services: PlatformServices) async throws -> APIResponse {
        let body = try RequestBody(request)
        try body.checkKeys(["variants", "shadows", "reason", "expected_revision"])
        let name = try request.name("deployment")
        guard let deployment = services.catalog.current.deployments[name] else {
            throw PlatformError(.notFound, "deployment/\(name)", "no such deployment is defined")
        }
        let variants = try shares(body["variants"], "variants", default: nil)
        let shadows = try shares(body["shadows"] ?? [], "shadows", default: 1)
        let current = try await services.registry.current(name)
        let previous = current?.policy.mainVersion.flatMap { main in
            variants.contains { $0.version == main } ? nil : main
        }
        let stages = try await services.registry.stages(of: deployment.model)
        let policy = DeploymentPolicy(
            variants: variants, shadows: shadows.map(\.version),
            previous: previous.flatMap { stages[$0] } == .archived ? nil : previous,
            shadowShares: shadows.contains { $0.share < 1 } ? shadows.map(\.share) : nil)
        let revision = try await services.desk.publish(
            policy, for: deployment, actor: request.actor, reason: try body.reason(),
            expectedRevision: try body.expectedRevision())
        return .json(ModelRoutes.describe(revision, services.desk))
    }

    private static func shares(_ list: JSONValue?, _ key: String, default share: Double?) throws -> [TrafficShare] {
        guard let elements = list?.arrayValue, elements.count <= 100 else {
            throw PlatformError(
                .invalidInput, "request body", "'\(key)' must be a list of up to 100 {version, share}")
        }
        return try elements.map { element in
            let fields = try RequestBody(element)
            try fields.checkKeys(["version", "share"])
            let version = try fields.integer("version", default: 0, in: 1...Int64(Int32.max))
            guard version > 0, let share = fields["share"].map({ $0.doubleValue ?? -1 }) ?? share else {
                throw PlatformError(.invalidInput, "request body", "each of '\(key)' needs 'version' and 'share'")
            }
            return TrafficShare(version: Int(version), share: share)
        }
    }

    // MARK: JSON

    /// A rollout as lists show it.
    static func summary(_ state: RolloutState) -> [String: JSONValue] {
        [
            "deployment": .string(state.deployment.text), "model": .string(state.model.text),
            "challenger": .integer(Int64(state.challenger)), "champion": .integer(Int64(state.champion)),
            "phase": .string(state.phase.word), "since": .string(state.since.description),
            "started_at": .string(state.startedAt.description),
            "share": .number(state.share), "halted": state.halted.map(JSONValue.string) ?? .null,
            "waiting_for": state.waitingFor.map(JSONValue.string) ?? .null,
            "decisions": .array(
                state.decisions.map {
                    [
                        "time": .string($0.time.description), "phase": .string($0.phase), "share": .number($0.share),
                        "reason": .string($0.reason), "actor": .string($0.actor ?? "lifecycle"),
                        "checks": .array(($0.checks ?? []).map(describe)),
                    ]
                }),
        ]
    }

    /// What to do next, and why, in words.
    private static func words(_ decision: RolloutState.Decision) -> (decision: String, reason: String) {
        switch decision {
        case .wait(let reason): ("wait", reason)
        case .advance(let phase, let reason): ("advance to \(phase.word)", reason)
        case .halt(let reason): ("halt", reason)
        case .withdraw(let reason): ("withdraw", reason)
        }
    }

    /// A rollout with how it would be judged now.
    private static func describe(_ state: RolloutState, _ services: PlatformServices) async throws -> JSONValue {
        var members = summary(state)
        members["now"] = .null
        members["earlier"] = .array(
            try await services.lifecycle.rollout.earlier(than: state).map { .object(summary($0)) })
        members["in_force"] =
            try await services.registry.current(state.deployment).map { current in
                [
                    "revision": .integer(Int64(current.revision)),
                    "share": .number(current.share(of: state.challenger)),
                    "actor": .string(current.actor), "reason": .string(current.reason),
                ]
            } ?? .null
        if let now = await services.lifecycle.rollout.judgement(of: state) {
            let (decision, reason) = words(now.decision)
            members["now"] = [
                "decision": .string(decision), "reason": .string(reason), "checks": .array(now.checks.map(describe)),
            ]
        }
        return .object(members)
    }

    static func describe(_ check: RolloutCheck) -> JSONValue {
        [
            "name": .string(check.name), "verdict": .string(check.verdict.rawValue),
            "value": check.value.map(JSONValue.number) ?? .null, "bound": check.bound.map(JSONValue.number) ?? .null,
            "detail": .string(check.detail),
        ]
    }
}
