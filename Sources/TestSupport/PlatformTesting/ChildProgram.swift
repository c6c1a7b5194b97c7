import Foundation
import Synchronization

/// A program built beside the tests, run as a child that a test may kill.
public final class ChildProgram: Sendable {
    private let process: Process
    private let path: String

    /// Starts the program with its output going to a file.
    public init(_ name: String, _ arguments: [String], output: String) throws {
        let process = Process()
        process.executableURL = try Self.folder().appendingPathComponent(name)
        process.arguments = arguments
        guard FileManager.default.createFile(atPath: output, contents: nil) else {
            throw CocoaError(.fileWriteUnknown)
        }
        process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: output))
        try process.run()
        self.process = process
        path = output
    }

    deinit { if process.isRunning { kill() } }

    /// The folder of built products: the first one above the test bundle, or the program that runs it, which holds any.
    private static func folder() throws -> URL {
        for argument in CommandLine.arguments where argument.hasSuffix(".xctest") {
            return URL(fileURLWithPath: argument).deletingLastPathComponent()
        }
        return URL(fileURLWithPath: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
            .deletingLastPathComponent()
    }

    /// The identifier of the child.
    public var identifier: Int32 { process.processIdentifier }
    /// The whole lines that it has printed so far.
    public func lines() -> [String] {
        let text = String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
        return text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init)
    }
    /// Ends it at once, as a crash would, and waits until it is gone.
    public func kill() {
        Foundation.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }
    /// Waits for its end; gives the status.
    public func end() -> Int32 {
        process.waitUntilExit()
        return process.terminationStatus
    }
}
