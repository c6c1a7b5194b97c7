public import PlatformCore
public import StoragePorts
import Synchronization

/// The right to carry out a workflow, held by one process at a time among those that share a metadata store.
///
/// It is a row that says who holds it until when, taken and renewed by compare-and-set. A holder that stops renewing loses
/// it after `span`. Clocks of different machines may differ, so the lease keeps two controllers from working side by side;
/// that a late one changes nothing is up to what it writes, all of which names the state that it saw.
public final class WorkflowLease: Sendable {
    private let store: any MetadataStore
    private let name: String
    private let clock: any PlatformClock
    private let span: Duration
    private let renewed = Mutex<ContinuousClock.Instant?>(nil)
    /// Who holds it where this process does.
    public let holder: String

    /// A lease called `name`.
    /// - Parameters:
    ///   - holder: the same for every run of one node, which then takes its own lease up again at once; nobody else's.
    ///   - clock: the machine's clock, never a simulated one.
    ///   - span: how long others wait for a holder that is silent.
    public init(
        store: any MetadataStore, name: String, holder: String, clock: any PlatformClock,
        span: Duration = .seconds(10)
    ) {
        self.store = store
        self.name = name
        self.holder = holder
        self.clock = clock
        self.span = span
    }

    /// Whether this process holds the lease, taking or renewing it as needed; asks the store every third of its span.
    public func hold() async throws -> Bool {
        let now = ContinuousClock.now
        if let last = renewed.withLock({ $0 }), now - last < span / 3 { return true }
        let (time, milliseconds) = (clock.now().milliseconds, Int64(span / .milliseconds(1)))
        let (name, holder) = (name, holder)
        let isHeld = try await store.write { transaction in
            let rows = try transaction.query(
                "SELECT holder, expires FROM workflow_leases WHERE name = ?", [.text(name)])
            guard let row = rows.first else {
                try transaction.execute(
                    "INSERT INTO workflow_leases (name, holder, expires) VALUES (?, ?, ?)",
                    [.text(name), .text(holder), .integer(time + milliseconds)])
                return true
            }
            guard row.text("holder") == holder || row.integer("expires") < time else { return false }
            try transaction.execute(
                "UPDATE workflow_leases SET holder = ?, expires = ? WHERE name = ?",
                [.text(holder), .integer(time + milliseconds), .text(name)])
            return true
        }
        renewed.withLock { $0 = isHeld ? now : nil }
        return isHeld
    }

    /// Gives the lease up, so that others need not wait for its end.
    public func release() async throws {
        renewed.withLock { $0 = nil }
        let (name, holder) = (name, holder)
        _ = try await store.write { transaction in
            try transaction.execute(
                "DELETE FROM workflow_leases WHERE name = ? AND holder = ?", [.text(name), .text(holder)])
        }
    }
}
