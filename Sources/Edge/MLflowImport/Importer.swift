import ContentHashing
import Foundation
import PlatformCore

/// Copies everything that an MLflow server holds into the platform, and verifies it.
///
/// Runs and logged models keep their identifiers and times, so what was copied is found again and never copied twice: a
/// run that was copied and verified carries a tag that says of which state, and a second import leaves it alone. An
/// import that was killed goes on where it was. Experiments keep their names and get new numbers.
public struct Importer: Sendable {
    /// Tag of a run that was copied and verified: SHA-256 of what the source said of it.
    static let doneTag = "bottega.imported"
    /// What that tag says of something whose files were left out.
    static let partTag = "without files"
    /// Tag that names the source.
    static let sourceTag = "bottega.import.source"
    /// Traces of one experiment that are counted.
    private static let traceCountMax = 500

    let source: any ImportSource
    let destination: HTTPEndpoint
    let scratch: String
    let parallelCount: Int
    let tally: ImportTally

    /// Copies from `source` to `destination`; `progress` hears how far it is.
    ///
    /// - Parameters:
    ///   - source: where everything comes from.
    ///   - destination: a running platform.
    ///   - scratch: folder for files on their way.
    ///   - parallelCount: runs that are copied at the same time.
    ///   - progress: hears of each step.
    public init(
        source: any ImportSource, destination: HTTPEndpoint, scratch: String, parallelCount: Int = 4,
        progress: @escaping @Sendable (String) -> Void
    ) {
        self.source = source
        self.destination = destination
        self.scratch = scratch
        self.parallelCount = max(1, parallelCount)
        tally = ImportTally(progress: progress)
    }

    /// Where something of the source is in the platform, for sources of registered versions.
    struct Moved: Sendable {
        var roots: [(from: String, to: String)] = []
        /// Experiments by their number in the source.
        var experiments: [String: String] = [:]
    }

    /// Counts what there is, says which models another one is in the way of, and copies nothing.
    public func rehearse() async throws -> ImportReport {
        let experiments = try await source.experiments()
        tally.found("experiments", experiments.count)
        for experiment in experiments {
            tally.found("runs", try await source.runs(of: experiment.text("experiment_id")).count)
            tally.found("logged_models", try await source.loggedModels(of: experiment.text("experiment_id")).count)
            tally.found("scorers", try await source.scorers(of: experiment.text("experiment_id")).count)
        }
        try await noteLeftOut(experiments)
        tally.found("evaluation_datasets", try await source.evaluationDatasets().count)
        try await rehearseRegistry()
        return tally.report
    }

    /// Says what does not come along.
    private func noteLeftOut(_ experiments: [JSONValue]) async throws {
        var (count, isMore) = (0, false)
        for experiment in experiments {
            let some: Int
            do {
                some = try await source.traceCount(of: experiment.text("experiment_id"), countMax: Self.traceCountMax)
            } catch {
                if Task.isCancelled { throw error }
                tally.note("traces, which are not carried over, could not be counted: \(errorText(error))")
                break
            }
            count += some
            isMore = isMore || some == Self.traceCountMax
        }
        if count > 0 {
            tally.note("\(count)\(isMore ? " or more" : "") traces are left out: they are not carried over")
        }
        if !source.hasFiles { tally.note("files are left out, as --no-artifacts says") }
    }

    /// Copies and verifies.
    ///
    /// - Throws: what keeps everything from being copied: a source or target that does not answer. What keeps one thing
    ///   from being copied is a problem in the report.
    public func run() async throws -> ImportReport {
        try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
        try await note("started", .null)
        var moved = Moved()
        let experiments = try await source.experiments()
        tally.found("experiments", experiments.count)
        try await noteLeftOut(experiments)
        for experiment in experiments { try await copy(experiment, &moved) }
        try await copyEvaluationDatasets(moved)
        try await copyRegistry(moved)
        for experiment in experiments where experiment.text("lifecycle_stage") == "deleted" {
            let there = try await destination.find(
                "/api/2.0/mlflow/experiments/get-by-name", [("experiment_name", experiment.text("name"))])
            guard let id = there?["experiment"]?.text("experiment_id") else { continue }
            _ = try await destination.send("POST", "/api/2.0/mlflow/experiments/delete", ["experiment_id": .string(id)])
        }
        let report = tally.report
        try await note("ended", ["counts": report.json["counts"] ?? .null, "complete": .bool(report.problems.isEmpty)])
        return report
    }

    /// Says in the audit chain that an import began or ended; what it copies is not said one by one.
    private func note(_ state: String, _ report: JSONValue) async throws {
        _ = try await destination.send(
            "POST", "/api/v1/import/notes",
            ["source": .string(source.name), "state": .string(state), "report": report])
    }

    // MARK: Experiments

    private func copy(_ experiment: JSONValue, _ moved: inout Moved) async throws {
        let (id, name) = (experiment.text("experiment_id"), experiment.text("name"))
        let made = try await destination.send(
            "POST", "/api/v1/import/experiments",
            Self.stated([
                "name": .string(name), "created_at": experiment["creation_time"] ?? .null,
                "updated_at": experiment["last_update_time"] ?? .null,
            ]))
        let target = made.text("experiment_id")
        moved.experiments[id] = target
        var tags = experiment.pairs("tags")
        tags[Self.sourceTag] = "\(source.name) experiment \(id)"
        for (key, value) in tags.sorted(by: { $0.key < $1.key }) {
            _ = try await destination.send(
                "POST", "/api/2.0/mlflow/experiments/set-experiment-tag",
                ["experiment_id": .string(target), "key": .string(key), "value": .string(value)])
        }
        if made["made"]?.boolValue == true { tally.copied("experiments") } else { tally.present("experiments") }

        try await copyScorers(of: id, to: target)
        let models = try await source.loggedModels(of: id)
        tally.found("logged_models", models.count)
        for model in models {
            let info = model["info"] ?? .null
            moved.roots.append((info.text("artifact_uri"), "models:/\(info.text("model_id"))"))
            try await attempt("logged model \(info.text("model_id"))") { try await copy(model: model, to: target) }
        }
        let runs = try await source.runs(of: id)
        tally.found("runs", runs.count)
        moved.roots += runs.compactMap { run in
            let info = run["info"] ?? .null
            return info.text("artifact_uri").isEmpty
                ? nil : (info.text("artifact_uri"), "runs:/\(info.text("run_id"))")
        }
        let links = Self.links(models)
        let done = try await doneRuns(of: target)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, run) in runs.enumerated() {
                if index >= parallelCount { try await group.next() }
                group.addTask {
                    let id = run["info"]?.text("run_id") ?? ""
                    try await attempt("run \(id)") {
                        try await copy(run: run, to: target, done: done[id], links: links[id] ?? [:])
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    /// What each run of the target says of an earlier import.
    private func doneRuns(of experiment: String) async throws -> [String: String] {
        let target = ServerSource(destination)
        var done: [String: String] = [:]
        for run in try await target.runs(of: experiment) {
            done[run["info"]?.text("run_id") ?? ""] = run["data"]?.pairs("tags")[Self.doneTag]
        }
        return done
    }

    /// Runs a step; its failure is a problem, unless a server does not answer any more.
    func attempt(_ what: String, _ step: () async throws -> Void) async throws {
        do { try await step() } catch let error as PlatformError {
            if error.code == .unavailable && error.subject.hasPrefix("http") { throw error }
            tally.problem("\(what): \(error.subject): \(error.message)")
        } catch let error as CancellationError {
            throw error
        } catch { tally.problem("\(what): \(errorText(error))") }
    }

    /// The members that say something.
    static func stated(_ members: [String: JSONValue]) -> JSONValue { .object(members.filter { !$0.value.isNull }) }

    static func hash(ofFile path: String) throws -> (hash: String, byteCount: Int) {
        guard let file = FileHandle(forReadingAtPath: path) else {
            throw PlatformError(.unavailable, path, "cannot be read")
        }
        defer { try? file.close() }
        var hasher = ContentHasher()
        var byteCount = 0
        while let portion = try file.read(upToCount: 1 << 20), !portion.isEmpty {
            hasher.update([UInt8](portion))
            byteCount += portion.count
        }
        return (hasher.finalize().hex, byteCount)
    }
}
