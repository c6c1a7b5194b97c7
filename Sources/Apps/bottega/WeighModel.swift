import ArgumentParser
import Foundation
import Glibc
import PlatformCore
import RuntimePorts
import TreeModelAdapter

/// Loads a model file in a process of its own and says how much memory it holds: what the `memory` gate measures.
struct WeighModel: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "weigh-model", abstract: "Print the bytes that a loaded model file holds.", shouldDisplay: false)
    @Option(help: "The model file.") var file: String
    @Option(help: "The name it was logged under.") var name: String

    func run() throws {
        do { print(try Self.weigh(file, name: name)) } catch { throw fail(error) }
    }

    private static var heldByteCount: Int {
        let info = mallinfo2()
        return Int(info.uordblks) + Int(info.hblkhd)
    }

    private static func weigh(_ path: String, name: String) throws -> Int {
        guard
            var bytes = FileManager.default.contents(atPath: path)
                .map({ Array($0) })
        else {
            throw PlatformError(.invalidInput, path, "cannot be read")
        }
        let runtimes: [any ModelRuntime] = [XGBoostRuntime(), LightGBMRuntime()]
        guard let runtime = runtimes.first(where: { $0.recognizes(bytes, fileName: name) }) else {
            throw PlatformError(.invalidInput, name, "no runtime recognizes this model file")
        }
        let before = heldByteCount - bytes.count
        let model = try runtime.load(bytes, fileName: name)
        bytes = []
        _ = try model.predict([Float](repeating: 0, count: model.description.featureCount), rowCount: 1)
        return withExtendedLifetime(model) { max(0, heldByteCount - before) }
    }

    /// Measures in a child process, which nothing else shares.
    @concurrent
    static func measure(_ path: String, fileName: String) async throws -> Int {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = ["weigh-model", "--file", path, "--name", fileName]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        let text = String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        guard process.terminationStatus == 0, let bytes = Int(text) else {
            throw PlatformError(.unavailable, fileName, "its memory cannot be measured")
        }
        return bytes
    }
}
