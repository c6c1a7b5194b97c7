import Datasets
import Definitions
import FeatureStore
import FileSystemAdapter
import Foundation
import LMDBAdapter
import PlatformCore
import SQLiteAdapter
import StoragePorts
import Synchronization

/// A seeded generator (SplitMix64).
struct Seeded {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1 }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
    mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }
    /// A rank from 0, rank r about as often as 1 / (r + 1).
    mutating func zipf(_ count: Int) -> Int { min(count - 1, Int(pow(Double(count), unit())) - 1) }
}

/// Nothing here reads Parquet.
struct NoEngine: OfflineEngine {
    func execute(_ sql: String, limits: QueryLimits) async throws(StoreError) {}
    func query(
        _ sql: String, setup: String, limits: QueryLimits, _ body: @escaping @Sendable (JSONValue) throws -> Void
    ) async throws {}
    func version() async throws(StoreError) -> String { "none" }
}

/// No database is pulled from here.
struct NoDatabase: RowSource {
    func read(
        _ query: RowQuery, columns: @escaping @Sendable ([RowColumn]) throws -> Void,
        rows: @escaping @Sendable ([[String?]]) throws -> Void
    ) async throws {}
}

/// The stores, the ingestion and the engine as the program puts them together; the disk is waited for.
struct World {
    static let start: Int64 = 1_372_636_800_000
    let folder: String
    let log: SegmentEventLog
    let ingest: IngestService
    let engine: StreamEngine
    let definitions: DefinitionSet
    let source: SourceDefinition
    let service: FeatureServiceDefinition
    let clock = ManualClock(startingAt: EventTime(milliseconds: World.start))

    static let yaml: String = {
        var features: [String] = []
        for window in ["1h", "24h", "30d"] {
            features.append("  - {name: n_\(window), aggregate: count, window: \(window)}")
            for function in ["sum", "mean", "min", "max", "stddev"] {
                features.append(
                    "  - {name: \(function)_\(window), aggregate: \(function), column: amount, window: \(window)}")
            }
        }
        features.append("  - {name: newest, aggregate: last, column: amount}")
        features.append("  - {name: quantity, aggregate: sum, column: quantity, window: 24h}")
        return """
            kind: Entity
            name: account
            keys: [account]
            ---
            kind: Source
            name: payments
            event_time: at
            key: [payment]
            schema:
              - {name: at, type: timestamp}
              - {name: payment, type: int64}
              - {name: account, type: string}
              - {name: amount, type: float64, scale: 2}
              - {name: quantity, type: int64}
            ---
            kind: FeatureView
            name: spending
            entities: [account]
            source: payments
            features:
            \(features.joined(separator: "\n"))
            ---
            kind: FeatureService
            name: scoring
            views: [spending]
            """
    }()

    init(entityCountMax: Int = 1_000_000, yaml: String = World.yaml) async throws {
        folder = (ProcessInfo.processInfo.environment["BOTTEGA_BENCH_DIR"] ?? "/tmp") + "/stream-bench-\(getpid())"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        definitions = try DefinitionCompiler.compile([
            DefinitionFile(path: "payments.yaml", folder: "/", text: yaml)
        ])
        guard let source = definitions.sources[Name(static: "payments")],
            let service = definitions.featureServices[Name(static: "scoring")]
        else { fatalError("defined above") }
        self.source = source
        self.service = service
        log = try SegmentEventLog(directory: folder + "/log")
        let codec = SourceRowCodec(source)
        engine = StreamEngine(
            online: try LMDBOnlineStore(directory: folder + "/online"), log: log, clock: clock,
            configuration: StreamEngineConfiguration(entityCountMax: entityCountMax)
        ) { record, _ in try? codec.decode(record.value) }
        let metadata = try SQLiteMetadataStore(path: folder + "/metadata.sqlite")
        ingest = IngestService(
            log: log, metadata: metadata, engine: NoEngine(), files: LocalSourceFiles(), database: NoDatabase(),
            shapes: SourceShapes(metadata: metadata), spoolFolder: folder + "/spool", listener: engine,
            identifiers: IdentifierSource(clock: SystemClock()))
        try await ingest.prepare()
        try await engine.recover(definitions: definitions)
        try await ingest.open(source)
    }

    func remove() { try? FileManager.default.removeItem(atPath: folder) }

    /// JSON lines of one push, and the moment of its last event.
    static func lines(
        from first: Int, count: Int, stepMicroseconds: Int, _ random: inout Seeded, key: (inout Seeded, Int) -> String
    ) -> (bytes: [UInt8], now: EventTime) {
        var text = ""
        text.reserveCapacity(count * 112)
        var now = start
        for index in first..<(first + count) {
            now = start + Int64(index) * Int64(stepMicroseconds) / 1_000
            let late = random.unit() < 0.05 ? Int64(random.unit() * 60_000) : 0
            let amount = Double(Int(random.unit() * 100_000)) / 100
            text +=
                "{\"at\":\(now - late),\"payment\":\(index),\"account\":\"\(key(&random, index))\",\"amount\":\(amount),\"quantity\":\(Int(random.unit() * 9))}\n"
        }
        return (Array(text.utf8), EventTime(milliseconds: now + 1))
    }
}

/// Times in nanoseconds.
struct Times {
    private var values: [UInt64] = []
    mutating func add(_ value: UInt64) { values.append(value) }
    mutating func add(_ others: Times) { values += others.values }
    var count: Int { values.count }
    func text() -> String {
        let sorted = values.sorted()
        guard !sorted.isEmpty else { return "none" }
        func at(_ share: Double) -> String {
            let value = Double(sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))])
            return value < 100_000 ? String(format: "%.2f µs", value / 1e3) : String(format: "%.2f ms", value / 1e6)
        }
        return "p50 \(at(0.5)), p99 \(at(0.99)), p99.9 \(at(0.999)), most \(at(1))"
    }
}

func nanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Processor seconds that this process has used.
func processorSeconds() -> Double {
    var usage = rusage()
    getrusage(0, &usage)
    return Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
        + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
}

func peakMegabytes() -> Int {
    var usage = rusage()
    getrusage(0, &usage)
    return usage.ru_maxrss / 1024
}

/// Memory of this process now: its own, and mapped pages of files, which the system takes back when it needs them.
func residentMegabytes() -> (own: Int, files: Int) {
    guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return (0, 0) }
    func megabytes(_ name: String) -> Int {
        for line in status.split(separator: "\n") where line.hasPrefix(name) {
            return (line.split(separator: " ").dropLast().last.flatMap { Int($0) } ?? 0) / 1_024
        }
        return 0
    }
    return (megabytes("RssAnon:"), megabytes("RssFile:"))
}
