import Aggregation
import Benchmark
import Datasets
import Definitions
import FeatureStore
import FileSystemAdapter
import LMDBAdapter
import PlatformCore
import StoragePorts

/// A source of departures and a view of 25 features over windows of 1 h, 24 h and 7 d.
private struct Departures {
    static let start: Int64 = 1_356_998_400_000  // 2013-01-01
    static let source = Name(static: "departures")

    let definitions: DefinitionSet
    let plan: AggregationPlan

    init() throws {
        var features: [String] = []
        for window in ["1h", "24h", "7d"] {
            for function in ["sum", "mean", "min", "max", "stddev"] {
                features.append(
                    "  - {name: delay_\(function)_\(window), aggregate: \(function), column: delay, window: \(window)}")
            }
            for function in ["mean", "max"] {
                features.append(
                    "  - {name: seats_\(function)_\(window), aggregate: \(function), column: seats, window: \(window)}")
            }
            features.append("  - {name: flights_\(window), aggregate: count, window: \(window)}")
        }
        features.append("  - {name: delay_last, aggregate: last, column: delay}")
        definitions = try DefinitionCompiler.compile([
            DefinitionFile(
                path: "departures.yaml", folder: "/",
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
                      - {name: delay, type: float64}
                      - {name: seats, type: int64}
                    ---
                    kind: FeatureView
                    name: delays
                    entities: [plane]
                    source: departures
                    features:
                    \(features.joined(separator: "\n"))
                    ---
                    kind: FeatureService
                    name: flights
                    request:
                      - {name: distance, type: number}
                    views: [delays]
                    """)
        ])
        guard let view = definitions.featureViews[Name(static: "delays")], view.features.count == 25 else {
            throw BrokenBenchmark("the view has 25 features")
        }
        plan = AggregationPlan(view: view, source: definitions.source(of: view))
    }

    static func cells(at time: Int64, tail: String, _ random: inout Seeded) -> [CellValue] {
        let delay = (random.unit() * 2_400).rounded() / 10 - 20
        return [
            .integer(time), .text(tail), random.unit() < 0.02 ? .null : .double(delay),
            .integer(Int64(random.unit() * 350) + 20),
        ]
    }
}

/// The events of one hot entity, one a minute, so that the longest window holds 10,080.
private struct HotSeries {
    static let step: Int64 = 60_000
    let plan: AggregationPlan
    var series: EventSeries
    var sequence: UInt64 = 0
    /// 1,000 rows to take cells from.
    let cells: [[CellValue]]
    /// How many steps back each of 1,000 events is late.
    let lateness: [Int64]

    init(late: Bool) throws {
        plan = try Departures().plan
        series = EventSeries(plan: plan)
        var random = Seeded(2)
        cells = (0..<1_000).map { Departures.cells(at: Departures.start + $0, tail: "N1", &random) }
        lateness = (0..<1_000).map { _ in late ? Int64(random.unit() * 120) : 0 }
        for _ in 0..<20 { insertThousand() }
    }

    var now: EventTime { EventTime(milliseconds: Departures.start + Int64(sequence) * Self.step) }

    /// Inserts 1,000 events, forgets those that no window can need any more, and brings the summaries up to date: what
    /// the stream engine does with a batch.
    mutating func insertThousand() {
        for index in 0..<1_000 {
            sequence += 1
            let ingest = now
            let event = EventTime(milliseconds: ingest.milliseconds - lateness[index] * Self.step)
            series.insert(eventTime: event, ingestTime: ingest, sequence: sequence, cells: cells[index], plan: plan)
        }
        series.trimIfGrown(answeringFrom: now, plan: plan)
    }

    func checksum() -> Checksum {
        var checksum = Checksum()
        let values = UnsafeMutableBufferPointer<Double>.allocate(capacity: plan.features.count)
        defer { values.deallocate() }
        var missing: [PageReference] = []
        _ = ReadProgram(plan).evaluate(
            series, at: EventTime(milliseconds: now.milliseconds + 1), into: values, missing: &missing)
        for value in values { checksum.add(value) }
        return checksum
    }
}

/// A stream engine over real stores, and batches for it.
private final class EngineInput {
    let engine: StreamEngine
    let clock = ManualClock(startingAt: EventTime(milliseconds: Departures.start))
    let servingPlan: ServingPlan
    var offset: UInt64 = 0
    /// Cells without their time.
    private let rows: [[CellValue]]
    let tails: [String]

    init() async throws {
        let departures = try Departures()
        guard let service = departures.definitions.featureServices[Name(static: "flights")] else {
            throw BrokenBenchmark("the service is defined")
        }
        servingPlan = ServingPlan(service: service, definitions: departures.definitions)
        engine = StreamEngine(
            online: try LMDBOnlineStore(directory: try ScratchFolder.make()),
            log: try SegmentEventLog(directory: try ScratchFolder.make()), clock: clock, decode: { _, _ in nil })
        var random = Seeded(3)
        tails = (0..<200).map { "N\(10_000 + $0)" }
        var rows: [[CellValue]] = []
        for index in 0..<1_000 {
            let tail = tails[Int(random.unit() * Double(tails.count))]
            rows.append(Departures.cells(at: Departures.start + Int64(index), tail: tail, &random))
        }
        self.rows = rows
        try await engine.update(definitions: departures.definitions)
    }

    /// The next 1,000 rows, one a second.
    func batch() -> SourceBatch {
        let first = Departures.start + Int64(offset) * 1_000
        return SourceBatch(
            source: Departures.source, firstOffset: offset,
            rows: rows.enumerated().map { index, cells in
                let time = EventTime(milliseconds: first + Int64(index) * 1_000)
                return SourceRow(eventTime: time, ingestTime: time, cells: cells)
            })
    }

    func send(_ batch: SourceBatch) async throws {
        offset += UInt64(batch.rows.count)
        clock.advance(to: EventTime(milliseconds: Departures.start + Int64(offset) * 1_000))
        await engine.received(batch)
        if let failure = engine.failure { throw BrokenBenchmark(failure) }
    }

    func read(_ tail: String, _ buffers: VectorBuffers) throws {
        try engine.read(
            servingPlan, keys: [tail], at: clock.now(), into: buffers.values, ages: buffers.ages,
            statuses: buffers.statuses)
    }

    func checksum() throws -> Checksum {
        var checksum = Checksum()
        let buffers = VectorBuffers(servingPlan.featureCount)
        for tail in tails {
            try read(tail, buffers)
            for value in buffers.values { checksum.add(value) }
        }
        return checksum
    }
}

/// Where a feature vector is written to.
private final class VectorBuffers {
    let values: UnsafeMutableBufferPointer<Double>
    let ages: UnsafeMutableBufferPointer<Int64>
    let statuses: UnsafeMutableBufferPointer<UInt8>

    init(_ count: Int) {
        values = .allocate(capacity: count)
        ages = .allocate(capacity: count)
        statuses = .allocate(capacity: count)
    }
    deinit {
        values.deallocate()
        ages.deallocate()
        statuses.deallocate()
    }
}

/// Window updates and what a request computes from them.
func registerWindows() {
    for late in [false, true] {
        HotPath(name: "window insert: \(late ? "out of order" : "in order"), per event", operations: .kilo).measure(
            { (_, input: Box<HotSeries>) in
                input.value.insertThousand()
                blackHole(input.value.series.count)
            },
            prepare: {
                let hot = try HotSeries(late: late)
                return HotPath.Prepared(
                    input: Box(hot),
                    size: "25 features over 2 columns, 1 h to 7 d, on one key of \(hot.series.count) events"
                        + (late ? "; events up to 120 places late" : ""),
                    checksum: hot.checksum())
            })
    }

    HotPath(name: "window evaluate: 25 features, hot key", operations: .kilo).measure(
        { (benchmark, input: (HotSeries, VectorBuffers)) in
            let (hot, buffers) = input
            let now = hot.now.milliseconds
            let program = ReadProgram(hot.plan)
            var missing: [PageReference] = []
            for index in benchmark.scaledIterations {
                // Another moment each time, so that no answer can be a remembered one.
                let moment = EventTime(milliseconds: now - Int64(index) * 977)
                blackHole(program.evaluate(hot.series, at: moment, into: buffers.values, missing: &missing))
            }
        },
        prepare: {
            let hot = try HotSeries(late: true)
            return HotPath.Prepared(
                input: (hot, VectorBuffers(hot.plan.features.count)),
                size: "25 features over 2 columns, 1 h to 7 d, on one key of \(hot.series.count) events",
                checksum: hot.checksum())
        })

    HotPath(name: "stream engine: apply 1,000 rows, per row", operations: .kilo).measureWaiting(
        { (benchmark, input: EngineInput) in
            let batch = input.batch()
            benchmark.startMeasurement()
            try await input.send(batch)
            benchmark.stopMeasurement()
        },
        prepare: {
            let input = try await EngineInput()
            for _ in 0..<10 { try await input.send(input.batch()) }
            return HotPath.Prepared(
                input: input, size: "batches of 1,000 rows over \(input.tails.count) keys into a view of 25 features",
                checksum: try input.checksum())
        })

    HotPath(name: "stream engine: read 25 features", operations: .kilo).measure(
        { (benchmark, input: (EngineInput, VectorBuffers)) in
            let (engine, buffers) = input
            for index in benchmark.scaledIterations {
                try engine.read(engine.tails[index % engine.tails.count], buffers)
                blackHole(buffers.values[0])
            }
        },
        prepare: {
            let input = try await EngineInput()
            for _ in 0..<100 { try await input.send(input.batch()) }
            return HotPath.Prepared(
                input: (input, VectorBuffers(input.servingPlan.featureCount)),
                size: "\(input.tails.count) keys of 500 events each, in memory, one view of 25 features",
                checksum: try input.checksum())
        })
}
