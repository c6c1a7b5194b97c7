import Definitions
import Foundation
import ModelRegistry
import PlatformCore
import SQLiteAdapter
import Statistics
import StoragePorts
import Synchronization

/// A registry on an empty database, with a clock that the test moves and a list of the events it published.
final class RegistryFixture: Sendable {
    let folder: String
    let store: SQLiteMetadataStore
    let content = ContentStore(base: MemoryObjectStore())
    let clock = ManualClock(startingAt: EventTime(milliseconds: 1_000_000))
    let registry: ModelVersionRegistry
    let model = Name(static: "flight_delay")
    let deployment = Name(static: "flight_delay_live")
    private let published: Events

    private final class Events: Sendable {
        let list = Mutex<[PlatformEvent]>([])
    }

    var events: [PlatformEvent] { published.list.withLock { $0 } }

    init() async throws {
        folder = NSTemporaryDirectory() + "registry-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        store = try SQLiteMetadataStore(path: folder + "/metadata.sqlite")
        let published = Events()
        self.published = published
        registry = ModelVersionRegistry(store: store, content: content, clock: clock) { event in
            published.list.withLock { $0.append(event) }
        }
        try await store.migrate(ModelVersionRegistry.migrations)
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    func tick() { clock.advance(to: clock.now().advanced(by: .seconds(1))) }

    func candidate(_ text: String, auc: Double = 0.7) async throws -> VersionCandidate {
        let artifact = try await content.put(Array("artifact \(text)".utf8))
        let profile = try await content.put(Array("profile \(text)".utf8))
        return VersionCandidate(
            artifact: ModelArtifact(
                hash: artifact, byteCount: 9 + text.utf8.count, format: "xgboost-ubj", fileName: "model.ubj"),
            signature: ModelSignature(
                inputs: [
                    SignatureField(name: "distance", kind: .number, isNullable: false),
                    SignatureField(name: "carrier", kind: .category, categories: ["AA", "UA"]),
                ], outputs: [SignatureField(name: "probability", kind: .number, isNullable: false)]),
            origin: VersionOrigin(
                dataset: profile, serviceVersion: profile, runID: "run-\(text)", jobID: "job-\(text)",
                commit: String(repeating: "a", count: 40), branch: "main", isDirty: true, seed: 7, environment: profile,
                parameters: ["max_depth": "6", "odd | name": "a\nb"]),
            metrics: ["test": [.auc: auc, .calibrationError: 0.012345678901234567], "train": [.auc: 0.8]],
            rows: ["test": 1000, "train": 5000], referenceProfile: profile, description: "for a test",
            tags: ["team": "planning"])
    }

    @discardableResult
    func register(_ text: String) async throws -> Int {
        tick()
        return try await registry.register(model, candidate(text), actor: "ada").number
    }

    func move(_ version: Int, _ stages: ModelStage...) async throws {
        for stage in stages {
            tick()
            try await registry.transition(
                model, version, to: stage, actor: "ada", reason: "checked",
                gates: [GateResult(gate: "signature present", passed: true, observed: nil, detail: "it is there")])
        }
    }

    func publish(_ shares: [Int: Double], shadows: [Int] = []) async throws -> PolicyRevision {
        tick()
        return try await registry.publish(
            deployment, of: model,
            DeploymentPolicy(
                variants: shares.map { TrafficShare(version: $0, share: $1) }.sorted { $0.version < $1.version },
                shadows: shadows), actor: "ada", reason: "rollout")
    }
}
