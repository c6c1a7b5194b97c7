import Definitions
import ModelRegistry
import PlatformCore
import Statistics
import StoragePorts
import Testing

@Suite struct ApprovalTests {
    private func examine(
        _ fixture: RegistryFixture, auc: Double = 0.7, latency: Double = 1, approvals: [Int] = [1]
    ) async throws -> GateExamination {
        fixture.tick()
        return try await fixture.registry.examine(
            fixture.model, 1, for: .production,
            gates: [
                GateResult(gate: "auc", passed: true, observed: auc, detail: "fine"),
                GateResult(gate: "latency", passed: true, observed: latency, detail: "\(latency) ms", isMeasured: true),
            ], approvalsMin: approvals, facts: .null, actor: "gate keeper")
    }

    private func approve(
        _ fixture: RegistryFixture, _ actor: String, seal: ContentHash? = nil, _ verdict: Approval.Verdict = .approve
    ) async throws {
        fixture.tick()
        try await fixture.registry.approve(
            fixture.model, 1, for: .production, seal: seal, verdict: verdict, actor: actor, reason: "looked at it")
    }

    private func code(_ body: () async throws -> Void) async -> PlatformError.Code? {
        do {
            try await body()
            return nil
        } catch { return (error as? PlatformError)?.code }
    }

    @Test func nobodyApprovesWhatWasNeverAskedAndNoAuthorHisOwn() async throws {
        let fixture = try await RegistryFixture()
        try await fixture.register("one")
        #expect(await code { try await approve(fixture, "grace") } == .notFound)
        #expect(try await !examine(fixture).isPassed)
        #expect(await code { try await approve(fixture, "ada") } == .refused)
        try await approve(fixture, "grace")
        #expect(try await examine(fixture).isPassed)
    }

    @Test func twoApprovalsAreTwoPeople() async throws {
        let fixture = try await RegistryFixture()
        try await fixture.register("one")
        _ = try await examine(fixture, approvals: [2])
        try await approve(fixture, "grace")
        try await approve(fixture, "grace")
        #expect(try await !examine(fixture, approvals: [2]).isPassed)
        try await approve(fixture, "linus")
        #expect(try await examine(fixture, approvals: [2]).isPassed)
    }

    @Test func anApprovalFallsWithItsEvidenceButNotWithAMeasuredTime() async throws {
        let fixture = try await RegistryFixture()
        try await fixture.register("one")
        let seen = try await examine(fixture)
        try await approve(fixture, "grace", seal: seen.seal)
        #expect(try await examine(fixture, latency: 1.2).isPassed, "another measurement is the same evidence")
        let changed = try await examine(fixture, auc: 0.71)
        #expect(!changed.isPassed)
        #expect(changed.gates.last?.detail.contains("grace approved other evidence") == true)
        #expect(await code { try await approve(fixture, "linus", seal: seen.seal) } == .conflict)
        try await approve(fixture, "linus", seal: changed.seal)
        #expect(try await examine(fixture, auc: 0.71).isPassed)
    }

    @Test func anObjectionRefusesUntilItIsTakenBack() async throws {
        let fixture = try await RegistryFixture()
        try await fixture.register("one")
        _ = try await examine(fixture)
        try await approve(fixture, "grace")
        try await approve(fixture, "linus", .object)
        #expect(try await !examine(fixture).isPassed)
        try await approve(fixture, "linus")
        #expect(try await examine(fixture).isPassed)
    }

    @Test func theSameAnswerIsKeptOnce() async throws {
        let fixture = try await RegistryFixture()
        try await fixture.register("one")
        let first = try await examine(fixture)
        let second = try await examine(fixture)
        #expect(first.evidence == second.evidence)
        let rows = try await fixture.store.read { try $0.query("SELECT * FROM model_examinations") }
        #expect(rows.count == 1)
    }

    @Test func callersNoticeWhatIsDemandedOrTakenAway() {
        func signature(_ fields: [SignatureField]) -> ModelSignature {
            ModelSignature(inputs: fields, outputs: [SignatureField(name: "y", kind: .number)])
        }
        let old = signature([
            SignatureField(name: "a", kind: .number, minimum: 0, maximum: 10),
            SignatureField(name: "c", kind: .category, categories: ["x", "y"]),
        ])
        #expect(old.breaks(callersOf: old).isEmpty)
        let wider = signature([
            SignatureField(name: "a", kind: .number),
            SignatureField(name: "c", kind: .category, categories: ["x", "y", "z"]),
            SignatureField(name: "new", kind: .number),
        ])
        #expect(wider.breaks(callersOf: old).isEmpty)
        #expect(old.breaks(callersOf: wider).count == 3, "less range on both sides and a category less")
        let demanding = signature([SignatureField(name: "b", kind: .number, isNullable: false)])
        #expect(demanding.breaks(callersOf: old) == ["'b' is demanded and was not before"])
    }

    @Test func newGatesJudgeTheirEvidenceAndFailWithout() {
        let better = GateDefinition.betterThanChampion(.auc, slice: "test", margin: 0.01, confidence: 0.95)
        let groups = GateDefinition.perGroup(
            .auc, slice: "test", column: "carrier", rowsMin: 10, minimum: 0.6, maximum: nil)
        let fair = GateDefinition.fairness(
            "equal_opportunity_difference", slice: "test", column: "sex", threshold: 0.5, minimum: nil, maximum: 0.1)
        let gates: [GateDefinition] = [
            better, groups, fair, .memory(byteCountMax: 100), .datasetAge(max: .days(2)), .noLeakage,
            .signatureCompatible,
        ]
        var evidence = VersionEvidence(
            metrics: [:], championMetrics: nil, rows: [:], hasSignature: true, latencyP99Milliseconds: nil)
        evidence.hasCallers = true
        #expect(GateEvaluator.evaluate(gates, on: evidence).allSatisfy { !$0.passed }, "no evidence, no pass")
        evidence.differences[better] = ConfidenceInterval(estimate: 0.03, lower: 0.02, upper: 0.04, confidence: 0.95)
        evidence.groups[groups] = [
            GroupEvidence(value: "AA", rows: 50, observed: 0.7), GroupEvidence(value: "UA", rows: 3, observed: 0.1),
        ]
        evidence.fairness[fair] = ConfidenceInterval(estimate: 0.05, lower: 0.01, upper: 0.2, confidence: 0.95)
        evidence.memoryByteCount = 99
        evidence.datasetAgeMilliseconds = 86_400_000
        evidence.leaks = LeakEvidence(count: 0, example: nil)
        evidence.breaks = []
        #expect(GateEvaluator.evaluate(gates, on: evidence).allSatisfy(\.passed))
        evidence.differences[better] = ConfidenceInterval(estimate: 0.03, lower: 0.005, upper: 0.05, confidence: 0.95)
        evidence.groups[groups]?.append(GroupEvidence(value: "DL", rows: 20, observed: nil))
        evidence.fairness[fair] = ConfidenceInterval(estimate: 0.15, lower: 0.01, upper: 0.2, confidence: 0.95)
        evidence.memoryByteCount = 101
        evidence.datasetAgeMilliseconds = 3 * 86_400_000
        evidence.leaks = LeakEvidence(count: 1, example: "x")
        evidence.breaks = ["'b' is demanded"]
        #expect(GateEvaluator.evaluate(gates, on: evidence).allSatisfy { !$0.passed })
    }
}

@Suite struct LongHistoryTests {
    @Test func whatWasLiveIsTheSameWithAndWithoutSnapshots() async throws {
        let fixture = try await RegistryFixture()
        for index in 0..<4 { try await fixture.register("v\(index)") }
        var expected: [(EventTime, [Int: ModelStage])] = []
        var stages: [Int: ModelStage] = [:]
        for turn in 0..<600 {
            let number = turn % 4 + 1
            let next: ModelStage =
                switch stages[number] ?? .development {
                case .development, .archived: .staging
                case .staging: turn % 3 == 0 ? .archived : .canary
                case .canary: turn % 5 == 0 ? .archived : .staging
                case .production: .archived
                }
            try await fixture.move(number, next)
            stages[number] = next
            expected.append((fixture.clock.now(), stages.filter { $0.value != .archived }))
        }
        let snapshots = try await fixture.store.read { try $0.query("SELECT * FROM model_stage_snapshots") }
        #expect(snapshots.count == 2)
        for (time, stages) in expected {
            #expect(try await fixture.registry.live(fixture.model, at: time).stages == stages)
        }
    }
}
