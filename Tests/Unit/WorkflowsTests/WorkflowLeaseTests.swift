import PlatformCore
import PlatformTesting
import SQLiteAdapter
import StoragePorts
import Synchronization
import Testing

@testable import Workflows

/// Of two controllers on one store, one works; a late one changes nothing.
struct WorkflowLeaseTests {
    private func lease(_ store: any MetadataStore, _ holder: String, _ clock: ManualClock) -> WorkflowLease {
        WorkflowLease(store: store, name: "lifecycle", holder: holder, clock: clock, span: .milliseconds(30))
    }

    @Test func oneHoldsItUntilItIsSilentOrGivesItUp() async throws {
        let folder = try TemporaryFolder()
        let store = try WorkflowFixture.store(in: folder)
        try await store.migrate(StateHistory<RolloutState>.migrations)
        let clock = ManualClock(startingAt: WorkflowFixture.start)
        let (first, second) = (lease(store, "a", clock), lease(store, "b", clock))
        #expect(try await first.hold())
        #expect(try await !second.hold())
        #expect(try await first.hold())
        try await first.release()
        #expect(try await second.hold())
        #expect(try await !first.hold())
        clock.advance(to: clock.now().advanced(by: TimeSpan(milliseconds: 31)))
        #expect(try await first.hold(), "the other one is silent")
        try await Task.sleep(for: .milliseconds(15))  // it believes itself until it has to renew
        #expect(try await !second.hold())
        // The same node after a crash does not wait for itself.
        #expect(try await lease(store, "a", clock).hold())
    }

    @Test func manyAtOnceHaveOneHolder() async throws {
        let folder = try TemporaryFolder()
        let store = try WorkflowFixture.store(in: folder)
        try await store.migrate(StateHistory<RolloutState>.migrations)
        let clock = ManualClock(startingAt: WorkflowFixture.start)
        let holders = try await withThrowingTaskGroup(of: Bool.self) { group in
            for index in 0..<16 {
                let lease = lease(store, "node-\(index)", clock)
                group.addTask { try await lease.hold() }
            }
            return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(holders == 1)
    }

    /// Both decide on the state that they saw; the second finds another one and is refused.
    @Test func aDecisionOnAnOldStateIsRefused() async throws {
        let folder = try TemporaryFolder()
        let store = try WorkflowFixture.store(in: folder)
        try await store.migrate(StateHistory<RolloutState>.migrations)
        let (first, second) = (
            StateHistory<RolloutState>(store: store, kind: "rollout"),
            StateHistory<RolloutState>(store: store, kind: "rollout")
        )
        var state = RolloutState(
            deployment: WorkflowFixture.model, model: WorkflowFixture.model, challenger: 2, champion: 1,
            at: WorkflowFixture.start, reason: "gates passed")
        let position = try await first.append("delay/2", state, after: 0)
        state.enter(.canary(step: 0), share: 0.1, at: WorkflowFixture.start, reason: "good")
        try await first.append("delay/2", state, after: position)
        var other = state
        other.enter(.withdrawn, share: 0, at: WorkflowFixture.start, reason: "bad")
        do {
            try await second.append("delay/2", other, after: position)
            #expect(Bool(false), "two controllers moved one rollout")
        } catch let error as PlatformError { #expect(error.code == .conflict) }
        let latest = try #require(try await second.latest().first)
        #expect(latest.state == state && latest.position == position + 1)
        #expect(latest.state.isPending == true, "a start after a crash makes the traffic follow")
    }
}
