import ArgumentParser
import Dispatch
import Foundation
import ONNXAdapter
import PlatformCore
import RuntimePorts
import Synchronization

/// Loads a model file in a process of its own and says how much memory it holds: what the `memory` gate measures.
struct WeighModel: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "weigh-model", abstract: "Print the bytes that a loaded model file holds.", shouldDisplay: false)
    @Option(help: "The model file.") var file: String
    @Option(help: "The name it was logged under.") var name: String
    @Option(help: "ONNX Runtime's library.") var library: String?

    func run() throws {
        do { print(try Self.weigh(file, name: name, library: library)) } catch { throw fail(error) }
    }

    /// Memory of this process that is no file's: what `VmRSS` counts without mapped files.
    private static func heldByteCount() -> Int {
        let status = FileManager.default.contents(atPath: "/proc/self/status") ?? Data()
        let line = String(decoding: status, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("RssAnon:") }
        return (line?.split(separator: " ").dropLast().last.flatMap { Int($0) } ?? 0) << 10
    }

    private static func weigh(_ path: String, name: String, library: String?) throws -> Int {
        let before = heldByteCount()
        guard
            var bytes = FileManager.default.contents(atPath: path)
                .map({ Array($0) })
        else {
            throw PlatformError(.invalidInput, path, "cannot be read")
        }
        let runtimes = ModelRuntimes.all(ONNXConfiguration(libraryPath: library))
        guard let runtime = runtimes.first(where: { $0.recognizes(bytes, fileName: name) }) else {
            throw PlatformError(.invalidInput, name, "no runtime recognizes this model file")
        }
        let model = try runtime.load(bytes, fileName: name)
        bytes = []
        // An encoder may refuse the texts of zeros, which are not known here; what it takes is measured all the same.
        _ = try? model.predict([Float](repeating: 0, count: model.description.featureCount), rowCount: 1)
        return withExtendedLifetime(model) { max(0, heldByteCount() - before) }
    }

    /// Measures in a child process, which nothing else shares.
    ///
    /// - Parameter secondsMax: when a model that does not come to an end is given up.
    @concurrent
    static func measure(
        _ path: String, fileName: String, library: String?, secondsMax: Int = 120
    ) async throws -> Int {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments =
            ["weigh-model", "--file", path, "--name", fileName]
            + (library.map { ["--library", $0] } ?? [])
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let child = process.processIdentifier
        let isOver = Mutex(false)
        let deadline = DispatchWorkItem {
            isOver.withLock { isOver in
                if !isOver { kill(child, SIGKILL) }
            }
        }
        DispatchQueue.global().asyncAfter(deadline: .now() + .seconds(secondsMax), execute: deadline)
        let data = output.fileHandleForReading.readDataToEndOfFile()
        // Its output ends with the process or before; from here on its identifier may soon belong to another.
        isOver.withLock { $0 = true }
        deadline.cancel()
        process.waitUntilExit()
        let text = String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        guard process.terminationStatus == 0, let bytes = Int(text) else {
            throw PlatformError(.unavailable, fileName, "its memory cannot be measured")
        }
        return bytes
    }
}
