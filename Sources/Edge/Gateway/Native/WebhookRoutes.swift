import APIContract
import Foundation
import Governance
import PlatformCore
import Workflows

/// Webhooks of every kind of change, their deliveries, and the collection of blobs that nothing names.
enum WebhookRoutes {
    static func routes(_ services: PlatformServices) -> [Route] {
        let webhooks = services.webhooks
        return [
            Route("GET", "/api/v1/webhooks") { _ in
                .json(["webhooks": .array(try await webhooks.webhooks().map(describe))])
            },
            Route("POST", "/api/v1/webhooks") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["name", "description", "url", "events", "secret"])
                guard let events = body["events"]?.arrayValue?.map({ $0.stringValue ?? "" }) else {
                    throw PlatformError(.invalidInput, "request body", "'events' must be a list of texts")
                }
                let webhook = try await webhooks.create(
                    WebhookStore.Edit(
                        name: try body.text("name"), description: body["description"]?.stringValue,
                        url: try body.text("url"), events: events, secret: body["secret"]?.stringValue),
                    actor: request.actor)
                return .json(describe(webhook), status: 201)
            },
            Route("DELETE", "/api/v1/webhooks/{webhook}") { request in
                try await webhooks.delete(request.parameters["webhook"] ?? "", actor: request.actor)
                return .json([:])
            },
            Route("GET", "/api/v1/webhooks/{webhook}/deliveries") { request in
                let deliveries = try await webhooks.deliveries(of: request.parameters["webhook"] ?? "")
                return .json([
                    "deliveries": .array(
                        deliveries.map {
                            [
                                "id": .string($0.id), "event": .string($0.event),
                                "audit_position": .integer($0.position),
                                "state": .string($0.state), "attempts": .integer(Int64($0.attempts)),
                                "due_at": .string($0.dueAt.description),
                                "status": $0.status.map { .integer(Int64($0)) } ?? .null,
                                "error": $0.fault.map(JSONValue.string) ?? .null,
                            ]
                        })
                ])
            },
            Route("POST", "/api/v1/gc") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["dry_run"])
                let isRehearsal = body["dry_run"]?.boolValue ?? false
                let actor = request.actor
                return try services.start { progress in
                    progress.report("looking for what names each blob")
                    var report: BlobReport
                    if isRehearsal {
                        report = try await services.collector.collect(isRehearsal: true)
                    } else {
                        report = try await services.audited(
                            actor, "blobs.collected", "blobs",
                            outcome: {
                                [
                                    "removed": .integer(Int64($0.removed)),
                                    "removed_bytes": .integer(Int64($0.removedByteCount)),
                                ]
                            }
                        ) { try await services.collector.collect(isRehearsal: false) }
                    }
                    progress.report("looking for old records of the log")
                    report.log = try await services.retention.round(isRehearsal: isRehearsal, by: actor)
                    return try JSONValue.of(report)
                }
            },
        ]
    }

    private static func describe(_ webhook: Webhook) -> JSONValue {
        [
            "id": .string(webhook.id), "name": .string(webhook.name),
            "description": webhook.description.map(JSONValue.string) ?? .null, "url": .string(webhook.url),
            "events": .array(webhook.events.map(JSONValue.string)), "active": .bool(webhook.isActive),
            "created_at": .string(webhook.createdAt.description), "updated_at": .string(webhook.updatedAt.description),
        ]
    }
}
