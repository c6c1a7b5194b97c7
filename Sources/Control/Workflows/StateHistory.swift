import Foundation
import PlatformCore
public import StoragePorts

/// Append-only history of a workflow's states: the newest is where it stands, the rest is how it came there.
public struct StateHistory<State: Codable & Sendable>: Sendable {
    private let store: any MetadataStore
    private let kind: String
    private let journal: any ChangeJournal

    /// The table behind every history.
    public static var migrations: [MetadataMigration] { workflowMigrations }

    /// Histories of one kind, `rollout`; `journal` keeps changes in the transaction that appends their state.
    public init(store: any MetadataStore, kind: String, journal: any ChangeJournal = SilentJournal()) {
        self.store = store
        self.journal = journal
        self.kind = kind
    }

    /// Appends a state, and what it means for people.
    ///
    /// - Parameter expected: the position that the caller's last state of `id` has, 0 for none; `nil` to take any.
    /// - Returns: the position of the state.
    /// - Throws: `conflict` if somebody else appended meanwhile.
    @discardableResult
    public func append(_ id: String, _ state: State, _ change: RecordedChange? = nil, after expected: Int64? = nil)
        async throws -> Int64
    {
        let text = try JSONValue.of(state).text
        let kind = kind
        return try await store.write { [journal] transaction in
            let last = try transaction.query(
                "SELECT MAX(position) AS position FROM workflow_states WHERE kind = ? AND id = ?",
                [.text(kind), .text(id)])
            let before = last.first?["position"].integerValue ?? 0
            if let expected, expected != before {
                throw PlatformError(.conflict, "\(kind)/\(id)", "another controller has moved it meanwhile; look again")
            }
            if let change { try journal.record(change, in: transaction) }
            try transaction.execute(
                "INSERT INTO workflow_states (kind, id, position, state) VALUES (?, ?, ?, ?)",
                [.text(kind), .text(id), .integer(before + 1), .text(text)])
            return before + 1
        }
    }

    /// One state of `id`; `nil` if there is none at that position.
    public func state(of id: String, at position: Int64) async throws -> State? {
        let kind = kind
        let rows = try await store.read { transaction in
            try transaction.query(
                "SELECT state FROM workflow_states WHERE kind = ? AND id = ? AND position = ?",
                [.text(kind), .text(id), .integer(position)])
        }
        return try rows.first.map { try JSONValue.parse($0.text("state")).decoded(as: State.self) }
    }

    /// The newest state of each, in the order in which they began.
    public func latest() async throws -> [(id: String, state: State, position: Int64)] {
        let kind = kind
        let rows = try await store.read { transaction in
            try transaction.query(
                """
                SELECT s.id AS id, s.state AS state, s.position AS position FROM workflow_states s
                JOIN (SELECT id, MAX(position) AS position FROM workflow_states WHERE kind = ? GROUP BY id) n
                ON s.id = n.id AND s.position = n.position WHERE s.kind = ? ORDER BY s.id
                """, [.text(kind), .text(kind)])
        }
        return try rows.map {
            ($0.text("id"), try JSONValue.parse($0.text("state")).decoded(as: State.self), $0.integer("position"))
        }
    }
}

let workflowMigrations = [
    MetadataMigration(
        name: "workflows-1",
        statements: [
            """
            CREATE TABLE workflow_states (
                kind TEXT NOT NULL, id TEXT NOT NULL, position BIGINT NOT NULL, state TEXT NOT NULL,
                PRIMARY KEY (kind, id, position))
            """
        ]),
    MetadataMigration(
        name: "workflows-2",
        statements: [
            "CREATE TABLE workflow_leases (name TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, expires BIGINT NOT NULL)"
        ]),
]
