import Datasets
import Definitions
import FeatureStore
import PlatformCore
import StoragePorts
import Synchronization
import Testing

/// One platform of in-memory stores; engines come and go over it as processes do.
struct EngineFixture {
    var online = MemoryOnlineStore()
    var log = MemoryEventLog()
    static let source = Name(static: "departures")

    static func definitions(
        windows: [String] = ["10s"], extraColumn: Bool = false, scale: Int = 6, countsValues: Bool = false
    ) throws -> DefinitionSet {
        let features = windows.map {
            """
              - {name: n_\($0), aggregate: count, window: \($0)}
              - {name: mean_\($0), aggregate: mean, column: delay, window: \($0)}
            """
                + (countsValues ? "\n  - {name: d_\($0), aggregate: distinct_count, column: delay, window: \($0)}" : "")
        }.joined(separator: "\n")
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
                      \(extraColumn ? "- {name: gate, type: string}" : "- {name: spare, type: float64}")
                      - {name: departed, type: timestamp}
                      \(extraColumn ? "- {name: spare, type: float64}" : "")
                      - {name: tail, type: string}
                      - {name: delay, type: float64, scale: \(scale)}
                    ---
                    kind: FeatureView
                    name: delays
                    entities: [plane]
                    source: departures
                    features:
                    \(features)
                      - {name: newest, aggregate: last, column: delay}
                    ---
                    kind: FeatureService
                    name: flights
                    request:
                      - {name: distance, type: number}
                    views: [delays]
                    """)
        ])
    }

    /// Records hold `tail second delay`; the cells follow the definition's columns.
    static let decode: SourceRowDecoder = { record, source in
        let parts = String(decoding: record.value, as: UTF8.self).split(separator: " ")
        guard parts.count == 3, let second = Int64(parts[1]), let delay = Double(parts[2]) else { return nil }
        let cells = source.columns.map { column -> CellValue in
            switch column.name {
            case "departed": .integer(second * 1000)
            case "tail": .text(String(parts[0]))
            case "delay": .double(delay)
            default: .null
            }
        }
        let time = EventTime(milliseconds: second * 1000)
        return SourceRow(eventTime: time, ingestTime: time, cells: cells)
    }

    func engine(_ configuration: StreamEngineConfiguration = StreamEngineConfiguration()) -> StreamEngine {
        StreamEngine(
            online: online, log: log, clock: ManualClock(startingAt: EventTime(milliseconds: 0)),
            configuration: configuration, decode: Self.decode)
    }

    /// Appends rows to the log and gives them to the engine, as ingestion does.
    func send(_ rows: [(String, Int, Double)], to engine: StreamEngine?, _ definitions: DefinitionSet) async throws {
        let records = rows.map {
            LogRecord(time: EventTime(milliseconds: 0), value: Array("\($0.0) \($0.1) \($0.2)".utf8))
        }
        let first = try await log.append(records, to: PlatformTopic.source(Self.source))
        guard let engine, let source = definitions.sources[Self.source] else { return }
        await engine.received(
            SourceBatch(source: Self.source, firstOffset: first, rows: records.compactMap { Self.decode($0, source) }))
    }

    func read(_ engine: StreamEngine, _ definitions: DefinitionSet, tail: String?, second: Int64) throws
        -> (values: [Double], ages: [Int64], statuses: [FeatureStatus?])
    {
        guard let service = definitions.featureServices[Name(static: "flights")] else { preconditionFailure("defined") }
        let plan = ServingPlan(service: service, definitions: definitions)
        var values = [Double](repeating: -7, count: plan.featureCount)
        var ages = [Int64](repeating: -7, count: plan.featureCount)
        var statuses = [UInt8](repeating: 99, count: plan.featureCount)
        try values.withUnsafeMutableBufferPointer { values in
            try ages.withUnsafeMutableBufferPointer { ages in
                try statuses.withUnsafeMutableBufferPointer { statuses in
                    try engine.read(
                        plan, keys: [tail], at: EventTime(milliseconds: second * 1000), into: values, ages: ages,
                        statuses: statuses)
                }
            }
        }
        return (values, ages, statuses.map(FeatureStatus.init(rawValue:)))
    }
}

struct StreamEngineTests {
    @Test
    func acknowledgedRowsAreVisibleToReads() async throws {
        let fixture = EngineFixture()
        let definitions = try EngineFixture.definitions()
        let engine = fixture.engine()
        try await engine.update(definitions: definitions)
        try await fixture.send([("N1", 1, 10), ("N1", 2, 20), ("N2", 3, 5)], to: engine, definitions)
        let known = try fixture.read(engine, definitions, tail: "N1", second: 5)
        #expect(known.values == [2, 15, 20])
        #expect(known.ages == [3000, 3000, 3000])
        #expect(known.statuses == [.present, .present, .present])
        let old = try fixture.read(engine, definitions, tail: "N1", second: 60)
        #expect(old.values[0] == 0 && old.values[1].isNaN && old.values[2] == 20)
        #expect(old.statuses == [.present, .nullValue, .present])
        for stranger in ["N9", nil] {
            let none = try fixture.read(engine, definitions, tail: stranger, second: 5)
            #expect(none.values[0] == 0 && none.values[1].isNaN && none.ages[0] == -1)
            #expect(none.statuses == [.notFound, .notFound, .notFound])
        }
        let answer = try await engine.onlineFeatures(
            view: Name(static: "delays"), entities: [["tail": "N2"], [:]], at: EventTime(milliseconds: 5000))
        #expect(answer.names == ["n_10s", "mean_10s", "newest"])
        #expect(answer.entities[0].values == [.integer(1), .double(5), .double(5)])
        #expect(answer.entities[0].eventTimes[0] == EventTime(milliseconds: 3000))
        #expect(answer.entities[1].statuses == [.notFound, .notFound, .notFound])
        await #expect(throws: PlatformError.self) {
            try await engine.onlineFeatures(view: Name(static: "delays"), entities: [["tial": "N2"]])
        }
    }

    @Test
    func rowsCountOnceHoweverOftenAndInWhateverPortionsTheyCome() async throws {
        let fixture = EngineFixture()
        let definitions = try EngineFixture.definitions()
        let engine = fixture.engine()
        try await engine.update(definitions: definitions)
        // Rows that the engine was not told of are read from the log when later ones come.
        try await fixture.send((0..<20).map { ("N1", $0 % 5, 1) }, to: nil, definitions)
        try await fixture.send([("N1", 5, 1)], to: engine, definitions)
        #expect(try fixture.read(engine, definitions, tail: "N1", second: 6).values[0] == 21)
        let source = try #require(definitions.sources[EngineFixture.source])
        let again = try await fixture.log.read(PlatformTopic.source(source.name), from: 0)
        await engine.received(
            SourceBatch(
                source: source.name, firstOffset: 0, rows: again.compactMap { EngineFixture.decode($0.record, source) })
        )
        #expect(try fixture.read(engine, definitions, tail: "N1", second: 6).values[0] == 21)
        #expect(engine.statistics.rowsApplied == 21)
        // One when it was caught up from the log before its own batch, seven in the repeated portion.
        #expect(engine.statistics.rowsSeenBefore == 8)
    }

    @Test(arguments: 0..<12)
    func aCrashAtAnyMomentLosesAndDoublesNothing(lives: Int) async throws {
        let fixture = EngineFixture()
        let definitions = try EngineFixture.definitions(windows: ["10s", "1h"])
        var sent: [(String, Int, Double)] = []
        var random = SystemRandomNumberGenerator()
        for life in 0...lives {
            let engine = fixture.engine()
            try await engine.recover(definitions: definitions)
            for portion in 0..<3 {
                let rows = (0..<Int.random(in: 1...9, using: &random)).map { _ in
                    ("N\(Int.random(in: 0..<3, using: &random))", Int.random(in: 0..<50, using: &random), 2.0)
                }
                sent += rows
                try await fixture.send(rows, to: portion == 2 && life % 2 == 0 ? nil : engine, definitions)
                if Bool.random(using: &random) {
                    let fails = life % 3 == 1
                    fixture.online.state.withLock { $0.failsWrites = fails }
                    if fails {
                        await #expect(throws: StoreError.self) { try await engine.checkpoint() }
                    } else {
                        try await engine.checkpoint()
                    }
                    fixture.online.state.withLock { $0.failsWrites = false }
                }
            }
        }
        let engine = fixture.engine()
        try await engine.recover(definitions: definitions)
        for tail in ["N0", "N1", "N2"] {
            let wanted = sent.filter { $0.0 == tail }.count
            #expect(try fixture.read(engine, definitions, tail: tail, second: 60).values[2] == Double(wanted))
        }
    }

    @Test
    func aChangedViewStartsFromTheBeginningOfTheLog() async throws {
        let fixture = EngineFixture()
        let before = try EngineFixture.definitions()
        let after = try EngineFixture.definitions(windows: ["10s", "1h"])
        let engine = fixture.engine()
        try await engine.update(definitions: before)
        try await fixture.send((0..<30).map { ("N1", $0, 1) }, to: engine, before)
        try await engine.checkpoint()
        #expect(throws: PlatformError.self) { try fixture.read(engine, after, tail: "N1", second: 30) }
        async let update: Void = engine.update(definitions: after)
        try await fixture.send((30..<60).map { ("N1", $0, 1) }, to: engine, before)
        try await update
        #expect(try fixture.read(engine, after, tail: "N1", second: 60).values[2] == 60)
        try await engine.checkpoint()
        let next = fixture.engine()
        try await next.recover(definitions: after)
        #expect(try fixture.read(next, after, tail: "N1", second: 60).values[2] == 60)
        #expect(next.statistics.rowsApplied == 0)
    }

    @Test
    func columnsMayMoveUnderAViewThatMeansTheSame() async throws {
        let fixture = EngineFixture()
        let before = try EngineFixture.definitions()
        let after = try EngineFixture.definitions(extraColumn: true)
        let view = Name(static: "delays")
        #expect(before.featureViews[view]?.version == after.featureViews[view]?.version)
        let engine = fixture.engine()
        try await engine.update(definitions: before)
        try await fixture.send([("N1", 1, 10)], to: engine, before)
        try await engine.update(definitions: after)
        try await fixture.send([("N1", 2, 20)], to: engine, after)
        #expect(try fixture.read(engine, after, tail: "N1", second: 3).values == [2, 15, 20])
    }
}
