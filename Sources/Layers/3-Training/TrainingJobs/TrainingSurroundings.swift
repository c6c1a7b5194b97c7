import Foundation
public import PlatformCore
import RuntimePorts
import StoragePorts

/// What was found out about a job's surroundings.
public struct TrainingRecord: Sendable, Hashable {
    /// The whole record: code, command, data, features, parameters, seed, environment, machine.
    ///
    /// `nil` if the interpreter could not take it.
    public let json: JSONValue?
    /// The uncommitted change of the code, for `git apply`; empty if there is none.
    public let changes: [UInt8]
}

/// Finds out what a job runs in: the code's commit, the interpreter's packages, the machine.
///
/// Asks the job's own interpreter, in the job's own environment, by the recorder that the Python package has too; what
/// cannot be found out is left empty and stops nothing.
struct TrainingSurroundings: Sendable {
    let runner: any JobRunner
    let content: ContentStore
    let configuration: TrainingJobConfiguration

    func record(of job: TrainingJob, command: [String], codeFolder: String, environment: [String: String]) async
        -> TrainingRecord
    {
        let (output, changes) = ("\(job.folder)/record.log", "\(job.folder)/record.diff")
        let outcome = await runner.run(
            JobSpecification(
                id: "\(job.id).record",
                command: [
                    configuration.interpreter, "-c", RecorderScript.text, "--folder", codeFolder, "--command",
                    JSONValue.array(command.map(JSONValue.string)).text, "--changes", changes,
                ],
                environment: environment, workingDirectory: job.folder, logPath: output, outputByteCountMax: 8 << 20,
                timeout: .seconds(120)))
        defer {
            try? FileManager.default.removeItem(atPath: output)
            try? FileManager.default.removeItem(atPath: changes)
        }
        guard outcome.ending == .succeeded, let data = FileManager.default.contents(atPath: output),
            let text = String(validating: data, as: UTF8.self),
            // Warnings of the interpreter stand before it, in the same file.
            let line = text.split(separator: "\n").last,
            let json = try? JSONValue.parse(String(line), limits: JSONLimits(byteCountMax: 8 << 20, depthMax: 8)),
            json["environment"]?["python"]?.stringValue != nil
        else { return TrainingRecord(json: nil, changes: []) }
        return TrainingRecord(json: json, changes: FileManager.default.contents(atPath: changes).map(Array.init) ?? [])
    }

    /// The part of a record that the job's row keeps, with the rest stored as blobs.
    func facts(from record: TrainingRecord) async -> TrainingFacts {
        let (code, environment) = (record.json?["code"], record.json?["environment"])
        var blobs: (record: ContentHash?, environment: ContentHash?, changes: ContentHash?)
        if let json = record.json { blobs.record = try? await content.put(json.canonicalBytes) }
        if let environment { blobs.environment = try? await content.put(environment.canonicalBytes) }
        if !record.changes.isEmpty { blobs.changes = try? await content.put(record.changes) }
        return TrainingFacts(
            code: CodeRecord(
                commit: code?["commit"]?.stringValue ?? "", branch: code?["branch"]?.stringValue ?? "",
                isDirty: code?["dirty"]?.boolValue ?? false),
            environment: blobs.environment, interpreterVersion: environment?["python"]?.stringValue ?? "",
            hardware: Self.hardware(), record: blobs.record, changes: blobs.changes)
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
