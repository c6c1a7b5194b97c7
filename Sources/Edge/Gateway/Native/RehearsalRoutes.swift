import APIContract
import Definitions
import ModelRegistry
import PlatformCore
import Workflows

/// What can be known before it counts: rollbacks rehearsed, and candidates that answer logged traffic.
enum RehearsalRoutes {
    static func routes(_ services: PlatformServices) -> [Route] {
        let (registry, replays) = (services.registry, services.replays)
        return [
            Route("POST", "/api/v1/deployments/{deployment}/drill") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["seconds"])
                let name = try request.name("deployment")
                guard let deployment = services.catalog.current.deployments[name] else {
                    throw PlatformError(.notFound, "deployment/\(name)", "no such deployment is defined")
                }
                let seconds = body["seconds"].map { $0.doubleValue ?? -1 } ?? 3
                guard 0.5...300 ~= seconds else {
                    throw PlatformError(
                        .invalidInput, "request body", "'seconds' must be between 0.5 and 300, for each of three phases"
                    )
                }
                if let rollout = services.lifecycle.rollouts.values.first(where: {
                    $0.deployment == name && !$0.phase.isOver
                }) {
                    throw PlatformError(
                        .refused, "deployment/\(name)",
                        "version \(rollout.challenger) is being rolled out; a drill would falsify what is observed")
                }
                let actor = request.actor
                return try services.start { progress in
                    let found = try await services.audited(
                        actor, "deployment.drilled", "deployment/\(name)",
                        outcome: { (found: (report: DrillReport, evidence: ContentHash)) in
                            [
                                "evidence": .string(found.evidence.hex),
                                "rollback_ms": .number(found.report.rollbackMilliseconds),
                                "fault": found.report.fault.map(JSONValue.string) ?? .null,
                            ]
                        }
                    ) { try await services.drill.run(deployment, seconds: seconds, actor: actor, progress: progress) }
                    return describe(found.report, evidence: found.evidence)
                }
            },
            Route("GET", "/api/v1/deployments/{deployment}/drill") { request in
                let name = try request.name("deployment")
                guard let report = try await services.drill.latest().first(where: { $0.deployment == name }) else {
                    throw PlatformError(
                        .notFound, "deployment/\(name)", "no rollback was rehearsed; 'bottega deploy drill' does")
                }
                return .json(describe(report, evidence: nil))
            },
            Route("POST", "/api/v1/models/{model}/versions/{version}/shadow-replays") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["days"])
                let days = body["days"].map { $0.doubleValue ?? -1 } ?? 1
                guard days > 0, days <= 3660 else {
                    throw PlatformError(
                        .invalidInput, "request body", "'days' must be above 0 and at most 3660")
                }
                let (model, number) = (try await request.model(registry), try request.versionNumber())
                _ = try await registry.version(model, number)
                let (actor, span) = (request.actor, TimeSpan(milliseconds: Int64(days * 86_400_000)))
                return try services.start { progress in
                    let found = try await services.audited(
                        actor, "model.shadow_replayed", "model/\(model)/versions/\(number)",
                        outcome: { (found: (report: ShadowReplayReport, evidence: ContentHash)) in
                            [
                                "replay": .string(found.report.id), "evidence": .string(found.evidence.hex),
                                "passed": .bool(found.report.isPassed),
                            ]
                        }
                    ) { try await replays.run(model, number, span: span, actor: actor, progress: progress) }
                    return try describe(found.report, evidence: found.evidence)
                }
            },
            Route("GET", "/api/v1/models/{model}/versions/{version}/shadow-replays") { request in
                let (model, number) = (try await request.model(registry), try request.versionNumber())
                let reports = try await replays.reports().filter { $0.model == model && $0.version == number }
                return .json(["replays": .array(try reports.map { try describe($0, evidence: nil) })])
            },
            Route("GET", "/api/v1/shadow-replays/{id}") { request in
                .json(try describe(try await replays.report(request.parameters["id"] ?? ""), evidence: nil))
            },
            .page("/shadow-replays/{id}") { request in
                ShadowReplayPage.html(try await replays.report(request.parameters["id"] ?? ""))
            },
        ]
    }

    private static func describe(_ report: DrillReport, evidence: ContentHash?) -> JSONValue {
        func number(_ value: Double?) -> JSONValue { value.map(JSONValue.number) ?? .null }
        return [
            "deployment": .string(report.deployment.text), "model": .string(report.model.text),
            "time": .string(report.time.description), "actor": .string(report.actor),
            "from": .array(report.from.map { .integer(Int64($0)) }),
            "to": .array(report.to.map { .integer(Int64($0)) }),
            "rollback_ms": .number(report.rollbackMilliseconds), "return_ms": .number(report.returnMilliseconds),
            "probes": .bool(report.hasProbes), "passed": .bool(report.fault == nil),
            "fault": report.fault.map(JSONValue.string) ?? .null,
            "evidence": evidence.map { .string($0.hex) } ?? .null,
            "phases": .array(
                report.phases.map {
                    [
                        "name": .string($0.name), "seconds": .number($0.seconds),
                        "answers": .object($0.answers.mapValues { .integer(Int64($0)) }),
                        "errors": .integer(Int64($0.errors)), "p50_ms": number($0.p50Milliseconds),
                        "p99_ms": number($0.p99Milliseconds),
                    ]
                }),
        ]
    }

    /// A replay without what only its page shows.
    private static func describe(_ report: ShadowReplayReport, evidence: ContentHash?) throws -> JSONValue {
        func number(_ value: Double?) -> JSONValue { value.map(JSONValue.number) ?? .null }
        var labels: JSONValue = .null
        if let found = report.labels {
            labels = [
                "pairs": .integer(Int64(found.pairs)), "measure": .string(found.measure.rawValue),
                "champion": .number(found.champion), "candidate": .number(found.candidate),
                "difference": try found.difference.map { try JSONValue.of($0) } ?? .null,
                "auc_difference": try found.aucDifference.map { try JSONValue.of($0) } ?? .null,
                "verdict": .string(found.verdict),
            ]
        }
        return [
            "id": .string(report.id), "model": .string(report.model.text), "version": .integer(Int64(report.version)),
            "champions": .object(
                Dictionary(
                    report.champions.map { (String($0.key), .integer(Int64($0.value))) }, uniquingKeysWith: { $1 })),
            "from": .string(report.from.description), "to": .string(report.to.description),
            "records_from": report.recordsFrom.map { .string($0.description) } ?? .null,
            "records_went_by": report.recordsWentBy.map(JSONValue.string) ?? .null,
            "actor": .string(report.actor), "seconds": .number(report.seconds),
            "read": .integer(Int64(report.read)), "pairs": .integer(Int64(report.pairs)),
            "failures": .integer(Int64(report.failures)),
            "skipped": .object(report.skipped.mapValues { .integer(Int64($0)) }),
            "prediction_psi": number(report.predictionPSI), "disagreement": number(report.disagreement),
            "mean_difference": number(report.meanDifference), "score_p50_ms": number(report.scoreP50Milliseconds),
            "score_p99_ms": number(report.scoreP99Milliseconds),
            "champion_score_p99_ms": number(report.championScoreP99Milliseconds), "labels": labels,
            "passed": .bool(report.isPassed), "checks": .array(report.checks.map(RolloutRoutes.describe)),
            "evidence": evidence.map { .string($0.hex) } ?? .null,
        ]
    }
}
