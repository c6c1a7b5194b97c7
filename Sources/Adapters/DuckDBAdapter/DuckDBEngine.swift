import Foundation
public import Logging
public import PlatformCore
public import StoragePorts
import Subprocess
import Synchronization
import SystemPackage

/// How the DuckDB command-line program is run.
public struct DuckDBConfiguration: Sendable {
    /// Path of the executable itself (not of a wrapper script).
    public var executablePath: String
    /// Folder for spill files and statements; each call has a folder of its own in it, removed afterwards.
    public var spillFolder: String
    /// Threads of one call, at least 1.
    public var threadCount: Int
    /// Calls that run at the same time; more of them wait in order of arrival.
    public var concurrentCallCountMax: Int
    /// Longest accepted row of an answer, in bytes of JSON.
    public var rowByteCountMax: Int
    /// Makes a configuration.
    public init(
        executablePath: String, spillFolder: String, threadCount: Int = 2, concurrentCallCountMax: Int = 4,
        rowByteCountMax: Int = 16 << 20
    ) {
        self.executablePath = executablePath
        self.spillFolder = spillFolder
        self.threadCount = max(1, threadCount)
        self.concurrentCallCountMax = max(1, concurrentCallCountMax)
        self.rowByteCountMax = max(1024, rowByteCountMax)
    }
}

/// Runs SQL in the DuckDB command-line program, one child process for each call.
///
/// A query that runs out of memory or crashes takes only its own process with it. The child sees no start-up file, no
/// environment but the zone, loads no extension on its own, spills into a folder of the call, and is ended with its whole
/// process group when its deadline passes or the calling task is cancelled. Rows are read from the pipe as they come:
/// only one of them is in memory.
public final class DuckDBEngine: OfflineEngine {
    private let configuration: DuckDBConfiguration
    private let logger: Logger
    private let slots: CallSlots
    private let knownVersion = Mutex<String?>(nil)  // held for one copy

    /// Makes an engine; nothing is started before the first call.
    ///
    /// Call folders that a killed platform process left
    /// behind are removed here, so two engines must not share a spill folder.
    public init(configuration: DuckDBConfiguration, logger: Logger = Logger(label: "bottega.duckdb")) {
        self.configuration = configuration
        self.logger = logger
        slots = CallSlots(count: configuration.concurrentCallCountMax)
        let manager = FileManager.default
        for leftover in (try? manager.contentsOfDirectory(atPath: configuration.spillFolder)) ?? []
        where leftover.hasPrefix("call-") {
            try? manager.removeItem(atPath: configuration.spillFolder + "/" + leftover)
        }
    }

    /// Runs statements.
    public func execute(_ sql: String, limits: QueryLimits) async throws(StoreError) {
        do {
            try await run(".output /dev/null\n" + sql, limits: limits) { _ in }
        } catch let error as StoreError {
            throw error
        } catch {
            throw StoreError(.unavailable, "duckdb", "the call failed: \(error)", cause: error)
        }
    }

    /// Runs `setup`, then the query, row by row.
    public func query(
        _ sql: String, setup: String, limits: QueryLimits, _ body: @escaping @Sendable (JSONValue) throws -> Void
    ) async throws {
        let quiet = setup.isEmpty ? "" : ".output /dev/null\n\(setup)\n;\n.output\n"
        let limit = configuration.rowByteCountMax
        try await run(quiet + sql, limits: limits) { line in
            try body(try DuckDBRow.parse(line, byteCountMax: limit))
        }
    }

    /// The engine's name and version, `DuckDB v1.5.5`.
    public func version() async throws(StoreError) -> String {
        if let known = knownVersion.withLock({ $0 }) { return known }
        do {
            let result = try await Subprocess.run(
                .path(FilePath(configuration.executablePath)), arguments: ["-version"],
                environment: .custom(["TZ": "UTC"]),
                output: .string(limit: 4096), error: .discarded)
            let text = result.standardOutput.split(separator: " ").first.map { "DuckDB \($0)" }
            guard result.terminationStatus.isSuccess, let text else {
                throw StoreError(
                    .unavailable, "duckdb",
                    "'\(configuration.executablePath) -version' gave no version; install duckdb-cli 1.5.5 or set duckdb.path"
                )
            }
            knownVersion.withLock { $0 = text }
            return text
        } catch let error as StoreError {
            throw error
        } catch {
            throw cannotStart(error)
        }
    }

    private func cannotStart(_ error: any Error) -> StoreError {
        StoreError(
            .unavailable, "duckdb",
            "cannot run '\(configuration.executablePath)'; install duckdb-cli 1.5.5 or set duckdb.path", cause: error)
    }

    // MARK: One call

    private func run(_ sql: String, limits: QueryLimits, _ line: @escaping @Sendable (ArraySlice<UInt8>) throws -> Void)
        async throws
    {
        try await slots.acquire()
        defer { slots.release() }
        let folder = configuration.spillFolder + "/call-\(UUID().uuidString)"
        do {
            try FileManager.default.createDirectory(atPath: folder + "/spill", withIntermediateDirectories: true)
            try (preamble(limits: limits, spillFolder: folder + "/spill") + sql + "\n;\n").write(
                toFile: folder + "/statements.sql", atomically: false, encoding: .utf8)
        } catch {
            try? FileManager.default.removeItem(atPath: folder)
            throw StoreError(.full, "duckdb", "cannot write to '\(configuration.spillFolder)'", cause: error)
        }
        defer { try? FileManager.default.removeItem(atPath: folder) }

        let passed = PassedDeadline()
        let status: TerminationStatus
        do {
            status = try await withThrowingTaskGroup(of: TerminationStatus?.self) { group in
                group.addTask { try await self.child(in: folder, line) }
                group.addTask {
                    try await Task.sleep(for: limits.deadline)
                    passed.set()
                    return nil
                }
                defer { group.cancelAll() }
                guard let first = try await group.next(), let status = first else {
                    throw StoreError(
                        .limitExceeded, "duckdb", "the query was stopped after its deadline of \(limits.deadline)")
                }
                return status
            }
        } catch let error as SubprocessError {
            if Task.isCancelled { throw CancellationError() }
            throw cannotStart(error)
        }
        if passed.isSet, !status.isSuccess {
            throw StoreError(.limitExceeded, "duckdb", "the query was stopped after its deadline of \(limits.deadline)")
        }
        try Task.checkCancellation()
        switch status {
        case .exited(0): return
        case .signaled(let signal): throw DuckDBFailure.died(signal: signal)
        case .exited(let code):
            let text = Self.beginning(of: folder + "/errors.txt", byteCountMax: 64 << 10)
            let failure = DuckDBFailure.error(text, exitCode: code)
            logger.debug("query failed", metadata: ["code": "\(failure.code)", "message": "\(failure.message)"])
            throw failure
        }
    }

    private func preamble(limits: QueryLimits, spillFolder: String) -> String {
        """
        SET memory_limit='\(max(16 << 20, limits.memoryByteCountMax))B';
        SET threads=\(configuration.threadCount);
        SET autoinstall_known_extensions=false;
        SET autoload_known_extensions=false;
        SET temp_directory=\(SQLText.literal(spillFolder));
        SET TimeZone='UTC';

        """
    }

    private func child(in folder: String, _ line: @escaping @Sendable (ArraySlice<UInt8>) throws -> Void)
        async throws -> TerminationStatus
    {
        // Standard error goes to a file: a pipe would have to be drained beside the rows, and only its beginning is read.
        let errors = try FileDescriptor.open(
            FilePath(folder + "/errors.txt"), .writeOnly, options: [.create, .truncate],
            permissions: [.ownerReadWrite])
        var platform = PlatformOptions()
        platform.processGroupID = 0
        platform.teardownSequence = [.send(signal: .kill, toProcessGroup: true, allowedDurationToNextStep: .seconds(1))]
        var splitter = JSONLineSplitter(byteCountMax: configuration.rowByteCountMax)
        let result = try await Subprocess.run(
            .path(FilePath(configuration.executablePath)),
            arguments: ["-no-init", "-batch", "-bail", "-jsonlines", "-f", folder + "/statements.sql"],
            environment: .custom(["TZ": "UTC", "HOME": folder, "LC_ALL": "C.UTF-8"]),
            workingDirectory: FilePath(folder),
            platformOptions: platform, input: .none, output: .sequence,
            error: .fileDescriptor(errors, closeAfterSpawningProcess: true)
        ) { execution in
            do {
                for try await buffer in execution.standardOutput {
                    try buffer.withUnsafeBytes { try splitter.add($0, line) }
                }
                try splitter.finish(line)
            } catch {  // the reader of the rows gave up: the child must not go on writing to nobody
                try? execution.send(signal: .kill, toProcessGroup: true)
                throw error
            }
        }
        return result.terminationStatus
    }

    private static func beginning(of path: String, byteCountMax: Int) -> String {
        guard let file = FileHandle(forReadingAtPath: path) else { return "" }
        defer { try? file.close() }
        return String(decoding: (try? file.read(upToCount: byteCountMax)) ?? Data(), as: UTF8.self)
    }
}

/// Whether the deadline passed.
private final class PassedDeadline: Sendable {
    private let flag = Atomic(false)
    var isSet: Bool { flag.load(ordering: .acquiring) }
    func set() { flag.store(true, ordering: .releasing) }
}
