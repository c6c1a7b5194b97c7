import APIContract
import Catalogue
import Datasets
import Definitions
import Governance
import PlatformCore
import Workflows

/// Pulls, checks of loads, quarantine.
enum SourceRoutes {
    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route("POST", "/api/v1/sources/{source}/pull") { request in
                let source = try DataRoutes.source(request, services)
                let actor = request.actor
                return try services.start { progress in
                    try await services.audited(
                        actor, "source.pulled", "source/\(source.name)",
                        outcome: { $0.loads.contains { !$0.isAlreadyLoaded } ? $0.json : nil }
                    ) {
                        try await services.lineage.record(
                            "pull.\(source.name)", kind: "PULL", inputs: RunLineage.origin(of: source),
                            outcome: { RunLineage.loads($0.loads.filter { !$0.isAlreadyLoaded }, into: source) }
                        ) {
                            try await services.ingest.pull(source, now: services.clock.now()) { step in
                                progress.report("pulling", done: Double(step.rows), unit: "rows")
                            }
                        }
                    }.json
                }
            },
            Route("GET", "/api/v1/sources/{source}/checks") { request in
                let source = try DataRoutes.source(request, services)
                let reports = try await services.ingest.checks(
                    of: source.name, countMax: try request.count("limit", default: 20, most: 1000))
                return .json(["checks": .array(reports)])
            },
            Route("GET", "/api/v1/sources/{source}/quarantine") { request in
                let source = try DataRoutes.source(request, services)
                let rows = try await services.ingest.quarantined(
                    source.name, countMax: try request.count("limit", default: 100, most: 10_000))
                let reasons = try await services.ingest.quarantineReasons(of: source.name)
                return .json([
                    "rows": .array(rows.map(\.json)),
                    "reasons": .array(
                        reasons.map { ["reason": .string($0.reason), "rows": .integer(Int64($0.count))] }),
                ])
            },
            Route("POST", "/api/v1/sources/{source}/quarantine/replay") { request in
                let source = try DataRoutes.source(request, services)
                let reason = try reason(request)
                let actor = request.actor
                return try services.start { _ in
                    try await services.audited(
                        actor, "source.quarantine.replayed", "source/\(source.name)", outcome: { $0.json }
                    ) {
                        try await services.ingest.replayQuarantine(
                            of: source, reason: reason, actor: actor, now: services.clock.now())
                    }.json
                }
            },
            Route("POST", "/api/v1/sources/{source}/quarantine/discard") { request in
                let source = try DataRoutes.source(request, services)
                let reason = try reason(request)
                let actor = request.actor
                return try services.start { _ in
                    try await services.audited(
                        actor, "source.quarantine.discarded", "source/\(source.name)", outcome: { $0.json }
                    ) {
                        try await services.ingest.discardQuarantine(
                            of: source.name, reason: reason, actor: actor, now: services.clock.now())
                    }.json
                }
            },
        ]
    }

    /// Which rows: those with a reason that contains this text; all where it is left out.
    private static func reason(_ request: APIRequest) throws -> String? {
        let body = try RequestBody(request)
        try body.checkKeys(["reason"])
        return body["reason"] == nil ? nil : try body.text("reason")
    }
}
