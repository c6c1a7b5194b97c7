public import PlatformCore
import StoragePorts

/// Somebody's URL that hears of changes.
public struct Webhook: Sendable, Hashable {
    /// A UUID.
    public let id: String
    /// For people.
    public let name: String
    /// For people.
    public let description: String?
    /// Where deliveries go.
    public let url: String
    /// Events it hears: MLflow's, `model_version.created`, or actions of the audit log, `model.stage.changed`; `*` for every
    /// action.
    public let events: [String]
    /// Whether deliveries are made.
    public let isActive: Bool
    /// When it was made.
    public let createdAt: EventTime
    /// When it changed last.
    public let updatedAt: EventTime

    /// The webhook from its row; the secret stays there.
    init(row: MetadataRow) throws {
        id = row.text("webhook_id")
        name = row.text("name")
        description = row["description"].textValue
        url = row.text("url")
        events = try JSONValue.parse(Array(row.text("events").utf8)).decoded()
        isActive = row.text("status") == "ACTIVE"
        createdAt = EventTime(milliseconds: row.integer("created_at"))
        updatedAt = EventTime(milliseconds: row.integer("updated_at"))
    }

    /// What MLflow's clients can be told of.
    public static let registryEvents: Set<String> = [
        "registered_model.created", "model_version.created", "model_version_tag.set", "model_version_tag.deleted",
        "model_version_alias.created", "model_version_alias.deleted",
    ]

    /// Whether a text may name an event: one of MLflow's, an action of the audit log, or all of these.
    static func isEvent(_ text: String) -> Bool {
        let isAction =
            text.utf8.allSatisfy { 97...122 ~= $0 || $0 == 46 || $0 == 95 } && text.split(separator: ".").count >= 2
        return text == "*" || isAction && text.utf8.count <= 100
    }

    /// What the audit says of it: no secret, and of the URL only where it goes.
    var audited: JSONValue {
        [
            "name": .string(name), "host": .string(WebhookAddress.host(of: url) ?? ""),
            "events": .array(events.map(JSONValue.string)), "active": .bool(isActive),
        ]
    }
}

/// One message to one webhook.
public struct WebhookDelivery: Sendable, Hashable {
    /// A UUID; the same in every attempt.
    public let id: String
    /// The webhook.
    public let webhook: String
    /// Position in the audit chain of the change it tells of.
    public let position: Int64
    /// The event.
    public let event: String
    /// `pending`, `delivered` or `failed`.
    public let state: String
    /// Attempts so far.
    public let attempts: Int
    /// When the next attempt is due.
    public let dueAt: EventTime
    /// Status of the last answer; `nil` if there was none.
    public let status: Int?
    /// Why the last attempt failed; `nil` if it did not.
    public let fault: String?

    init(row: MetadataRow) {
        id = row.text("delivery_id")
        webhook = row.text("webhook_id")
        position = row.integer("position")
        event = row.text("event")
        state = row.text("state")
        attempts = Int(row.integer("attempts"))
        dueAt = EventTime(milliseconds: row.integer("due_at"))
        status = row["status"].integerValue.map { Int($0) }
        fault = row["fault"].textValue
    }
}

/// What became of one attempt.
public struct WebhookAnswer: Sendable, Hashable {
    /// Status code.
    public let status: Int
    /// Beginning of the answer's body.
    public let body: String
    /// Makes an answer.
    public init(status: Int, body: String) {
        self.status = status
        self.body = body
    }
}

/// Sends a message over HTTP.
public protocol WebhookTransport: Sendable {
    /// Whether a URL may be a webhook's at all, without asking the network.
    /// - Throws: `PlatformError` (`invalidInput`, `refused`) that says why not.
    func check(_ url: String) throws(PlatformError)
    /// Posts a body; never follows a redirect.
    /// - Throws: `PlatformError`: `refused` for an address that policy forbids, `unavailable` where trying again may help.
    func post(_ url: String, headers: [String: String], body: [UInt8]) async throws(PlatformError) -> WebhookAnswer
}

/// Which addresses webhooks may go to.
public enum WebhookAddress {
    /// The host of a URL; `nil` if it has none.
    static func host(of url: String) -> String? {
        guard let scheme = url.firstRange(of: "://") else { return nil }
        let rest = url[scheme.upperBound...].prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        return rest.split(separator: "@").last.map(String.init)
    }

    /// Whether an IPv4 address belongs to the public internet: not private, loopback, link-local, shared, reserved for
    /// documentation, benchmarks or multicast.
    ///
    /// - SeeAlso: RFC 6890, *Special-Purpose IP Address Registries*.
    public static func isPublic(ipv4 bytes: [UInt8]) -> Bool {
        guard bytes.count == 4 else { return false }
        switch (bytes[0], bytes[1], bytes[2]) {
        case (0, _, _), (10, _, _), (127, _, _), (100, 64...127, _), (169, 254, _), (172, 16...31, _), (192, 168, _),
            (192, 0, 0), (192, 0, 2), (192, 88, 99), (198, 18...19, _), (198, 51, 100), (203, 0, 113), (224..., _, _):
            return false
        default: return true
        }
    }

    /// Whether an IPv6 address belongs to the public internet; one that carries an IPv4 address is judged by that.
    public static func isPublic(ipv6 bytes: [UInt8]) -> Bool {
        guard bytes.count == 16 else { return false }
        let head = bytes.prefix(12)
        if head.allSatisfy({ $0 == 0 }) || head == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]
            || bytes.prefix(12) == [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]
        {
            return isPublic(ipv4: Array(bytes[12...]))
        }
        if bytes[0] == 0x20, bytes[1] == 0x02 { return isPublic(ipv4: Array(bytes[2..<6])) }  // 6to4
        let isGlobal = bytes[0] & 0xe0 == 0x20  // 2000::/3
        let isDocumentation = bytes.prefix(4) == [0x20, 0x01, 0x0d, 0xb8]
        let isTunnel = bytes.prefix(4) == [0x20, 0x01, 0, 0]  // Teredo hides an IPv4 address
        return isGlobal && !isDocumentation && !isTunnel
    }
}
