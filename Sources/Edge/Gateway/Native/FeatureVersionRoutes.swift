import APIContract
import Definitions
import FeatureStore
import Foundation
import Governance
import PlatformCore
import Workflows

/// Versions of feature views: what is built, who uses it, what can go.
enum FeatureVersionRoutes {
    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route("GET", "/api/v1/features/status") { _ in
                let all = services.stream.versions
                return .json([
                    "ready": .integer(Int64(all.count { $0.state == .ready })),
                    "parked": .integer(Int64(all.count { $0.state == .parked })),
                    "backfilling": .array(
                        try await services.features.versions().filter { $0.status?.state == .backfilling }.map(describe)
                    ),
                ])
            },
            Route("GET", "/api/v1/features/versions") { request in
                let view = try request.queryValue("view").map { try checkedName($0, "view") }
                let versions = try await services.features.measuredVersions(of: view)
                if let view, versions.isEmpty {
                    let known = services.catalog.current.featureViews.keys.map(\.text)
                    throw PlatformError(
                        .notFound, "feature_view/\(view)",
                        "no feature view ever had this name"
                            + (nearestName(to: view.text, among: known).map { "; did you mean '\($0)'?" } ?? ""))
                }
                return .json(["versions": .array(versions.map(describe))])
            },
            Route("POST", "/api/v1/features/retire") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["versions", "dry_run"])
                let names = try body["versions"].map { list in
                    guard let list = list.arrayValue, 1...10_000 ~= list.count,
                        list.allSatisfy({ $0.stringValue != nil })
                    else {
                        throw PlatformError(
                            .invalidInput, "request body",
                            "'versions' must be a list such as [\"paid@1a2b3c4d\"]; leave it out for all unused ones")
                    }
                    return list.compactMap(\.stringValue)
                }
                let isRehearsal = body["dry_run"]?.boolValue ?? false
                let retired =
                    if isRehearsal {
                        try await services.features.retire(names, isRehearsal: true, actor: request.actor)
                    } else {
                        try await services.audited(
                            request.actor, "feature.version.retired",
                            names.map { "feature_view/" + $0.joined(separator: ",").prefix(1000) } ?? "feature_views",
                            outcome: { $0.isEmpty ? nil : ["versions": .array($0.prefix(200).map(describe))] }
                        ) { try await services.features.retire(names, isRehearsal: false, actor: request.actor) }
                    }
                return .json(["versions": .array(retired.map(describe)), "dry_run": .bool(isRehearsal)])
            },
            Route("GET", "/api/v1/features/reuse") { request in
                func number(_ key: String, default value: Double, most: Double) throws -> Double {
                    guard let text = request.queryValue(key) else { return value }
                    guard let number = Double(text), number >= 0, number <= most else {
                        throw PlatformError(.invalidInput, "query", "'\(key)' must be a number from 0 to \(most)")
                    }
                    return number
                }
                let report = try await services.features.reuse(
                    weeksPerFeature: try number("weeks_per_feature", default: 1, most: 520),
                    engineerCost: try number("engineer_cost", default: 180_000, most: 1e9))
                var answer = try JSONValue.of(report).objectValue ?? [:]
                answer["features"] = .array(
                    try report.features.map { feature in
                        var members = try JSONValue.of(feature).objectValue ?? [:]
                        members["last_read"] = feature.lastRead.map { .string($0.description) } ?? .null
                        return .object(members)
                    })
                return .json(.object(answer))
            },
            Route("POST", "/api/v1/features/pin") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["version", "reason"])
                return try await pin(request, services, try body.text("version"), reason: try body.reason())
            },
            Route("POST", "/api/v1/features/unpin") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["version"])
                return try await pin(request, services, try body.text("version"), reason: nil)
            },
        ]
    }

    private static func pin(
        _ request: APIRequest, _ services: PlatformServices, _ version: String, reason: String?
    ) async throws -> APIResponse {
        let report = try await services.audited(
            request.actor, reason == nil ? "feature.version.unpinned" : "feature.version.pinned",
            "feature_view/\(version.prefix(200))",
            outcome: {
                [
                    "version": .string($0.versionName.text), "reason": reason.map(JSONValue.string) ?? .null,
                ]
            }
        ) { try await services.features.pin(version, reason: reason, actor: request.actor) }
        return .json(describe(report))
    }

    static func describe(_ report: FeatureVersionReport) -> JSONValue {
        func time(_ time: EventTime?) -> JSONValue { time.map { .string($0.description) } ?? .null }
        var members: [String: JSONValue] = [
            "view": .string(report.view.text), "version": .string(report.version.hex),
            "name": .string(report.versionName.text), "state": .string(report.state),
            "current": .bool(report.isCurrent), "created_at": time(report.createdAt),
            "created_by": .string(report.createdBy), "unused_since": time(report.unusedSince),
            "retired_at": time(report.retiredAt),
            "users": .array(
                report.users.sorted { $0.text < $1.text }.map {
                    [
                        "kind": .string($0.kind.rawValue), "name": .string($0.name), "detail": .string($0.detail),
                        "text": .string($0.text),
                    ]
                }),
        ]
        if let entities = report.entities { members["entities"] = .integer(Int64(entities)) }
        if let byteCount = report.byteCount { members["bytes"] = .integer(Int64(byteCount)) }
        if let lastRead = report.lastRead { members["last_read"] = time(lastRead) }
        if let status = report.status {
            members["source"] = .string(status.source.text)
            members["next_offset"] = .integer(Int64(clamping: status.nextOffset))
            if status.state == .backfilling {
                members["end_offset"] = .integer(Int64(clamping: status.endOffset))
                members["progress"] = .number(status.progress)
                members["rows_per_second"] = .number(status.rowsPerSecond.rounded())
                members["seconds_left"] = status.secondsLeft.map { .number(($0 * 10).rounded() / 10) } ?? .null
                members["failure"] = status.failure.map(JSONValue.string) ?? .null
            }
        }
        return .object(members)
    }
}
