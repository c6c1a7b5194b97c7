import CommandLine
import Datasets
import FeastAPI
import FeatureStore
import FileSystemAdapter
import Foundation
import Gateway
import Governance
import InferenceAPI
import Logging
import MLflowAPI
import ModelRegistry
import ModelServing
import PlatformCore
import RuntimePorts
import TrainingJobs
import Workflows

/// What callers reach: every route over HTTP, predictions over gRPC, and webhooks to those who asked to hear.
struct PlatformEdge {
    let gateway: GatewayServer
    let grpc: InferenceGRPCServer?
    let dispatcher: WebhookDispatcher

    init(
        _ settings: Settings, on base: PlatformBase, _ data: PlatformData, _ models: PlatformModels,
        _ control: PlatformControl, logger: Logger, onReady: @escaping @Sendable (String) -> Void
    ) async throws {
        let platform = Self.services(settings, base, data, models, control)
        let access = try KeptSecrets.access(settings)
        let registry = try await Self.mlflowRegistry(base, models, logger: logger)
        let dispatcher = WebhookDispatcher(
            webhooks: control.webhooks, transport: settings.webhookTransport,
            payload: { [registry = models.registry] in try await RegistryEvents.payload(of: $0, in: registry) },
            logger: logger)
        base.relay.add(dispatcher)
        let mlflow = MLflowRoutes(
            tracking: models.tracking, registry: registry, webhooks: control.webhooks, dispatcher: dispatcher,
            logger: logger)
        let inference = Self.inference(base, data, models)
        let inferenceRoutes = InferenceRoutes(service: inference)
        let all =
            NativeRoutes.all(platform) + NativeRoutes.audited(mlflow.routes, platform)
            + Self.feast(base, data, control).routes + inferenceRoutes.routes
        let jobs = models.jobs
        gateway = GatewayServer(
            configuration: GatewayConfiguration(
                host: settings.host, port: settings.port, access: access, spoolDirectory: "\(base.directory)/spool",
                queueTargetMilliseconds: settings.overloadTargetMilliseconds),
            routes: all, directRoutes: mlflow.directRoutes,
            predictionRoutes: [
                PredictionRoute(
                    "POST", InferenceRoutes.directPath, byteCountMax: InferenceRoutes.directByteCountMax
                ) { call, scratch in
                    inferenceRoutes.answerAtOnce(
                        model: call.name, body: call.body,
                        headerByteCount: call.field("inference-header-content-length"),
                        terms: call.terms, pressure: call.pressure, scratch: scratch)
                }
            ], platform: platform, logger: logger,
            onReady: { port in
                let url = "http://\(settings.host.contains(":") ? "[\(settings.host)]" : settings.host):\(port)"
                await jobs.setTracking(url: url, token: access.token)
                onReady(url)
            })
        grpc = settings.grpcPort.map { port in
            InferenceGRPCServer(
                host: settings.host, port: port, service: inference,
                admission: { authority, authorization in
                    switch access.refusal(host: authority, authorization: authorization) {
                    case .unauthenticated?: (16, "the token is missing or wrong")
                    case .forbiddenHost?: (7, "the authority names another machine; use 127.0.0.1 or localhost")
                    case nil: nil
                    }
                }, logger: logger)
        }
        self.dispatcher = dispatcher
    }

    /// What the platform's own routes work with.
    private static func services(
        _ settings: Settings, _ base: PlatformBase, _ data: PlatformData, _ models: PlatformModels,
        _ control: PlatformControl
    ) -> PlatformServices {
        let (clockFile, relay, jobs, runtimes) = (base.clockFile, base.relay, models.jobs, models.runtimes)
        var platform = PlatformServices(
            catalog: data.catalog, features: models.keeper, desk: models.desk, registry: models.registry,
            lifecycle: control.lifecycle,
            drill: RollbackDrill(
                desk: models.desk, registry: models.registry, predictor: models.predictor, archive: control.archive,
                clock: base.clock, content: base.content, metadata: base.metadata),
            replays: control.replays, operations: control.operations, predictor: models.predictor,
            archive: control.archive, log: base.log, clock: base.clock, manualClock: base.manualClock,
            rememberClock: { try clockFile.write($0) },
            ingest: data.ingest, tables: data.tables, stream: data.stream, pipeline: models.pipeline, jobs: jobs,
            runs: models.runs, tracking: models.tracking, evaluations: control.evaluations, scoring: control.scoring,
            parity: control.parity,
            trial: FeatureTrial(tables: data.tables, engine: data.engine, clock: base.clock, limits: data.limits),
            monitoring: control.monitoring, changed: { relay.wake() }, auditLog: base.audit,
            expectsMonitor: settings.startsMonitor, maintenance: control.maintenance, catalogue: control.catalogue,
            lineage: data.lineage, webhooks: control.webhooks,
            collector: BlobCollector(
                store: base.metadata, objects: base.objects, migrations: base.migrations,
                survey: StorageSurvey(directory: base.directory) { id in
                    guard let job = try? await jobs.job(id) else { return nil }
                    return "output and scratch files of a job of \(job.model), \(job.state.rawValue)"
                }), retention: control.retention, predictionJobs: control.predictionJobs)
        platform.measurements = { runtimes.flatMap { $0.measurements() } }
        return platform
    }

    /// The registry as MLflow's clients see it, with the versions that their earlier tables held.
    private static func mlflowRegistry(_ base: PlatformBase, _ models: PlatformModels, logger: Logger) async throws
        -> MLflowRegistry
    {
        let (content, desk) = (base.content, models.desk)
        let intake = ModelIntake(tracking: models.tracking, content: content, desk: desk) {
            try await TrainingSetBuilder.manifest($0, in: content).serviceVersion
        }
        let registry = MLflowRegistry(
            registry: models.registry,
            intake: { try await intake.candidate(for: $0, source: $1, runID: $2, description: $3, tags: $4) },
            climb: { model, version, stage, actor, archivingOthers in
                try await desk.climb(
                    model, version, to: stage, actor: actor, reason: "asked for by an MLflow client",
                    archivingOthers: archivingOthers)
            }, isServed: { desk.isDefined($0.deployment) })
        let adopted = try await registry.adoptEarlierModels()
        if adopted > 0 {
            logger.notice("versions were taken over from MLflow's earlier tables", metadata: ["versions": "\(adopted)"])
        }
        return registry
    }

    private static func inference(_ base: PlatformBase, _ data: PlatformData, _ models: PlatformModels)
        -> InferenceService
    {
        let (registry, stream, announce) = (models.registry, data.stream, base.announce)
        return InferenceService(
            version: Bottega.version, predictor: models.predictor, clock: base.clock,
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
    }

    private static func feast(_ base: PlatformBase, _ data: PlatformData, _ control: PlatformControl) -> FeastRoutes {
        let (catalog, operations, announce) = (data.catalog, control.operations, base.announce)
        return FeastRoutes(
            definitions: { catalog.current }, stream: data.stream, ingest: data.ingest, clock: base.clock,
            start: { work in try operations.start { _ in try await work() } },
            pulled: { source, report, actor in
                guard report.loads.contains(where: { !$0.isAlreadyLoaded }) else { return }
                await announce.audit(
                    AuditRecord(
                        actor: actor, action: "source.pulled", subject: "source/\(source)", after: report.json))
            })
    }
}
