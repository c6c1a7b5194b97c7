public import Catalogue
public import Datasets
import Definitions
public import ExperimentTracking
public import FeatureStore
import Foundation
public import ModelRegistry
public import PlatformCore
import RuntimePorts
public import StoragePorts
public import TrainingJobs

/// Builds training sets, runs training jobs and registers what they logged: the steps that people and retrainings share.
public struct TrainingPipeline: Sendable {
    let catalog: DefinitionCatalog
    let tables: TableService
    let builder: TrainingSetBuilder
    let content: ContentStore
    private let jobs: TrainingJobService
    private let tracking: TrackingStore
    private let desk: ModelDesk
    private let clock: any PlatformClock
    let datasets: DatasetIndex
    private let lineage: LineageOutbox
    private let built: @Sendable (DatasetManifest) async -> Void

    /// Makes a pipeline; `built` hears of each training set that was built.
    public init(
        catalog: DefinitionCatalog, tables: TableService, builder: TrainingSetBuilder,
        content: ContentStore, jobs: TrainingJobService, tracking: TrackingStore, desk: ModelDesk,
        clock: any PlatformClock, datasets: DatasetIndex, lineage: LineageOutbox,
        built: @escaping @Sendable (DatasetManifest) async -> Void = { _ in }
    ) {
        self.lineage = lineage
        self.built = built
        self.datasets = datasets
        self.catalog = catalog
        self.tables = tables
        self.builder = builder
        self.content = content
        self.jobs = jobs
        self.tracking = tracking
        self.desk = desk
        self.clock = clock
    }

    private func definitions() -> DefinitionSet { catalog.current }

    // MARK: Training sets

    /// Builds a training set from what is in the log now.
    /// - Parameters:
    ///   - name: its definition.
    ///   - from: first moment of a question.
    ///   - to: first moment after the questions.
    ///   - asOf: what was not known by then is not used; `nil` for the end of the span plus the label's horizon, at most now.
    ///   - progress: how far it is.
    public func buildDataset(
        _ name: Name, from: EventTime, to: EventTime, asOf: EventTime?, progress: ProgressReporter
    ) async throws -> DatasetBuild {
        let set = definitions()
        guard let definition = set.trainingSets[name] else {
            let near = nearestName(to: name.text, among: set.trainingSets.keys.map(\.text))
            throw PlatformError(
                .notFound, "training_set/\(name)",
                "no such training set is defined" + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
        let moment = asOf ?? min(to.advanced(by: definition.labelHorizon), clock.now())
        progress.report("bringing tables up to date")
        let tables = tables
        let build = try await lineage.record(
            "dataset.\(name)", kind: "DATASET_BUILD", inputs: RunLineage.inputs(of: definition, in: set),
            outcome: { RunLineage.build($0, in: set) }
        ) {
            try await builder.build(
                definition, in: set, from: from, to: to, asOf: moment,
                scans: { source in
                    guard let known = set.sources[source] else {
                        throw PlatformError(.notFound, "source/\(source)", "not defined")
                    }
                    try await tables.flush(known)
                    return try await tables.scan(known)
                },
                progress: { progress.report($0.message, done: Double($0.done), total: Double($0.total), unit: "steps") }
            )
        }
        try await datasets.record(build.hash, trainingSet: name, at: clock.now())
        await built(build.manifest)
        return build
    }

    /// Looks in a training set for what a model could not know when it predicts.
    /// - Throws: `notFound` for an unknown training set, `conflict` if its definition is gone or reads other features now.
    public func checkLeakage(_ hash: ContentHash, progress: ProgressReporter) async throws -> LeakageReport {
        let set = definitions()
        let manifest = try await manifest(hash)
        guard let definition = set.trainingSets[manifest.trainingSet],
            set.featureServices[definition.service]?.version == manifest.serviceVersion
        else {
            throw PlatformError(
                .conflict, "dataset/\(hash.short)",
                "it was built with another version of '\(manifest.trainingSet)' than the one in force; apply that one again or build anew"
            )
        }
        progress.report("looking at \(manifest.rows) rows and \(manifest.inputs.count) inputs")
        let paths = try await Self.paths(of: manifest, in: content)
        var spine: TableScan?
        if let outside = definition.outsideSpine {
            guard let read = manifest.spine else {
                throw PlatformError(
                    .conflict, "dataset/\(hash.short)",
                    "it was built when '\(manifest.trainingSet)' had a source as its spine; build it anew")
            }
            spine = try await SpineReader.scan(read, as: outside.contract, in: content)
        }
        let tables = tables
        return try await builder.leakageDetector.check(
            hash, manifest: manifest, paths: paths, definition: definition, definitions: set, spine: spine,
            scans: { source in
                guard let known = set.sources[source] else {
                    throw PlatformError(.notFound, "source/\(source)", "not defined")
                }
                return try await tables.scan(known, version: manifest.tableVersions[source.text])
            })
    }

    /// The training set that `text` names: by its hash, or by 8 and more of the hash's first digits where one alone begins so.
    public func dataset(named text: String) async throws -> ContentHash {
        if let hash = ContentHash(hex: text) { return hash }
        guard 8..<64 ~= text.utf8.count, text.utf8.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit }) else {
            throw PlatformError(
                .invalidInput, "dataset",
                "'\(text.prefix(64))' is no hash of 64 hexadecimal digits, nor the first 8 or more of one")
        }
        let found = try await datasets.named(text.lowercased())
        guard let first = found.first else {
            throw PlatformError(
                .notFound, "dataset/\(text)", "no training set's hash begins so; 'bottega dataset list' lists them")
        }
        guard found.count == 1 else {
            let both = found.map { String($0.hash.hex.prefix(text.utf8.count + 4)) }.joined(separator: "…, ")
            throw PlatformError(
                .invalidInput, "dataset/\(text)", "several training sets begin so (\(both)…); write more digits")
        }
        return first.hash
    }

    /// Training sets that were built, newest first, with their manifests; `nil` where one is gone.
    ///
    /// - Parameters:
    ///   - name: only those of this definition; `nil` for all.
    ///   - before: the last one of the page before, in full.
    ///   - countMax: how many at most.
    public func datasets(of name: Name?, before: ContentHash?, countMax: Int) async throws -> (
        datasets: [(entry: DatasetIndex.Entry, manifest: DatasetManifest?)], isLast: Bool
    ) {
        var last: DatasetIndex.Entry?
        if let before {
            last = try await datasets.named(before.hex).first
            if last == nil { throw PlatformError(.invalidInput, "query", "'page_token' is none that a page gave") }
        }
        let page = try await datasets.page(of: name, before: last, countMax: countMax)
        var found: [(entry: DatasetIndex.Entry, manifest: DatasetManifest?)] = []
        for entry in page.entries {
            found.append((entry, try? await TrainingSetBuilder.manifest(entry.hash, in: content)))
        }
        return (found, page.isLast)
    }

    /// Reads a training set's manifest.
    public func manifest(_ hash: ContentHash) async throws -> DatasetManifest {
        do { return try await TrainingSetBuilder.manifest(hash, in: content) } catch let error as StoreError
            where error.code == .notFound
        {
            throw PlatformError(
                .notFound, "dataset/\(hash.short)", "no such training set; 'bottega dataset build' makes one")
        }
    }

    /// Where a training set's slices are.
    public static func parts(_ hash: ContentHash, in content: ContentStore) async throws -> DatasetParts {
        let manifest = try await TrainingSetBuilder.manifest(hash, in: content)
        guard let label = manifest.label else {
            throw PlatformError(
                .invalidInput, "dataset/\(hash.short)",
                "'\(manifest.trainingSet)' has no labels: nothing can be trained or measured on it")
        }
        return DatasetParts(
            paths: try await paths(of: manifest, in: content), label: label, serviceVersion: manifest.serviceVersion)
    }

    private static func paths(of manifest: DatasetManifest, in content: ContentStore) async throws -> [String: String] {
        var paths: [String: String] = [:]
        for slice in manifest.slices where slice.rows > 0 {
            paths[slice.name] = try await content.localPath(of: slice.part)
        }
        return paths
    }

    // MARK: Jobs

    /// Starts a model's training command on a training set and waits for its end.
    /// - Returns: the job; it succeeded.
    /// - Throws: `PlatformError` (`refused`) with the cause of death of a job that did not.
    public func train(
        _ model: Name, dataset: ContentHash, seed: Int64?, parameters: [String: String], actor: String,
        progress: ProgressReporter
    ) async throws -> TrainingJob {
        let job = try await start(model, dataset: dataset, seed: seed, parameters: parameters, actor: actor)
        return try await finish(job, progress: progress)
    }

    /// Puts a job into the queue.
    ///
    /// - Parameter repeating: the run to make again, with its command and the folder of its code where they are not the
    ///   definition's; of the parameters only those given here count then.
    public func start(
        _ model: Name, dataset: ContentHash, seed: Int64?, parameters: [String: String], actor: String,
        repeating: (run: String, command: [String]?, folder: String?)? = nil
    ) async throws -> TrainingJob {
        guard let definition = definitions().models[model] else { throw definitions().unknown(model: model) }
        let manifest = try await manifest(dataset)
        let parts = try await Self.parts(dataset, in: content)
        let input = TrainingInput(dataset: dataset, manifest: manifest.json, paths: parts.paths)
        return try await jobs.start(
            TrainingRequest(
                model: definition, input: input, seed: seed, parameters: parameters, actor: actor,
                repeating: repeating.map {
                    TrainingRepetition(
                        runID: $0.run, command: $0.command ?? definition.training.command,
                        folder: $0.folder ?? definition.training.folder)
                }))
    }

    /// Waits for a job and closes its run.
    public func finish(_ job: TrainingJob, progress: ProgressReporter) async throws -> TrainingJob {
        let input = LineageDataset("dataset/\(job.dataset.hex)")
        return try await lineage.record(
            "train.\(job.model)", kind: "TRAINING", inputs: [input],
            outcome: { _ in ([input], [LineageDataset("model/\(job.model)")]) }
        ) { try await waitAndClose(job, progress: progress) }
    }

    private func waitAndClose(_ job: TrainingJob, progress: ProgressReporter) async throws -> TrainingJob {
        let ended = try await withThrowingTaskGroup(of: TrainingJob?.self) { group in
            group.addTask { try await jobs.wait(for: job.id) }
            group.addTask {
                while !Task.isCancelled {
                    let line = try? await jobs.progress(job.id, lineCountMax: 1).last
                    progress.report(line.map { String($0.prefix(160)) } ?? "running")
                    try? await Task.sleep(for: .milliseconds(300))
                }
                return nil
            }
            defer { group.cancelAll() }
            while let result = try await group.next() { if let result { return result } }
            throw CancellationError()
        }
        guard ended.state == .succeeded else {
            try? await tracking.finishRun(ended.runID, status: .failed)
            throw PlatformError(
                .refused, "training_job/\(ended.id)",
                "the job \(ended.state.rawValue): \(ended.outcome?.reason ?? "no outcome"); its output is in \(ended.logPath)"
            )
        }
        let run = try await tracking.run(ended.runID)
        if run.info.status == .running { try await tracking.finishRun(ended.runID) }
        return ended
    }

    // MARK: Registration

    /// Registers the model that a job logged.
    public func register(_ model: Name, job id: String, actor: String, reason: String) async throws -> ModelVersion {
        let job = try await jobs.job(id)
        guard job.model == model else {
            throw PlatformError(.invalidInput, "training_job/\(id)", "it trained '\(job.model)', not '\(model)'")
        }
        guard job.state == .succeeded else {
            throw PlatformError(
                .refused, "training_job/\(id)",
                "it did not succeed (\(job.state.rawValue)); there is nothing to register")
        }
        let origin = VersionOrigin(
            dataset: job.dataset, serviceVersion: try await manifest(job.dataset).serviceVersion, runID: job.runID,
            jobID: job.id,
            commit: job.facts?.code.commit ?? "", branch: job.facts?.code.branch ?? "",
            isDirty: job.facts?.code.isDirty ?? false,
            seed: job.seed, environment: job.facts?.environment, parameters: job.parameters)
        return try await register(model, run: job.runID, origin: origin, actor: actor, reason: reason)
    }

    /// Registers the model that a run logged, trained on a stated training set.
    public func register(_ model: Name, run: String, dataset: ContentHash, actor: String, reason: String) async throws
        -> ModelVersion
    {
        let parameters = Dictionary(
            try await tracking.params(run).map { ($0.key, $0.value) }, uniquingKeysWith: { $1 })
        let origin = VersionOrigin(
            dataset: dataset, serviceVersion: try await manifest(dataset).serviceVersion, runID: run, jobID: "",
            commit: "", branch: "",
            isDirty: false, seed: 0, environment: nil, parameters: parameters)
        return try await register(model, run: run, origin: origin, actor: actor, reason: reason)
    }

    private func register(_ model: Name, run: String, origin: VersionOrigin, actor: String, reason: String) async throws
        -> ModelVersion
    {
        let found = try await RunModel.find(ofRun: run, in: tracking)
        return try await desk.register(
            model, bytes: found.bytes, fileName: found.fileName, origin: origin, hasSignature: found.hasSignature,
            actor: actor, reason: reason)
    }
}
