import ExperimentTracking
import Foundation
import PlatformCore
import RuntimePorts
import StoragePorts
import TrainingJobs

/// What came of making a run again.
public struct RunReproduction: Sendable {
    /// How the two runs compare.
    public enum Verdict: String, Sendable {
        /// Every file of the model has the same bytes.
        case sameModel = "same_model"
        /// The bytes differ, or none were logged; every metric is equal.
        case sameMetrics = "same_metrics"
        /// Metrics differ.
        case different
        /// The run could be started and did not end well.
        case failed
        /// It cannot be started from here.
        case impossible
    }
    /// The verdict.
    public let verdict: Verdict
    /// The run that was to be made again.
    public let original: RunReport
    /// The new run; `nil` if there is none.
    public let again: RunReport?
    /// What of it could not be brought back, one sentence each.
    public let missing: [String]
    /// How its code was brought back.
    public let code: String
    /// What a person can do by hand.
    public let steps: [String]

    /// The two beside each other.
    public var comparison: RunComparison? { again.map { RunComparison([original, $0]) } }
}

extension RunDesk {
    /// Runs a training job's run again: same dataset, parameters, seed and code, on this machine with its present
    /// environment, into a run of its own.
    ///
    /// - Parameters:
    ///   - id: the run.
    ///   - tolerance: relative difference up to which two metrics count as equal; 0 for none.
    ///   - actor: who asks.
    ///   - progress: how far it is.
    /// - Throws: `notFound` if there is no such run; what cannot be brought back is no error but in the result.
    public func reproduce(
        _ id: String, tolerance: Double = 0, actor: String, progress: ProgressReporter
    ) async throws -> RunReproduction {
        let original = try await report(id)
        guard let job = original.job else {
            return RunReproduction(
                verdict: .impossible, original: original, again: nil, missing: Self.missing(in: original), code: "",
                steps: Self.steps(original))
        }
        var missing: [String] = []
        if original.record == nil {
            missing.append("no record of its surroundings was taken, so that code and environment cannot be compared")
        }
        progress.report("bringing back the code")
        let scratch = "\(scratchFolder)/code-\(identifiers.next())"
        defer { try? FileManager.default.removeItem(atPath: scratch) }
        let code = try await bringBackCode(of: original, job: job, to: scratch)
        missing += code.missing
        do {
            let place = original.record?["code"]?["repository"]?.stringValue ?? ""
            let recorded = (original.record?["command"]?.arrayValue ?? []).compactMap(\.stringValue).map { word in
                // A script named by its whole path would be the one of today.
                !place.isEmpty && word.hasPrefix("\(place)/") && code.folder != nil
                    ? scratch + word.dropFirst(place.count) : word
            }
            let isWhole = !recorded.isEmpty && !recorded.contains { $0.contains("***") }
            let started = try await pipeline.start(
                job.model, dataset: job.dataset, seed: job.seed, parameters: job.parameters, actor: actor,
                repeating: (run: id, command: isWhole ? recorded : nil, folder: code.folder))
            do { _ = try await pipeline.finish(started, progress: progress) } catch let error as PlatformError {
                if error.code != .refused { throw error }
                return RunReproduction(
                    verdict: .failed, original: original, again: try await report(started.runID),
                    missing: missing + [error.message], code: code.how, steps: [])
            }
            let again = try await report(started.runID)
            return RunReproduction(
                verdict: Self.verdict(original, again, tolerance: tolerance), original: original, again: again,
                missing: missing, code: code.how, steps: [])
        } catch let error as PlatformError {
            guard error.code == .notFound || error.code == .invalidInput else { throw error }
            return RunReproduction(
                verdict: .impossible, original: original, again: nil,
                missing: missing + ["\(error.subject): \(error.message)"], code: code.how,
                steps: Self.steps(original))
        }
    }

    static func verdict(_ original: RunReport, _ again: RunReport, tolerance: Double) -> RunReproduction.Verdict {
        let (left, right) = (original.modelFiles.mapValues(\.hash), again.modelFiles.mapValues(\.hash))
        if !left.isEmpty, left == right { return .sameModel }
        let (before, after) = (original.sections[.metrics] ?? [:], again.sections[.metrics] ?? [:])
        guard !before.isEmpty, before.keys == after.keys else { return .different }
        for (name, value) in before {
            if value == after[name] { continue }
            guard let first = value.doubleValue, let second = after[name]?.doubleValue,
                abs(first - second) <= tolerance * max(abs(first), abs(second))
            else { return .different }
        }
        return .sameMetrics
    }

    // MARK: Code

    private struct Code {
        /// Where it is; `nil` for where the definition says.
        var folder: String?
        var how = ""
        var missing: [String] = []
    }

    /// Brings the recorded commit and its uncommitted change into a folder of their own.
    private func bringBackCode(of report: RunReport, job: TrainingJob, to scratch: String) async throws -> Code {
        let record = report.record?["code"]
        let commit = record?["commit"]?.stringValue ?? job.facts?.code.commit ?? ""
        guard !commit.isEmpty else {
            return Code(
                how: "the code is in no repository; the folder as it is now",
                missing: record == nil
                    ? ["what code it ran is not known; the definition's folder as it is now was used"] : [])
        }
        guard let repository = record?["repository"]?.stringValue, !repository.isEmpty,
            FileManager.default.fileExists(atPath: repository)
        else {
            return Code(
                how: "the folder as it is now",
                missing: ["its repository \(record?["repository"]?.stringValue ?? "") is not there"])
        }
        // A clone that borrows the repository's objects: the repository itself is only read.
        let cloned = await git(["clone", "--quiet", "--no-checkout", "--shared", "--", repository, scratch])
        guard cloned == nil else {
            return Code(how: "the folder as it is now", missing: ["\(repository) cannot be read: \(cloned ?? "")"])
        }
        if await git(["-C", scratch, "checkout", "--quiet", "--detach", commit]) != nil {
            return Code(
                how: "the folder as it is now", missing: ["its repository \(repository) has no commit \(commit)"])
        }
        let remote = record?["remote"]?.stringValue ?? ""
        _ = await git(
            remote.isEmpty
                ? ["-C", scratch, "remote", "remove", "origin"]
                : ["-C", scratch, "remote", "set-url", "origin", remote])
        var code = Code(folder: scratch, how: "commit \(commit)")
        if let folder = record?["folder"]?.stringValue, !folder.isEmpty { code.folder = "\(scratch)/\(folder)" }
        guard let changes = record?["changes"], !changes.isNull else { return code }
        let names = (changes["left_out"]?.arrayValue ?? []).compactMap(\.stringValue)
        if !names.isEmpty {
            code.missing.append("uncommitted files that were not kept: \(names.joined(separator: ", "))")
        }
        guard changes["bytes"]?.integerValue != 0 else { return code }
        guard changes["applies"]?.boolValue == true, let hash = job.facts?.changes else {
            let masked = changes["masked_lines"]?.integerValue ?? 0
            code.missing.append(
                masked > 0
                    ? "its uncommitted change holds \(masked) lines that looked like secrets and were not kept"
                    : "its uncommitted change of \(changes["bytes"]?.integerValue ?? 0) bytes was too large to keep")
            return code
        }
        let failure = await git(
            ["-C", scratch, "apply", "--whitespace=nowarn", try await content.localPath(of: hash)])
        if let failure {
            code.missing.append("its uncommitted change does not apply: \(failure)")
        } else {
            code.how += " with its uncommitted change"
        }
        return code
    }

    /// Why a git command failed; `nil` if it did not.
    private func git(_ arguments: [String]) async -> String? {
        let id = "git-\(identifiers.next())"
        let log = "\(scratchFolder)/\(id).log"
        defer { try? FileManager.default.removeItem(atPath: log) }
        let outcome = await runner.run(
            JobSpecification(
                id: id, command: ["git"] + arguments,
                environment: [
                    "PATH": searchPath, "HOME": scratchFolder, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8",
                ],
                workingDirectory: scratchFolder, logPath: log, outputByteCountMax: 1 << 16, timeout: .seconds(300)))
        return outcome.ending == .succeeded ? nil : outcome.reason
    }

    // MARK: Runs from elsewhere

    private static func missing(in report: RunReport) -> [String] {
        var missing = ["no training job of this platform made it, so that its command is not started from here"]
        if report.record == nil {
            missing.append(
                "no record of its surroundings: install the Python package 'bottega' beside mlflow, and every run has one"
            )
            if report.run.tag("mlflow.source.git.commit") == nil { missing.append("its commit is not known") }
            missing.append("its environment is not known")
        } else if report.record?["code"]?["commit"]?.stringValue?.isEmpty != false {
            missing.append("its code is in no repository")
        }
        if report.sections[.data]?.isEmpty != false { missing.append("it named no dataset (mlflow.log_input)") }
        if report.sections[.seed]?.isEmpty != false { missing.append("it named no seed (a parameter 'seed')") }
        return missing
    }

    /// What a person can do to run it again elsewhere.
    private static func steps(_ report: RunReport) -> [String] {
        guard let record = report.record, let code = record["code"] else { return [] }
        var steps: [String] = []
        // Outside of a repository the folder is the whole path that the code was in.
        var folder = code["folder"]?.stringValue ?? ""
        if let commit = code["commit"]?.stringValue, !commit.isEmpty {
            folder = folder.isEmpty ? "code" : "code/\(folder)"
            let from =
                [code["remote"], code["repository"]].lazy.compactMap { $0?.stringValue }.first { !$0.isEmpty } ?? ""
            steps.append("git clone \(from) code && git -C code checkout --detach \(commit)")
            if code["changes"]?["applies"]?.boolValue == true {
                steps.append(
                    "mlflow artifacts download --run-id \(report.run.info.id) --artifact-path \(RunRecorder.changesPath) --dst-path . && git -C code apply ../changes.diff"
                )
            }
        }
        let count = record["environment"]?["packages"]?.arrayValue?.count ?? 0
        steps.append(
            "an environment with Python \(record["environment"]?["python"]?.stringValue ?? "?") and the \(count) packages of \(RunRecorder.recordPath)"
        )
        let command = (record["command"]?.arrayValue ?? []).compactMap(\.stringValue).map(quoted)
            .joined(separator: " ")
        steps.append(folder.isEmpty ? command : "(cd \(quoted(folder)) && \(command))")
        return steps
    }
    /// A word as a shell reads it.
    private static func quoted(_ word: String) -> String {
        let isPlain =
            !word.isEmpty
            && word.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                    || "-_./=:,@%+".utf8.contains(byte)
            }
        return isPlain ? word : "'\(word.replacing("'", with: "'\\''"))'"
    }
}
