import Datasets
import Definitions
import ExperimentTracking
import FeatureStore
import FileSystemAdapter
import Foundation
import Governance
import Logging
import ModelRegistry
import ModelServing
import PlatformCore
import PostgreSQLAdapter
import ProcessAdapter
import RuntimePorts
import StoragePorts
import Synchronization
import TrainingJobs
import TreeModelAdapter
import Workflows

/// From features to models: experiments, jobs, training sets, the registry, and what answers with a version.
struct PlatformModels {
    let tracking: TrackingStore
    let registry: ModelVersionRegistry
    /// Which versions of features are kept.
    let keeper: FeatureVersionKeeper
    let observer: RolloutObserver
    let predictionLog: PredictionLog
    let predictor: Predictor
    let runtimes: [any ModelRuntime]
    let desk: ModelDesk
    let jobs: TrainingJobService
    let spines: SpineReader
    let builder: TrainingSetBuilder
    let pipeline: TrainingPipeline
    let runs: RunDesk

    init(_ settings: Settings, on base: PlatformBase, _ data: PlatformData, logger: Logger) async throws {
        let (log, metadata, content, clock, directory) = (
            base.log, base.metadata, base.content, base.clock, base.directory
        )
        let (relay, announce, machineIdentifiers) = (base.relay, base.announce, base.machineIdentifiers)
        let (catalog, stream, engine) = (data.catalog, data.stream, data.engine)
        tracking = TrackingStore(
            metadata: metadata, objects: base.objects, journal: base.stores.metricJournal, clock: SystemClock(),
            identifiers: machineIdentifiers)
        try await tracking.prepare()
        // What models need decides which versions of features are kept, so the keeper hears of every change.
        let keepers = Mutex<FeatureVersionKeeper?>(nil)
        registry = ModelVersionRegistry(store: metadata, content: content, clock: clock, journal: base.audit) { _ in
            relay.wake()  // the change is in the audit chain already
            await keepers.withLock { $0 }?.followModels()
        }
        let keeper = FeatureVersionKeeper(
            catalog: catalog, registry: registry, stream: stream, store: metadata, clock: clock, lineage: data.lineage,
            logger: logger
        ) { await announce.publish($0) }
        keepers.withLock { $0 = keeper }
        self.keeper = keeper
        let routes = RouteTable()
        observer = RolloutObserver()
        predictionLog = PredictionLog(log: log, observer: observer, logger: logger)
        let metrics = ServingMetrics()
        predictor = Predictor(
            routes: routes, log: predictionLog, metrics: metrics, clock: clock, identifiers: base.identifiers,
            admission: Admission(waitingMax: settings.overloadConcurrency))
        runtimes = settings.servingRuntimes(content)
        desk = ModelDesk(
            registry: registry, content: content, runtimes: runtimes, routes: routes,
            evaluator: VersionEvaluator(engine: engine), definitions: { catalog.current },
            service: { try await catalog.service($0) },
            reader: {
                StreamReader(engine: stream, plan: ServingPlan(service: $0.service, definitions: $0.definitions))
            },
            dataset: { try await TrainingPipeline.parts($0, in: content) }, logger: logger)
        let recorder = RunRecorder(tracking: tracking, clock: SystemClock(), logger: logger)
        let runner = LocalJobRunner(recordFolder: "\(directory)/jobs")
        jobs = TrainingJobService(
            configuration: TrainingJobConfiguration(
                folder: "\(directory)/jobs", interpreter: settings.pythonPath,
                trackingURL: "http://127.0.0.1:\(settings.port)", slotCount: settings.jobSlots),
            store: metadata, content: content, runner: runner, clock: clock,
            identifiers: machineIdentifiers,
            createRun: { [tracking] model, tags in
                let experiment = try await tracking.findOrCreateExperiment(named: model.text)
                let run = try await tracking.createRun(
                    experiment: experiment, tags: tags.map { TrackedTag($0.key, $0.value) })
                return run.info.id
            },
            recorded: { await recorder.recorded($0, $1) }, used: { await recorder.used($0, $1) },
            finished: { await recorder.finished($0) }, logger: logger)
        spines = SpineReader(
            engine: engine, content: content, files: LocalSourceFiles(), database: PostgreSQLRowSource(),
            secret: data.secret, queryLimits: data.limits)
        builder = TrainingSetBuilder(
            engine: data.trainingEngine, content: content, limits: data.limits, kernel: settings.featureKernel,
            leakageEngine: engine, spines: spines)
        pipeline = TrainingPipeline(
            catalog: catalog, tables: data.tables, builder: builder,
            content: content, jobs: jobs, tracking: tracking, desk: desk, clock: clock, datasets: data.datasets,
            lineage: data.lineage,
            built: { manifest in
                do { try await keeper.builtTrainingSet(manifest) } catch {
                    logger.warning("the use of features was not counted", metadata: ["error": "\(errorText(error))"])
                }
            })
        runs = RunDesk(
            tracking: tracking, jobs: jobs, pipeline: pipeline, content: content, runner: runner,
            scratchFolder: "\(directory)/jobs", identifiers: machineIdentifiers)
    }
}

/// Reads one service's features from the stream engine.
struct StreamReader: VectorReader {
    let engine: StreamEngine
    let plan: ServingPlan

    func read(
        keys: [String?], asOf: EventTime, values: UnsafeMutableBufferPointer<Double>,
        ages: UnsafeMutableBufferPointer<Int64>, statuses: UnsafeMutableBufferPointer<UInt8>
    ) throws(PlatformError) {
        try engine.read(plan, keys: keys, at: asOf, into: values, ages: ages, statuses: statuses)
    }

    var mayTakeLong: Bool { plan.mayTakeLong }
    func isReady(keys: [String?]) -> Bool { engine.isReady(plan, keys: keys) }
    func prepare(keys: [String?]) async { await engine.prepare(plan, keys: keys) }
}
