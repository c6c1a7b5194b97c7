import Foundation
import PlatformCore
import ProcessAdapter
import RuntimePorts

/// A folder of its own with a runner, removed at the end.
final class Workshop: Sendable {
    let folder: String
    let runner: LocalJobRunner

    init(grace: TimeSpan = .seconds(1)) throws {
        folder = NSTemporaryDirectory() + "workshop-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        runner = LocalJobRunner(recordFolder: folder + "/records", grace: grace)
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    func job(
        _ command: [String], id: String = "job", environment: [String: String] = ["PATH": "/usr/bin:/bin"],
        output: Int = 1 << 20, memory: Int = 0, timeout: TimeSpan = .seconds(60)
    ) -> JobSpecification {
        JobSpecification(
            id: id, command: command, environment: environment, workingDirectory: folder + "/work",
            logPath: folder + "/logs/\(id).log", outputByteCountMax: output, memoryByteCountMax: memory,
            timeout: timeout)
    }

    func script(
        _ text: String, id: String = "job", output: Int = 1 << 20, memory: Int = 0, timeout: TimeSpan = .seconds(60)
    )
        -> JobSpecification
    {
        job(["/bin/sh", "-c", text], id: id, output: output, memory: memory, timeout: timeout)
    }

    func log(_ id: String = "job") -> String {
        String(decoding: FileManager.default.contents(atPath: folder + "/logs/\(id).log") ?? Data(), as: UTF8.self)
    }

    /// Number that a script wrote to a file of its working directory; waits for it.
    func number(in file: String) async throws -> Int32 {
        for _ in 0..<500 {
            if let data = FileManager.default.contents(atPath: folder + "/work/" + file),
                data.last == 10, let number = Int32(String(decoding: data.dropLast(), as: UTF8.self))
            {
                return number
            }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw CancellationError()
    }

    /// Whether a process lives; gives it a moment to be gone.
    func isGone(_ pid: Int32) async throws -> Bool {
        for _ in 0..<200 {
            let stat = FileManager.default.contents(atPath: "/proc/\(pid)/stat").map {
                String(decoding: $0, as: UTF8.self)
            }
            guard let stat, !stat.contains(") Z ") else { return true }
            try await Task.sleep(for: .milliseconds(10))
        }
        return false
    }
}
