import ContentHashing
import Foundation
public import PlatformCore
public import RuntimePorts
import Synchronization

/// How models that are Python code are run.
public struct PythonRuntimeConfiguration: Sendable {
    /// The interpreter of models that name no environment.
    public var interpreter: String
    /// Folder for their files.
    public var folder: String
    /// Time to load a model.
    public var startTime: Duration

    /// Makes a configuration.
    public init(interpreter: String, folder: String, startTime: Duration = .seconds(120)) {
        self.interpreter = interpreter
        self.folder = folder
        self.startTime = startTime
    }
}

/// Runs models that are Python code in worker processes: MLflow folders of any flavor, and pickled objects in scikit-learn's
/// manner.
///
/// What is loaded there is code: it sees nothing of this process, neither memory nor environment, but runs as the same user.
public final class PythonModelRuntime: ModelRuntime {
    private let configuration: PythonRuntimeConfiguration
    private let folders: ModelFolders
    private struct Use: Hashable {
        let artifact: ContentHash
        let options: RuntimeOptions
    }
    private struct WeakHandle { weak var handle: WorkerPoolHandle? }
    private struct State {
        var pools: [Use: WeakHandle] = [:]
        var ledgers: [String: WorkerLedger] = [:]
        var program: String?
    }
    private let state = Mutex(State())

    /// Largest pickle that is a model of its own.
    private static let pickleByteCountMax = 1 << 30

    /// Makes a runtime; `fetch` reads the files that a list of files names.
    public init(
        _ configuration: PythonRuntimeConfiguration,
        fetch: @escaping @Sendable (ContentHash, _ byteCountMax: Int) async throws -> [UInt8]
    ) {
        self.configuration = configuration
        folders = ModelFolders(root: configuration.folder, fetch: fetch)
    }

    /// One: what is inside does not matter here.
    public var formats: [String] { ["python"] }

    /// Lists of files with an `MLmodel` among them, and pickles of protocol 2 to 5.
    public func recognizes(_ bytes: [UInt8], fileName: String) -> Bool {
        if bytes.count > 2, bytes[0] == 0x80, 2...5 ~= bytes[1] { return true }
        guard let list = try? ModelFileList(bytes) else { return false }
        return list.files.contains { $0.path == "MLmodel" }
    }

    /// Refused: such a model is opened, not loaded.
    public func load(_ bytes: [UInt8], fileName: String) throws(ModelError) -> any LoadedModel {
        throw ModelError(.unsupportedModel, "Python models run in worker processes of the server only")
    }

    /// Has a worker load the model, or remembers what one said of it.
    public func open(_ bytes: [UInt8], fileName: String, options: RuntimeOptions) async throws(ModelError)
        -> any LoadedModel
    {
        guard bytes.count <= Self.pickleByteCountMax else { throw ModelError(.tooLarge, "it has \(bytes.count) bytes") }
        let hash = ContentHasher.hash(bytes)
        let files = try await folders.place(bytes, hash: hash, fileName: fileName)
        let interpreter = try interpreter(options.environment)
        // Another environment may see another model, and another worker program may say something else of it.
        let reader = ContentHasher.hash(interpreter + "\n" + (try program()))
        let mark = "\(folders.folder(of: hash))/said-\(reader.short).json"
        let handle = try handle(hash, files, interpreter, options, mark: mark)
        let hello: WorkerHello
        if let data = FileManager.default.contents(atPath: mark),
            let said = try? JSONDecoder().decode(WorkerHello.self, from: data)
        {
            hello = said
        } else {
            hello = try await handle.pool.greeting()
        }
        return PythonModel(
            handle, hello, categories: nil, timeout: options.timeout, startTime: configuration.startTime)
    }

    private func interpreter(_ environment: String?) throws(ModelError) -> String {
        guard let environment else { return configuration.interpreter }
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: environment, isDirectory: &isFolder) else {
            throw ModelError(.unavailable, "its environment '\(environment)' is not there")
        }
        return isFolder.boolValue ? "\(environment)/bin/python" : environment
    }

    private func handle(
        _ hash: ContentHash, _ files: String, _ interpreter: String, _ options: RuntimeOptions, mark: String
    ) throws(ModelError) -> WorkerPoolHandle {
        let program = try program()
        let scratch = "\(configuration.folder)/scratch"
        try? FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
        let workers = WorkerConfiguration(
            model: options.model, interpreter: interpreter, program: program, modelFolder: files,
            workingFolder: scratch, workerCount: options.workerCount,
            memoryByteCountMax: options.memoryByteCountMax, timeout: options.timeout,
            startTime: configuration.startTime)
        let use = Use(artifact: hash, options: options)
        return state.withLock { state in
            if let known = state.pools[use]?.handle { return known }
            // A model that nothing names, an old prediction's for one, may use any pool that has it loaded.
            if options.model.isEmpty,
                let other = state.pools.first(where: { $0.key.artifact == hash && $0.value.handle != nil })?.value
                    .handle
            {
                return other
            }
            state.pools = state.pools.filter { $0.value.handle != nil }
            let ledger = state.ledgers[options.model] ?? WorkerLedger()
            state.ledgers[options.model] = ledger
            let pool = WorkerPool(workers, ledger: ledger) { hello in
                guard let data = try? JSONEncoder().encode(hello) else { return }
                try? data.write(to: URL(fileURLWithPath: mark), options: .atomic)
            }
            let handle = WorkerPoolHandle(pool)
            state.pools[use] = WeakHandle(handle: handle)
            return handle
        }
    }

    /// Writes the worker program beside the models, under a name that its content decides.
    private func program() throws(ModelError) -> String {
        if let known = state.withLock({ $0.program }) { return known }
        let bytes = PackageResources.worker_py
        let path = "\(configuration.folder)/worker-\(ContentHasher.hash(bytes).short).py"
        do {
            try FileManager.default.createDirectory(
                atPath: configuration.folder, withIntermediateDirectories: true)
            try Data(bytes).write(to: URL(fileURLWithPath: path), options: .atomic)
        } catch {
            throw ModelError(.unavailable, "the worker program cannot be written: \(printable("\(error)"))")
        }
        state.withLock { $0.program = path }
        return path
    }

    /// Workers, their queue, their calls and their ends, by model.
    public func measurements() -> [RuntimeMeasurement] {
        let (handles, ledgers) = state.withLock { state in
            (state.pools.compactMap { use, weak in weak.handle.map { (use.options.model, $0) } }, state.ledgers)
        }
        var measurements: [RuntimeMeasurement] = []
        for (model, ledger) in ledgers.sorted(by: { $0.key < $1.key }) {
            let label = RuntimeMeasurement.Label("model", model)
            func add(_ name: String, _ more: RuntimeMeasurement.Label? = nil, _ value: Int) {
                measurements.append(RuntimeMeasurement(name, [label] + (more.map { [$0] } ?? []), Double(value)))
            }
            let statuses = handles.filter { $0.0 == model }.map(\.1.pool.status)
            for (word, path) in [("starting", \WorkerStatus.starting), ("idle", \.idle), ("busy", \.busy)] {
                add(
                    "bottega_worker_processes", RuntimeMeasurement.Label("state", word),
                    statuses.reduce(0) { $0 + $1[keyPath: path] })
            }
            add("bottega_worker_queue_length", nil, statuses.reduce(0) { $0 + $1.queued })
            add("bottega_worker_breakers_open", nil, statuses.count(where: \.breakerIsOpen))
            for (outcome, count) in ledger.outcomes.sorted(by: { $0.key < $1.key }) {
                add("bottega_worker_events_total", RuntimeMeasurement.Label("event", outcome), count)
            }
            add("bottega_worker_printed_bytes_total", nil, ledger.outputByteCount)
        }
        return measurements
    }
}
