import APIContract
import Datasets
import Definitions
import FeatureStore
import Foundation
import PlatformCore
import Workflows

/// Questions about features as such: do served and offline values agree.
enum FeatureRoutes {
    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route("POST", "/api/v1/features/parity") { request in try await certify(request, services) },
            Route("GET", "/api/v1/features/parity") { _ in
                let entries = try await services.parity.latest().map { scope, entry -> JSONValue in
                    [
                        "scope": .string(scope), "certificate": .string(entry.hash.hex),
                        "time": .string(entry.time.description), "compared": .integer(Int64(entry.compared)),
                        "different": .integer(Int64(entry.different)), "in_flight": .integer(Int64(entry.inFlight)),
                        "uncovered": .integer(Int64(entry.uncovered)),
                    ]
                }
                return .json(["certificates": .array(entries)])
            },
            Route("POST", "/api/v1/features/try") { request in try FeatureTrialRoute.try(request, services) },
            Route("GET", "/api/v1/features/sql") { request in try await job(request, services) },
            Route("GET", "/api/v1/features/parity/{certificate}") { request in
                let text = request.parameters["certificate"] ?? ""
                guard let hash = ContentHash(hex: text) else {
                    throw PlatformError(
                        .invalidInput, "path", "'\(text.prefix(64))' is no hash of 64 hexadecimal digits")
                }
                return .json(describe(try await services.parity.certificate(hash), hash))
            },
        ]
    }

    /// A view as a job in the language of an engine.
    private static func job(_ request: APIRequest, _ services: PlatformServices) async throws -> APIResponse {
        let definitions = services.catalog.current
        let name = try checkedName(request.queryValue("view") ?? "", "view")
        guard let view = definitions.featureViews[name] else {
            let near = nearestName(to: name.text, among: definitions.featureViews.keys.map(\.text))
            throw PlatformError(
                .notFound, "feature_view/\(name)", "not defined" + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
        let text = request.queryValue("dialect") ?? "spark"
        guard let dialect = SQLDialect(rawValue: text) else {
            throw PlatformError(
                .invalidInput, "query", "'dialect' must be duckdb, spark or flink, not '\(text.prefix(32))'")
        }
        let source = definitions.source(of: view)
        let script: String
        switch request.queryValue("stream") ?? "false" {
        case "false":
            script = try FeatureJob(
                view: view, source: source, table: try await services.tables.scan(source), dialect: dialect
            ).script
        case "true" where dialect == .flink:
            script = try FlinkStreamJob(view: view, source: source).script
        case "true": throw PlatformError(.invalidInput, "query", "only flink has continuous jobs")
        default: throw PlatformError(.invalidInput, "query", "'stream' must be true or false")
        }
        return .json([
            "view": .string(view.versionName.text), "dialect": .string(dialect.rawValue), "script": .string(script),
        ])
    }

    private static func certify(_ request: APIRequest, _ services: PlatformServices) async throws -> APIResponse {
        let body = try RequestBody(request)
        try body.checkKeys(["view", "service", "model", "predictions", "probes", "seed"])
        let named = try ["view", "service", "model"].filter { body[$0] != nil }.map { ($0, try body.name($0)) }
        guard named.count <= 1 else {
            throw PlatformError(
                .invalidInput, "request body", "name one of 'view', 'service', 'model', or none for all")
        }
        let scope: FeatureParityService.Scope =
            switch named.first {
            case ("view", let name)?: .view(name)
            case ("service", let name)?: .service(name)
            case (_, let name)?: .model(name)
            case nil: .all
            }
        let wanted = FeatureParityService.Request(
            scope: scope, predictionCount: Int(try body.integer("predictions", default: 500, in: 0...20_000)),
            probeCount: Int(try body.integer("probes", default: 200, in: 0...20_000)),
            seed: UInt64(try body.integer("seed", default: 0, in: 0...Int64.max)))
        let actor = request.actor
        return try services.start { progress in
            let (certificate, hash) = try await services.parity.certify(wanted, actor: actor, progress: progress)
            return describe(certificate, hash)
        }
    }

    private static func describe(_ certificate: ParityCertificate, _ hash: ContentHash) -> JSONValue {
        let json = (try? JSONValue.of(certificate)) ?? .null
        var members = json.objectValue ?? [:]
        members["certificate"] = .string(hash.hex)
        members["compared"] = .integer(Int64(certificate.compared))
        members["different"] = .integer(Int64(certificate.different))
        if let count = certificate.beyondRetention { members["beyond_retention"] = .integer(Int64(count)) }
        members["in_flight"] = .integer(Int64(certificate.inFlight))
        members["holds"] = .bool(certificate.holds)
        return .object(members)
    }
}
