// `monitor-timing [SECONDS] [RATE]`: what the monitor costs a prediction. A second process logs RATE predictions of 30 inputs a
// second for SECONDS while this one follows the log as the monitor process does: first with no monitor on the model, then with one.
// Prints one JSON line for each: processor time of this process a prediction in microseconds, and a sum of what was counted.
import Definitions
import FileSystemAdapter
import Foundation
import ModelMonitoring
import ModelServing
import PlatformCore
import Statistics
import StoragePorts

/// SplitMix64 (Steele, Lea, Flood 2014), the same numbers in every run.
struct Numbers: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
    mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }
    /// Nearly bell-shaped; one in fifty is missing.
    mutating func value() -> Double { unit() < 0.02 ? .nan : unit() + unit() + unit() + unit() - 2 }
}

let names = (0..<30).map { "x\($0)" }
let hash = String(repeating: "0123456789abcdef", count: 4)
let start = EventTime(milliseconds: 1_372_636_800_000)

/// Logs predictions at a rate, a batch each five milliseconds as the server's writer does.
func write(to folder: String, count: Int, rate: Int) async throws {
    let log = try SegmentEventLog(
        directory: folder, configuration: SegmentEventLogConfiguration(synchronizes: false))
    try await log.createTopic(PlatformTopic.predictions, partitions: 1)
    try await log.createTopic(PlatformTopic.labels, partitions: 1)
    var numbers = Numbers(state: 5)
    let clock = ManualClock(startingAt: start)
    let identifiers = IdentifierSource(clock: clock, generator: Numbers(state: 7))
    let begun = ContinuousClock.now
    var written = 0
    while written < count {
        let due = min(count, Int((ContinuousClock.now - begun) / .milliseconds(1)) * rate / 1000)
        var batch: [LogRecord] = []
        while written < due {
            let time = start.advanced(by: TimeSpan(milliseconds: Int64(written * 1000 / rate)))
            clock.advance(to: time)
            let record = PredictionRecord(
                id: identifiers.next(), time: time, model: "body", version: 1, artifact: hash, policyRevision: 1,
                choice: .primary, serviceVersion: hash, entities: [], inputs: names.map { _ in numbers.value() },
                ages: names.map { _ in -1 }, statuses: names.map { _ in 0 }, overridden: [],
                output: [Float(numbers.unit())], fallbackReason: "",
                latency: .init(features: 0, score: 4, total: 9), caller: "")
            batch.append(LogRecord(key: record.model, time: time, value: record.encoded()))
            written += 1
        }
        if !batch.isEmpty { try await log.append(batch, to: PlatformTopic.predictions) }
        try await Task.sleep(for: .milliseconds(5))
    }
}

/// Keeps the snapshot, as the real one is kept, in a file.
struct StateFile: MonitorStateStore {
    let path: String
    func load() throws -> [UInt8]? { nil }
    func save(_ bytes: [UInt8]) throws { try Data(bytes).write(to: URL(fileURLWithPath: path)) }
}

/// Seconds of processor that this process has used.
func processorSeconds() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

func monitor() throws -> MonitorDefinition {
    let definitions = try DefinitionCompiler.compile([
        DefinitionFile(
            path: "monitor.yaml", folder: "/",
            text: """
                kind: Source
                name: questions
                event_time: at
                key: [question]
                schema:
                  - {name: at, type: timestamp}
                  - {name: question, type: int64}
                  - {name: late, type: float64}
                \(names.map { "  - {name: \($0), type: float64}" }.joined(separator: "\n"))
                ---
                kind: FeatureService
                name: body
                request:
                \(names.map { "  - {name: \($0), type: number}" }.joined(separator: "\n"))
                ---
                kind: TrainingSet
                name: body
                service: body
                spine: questions
                label: {name: label, source: questions, join: [question], column: late, horizon: 1h}
                split: {by: random, validation: 10%, test: 10%}
                ---
                kind: Model
                name: body
                service: body
                training_set: body
                training: {command: ["true"]}
                ---
                kind: Monitor
                name: watch
                model: body
                window: 1h
                label_horizon: 1d
                rules:
                  - {name: drift, measure: psi, above: 0.2, severity: P2}
                """)
    ])
    guard let monitor = definitions.monitors[Name(static: "watch")] else { fatalError("the monitor is defined") }
    return monitor
}

func reference() throws -> MonitorReference {
    var numbers = Numbers(state: 9)
    return MonitorReference(
        profile: try ReferenceProfile(
            columns: names.map { .init(name: $0, numbers: (0..<20_000).map { _ in numbers.value() }) },
            predictions: (0..<20_000).map { _ in numbers.unit() }), inputNames: names, metrics: [:])
}

let arguments = Array(CommandLine.arguments.dropFirst())
if arguments.first == "write", arguments.count == 4, let count = Int(arguments[2]), let rate = Int(arguments[3]) {
    try await write(to: arguments[1], count: count, rate: rate)
    exit(0)
}
let seconds = arguments.first.flatMap(Int.init) ?? 5
let rate = arguments.count > 1 ? Int(arguments[1]) ?? 40_000 : 40_000
let watch = try monitor()
let profile = try reference()
for isWatched in [false, true] {
    let folder = NSTemporaryDirectory() + "monitor-timing-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let log = try SegmentEventLog(directory: folder + "/log")
    let service = MonitorService(
        log: log, state: StateFile(path: folder + "/monitor.state"), definitions: { isWatched ? [watch] : [] },
        reference: { _, _ in profile })
    let writer = Process()
    writer.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    writer.arguments = ["write", folder + "/log", "\(seconds * rate)", "\(rate)"]
    let before = processorSeconds()
    try writer.run()
    let running = Task { try await service.run() }
    while await service.counters.predictions < seconds * rate {
        try await Task.sleep(for: .milliseconds(100))
    }
    running.cancel()
    try await running.value
    let spent = (processorSeconds() - before) * 1e6 / Double(seconds * rate)
    writer.waitUntilExit()
    let state = try Data(contentsOf: URL(fileURLWithPath: folder + "/monitor.state"))
    var engine = ByteReader([UInt8](state), from: 16)
    for _ in 0..<3 { _ = try engine.varint() }  // offsets: how many heartbeats there were is a matter of time
    let sum = try engine.raw(engine.remaining).reduce(UInt64(0xCBF2_9CE4_8422_2325)) {
        ($0 ^ UInt64($1)) &* 0x100_0000_01B3
    }
    print(
        "{\"watched\": \(isWatched), \"predictions\": \(seconds * rate), \"microseconds\": \((spent * 100).rounded() / 100), "
            + "\"state\": \"\(String(sum, radix: 16))\"}")
}
