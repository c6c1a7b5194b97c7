import Datasets
import FeatureStore
import Logging
import ModelServing
import ServiceLifecycle
import Workflows

/// Puts the platform together from its settings, part by part: the only place that names an adapter.
struct Platform {
    /// Long-lived parts in start order; shutdown walks the list backwards.
    let services: [any Service]

    init(_ settings: Settings, logger: Logger, onReady: @escaping @Sendable (String) -> Void) async throws {
        let base = try await PlatformBase(settings, logger: logger)
        let data = try await PlatformData(settings, on: base, logger: logger)
        let models = try await PlatformModels(settings, on: base, data, logger: logger)
        let control = try await PlatformControl(settings, on: base, data, models, logger: logger)
        let edge = try await PlatformEdge(settings, on: base, data, models, control, logger: logger, onReady: onReady)
        let (catalog, codecs, shapes, predictor) = (data.catalog, data.codecs, data.shapes, models.predictor)
        let streamScoring = StreamScoring(
            log: base.log, predictor: predictor, definitions: { catalog.current },
            codec: { codecs.codec(of: shapes.effective($0)) }, logger: logger)
        await catalog.addFollower { streamScoring.wake() }
        predictor.routes.addListener { streamScoring.wake() }
        var services: [any Service] = [
            StoreService(stores: base.stores), PredictionLogService(log: models.predictionLog),
            TrackingService(tracking: models.tracking, logger: logger),
            CheckpointService(stream: data.stream, logger: logger),
            WarmUpService(ingest: data.ingest, catalog: catalog, logger: logger),
            BackfillService(keeper: models.keeper),
            PullService(
                ingest: data.ingest, catalog: catalog, clock: base.clock, lineage: data.lineage, audit: base.audit,
                logger: logger),
            control.operations, JobService(jobs: models.jobs), control.lifecycle, control.maintenance,
            control.retention, data.lineage, base.relay, edge.dispatcher, control.predictionJobs, streamScoring,
        ]
        if settings.startsMonitor { services.append(MonitorSupervisor(settings: settings, logger: logger)) }
        if let grpc = edge.grpc { services.append(grpc) }
        services.append(edge.gateway)
        self.services = services
    }
}
