// `registry-live [TRANSITIONS]`: how long "what was live at T" takes with a long history. Prints one JSON line.
import Definitions
import Foundation
import ModelRegistry
import PlatformCore
import SQLiteAdapter
import StoragePorts

/// Nothing of this history is evidence.
struct NoObjects: ObjectStore {
    private func none() -> StoreError { StoreError(.notFound, "object", "there is none") }
    func put(_ bytes: [UInt8], at key: String) async throws(StoreError) {}
    func put(fileAt path: String, at key: String) async throws(StoreError) {}
    func get(_ key: String, byteCountMax: Int) async throws(StoreError) -> [UInt8] { throw none() }
    func info(_ key: String) async throws(StoreError) -> ObjectInfo? { ObjectInfo(key: key, byteCount: 1) }
    func list(prefix: String) async throws(StoreError) -> [ObjectInfo] { [] }
    func delete(_ key: String) async throws(StoreError) {}
    func localPath(of key: String) async throws(StoreError) -> String { throw none() }
    func stagingPath(suffix: String) async throws(StoreError) -> String { throw none() }
    func adopt(stagedFileAt path: String, at key: String) async throws(StoreError) {}
}

let wanted = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 100_000
let folder = NSTemporaryDirectory() + "registry-live-" + UUID().uuidString
try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
defer { try? FileManager.default.removeItem(atPath: folder) }
let store = try SQLiteMetadataStore(path: folder + "/metadata.sqlite")
try await store.migrate(ModelVersionRegistry.migrations)
let start = EventTime(milliseconds: 1_700_000_000_000)
let clock = ManualClock(startingAt: start)
let registry = ModelVersionRegistry(store: store, content: ContentStore(base: NoObjects()), clock: clock) { _ in }
let model = Name(static: "flight_delay")
let deployment = Name(static: "flight_delay")
let hash = ContentHash(bytes: [UInt8](repeating: 7, count: 32))
let candidate = VersionCandidate(
    artifact: ModelArtifact(hash: hash, byteCount: 1, format: "xgboost-ubj", fileName: "model.ubj"),
    signature: ModelSignature(
        inputs: [SignatureField(name: "x", kind: .number)], outputs: [SignatureField(name: "y", kind: .number)]),
    origin: VersionOrigin(dataset: nil, serviceVersion: nil, runID: "", jobID: "", seed: 0))

let versions = 100
for _ in 0..<(versions + 2) { try await registry.register(model, candidate, actor: "bench") }
// Most versions come and go below production; two more take turns there, so each turn archives the one before.
var transitions = versions
var turn = 0
let fill = ContinuousClock.now
while transitions < wanted {
    // A turn at a time in order, but many turns wait for the disk together.
    try await withThrowingTaskGroup(of: Void.self) { group in
        for offset in 0..<32 {
            let number = (turn + offset) % versions + 1
            group.addTask {
                for stage in [ModelStage.staging, .canary, .staging, .archived] {
                    try await registry.transition(
                        model, number, to: stage, actor: "bench", reason: "turn", gates: [])
                }
            }
        }
        try await group.waitForAll()
    }
    clock.advance(to: clock.now().advanced(by: .seconds(1)))
    transitions += 32 * 4
    turn += 32
    let number = versions + 1 + turn / 32 % 2
    for stage in [ModelStage.staging, .canary, .production] {
        try await registry.transition(model, number, to: stage, actor: "bench", reason: "turn", gates: [])
        clock.advance(to: clock.now().advanced(by: .seconds(1)))
        transitions += 1
    }
    try await registry.publish(
        deployment, of: model, DeploymentPolicy(variants: [TrafficShare(version: number, share: 1)]), actor: "bench",
        reason: "turn")
}
let filled = ContinuousClock.now - fill
let end = clock.now()
var times: [Double] = []
var checksum = 0
for index in 0..<2000 {
    let share = Double((index * 7919) % 2000) / 2000
    let moment = EventTime(
        milliseconds: start.milliseconds + Int64(share * Double(end.milliseconds - start.milliseconds)))
    let before = ContinuousClock.now
    let live = try await registry.live(model, at: moment)
    let spent = (ContinuousClock.now - before).components
    times.append(Double(spent.seconds) * 1000 + Double(spent.attoseconds) / 1e15)
    checksum = (checksum &* 31 &+ (live.champion ?? 0) &+ live.steps.count) % 1_000_003
}
times.sort()
func rounded(_ value: Double) -> Double { (value * 1000).rounded() / 1000 }
print(
    "{\"transitions\": \(transitions), \"questions\": \(times.count), \"p50_ms\": \(rounded(times[times.count / 2])), "
        + "\"p99_ms\": \(rounded(times[times.count * 99 / 100])), \"max_ms\": \(rounded(times[times.count - 1])), "
        + "\"fill_s\": \(filled.components.seconds), \"checksum\": \(checksum)}")
try store.close()
