import Benchmark
import Definitions
import ModelMonitoring
import ModelServing
import PlatformCore
import Statistics

/// A reference table and a later one, column by column: bell-shaped numbers, each fifth column shifted.
private struct Tables {
    let reference: [[Double]]
    let current: [[Double]]

    init(rows: Int, columns: Int) {
        var random = Seeded(7)
        func column(shift: Double) -> [Double] {
            (0..<rows).map { _ in random.unit() + random.unit() + random.unit() + random.unit() - 2 + shift }
        }
        reference = (0..<columns).map { _ in column(shift: 0) }
        current = (0..<columns).map { column(shift: $0 % 5 == 0 ? 0.3 : 0) }
    }

    /// Profiles each reference column, bins the current one, and compares: PSI and KS.
    func drift() throws -> [(psi: Double, ks: Double)] {
        try zip(reference, current).map { before, after in
            let profile = InputProfile(name: "", numbers: before)
            var histogram = InputHistogram(profile: profile)
            histogram.add(contentsOf: after, profile: profile)
            return (
                try histogram.populationStabilityIndex(against: profile),
                try histogram.kolmogorovSmirnov(against: profile)
            )
        }
    }
}

/// The monitor, its reference, and a log of predictions.
private struct Monitoring {
    let definition: MonitorDefinition
    let reference: MonitorReference
    let records: [PredictionRecord]

    init(_ count: Int) throws {
        let names = (0..<30).map { "i\($0)" }
        let definitions = try DefinitionCompiler.compile([
            DefinitionFile(
                path: "monitor.yaml", folder: "/",
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
                    ---
                    kind: FeatureView
                    name: delays
                    entities: [plane]
                    source: departures
                    features:
                    \(names.enumerated().map {
                        "  - {name: \($1), aggregate: mean, column: delay, window: \($0 + 1)h}"
                    }.joined(separator: "\n"))
                    ---
                    kind: FeatureService
                    name: flights
                    views: [delays]
                    ---
                    kind: TrainingSet
                    name: flights
                    service: flights
                    spine: departures
                    label: {name: late, source: departures, join: [tail], column: delay, greater_than: 30, horizon: 2d}
                    split: {by: time, validation: 15%, test: 15%}
                    ---
                    kind: Model
                    name: flight_delay
                    service: flights
                    training_set: flights
                    training: {command: ["true"]}
                    ---
                    kind: Monitor
                    name: watch
                    model: flight_delay
                    window: 1d
                    label_horizon: 2d
                    rules:
                      - {name: drift, measure: psi, above: 0.2, severity: P2}
                      - {name: answers, measure: prediction_psi, above: 0.2, severity: P2}
                    """)
        ])
        guard let monitor = definitions.monitors[Name(static: "watch")] else {
            throw BrokenBenchmark("the monitor is defined")
        }
        definition = monitor
        records = predictionRecords(count)
        let sample = records.prefix(20_000)
        reference = MonitorReference(
            profile: try ReferenceProfile(
                columns: names.enumerated().map { index, name in
                    .init(name: name, numbers: sample.map { $0.inputs[index] })
                }, predictions: sample.map { Double($0.output[0]) }),
            inputNames: names, metrics: [:])
    }

    /// Lets a new engine read all records; gives what it reported.
    func consume() -> (engine: MonitorEngine, effectCount: Int) {
        var engine = MonitorEngine(definitions: [definition])
        engine.add(reference, model: "flight_delay", version: 3)
        var effects = 0
        for record in records { effects += engine.consume(record).count }
        return (engine, effects)
    }
}

/// What the monitor computes.
func registerDrift() {
    let (rows, columns) = HotPath.isTiny ? (20_000, 5) : (1_000_000, 50)
    HotPath(name: "drift: profile, PSI and KS of a table", seconds: 30, iterationsMax: 5, warmups: 0).measure(
        { (_, input: Tables) in blackHole(try input.drift()) },
        prepare: {
            let tables = Tables(rows: rows, columns: columns)
            var checksum = Checksum()
            for measures in try tables.drift() {
                checksum.add(measures.psi)
                checksum.add(measures.ks)
            }
            return HotPath.Prepared(
                input: tables,
                size: "\(rows) rows x \(columns) columns against a reference of the same size, one thread",
                checksum: checksum)
        })

    let count = HotPath.isTiny ? 2_000 : 200_000
    HotPath(name: "monitor engine: read a log of predictions", seconds: 10, iterationsMax: 5, warmups: 0).measure(
        { (_, input: Monitoring) in blackHole(input.consume().effectCount) },
        prepare: {
            let input = try Monitoring(count)
            let (engine, effects) = input.consume()
            guard engine.counters.predictions == count, engine.counters.undecodable == 0 else {
                throw BrokenBenchmark("the monitor did not read every record")
            }
            var checksum = Checksum()
            checksum.add(effects)
            checksum.add(engine.counters.windowsClosed)
            checksum.add(engine.counters.predictions)
            return HotPath.Prepared(
                input: input, size: "\(count) records x 30 inputs, decoded before, windows of one day",
                checksum: checksum)
        })
}
