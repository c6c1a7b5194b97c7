import Configuration
import FeatureStore
import Foundation
import Logging
import PlatformCore
import Workflows

/// The platform's configuration: flag, then environment, then file, then the default written here.
///
/// | Key | Type, unit | Default |
/// |---|---|---|
/// | `data.directory` | path | `.bottega` |
/// | `gateway.host` | address | `127.0.0.1` |
/// | `gateway.port` | integer; 0 lets the system choose | 8000 |
/// | `gateway.token` | secret | none; made at the first start on an address that is not loopback |
/// | `gateway.grpcport` | integer; port of the inference protocol over gRPC; 0 for none | 0 |
/// | `clock.mode` | `system` or `manual` | `system` |
/// | `clock.start` | time; first moment of a manual clock | the last moment set, else 1970-01-01 |
/// | `log.level` | trace … critical | `warning` |
/// | `eventlog.fsync` | bool; whether an append waits for the disk | true |
/// | `tracking.fsync` | bool; whether a metric of a run waits for the disk | as `eventlog.fsync` |
/// | `online.mapsize` | integer, MiB of address space of the online store | 65536 |
/// | `cache.entities` | integer; entities whose answers are remembered, over all views; 0 for none | 10000 |
/// | `cache.staleness` | span; how old a remembered answer may be in a view without `max_staleness`; `0s` remembers none | `0s` |
/// | `features.entities` | integer; entities of one view that stay in memory after a checkpoint | 1000000 |
/// | `features.statememory` | integer, MiB that the entities of one view may take after a checkpoint, about | 2048 |
/// | `features.rowsatonce` | integer; rows times views that `apply` reads before it returns | 20000 |
/// | `duckdb.path` | path of DuckDB's command-line program | that of `.venv`, else `duckdb` in `PATH` |
/// | `duckdb.memory` | integer, MiB for one query | 2048 |
/// | `offline.engine` | `duckdb` or `spark`; what computes training sets | `duckdb` |
/// | `spark.python` | path of a Python interpreter with `pyspark` | `.venv/bin/python`, else `python3` in `PATH` |
/// | `spark.master` | `local[N]`, `spark://host:port`, `yarn`, `k8s://…` | `local[2]` |
/// | `spark.home` | folder of a Spark installation | the one inside `pyspark` |
/// | `spark.memory` | integer, MiB of the driver | 2048 |
/// | `features.engine` | `native` or `duckdb`: what computes the windows of training sets | `native` |
/// | `features.memory` | integer, MiB that `native` may hold before it spills | 2048 |
/// | `features.threads` | integer; threads of `native` | as many as processors |
/// | `python.path` | path of the interpreter that runs training | `.venv/bin/python`, else `python3` in `PATH` |
/// | `onnx.library` | path of `libonnxruntime.so` | that of the package `onnxruntime` beside `python.path`, else of the system |
/// | `onnx.threads` | integer; threads of one call of an ONNX model | 1 |
/// | `remote.authorities` | path of a file of certificates (PEM) that remote models may be vouched for by, beside the system's | none |
/// | `jobs.slots` | integer; jobs that run at once | 1 |
/// | `tables.interval` | integer, seconds between two rounds of looking after tables and the log; 0 for none | 60 |
/// | `tables.compact` | integer; small files of a table beside each other that are made one | 16 |
/// | `tables.retention` | span; how long a replaced version of a table stays readable | `30d` |
/// | `eventlog.segment` | integer, MiB of the log's files, which old records are let go in | 64 |
/// | `predictions.retention` | span, an hour at least; how long predictions and their labels are kept | for ever |
/// | `scores.retention` | span, an hour at least; how long events of scored streams are kept | for ever |
/// | `openlineage.url` | URL of a lineage service; its events go to `<url>/api/v1/lineage` | none |
/// | `openlineage.key` | secret; sent as `Authorization: Bearer` | none |
/// | `openlineage.file` | path of a file that lineage events are appended to, one on each line | none |
/// | `webhooks.http` | bool; whether webhooks may be `http` as well as `https` | false |
/// | `webhooks.private` | bool; whether webhooks may go to loopback, private and link-local addresses | false |
/// | `overload.concurrency` | integer; predictions in hand at once that wait for a disk, a worker or a large body | 10000 |
/// | `overload.target` | span; how long predictions may wait before they are looked at until some are refused; `0s` refuses none | `100ms` |
/// | `asynchronous.queue` | integer; instances of asynchronous predictions that wait at most | 1000000 |
/// | `asynchronous.retention` | span; how long finished asynchronous predictions are kept | `1d` |
/// | `monitor.enabled` | bool; whether this process starts and supervises the monitor | true |
///
/// In the environment a key is upper case with `_` for `.` after `BOTTEGA_`: `BOTTEGA_GATEWAY_PORT`. The file is YAML, with
/// dotted keys or nested mappings; an unknown key stops the start. Nothing is reloaded.
struct Settings: Sendable {
    static let keys = [
        "data.directory", "gateway.host", "gateway.port", "gateway.token", "gateway.grpcport", "clock.mode",
        "clock.start", "log.level",
        "eventlog.fsync", "tracking.fsync", "online.mapsize", "cache.entities", "cache.staleness", "features.entities",
        "features.statememory", "features.rowsatonce", "duckdb.path", "duckdb.memory", "offline.engine",
        "spark.python", "spark.master", "spark.home", "spark.memory", "features.engine", "features.memory",
        "features.threads", "python.path", "onnx.library", "onnx.threads", "remote.authorities", "jobs.slots",
        "tables.interval", "tables.compact", "tables.retention", "eventlog.segment", "predictions.retention",
        "scores.retention",
        "openlineage.url", "openlineage.key", "openlineage.file", "webhooks.http", "webhooks.private",
        "overload.concurrency", "overload.target", "asynchronous.queue", "asynchronous.retention", "monitor.enabled",
    ]

    enum ClockMode: String { case system, manual }
    enum OfflineChoice: String, CaseIterable { case duckdb, spark }

    let dataDirectory: String
    let host: String
    let port: Int
    let token: Secret?
    /// Port of the inference protocol over gRPC; `nil` for none.
    let grpcPort: Int?
    let clockMode: ClockMode
    let clockStart: EventTime?
    let logLevel: Logger.Level
    let waitsForDisk: Bool
    /// Whether a metric of a run waits for the disk.
    let metricsWaitForDisk: Bool
    let onlineMapByteCount: Int
    let cachedEntityCountMax: Int
    let maxStaleness: TimeSpan
    let entityCountMax: Int
    let stateByteCountMax: Int
    let rowsAtOnceMax: Int
    let duckDBPath: String
    let duckDBMemoryByteCount: Int
    let offlineEngine: OfflineChoice
    let sparkPython: String
    let sparkMaster: String
    let sparkHome: String?
    let sparkMemoryByteCount: Int
    /// What the kernel of training sets may use; `nil` for DuckDB alone.
    let featureKernel: PointInTimeJoin.Settings?
    let pythonPath: String
    /// ONNX Runtime's library as configured or found; `nil` when there is none.
    let onnxLibraryPath: String?
    /// Whether its path was given, not found.
    let isONNXLibraryGiven: Bool
    let onnxThreadCount: Int
    /// Certificates that remote models may be vouched for by, beside the system's.
    let remoteAuthorities: String?
    let jobSlots: Int
    let startsMonitor: Bool
    let tableMaintenance: TableMaintenanceConfiguration
    let logRetention: LogRetentionConfiguration
    /// Size past which a new file of the log begins.
    let segmentByteCount: Int
    let lineageURL: String?
    let allowsHTTPWebhooks: Bool
    let allowsPrivateWebhooks: Bool
    let overloadConcurrency: Int
    let asynchronousQueue: Int
    let asynchronousRetention: TimeSpan
    let overloadTargetMilliseconds: Int
    let lineageKey: Secret?
    let lineageFile: String?

    /// Reads the layers.
    /// - Throws: `PlatformError` that names the key, where it came from, and what is accepted.
    init(flags: [String: String], file: String?) throws {
        var fromFile: [String: String] = [:]
        if let file { fromFile = try Self.readFile(file) }
        try Self.checkEnvironment()
        let environment = EnvironmentVariablesProvider().prefixKeys(with: "bottega")
        let reader = ConfigReader(providers: [
            InMemoryProvider(name: "flags", values: Self.values(flags)), environment,
            InMemoryProvider(name: "file", values: Self.values(fromFile)),
        ])
        func text(_ key: String, secret: Bool = false) -> String? {
            reader.string(forKey: ConfigKey(key), isSecret: secret)
        }
        func integer(_ key: String, default value: Int, in range: ClosedRange<Int>) throws -> Int {
            guard let given = text(key) else { return value }
            guard let number = Int(given), range.contains(number) else {
                throw Self.error(
                    key, "must be a whole number from \(range.lowerBound) to \(range.upperBound), not '\(given)'")
            }
            return number
        }
        func flag(_ key: String, default value: Bool) throws -> Bool {
            guard let given = text(key) else { return value }
            guard let flag = Bool(given) else { throw Self.error(key, "must be true or false, not '\(given)'") }
            return flag
        }
        dataDirectory = URL(fileURLWithPath: text("data.directory") ?? ".bottega").standardizedFileURL.path
        host = text("gateway.host") ?? "127.0.0.1"
        port = try integer("gateway.port", default: 8000, in: 0...65_535)
        token = text("gateway.token", secret: true).map(Secret.init)
        let grpcPort = try integer("gateway.grpcport", default: 0, in: 0...65_535)
        self.grpcPort = grpcPort == 0 ? nil : grpcPort
        let mode = text("clock.mode") ?? "system"
        guard let clockMode = ClockMode(rawValue: mode) else {
            throw Self.error("clock.mode", "must be system or manual, not '\(mode)'")
        }
        self.clockMode = clockMode
        if let start = text("clock.start") {
            guard let time = EventTime(text: start) else {
                throw Self.error("clock.start", "must be a time, not '\(start)'")
            }
            clockStart = time
        } else {
            clockStart = nil
        }
        let level = text("log.level") ?? "warning"
        guard let logLevel = Logger.Level(rawValue: level) else {
            let known = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
            throw Self.error("log.level", "must be one of \(known), not '\(level)'")
        }
        self.logLevel = logLevel
        waitsForDisk = try flag("eventlog.fsync", default: true)
        metricsWaitForDisk = try flag("tracking.fsync", default: waitsForDisk)
        onlineMapByteCount = try integer("online.mapsize", default: 65_536, in: 16...16_777_216) << 20
        cachedEntityCountMax = try integer("cache.entities", default: 10_000, in: 0...100_000_000)
        let staleness = text("cache.staleness") ?? "0s"
        guard let span = TimeSpan(text: staleness) else {
            throw Self.error("cache.staleness", "must be a span of time such as 30s, not '\(staleness)'")
        }
        maxStaleness = span
        entityCountMax = try integer("features.entities", default: 1_000_000, in: 0...1_000_000_000)
        stateByteCountMax = try integer("features.statememory", default: 2048, in: 1...16_777_216) << 20
        rowsAtOnceMax = try integer("features.rowsatonce", default: 20_000, in: 0...1_000_000_000)
        duckDBPath = text("duckdb.path") ?? Self.packagedDuckDB() ?? Self.program("duckdb", else: "duckdb")
        duckDBMemoryByteCount = try integer("duckdb.memory", default: 2048, in: 64...1_048_576) << 20
        let engine = text("offline.engine") ?? "duckdb"
        guard let offlineEngine = OfflineChoice(rawValue: engine) else {
            throw Self.error("offline.engine", "must be duckdb or spark, not '\(engine)'")
        }
        self.offlineEngine = offlineEngine
        sparkPython = text("spark.python") ?? Self.program(".venv/bin/python", else: "python3")
        sparkMaster = text("spark.master") ?? "local[2]"
        sparkHome = text("spark.home")
        sparkMemoryByteCount = try integer("spark.memory", default: 2048, in: 512...1_048_576) << 20
        let threads = try integer(
            "features.threads", default: ProcessInfo.processInfo.activeProcessorCount, in: 1...1024)
        let memory = try integer("features.memory", default: 2048, in: 64...1_048_576) << 20
        switch text("features.engine") ?? "native" {
        case "native": featureKernel = PointInTimeJoin.Settings(threads: threads, memoryByteCountMax: memory)
        case "duckdb": featureKernel = nil
        case let other: throw Self.error("features.engine", "must be native or duckdb, not '\(other)'")
        }
        pythonPath = text("python.path") ?? Self.program(".venv/bin/python", else: "python3")
        let library = text("onnx.library")
        isONNXLibraryGiven = library != nil
        onnxLibraryPath = library ?? Self.onnxLibrary(besides: pythonPath)
        onnxThreadCount = try integer("onnx.threads", default: 1, in: 1...1024)
        remoteAuthorities = text("remote.authorities")
        if let remoteAuthorities {
            let text = FileManager.default.contents(atPath: remoteAuthorities).map {
                String(decoding: $0, as: UTF8.self)
            }
            guard text?.contains("-----BEGIN CERTIFICATE-----") == true else {
                throw Self.error(
                    "remote.authorities", "must be a file of certificates in PEM, not '\(remoteAuthorities)'")
            }
        }
        jobSlots = try integer("jobs.slots", default: 1, in: 1...256)
        startsMonitor = try flag("monitor.enabled", default: true)
        lineageURL = text("openlineage.url")
        allowsHTTPWebhooks = try flag("webhooks.http", default: false)
        allowsPrivateWebhooks = try flag("webhooks.private", default: false)
        asynchronousQueue = try integer("asynchronous.queue", default: 1_000_000, in: 1...1_000_000_000)
        let asynchronousKept = text("asynchronous.retention") ?? "1d"
        guard let keptFor = TimeSpan(text: asynchronousKept) else {
            throw Self.error("asynchronous.retention", "must be a span of time such as 1d, not '\(asynchronousKept)'")
        }
        asynchronousRetention = keptFor
        overloadConcurrency = try integer("overload.concurrency", default: 10_000, in: 16...1_000_000)
        let target = text("overload.target") ?? "100ms"
        guard let delay = TimeSpan(text: target), 0...60_000 ~= delay.milliseconds else {
            throw Self.error("overload.target", "must be a span of time up to 60s such as 100ms, not '\(target)'")
        }
        overloadTargetMilliseconds = Int(delay.milliseconds)
        lineageKey = text("openlineage.key", secret: true).map(Secret.init)
        lineageFile = text("openlineage.file")
        let retention = text("tables.retention") ?? "30d"
        guard let kept = TimeSpan(text: retention) else {
            throw Self.error("tables.retention", "must be a span of time such as 30d, not '\(retention)'")
        }
        func keeping(_ key: String) throws -> TimeSpan? {
            guard let given = text(key) else { return nil }
            guard let span = TimeSpan(text: given), span >= .minutes(60) else {
                throw Self.error(key, "must be a span of time of an hour or more such as 90d, not '\(given)'")
            }
            return span
        }
        let rounds = Duration.seconds(try integer("tables.interval", default: 60, in: 0...86_400))
        logRetention = LogRetentionConfiguration(
            interval: rounds, predictions: try keeping("predictions.retention"),
            scores: try keeping("scores.retention"), hasMonitor: startsMonitor)
        segmentByteCount = try integer("eventlog.segment", default: 64, in: 1...1024) << 20
        tableMaintenance = TableMaintenanceConfiguration(
            interval: rounds,
            fileCountMin: try integer("tables.compact", default: 16, in: 3...100_000), retention: kept)
    }

    /// Refuses variables that look like settings of a known group but are none.
    private static func checkEnvironment() throws {
        let groups = Set(keys.compactMap { $0.split(separator: ".").first.map(String.init) })
        for variable in ProcessInfo.processInfo.environment.keys.sorted() where variable.hasPrefix("BOTTEGA_") {
            let parts = variable.dropFirst("BOTTEGA_".count).lowercased().split(separator: "_", maxSplits: 1)
            guard parts.count == 2, groups.contains(String(parts[0])) else { continue }
            let key = "\(parts[0]).\(parts[1])"
            guard !keys.contains(key) else { continue }
            let near = nearestName(to: key, among: keys)
            let name = near.map { "BOTTEGA_" + $0.uppercased().replacing(".", with: "_") }
            throw PlatformError(
                .invalidInput, "environment \(variable)",
                "is no known setting" + (name.map { "; did you mean '\($0)'?" } ?? ""))
        }
    }

    private static func error(_ key: String, _ message: String) -> PlatformError {
        PlatformError(.invalidInput, "configuration \(key)", message)
    }

    private static func values(_ texts: [String: String]) -> [AbsoluteConfigKey: ConfigValue] {
        Dictionary(
            uniqueKeysWithValues: texts.map {
                (
                    AbsoluteConfigKey($0.key.split(separator: ".").map(String.init)),
                    ConfigValue(.string($0.value), isSecret: ["gateway.token", "openlineage.key"].contains($0.key))
                )
            })
    }

    /// The executable inside the `duckdb-cli` package of the project's own environment; `bin/duckdb` there is a script around it.
    private static func packagedDuckDB() -> String? {
        let library = URL(fileURLWithPath: ".venv/lib").standardizedFileURL.path
        for python in (try? FileManager.default.contentsOfDirectory(atPath: library))?.sorted() ?? [] {
            let path = "\(library)/\(python)/site-packages/duckdb_cli/duckdb"
            if FileManager.default.isExecutableFile(atPath: path) { return path }
        }
        return nil
    }

    /// A program of the project's own environment if it is there, else one found in `PATH`.
    private static func program(_ local: String, else name: String) -> String {
        let path = URL(fileURLWithPath: local).standardizedFileURL.path
        if FileManager.default.isExecutableFile(atPath: path) { return path }
        for folder in (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":") {
            let candidate = "\(folder)/\(name)"
            if FileManager.default.isExecutableFile(atPath: candidate) { return candidate }
        }
        return name
    }

    private static func readFile(_ path: String) throws -> [String: String] {
        guard let data = FileManager.default.contents(atPath: path), data.count <= 1 << 20,
            let text = String(data: data, encoding: .utf8)
        else { throw PlatformError(.invalidInput, path, "cannot be read as a configuration file") }
        return try SettingsText.values(of: text, path: path, keys: keys)
    }
}
