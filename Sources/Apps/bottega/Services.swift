import Catalogue
import Datasets
import Definitions
import ExperimentTracking
import FeatureStore
import Foundation
import Governance
import Logging
import ModelServing
import PlatformCore
import ServiceLifecycle
import TrainingJobs
import Workflows

/// Holds the stores open for as long as anything runs.
///
/// First in the list, so last to end.
struct StoreService: Service {
    let stores: PlatformStores

    func run() async throws {
        try? await gracefulShutdown()
        withExtendedLifetime(stores) {}
    }
}

/// Writes predictions until everything that was answered is in the log.
struct PredictionLogService: Service {
    let log: PredictionLog

    func run() async throws {
        await withGracefulShutdownHandler {
            await log.run()
        } onGracefulShutdown: {
            log.close()
        }
    }
}

/// Writes the feature state to the online store every second, and once more at the end.
struct CheckpointService: Service {
    let stream: StreamEngine
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                try? await Task.sleep(for: .seconds(1))
                await checkpoint()
            }
        }
        await checkpoint()
    }

    private func checkpoint() async {
        do { try await stream.checkpoint() } catch {
            logger.error("the feature state cannot be written", metadata: ["error": "\(errorText(error))"])
        }
    }
}

/// Puts logged metrics where searches find them, a moment after they came.
struct TrackingService: Service {
    let tracking: TrackingStore
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await tracking.run { error in
                logger.error(
                    "logged metrics wait in their journal, they cannot be put into the metadata store",
                    metadata: ["error": "\(errorText(error))"])
            }
        }
        try? await tracking.settle()
    }
}

/// Reads what the sources' logs hold, so that the first push after a restart does not wait for it.
struct WarmUpService: Service {
    let ingest: IngestService
    let catalog: DefinitionCatalog
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            for source in catalog.current.sources.values.sorted(by: { $0.name < $1.name }) where !Task.isCancelled {
                do { try await ingest.open(source) } catch {
                    logger.warning(
                        "a source could not be warmed up",
                        metadata: ["source": "\(source.name)", "error": "\(errorText(error))"])
                }
            }
        }
        try? await gracefulShutdown()
    }
}

/// Builds versions of feature views from history while rows arrive, and remembers what was read.
struct BackfillService: Service {
    let keeper: FeatureVersionKeeper

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withDiscardingTaskGroup { group in
                group.addTask { await keeper.run() }
                while !Task.isCancelled {
                    try? await Task.sleep(for: .seconds(5))
                    try? await keeper.flushUsage()
                }
            }
        }
        try? await keeper.flushUsage()
    }
}

/// Pulls the sources whose definitions say how often.
struct PullService: Service {
    let ingest: IngestService
    let catalog: DefinitionCatalog
    let clock: any PlatformClock
    let lineage: LineageOutbox
    let audit: AuditLog
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            var due: [Name: ContinuousClock.Instant] = [:]
            var failures: [Name: String] = [:]
            while !Task.isCancelled {
                let sources = catalog.current.sources.values.sorted { $0.name < $1.name }
                for source in sources where !Task.isCancelled {
                    guard let every = source.every, due[source.name].map({ ContinuousClock.now >= $0 }) ?? true else {
                        continue
                    }
                    failures[source.name] = await pull(source, lastFailure: failures[source.name])
                    due[source.name] = ContinuousClock.now + .milliseconds(every.milliseconds)
                }
                try? await Task.sleep(for: .milliseconds(500))
            }
        }
        try? await gracefulShutdown()
    }

    /// Pulls a source with an entry in the audit chain if it brought rows or failed; gives what was wrong.
    ///
    /// A source that goes on failing for the same reason is one entry, however often it is asked.
    private func pull(_ source: SourceDefinition, lastFailure: String?) async -> String? {
        let start = clock.now()
        do {
            let report: PullReport? = try await audit.during(
                "schedule", "source.pulled", "source/\(source.name)",
                outcome: { report in report.flatMap { $0.loads.contains { !$0.isAlreadyLoaded } ? $0.json : nil } }
            ) { () async throws -> PullReport? in
                do { return try await ingest.pull(source, now: start) } catch {
                    if errorText(error) == lastFailure { return nil }
                    throw error
                }
            }
            guard let report else { return lastFailure }
            let loads = report.loads.filter { !$0.isAlreadyLoaded }
            guard !loads.isEmpty else { return nil }
            let (inputs, outputs) = RunLineage.loads(loads, into: source)
            lineage.completed("pull.\(source.name)", kind: "PULL", from: start, inputs: inputs, outputs: outputs)
            return nil
        } catch is CancellationError {
            return lastFailure
        } catch {
            logger.error(
                "a source could not be pulled",
                metadata: ["source": "\(source.name)", "error": "\(errorText(error))"])
            return errorText(error)
        }
    }
}

/// Runs training jobs.
struct JobService: Service {
    let jobs: TrainingJobService

    func run() async throws {
        try await cancelWhenGracefulShutdown { try await jobs.run() }
    }
}

/// Says that one process owns a data directory, and which.
final class DirectoryLock: Sendable {
    private let descriptor: Int32

    /// Takes the lock, or says who has it.
    init(directory: String) throws {
        do {
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw PlatformError(
                .unavailable, directory, "the data directory cannot be made: \(error.localizedDescription)")
        }
        let path = "\(directory)/lock"
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw PlatformError(.unavailable, path, "cannot be opened: \(String(cString: strerror(errno)))")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let owner = String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
            close(descriptor)
            throw PlatformError(
                .unavailable, directory,
                "another bottega (process \(owner.trimmingCharacters(in: .whitespacesAndNewlines))) uses this data directory; stop it or choose another with --data-dir"
            )
        }
        ftruncate(descriptor, 0)
        let text = "\(getpid())\n"
        _ = text.withCString { pwrite(descriptor, $0, strlen($0), 0) }
    }

    deinit { close(descriptor) }
}

/// Keeps the moment that a manual clock was last set to.
struct ClockFile: Sendable {
    let path: String

    func read() throws -> EventTime? {
        guard let data = FileManager.default.contents(atPath: path) else { return nil }
        guard let value = Int64(String(decoding: data, as: UTF8.self)) else {
            throw PlatformError(.corrupted, path, "holds no time; remove it to start the manual clock anew")
        }
        return EventTime(milliseconds: value)
    }

    func write(_ time: EventTime) throws {
        try Data(String(time.milliseconds).utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    }
}

/// Starts the monitor as a process of its own and starts it again when it ends: a watcher must not die with what it watches.
struct MonitorSupervisor: Service {
    let settings: Settings
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            var delay = Duration.milliseconds(200)
            while !Task.isCancelled {
                let start = ContinuousClock.now
                await runOnce()
                if Task.isCancelled { return }
                if ContinuousClock.now - start > .seconds(60) { delay = .milliseconds(200) }
                logger.warning("the monitor ended; starting it again", metadata: ["delay": "\(delay)"])
                try? await Task.sleep(for: delay)
                delay = min(delay * 2, .seconds(30))
            }
        }
    }

    private func runOnce() async {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = [
            "up", "--roles", "monitoring", "--data-dir", settings.dataDirectory, "--clock", settings.clockMode.rawValue,
            "--log-level",
            settings.logLevel.rawValue, "--parent", String(getpid()), "--set",
            "eventlog.fsync=\(settings.waitsForDisk)",
        ]
        process.standardOutput = FileHandle.nullDevice
        let (ended, end) = AsyncStream.makeStream(of: Void.self)
        process.terminationHandler = { _ in end.finish() }
        do { try process.run() } catch {
            logger.error("the monitor cannot be started", metadata: ["error": "\(error)"])
            return
        }
        for await _ in ended {}  // ends with the process, or when this task is cancelled
        if process.isRunning {
            process.terminate()
            for _ in 0..<200 where process.isRunning {
                try? await Task.detached { try await Task.sleep(for: .milliseconds(25)) }.value
            }
            if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        }
    }
}
