import Crypto
import Foundation
public import PlatformCore
public import StoragePorts

/// Seals secrets with a key that is not in the database, so that a copy of the database tells none.
public struct SecretBox: Sendable {
    private let key: SymmetricKey

    /// Seals with a key of 32 bytes.
    public init(key: [UInt8]) { self.key = SymmetricKey(data: key) }

    /// A secret as it may be stored.
    public func seal(_ secret: String) throws -> String {
        guard let sealed = try AES.GCM.seal(Array(secret.utf8), using: key).combined else {
            throw PlatformError(.internal, "secret", "it cannot be sealed")
        }
        return Data(sealed).base64EncodedString()
    }

    /// The secret again.
    /// - Throws: `PlatformError` (`corrupted`) if it was sealed with another key, or is damaged.
    public func open(_ sealed: String) throws -> String {
        guard let data = Data(base64Encoded: sealed),
            let box = try? AES.GCM.SealedBox(combined: data), let plain = try? AES.GCM.open(box, using: key)
        else { throw PlatformError(.corrupted, "secret", "it was sealed with another key") }
        return String(decoding: plain, as: UTF8.self)
    }
}

/// Webhooks and their deliveries in the metadata store.
public struct WebhookStore: Sendable {
    /// The tables, for `MetadataStore.migrate`.
    public static let migrations = [
        MetadataMigration(
            name: "webhooks-1",
            statements: [
                """
                CREATE TABLE webhooks (webhook_id TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT, url TEXT NOT NULL, \
                events TEXT NOT NULL, secret TEXT, status TEXT NOT NULL, created_at BIGINT NOT NULL, \
                updated_at BIGINT NOT NULL)
                """,
                """
                CREATE TABLE webhook_deliveries (delivery_id TEXT PRIMARY KEY, webhook_id TEXT NOT NULL, \
                position BIGINT NOT NULL, event TEXT NOT NULL, body TEXT NOT NULL, state TEXT NOT NULL, \
                attempts BIGINT NOT NULL, due_at BIGINT NOT NULL, status BIGINT, fault TEXT, \
                UNIQUE (webhook_id, position, event))
                """,
                "CREATE INDEX webhook_deliveries_by_due ON webhook_deliveries (state, due_at)",
            ])
    ]
    /// Most webhooks.
    public static let countMax = 1000

    let store: any MetadataStore
    let clock: any PlatformClock
    private let box: SecretBox
    private let transport: any WebhookTransport

    /// Keeps webhooks in `store`, whose migrations have run.
    ///
    /// - Parameters:
    ///   - store: where they are kept.
    ///   - clock: the machine's time: receivers compare it with theirs.
    ///   - box: seals secrets.
    ///   - transport: says which URLs are acceptable.
    public init(
        store: any MetadataStore, clock: any PlatformClock, box: SecretBox, transport: any WebhookTransport
    ) {
        self.store = store
        self.clock = clock
        self.box = box
        self.transport = transport
    }

    /// What a caller says of a webhook; `nil` leaves a member as it is.
    public struct Edit: Sendable {
        /// For people.
        public var name: String?
        /// For people.
        public var description: String?
        /// Where deliveries go.
        public var url: String?
        /// Events it hears.
        public var events: [String]?
        /// Key of the signatures.
        public var secret: String?
        /// Whether deliveries are made.
        public var isActive: Bool?
        /// Makes an edit.
        public init(
            name: String? = nil, description: String? = nil, url: String? = nil, events: [String]? = nil,
            secret: String? = nil, isActive: Bool? = nil
        ) {
            self.name = name
            self.description = description
            self.url = url
            self.events = events
            self.secret = secret
            self.isActive = isActive
        }
    }

    /// Makes a webhook.
    /// - Throws: `invalidInput`, `refused` for a URL that policy forbids, `tooLarge` when there are too many.
    public func create(_ edit: Edit, actor: String) async throws -> Webhook {
        guard let name = edit.name, let url = edit.url, let events = edit.events else {
            throw PlatformError(.invalidInput, "webhook", "a name, a url and events are needed")
        }
        try check(edit)
        let id = UUID().uuidString.lowercased()
        let now = clock.now()
        let secret = try edit.secret.map { try box.seal($0) }
        return try await store.write { transaction in
            let count = try transaction.query("SELECT COUNT(*) AS n FROM webhooks").first?.integer("n") ?? 0
            guard count < Int64(Self.countMax) else {
                throw PlatformError(.tooLarge, "webhooks", "there are \(count) already")
            }
            try transaction.execute(
                """
                INSERT INTO webhooks (webhook_id, name, description, url, events, secret, status, created_at, updated_at) \
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
                [
                    .text(id), .text(name), MetadataValue(edit.description), .text(url),
                    .text(try JSONValue.of(events).text), MetadataValue(secret),
                    .text(edit.isActive ?? true ? "ACTIVE" : "DISABLED"), MetadataValue(now), MetadataValue(now),
                ])
            let webhook = try Self.webhook(id, in: transaction)
            try AuditLog.append(
                AuditRecord(actor: actor, action: "webhook.created", subject: "webhook/\(id)", after: webhook.audited),
                at: now, in: transaction)
            return webhook
        }
    }

    /// Changes a webhook.
    public func update(_ id: String, _ edit: Edit, actor: String) async throws -> Webhook {
        try check(edit)
        let now = clock.now()
        let secret = try edit.secret.map { try box.seal($0) }
        return try await store.write { transaction in
            let before = try Self.webhook(id, in: transaction)
            var changes: [(String, MetadataValue)] = [("updated_at", MetadataValue(now))]
            if let name = edit.name { changes.append(("name", .text(name))) }
            if let description = edit.description { changes.append(("description", .text(description))) }
            if let url = edit.url { changes.append(("url", .text(url))) }
            if let events = edit.events { changes.append(("events", .text(try JSONValue.of(events).text))) }
            if let secret { changes.append(("secret", .text(secret))) }
            if let isActive = edit.isActive { changes.append(("status", .text(isActive ? "ACTIVE" : "DISABLED"))) }
            try transaction.execute(
                "UPDATE webhooks SET \(changes.map { "\($0.0) = ?" }.joined(separator: ", ")) WHERE webhook_id = ?",
                changes.map(\.1) + [.text(id)])
            let after = try Self.webhook(id, in: transaction)
            try AuditLog.append(
                AuditRecord(
                    actor: actor, action: "webhook.updated", subject: "webhook/\(id)", before: before.audited,
                    after: after.audited), at: now, in: transaction)
            return after
        }
    }

    /// Removes a webhook and what waits for it.
    public func delete(_ id: String, actor: String) async throws {
        let now = clock.now()
        try await store.write { transaction in
            let before = try Self.webhook(id, in: transaction)
            try transaction.execute("DELETE FROM webhook_deliveries WHERE webhook_id = ?", [.text(id)])
            try transaction.execute("DELETE FROM webhooks WHERE webhook_id = ?", [.text(id)])
            try AuditLog.append(
                AuditRecord(actor: actor, action: "webhook.deleted", subject: "webhook/\(id)", before: before.audited),
                at: now, in: transaction)
        }
    }

    /// A webhook.
    /// - Throws: `notFound`.
    public func webhook(_ id: String) async throws -> Webhook {
        try await store.read { try Self.webhook(id, in: $0) }
    }

    /// Webhooks in the order of their identifiers, from after `last` on.
    public func webhooks(after last: String = "", countMax: Int = countMax) async throws -> [Webhook] {
        try await store.read {
            try $0.query(
                "SELECT * FROM webhooks WHERE webhook_id > ? ORDER BY webhook_id LIMIT ?",
                [.text(last), .integer(Int64(countMax))]
            ).map { try Webhook(row: $0) }
        }
    }

    /// Deliveries of a webhook, newest first.
    public func deliveries(of id: String, countMax: Int = 100) async throws -> [WebhookDelivery] {
        try await store.read {
            _ = try Self.webhook(id, in: $0)
            return try $0.query(
                "SELECT * FROM webhook_deliveries WHERE webhook_id = ? ORDER BY position DESC LIMIT ?",
                [.text(id), .integer(Int64(countMax))]
            ).map { WebhookDelivery(row: $0) }
        }
    }

    /// The key of a webhook's signatures; `nil` without one.
    func secret(of id: String) async throws -> String? {
        let sealed = try await store.read {
            try $0.query("SELECT secret FROM webhooks WHERE webhook_id = ?", [.text(id)]).first?["secret"].textValue
        }
        return try sealed.map { try box.open($0) }
    }

    private func check(_ edit: Edit) throws(PlatformError) {
        func fault(_ text: String) -> PlatformError { PlatformError(.invalidInput, "webhook", text) }
        if let name = edit.name {
            guard 1...255 ~= name.utf8.count, name.allSatisfy({ !$0.isNewline }) else {
                throw fault("a name has 1 to 255 bytes on one line")
            }
        }
        if let url = edit.url {
            guard url.utf8.count <= 2048 else { throw fault("the URL is longer than 2048 bytes") }
            try transport.check(url)
        }
        if let events = edit.events {
            guard 1...100 ~= events.count else { throw fault("1 to 100 events are needed") }
            for event in events where !Webhook.isEvent(event) {
                throw fault(
                    "'\(event.prefix(80))' is no event; those of the registry are "
                        + Webhook.registryEvents.sorted().joined(separator: ", ")
                        + "; others are actions of the audit log such as model.stage.changed, or *")
            }
        }
        if let secret = edit.secret, !(1...1024 ~= secret.utf8.count) {
            throw fault("a secret has 1 to 1024 bytes")
        }
    }

    static func webhook(_ id: String, in transaction: any MetadataTransaction) throws -> Webhook {
        guard let row = try transaction.query("SELECT * FROM webhooks WHERE webhook_id = ?", [.text(id)]).first else {
            throw PlatformError(.notFound, "webhook/\(id.prefix(64))", "Webhook with ID \(id.prefix(64)) not found.")
        }
        return try Webhook(row: row)
    }
}
