import Definitions
import ModelRegistry
import PlatformCore
import StoragePorts
import Testing

@Suite struct DeploymentTests {
    /// Versions 1 to `count`; the first is in production, the others are canaries.
    private func fixture(versions count: Int) async throws -> RegistryFixture {
        let fixture = try await RegistryFixture()
        for number in 1...count { try await fixture.register("v\(number)") }
        try await fixture.move(1, .staging, .canary, .production)
        for number in 1...count where number > 1 { try await fixture.move(number, .staging, .canary) }
        return fixture
    }

    private func shares(_ revision: PolicyRevision) -> [Int: Double] {
        Dictionary(uniqueKeysWithValues: revision.policy.variants.map { ($0.version, $0.share) })
    }

    private func code(_ body: () async throws -> Void) async -> PlatformError.Code? {
        do { try await body() } catch { return (error as? PlatformError)?.code }
        return nil
    }

    private func rollbackCode(_ fixture: RegistryFixture) async -> PlatformError.Code? {
        await code { try await fixture.registry.rollback(fixture.deployment, actor: "ada", reason: "x") }
    }

    private func publishCode(_ fixture: RegistryFixture, _ shares: [Int: Double], shadows: [Int] = []) async
        -> PlatformError.Code?
    {
        await code { _ = try await fixture.publish(shares, shadows: shadows) }
    }

    @Test func servicesAreInUseWhileAVersionIsOutsideTheArchiveOrInAPolicy() async throws {
        let fixture = try await RegistryFixture()
        let one = try await fixture.content.put(Array("profile one".utf8))
        let two = try await fixture.content.put(Array("profile two".utf8))
        #expect(try await fixture.registry.serviceVersionsInUse() == [])
        for text in ["one", "two"] { try await fixture.register(text) }
        #expect(try await fixture.registry.serviceVersionsInUse() == [one, two])
        try await fixture.move(1, .staging, .canary, .production)
        _ = try await fixture.publish([1: 1])
        try await fixture.move(2, .archived)
        #expect(try await fixture.registry.serviceVersionsInUse() == [one])
        try await fixture.move(1, .archived)
        #expect(try await fixture.registry.serviceVersionsInUse() == [one], "a route has it")
    }

    @Test func revisionsFollowEachOtherAndThePastCanBeAsked() async throws {
        let fixture = try await fixture(versions: 2)
        let first = try await fixture.publish([1: 1], shadows: [2])
        let second = try await fixture.publish([1: 0.95, 2: 0.05])
        #expect([first.revision, second.revision] == [1, 2])
        #expect(try await fixture.registry.current(fixture.deployment) == second)
        #expect(try await fixture.registry.history(fixture.deployment) == [first, second])
        #expect(try await fixture.registry.live(fixture.model, at: first.time).policies == [fixture.deployment: first])
        #expect(
            try await fixture.registry.live(fixture.model, at: second.time).policies == [fixture.deployment: second])
        #expect(try await fixture.registry.deployments() == [fixture.deployment])
        #expect(fixture.events.last?.kind == "deployment.policy.published")
        #expect(fixture.events.last?.details["shares"]?["2"]?.doubleValue == 0.05)
    }

    @Test func refusesPoliciesThatMakeNoSense() async throws {
        let fixture = try await fixture(versions: 2)
        for (shares, shadows) in [
            ([:], []), ([1: 0.5], []), ([1: 0.5, 2: 0.6], []), ([1: 1], [1]), ([1: 1, 2: 0], []), ([1: 2, 2: -1], []),
            ([1: .nan], []), ([1: 1], [2, 2]),
        ] as [([Int: Double], [Int])] {
            #expect(await publishCode(fixture, shares, shadows: shadows) == .invalidInput)
        }
        #expect(await publishCode(fixture, [9: 1]) == .notFound)
        #expect(try await fixture.registry.current(fixture.deployment) == nil)
    }

    @Test func versionsWithoutTheStageAnswerNothing() async throws {
        let fixture = try await fixture(versions: 2)
        let third = try await fixture.register("v3")
        #expect(await publishCode(fixture, [third: 1]) == .refused)
        _ = try await fixture.publish([1: 1], shadows: [third])
        try await fixture.move(third, .archived)
        #expect(await publishCode(fixture, [1: 1], shadows: [third]) == .refused)
    }

    @Test func whoSawAnOlderRevisionIsToldSo() async throws {
        let fixture = try await fixture(versions: 2)
        _ = try await fixture.publish([1: 1])
        let late = await code {
            try await fixture.registry.publish(
                fixture.deployment, of: fixture.model, DeploymentPolicy(variants: [TrafficShare(version: 2, share: 1)]),
                actor: "ada", reason: "late", expectedRevision: 0)
        }
        #expect(late == .conflict)
        let other = await code {
            try await fixture.registry.publish(
                fixture.deployment, of: Name(static: "another"),
                DeploymentPolicy(variants: [TrafficShare(version: 1, share: 1)]), actor: "ada", reason: "late")
        }
        #expect(other == .notFound)
    }

    @Test func aCanaryRollsBackToThePolicyWithoutIt() async throws {
        let fixture = try await fixture(versions: 2)
        _ = try await fixture.publish([1: 1])
        _ = try await fixture.publish([1: 0.9, 2: 0.1])
        _ = try await fixture.publish([1: 0.5, 2: 0.5])
        let back = try await fixture.registry.rollback(fixture.deployment, actor: "ada", reason: "errors")
        #expect(shares(back) == [1: 1])
        #expect(back.restores == 1 && back.revision == 4 && back.policy.previous == 2)
        #expect(try await fixture.registry.stages(of: fixture.model) == [1: .production, 2: .canary])
    }

    @Test func rollingBackAPromotionBringsTheArchivedChampionBack() async throws {
        let fixture = try await fixture(versions: 2)
        _ = try await fixture.publish([1: 1])
        _ = try await fixture.publish([1: 0.9, 2: 0.1])
        try await fixture.move(2, .production)
        _ = try await fixture.publish([2: 1])
        #expect(try await fixture.registry.stages(of: fixture.model) == [1: .archived, 2: .production])
        let back = try await fixture.registry.rollback(fixture.deployment, actor: "ada", reason: "worse")
        #expect(shares(back) == [1: 1])
        #expect(try await fixture.registry.stages(of: fixture.model) == [1: .production, 2: .archived])
        #expect(try await fixture.registry.champion(of: fixture.model)?.number == 1)
        let reasons = try await fixture.registry.transitions(of: fixture.model).suffix(2).map(\.reason)
        #expect(reasons.allSatisfy { $0 == "rollback of flight_delay_live to revision 1: worse" })
    }

    @Test func aVersionThatWasReplacedAndStillAnswersIsShownAsWhatItIs() async throws {
        let fixture = try await fixture(versions: 2)
        _ = try await fixture.publish([1: 1])
        try await fixture.move(2, .production)
        let live = try await fixture.registry.live(fixture.model, at: .latestAccepted)
        #expect(live.steps.keys.sorted() == [2] && live.archived.mapValues(\.to) == [1: .archived])
        #expect(live.archived[1]?.reason == "replaced by version 2")
        _ = try await fixture.publish([2: 1])
        #expect(try await fixture.registry.live(fixture.model, at: .latestAccepted).archived.isEmpty)
    }

    @Test func aVersionThatAPolicyHoldsStaysOutOfTheArchive() async throws {
        let fixture = try await fixture(versions: 2)
        _ = try await fixture.publish([1: 0.9, 2: 0.1])
        func archive(_ isHeld: @escaping @Sendable (PolicyRevision) -> Bool) async throws {
            try await fixture.registry.transition(
                fixture.model, 2, to: .archived, actor: "ada", reason: "out", gates: [], isHeld: isHeld)
        }
        let deployment = fixture.deployment
        await #expect(throws: PlatformError.self) { try await archive { $0.deployment == deployment } }
        #expect(try await fixture.registry.stage(of: fixture.model, 2) == .canary)
        _ = try await fixture.publish([1: 1])
        try await archive { _ in true }
        #expect(try await fixture.registry.stage(of: fixture.model, 2) == .archived)
    }

    @Test func trafficAndChampionAgreeAfterRollingBackToACanary() async throws {
        let fixture = try await RegistryFixture()
        for number in 1...2 {
            try await fixture.register("v\(number)")
            try await fixture.move(number, .staging, .canary)
        }
        _ = try await fixture.publish([1: 1])
        try await fixture.move(2, .production)
        _ = try await fixture.publish([2: 1])
        let back = try await fixture.registry.rollback(fixture.deployment, actor: "ada", reason: "worse")
        #expect(shares(back) == [1: 1])
        #expect(try await fixture.registry.stages(of: fixture.model) == [1: .production, 2: .archived])
    }

    @Test func rollingBackTwiceGoesBackTwiceAndNeverForth() async throws {
        let fixture = try await fixture(versions: 3)
        _ = try await fixture.publish([1: 1])
        _ = try await fixture.publish([2: 1])
        _ = try await fixture.publish([3: 1])
        #expect(shares(try await fixture.registry.rollback(fixture.deployment, actor: "a", reason: "1")) == [2: 1])
        #expect(shares(try await fixture.registry.rollback(fixture.deployment, actor: "a", reason: "2")) == [1: 1])
        #expect(await rollbackCode(fixture) == .refused)
        _ = try await fixture.publish([3: 1])
        #expect(shares(try await fixture.registry.rollback(fixture.deployment, actor: "a", reason: "4")) == [1: 1])
    }

    @Test func nothingDeployedCannotRollBack() async throws {
        let fixture = try await fixture(versions: 1)
        #expect(await rollbackCode(fixture) == .notFound)
        _ = try await fixture.publish([1: 1])
        #expect(await rollbackCode(fixture) == .refused)
    }
}
