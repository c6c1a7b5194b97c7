import ArgumentParser
import CommandLine
import Foundation
import MLflowImport
import PlatformCore
import SQLiteAdapter
import StoragePorts
import Synchronization

/// An SQLite file as the importer reads one.
private struct DatabaseFile: ForeignDatabase {
    let file: SQLiteFileReader
    func query(_ sql: String, _ arguments: [MetadataValue]) async throws -> [MetadataRow] {
        try await file.query(sql, arguments)
    }
}

/// Copies an MLflow server's experiments, runs, files and models into the platform.
struct ImportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Copy everything from an MLflow server or its SQLite file; again to go on or to bring up to date.",
        discussion: """
            mlflow://HOST:PORT, mlflow+https://USER:PASSWORD@HOST, mlflow-sqlite:///path/mlflow.db (artifacts beside it, or \
            --artifacts). A folder mlruns/ has to be served first: mlflow server --backend-store-uri ./mlruns. A server's token is MLFLOW_TRACKING_TOKEN. Runs keep their identifiers and times. \
            Exit codes: 0 everything is here and was read back; 1 something is not (the report says what); 69 no server.
            """)
    @Argument(help: "Where everything is.") var source: String
    @Option(help: "The platform. Default: BOTTEGA_URL, else http://127.0.0.1:8000.") var url: String?
    @Option(
        name: .customLong("as"),
        help: ArgumentHelp(
            "Who imports, for the audit chain. Default: BOTTEGA_ACTOR, else USER, else local.", valueName: "name"))
    var actor: String?
    @Option(help: "For a SQLite file: the folder of its artifacts. Default: mlartifacts or mlruns beside it.")
    var artifacts: String?
    @Flag(help: "For a SQLite file: leave its artifacts out.") var noArtifacts = false
    @Option(help: "Runs that are copied at the same time.") var parallel: Int = 4
    @Flag(help: "Count what there is, say what is in the way, and copy nothing.") var dryRun = false
    @Flag(help: "Print the report as JSON.") var json = false

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        do {
            let destination = try HTTPEndpoint(
                base: url ?? environment["BOTTEGA_URL"] ?? "http://127.0.0.1:8000", token: environment["BOTTEGA_TOKEN"],
                actor: CallerName.from(actor, environment))
            let scratch = "\(NSTemporaryDirectory())/bottega-import-\(getpid())"
            defer { try? FileManager.default.removeItem(atPath: scratch) }
            let line = ImportLine(isQuiet: json)
            let importer = Importer(
                source: try await openSource(environment), destination: destination, scratch: scratch,
                parallelCount: parallel, progress: { line.show($0) })
            let report = dryRun ? try await importer.rehearse() : try await importer.run()
            line.finish()
            print(json ? report.json.prettyText : Self.text(report, isRehearsal: dryRun))
            if !report.problems.isEmpty { throw ExitCode(1) }
        } catch let error as PlatformError {
            try? FileHandle.standardError.write(contentsOf: Data("bottega: \(error.subject): \(error.message)\n".utf8))
            throw ExitCode(error.code == .unavailable ? 69 : 2)
        } catch let error as StoreError {
            try? FileHandle.standardError.write(contentsOf: Data("bottega: \(error.subject): \(error.message)\n".utf8))
            throw ExitCode(2)
        }
    }

    func validate() throws {
        guard (1...64).contains(parallel) else { throw ValidationError("--parallel is a number from 1 to 64.") }
        if noArtifacts, artifacts != nil { throw ValidationError("Give --artifacts or --no-artifacts, not both.") }
        if artifacts != nil || noArtifacts, !source.hasPrefix("mlflow-sqlite://") {
            throw ValidationError(
                "--artifacts and --no-artifacts are for mlflow-sqlite:// sources; a server hands files out.")
        }
    }

    private func openSource(_ environment: [String: String]) async throws -> any ImportSource {
        for (scheme, real) in [
            ("mlflow://", "http://"), ("mlflow+http://", "http://"), ("mlflow+https://", "https://"),
        ]
        where source.hasPrefix(scheme) {
            return ServerSource(
                try HTTPEndpoint(
                    base: real + source.dropFirst(scheme.count), token: environment["MLFLOW_TRACKING_TOKEN"]))
        }
        if source.hasPrefix("mlflow-sqlite://") {
            let path = String(source.dropFirst("mlflow-sqlite://".count))
            guard FileManager.default.isReadableFile(atPath: path) else {
                throw PlatformError(
                    .invalidInput, path, "there is no such file; write mlflow-sqlite:///whole/path/mlflow.db")
            }
            return try await DatabaseSource(
                DatabaseFile(file: try SQLiteFileReader(path: path)), path: path,
                artifacts: noArtifacts ? .none : artifacts.map { .folder($0) } ?? .beside)
        }
        let isFolder = FileManager.default.fileExists(atPath: "\(source)/0") || source.hasSuffix("mlruns")
        throw PlatformError(
            .invalidInput, "import",
            "'\(source.prefix(200))' is no source; write mlflow://HOST:PORT, mlflow+https://HOST or mlflow-sqlite:///path/mlflow.db"
                + (isFolder
                    ? "; a folder of runs: mlflow server --backend-store-uri \(source.prefix(200)), then mlflow://"
                    : ""))
    }

    private static func text(_ report: ImportReport, isRehearsal: Bool) -> String {
        var lines = report.counts.sorted { $0.key < $1.key }.map { kind, counts in
            let name = kind.replacing("_", with: " ").padding(toLength: 18, withPad: " ", startingAt: 0)
            return isRehearsal
                ? "\(name) \(counts.found)"
                : "\(name) \(counts.found) found, \(counts.copied) copied, \(counts.present) here already"
        }
        if !isRehearsal { lines.append("\(report.byteCount) bytes of files") }
        lines += report.problems.prefix(50).map { "PROBLEM  \($0)" }
        if report.problems.count > 50 { lines.append("and \(report.problems.count - 50) more; --json has all") }
        lines += report.notes.prefix(50).map { "NOTE     \($0)" }
        if report.notes.count > 50 { lines.append("and \(report.notes.count - 50) more; --json has all") }
        if report.problems.isEmpty, !isRehearsal {
            let what = report.notes.isEmpty ? "everything" : "what was carried over"
            lines.append("\(what) was read back from here and is equal to the source")
        }
        return lines.joined(separator: "\n")
    }
}

/// One line on standard error that says how far an import is.
private final class ImportLine: Sendable {
    private let isQuiet: Bool
    private let isTerminal = isatty(2) == 1
    private let last = Mutex<ContinuousClock.Instant?>(nil)

    init(isQuiet: Bool) { self.isQuiet = isQuiet }

    func show(_ text: String) {
        let now = ContinuousClock.now
        let isDue = last.withLock { last in
            if let shown = last, now - shown < (isTerminal ? .milliseconds(200) : .seconds(5)) { return false }
            last = now
            return true
        }
        guard isDue, !isQuiet else { return }
        try? FileHandle.standardError.write(
            contentsOf: Data((isTerminal ? "\r\u{1B}[Kimport: \(text)" : "import: \(text)\n").utf8))
    }

    func finish() {
        if isTerminal, !isQuiet { try? FileHandle.standardError.write(contentsOf: Data("\r\u{1B}[K".utf8)) }
    }
}
