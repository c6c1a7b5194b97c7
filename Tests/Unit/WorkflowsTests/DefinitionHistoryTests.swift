import Definitions
import PlatformCore
import PlatformTesting
import SQLiteAdapter
import StoragePorts
import Synchronization
import Testing
import Workflows

/// Every version that a definition ever had can be found again; applies come one after another.
struct DefinitionHistoryTests {
    private let folder: TemporaryFolder
    private let clock = ManualClock(startingAt: WorkflowFixture.start)

    init() throws { folder = try TemporaryFolder("history") }

    private func open() async throws -> DefinitionCatalog {
        let store = try WorkflowFixture.store(in: folder)
        try await store.migrate(DefinitionCatalog.migrations)
        return DefinitionCatalog(store: store, clock: clock)
    }

    @Test func anOldServiceIsFoundWithItsViews() async throws {
        let catalog = try await open()
        _ = try await catalog.apply(WorkflowFixture.files(), isRehearsal: false, actor: "ann")
        let old = try #require(catalog.current.featureServices.values.first)
        _ = try await catalog.apply(WorkflowFixture.files(window: "2h"), isRehearsal: false, actor: "bob")
        let new = try #require(catalog.current.featureServices.values.first)
        #expect(old.version != new.version)
        for wanted in [old, new] {
            let found = try #require(try await catalog.service(wanted.version))
            #expect(found.service == wanted && !found.views.isEmpty)
        }
        let versions = try await catalog.versions(of: "FeatureView", Name(static: "planes"))
        #expect(versions.map(\.revision) == [2, 1] && versions.map(\.actor) == ["bob", "ann"])
        #expect(try await catalog.set(with: "FeatureView/planes", at: new.version) == nil)
    }

    @Test func revisionsFromBeforeTheIndexAreIndexed() async throws {
        let store = try WorkflowFixture.store(in: folder)
        try await store.migrate(DefinitionCatalog.migrations)
        let catalog = DefinitionCatalog(store: store, clock: clock)
        _ = try await catalog.apply(WorkflowFixture.files(), isRehearsal: false, actor: "ann")
        let old = try #require(catalog.current.featureServices.values.first)
        _ = try await catalog.apply(WorkflowFixture.files(window: "2h"), isRehearsal: false, actor: "ann")
        _ = try await store.write { try $0.execute("DELETE FROM definition_versions") }
        let again = DefinitionCatalog(store: store, clock: clock)
        try await again.load()
        #expect(try await again.service(old.version)?.service == old)
    }

    /// An earlier program said some meanings in other words: what is in force is what people wrote, not what it was called.
    @Test func anUpgradeChangesNoDefinition() async throws {
        let store = try WorkflowFixture.store(in: folder)
        try await store.migrate(DefinitionCatalog.migrations)
        let catalog = DefinitionCatalog(store: store, clock: clock)
        _ = try await catalog.apply(WorkflowFixture.files(), isRehearsal: false, actor: "ann")
        let count = try await store.write {
            try $0.execute(
                "UPDATE definition_versions SET version = ? WHERE identifier IN ('Deployment/delay', 'Monitor/delay')",
                [.text(String(repeating: "a", count: 64))])
            return try $0.query("SELECT 1 AS one FROM definition_versions WHERE version LIKE 'aaaa%'").count
        }
        #expect(count == 2)
        let upgraded = DefinitionCatalog(store: store, clock: clock)
        try await upgraded.load()
        let again = try await upgraded.apply(WorkflowFixture.files(), isRehearsal: false, actor: "ann")
        #expect(again.changes.isEmpty && again.revision == 1)
        let changed = try await upgraded.apply(
            WorkflowFixture.files(canary: "[{share: 20%, at_least: 1d}]"), isRehearsal: false, actor: "ann")
        #expect(changed.changes.map(\.identifier) == ["Deployment/delay"] && changed.revision == 2)
    }

    @Test func twoAppliesAtOnceComeOneAfterTheOther() async throws {
        let catalog = try await open()
        let running = Mutex((now: 0, most: 0))
        await catalog.addListener { _ in
            running.withLock {
                $0.now += 1
                $0.most = max($0.most, $0.now)
            }
            for _ in 0..<20 { await Task.yield() }
            running.withLock { $0.now -= 1 }
        }
        let outcomes = try await withThrowingTaskGroup(of: DefinitionCatalog.Outcome.self) { group in
            for hours in 2...9 {
                group.addTask {
                    try await catalog.apply(
                        WorkflowFixture.files(window: "\(hours)h"), isRehearsal: false, actor: "actor\(hours)")
                }
            }
            var outcomes: [DefinitionCatalog.Outcome] = []
            for try await outcome in group { outcomes.append(outcome) }
            return outcomes.sorted { $0.revision < $1.revision }
        }
        #expect(outcomes.map(\.revision) == Array(1...8) && running.withLock { $0.most } == 1)
        for (one, next) in zip(outcomes, outcomes.dropFirst()) { #expect(next.before == one.after) }
        #expect(catalog.current == outcomes.last?.after)
        await #expect(throws: PlatformError.self) {
            try await catalog.apply(
                WorkflowFixture.files(), isRehearsal: false, actor: "late", expectedRevision: 3)
        }
    }
}
