import Catalogue
import Datasets
import Definitions
import FeatureStore
import FileSystemAdapter
import Foundation
import Gateway
import Governance
import Logging
import ModelRegistry
import ModelServing
import PlatformCore
import StoragePorts
import TrainingJobs
import Workflows

/// What works on models by itself: rollouts, retraining, gates, evaluation, batch scoring, upkeep of what is stored.
struct PlatformControl {
    let catalogue: CatalogueService
    let maintenance: TableMaintenance
    let rollout: RolloutController
    let lifecycle: LifecycleService
    let operations: OperationRunner
    let archive: PredictionArchive
    let retention: LogRetention
    let parity: FeatureParityService
    let replays: ShadowReplay
    let evaluations: EvaluationService
    let scoring: ScoringService
    let monitoring: MonitoringIndex
    let webhooks: WebhookStore
    let predictionJobs: PredictionJobService

    init(_ settings: Settings, on base: PlatformBase, _ data: PlatformData, _ models: PlatformModels, logger: Logger)
        async throws
    {
        let (log, metadata, content, clock, directory) = (
            base.log, base.metadata, base.content, base.clock, base.directory
        )
        let (audit, relay, machineIdentifiers) = (base.audit, base.relay, base.machineIdentifiers)
        let (catalog, tables, ingest, engine, limits) = (
            data.catalog, data.tables, data.ingest, data.engine, data.limits
        )
        let (registry, keeper, desk, pipeline) = (models.registry, models.keeper, models.desk, models.pipeline)
        catalogue = CatalogueService(
            definitions: { (catalog.current, catalog.revision) }, tables: tables, ingest: ingest,
            datasets: data.datasets,
            registry: registry, content: content, engine: engine, external: data.externalLineage)
        maintenance = TableMaintenance(
            tables: tables, datasets: data.datasets, registry: registry, content: content,
            definitions: { catalog.current }, configuration: settings.tableMaintenance, clock: clock,
            audit: audit, changed: { relay.wake() }, logger: logger)
        rollout = RolloutController(
            desk: desk, registry: registry, observer: models.observer, log: log, metadata: metadata, clock: clock,
            definitions: { catalog.current }, logger: logger, journal: audit, changed: { relay.wake() })
        lifecycle = LifecycleService(
            desk: desk, registry: registry, rollout: rollout,
            lease: WorkflowLease(
                store: metadata, name: "lifecycle", holder: try KeptSecrets.node(directory), clock: SystemClock()),
            log: log, metadata: metadata, clock: clock, definitions: { catalog.current },
            steps: Self.steps(pipeline, catalog), identifiers: machineIdentifiers,
            logger: logger, journal: audit, changed: { relay.wake() })

        await catalog.addListener { set in
            // A new source gets its topics now; what an old one holds is read by the warm-up, after the start.
            let known = Set(try await log.topics())
            for source in set.sources.values where !known.contains(PlatformTopic.source(source.name)) {
                try await ingest.open(source)
            }
        }
        await catalog.addFollower { await keeper.follow() }
        try await catalog.load()
        try await keeper.reconcile()
        await desk.refreshRoutes()
        try await lifecycle.prepare()

        operations = OperationRunner(identifiers: machineIdentifiers)
        archive = PredictionArchive(
            log: log, content: content,
            release: { try await LogRetention.release(of: $0, at: $1, store: metadata) },
            load: { try await desk.load($0, servedWith: $1) })
        let replayers = LogReaders()
        retention = LogRetention(
            log: log, store: metadata, configuration: settings.logRetention, clock: clock, audit: audit,
            readers: { [rollout] in
                let rollouts = rollout.rollouts.filter { !$0.value.phase.isOver }
                return replayers.all
                    + rollouts.map { LogReader(name: "the rollout of \($0.key)", since: $0.value.since) }
            }, changed: { relay.wake() }, logger: logger)
        parity = FeatureParityService(
            definitions: { catalog.current }, serviceVersion: { try await catalog.service($0) }, tables: tables,
            engine: engine, stream: data.stream, archive: archive,
            content: content, metadata: metadata, clock: clock, limits: limits,
            journal: audit, changed: { relay.wake() })
        let questions = { @Sendable (manifest: DatasetManifest) async throws -> String? in
            if let spine = manifest.spine {
                return "read_parquet(\(SQLText.literal(try await content.localPath(of: spine.part))))"
            }
            let set = catalog.current
            guard let spine = set.trainingSets[manifest.trainingSet].flatMap({ set.sources[$0.spine] }) else {
                return nil
            }
            return try await tables.scan(spine, version: manifest.tableVersions[spine.name.text]).sql
        }
        replays = ShadowReplay(
            desk: desk, registry: registry, log: log, readers: replayers, content: content, metadata: metadata,
            clock: clock, definitions: { catalog.current }, service: { try await catalog.service($0) },
            identifiers: machineIdentifiers)
        await desk.ask(
            GateSources(
                parity: { [parity] in try await parity.evidence(model: $0, service: $1, comparedMin: $2) },
                leakage: { dataset in
                    let leaks = try await pipeline.checkLeakage(dataset, progress: ProgressReporter()).findings
                        .filter { $0.severity == .leak }
                    return LeakEvidence(count: leaks.count, example: leaks.first.map { "\($0.subject): \($0.detail)" })
                },
                memory: {
                    try await WeighModel.measure(
                        content.localPath(of: $0), fileName: $1, library: settings.onnxLibraryPath)
                },
                knownUntil: { try await TrainingSetBuilder.manifest($0, in: content).asOf },
                questions: { try await questions(TrainingSetBuilder.manifest($0, in: content)) },
                now: { clock.now() },
                replay: { [replays] in try await replays.evidence($0, $1, span: $2, actor: "gates") }))
        evaluations = EvaluationService(
            desk: desk, registry: registry, evaluator: VersionEvaluator(engine: engine), content: content,
            tracking: models.tracking, store: metadata, definitions: { catalog.current },
            questions: questions, clock: clock)
        scoring = ScoringService(
            desk: desk, registry: registry, tables: tables, builder: models.builder, spines: models.spines,
            engine: engine,
            content: content, serviceVersion: { try await catalog.service($0) }, lineage: data.lineage, clock: clock,
            root: "\(directory)/scores", limits: limits)
        catalogue.extend { [scoring] in try await scoring.extend(&$0) }
        catalogue.list(mark: { [scoring] in scoring.mark }, items: { [scoring] in scoring.catalogueItems() })
        monitoring = MonitoringIndex(log: log)
        let box = SecretBox(key: try KeptSecrets.webhookKey(directory))
        webhooks = WebhookStore(
            store: metadata, clock: SystemClock(), box: box,
            transport: settings.webhookTransport)
        predictionJobs = PredictionJobService(
            store: PredictionJobStore(
                store: metadata, clock: SystemClock(), identifiers: machineIdentifiers, box: box),
            predictor: models.predictor,
            transport: settings.webhookTransport,
            configuration: .init(
                instanceCountMax: settings.asynchronousQueue, retention: settings.asynchronousRetention),
            logger: logger)
    }

    private static func steps(_ pipeline: TrainingPipeline, _ catalog: DefinitionCatalog) -> PipelineSteps {
        PipelineSteps(
            buildDataset: { model, from, to in
                guard let definition = catalog.current.models[model] else {
                    throw PlatformError(.notFound, "model/\(model)", "no such model is defined")
                }
                let build = try await pipeline.buildDataset(
                    definition.trainingSet, from: from, to: to, asOf: to, progress: ProgressReporter())
                let seconds = (build.seconds * 10).rounded() / 10
                return (build.hash.hex, "\(build.manifest.rows) rows in \(seconds) s, dataset \(build.hash.short)")
            },
            train: { model, dataset, actor in
                guard let hash = ContentHash(hex: dataset) else {
                    throw PlatformError(.internal, "dataset", "'\(dataset)' is no hash")
                }
                let job = try await pipeline.train(
                    model, dataset: hash, seed: nil, parameters: [:], actor: actor, progress: ProgressReporter())
                return (job.id, "run \(job.runID)")
            },
            register: { model, job, actor, reason in
                try await pipeline.register(model, job: job, actor: actor, reason: reason)
            })
    }
}
