import Aggregation
import Datasets
import Definitions
import FeatureStore
import PlatformCore
import StoragePorts
import Synchronization
import Testing

/// What the engine stores: pages of long series, and the same bytes whenever and however often it was started.
struct StreamStateTests {
    /// Rows of a few entities, some of them long: late by up to days, repeated, tied, from the far future.
    struct Arrival {
        let tail: String
        let event: Int64
        let delay: Double
        let arrival: Int64

        var record: LogRecord {
            LogRecord(
                time: EventTime(milliseconds: arrival), value: Array("\(tail) \(event) \(delay) \(arrival)".utf8))
        }
    }

    static let start: Int64 = 1_372_636_800_000

    static func arrivals(_ count: Int, _ random: inout some RandomNumberGenerator) -> [Arrival] {
        var all: [Arrival] = []
        for index in 0..<count {
            let arrival = start + Int64(index) * 5_000
            let late: Int64 =
                switch Int.random(in: 0..<40, using: &random) {
                case 0..<24: 0
                case 24..<32: Int64.random(in: 0...30_000, using: &random)
                case 32..<37: Int64.random(in: 0...3_600_000, using: &random)
                case 37: Int64.random(in: 0...300_000_000, using: &random)
                case 38: -Int64.random(in: 0...60_000, using: &random)
                default: -300_000_000_000
                }
            let tail = Int.random(in: 0..<4, using: &random) == 0 ? "N\(Int.random(in: 1..<9, using: &random))" : "N0"
            let delay = Double(Int.random(in: -90...900, using: &random)) / 10
            all.append(Arrival(tail: tail, event: arrival - late, delay: delay, arrival: arrival))
            if index % 11 == 10 {
                let again = all[Int.random(in: 0..<all.count, using: &random)]
                all.append(Arrival(tail: again.tail, event: again.event, delay: again.delay, arrival: arrival))
            }
        }
        return all
    }

    static let decode: SourceRowDecoder = { record, source in
        let parts = String(decoding: record.value, as: UTF8.self).split(separator: " ")
        guard parts.count == 4, let event = Int64(parts[1]), let delay = Double(parts[2]), let known = Int64(parts[3])
        else { return nil }
        let cells = source.columns.map { column -> CellValue in
            switch column.name {
            case "departed": .integer(event)
            case "tail": .text(String(parts[0]))
            case "delay": .double(delay)
            default: .null
            }
        }
        return SourceRow(
            eventTime: EventTime(milliseconds: event), ingestTime: EventTime(milliseconds: known), cells: cells)
    }

    /// Stores and a log that outlive the engines over them.
    struct World {
        var online = MemoryOnlineStore()
        let log: MemoryEventLog
        let definitions: DefinitionSet
        var sizes = SeriesSizes(chunk: 4, group: 2)
        var entityCountMax = 0

        func engine() async throws -> StreamEngine {
            let engine = StreamEngine(
                online: online, log: log, clock: ManualClock(startingAt: EventTime(milliseconds: start)),
                configuration: StreamEngineConfiguration(
                    entityCountMax: entityCountMax, pastQuestions: .seconds(10), sizes: sizes),
                decode: decode)
            try await engine.recover(definitions: definitions)
            return engine
        }

        func send(_ arrivals: ArraySlice<Arrival>, to engine: StreamEngine?) async throws {
            let records = arrivals.map(\.record)
            let first = try await log.append(records, to: PlatformTopic.source(EngineFixture.source))
            guard let engine, let source = definitions.sources[EngineFixture.source] else { return }
            await engine.received(
                SourceBatch(
                    source: EngineFixture.source, firstOffset: first, rows: records.compactMap { decode($0, source) },
                    arrivals: records.map(\.time)))
            #expect(engine.failure == nil)
        }

        var rows: [Name: [EntityKey: OnlineRow]] { online.state.withLock { $0.rows } }
    }

    @Test(arguments: 0..<6)
    func stateBuiltAgainFromTheLogHasTheSameBytes(round: Int) async throws {
        var random = SystemRandomNumberGenerator()
        var world = World(
            log: MemoryEventLog(),
            definitions: try EngineFixture.definitions(windows: ["1m", "1h"], countsValues: true))
        world.entityCountMax = round % 2 == 0 ? 0 : 1_000
        let arrivals = Self.arrivals(900, &random)
        var engine = try await world.engine()
        var sent = 0
        while sent < arrivals.count {
            let end = min(arrivals.count, sent + Int.random(in: 1...60, using: &random))
            // Now and then the engine is not told, and reads the log later.
            try await world.send(arrivals[sent..<end], to: Int.random(in: 0..<6, using: &random) == 0 ? nil : engine)
            sent = end
            if Bool.random(using: &random) {  // who is asked for distinct counts remembers more than is stored
                _ = try await engine.onlineFeatures(
                    view: Name(static: "delays"), entities: (0..<9).map { ["tail": "N\($0)"] },
                    at: EventTime(milliseconds: arrivals[end - 1].arrival + 1))
            }
            switch Int.random(in: 0..<8, using: &random) {
            case 0: engine = try await world.engine()  // as after a kill: what was not written is gone
            case 1..<4: try await engine.checkpoint()
            case 4:
                world.online.state.withLock { $0.failsWrites = true }
                await #expect(throws: StoreError.self) { try await engine.checkpoint() }
                world.online.state.withLock { $0.failsWrites = false }
            default: break
            }
        }
        try await engine.update(definitions: world.definitions)
        engine = try await world.engine()
        try await engine.checkpoint()
        var again = world
        again.online = MemoryOnlineStore()
        again.entityCountMax = 1_000
        let rebuilt = try await again.engine()
        try await rebuilt.checkpoint()
        #expect(world.rows.values.reduce(0) { $0 + $1.count } > 40, "long series have pages")
        for (view, rows) in again.rows {
            #expect(Set(rows.keys) == Set((world.rows[view] ?? [:]).keys))
            for (key, row) in rows { #expect(world.rows[view]?[key] == row, "\(key)") }
        }
    }

    @Test(arguments: [SeriesSizes(chunk: 4, group: 2), SeriesSizes(chunk: 16, group: 4), SeriesSizes()])
    func pagesOutOfMemoryChangeNoAnswer(sizes: SeriesSizes) async throws {
        var random = SystemRandomNumberGenerator()
        let definitions = try EngineFixture.definitions(windows: ["1m", "20m", "1h"], countsValues: true)
        var world = World(log: MemoryEventLog(), definitions: definitions)
        world.sizes = sizes
        let view = try #require(definitions.featureViews[Name(static: "delays")])
        let source = definitions.source(of: view)
        let plan = AggregationPlan(view: view, source: source)
        let arrivals = Self.arrivals(1_500, &random)
        let engine = try await world.engine()
        var whole: [String: EventSeries] = [:]
        var sent = 0
        while sent < arrivals.count {
            let end = min(arrivals.count, sent + Int.random(in: 1...80, using: &random))
            try await world.send(arrivals[sent..<end], to: engine)
            for index in sent..<end {
                guard let row = Self.decode(arrivals[index].record, source) else { continue }
                whole[arrivals[index].tail, default: EventSeries(plan: plan)].insert(
                    eventTime: row.eventTime, ingestTime: row.ingestTime, sequence: UInt64(index), cells: row.cells,
                    plan: plan)
            }
            sent = end
            if Bool.random(using: &random) { try await engine.checkpoint() }
            let now = arrivals[end - 1].arrival
            for _ in 0..<4 {
                let time = EventTime(milliseconds: now + Int64.random(in: -9_000...4_000_000, using: &random))
                let tail = "N\(Int.random(in: 0..<9, using: &random))"
                let answer = try await engine.onlineFeatures(view: view.name, entities: [["tail": tail]], at: time)
                let wanted = (whole[tail] ?? EventSeries(plan: plan)).cells(plan, at: time)
                #expect(answer.entities[0].values == wanted.values)
            }
        }
    }

    @Test
    func stateOfAnotherFormIsBuiltAgainFromTheLog() async throws {
        let world = World(log: MemoryEventLog(), definitions: try EngineFixture.definitions())
        let engine = try await world.engine()
        var random = SystemRandomNumberGenerator()
        try await world.send(Self.arrivals(20, &random)[...], to: engine)
        try await engine.checkpoint()
        let good = world.rows
        let view = try #require(world.definitions.featureViews[Name(static: "delays")]).versionName
        // As an earlier release left it: heads of form 1, and a checkpoint that names no form.
        world.online.state.withLock { state in
            for (key, row) in state.rows[view] ?? [:] {
                state.rows[view]?[key] = OnlineRow(
                    eventTime: row.eventTime, ingestTime: row.ingestTime, sequence: row.sequence, payload: [1, 0])
            }
            state.checkpoints = state.checkpoints.mapValues {
                OnlineCheckpoint(name: $0.name, offsets: ["\(view)/source.departures/0": 20])
            }
        }
        try await world.engine().checkpoint()
        #expect(world.rows == good)
    }
}
