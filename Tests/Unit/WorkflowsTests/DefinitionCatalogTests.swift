import Definitions
import PlatformCore
import PlatformTesting
import SQLiteAdapter
import StoragePorts
import Synchronization
import Testing
import Workflows

/// An `apply` takes effect as a whole, or nothing changes.
struct DefinitionCatalogTests {
    private let folder: TemporaryFolder
    private let clock = ManualClock(startingAt: WorkflowFixture.start)

    init() throws { folder = try TemporaryFolder("catalog") }

    private func open() async throws -> (catalog: DefinitionCatalog, store: SQLiteMetadataStore) {
        let store = try WorkflowFixture.store(in: folder)
        try await store.migrate(DefinitionCatalog.migrations)
        return (DefinitionCatalog(store: store, clock: clock), store)
    }

    private func revisions(_ store: SQLiteMetadataStore) async throws -> [Int64] {
        try await store.read { try $0.query("SELECT revision FROM definition_revisions ORDER BY revision") }
            .map { $0.integer("revision") }
    }

    private final class Listener: Sendable {
        let sets = Mutex<[DefinitionSet]>([])
        var count: Int { sets.withLock { $0.count } }
        func hear(_ set: DefinitionSet) { sets.withLock { $0.append(set) } }
    }
    private struct Unprepared: Error {}

    @Test func applyPutsDefinitionsInForce() async throws {
        let (catalog, store) = try await open()
        let listener = Listener()
        await catalog.addListener { listener.hear($0) }
        #expect(catalog.current == DefinitionSet() && catalog.revision == 0)
        let outcome = try await catalog.apply(WorkflowFixture.files(), isRehearsal: false, actor: "ann")
        #expect(outcome.revision == 1 && outcome.definitionCount == 8)
        #expect(outcome.changes.count == 8 && outcome.changes.allSatisfy { $0.kind == .create })
        #expect(catalog.current.models[WorkflowFixture.model] != nil && catalog.revision == 1)
        #expect(listener.sets.withLock { $0 } == [catalog.current])
        let row = try #require(try await store.read { try $0.query("SELECT * FROM definition_revisions") }.first)
        #expect(row.text("actor") == "ann" && row.integer("time") == WorkflowFixture.start.milliseconds)
        let second = try await catalog.apply(WorkflowFixture.files(window: "2h"), isRehearsal: false, actor: "bob")
        #expect(second.revision == 2)
        #expect(second.changes.contains { $0.identifier == "FeatureView/planes" && $0.touches.contains("Model/delay") })
        #expect(try await revisions(store) == [1, 2])
    }

    @Test func aRehearsalChangesNothing() async throws {
        let (catalog, store) = try await open()
        let listener = Listener()
        await catalog.addListener { listener.hear($0) }
        let outcome = try await catalog.apply(WorkflowFixture.files(), isRehearsal: true, actor: "ann")
        #expect(outcome.changes.count == 8 && outcome.definitionCount == 8 && outcome.revision == 0)
        #expect(catalog.current == DefinitionSet() && listener.count == 0)
        #expect(try await revisions(store).isEmpty)
    }

    @Test func theSameAgainIsNoRevision() async throws {
        let (catalog, store) = try await open()
        _ = try await catalog.apply(WorkflowFixture.files(), isRehearsal: false, actor: "ann")
        let again = try await catalog.apply(WorkflowFixture.files(), isRehearsal: false, actor: "ann")
        #expect(again.changes.isEmpty && again.revision == 1)
        #expect(try await revisions(store) == [1])
        // New words for people are no change of meaning, but they are kept.
        let words = try await catalog.apply(WorkflowFixture.files(description: "new"), isRehearsal: false, actor: "ann")
        #expect(words.changes.isEmpty && words.revision == 2)
        #expect(catalog.current.featureViews[Name(static: "planes")]?.description == "new")
    }

    @Test func definitionsAreThereAfterReopening() async throws {
        let (catalog, store) = try await open()
        _ = try await catalog.apply(WorkflowFixture.files(), isRehearsal: false, actor: "ann")
        _ = try await catalog.apply(WorkflowFixture.files(window: "3h"), isRehearsal: false, actor: "ann")
        let before = catalog.current
        try store.close()
        let (reopened, _) = try await open()
        let listener = Listener()
        await reopened.addListener { listener.hear($0) }
        #expect(reopened.revision == 0)
        try await reopened.load()
        #expect(reopened.current == before && reopened.revision == 2)
        #expect(listener.sets.withLock { $0 } == [before])
        #expect(try await reopened.apply(WorkflowFixture.files(), isRehearsal: false, actor: "ann").revision == 3)
    }

    @Test func loadingWithoutRevisionsIsNoFault() async throws {
        let (catalog, _) = try await open()
        try await catalog.load()
        #expect(catalog.revision == 0)
    }

    @Test func aListenerThatThrowsRefusesTheApply() async throws {
        let (catalog, store) = try await open()
        _ = try await catalog.apply(WorkflowFixture.files(), isRehearsal: false, actor: "ann")
        let before = catalog.current
        let shared = Shared()
        await catalog.addListener { _ in if shared.refuses.withLock({ $0 }) { throw Unprepared() } }
        await #expect(throws: Unprepared.self) {
            try await catalog.apply(WorkflowFixture.files(window: "2h"), isRehearsal: false, actor: "ann")
        }
        #expect(catalog.current == before && catalog.revision == 1)
        #expect(try await revisions(store) == [1])
        shared.refuses.withLock { $0 = false }
        let outcome = try await catalog.apply(WorkflowFixture.files(window: "2h"), isRehearsal: false, actor: "ann")
        #expect(outcome.revision == 2 && !outcome.changes.isEmpty)
    }

    @Test func faultsChangeNothingAndComeOneALine() async throws {
        let (catalog, store) = try await open()
        _ = try await catalog.apply(WorkflowFixture.files(), isRehearsal: false, actor: "ann")
        let before = catalog.current
        let bad = [
            DefinitionFile(path: "a.yaml", folder: "/", text: "kind: Entity\nname: a\nkeys: x"),
            DefinitionFile(path: "b.yaml", folder: "/", text: "kind: Entty\nname: b"),
        ]
        let thrown = await #expect(throws: PlatformError.self) {
            try await catalog.apply(bad, isRehearsal: false, actor: "ann")
        }
        #expect(thrown?.code == .invalidInput)
        #expect(thrown?.message.split(separator: "\n").count == 2)
        #expect(catalog.current == before)
        #expect(try await revisions(store) == [1])
    }

    @Test func aStoreThatCannotWriteChangesNothing() async throws {
        let (catalog, store) = try await open()
        try store.close()
        await #expect(throws: (any Error).self) {
            try await catalog.apply(WorkflowFixture.files(), isRehearsal: false, actor: "ann")
        }
        #expect(catalog.current == DefinitionSet() && catalog.revision == 0)
    }
}

private final class Shared: Sendable {
    let refuses = Mutex(true)
}
