public import Definitions
public import ExperimentTracking
public import FeatureStore
import Foundation
public import ModelRegistry
import ModelServing
public import PlatformCore
import RuntimePorts
import Statistics
public import StoragePorts

/// Evaluates versions on any data with the artifact that serves, compares them on the same rows, and keeps what it found.
public struct EvaluationService: Sendable {
    private let desk: ModelDesk
    private let registry: ModelVersionRegistry
    private let evaluator: VersionEvaluator
    private let content: ContentStore
    private let tracking: TrackingStore
    private let index: EvaluationIndex
    private let definitions: @Sendable () -> DefinitionSet
    private let questions: @Sendable (DatasetManifest) async throws -> String?
    private let clock: any PlatformClock

    /// Makes a service; the migrations of `EvaluationIndex` have run on `store`, and `questions` gives the table of a
    /// training set's spine, as it was when the set was built, as SQL for DuckDB.
    public init(
        desk: ModelDesk, registry: ModelVersionRegistry, evaluator: VersionEvaluator, content: ContentStore,
        tracking: TrackingStore, store: any MetadataStore, definitions: @escaping @Sendable () -> DefinitionSet,
        questions: @escaping @Sendable (DatasetManifest) async throws -> String?, clock: any PlatformClock
    ) {
        self.desk = desk
        self.registry = registry
        self.evaluator = evaluator
        self.content = content
        self.tracking = tracking
        self.definitions = definitions
        self.questions = questions
        self.clock = clock
        index = EvaluationIndex(store: store)
    }

    // MARK: What was found

    /// Keeps a file to evaluate on.
    public func keep(fileAt path: String, hash: ContentHash) async throws {
        if try await content.contains(hash) { return }
        do { try await content.base.put(fileAt: path, at: ContentStore.key(of: hash)) } catch {
            if error.code != .conflict { throw error }
        }
    }

    /// Evaluations of a model, the newest first.
    public func list(_ model: Name, version: Int? = nil, countMax: Int = 200) async throws -> [EvaluationIndex.Entry] {
        try await index.entries(of: model, version: version, countMax: countMax)
    }

    /// A stored evaluation.
    /// - Throws: `notFound`.
    public func evaluation(_ hash: ContentHash) async throws -> ModelEvaluation {
        guard try await index.contains(hash) else {
            throw PlatformError(
                .notFound, "evaluation/\(hash.short)", "no such evaluation; 'bottega evaluate' makes one")
        }
        return try JSONValue.parse(
            try await content.get(hash, byteCountMax: 256 << 20), limits: JSONLimits(byteCountMax: 256 << 20)
        ).decoded()
    }

    // MARK: Evaluating

    /// Evaluates a version, and others on the same rows.
    /// - Returns: what was found, and the hash that it is kept under.
    /// - Throws: `notFound` for a model, version or data set; `invalidInput` for a column or label that does not fit.
    public func evaluate(
        _ model: Name, _ request: EvaluationRequest, actor: String, progress: ProgressReporter
    ) async throws -> (hash: ContentHash, evaluation: ModelEvaluation) {
        let judged = try await version(of: model, request)
        guard !request.others.contains(judged.number) else {
            throw PlatformError(
                .invalidInput, "compare",
                "version \(judged.number) is the one that is judged; name others to compare it with")
        }
        let numbers = [judged.number] + request.others
        let evaluation = definitions().models[model]?.evaluation ?? EvaluationDefinition()
        let data = try await data(request, judged)
        let slices = unique(request.slices ?? evaluation.slices)
        let protected = unique(request.protected ?? evaluation.protected)
        let query = request.query ?? evaluation.query
        var tables: [(EvaluationTable, EvaluationRows, ContentHash)] = []
        for number in numbers {
            let ready = try await desk.servedWithColumns(model, number)
            progress.report("reading rows for version \(number)")
            let table = try await evaluator.table(
                data.file, service: ready.binding.definition, label: data.label, columns: unique(slices + protected),
                query: query
            ) { progress.report("reading rows for version \(number)", done: Double($0), unit: "rows") }
            progress.report("scoring version \(number)", done: Double(table.rows.rowCount), unit: "rows")
            let rows = try await Self.rows(ready.loaded, table, label: data.label, version: number)
            tables.append((table, rows, ready.artifact))
        }
        guard let first = tables.first else { throw PlatformError(.internal, "evaluation", "no version was scored") }
        let plan = plan(
            request, evaluation, rowCount: first.1.rowCount, columnCount: slices.count,
            versionCount: numbers.count, family: EvaluationReport.family(of: first.1), classCount: first.1.classCount)
        var versions: [ModelEvaluation.Version] = []
        for (number, (table, rows, artifact)) in zip(numbers, tables) {
            progress.report("measuring version \(number)")
            let report = try Self.checked {
                () throws(StatisticsError) in
                try EvaluationReport(
                    rows, plan: plan, slices: slices.compactMap { table.columns[$0] },
                    protected: protected.compactMap { table.columns[$0] }
                ) {
                    progress.report("measuring version \(number)", done: ($0 * 100).rounded(), total: 100, unit: "%")
                }
            }
            versions.append(ModelEvaluation.Version(version: number, artifact: artifact, report: report))
        }
        var comparisons: [ModelEvaluation.Comparison] = []
        for (number, table) in zip(numbers, tables).dropFirst() {
            progress.report("comparing version \(judged.number) with version \(number)")
            let differences = try Self.checked {
                () throws(StatisticsError) in
                try MetricDifference.compare(
                    table.1, first.1, metrics: versions.first?.report.plan.metrics ?? [], plan: plan)
            }
            comparisons.append(.init(version: judged.number, against: number, differences: differences))
        }
        var found = ModelEvaluation(
            model: model,
            data: ModelEvaluation.Subject(
                dataset: data.dataset, part: data.part, file: data.hash, name: data.name, label: data.label,
                rowCount: first.0.rows.rowCount, rowCountWithoutLabel: first.0.rowCountWithoutLabel,
                warnings: first.0.warnings.isEmpty ? nil : first.0.warnings),
            versions: versions, comparisons: comparisons, actor: actor, createdAt: clock.now())
        if request.isTracked {
            progress.report("writing the metrics to runs")
            for place in found.versions.indices {
                found.versions[place].runID = try await track(found, place)
            }
        }
        let hash = try await content.put(try JSONValue.of(found).canonicalBytes)
        try await index.record(found, hash)
        return (hash, found)
    }

    private func unique(_ names: [String]) -> [String] {
        var seen: Set<String> = []
        return names.filter { seen.insert($0).inserted }
    }

    private func version(of model: Name, _ request: EvaluationRequest) async throws -> ModelVersion {
        if let number = request.version { return try await registry.version(model, number) }
        if let champion = try await registry.champion(of: model) { return champion }
        guard let newest = try await registry.versions(of: model).max(by: { $0.number < $1.number }) else {
            let known = definitions().models.keys.map(\.text)
            let near = nearestName(to: model.text, among: known).map { "; did you mean '\($0)'?" }
            throw PlatformError(
                .notFound, "model/\(model)",
                "it has no version" + (known.contains(model.text) ? "; 'bottega model register' makes one" : near ?? "")
            )
        }
        return newest
    }

    private struct Source {
        let file: EvaluationFile
        let hash: ContentHash
        let label: String
        let dataset: ContentHash?
        let part: String?
        let name: String?
    }

    private func data(_ request: EvaluationRequest, _ version: ModelVersion) async throws -> Source {
        let trainedOn: ContentHash? = version.candidate.origin.dataset
        switch request.rows {
        case .file(let hash, let format, let name):
            guard try await content.contains(hash) else {
                throw PlatformError(
                    .notFound, "data/\(hash.short)",
                    "no such file was handed in; POST /api/v1/evaluation-data takes one")
            }
            var label = request.label
            if label == nil, let trainedOn {
                label = try? await TrainingSetBuilder.manifest(trainedOn, in: content).label
            }
            guard let label else {
                throw PlatformError(.invalidInput, "label", "name the column that says what came of each row")
            }
            return Source(
                file: EvaluationFile(path: try await content.localPath(of: hash), format: format), hash: hash,
                label: label, dataset: nil, part: nil, name: name)
        case .dataset(let asked, let part):
            guard let dataset = asked ?? trainedOn else {
                throw PlatformError(
                    .invalidInput, "dataset", "the version names no training set; name the data to evaluate on")
            }
            let manifest: DatasetManifest
            do { manifest = try await TrainingSetBuilder.manifest(dataset, in: content) } catch let error as StoreError
            {
                guard error.code == .notFound else { throw error }
                throw PlatformError(
                    .notFound, "dataset/\(dataset.short)", "no such training set; 'bottega dataset build' makes one")
            }
            guard let slice = manifest.slices.first(where: { $0.name == part && $0.rows > 0 }) else {
                let known = manifest.slices.filter { $0.rows > 0 }.map(\.name)
                throw PlatformError(
                    .invalidInput, "dataset/\(dataset.short)",
                    "it has no rows in a part '\(part.prefix(60))'; it has \(known.joined(separator: ", "))")
            }
            guard let label = request.label ?? manifest.label else {
                throw PlatformError(
                    .invalidInput, "dataset/\(dataset.short)", "it has no labels, so there is nothing to compare with")
            }
            var file = EvaluationFile(path: try await content.localPath(of: slice.part), format: .parquet)
            // Without the table there are the columns of the training set still.
            file.questions = try? await questions(manifest)
            return Source(
                file: file, hash: slice.part, label: label, dataset: dataset, part: part,
                name: nil)
        }
    }

    /// Scores rows and checks that labels are what the model predicts.
    private static func rows(
        _ model: any LoadedModel, _ table: EvaluationTable, label: String, version: Int
    ) async throws -> EvaluationRows {
        let description = model.description
        let labels = table.rows.labels
        let classCount = description.outputCount > 1 ? description.outputCount : 2
        if description.output == .probability || description.output == .classProbabilities {
            if let other = labels.first(where: { !($0 >= 0 && $0 < Double(classCount)) || $0 != $0.rounded() }) {
                throw PlatformError(
                    .invalidInput, "label/\(label)",
                    classCount == 2
                        ? "it holds \(other); version \(version) predicts a probability (\(description.objective)), so labels are 0 or 1"
                        : "it holds \(other); version \(version) knows the classes 0 to \(classCount - 1)")
            }
        }
        let predictions: [Double]
        do {
            predictions = try await model.prediction(of: table.rows.inputs, rowCount: table.rows.rowCount)
                .map(Double.init)
        } catch {
            throw PlatformError(.invalidInput, "version \(version)", error.message)
        }
        return try checked { () throws(StatisticsError) in
            try EvaluationRows(
                predictions: predictions, outcomes: labels, outputCount: description.outputCount,
                queries: table.queries)
        }
    }

    private static func checked<Value>(_ work: () throws(StatisticsError) -> Value) throws -> Value {
        do { return try work() } catch { throw PlatformError(.invalidInput, "data", error.description) }
    }

    private func plan(
        _ request: EvaluationRequest, _ definition: EvaluationDefinition, rowCount: Int, columnCount: Int,
        versionCount: Int, family: EvaluationMetric.Family, classCount: Int
    ) -> EvaluationPlan {
        var plan = EvaluationPlan()
        let asked = request.metrics ?? definition.metrics
        plan.metrics = asked.isEmpty ? EvaluationMetric.usual(for: family, classCount: classCount) : asked
        plan.threshold = request.threshold ?? definition.threshold
        plan.binCount = request.binCount ?? definition.binCount
        plan.binStrategy = request.binStrategy ?? .uniform
        plan.smallBelow = request.smallBelow ?? definition.smallBelow
        let visits = rowCount * plan.metrics.count * (columnCount + 2) * versionCount
        plan.bootstrap =
            request.replicateCount.map {
                Bootstrap(replicateCount: $0, confidence: request.confidence, seed: request.seed)
            }
            ?? .affordable(visitsPerReplicate: visits, confidence: request.confidence, seed: request.seed)
        return plan
    }

    // MARK: Runs

    /// Writes a version's metrics to a run of its own beside the run that trained it.
    /// - Returns: the run.
    private func track(_ found: ModelEvaluation, _ place: Int) async throws -> String {
        let version = found.versions[place]
        let origin = try await registry.version(found.model, version.version).candidate.origin
        let parent = origin.runID.isEmpty ? nil : try? await tracking.runInfo(origin.runID)
        let experiment: String
        if let parent, !parent.isDeleted {
            experiment = parent.experimentID
        } else {
            experiment = try await tracking.findOrCreateExperiment(named: "evaluations")
        }
        let dataset = found.data.dataset?.short ?? found.data.name ?? found.data.file.short
        var tags = [
            TrackedTag("bottega.evaluation", "true"), TrackedTag("bottega.model", found.model.text),
            TrackedTag("bottega.version", String(version.version)),
        ]
        if let parent { tags.append(TrackedTag("mlflow.parentRunId", parent.id)) }
        let run = try await tracking.createRun(
            experiment: experiment, name: "evaluate \(found.model) v\(version.version) on \(dataset)", tags: tags,
            userName: found.actor)
        let now = clock.now()
        var metrics: [Metric] = []
        func add(_ results: [MetricResult], _ prefix: String, withEnds: Bool) {
            for result in results {
                guard let value = result.value else { continue }
                metrics.append(Metric(prefix + result.metric.trackedName, value, measuredAt: now))
                guard withEnds, let interval = result.interval else { continue }
                metrics.append(Metric(prefix + result.metric.trackedName + ".lower", interval.lower, measuredAt: now))
                metrics.append(Metric(prefix + result.metric.trackedName + ".upper", interval.upper, measuredAt: now))
            }
        }
        add(version.report.metrics, "", withEnds: true)
        for slice in version.report.slices {
            add(slice.metrics, "slice/\(Self.key(slice.column))/\(Self.key(slice.value))/", withEnds: false)
        }
        for fairness in version.report.fairness {
            for (measure, interval) in fairness.measures.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
                metrics.append(
                    Metric(
                        "fairness/\(Self.key(fairness.attribute))/\(measure.rawValue)", interval.estimate,
                        measuredAt: now))
            }
        }
        let params = [
            TrackedTag("data", found.data.dataset?.hex ?? found.data.file.hex), TrackedTag("label", found.data.label),
            TrackedTag("rows", String(found.data.rowCount)), TrackedTag("artifact", version.artifact.hex),
        ]
        // Two columns or values may give one key; the first has it.
        var seen: Set<String> = []
        metrics = metrics.filter { seen.insert($0.key).inserted }
        for start in stride(from: 0, to: max(1, metrics.count), by: 1000) {
            try await tracking.logBatch(
                run: run.info.id, metrics: Array(metrics[start..<min(metrics.count, start + 1000)]),
                params: start == 0 ? params : [])
        }
        try await tracking.finishRun(run.info.id)
        return run.info.id
    }

    /// A text as part of a metric's key: letters, digits and `-.`, the rest as `_`.
    private static func key(_ text: String) -> String {
        String(
            text.prefix(60).map { $0.isASCII && ($0.isLetter || $0.isNumber || "_-.".contains($0)) ? $0 : "_" })
    }
}
