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
        // Models come before the runs of every experiment: a metric of a run may describe a model of another experiment.
        var models: [JSONValue] = []
        for experiment in experiments { models += try await copy(experiment, &moved) }
        let links = Self.links(models)
        for experiment in experiments { try await copyRuns(of: experiment, links, &moved) }
        try await verify(models, moved)
        try await copyEvaluationDatasets(moved)
        try await copyRegistry(moved)
        for experiment in experiments {
            // Last, because what was set above is a change of today.
            _ = try await state(experiment)
            if experiment.text("lifecycle_stage") == "deleted" { try await delete(experiment) }
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

    /// Makes an experiment with its tags, scorers and logged models; gives the models.
    private func copy(_ experiment: JSONValue, _ moved: inout Moved) async throws -> [JSONValue] {
        let id = experiment.text("experiment_id")
        let made = try await state(experiment)
        let target = made.text("experiment_id")
        moved.experiments[id] = target
        let before = (try await destination.get("/api/2.0/mlflow/experiments/get", [("experiment_id", target)]))[
            "experiment"
        ]?.pairs("tags")
        let done = ImportedState(before?[Self.doneTag])
        var tags = Self.tags(of: experiment)
        let path = "/api/2.0/mlflow/experiments"
        for key in done.names where tags[key] == nil && before?[key] != nil {
            _ = try await destination.send(
                "POST", "\(path)/delete-experiment-tag", ["experiment_id": .string(target), "key": .string(key)])
        }
        tags[Self.doneTag] = ImportedState("tags", names: Array(tags.keys)).text
        tags[Self.sourceTag] = "\(source.name) experiment \(id)"
        for (key, value) in tags.sorted(by: { $0.key < $1.key }) where before?[key] != value {
            _ = try await destination.send(
                "POST", "\(path)/set-experiment-tag",
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
        return models
    }

    /// Makes an experiment unless it is there, and gives it its times.
    private func state(_ experiment: JSONValue) async throws -> JSONValue {
        try await destination.send(
            "POST", "/api/v1/import/experiments",
            Self.stated([
                "name": .string(experiment.text("name")), "created_at": experiment["creation_time"] ?? .null,
                "updated_at": experiment["last_update_time"] ?? .null,
            ]))
    }

    /// Deletes an experiment here as it is in the source.
    private func delete(_ experiment: JSONValue) async throws {
        let name = experiment.text("name")
        func there() async throws -> JSONValue? {
            try await destination.find("/api/2.0/mlflow/experiments/get-by-name", [("experiment_name", name)])?[
                "experiment"]
        }
        guard let found = try await there() else { return }
        do {
            _ = try await destination.send(
                "POST", "/api/2.0/mlflow/experiments/delete", ["experiment_id": .string(found.text("experiment_id"))])
        } catch let error as PlatformError {
            // Another import, or somebody, may have deleted it meanwhile.
            if try await there()?.text("lifecycle_stage") != "deleted" { throw error }
        }
    }

    private func copyRuns(
        of experiment: JSONValue, _ links: [String: [String: [Link]]], _ moved: inout Moved
    ) async throws {
        let runs = try await source.runs(of: experiment.text("experiment_id"))
        let target = moved.experiments[experiment.text("experiment_id")] ?? ""
        tally.found("runs", runs.count)
        moved.roots += runs.compactMap { run in
            let info = run["info"] ?? .null
            return info.text("artifact_uri").isEmpty
                ? nil : (info.text("artifact_uri"), "runs:/\(info.text("run_id"))")
        }
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

    /// Says which metrics of logged models are not here as they are in the source.
    private func verify(_ models: [JSONValue], _ moved: Moved) async throws {
        func points(_ model: JSONValue) -> [String: String] {
            Dictionary(
                (model["data"]?.list("metrics") ?? []).map { metric in
                    // A source states what is no number as 0.
                    let value = metric["value"]?.metricValue.map { $0.isNaN ? 0 : $0 } ?? 0
                    let point = ImportedPoint(
                        milliseconds: metric.number("timestamp") ?? 0, step: metric.number("step") ?? 0, value: value)
                    return (
                        "\(metric.text("run_id")) \(metric.text("key")) \(point.fingerprint) \(metric.text("dataset_name")) "
                            + metric.text("dataset_digest"), metric.text("key")
                    )
                }, uniquingKeysWith: { first, _ in first })
        }
        let target = ServerSource(destination)
        var here: [String: JSONValue] = [:]
        for experiment in Set(models.map { $0["info"]?.text("experiment_id") ?? "" }) {
            guard let id = moved.experiments[experiment] else { continue }
            for model in try await target.loggedModels(of: id) { here[model["info"]?.text("model_id") ?? ""] = model }
        }
        for model in models {
            let id = model["info"]?.text("model_id") ?? ""
            guard let copy = here[id] else {
                tally.problem("logged model \(id): it is not here")
                continue
            }
            let copied = points(copy)
            for (point, key) in points(model).sorted(by: { $0.key < $1.key }) where copied[point] == nil {
                tally.problem("logged model \(id): its metric '\(key)' differs")
            }
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

    /// Tags that came with a thing of the source; the marks that another import left on it there are none.
    static func tags(of thing: JSONValue) -> [String: String] {
        thing.pairs("tags").filter { $0.key != doneTag && $0.key != sourceTag }
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
