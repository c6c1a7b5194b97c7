public import APIContract

/// Every route of the platform's own surface; `API/openapi.yaml` describes them.
public enum NativeRoutes {
    /// The routes, ready to mount.
    public static func all(_ services: PlatformServices) -> [Route] {
        SystemRoutes.routes(services) + DataRoutes.routes(services) + SourceRoutes.routes(services)
            + TableRoutes.routes(services) + CatalogueRoutes.routes(services) + LineageRoutes.routes(services)
            + FeatureRoutes.routes(services) + FeatureVersionRoutes.routes(services) + ModelRoutes.routes(services)
            + WebhookRoutes.routes(services) + TrainingRoutes.routes(services)
            + EvaluationRoutes.routes(services) + ScoringRoutes.routes(services) + RunRoutes.routes(services)
            + ImportRoutes.routes(services) + PredictionRoutes.routes(services) + PredictionJobRoutes.routes(services)
            + MonitoringRoutes.routes(services) + RolloutRoutes.routes(services) + RehearsalRoutes.routes(services)
    }

    /// Routes of another surface, with what they change in the audit chain.
    public static func audited(_ routes: [Route], _ services: PlatformServices) -> [Route] {
        AuditedRoutes.wrap(routes, services)
    }

    /// Those whose small requests are answered on the event loop as well.
    static func direct(_ services: PlatformServices) -> [DirectRoute] {
        [OnlineFeatureRoute(stream: services.stream).direct]
    }
}
