import Definitions
import FileSystemAdapter
import Foundation
import Logging
import ModelMonitoring
import ModelRegistry
import PlatformCore
import SQLiteAdapter
import Statistics
import StoragePorts
import Workflows

/// The monitoring role: a process that reads the log and shares nothing else with what it watches.
struct MonitorProcess {
    let settings: Settings
    let logger: Logger
    /// The process that supervises this one; when it is gone, the monitor says so and ends.
    let parent: Int32?

    func run() async throws {
        let directory = settings.dataDirectory
        let lock = try await Self.lock("\(directory)/monitor.lock")
        defer { close(lock) }
        let log = try SegmentEventLog(
            directory: "\(directory)/log",
            configuration: SegmentEventLogConfiguration(
                synchronizes: settings.waitsForDisk, segmentByteCountMax: settings.segmentByteCount))
        let metadata = try SQLiteMetadataStore(path: "\(directory)/metadata.sqlite")
        let content = ContentStore(base: try FolderObjectStore(directory: "\(directory)/objects"))
        let registry = ModelVersionRegistry(store: metadata, content: content, clock: SystemClock()) { _ in }
        let watched = WatchedDefinitions(store: metadata)
        let clockFile = ClockFile(path: "\(directory)/clock")
        let isManual = settings.clockMode == .manual
        let service = MonitorService(
            log: log, state: FileMonitorStateStore(path: "\(directory)/monitor.state"),
            definitions: { try await watched.monitors() },
            reference: { model, version in try await Self.reference(model, version, registry, content) },
            now: {
                // Behind the platform's time by more than a prediction takes to reach the log.
                isManual
                    ? (try? clockFile.read()).flatMap { $0 }?.advanced(by: TimeSpan(milliseconds: -3_600_000))
                    : SystemClock().now().advanced(by: TimeSpan(milliseconds: -10_000))
            })
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await service.run() }
            group.addTask { await waitForEnd() }
            try await group.next()
            group.cancelAll()
            try await group.waitForAll()
        }
        if let parent, getppid() != parent { await Self.sayThatPlatformIsGone(log, parent) }
    }

    /// Returns when the parent is gone.
    private func waitForEnd() async {
        guard let parent else {
            try? await Task.sleep(for: .seconds(1 << 40))
            return
        }
        while !Task.isCancelled, getppid() == parent { try? await Task.sleep(for: .milliseconds(250)) }
    }

    private static func sayThatPlatformIsGone(_ log: any EventLog, _ parent: Int32) async {
        let now = SystemClock().now()
        let event = PlatformEvent(
            kind: "monitor.platform.lost", subject: "process/\(parent)", time: now, actor: "monitor",
            details: ["message": .string("the platform process \(parent) ended without ending its monitor")])
        guard let value = try? JSONValue.of(event).canonicalBytes else { return }
        _ = try? await log.append(
            [LogRecord(key: event.subject, time: now, value: value)], to: PlatformTopic.monitoring)
    }

    /// One monitor watches a data directory; one that is just ending is waited for.
    private static func lock(_ path: String) async throws -> Int32 {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw PlatformError(.unavailable, path, "cannot be opened: \(String(cString: strerror(errno)))")
        }
        for _ in 0..<200 {
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return descriptor }
            try await Task.sleep(for: .milliseconds(50))
        }
        close(descriptor)
        throw PlatformError(.unavailable, path, "another monitor watches this data directory")
    }

    private static func reference(
        _ model: String, _ number: Int, _ registry: ModelVersionRegistry, _ content: ContentStore
    )
        async throws -> MonitorReference?
    {
        guard number > 0, let name = Name(model) else { return nil }
        let version: ModelVersion
        do { version = try await registry.version(name, number) } catch let error as PlatformError
            where error.code == .notFound
        { return nil }
        guard let hash = version.candidate.referenceProfile else { return nil }
        let profile = try JSONValue.parse(
            try await content.get(hash), limits: JSONLimits(byteCountMax: 1 << 30, depthMax: 64)
        ).decoded(as: ReferenceProfile.self)
        return MonitorReference(
            profile: profile, inputNames: profile.inputs.map(\.name), metrics: version.candidate.metrics["test"] ?? [:])
    }
}

/// The monitors of the definitions in force, read again when a new revision is.
actor WatchedDefinitions {
    private let store: any MetadataStore
    private var revision: Int64 = 0
    private var known: [MonitorDefinition] = []

    init(store: any MetadataStore) { self.store = store }

    func monitors() async throws -> [MonitorDefinition] {
        let newest = try await store.read { transaction in
            try transaction.query("SELECT MAX(revision) AS revision FROM definition_revisions").first?["revision"]
                .integerValue ?? 0
        }
        guard newest != revision else { return known }
        let catalog = DefinitionCatalog(store: store, clock: SystemClock())
        try await catalog.load()
        known = catalog.current.monitors.values.sorted { $0.name < $1.name }
        revision = newest
        return known
    }
}
