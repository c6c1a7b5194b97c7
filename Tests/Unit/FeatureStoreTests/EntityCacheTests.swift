import Datasets
import Definitions
import FeatureStore
import PlatformCore
import StoragePorts
import Synchronization
import Testing

/// Remembered answers: never older than promised, never of another version, never from before an acknowledged row.
struct EntityCacheTests {
    static let delays = Name(static: "delays")

    static func definitions(staleness: String? = "5s", windows: [String] = ["10s"], ttl: String? = nil) throws
        -> DefinitionSet
    {
        let features = windows.map { "  - {name: n_\($0), aggregate: count, window: \($0)}" }.joined(separator: "\n")
        return try DefinitionCompiler.compile([
            DefinitionFile(
                path: "test.yaml", folder: "/",
                text: """
                    kind: Entity
                    name: plane
                    keys: [tail]
                    ---
                    kind: Source
                    name: departures
                    event_time: departed
                    key: [tail]
                    schema:
                      - {name: departed, type: timestamp}
                      - {name: tail, type: string}
                      - {name: delay, type: float64, scale: 2}
                    ---
                    kind: FeatureView
                    name: delays
                    entities: [plane]
                    source: departures
                    \(staleness.map { "max_staleness: \($0)" } ?? "")
                    \(ttl.map { "ttl: \($0)" } ?? "")
                    features:
                    \(features)
                      - {name: newest, aggregate: last, column: delay}
                    ---
                    kind: FeatureService
                    name: flights
                    request:
                      - {name: distance, type: number, range: [0, ~]}
                      - {name: kind, type: category, values: [day, night]}
                    views: [{view: delays, features: [newest]}]
                    on_demand:
                      - {name: per_mile, expression: "delays__newest / distance"}
                      - {name: at_night, expression: "if(kind = 'night', 1, 0)"}
                    """)
        ])
    }

    struct Served: Equatable {
        let values: [CellValue]
        let staleness: Int64
        init(_ values: [CellValue], _ staleness: Int64) {
            self.values = values
            self.staleness = staleness
        }
    }

    final class BackwardClock: PlatformClock {
        let milliseconds = Mutex<Int64>(0)
        func now() -> EventTime { EventTime(milliseconds: milliseconds.withLock { $0 }) }
    }

    final class Bench {
        let fixture = EngineFixture()
        let clock = ManualClock(startingAt: EventTime(milliseconds: 0))
        let engine: StreamEngine

        init(_ configuration: StreamEngineConfiguration = StreamEngineConfiguration()) {
            engine = StreamEngine(
                online: fixture.online, log: fixture.log, clock: clock, configuration: configuration,
                decode: EngineFixture.decode)
        }

        func at(_ milliseconds: Int64) { clock.advance(to: EventTime(milliseconds: milliseconds)) }

        func ask(_ tail: String = "N1") throws -> Served {
            let answer = try engine.online(EntityCacheTests.delays, OnlineRequest(entities: [["tail": tail]]))
            return Served(answer.entities[0].values, answer.entities[0].staleness[0])
        }

        var cache: EntityCacheStatistics { engine.statistics.cache }
    }

    @Test func anAnswerIsRememberedForAsLongAsTheViewSaysAndNoLonger() async throws {
        let (bench, definitions) = (Bench(), try Self.definitions())
        try await bench.engine.recover(definitions: definitions)
        try await bench.fixture.send([("N1", 1, 7)], to: bench.engine, definitions)
        bench.at(8_000)
        #expect(try bench.ask() == Served([.integer(1), .double(7)], 0))
        bench.at(13_000)  // the event has left the window; the answer is exactly as old as allowed
        #expect(try bench.ask() == Served([.integer(1), .double(7)], 5_000))
        bench.at(13_001)
        #expect(try bench.ask() == Served([.integer(0), .double(7)], 0))
        #expect(bench.cache.hits == 1)
        #expect(bench.cache.misses == 2)
    }

    @Test func aRowForgetsTheAnswerOfItsEntityAlone() async throws {
        let (bench, definitions) = (Bench(), try Self.definitions())
        try await bench.engine.recover(definitions: definitions)
        try await bench.fixture.send([("N1", 1, 7), ("N2", 1, 8)], to: bench.engine, definitions)
        bench.at(3_000)
        _ = try bench.ask("N1")
        _ = try bench.ask("N2")
        try await bench.fixture.send([("N1", 2, 9)], to: bench.engine, definitions)
        #expect(try bench.ask("N1").values == [.integer(2), .double(9)])
        bench.at(4_000)
        #expect(try bench.ask("N2") == Served([.integer(1), .double(8)], 1_000))
        #expect(bench.cache.invalidations == 1)
    }

    @Test func anAnswerOfTheMillisecondOfARowIsNotKept() async throws {
        let (bench, definitions) = (Bench(), try Self.definitions())
        try await bench.engine.recover(definitions: definitions)
        bench.at(1_000)
        try await bench.fixture.send([("N1", 1, 7)], to: bench.engine, definitions)
        #expect(try bench.ask().values == [.integer(0), .null])
        bench.at(1_001)
        #expect(try bench.ask().values == [.integer(1), .double(7)])
    }

    @Test func aClockThatGoesBackFindsNothing() async throws {
        let definitions = try Self.definitions()
        let fixture = EngineFixture()
        let clock = BackwardClock()
        let engine = StreamEngine(online: fixture.online, log: fixture.log, clock: clock, decode: EngineFixture.decode)
        try await engine.recover(definitions: definitions)
        try await fixture.send([("N1", 1, 7)], to: engine, definitions)
        clock.milliseconds.withLock { $0 = 10_000 }
        _ = try engine.online(Self.delays, OnlineRequest(entities: [["tail": "N1"]]))
        clock.milliseconds.withLock { $0 = 9_000 }
        _ = try engine.online(Self.delays, OnlineRequest(entities: [["tail": "N1"]]))
        #expect(engine.statistics.cache.hits == 0)
    }

    @Test func anAnswerThatHasOutlivedItsTimeToLiveIsComputedAgain() async throws {
        let (bench, definitions) = (Bench(), try Self.definitions(ttl: "4s"))
        try await bench.engine.recover(definitions: definitions)
        try await bench.fixture.send([("N1", 1, 7)], to: bench.engine, definitions)
        bench.at(4_000)
        #expect(try bench.ask().values == [.integer(1), .double(7)])
        bench.at(5_001)
        #expect(try bench.ask().values == [.null, .null])
    }

    @Test func anotherVersionOfAViewFindsNothingOfTheOneBefore() async throws {
        let bench = Bench()
        let before = try Self.definitions()
        try await bench.engine.recover(definitions: before)
        try await bench.fixture.send([("N1", 1, 7)], to: bench.engine, before)
        bench.at(3_000)
        _ = try bench.ask()
        try await bench.engine.update(definitions: try Self.definitions(windows: ["10s", "1s"]))
        #expect(try bench.ask() == Served([.integer(1), .integer(0), .double(7)], 0))
        // Back again: the state may be that of before, and what was remembered of it is still true, or is gone.
        try await bench.engine.update(definitions: before)
        #expect(try bench.ask().values == [.integer(1), .double(7)])
    }

    @Test func switchedOffAndOnAgainNothingIsFoundThatMissedARow() async throws {
        let (bench, definitions) = (Bench(), try Self.definitions())
        try await bench.engine.recover(definitions: definitions)
        try await bench.fixture.send([("N1", 1, 7)], to: bench.engine, definitions)
        bench.at(3_000)
        _ = try bench.ask()
        try await bench.engine.update(definitions: try Self.definitions(staleness: nil))
        try await bench.fixture.send([("N1", 2, 9)], to: bench.engine, definitions)
        #expect(try bench.ask().staleness == 0)
        try await bench.engine.update(definitions: definitions)
        #expect(try bench.ask() == Served([.integer(2), .double(9)], 0))
    }

    @Test func theConfigurationSpeaksForViewsThatDoNotAndTheRoomIsBounded() async throws {
        var configuration = StreamEngineConfiguration()
        configuration.maxStaleness = .seconds(30)
        configuration.cachedEntityCountMax = 10
        let (bench, definitions) = (Bench(configuration), try Self.definitions(staleness: nil))
        try await bench.engine.recover(definitions: definitions)
        try await bench.fixture.send((0..<40).map { ("N\($0)", 1, 7) }, to: bench.engine, definitions)
        bench.at(3_000)
        for index in 0..<40 { _ = try bench.ask("N\(index)") }
        #expect(bench.cache.entities == 10)
        #expect(bench.cache.evictions == 30)
        for index in (30..<40).reversed() { _ = try bench.ask("N\(index)") }
        #expect(bench.cache.hits == 10)
    }

    /// Random rows, questions and moments: what is served was true at some moment not longer ago than allowed, and knows
    /// every row that was acknowledged before.
    @Test(arguments: UInt64(0)..<6)
    func whatIsServedWasTrueNotLongAgo(seed: UInt64) async throws {
        var configuration = StreamEngineConfiguration()
        configuration.cachedEntityCountMax = 6
        let (bench, definitions) = (Bench(configuration), try Self.definitions(staleness: "3s"))
        try await bench.engine.recover(definitions: definitions)
        var random = SplitMixer(state: seed)
        var now: Int64 = 0
        for step in 0..<400 {
            let tail = "N\(random.next() % 9)"
            if random.next() % 3 == 0 {
                now = (now / 1000 + 1) * 1000
                bench.at(now)
                try await bench.fixture.send([(tail, Int(now / 1000), Double(step))], to: bench.engine, definitions)
            }
            now += Int64(random.next() % 900)
            bench.at(now)
            let served = try bench.engine.online(Self.delays, OnlineRequest(entities: [["tail": tail]])).entities[0]
            let staleness = served.staleness[0]
            #expect(0...3_000 ~= staleness)
            let moment = EventTime(milliseconds: now - staleness)
            let computed = try bench.engine.online(
                Self.delays, OnlineRequest(entities: [["tail": tail]], time: moment)
            ).entities[0]
            #expect(served.values == computed.values && served.statuses == computed.statuses)
        }
        #expect(bench.cache.hits > 20 && bench.cache.evictions > 0 && bench.cache.invalidations > 0)
    }

    // MARK: On demand

    @Test func aServiceComputesItsOnDemandFeatures() async throws {
        let (bench, definitions) = (Bench(), try Self.definitions())
        try await bench.engine.recover(definitions: definitions)
        try await bench.fixture.send([("N1", 1, 7)], to: bench.engine, definitions)
        bench.at(3_000)
        let flights = Name(static: "flights")
        let request: [[String: CellValue]] = [["distance": .double(2), "kind": .text("night")], [:]]
        let answer = try bench.engine.online(
            flights, OnlineRequest(entities: [["tail": "N1"], ["tail": "N1"]], request: request))
        #expect(answer.names == ["delays__newest", "per_mile", "at_night"])
        #expect(answer.entities[0].values == [.double(7), .double(3.5), .integer(1)])
        #expect(answer.entities[1].values == [.double(7), .null, .integer(0)])
        #expect(answer.entities[1].statuses == [.present, .nullValue, .present])
        for wrong: [String: CellValue] in [
            ["distance": .text("far")], ["distance": .double(-1)], ["kind": .text("dusk")], ["distanc": .double(1)],
        ] {
            #expect(throws: PlatformError.self) {
                try bench.engine.online(flights, OnlineRequest(entities: [["tail": "N1"]], request: [wrong]))
            }
        }
    }
}

private struct SplitMixer {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
