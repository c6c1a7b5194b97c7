import Foundation
public import Logging
public import PlatformCore
public import ServiceLifecycle
import StoragePorts

/// Delivers changes to webhooks: each at least once, again and again while a receiver is away.
///
/// A change becomes one row for each webhook that hears of it, in one transaction; attempts are counted on the row. So a
/// crash at any moment loses nothing, and a receiver that answered just before one hears again, under the same delivery
/// identifier. An answer of 2xx ends a delivery; 408, 429, 5xx and no answer are tried again after 1 s, 2 s, 4 s … at most
/// an hour, `attemptsMax` times; any other answer, and an address that policy forbids, end it as failed.
public final class WebhookDispatcher: Service, ChangeListener {
    /// Attempts before a delivery is given up: the last one about four hours after the first.
    public static let attemptsMax = 14
    /// Deliveries under way at once.
    static let concurrencyMax = 8
    /// How long finished deliveries are kept.
    static let keptMilliseconds: Int64 = 7 * 86_400_000

    private let webhooks: WebhookStore
    private let transport: any WebhookTransport
    private let payload: @Sendable (AuditEntry) async throws -> (event: String, data: JSONValue)?
    private let logger: Logger
    private let wakes: AsyncStream<Void>
    private let waker: AsyncStream<Void>.Continuation

    /// Makes a dispatcher.
    /// - Parameters:
    ///   - webhooks: who hears of what.
    ///   - transport: sends.
    ///   - payload: the event of MLflow's clients that an entry is, with its data; `nil` for other entries.
    ///   - logger: hears of deliveries that failed, without their content.
    public init(
        webhooks: WebhookStore, transport: any WebhookTransport,
        payload: @escaping @Sendable (AuditEntry) async throws -> (event: String, data: JSONValue)?, logger: Logger
    ) {
        self.webhooks = webhooks
        self.transport = transport
        self.payload = payload
        self.logger = logger
        (wakes, waker) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    // MARK: From changes to deliveries

    /// Writes a delivery for every webhook that hears of an entry; entries that were seen before change nothing.
    public func changed(_ entries: [AuditEntry]) async throws {
        let active = try await webhooks.webhooks().filter(\.isActive)
        guard !active.isEmpty else { return }
        var rows: [[MetadataValue]] = []
        for entry in entries {
            let known = try await payload(entry)
            for webhook in active {
                if let known, webhook.events.contains(known.event) {
                    rows.append(
                        Self.row(webhook.id, entry, known.event, Self.body(known.event, entry.time, known.data)))
                }
                if webhook.events.contains(entry.record.action) || webhook.events.contains("*") {
                    rows.append(Self.row(webhook.id, entry, entry.record.action, Self.body(of: entry)))
                }
            }
        }
        guard !rows.isEmpty else { return }
        let now = webhooks.clock.now()
        try await webhooks.store.write { [rows] transaction in
            for row in rows {
                try transaction.execute(
                    """
                    INSERT INTO webhook_deliveries (delivery_id, webhook_id, position, event, body, state, attempts, due_at) \
                    VALUES (?, ?, ?, ?, ?, 'pending', 0, ?) ON CONFLICT (webhook_id, position, event) DO NOTHING
                    """, row + [MetadataValue(now)])
            }
            try transaction.execute(
                "DELETE FROM webhook_deliveries WHERE state <> 'pending' AND due_at < ?",
                [.integer(now.milliseconds - Self.keptMilliseconds)])
        }
        waker.yield()
    }

    private static func row(_ webhook: String, _ entry: AuditEntry, _ event: String, _ body: JSONValue)
        -> [MetadataValue]
    {
        [
            .text(UUID().uuidString.lowercased()), .text(webhook), .integer(entry.position), .text(event),
            .text(body.text),
        ]
    }

    /// A message as MLflow's server sends it.
    static func body(_ event: String, _ time: EventTime, _ data: JSONValue) -> JSONValue {
        let parts = event.split(separator: ".", maxSplits: 1).map(String.init)
        return [
            "entity": .string(parts.first ?? ""), "action": .string(parts.last ?? ""),
            "timestamp": .string(time.description), "data": data,
        ]
    }

    /// A message about a change that MLflow has no event for.
    static func body(of entry: AuditEntry) -> JSONValue {
        [
            "event": .string(entry.record.action), "subject": .string(entry.record.subject),
            "timestamp": .string(entry.time.description), "actor": .string(entry.record.actor),
            "before": entry.record.before, "after": entry.record.after,
            "evidence": entry.record.evidence.map { .string($0.hex) } ?? .null,
            "audit_position": .integer(entry.position), "audit_hash": .string(entry.hash.hex),
        ]
    }

    // MARK: From deliveries to receivers

    /// Delivers until graceful shutdown.
    public func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    while !Task.isCancelled {  // attempts that are due later wake nobody
                        try? await Task.sleep(for: .seconds(1))
                        self.waker.yield()
                    }
                }
                group.addTask {
                    for await _ in self.wakes {
                        do { while try await self.deliverDue() {} } catch {
                            if Task.isCancelled { return }
                            self.logger.error("webhooks wait", metadata: ["error": "\(errorText(error))"])
                        }
                    }
                }
            }
        }
    }

    /// Makes the attempts that are due, some at a time; whether there were any.
    @discardableResult
    func deliverDue() async throws -> Bool {
        let now = webhooks.clock.now()
        let rows = try await webhooks.store.read {
            try $0.query(
                """
                SELECT d.*, w.url FROM webhook_deliveries d JOIN webhooks w ON w.webhook_id = d.webhook_id \
                WHERE d.state = 'pending' AND d.due_at <= ? AND w.status = 'ACTIVE' ORDER BY d.due_at, d.position LIMIT ?
                """, [MetadataValue(now), .integer(Int64(Self.concurrencyMax))])
        }
        if rows.isEmpty { return false }
        await withTaskGroup(of: Void.self) { group in
            for row in rows { group.addTask { await self.attempt(row) } }
        }
        return !Task.isCancelled
    }

    private func attempt(_ row: MetadataRow) async {
        let delivery = WebhookDelivery(row: row)
        var answer: WebhookAnswer?
        var fault: PlatformError?
        do {
            answer = try await send(
                Array(row.text("body").utf8), as: delivery.id, to: row.text("url"),
                secret: webhooks.secret(of: delivery.webhook))
        } catch {
            fault = error as? PlatformError ?? PlatformError(.unavailable, "webhook", errorText(error))
        }
        if Task.isCancelled, answer == nil { return }
        let attempts = delivery.attempts + 1
        let status = answer?.status
        let isDelivered = status.map { 200..<300 ~= $0 } ?? false
        let mayHelp = status.map { $0 == 408 || $0 == 429 || $0 >= 500 } ?? (fault?.code == .unavailable)
        let isOver = isDelivered || !mayHelp || attempts >= Self.attemptsMax
        let wait = min(Int64(1000) << min(attempts - 1, 12), 3_600_000)
        let text = isDelivered ? nil : fault.map { "\($0.message)" } ?? "answered \(status ?? 0)"
        let now = webhooks.clock.now()
        if isOver, !isDelivered {
            logger.warning(
                "a webhook's delivery is given up",
                metadata: ["webhook": "\(delivery.webhook)", "delivery": "\(delivery.id)", "reason": "\(text ?? "")"])
        }
        do {
            try await webhooks.store.write { transaction in
                _ = try transaction.execute(
                    """
                    UPDATE webhook_deliveries SET state = ?, attempts = ?, due_at = ?, status = ?, fault = ? \
                    WHERE delivery_id = ?
                    """,
                    [
                        .text(isDelivered ? "delivered" : isOver ? "failed" : "pending"), .integer(Int64(attempts)),
                        .integer(now.milliseconds + (isOver ? 0 : wait)), MetadataValue(status.map(Int64.init)),
                        MetadataValue(text), .text(delivery.id),
                    ])
            }
        } catch { logger.error("a delivery cannot be noted", metadata: ["error": "\(errorText(error))"]) }
    }

    /// Sends an example of an event to a webhook, now and once.
    public func test(_ id: String, event: String?) async throws -> Result<WebhookAnswer, PlatformError> {
        let webhook = try await webhooks.webhook(id)
        let event = event ?? webhook.events.first ?? "registered_model.created"
        let body = Self.body(event, webhooks.clock.now(), Self.example(event))
        let secret = try await webhooks.secret(of: id)
        do {
            return .success(
                try await send(
                    body.canonicalBytes, as: UUID().uuidString.lowercased(), to: webhook.url, secret: secret))
        } catch { return .failure(error) }
    }

    private static func example(_ event: String) -> JSONValue {
        switch event {
        case "registered_model.created":
            [
                "name": "example_model", "tags": ["example_key": "example_value"],
                "description": "An example registered model",
            ]
        case "model_version.created":
            [
                "name": "example_model", "version": "1", "source": "models:/123", "run_id": "abcd1234abcd5678",
                "tags": ["example_key": "example_value"], "description": "An example model version",
            ]
        case "model_version_tag.set":
            ["name": "example_model", "version": "1", "key": "example_key", "value": "example_value"]
        case "model_version_tag.deleted": ["name": "example_model", "version": "1", "key": "example_key"]
        case "model_version_alias.created": ["name": "example_model", "alias": "example_alias", "version": "1"]
        case "model_version_alias.deleted": ["name": "example_model", "alias": "example_alias"]
        default: ["example": true]
        }
    }

    private func send(_ body: [UInt8], as id: String, to url: String, secret: String?) async throws(PlatformError)
        -> WebhookAnswer
    {
        let headers = WebhookMessage.headers(id: id, body: body, secret: secret, at: webhooks.clock.now())
        return try await transport.post(url, headers: headers, body: body)
    }
}
