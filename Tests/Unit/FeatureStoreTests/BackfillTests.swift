import Datasets
import Definitions
import FeatureStore
import PlatformCore
import StoragePorts
import Synchronization
import Testing

/// A changed view is a new version beside the old one: built from history while rows arrive, then switched to.
struct BackfillTests {
    private static let view = Name(static: "delays")
    private static let configuration = StreamEngineConfiguration(rowsAtOnceMax: 10, rowsBuiltMax: 40)

    private func held(_ definitions: DefinitionSet) throws -> HeldView {
        try #require(HeldView(Self.view, in: definitions))
    }

    /// What an engine says that reads the whole log in one go.
    private func rebuilt(_ fixture: EngineFixture, _ definitions: DefinitionSet, tail: String) async throws -> [Double]
    {
        let copy = EngineFixture(online: MemoryOnlineStore(), log: fixture.log)
        let engine = copy.engine(StreamEngineConfiguration(rowsAtOnceMax: .max))
        try await engine.update(definitions: definitions)
        return try copy.read(engine, definitions, tail: tail, second: 1000).values
    }

    @Test func theOldVersionAnswersUntilTheNewOneIsBuilt() async throws {
        let fixture = EngineFixture()
        let (before, after) = (
            try EngineFixture.definitions(), try EngineFixture.definitions(windows: ["10s", "1h"])
        )
        let (old, new) = (try held(before), try held(after))
        let engine = fixture.engine(Self.configuration)
        try await engine.update(definitions: before)
        try await fixture.send((0..<60).map { ("N1", $0, 1) }, to: engine, before)
        try await engine.update(definitions: after, keeping: [old])
        #expect(engine.versions.map(\.state).sorted { $0.rawValue < $1.rawValue } == [.backfilling, .ready])
        #expect(!engine.serves(new.versionName) && engine.serves(old.versionName))
        let moment = EventTime(milliseconds: 60_000)
        #expect(
            try await engine.onlineFeatures(view: Self.view, entities: [["tail": "N1"]], at: moment).names
                == ["n_10s", "mean_10s", "newest"])
        let refusal = #expect(throws: PlatformError.self) {
            try fixture.read(engine, after, tail: "N1", second: 60)
        }
        #expect(refusal?.code == .unavailable && refusal?.message.contains("being built from history") == true)
        #expect(try fixture.read(engine, before, tail: "N1", second: 60).values == [10, 1, 1])
        let ready = Mutex<[BackfillNews]>([])
        await engine.buildPending { news in ready.withLock { $0.append(news) } }
        #expect(ready.withLock { $0.count } == 1 && engine.serves(new.versionName))
        #expect(
            try await engine.onlineFeatures(view: Self.view, entities: [["tail": "N1"]], at: moment).names
                == ["n_10s", "mean_10s", "n_1h", "mean_1h", "newest"])
        #expect(try fixture.read(engine, after, tail: "N1", second: 60).values == [10, 1, 60, 1, 1])
        #expect(try fixture.read(engine, before, tail: "N1", second: 60).values == [10, 1, 1])
    }

    @Test(arguments: UInt64(0)..<12)
    func rowsThatArriveMeanwhileCountOnceThroughCrashes(seed: UInt64) async throws {
        let fixture = EngineFixture()
        let (before, after) = (
            try EngineFixture.definitions(), try EngineFixture.definitions(windows: ["10s", "1h"])
        )
        var random = SplitMix(state: seed)
        func rows(_ count: Int) -> [(String, Int, Double)] {
            (0..<count).map { _ in
                (
                    "N\(Int.random(in: 0..<4, using: &random))", Int.random(in: 0..<900, using: &random),
                    Double(Int.random(in: -50..<50, using: &random))
                )
            }
        }
        var engine = fixture.engine(Self.configuration)
        try await engine.update(definitions: before)
        try await fixture.send(rows(200), to: engine, before)
        try await engine.checkpoint()
        let old = try held(before)
        try await engine.update(definitions: after, keeping: [old])
        for life in 0..<4 {
            let running = engine
            let portions = (0..<6).map { _ in rows(Int.random(in: 1...30, using: &random)) }
            let crashes = life < 3
            let delay = Int.random(in: 0...6, using: &random)
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await running.buildPending() }
                group.addTask {
                    for (index, portion) in portions.enumerated() {
                        try? await fixture.send(portion, to: running, after)
                        if index == delay { try? await running.checkpoint() }
                        await Task.yield()
                    }
                }
                if crashes {
                    for _ in 0..<delay { await Task.yield() }
                    group.cancelAll()
                }
            }
            guard crashes else { break }
            engine = fixture.engine(Self.configuration)
            try await engine.update(definitions: after, keeping: [old])
        }
        await engine.buildPending()
        for tail in ["N0", "N1", "N2", "N3"] {
            for definitions in [before, after] {
                let expected = try await rebuilt(fixture, definitions, tail: tail)
                let found = try fixture.read(engine, definitions, tail: tail, second: 1000).values
                #expect(found.map(\.bitPattern) == expected.map(\.bitPattern))
            }
        }
    }

    @Test func whatNobodyUsesIsParkedAndGoesOnWhereItStood() async throws {
        let fixture = EngineFixture()
        let (before, after) = (
            try EngineFixture.definitions(), try EngineFixture.definitions(windows: ["10s", "1h"])
        )
        let old = try held(before)
        let engine = fixture.engine(Self.configuration)
        try await engine.update(definitions: before)
        try await fixture.send((0..<8).map { ("N1", $0, 1) }, to: engine, before)
        try await engine.update(definitions: after)
        #expect(engine.versions.first { $0.versionName == old.versionName }?.state == .parked)
        try await fixture.send((8..<40).map { ("N1", $0, 1) }, to: engine, after)
        try await engine.checkpoint()
        let applied = engine.statistics.rowsApplied
        try await engine.update(definitions: after, keeping: [old])
        await engine.buildPending()
        #expect(engine.statistics.rowsApplied == applied + 32)
        #expect(try fixture.read(engine, before, tail: "N1", second: 60).values[2] == 1)
        #expect(try fixture.read(engine, before, tail: "N1", second: 39).values[0] == 10)
        await #expect(throws: PlatformError.self) { try await engine.retire(old.versionName) }
        try await engine.update(definitions: after)
        try await engine.retire(old.versionName)
        #expect(!engine.versions.contains { $0.versionName == old.versionName })
        await #expect(throws: PlatformError.self) { try await engine.retire(old.versionName) }
        #expect(fixture.online.state.withLock { $0.rows[old.versionName]?.isEmpty ?? true })
        // What was retired is built again from the beginning, also by the next process.
        let next = fixture.engine(Self.configuration)
        try await next.update(definitions: after, keeping: [old])
        await next.buildPending()
        #expect(try fixture.read(next, before, tail: "N1", second: 39).values[0] == 10)
    }

    @Test func aStartThatIsCutOffGoesOnWhereItStood() async throws {
        let fixture = EngineFixture()
        let definitions = try EngineFixture.definitions(windows: ["10s", "1h"])
        let engine = fixture.engine(Self.configuration)
        try await engine.update(definitions: definitions)
        try await fixture.send((0..<8).map { ("N1", $0, 1) }, to: engine, definitions)
        try await engine.checkpoint()
        // Far behind, and cut off in the middle, twice.
        try await fixture.send((8..<300).map { ("N1", $0, 1) }, to: nil, definitions)
        var offsets: [UInt64] = []
        for limit in [UInt64(120), 220] {
            fixture.log.failsFrom.withLock { $0 = limit }
            let cut = fixture.engine(Self.configuration)
            await #expect(throws: (any Error).self) { try await cut.update(definitions: definitions) }
            let written = try await fixture.online.checkpoint(Name(static: "features.backfill"))
            offsets.append(written?.offsets.values.max() ?? 0)
        }
        #expect(offsets[0] > 70 && offsets[0] <= 120 && offsets[1] > offsets[0] + 50)
        fixture.log.failsFrom.withLock { $0 = nil }
        let last = fixture.engine(Self.configuration)
        try await last.update(definitions: definitions)
        #expect(last.statistics.rowsApplied == 300 - offsets[1], "nothing is applied that was written down")
        #expect(try fixture.read(last, definitions, tail: "N1", second: 300).values[2] == 300)
    }

    @Test func whoeverWaitsHearsWhenVersionsAnswer() async throws {
        let fixture = EngineFixture()
        let (before, after) = (
            try EngineFixture.definitions(), try EngineFixture.definitions(windows: ["10s", "1h"])
        )
        let (old, new) = (try held(before), try held(after))
        let engine = fixture.engine(Self.configuration)
        try await engine.update(definitions: before)
        try await fixture.send((0..<60).map { ("N1", $0, 1) }, to: engine, before)
        try await engine.update(definitions: after, keeping: [old])
        #expect(engine.backfillCount == 1)
        let names = [old.versionName, new.versionName]
        #expect(try await engine.waitUntilServed(names, timeout: .milliseconds(20)) == [new.versionName])
        let missing = try await withThrowingTaskGroup(of: [Name]?.self) { group in
            for _ in 0..<3 { group.addTask { try await engine.waitUntilServed(names, timeout: .seconds(60)) } }
            group.addTask {
                await engine.buildPending()
                return nil
            }
            return try await group.reduce(into: []) { $0 += $1 ?? [] }
        }
        #expect(missing.isEmpty && engine.backfillCount == 0)
        // What is neither served nor built is not waited for.
        let unknown = Name(static: "nothing.v00000000")
        #expect(try await engine.waitUntilServed([unknown], timeout: .seconds(60)) == [unknown])
    }

    @Test func anOldVersionReadsItsRowsAsItsSourceWasThen() async throws {
        let fixture = EngineFixture()
        let (before, after) = (try EngineFixture.definitions(), try EngineFixture.definitions(scale: 0))
        let old = try held(before)
        let engine = fixture.engine(Self.configuration)
        try await engine.update(definitions: before)
        try await fixture.send([("N1", 1, 0.25)], to: engine, before)
        try await engine.update(definitions: after, keeping: [old])
        try await fixture.send([("N1", 2, 0.5)], to: engine, after)
        #expect(try fixture.read(engine, before, tail: "N1", second: 3).values == [2, 0.375, 0.5])
        #expect(try fixture.read(engine, after, tail: "N1", second: 3).values == [2, 0.5, 0.5])
    }

    @Test func aBuildThatFailsIsTriedAgain() async throws {
        let fixture = EngineFixture()
        let engine = fixture.engine(Self.configuration)
        try await fixture.send((0..<80).map { ("N1", $0, 1) }, to: nil, try EngineFixture.definitions())
        let definitions = try EngineFixture.definitions()
        try await engine.update(definitions: definitions)
        fixture.online.state.withLock { $0.failsWrites = true }
        let failures = Mutex(0)
        await engine.buildPending { news in
            if case .failed = news { failures.withLock { $0 += 1 } }
            fixture.online.state.withLock { $0.failsWrites = false }
        }
        #expect(failures.withLock { $0 } == 1)
        #expect(try fixture.read(engine, definitions, tail: "N1", second: 80).values[0] == 10)
    }
}

private struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
