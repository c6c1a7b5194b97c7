import PlatformCore
import PlatformTesting
import SQLiteAdapter
import StoragePorts
import Testing
import Workflows

/// The newest state of each workflow is where it stands, also after the process ended.
struct StateHistoryTests {
    private struct Step: Codable, Sendable, Hashable {
        let text: String
        var number = 1
    }
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder("history") }

    private func open() async throws -> SQLiteMetadataStore {
        let store = try WorkflowFixture.store(in: folder)
        try await store.migrate(StateHistory<Int>.migrations)
        return store
    }

    @Test func theNewestStateOfEachIsKept() async throws {
        let store = try await open()
        let history = StateHistory<Step>(store: store, kind: "rollout")
        let other = StateHistory<Step>(store: store, kind: "retraining")
        #expect(try await history.latest().isEmpty)
        let source = IdentifierSource(clock: ManualClock(startingAt: WorkflowFixture.start))
        let ids = (0..<12).map { _ in source.next() }
        for round in 0..<12 {
            for id in ids.reversed() { try await history.append(id, Step(text: "é\n\"\(round)", number: round)) }
        }
        try await other.append(ids[0], Step(text: "other"))
        let latest = try await history.latest()
        #expect(latest.map(\.id) == ids, "in the order in which they began")
        #expect(latest.allSatisfy { $0.state == Step(text: "é\n\"11", number: 11) })
        #expect(try await other.latest().map(\.state) == [Step(text: "other")])
    }

    @Test func nothingIsOverwritten() async throws {
        let store = try await open()
        let history = StateHistory<Step>(store: store, kind: "rollout")
        for index in 0..<3 { try await history.append("a", Step(text: "\(index)")) }
        let rows = try await store.read {
            try $0.query("SELECT position, state FROM workflow_states ORDER BY position")
        }
        #expect(rows.map { $0.integer("position") } == [1, 2, 3])
        #expect(rows.map { $0.text("state").contains("\"2\"") } == [false, false, true])
    }

    @Test func statesAreThereAfterReopening() async throws {
        let first = try await open()
        try await StateHistory<Step>(store: first, kind: "rollout").append("a", Step(text: "kept"))
        try first.close()
        let second = try await open()
        #expect(
            try await StateHistory<Step>(store: second, kind: "rollout").latest().map(\.state) == [Step(text: "kept")])
    }

    @Test func appendsAtTheSameTimeAllStay() async throws {
        let store = try await open()
        let history = StateHistory<Step>(store: store, kind: "rollout")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<40 { group.addTask { try await history.append("a", Step(text: "\(index)")) } }
            try await group.waitForAll()
        }
        let rows = try await store.read { try $0.query("SELECT position FROM workflow_states ORDER BY position") }
        #expect(rows.map { $0.integer("position") } == Array(1...40))
    }
}
