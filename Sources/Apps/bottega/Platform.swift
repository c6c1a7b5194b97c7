import APIContract
import Catalogue
import CommandLine
import Datasets
import Definitions
import DuckDBAdapter
import ExperimentTracking
import FeastAPI
import FeatureStore
import FileSystemAdapter
import Foundation
import Gateway
import Governance
import InferenceAPI
import LMDBAdapter
import Logging
import MLflowAPI
import ModelRegistry
import ModelServing
import PlatformCore
import PostgreSQLAdapter
import ProcessAdapter
import RuntimePorts
import SQLiteAdapter
import ServiceLifecycle
import SparkAdapter
import StoragePorts
import Synchronization
import TrainingJobs
import TreeModelAdapter
import Workflows

/// Puts the platform together from its settings: the only place that names an adapter.
struct Platform {
    /// Long-lived parts in start order; shutdown walks the list backwards.
    let services: [any Service]

    /// The stores of one data directory.
    ///
    /// The lock says that one process owns it.
    struct Stores {
        let lock: DirectoryLock
        let objects: FolderObjectStore
        let log: SegmentEventLog
        let online: LMDBOnlineStore
        let metadata: SQLiteMetadataStore
        let metricJournal: FolderJournal

        init(_ settings: Settings, logger: Logger) throws {
            let directory = settings.dataDirectory
            lock = try DirectoryLock(directory: directory)
            try DirectoryCheck.refuseLostDatabase(in: directory)
            // Files of the moment of a process that was killed: nobody else writes here while we hold the lock.
            try? FileManager.default.removeItem(atPath: "\(directory)/spool")
            objects = try FolderObjectStore(directory: "\(directory)/objects")
            log = try SegmentEventLog(
                directory: "\(directory)/log",
                configuration: SegmentEventLogConfiguration(
                    synchronizes: settings.waitsForDisk, segmentByteCountMax: settings.segmentByteCount,
                    onTornTail: { logger.warning("a torn end of the log was cut", metadata: ["tail": "\($0)"]) }))
            online = try LMDBOnlineStore(
                directory: "\(directory)/online",
                configuration: LMDBConfiguration(mapByteCountMax: settings.onlineMapByteCount))
            metadata = try SQLiteMetadataStore(path: "\(directory)/metadata.sqlite")
            metricJournal = try FolderJournal(
                directory: "\(directory)/metrics", synchronizes: settings.waitsForDisk)
        }
    }

    init(_ settings: Settings, logger: Logger, onReady: @escaping @Sendable (String) -> Void) async throws {
        let stores = try Stores(settings, logger: logger)
        let directory = settings.dataDirectory
        let (log, metadata) = (stores.log, stores.metadata)
        let objects = GuardedObjectStore(base: stores.objects)
        let content = ContentStore(base: objects)
        let clockFile = ClockFile(path: "\(directory)/clock")
        let manualClock: ManualClock? =
            settings.clockMode == .manual
            ? ManualClock(
                startingAt: max(
                    try clockFile.read() ?? EventTime(milliseconds: 0),
                    settings.clockStart ?? EventTime(milliseconds: 0))) : nil
        let clock: any PlatformClock = manualClock ?? SystemClock()
        let identifiers = IdentifierSource(clock: clock)
        let machineIdentifiers = IdentifierSource(clock: SystemClock())

        // Both wait for the disk many times on an empty directory, and neither needs the other.
        async let topics: Void = Self.createTopics(log)
        let migrations =
            DefinitionCatalog.migrations + StateHistory<RolloutState>.migrations + ModelVersionRegistry.migrations
            + FeatureVersionKeeper.migrations + TrainingJobService.migrations + AuditLog.migrations
            + IngestService.migrations + TrackingStore.migrations + DatasetIndex.migrations
            + EvaluationIndex.migrations + ChangeRelay.migrations
            + WebhookStore.migrations + PredictionJobStore.migrations + LogRetention.migrations
        try await DirectoryCheck.refuseLaterTables(metadata, known: migrations, place: "\(directory)/metadata.sqlite")
        try await metadata.migrate(migrations)
        try await topics
        let audit = AuditLog(store: metadata, clock: clock)
        let interrupted = try await audit.closeInterrupted()
        if interrupted > 0 {
            logger.notice(
                "changes were interrupted by the end of the last process", metadata: ["count": "\(interrupted)"])
        }
        let relay = ChangeRelay(audit: audit, store: metadata, log: log, logger: logger)
        let announce = Announcer(audit: audit, relay: relay, logger: logger)

        // Data and features.
        let engine = DuckDBEngine(
            configuration: DuckDBConfiguration(executablePath: settings.duckDBPath, spillFolder: "\(directory)/spill"),
            logger: logger)
        let trainingEngine: any OfflineEngine =
            settings.offlineEngine == .spark
            ? SparkEngine(configuration: .init(settings, folder: "\(directory)/spark"), logger: logger) : engine
        let limits = QueryLimits(memoryByteCountMax: settings.duckDBMemoryByteCount)
        let catalog = DefinitionCatalog(store: metadata, clock: clock, journal: audit)
        let codecs = CodecCache()
        let shapes = SourceShapes(metadata: metadata) { source, column in
            Self.readers(of: column, in: source, catalog.current)
        }
        let stream = StreamEngine(
            online: stores.online, log: log, clock: clock,
            configuration: StreamEngineConfiguration(
                entityCountMax: settings.entityCountMax, stateByteCountMax: settings.stateByteCountMax,
                rowsAtOnceMax: settings.rowsAtOnceMax, cachedEntityCountMax: settings.cachedEntityCountMax,
                maxStaleness: settings.maxStaleness)
        ) { record, source in try? codecs.codec(of: shapes.effective(source)).decode(record.value) }
        let environment = ProcessInfo.processInfo.environment
        let ingest = IngestService(
            log: log, metadata: metadata, engine: engine, files: LocalSourceFiles(), database: PostgreSQLRowSource(),
            shapes: shapes, secret: { environment[$0] }, spoolFolder: "\(directory)/spool", listener: stream,
            identifiers: machineIdentifiers)
        try await ingest.prepare()
        let tables = TableService(
            log: log, objects: objects, engine: engine, spoolFolder: "\(directory)/spool",
            identifiers: machineIdentifiers, clock: clock, shapes: shapes)

        let datasets = DatasetIndex(store: metadata)

        let externalLineage = ExternalLineage()
        let lineage = LineageOutbox(
            log: log, clock: clock, identifiers: machineIdentifiers, external: externalLineage,
            sink: try settings.lineageSink(), logger: logger)
        try await lineage.prepare()

        // Models and serving.
        let tracking = TrackingStore(
            metadata: metadata, objects: objects, journal: stores.metricJournal, clock: SystemClock(),
            identifiers: machineIdentifiers)
        try await tracking.prepare()
        // What models need decides which versions of features are kept, so the keeper hears of every change.
        let keepers = Mutex<FeatureVersionKeeper?>(nil)
        let registry = ModelVersionRegistry(store: metadata, content: content, clock: clock, journal: audit) { _ in
            relay.wake()  // the change is in the audit chain already
            await keepers.withLock { $0 }?.followModels()
        }
        let keeper = FeatureVersionKeeper(
            catalog: catalog, registry: registry, stream: stream, store: metadata, clock: clock, lineage: lineage,
            logger: logger
        ) { await announce.publish($0) }
        keepers.withLock { $0 = keeper }
        let routes = RouteTable()
        let observer = RolloutObserver()
        let predictionLog = PredictionLog(log: log, observer: observer, logger: logger)
        let metrics = ServingMetrics()
        let predictor = Predictor(
            routes: routes, log: predictionLog, metrics: metrics, clock: clock, identifiers: identifiers,
            admission: Admission(waitingMax: settings.overloadConcurrency))
        let runtimes = settings.servingRuntimes(content)
        let desk = ModelDesk(
            registry: registry, content: content, runtimes: runtimes, routes: routes,
            evaluator: VersionEvaluator(engine: engine), definitions: { catalog.current },
            service: { try await catalog.service($0) },
            reader: {
                StreamReader(engine: stream, plan: ServingPlan(service: $0.service, definitions: $0.definitions))
            },
            dataset: { try await TrainingPipeline.parts($0, in: content) }, logger: logger)
        let recorder = RunRecorder(tracking: tracking, clock: SystemClock(), logger: logger)
        let runner = LocalJobRunner(recordFolder: "\(directory)/jobs")
        let jobs = TrainingJobService(
            configuration: TrainingJobConfiguration(
                folder: "\(directory)/jobs", interpreter: settings.pythonPath,
                trackingURL: "http://127.0.0.1:\(settings.port)", slotCount: settings.jobSlots),
            store: metadata, content: content, runner: runner, clock: clock,
            identifiers: machineIdentifiers,
            createRun: { model, tags in
                let experiment = try await tracking.findOrCreateExperiment(named: model.text)
                let run = try await tracking.createRun(
                    experiment: experiment, tags: tags.map { TrackedTag($0.key, $0.value) })
                return run.info.id
            },
            recorded: { await recorder.recorded($0, $1) }, used: { await recorder.used($0, $1) },
            finished: { await recorder.finished($0) }, logger: logger)
        let spines = SpineReader(
            engine: engine, content: content, files: LocalSourceFiles(), database: PostgreSQLRowSource(),
            secret: { environment[$0] }, queryLimits: limits)
        let builder = TrainingSetBuilder(
            engine: trainingEngine, content: content, limits: limits, kernel: settings.featureKernel,
            leakageEngine: engine, spines: spines)
        let pipeline = TrainingPipeline(
            catalog: catalog, tables: tables, builder: builder,
            content: content, jobs: jobs, tracking: tracking, desk: desk, clock: clock, datasets: datasets,
            lineage: lineage,
            built: { manifest in
                do { try await keeper.builtTrainingSet(manifest) } catch {
                    logger.warning("the use of features was not counted", metadata: ["error": "\(errorText(error))"])
                }
            })
        let runs = RunDesk(
            tracking: tracking, jobs: jobs, pipeline: pipeline, content: content, runner: runner,
            scratchFolder: "\(directory)/jobs", identifiers: machineIdentifiers)
        let catalogue = CatalogueService(
            definitions: { (catalog.current, catalog.revision) }, tables: tables, ingest: ingest, datasets: datasets,
            registry: registry, content: content, engine: engine, external: externalLineage)
        let maintenance = TableMaintenance(
            tables: tables, datasets: datasets, registry: registry, content: content,
            definitions: { catalog.current }, configuration: settings.tableMaintenance, clock: clock,
            audit: audit, changed: { relay.wake() }, logger: logger)
        let rollout = RolloutController(
            desk: desk, registry: registry, observer: observer, log: log, metadata: metadata, clock: clock,
            definitions: { catalog.current }, logger: logger, journal: audit, changed: { relay.wake() })
        let lifecycle = LifecycleService(
            desk: desk, registry: registry, rollout: rollout,
            lease: WorkflowLease(
                store: metadata, name: "lifecycle", holder: try Self.node(directory), clock: SystemClock()),
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

        let operations = OperationRunner(identifiers: machineIdentifiers)
        let archive = PredictionArchive(
            log: log, content: content,
            release: { try await LogRetention.release(of: $0, at: $1, store: metadata) },
            load: { try await desk.load($0, servedWith: $1) })
        let replayers = LogReaders()
        let retention = LogRetention(
            log: log, store: metadata, configuration: settings.logRetention, clock: clock, audit: audit,
            readers: {
                let rollouts = rollout.rollouts.filter { !$0.value.phase.isOver }
                return replayers.all
                    + rollouts.map { LogReader(name: "the rollout of \($0.key)", since: $0.value.since) }
            }, changed: { relay.wake() }, logger: logger)
        let parity = FeatureParityService(
            definitions: { catalog.current }, serviceVersion: { try await catalog.service($0) }, tables: tables,
            engine: engine, stream: stream, archive: archive,
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
        let replays = ShadowReplay(
            desk: desk, registry: registry, log: log, readers: replayers, content: content, metadata: metadata,
            clock: clock, definitions: { catalog.current }, service: { try await catalog.service($0) },
            identifiers: machineIdentifiers)
        await desk.ask(
            GateSources(
                parity: { try await parity.evidence(model: $0, service: $1, comparedMin: $2) },
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
                replay: { try await replays.evidence($0, $1, span: $2, actor: "gates") }))
        let evaluations = EvaluationService(
            desk: desk, registry: registry, evaluator: VersionEvaluator(engine: engine), content: content,
            tracking: tracking, store: metadata, definitions: { catalog.current },
            questions: questions, clock: clock)
        let scoring = ScoringService(
            desk: desk, registry: registry, tables: tables, builder: builder, spines: spines, engine: engine,
            content: content, serviceVersion: { try await catalog.service($0) }, lineage: lineage, clock: clock,
            root: "\(directory)/scores", limits: limits)
        catalogue.extend { try await scoring.extend(&$0) }
        catalogue.list(mark: { scoring.mark }, items: { scoring.catalogueItems() })
        let monitoring = MonitoringIndex(log: log)
        let box = SecretBox(key: try Self.webhookKey(directory))
        let webhooks = WebhookStore(
            store: metadata, clock: SystemClock(), box: box,
            transport: HTTPWebhookTransport(
                allowsHTTP: settings.allowsHTTPWebhooks, allowsPrivateAddresses: settings.allowsPrivateWebhooks))
        let predictionJobs = PredictionJobService(
            store: PredictionJobStore(
                store: metadata, clock: SystemClock(), identifiers: machineIdentifiers, box: box),
            predictor: predictor,
            transport: HTTPWebhookTransport(
                allowsHTTP: settings.allowsHTTPWebhooks, allowsPrivateAddresses: settings.allowsPrivateWebhooks),
            configuration: .init(
                instanceCountMax: settings.asynchronousQueue, retention: settings.asynchronousRetention),
            logger: logger)
        var platform = PlatformServices(
            catalog: catalog, features: keeper, desk: desk, registry: registry, lifecycle: lifecycle,
            drill: RollbackDrill(
                desk: desk, registry: registry, predictor: predictor, archive: archive, clock: clock, content: content,
                metadata: metadata),
            replays: replays,
            operations: operations,
            predictor: predictor,
            archive: archive, log: log, clock: clock, manualClock: manualClock,
            rememberClock: { try clockFile.write($0) },
            ingest: ingest, tables: tables, stream: stream, pipeline: pipeline, jobs: jobs, runs: runs,
            tracking: tracking, evaluations: evaluations, scoring: scoring, parity: parity,
            trial: FeatureTrial(tables: tables, engine: engine, clock: clock, limits: limits), monitoring: monitoring,
            changed: { relay.wake() }, auditLog: audit,
            expectsMonitor: settings.startsMonitor, maintenance: maintenance, catalogue: catalogue,
            lineage: lineage, webhooks: webhooks,
            collector: BlobCollector(
                store: metadata, objects: objects, migrations: migrations,
                survey: StorageSurvey(directory: directory) { id in
                    guard let job = try? await jobs.job(id) else { return nil }
                    return "output and scratch files of a job of \(job.model), \(job.state.rawValue)"
                }), retention: retention, predictionJobs: predictionJobs)
        platform.measurements = { runtimes.flatMap { $0.measurements() } }
        let access = try Self.access(settings)
        let intake = ModelIntake(tracking: tracking, content: content, desk: desk) {
            try await TrainingSetBuilder.manifest($0, in: content).serviceVersion
        }
        let mlflowRegistry = MLflowRegistry(
            registry: registry,
            intake: { try await intake.candidate(for: $0, source: $1, runID: $2, description: $3, tags: $4) },
            climb: { model, version, stage, actor, archivingOthers in
                try await desk.climb(
                    model, version, to: stage, actor: actor, reason: "asked for by an MLflow client",
                    archivingOthers: archivingOthers)
            })
        let transport = HTTPWebhookTransport(
            allowsHTTP: settings.allowsHTTPWebhooks, allowsPrivateAddresses: settings.allowsPrivateWebhooks)
        let dispatcher = WebhookDispatcher(
            webhooks: webhooks, transport: transport,
            payload: { try await RegistryEvents.payload(of: $0, in: registry) }, logger: logger)
        relay.add(dispatcher)
        let adopted = try await mlflowRegistry.adoptEarlierModels()
        if adopted > 0 {
            logger.notice("versions were taken over from MLflow's earlier tables", metadata: ["versions": "\(adopted)"])
        }
        let mlflow = MLflowRoutes(
            tracking: tracking, registry: mlflowRegistry, webhooks: webhooks, dispatcher: dispatcher, logger: logger)
        let inference = InferenceService(
            version: Bottega.version, predictor: predictor, clock: clock,
            registered: {
                var known: [(model: String, versions: [Int])] = []
                for model in try await registry.models() {
                    known.append((model.text, try await registry.versions(of: model).map(\.number)))
                }
                return known
            },
            failure: { stream.failure.map { "features: \($0)" } },
            audit: { actor, action, subject in
                await announce.audit(AuditRecord(actor: actor, action: action, subject: subject))
            })
        let inferenceRoutes = InferenceRoutes(service: inference)
        let all =
            NativeRoutes.all(platform)
            + NativeRoutes.audited(mlflow.routes, platform)
            + FeastRoutes(
                definitions: { catalog.current }, stream: stream, ingest: ingest, clock: clock,
                start: { work in try operations.start { _ in try await work() } },
                pulled: { source, report, actor in
                    guard report.loads.contains(where: { !$0.isAlreadyLoaded }) else { return }
                    await announce.audit(
                        AuditRecord(
                            actor: actor, action: "source.pulled", subject: "source/\(source)", after: report.json))
                }
            ).routes
            + inferenceRoutes.routes
        let gateway = GatewayServer(
            configuration: GatewayConfiguration(
                host: settings.host, port: settings.port, access: access, spoolDirectory: "\(directory)/spool",
                queueTargetMilliseconds: settings.overloadTargetMilliseconds),
            routes: all, directRoutes: mlflow.directRoutes,
            predictionRoutes: [
                PredictionRoute(
                    "POST", InferenceRoutes.directPath, byteCountMax: InferenceRoutes.directByteCountMax
                ) { call, scratch in
                    inferenceRoutes.answerAtOnce(
                        model: call.name, body: Array(call.body),
                        headerByteCount: call.field("inference-header-content-length"),
                        encoding: call.field("content-encoding"), terms: call.terms, pressure: call.pressure,
                        scratch: scratch)
                }
            ], platform: platform, logger: logger,
            onReady: { port in
                let url = "http://\(settings.host.contains(":") ? "[\(settings.host)]" : settings.host):\(port)"
                await jobs.setTracking(url: url, token: access.token)
                onReady(url)
            })
        var services: [any Service] = [
            StoreService(stores: stores), PredictionLogService(log: predictionLog),
            TrackingService(tracking: tracking, logger: logger),
            CheckpointService(stream: stream, logger: logger),
            WarmUpService(ingest: ingest, catalog: catalog, logger: logger), BackfillService(keeper: keeper),
            PullService(
                ingest: ingest, catalog: catalog, clock: clock, lineage: lineage, audit: audit, logger: logger),
            operations, JobService(jobs: jobs), lifecycle, maintenance, retention, lineage, relay, dispatcher,
            predictionJobs,
        ]
        let streamScoring = StreamScoring(
            log: log, predictor: predictor, definitions: { catalog.current },
            codec: { codecs.codec(of: shapes.effective($0)) }, logger: logger)
        await catalog.addFollower { streamScoring.wake() }
        predictor.routes.addListener { streamScoring.wake() }
        services.append(streamScoring)
        if settings.startsMonitor { services.append(MonitorSupervisor(settings: settings, logger: logger)) }
        if let port = settings.grpcPort {
            services.append(
                InferenceGRPCServer(
                    host: settings.host, port: port, service: inference,
                    admission: { authority, authorization in
                        switch access.refusal(host: authority, authorization: authorization) {
                        case .unauthenticated?: (16, "the token is missing or wrong")
                        case .forbiddenHost?: (7, "the authority names another machine; use 127.0.0.1 or localhost")
                        case nil: nil
                        }
                    }, logger: logger))
        }
        services.append(gateway)
        self.services = services
    }

    /// What may read a column of a source: its views, training sets.
    private static func readers(of column: String, in source: Name, _ definitions: DefinitionSet) -> [String] {
        var readers: [String] = []
        // Every view of the source: an expression of the view may read the column as well as a feature.
        for view in definitions.featureViews.values where view.source == source {
            readers.append("FeatureView/\(view.name)")
        }
        for set in definitions.trainingSets.values {
            let isLabel = set.labelSource == source && (set.labelColumn == column || set.labelKeys.contains(column))
            let isAsked =
                if case .sql(_, let sources)? = set.outsideSpine?.origin { sources.contains(source) } else {
                    set.spine == source
                }
            if isLabel || isAsked { readers.append("TrainingSet/\(set.name)") }
        }
        return readers.sorted()
    }

    private static func createTopics(_ log: any EventLog) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for topic in [
                PlatformTopic.predictions, PlatformTopic.labels, PlatformTopic.platform, PlatformTopic.monitoring,
            ] {
                group.addTask { try await log.createTopic(topic, partitions: 1) }
            }
            try await group.waitForAll()
        }
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

    /// The name of this data directory among those that share a metadata store: made once.
    private static func node(_ directory: String) throws -> String {
        let path = "\(directory)/node"
        if let data = FileManager.default.contents(atPath: path), !data.isEmpty {
            return String(decoding: data, as: UTF8.self)
        }
        var generator = SystemRandomNumberGenerator()
        let name = (0..<2).map { _ in String(generator.next() as UInt64, radix: 36) }.joined()
        do { try Data(name.utf8).write(to: URL(fileURLWithPath: path), options: .atomic) } catch {
            throw PlatformError(.unavailable, path, "the node's name cannot be written: \(errorText(error))")
        }
        return name
    }

    /// The key that webhooks' secrets are sealed with: made once, beside the database and not in it.
    private static func webhookKey(_ directory: String) throws -> [UInt8] {
        let path = "\(directory)/webhook-key"
        if let data = FileManager.default.contents(atPath: path) {
            guard data.count == 32 else { throw PlatformError(.corrupted, path, "a key has 32 bytes") }
            return [UInt8](data)
        }
        var generator = SystemRandomNumberGenerator()
        let key = (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        guard
            FileManager.default.createFile(
                atPath: path, contents: Data(key), attributes: [.posixPermissions: 0o600])
        else { throw PlatformError(.unavailable, path, "the key cannot be written") }
        return key
    }

    /// On loopback nobody needs a token.
    ///
    /// Elsewhere everybody does: the configured one, or one made at the first start.
    private static func access(_ settings: Settings) throws -> AccessPolicy {
        if let token = settings.token {
            guard token.utf8.count >= 16 else {
                throw PlatformError(.invalidInput, "configuration gateway.token", "a token has at least 16 characters")
            }
            return AccessPolicy(token: token)
        }
        if ["127.0.0.1", "::1", "localhost"].contains(settings.host) { return AccessPolicy(token: nil) }
        let path = "\(settings.dataDirectory)/admin-token"
        if let data = FileManager.default.contents(atPath: path) {
            return AccessPolicy(
                token: String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
        }
        var generator = SystemRandomNumberGenerator()
        let token = (0..<4).map { _ in String(generator.next() as UInt64, radix: 36) }.joined()
        guard
            FileManager.default.createFile(
                atPath: path, contents: Data(token.utf8), attributes: [.posixPermissions: 0o600])
        else {
            throw PlatformError(.unavailable, path, "the admin token cannot be written")
        }
        try? FileHandle.standardError.write(
            contentsOf: Data(
                "bottega: \(settings.host) is not loopback, so every request needs the token in \(path)\n".utf8))
        return AccessPolicy(token: token)
    }
}

/// Writes changes to the audit log; `ChangeRelay` tells the topic `platform` from there.
struct Announcer: Sendable {
    let audit: AuditLog
    let relay: ChangeRelay
    let logger: Logger

    func publish(_ event: PlatformEvent) async {
        await audit(AuditRecord(actor: event.actor, action: event.kind, subject: event.subject, after: event.details))
    }

    func audit(_ record: AuditRecord) async {
        do {
            _ = try await audit.append(record)
            relay.wake()
        } catch {
            logger.error(
                "an audit entry cannot be written",
                metadata: ["action": "\(record.action)", "error": "\(errorText(error))"])
        }
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

/// Codecs of sources, compiled once for each definition: an older view may read its source as it was then.
final class CodecCache: Sendable {
    private static let countMax = 4
    private let codecs = Mutex<[Name: [(definition: SourceDefinition, codec: SourceRowCodec)]]>([:])

    func codec(of source: SourceDefinition) -> SourceRowCodec {
        codecs.withLock { codecs in
            if let known = codecs[source.name]?.first(where: { $0.definition == source }) { return known.codec }
            let codec = SourceRowCodec(source)
            codecs[source.name] = ((codecs[source.name] ?? []) + [(source, codec)]).suffix(Self.countMax)
            return codec
        }
    }
}

extension SparkConfiguration {
    /// Spark as the settings name it.
    init(_ settings: Settings, folder: String) {
        self.init(
            pythonPath: settings.sparkPython, master: settings.sparkMaster, sparkHome: settings.sparkHome,
            memoryByteCount: settings.sparkMemoryByteCount, folder: folder)
    }
}
