import ContentHashing
import Dispatch
import Foundation
import PlatformCore
import RuntimePorts

/// Tries a model in a process of its own, so that a file on which the library crashes ends that one.
///
/// What passed is remembered by its hash and the library's version, so that a restart does not try everything again.
public struct ONNXGate: Sendable {
    private let command: [String]
    private let folder: String

    /// Makes a gate.
    /// - Parameters:
    ///   - command: program and arguments; `--file PATH --name NAME` is added. It calls `trial`.
    ///   - folder: where candidates lie meanwhile and what passed is remembered.
    public init(command: [String], folder: String) {
        self.command = command
        self.folder = folder
    }

    /// How long a trial may take, in seconds.
    private static let secondsMax: UInt32 = 60
    /// Address space beside that for the model.
    private static let memoryByteCount = 4 << 30

    /// Passes if the trial loads the model and predicts with it.
    func check(_ bytes: [UInt8], fileName: String, libraryVersion: String) async throws(ModelError) {
        // Waiting for a process holds a thread: one of Dispatch's, not one of those that run tasks.
        let result: Result<Void, ModelError> = await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                do throws(ModelError) {
                    try wait(bytes, fileName, libraryVersion)
                    continuation.resume(returning: .success(()))
                } catch { continuation.resume(returning: .failure(error)) }
            }
        }
        try result.get()
    }

    private func wait(_ bytes: [UInt8], _ fileName: String, _ libraryVersion: String) throws(ModelError) {
        let version = libraryVersion.filter { $0.isLetter || $0.isNumber || $0 == "." }
        let mark = "\(folder)/passed-\(version.prefix(32))-\(ContentHasher.hash(bytes).hex)"
        if FileManager.default.fileExists(atPath: mark) { return }
        let answer: TrialAnswer?
        let process = Process()
        do {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            let candidate = "\(folder)/candidate-\(UUID().uuidString)"
            defer { try? FileManager.default.removeItem(atPath: candidate) }
            try Data(bytes).write(to: URL(fileURLWithPath: candidate))
            process.executableURL = URL(fileURLWithPath: command.first ?? "").resolvingSymlinksInPath()
            process.arguments = command.dropFirst() + ["--file", candidate, "--name", fileName]
            let output = Pipe()
            process.standardInput = FileHandle.nullDevice
            process.standardOutput = output
            process.standardError = FileHandle.nullDevice
            try process.run()
            let data = output.fileHandleForReading.readDataToEndOfFile()
            process.waitUntilExit()
            answer = try? JSONDecoder().decode(TrialAnswer.self, from: data)
        } catch {
            throw ModelError(.unavailable, "the model cannot be tried: \(printable("\(error)"))")
        }
        guard let answer else {
            let signal = process.terminationReason == .uncaughtSignal ? process.terminationStatus : 0
            throw ModelError(
                .malformedModel,
                signal == SIGALRM
                    ? "loading it and predicting took longer than \(Self.secondsMax) s"
                    : "ONNX Runtime crashed while loading it or predicting "
                        + (signal > 0 ? "(signal \(signal))" : "(exit code \(process.terminationStatus))"))
        }
        if let fault = answer.fault { throw ModelError(.init(rawValue: fault) ?? .malformedModel, answer.message) }
        _ = FileManager.default.createFile(atPath: mark, contents: nil)
    }

    /// The other side: limits this process, loads a model, predicts, and gives what to print.
    ///
    /// The process ends by a signal if the library crashes or takes too long, or memory runs out.
    public static func trial(path: String, fileName: String, runtime: ONNXRuntime) -> String {
        // The signal may come blocked or ignored from whoever started this process.
        signal(SIGALRM, SIG_DFL)
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGALRM)
        sigprocmask(SIG_UNBLOCK, &signals, nil)
        alarm(secondsMax)
        // No core dump of a process that is there to crash.
        var limit = rlimit(rlim_cur: 0, rlim_max: 0)
        setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &limit)
        var answer = TrialAnswer(fault: nil, message: "")
        do throws(ModelError) {
            guard let data = FileManager.default.contents(atPath: path) else {
                throw ModelError(.unavailable, "the candidate cannot be read")
            }
            let space = rlim_t(clamping: memoryByteCount + 8 * data.count)
            limit = rlimit(rlim_cur: space, rlim_max: space)
            setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
            let model = try runtime.load(Array(data), fileName: fileName)
            try predictRows(model)
        } catch {
            answer = TrialAnswer(fault: error.code.rawValue, message: error.message)
        }
        return String(decoding: (try? JSONEncoder().encode(answer)) ?? Data(), as: UTF8.self)
    }

    /// Predicts odd rows, alone and together; an error is an answer, a crash ends the process.
    private static func predictRows(_ model: any LoadedModel) throws(ModelError) {
        let width = model.description.featureCount
        let samples: [Float] = [0, 1, -1, .nan, 1e30, 0.5, 1000, -1e30]
        for value in samples { _ = try? model.predict([Float](repeating: value, count: width), rowCount: 1) }
        let rows = (0..<(3 * width)).map { Float(($0 * 7) % 5) }
        _ = try? model.predict(rows, rowCount: 3)
    }

    private struct TrialAnswer: Codable {
        let fault: String?
        let message: String
    }
}
