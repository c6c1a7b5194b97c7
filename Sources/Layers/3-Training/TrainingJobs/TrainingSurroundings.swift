import Foundation
import PlatformCore
import RuntimePorts
import StoragePorts

/// Finds out what a job runs in: the code's commit, the interpreter's packages, the machine.
///
/// Asks through short jobs of the same runner; what cannot be found out is left empty and stops nothing.
struct TrainingSurroundings: Sendable {
    let runner: any JobRunner
    let content: ContentStore
    let configuration: TrainingJobConfiguration

    func facts(for job: TrainingJob, codeFolder: String) async -> TrainingFacts {
        let (environment, version) = await environment(for: job)
        return TrainingFacts(
            code: await code(for: job, codeFolder: codeFolder), environment: environment, interpreterVersion: version,
            hardware: Self.hardware())
    }

    /// Prints one JSON object: the version and `name==version` of every installed package, sorted.
    private static let listing = """
        import importlib.metadata as m, json, platform, sys
        names = {f"{d.metadata['Name']}=={d.version}" for d in m.distributions() if d.metadata['Name']}
        print(json.dumps({"python": platform.python_version(), "implementation": platform.python_implementation(),
            "platform": platform.platform(), "packages": sorted(names, key=str.lower)}))
        """

    private func environment(for job: TrainingJob) async -> (ContentHash?, String) {
        guard
            let text = await output(
                of: [configuration.interpreter, "-c", Self.listing], job: job, purpose: "environment",
                folder: job.folder, timeout: .seconds(60)),
            // Warnings of the interpreter stand before it, in the same file.
            let line = text.split(separator: "\n").last,
            let record = try? JSONValue.parse(String(line), limits: JSONLimits(byteCountMax: 4 << 20, depthMax: 4)),
            let version = record["python"]?.stringValue
        else { return (nil, "") }
        return (try? await content.put(record.canonicalBytes), version)
    }

    private func code(for job: TrainingJob, codeFolder: String) async -> CodeRecord {
        func git(_ arguments: [String], _ purpose: String) async -> String? {
            await output(
                of: ["git", "-C", codeFolder] + arguments, job: job, purpose: purpose, folder: job.folder,
                timeout: .seconds(20))
        }
        let lines = await git(["rev-parse", "HEAD", "--abbrev-ref", "HEAD"], "commit")?.split(separator: "\n") ?? []
        guard lines.count == 2, lines[0].utf8.count >= 40, lines[0].allSatisfy(\.isHexDigit) else {
            return CodeRecord(commit: "", branch: "", isDirty: false)
        }
        let changes = await git(["status", "--porcelain", "--untracked-files=no", "--", "."], "changes")
        return CodeRecord(
            commit: String(lines[0]), branch: lines[1] == "HEAD" ? "" : String(lines[1]),
            isDirty: changes.map { !$0.isEmpty } ?? false)
    }

    /// What a short command prints; `nil` unless it succeeds.
    private func output(of command: [String], job: TrainingJob, purpose: String, folder: String, timeout: TimeSpan)
        async
        -> String?
    {
        let path = "\(job.folder)/\(purpose).log"
        let outcome = await runner.run(
            JobSpecification(
                id: "\(job.id).\(purpose)", command: command,
                environment: [
                    "PATH": configuration.searchPath, "HOME": job.folder, "GIT_OPTIONAL_LOCKS": "0",
                    "LC_ALL": "C.UTF-8",
                ],
                workingDirectory: folder, logPath: path, outputByteCountMax: 4 << 20, timeout: timeout))
        defer { try? FileManager.default.removeItem(atPath: path) }
        guard outcome.ending == .succeeded, let data = FileManager.default.contents(atPath: path) else { return nil }
        return String(validating: data, as: UTF8.self)
    }

    static func hardware() -> HardwareRecord {
        var processor = ""
        if let file = FileHandle(forReadingAtPath: "/proc/cpuinfo"), let data = try? file.read(upToCount: 8192) {
            for line in String(decoding: data, as: UTF8.self).split(separator: "\n") where line.hasPrefix("model name")
            {
                processor = line.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) } ?? ""
                break
            }
        }
        let information = ProcessInfo.processInfo
        return HardwareRecord(
            processor: processor, processorCount: information.activeProcessorCount,
            memoryByteCount: Int(clamping: information.physicalMemory))
    }
}
