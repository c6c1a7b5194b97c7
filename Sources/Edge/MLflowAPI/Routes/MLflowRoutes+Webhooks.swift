import APIContract
import Foundation
import Governance
import PlatformCore

extension MLflowRoutes {
    /// Webhooks as MLflow's clients make and list them; those that hear of nothing MLflow knows are not listed.
    var webhookRoutes: [Route] {
        guard let webhooks, let dispatcher else { return [] }
        return call("POST", "mlflow/webhooks") { fields in
            let webhook = try await webhooks.create(edit(fields, isNew: true), actor: fields.request.actor)
            return ["webhook": webhook.wire]
        }
            + call("GET", "mlflow/webhooks") { fields in
                let countMax = try fields.countMax(default: 100, limit: 1000)
                let found = try await webhooks.webhooks(after: fields.token() ?? "", countMax: countMax + 1)
                return object([
                    "webhooks": .array(found.prefix(countMax).filter(\.isMLflows).map(\.wire)),
                    "next_page_token": found.count > countMax ? .string(found[countMax - 1].id) : Optional.none,
                ])
            }
            + call("GET", "mlflow/webhooks/{webhook_id}") { fields in
                ["webhook": try await webhooks.webhook(fields.required("webhook_id")).wire]
            }
            + call("PATCH", "mlflow/webhooks/{webhook_id}") { fields in
                let webhook = try await webhooks.update(
                    fields.required("webhook_id"), edit(fields, isNew: false), actor: fields.request.actor)
                return ["webhook": webhook.wire]
            }
            + call("DELETE", "mlflow/webhooks/{webhook_id}") { fields in
                try await webhooks.delete(fields.required("webhook_id"), actor: fields.request.actor)
                return [:]
            }
            + call("POST", "mlflow/webhooks/{webhook_id}/test") { fields in
                let event = try fields["event"].map { try Self.event($0) }
                switch try await dispatcher.test(fields.required("webhook_id"), event: event) {
                case .success(let answer):
                    return [
                        "result": [
                            "success": .bool(200..<300 ~= answer.status),
                            "response_status": .integer(Int64(answer.status)), "response_body": .string(answer.body),
                        ]
                    ]
                case .failure(let error):
                    return ["result": ["success": false, "error_message": .string(error.description)]]
                }
            }
    }

    private func edit(_ fields: MLflowRequest, isNew: Bool) throws -> WebhookStore.Edit {
        var edit = WebhookStore.Edit(
            name: isNew ? try fields.required("name") : try fields.text("name"),
            description: try fields.text("description"),
            url: isNew ? try fields.required("url") : try fields.text("url"),
            secret: try fields.text("secret"))
        let events = try fields.elements("events").map { try Self.event($0) }
        if isNew || !events.isEmpty { edit.events = events }
        switch try fields.text("status") {
        case nil: break
        case "ACTIVE": edit.isActive = true
        case "DISABLED": edit.isActive = false
        case let other?: throw MLflowError.invalid("Invalid webhook status '\(other.prefix(64))': ACTIVE or DISABLED")
        }
        return edit
    }

    private static func event(_ value: JSONValue) throws(MLflowError) -> String {
        guard let entity = value["entity"]?.stringValue, let action = value["action"]?.stringValue else {
            throw .invalid("Invalid webhook event: an entity and an action are expected")
        }
        let event = "\(entity.lowercased()).\(action.lowercased())"
        guard Webhook.registryEvents.contains(event) else {
            throw .invalid(
                "'\(event.prefix(80))' is no event of this server; known are "
                    + Webhook.registryEvents.sorted().joined(separator: ", "))
        }
        return event
    }
}

extension Webhook {
    fileprivate var isMLflows: Bool { events.contains { Webhook.registryEvents.contains($0) } }

    fileprivate var wire: JSONValue {
        object([
            "webhook_id": .string(id), "name": .string(name), "description": .text(description), "url": .string(url),
            "events": .array(
                events.filter { Webhook.registryEvents.contains($0) }.map { event in
                    let parts = event.uppercased().split(separator: ".").map(String.init)
                    return ["entity": .string(parts.first ?? ""), "action": .string(parts.last ?? "")]
                }),
            "status": .string(isActive ? "ACTIVE" : "DISABLED"), "creation_timestamp": .time(createdAt),
            "last_updated_timestamp": .time(updatedAt),
        ])
    }
}
