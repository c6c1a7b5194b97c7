import Foundation
import PlatformCore
import StoragePorts
import Synchronization

/// One running worker with its Spark session; at most one call at a time uses it.
final class SparkChild: Sendable {
    /// Spark's version.
    let version: String
    private let process: Process
    private let requests: FileHandle
    private let answers: LineReader
    private let errorPath: String
    private let isStopped = Atomic(false)

    var isRunning: Bool { process.isRunning && !isStopped.load(ordering: .acquiring) }

    /// Starts the worker and waits for its session; blocks the thread.
    init(_ configuration: SparkConfiguration, stopping: @escaping @Sendable (Int32) -> Void) throws(StoreError) {
        let folder = configuration.folder
        errorPath = folder + "/errors.txt"
        process = Process()
        let (input, output) = (Pipe(), Pipe())
        do {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            try Data(SparkWorker.program.utf8).write(to: URL(fileURLWithPath: folder + "/worker.py"))
            try Data().write(to: URL(fileURLWithPath: errorPath))
            process.executableURL = URL(fileURLWithPath: configuration.pythonPath)
            let settings: JSONValue = [
                "master": .string(configuration.master),
                "conf": .object(configuration.settings.mapValues(JSONValue.string)),
            ]
            process.arguments = ["-u", folder + "/worker.py", String(decoding: settings.canonicalBytes, as: UTF8.self)]
            // The child sees what starts Java and nothing that steers another Python or another Spark.
            var environment: [String: String] = ["TZ": "UTC", "LC_ALL": "C.UTF-8", "HOME": folder]
            for name in ["PATH", "JAVA_HOME", "HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_CONF_DIR"] {
                environment[name] = ProcessInfo.processInfo.environment[name]
            }
            environment["SPARK_HOME"] = configuration.sparkHome
            process.environment = environment
            process.currentDirectoryURL = URL(fileURLWithPath: folder)
            process.standardInput = input
            process.standardOutput = output
            process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: errorPath))
            try process.run()
        } catch {
            throw StoreError(
                .unavailable, "spark",
                "cannot run '\(configuration.pythonPath)'; set spark.python to an interpreter that has pyspark",
                cause: error)
        }
        stopping(process.processIdentifier)
        try? input.fileHandleForReading.close()
        try? output.fileHandleForWriting.close()
        requests = input.fileHandleForWriting
        answers = LineReader(output.fileHandleForReading)
        guard let line = answers.next(), let hello = try? JSONValue.parse(line) else {
            throw Self.died(process, errorPath)
        }
        guard let version = hello["version"]?.stringValue else {
            throw SparkFailure.error(hello)
        }
        self.version = version
    }

    /// Runs statements, then the query, and hands out its rows; blocks the thread.
    func run(_ statements: [String], query: String?, _ row: (JSONValue) throws -> Void) throws {
        let request: JSONValue = [
            "statements": .array(statements.map(JSONValue.string)), "query": query.map(JSONValue.string) ?? .null,
        ]
        do { try requests.write(contentsOf: request.canonicalBytes + [10]) } catch {
            throw Self.died(process, errorPath)
        }
        while let line = answers.next() {
            let answer = try JSONValue.parse(line)
            if let value = answer["row"] {
                do { try row(value) } catch {  // the reader gave up; the worker would go on for nobody
                    stop()
                    throw error
                }
            } else if answer["done"] != nil {
                return
            } else {
                throw SparkFailure.error(answer)
            }
        }
        throw Self.died(process, errorPath)
    }

    /// Ends the worker with its whole process group.
    func stop() {
        isStopped.store(true, ordering: .releasing)
        Self.kill(process.processIdentifier)
    }

    static func kill(_ identifier: Int32) {
        guard identifier > 1 else { return }
        if Foundation.kill(-identifier, SIGKILL) != 0 { _ = Foundation.kill(identifier, SIGKILL) }
    }

    private static func died(_ process: Process, _ errorPath: String) -> StoreError {
        process.waitUntilExit()
        let words = String(decoding: FileManager.default.contents(atPath: errorPath) ?? Data(), as: UTF8.self)
        return SparkFailure.died(
            status: process.terminationStatus, bySignal: process.terminationReason == .uncaughtSignal,
            words: String(words.suffix(4000)))
    }
}

/// Reads lines from a pipe, waiting for each; a line has at most 64 MiB.
final class LineReader: Sendable {
    private struct State: Sendable {
        let file: FileHandle
        var pending: [UInt8] = []
        var start = 0
    }
    private let state: Mutex<State>  // one call at a time reads

    init(_ file: FileHandle) { state = Mutex(State(file: file)) }

    func next() -> [UInt8]? {
        state.withLock { state in
            var searched = state.start
            while true {
                if let end = state.pending[searched...].firstIndex(of: 10) {
                    let line = Array(state.pending[state.start..<end])
                    state.start = end + 1
                    return line
                }
                searched = state.pending.count
                guard state.pending.count - state.start <= 64 << 20 else { return nil }
                if state.start > 0 {
                    state.pending.removeFirst(state.start)
                    searched -= state.start
                    state.start = 0
                }
                let chunk = state.file.availableData
                guard !chunk.isEmpty else { return nil }
                state.pending += chunk
            }
        }
    }
}
