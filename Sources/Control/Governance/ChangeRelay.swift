public import Logging
import PlatformCore
public import ServiceLifecycle
public import StoragePorts
import Synchronization

/// Somebody who hears of every change, each at least once and in order.
public protocol ChangeListener: Sendable {
    /// Hears of entries, oldest first; what it throws is tried again with the same entries.
    func changed(_ entries: [AuditEntry]) async throws
}

/// Tells the topic `platform`, and whoever else listens, of every entry of the audit chain.
///
/// The chain is the list of changes that is written with the changes themselves; how far it has been told is kept beside
/// it. A crash in between tells the last entries again, so readers take `audit_position` for what they know already.
public final class ChangeRelay: Service {
    /// The tables, for `MetadataStore.migrate`.
    public static let migrations = [
        MetadataMigration(
            name: "change-relay-1",
            statements: ["CREATE TABLE change_relay (listener TEXT PRIMARY KEY, position BIGINT NOT NULL)"])
    ]

    private let audit: AuditLog
    private let store: any MetadataStore
    private let log: any EventLog
    private let logger: Logger
    private let listeners = Mutex<[any ChangeListener]>([])
    private let wakes: AsyncStream<Void>
    private let waker: AsyncStream<Void>.Continuation

    /// Makes a relay that reads `audit` and writes to the topic `platform` of `log`.
    public init(audit: AuditLog, store: any MetadataStore, log: any EventLog, logger: Logger) {
        self.audit = audit
        self.store = store
        self.log = log
        self.logger = logger
        (wakes, waker) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Adds somebody who hears of every change.
    public func add(_ listener: any ChangeListener) { listeners.withLock { $0.append(listener) } }

    /// Says that there may be news.
    public func wake() { waker.yield() }

    /// Tells until graceful shutdown.
    public func run() async throws {
        await cancelWhenGracefulShutdown {
            var delay = Duration.milliseconds(200)
            self.wake()
            for await _ in self.wakes {
                do {
                    while try await self.tellSome() {}
                    delay = .milliseconds(200)
                } catch {
                    if Task.isCancelled { return }
                    self.logger.error("changes wait to be told", metadata: ["error": "\(errorText(error))"])
                    try? await Task.sleep(for: delay)
                    delay = min(delay * 2, .seconds(30))
                    self.wake()
                }
            }
        }
    }

    /// Tells up to 500 entries; whether there were any.
    func tellSome() async throws -> Bool {
        let position = try await store.read {
            try $0.query("SELECT position FROM change_relay WHERE listener = 'platform'").first?.integer("position")
        }
        let first: Int64
        if let position {
            first = position + 1
        } else {
            // A folder from before the relay: its topic holds what was told until now.
            let isNew = try await log.endOffset(PlatformTopic.platform, partition: 0) == 0
            first = isNew ? 1 : (try await audit.head()?.position ?? 0) + 1
            if !isNew { try await remember(first - 1) }
        }
        let entries = try await audit.entries(from: first, countMax: 500)
        guard let last = entries.last else { return false }
        let records = try entries.map { entry in
            LogRecord(key: entry.record.subject, time: entry.time, value: try Self.event(entry).canonicalBytes)
        }
        _ = try await log.append(records, to: PlatformTopic.platform)
        for listener in listeners.withLock({ $0 }) { try await listener.changed(entries) }
        try await remember(last.position)
        return true
    }

    /// An entry as an event of the topic `platform`.
    static func event(_ entry: AuditEntry) throws -> JSONValue {
        let event = PlatformEvent(
            kind: entry.record.action, subject: entry.record.subject, time: entry.time, actor: entry.record.actor,
            details: entry.record.after)
        var members = try JSONValue.of(event).objectValue ?? [:]
        members["before"] = entry.record.before
        members["evidence"] = entry.record.evidence.map { .string($0.hex) } ?? .null
        members["audit_position"] = .integer(entry.position)
        return .object(members)
    }

    private func remember(_ position: Int64) async throws {
        try await store.write { transaction in
            _ = try transaction.execute(
                "INSERT INTO change_relay (listener, position) VALUES ('platform', ?) "
                    + "ON CONFLICT (listener) DO UPDATE SET position = excluded.position", [.integer(position)])
        }
    }
}
