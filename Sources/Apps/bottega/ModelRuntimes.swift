import ArgumentParser
import Foundation
import LinearModelAdapter
import ONNXAdapter
import ProcessAdapter
import RemoteModelAdapter
import RuntimePorts
import StoragePorts
import TreeModelAdapter

/// What loads model files.
enum ModelRuntimes {
    /// All runtimes, in the order in which they are asked.
    static func all(_ configuration: ONNXConfiguration, gate: ONNXGate? = nil) -> [any ModelRuntime] {
        [LinearModelRuntime()] + TreeModelTool.all + [ONNXRuntime(configuration: configuration, gate: gate)]
    }
}

extension Settings {
    /// The runtimes of the server: those of this process, behind those whose models run elsewhere.
    func servingRuntimes(_ content: ContentStore) -> [any ModelRuntime] {
        let python = PythonModelRuntime(
            PythonRuntimeConfiguration(interpreter: pythonPath, folder: "\(dataDirectory)/python")
        ) { try await content.get($0, byteCountMax: $1) }
        let remote = RemoteModelRuntime(folder: "\(dataDirectory)/remote", authorities: remoteAuthorities)
        return [python, remote] + modelRuntimes(isGated: true)
    }

    /// The runtimes of this process.
    /// - Parameter isGated: whether libraries that are not ours try models in a process of their own first.
    func modelRuntimes(isGated: Bool) -> [any ModelRuntime] {
        let configuration = ONNXConfiguration(libraryPath: onnxLibraryPath, threadCount: onnxThreadCount)
        let library = onnxLibraryPath.map { ["--library", $0] } ?? []
        return ModelRuntimes.all(
            configuration,
            gate: isGated
                ? ONNXGate(command: ["/proc/self/exe", "try-model"] + library, folder: "\(dataDirectory)/onnx") : nil)
    }

    /// ONNX Runtime's library: in the package of a Python environment, else among those of the system.
    static func onnxLibrary(besides interpreter: String) -> String? {
        let files = FileManager.default
        func first(in folder: String) -> String? {
            (try? files.contentsOfDirectory(atPath: folder))?.filter { $0.hasPrefix("libonnxruntime.so") }.sorted()
                .first
                .map { "\(folder)/\($0)" }
        }
        let environment = URL(fileURLWithPath: interpreter).deletingLastPathComponent().deletingLastPathComponent().path
        for python in (try? files.contentsOfDirectory(atPath: "\(environment)/lib"))?.sorted() ?? [] {
            if let found = first(in: "\(environment)/lib/\(python)/site-packages/onnxruntime/capi") { return found }
        }
        for folder in ["/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"] {
            if let found = first(in: folder) { return found }
        }
        return nil
    }
}

/// Loads a model file and predicts with it in a process that may crash: what the server does before it loads one itself.
struct TryModel: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "try-model", abstract: "Load a model file and predict with it; print what was wrong.",
        shouldDisplay: false)
    @Option(help: "The model file.") var file: String
    @Option(help: "The name it was logged under.") var name: String
    @Option(help: "ONNX Runtime's library.") var library: String?

    func run() {
        let runtime = ONNXRuntime(configuration: ONNXConfiguration(libraryPath: library))
        print(ONNXGate.trial(path: file, fileName: name, runtime: runtime))
    }
}
