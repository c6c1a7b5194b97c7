import ArgumentParser
import CommandLine
import Foundation
import Logging
import ONNXAdapter
import PlatformCore
import RuntimePorts
import ServiceLifecycle
import Synchronization
import TreeModelAdapter
import UnixSignals
import Workflows

/// The program: the server, and the commands that talk to one.
@main
struct Bottega: AsyncParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "bottega", abstract: "Raw events to governed, monitored predictions, in one program.",
        discussion: """
            Start a server with 'bottega up', describe your features and models in YAML, and apply them with 'bottega apply DIR'.
            Commands talk to the server that --url or BOTTEGA_URL names, with the token in BOTTEGA_TOKEN if it wants one.
            Exit codes: 0 done; 1 the platform failed; 2 wrong input; 3 a gate or policy refused, a check failed, a job failed, or \
            something is in the way as it is; 4 not found; 64 wrong arguments; 69 no server.
            """, version: version,
        subcommands: [Up.self, Doctor.self] + ClientCommands.all + [
            ImportCommand.self, ScoreFile.self, WeighModel.self, TryModel.self,
        ])

    static func main() async {
        let words = Array(CommandLine.arguments.dropFirst())
        if let refusal = CommandNames.refusal(of: words, below: Self.self) {
            exit(withError: fail(PlatformError(.invalidInput, "", refusal)))
        }
        await main(words)
    }
}

/// Settings as flags.
struct SettingFlags: ParsableArguments {
    @Option(name: .long, help: "Where everything is kept. Default: .bottega") var dataDir: String?
    @Option(name: .long, help: "Port; 0 lets the system choose. Default: 8000") var port: Int?
    @Option(name: .long, help: "Address. Default: 127.0.0.1; any other needs a token.") var host: String?
    @Option(name: .long, help: "system, or manual: it stands still until POST /api/v1/clock moves it. Default: system")
    var clock: String?
    @Option(name: .long, help: "trace, debug, info, notice, warning, error or critical. Default: warning") var logLevel:
        String?
    @Option(name: .long, help: "Configuration file (YAML).") var config: String?
    @Option(
        name: .long, help: ArgumentHelp("Any other setting, as key=value; may be repeated.", valueName: "key=value"))
    var set: [String] = []

    func settings() throws -> Settings {
        var flags: [String: String] = [:]
        for pair in set {
            let parts = pair.split(separator: "=", maxSplits: 1).map(String.init)
            guard parts.count == 2, Settings.keys.contains(parts[0]) else {
                let near = nearestName(to: parts.first ?? "", among: Settings.keys)
                throw PlatformError(
                    .invalidInput, "--set \(pair)",
                    "is no known key=value" + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            flags[parts[0]] = parts[1]
        }
        flags["data.directory"] = dataDir ?? flags["data.directory"]
        flags["gateway.port"] = port.map(String.init) ?? flags["gateway.port"]
        flags["gateway.host"] = host ?? flags["gateway.host"]
        flags["clock.mode"] = clock ?? flags["clock.mode"]
        flags["log.level"] = logLevel ?? flags["log.level"]
        return try Settings(flags: flags, file: config)
    }
}

/// Prints one line about an error and gives the exit code for it.
func fail(_ error: any Error) -> ExitCode {
    try? FileHandle.standardError.write(contentsOf: Data("bottega: \(errorText(error))\n".utf8))
    return ExitCode((error as? PlatformError)?.code == .invalidInput ? 2 : 1)
}

struct Up: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Start the platform; prints 'ready URL' when it answers. SIGTERM and SIGINT end it after the requests in hand.",
        aliases: ["serve", "start"])
    @OptionGroup var flags: SettingFlags
    @Option(name: .long, help: "all, or monitoring: watch and answer nothing.") var roles = "all"
    @Option(name: .long, help: .hidden) var parent: Int32?

    func run() async throws {
        umask(0o077)  // what it keeps is its user's alone, whatever mode the data directory has
        do {
            let settings = try flags.settings()
            LoggingSystem.bootstrap { StructuredLog(label: $0, level: settings.logLevel) }
            let logger = Logger(label: "bottega")
            switch roles {
            case "all": try await serve(settings, logger)
            case "monitoring": try await watch(settings, logger)
            default:
                throw PlatformError(
                    .invalidInput, "--roles", "must be all or monitoring; splitting further is not supported yet")
            }
        } catch { throw fail(error) }
    }

    private func serve(_ settings: Settings, _ logger: Logger) async throws {
        let platform = try await Platform(settings, logger: logger) { url in
            try? FileHandle.standardOutput.write(contentsOf: Data("ready \(url)\n".utf8))
        }
        var configuration = ServiceGroupConfiguration(
            services: platform.services.map {
                .init(
                    service: $0, successTerminationBehavior: .gracefullyShutdownGroup,
                    failureTerminationBehavior: .gracefullyShutdownGroup,
                    // A service printed would be all it holds, secrets included.
                    serviceName: String(describing: type(of: $0)))
            }, gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        configuration.maximumGracefulShutdownDuration = .seconds(30)
        try await ServiceGroup(configuration: configuration).run()
    }

    private func watch(_ settings: Settings, _ logger: Logger) async throws {
        let process = MonitorProcess(settings: settings, logger: logger, parent: parent)
        let service = ClosureService { try await process.run() }
        var configuration = ServiceGroupConfiguration(
            services: [
                .init(
                    service: service, successTerminationBehavior: .gracefullyShutdownGroup,
                    serviceName: "MonitorProcess")
            ],
            gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        configuration.maximumGracefulShutdownDuration = .seconds(20)
        try await ServiceGroup(configuration: configuration).run()
    }
}

/// Runs a closure until graceful shutdown cancels it.
struct ClosureService: Service {
    let work: @Sendable () async throws -> Void

    init(_ work: @escaping @Sendable () async throws -> Void) { self.work = work }

    func run() async throws {
        do { try await cancelWhenGracefulShutdown { try await work() } } catch is CancellationError {}
    }
}

/// Scores a file of rows with a model file, apart from any server: the native scorer for comparison with others.
struct ScoreFile: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "score-file",
        abstract: "Score rows with a model file, apart from any server.",
        discussion: """
            Rows are a Parquet file whose columns have the names of the model's features, which gives a Parquet file; or \
            little-endian float32 numbers row after row, which give float32 predictions.
            """)
    @Option(help: "The model: XGBoost JSON or UBJSON, LightGBM text, linear JSON, ONNX.") var file: String
    @Option(help: "ONNX Runtime's library, if it is not that of .venv or the system.") var library: String?
    @Option(help: "The rows: Parquet, or float32 numbers.") var rows: String
    @Option(parsing: .upToNextOption, help: "Columns of a Parquet file to keep. Default: all that are no features.")
    var keep: [String] = []
    @Option(
        help: "Names of a Parquet file's columns in the model's order, as a JSON list, if the model's own are others.")
    var inputs: String?
    @Option(help: "Threads for a Parquet file. Default: one for each processor.") var threads: Int?
    @Option(help: "Texts of the features that a model reads as text: a JSON object from position to list.")
    var categories: String?
    @Option(help: "Where predictions go.") var output: String
    @Flag(
        help: """
            Write what each feature adds to each margin instead, and last the base value, as float64. Rows are float32 numbers.
            """)
    var explain = false

    func run() async throws {
        do {
            if let handle = FileHandle(forReadingAtPath: rows), try handle.read(upToCount: 4) == Data("PAR1".utf8) {
                guard !explain else {
                    throw PlatformError(
                        .invalidInput, "--explain", "it takes rows as float32 numbers, and \(rows) is a Parquet file")
                }
                return try await scoreColumns()
            }
            func read(_ path: String) throws -> [UInt8] {
                guard let data = FileManager.default.contents(atPath: path) else {
                    throw PlatformError(.invalidInput, path, "cannot be read")
                }
                return Array(data)
            }
            let result: [UInt8]
            do {
                let name = URL(fileURLWithPath: file).lastPathComponent
                let onnx = ONNXConfiguration(
                    libraryPath: library ?? Settings.onnxLibrary(besides: ".venv/bin/python"))
                result =
                    try explain
                    ? TreeModelTool.explain(
                        model: read(file), fileName: name, rows: read(rows), categories: try texts(),
                        runtimes: ModelRuntimes.all(onnx))
                    : TreeModelTool.score(
                        model: read(file), fileName: name, rows: read(rows), categories: try texts(),
                        runtimes: ModelRuntimes.all(onnx))
            } catch let error as ModelError { throw PlatformError(.invalidInput, "", error.message) }
            try Data(result).write(to: URL(fileURLWithPath: output))
        } catch { throw fail(error) }
    }

    private func scoreColumns() async throws {
        let name = URL(fileURLWithPath: file).lastPathComponent
        guard let bytes = FileManager.default.contents(atPath: file).map(Array.init) else {
            throw PlatformError(.invalidInput, file, "cannot be read")
        }
        let runtimes = ModelRuntimes.all(
            ONNXConfiguration(libraryPath: library ?? Settings.onnxLibrary(besides: ".venv/bin/python")))
        var texts = try texts()
        let model: any LoadedModel
        do {
            guard let runtime = runtimes.first(where: { $0.recognizes(bytes, fileName: name) }) else {
                throw PlatformError(.invalidInput, file, "no runtime recognizes this model file")
            }
            let loaded = try runtime.load(bytes, fileName: name)
            // The file's own words, where nobody says others.
            texts.merge(loaded.description.categories) { said, _ in said }
            model = try loaded.reading(categories: texts)
        } catch let error as ModelError { throw PlatformError(.invalidInput, file, error.message) }
        var names = model.description.featureNames
        if let inputs { names = try JSONDecoder().decode([String].self, from: Data(inputs.utf8)) }
        let scorer = try BatchScorer(
            path: rows, model: model,
            inputs: names.isEmpty
                ? nil : names.enumerated().map { ScoringInput(name: $1, categories: texts[$0]) },
            kept: keep.isEmpty ? nil : keep,
            stamp: ScoreStamp(model: name, version: nil, scoredAt: SystemClock().now()))
        _ = try await scorer.score(
            to: output, workerCount: threads ?? ProcessInfo.processInfo.activeProcessorCount)
    }

    private func texts() throws -> [Int: [String]] {
        guard let categories else { return [:] }
        let lists = try JSONDecoder().decode([String: [String]].self, from: Data(categories.utf8))
        var result: [Int: [String]] = [:]
        for (position, texts) in lists {
            guard let position = Int(position) else {
                throw PlatformError(.invalidInput, "--categories", "'\(position)' is no position")
            }
            result[position] = texts
        }
        return result
    }
}
