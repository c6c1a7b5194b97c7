import Definitions
import ModelRegistry
import PlatformCore
import Testing

@Suite struct StageTests {
    private func refusal(_ body: () async throws -> Void) async -> PlatformError? {
        do { try await body() } catch { return error as? PlatformError }
        return nil
    }

    @Test func aNewProductionVersionArchivesTheOneBefore() async throws {
        let fixture = try await RegistryFixture()
        try await fixture.register("one")
        try await fixture.register("two")
        try await fixture.move(1, .staging, .canary, .production)
        let whenOne = fixture.clock.now()
        #expect(try await fixture.registry.champion(of: fixture.model)?.number == 1)
        try await fixture.move(2, .staging, .canary, .production)
        #expect(try await fixture.registry.champion(of: fixture.model)?.number == 2)
        #expect(try await fixture.registry.stages(of: fixture.model) == [1: .archived, 2: .production])

        let then = try await fixture.registry.live(fixture.model, at: whenOne)
        #expect(then.champion == 1)
        #expect(then.stages == [1: .production], "version 2 saw no traffic")
        #expect(try await fixture.registry.live(fixture.model, at: EventTime(milliseconds: 0)).stages.isEmpty)

        let last = fixture.events.suffix(2)
        #expect(last.map(\.kind) == ["model.stage.changed", "model.stage.changed"])
        #expect(last.map { $0.details["to"]?.stringValue } == ["production", "archived"])
    }

    @Test func everyStepKeepsActorReasonAndEvidence() async throws {
        let fixture = try await RegistryFixture()
        try await fixture.register("one")
        let gates = [
            GateResult(gate: "auc on test ≥ 0.65", passed: true, observed: 0.7, detail: "0.7 is within bounds")
        ]
        let steps = try await fixture.registry.transition(
            fixture.model, 1, to: .staging, actor: "grace", reason: "looks good", gates: gates, details: ["note": "x"])
        let stored = try await fixture.registry.transitions(of: fixture.model, version: 1)
        #expect(stored.suffix(1) == steps[...])
        #expect(stored.map(\.from) == [nil, .development])
        #expect(steps[0].actor == "grace" && steps[0].reason == "looks good")
        let evidence = try await fixture.registry.evidence(of: steps[0])
        #expect(try evidence["gates"]?.decoded(as: [GateResult].self) == gates)
        #expect(evidence["details"]?["note"]?.stringValue == "x")
        #expect(evidence["version"]?.integerValue == 1)
    }

    @Test func aFailedGateStopsTheStepAndSaysWhich() async throws {
        let fixture = try await RegistryFixture()
        try await fixture.register("one")
        let error = await refusal {
            try await fixture.registry.transition(
                fixture.model, 1, to: .staging, actor: "ada", reason: "try",
                gates: [
                    GateResult(gate: "signature present", passed: true, observed: nil, detail: "yes"),
                    GateResult(gate: "auc on test ≥ 0.65", passed: false, observed: 0.6, detail: "0.6 is below 0.65"),
                ])
        }
        #expect(error?.code == .refused)
        #expect(error?.message == "1 of 2 gates for staging failed: auc on test ≥ 0.65 (0.6 is below 0.65)")
        #expect(try await fixture.registry.stage(of: fixture.model, 1) == .development)
    }

    @Test func onlyTheKnownStepsAreAllowed() {
        let allowed: [ModelStage: Set<ModelStage>] = [
            .development: [.staging, .archived], .staging: [.canary, .archived],
            .canary: [.production, .staging, .archived], .production: [.archived], .archived: [.staging],
        ]
        for from in ModelStage.allCases {
            for to in ModelStage.allCases {
                #expect(ModelVersionRegistry.allows(from: from, to: to) == (allowed[from]?.contains(to) ?? false))
            }
        }
    }

    @Test func aStepOutOfOrderIsRefusedWithTheWayOut() async throws {
        let fixture = try await RegistryFixture()
        try await fixture.register("one")
        let error = await refusal {
            try await fixture.registry.transition(
                fixture.model, 1, to: .production, actor: "ada", reason: "hurry", gates: [])
        }
        #expect(error?.code == .refused)
        #expect(
            error?.message
                == "a version cannot go from development to production; from development it can go to staging or archived"
        )
        let again = await refusal {
            try await fixture.registry.transition(
                fixture.model, 1, to: .development, actor: "ada", reason: "hurry", gates: [])
        }
        #expect(again?.message == "the version is in development already")
        let silent = await refusal {
            try await fixture.registry.transition(fixture.model, 1, to: .staging, actor: "ada", reason: " ", gates: [])
        }
        #expect(silent?.code == .invalidInput)
    }

    @Test func ofTwoWhoSawTheSameStageOneWins() async throws {
        let fixture = try await RegistryFixture()
        try await fixture.register("one")
        try await fixture.move(1, .staging)
        let outcomes = await withTaskGroup(of: PlatformError.Code?.self) { group in
            for stage in [ModelStage.canary, .archived] {
                group.addTask {
                    do {
                        try await fixture.registry.transition(
                            fixture.model, 1, to: stage, actor: "x", reason: "race", gates: [], expected: .staging)
                        return nil
                    } catch { return (error as? PlatformError)?.code }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(outcomes.filter { $0 == nil }.count == 1)
        #expect(outcomes.filter { $0 == .conflict }.count == 1)
    }

    @Test func aClockThatStandsStillKeepsTheOrder() async throws {
        let fixture = try await RegistryFixture()
        try await fixture.register("one")
        for stage in [ModelStage.staging, .canary, .staging, .archived] {
            try await fixture.registry.transition(
                fixture.model, 1, to: stage, actor: "ada", reason: "x", gates: [])
        }
        let steps = try await fixture.registry.transitions(of: fixture.model)
        #expect(steps.map(\.to) == [.development, .staging, .canary, .staging, .archived])
        #expect(steps.map(\.position) == [1, 2, 3, 4, 5])
        #expect(try await fixture.registry.live(fixture.model, at: fixture.clock.now()).stages.isEmpty)
        #expect(try await fixture.registry.stages(of: fixture.model) == [1: .archived])
    }
}
