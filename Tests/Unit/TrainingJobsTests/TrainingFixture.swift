import Foundation
import Logging
import PlatformCore
import ProcessAdapter
import RuntimePorts
import SQLiteAdapter
import StoragePorts
import Synchronization
import TrainingJobs

@testable import Definitions

/// A service over real processes and an empty database.
///
/// Training scripts are shell scripts in `code/`.
final class TrainingFixture: Sendable {
    let folder: String
    let store: SQLiteMetadataStore
    let content = ContentStore(base: MemoryObjectStore())
    let service: TrainingJobService
    private let seen: Seen

    private final class Seen: Sendable {
        let finished = Mutex<[TrainingJob]>([])
        let runs = Mutex<[[String: String]]>([])
    }
    var finished: [TrainingJob] { seen.finished.withLock { $0 } }
    var runTags: [[String: String]] { seen.runs.withLock { $0 } }

    /// Opens the folder of another fixture to be its next start.
    init(after earlier: TrainingFixture? = nil, slots: Int = 1, queued: Int = 16, interpreter: String = "python3")
        async throws
    {
        folder = earlier?.folder ?? NSTemporaryDirectory() + "training-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder + "/code", withIntermediateDirectories: true)
        store = try SQLiteMetadataStore(path: folder + "/metadata.sqlite")
        try await store.migrate(TrainingJobService.migrations)
        let seen = Seen()
        self.seen = seen
        service = TrainingJobService(
            configuration: TrainingJobConfiguration(
                folder: folder + "/jobs", interpreter: interpreter, trackingURL: "http://127.0.0.1:8000",
                slotCount: slots,
                queuedCountMax: queued, threadCount: 3),
            store: store, content: content,
            runner: LocalJobRunner(recordFolder: folder + "/records", grace: .seconds(1)), clock: SystemClock(),
            identifiers: IdentifierSource(clock: SystemClock()),
            createRun: { model, tags in
                seen.runs.withLock { runs in
                    runs.append(tags)
                    return "run-\(model)-\(runs.count)"
                }
            }, finished: { job in seen.finished.withLock { $0.append(job) } },
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    func request(_ script: String, parameters: [String: String] = [:], timeout: TimeSpan = .seconds(30)) throws
        -> TrainingRequest
    {
        let data = folder + "/train.parquet"
        try Data("rows".utf8).write(to: URL(fileURLWithPath: data))
        let training = TrainingDefinition(
            command: ["/bin/sh", "-c", script], folder: folder + "/code", parameters: ["depth": "6", "rate": "0.1"],
            seed: 11,
            timeout: timeout, memoryByteCountMax: 0)
        let name = Name(static: "flight_delay")
        return TrainingRequest(
            model: ModelDefinition(
                name: name, service: name, trainingSet: name, training: training, gates: [:],
                evaluation: EvaluationDefinition(), description: "", owner: ""
            ),
            input: TrainingInput(
                dataset: ContentHash(bytes: [UInt8](repeating: 9, count: 32)), manifest: ["rows": 4],
                paths: ["train": data]),
            parameters: parameters, actor: "ada")
    }

    /// Runs `body` beside the running service, then stops it.
    func serving<Value: Sendable>(_ body: @Sendable (TrainingJobService) async throws -> Value) async throws -> Value {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.service.run() }
            let value = try await body(service)
            group.cancelAll()
            try await group.waitForAll()
            return value
        }
    }

    /// Waits until a file of a script's folder is there.
    func waitFor(_ file: String) async throws {
        for _ in 0..<1000 where !FileManager.default.fileExists(atPath: folder + "/code/" + file) {
            try await Task.sleep(for: .milliseconds(10))
        }
    }
}
