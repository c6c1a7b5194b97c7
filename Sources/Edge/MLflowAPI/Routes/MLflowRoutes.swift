public import APIContract
public import ExperimentTracking
public import Governance
public import Logging
import PlatformCore

/// The MLflow REST protocol over the platform's own tracking and registry.
///
/// Everything that a training script with the unmodified client calls: experiments, runs, metrics, inputs, logged
/// models, artifacts through the server, whole or in parts, traces, datasets of evaluations, scorers, registered models. It keeps nothing itself. What is not part
/// of it answers 404, which the client takes without trying again.
public struct MLflowRoutes: Sendable {
    let tracking: TrackingStore
    let registry: MLflowRegistry
    let webhooks: WebhookStore?
    let dispatcher: WebhookDispatcher?
    let logger: Logger
    let artifactByteCountMax: Int
    let runDocuments = RunDocuments()

    /// The version of MLflow's server that the routes speak like.
    public static let protocolVersion = "3.17.2"

    /// Answers from `tracking` and `registry`, which are prepared already.
    ///
    /// - Parameter artifactByteCountMax: largest accepted artifact in bytes; a larger upload is answered 413.
    public init(
        tracking: TrackingStore, registry: MLflowRegistry, webhooks: WebhookStore? = nil,
        dispatcher: WebhookDispatcher? = nil, logger: Logger,
        artifactByteCountMax: Int = 16 << 30
    ) {
        self.tracking = tracking
        self.registry = registry
        self.webhooks = webhooks
        self.dispatcher = dispatcher
        self.logger = logger
        self.artifactByteCountMax = artifactByteCountMax
    }

    /// Every route.
    ///
    /// The ones that end in `{rest...}` come last and catch what no other takes.
    public var routes: [Route] {
        (experimentRoutes + runRoutes + loggedModelRoutes + artifactRoutes + traceRoutes
            + evaluationDatasetRoutes + scorerRoutes + registryRoutes + webhookRoutes + serverRoutes).map {
                $0.refusing(in: Self.refusals)
            }
    }

    /// How the server words what it refuses in place of these routes: as MLflow's clients read it.
    static let refusals = RefusalForm(prefixes: ["/api/2.0/mlflow", "/api/3.0/mlflow", "/ajax-api/"]) { error, reason in
        let words =
            switch reason {
            case .unauthenticated: MLflowError("UNAUTHENTICATED", 401, error.message)
            case .unknownPath: MLflowError("ENDPOINT_NOT_FOUND", 404, error.message)
            case .otherMethod: MLflowError("ENDPOINT_NOT_FOUND", 405, error.message)
            case .otherContentCoding: MLflowError("INVALID_PARAMETER_VALUE", 415, error.message)
            case .failure where error.code == .tooLarge:
                MLflowError("INVALID_PARAMETER_VALUE", 413, error.description)
            case .failure: MLflowError(of: error) ?? MLflowError("INTERNAL_ERROR", 500, error.description)
            }
        return words.response
    }

    private var serverRoutes: [Route] {
        let info: JSONValue = [
            "store_type": "SqlStore", "workspaces_enabled": false, "trace_archival_enabled": false,
            "multipart_uploads_enabled": true, "multipart_downloads_enabled": true,
            "presigned_upload_run_id_supported": false, "presigned_upload_model_id_supported": false,
            "features_enabled": ["gateway": false],
        ]
        var routes = [
            Route("GET", "/health") { _ in .text("OK") },
            Route("GET", "/version") { _ in .text(Self.protocolVersion) },
        ]
        for prefix in ["/api", "/ajax-api"] {
            for version in ["2.0", "3.0"] {
                routes.append(Route("GET", "\(prefix)/\(version)/mlflow/server-info") { _ in .json(info) })
            }
        }
        for prefix in ["/api", "/ajax-api"] {
            for family in ["2.0/mlflow", "3.0/mlflow", "2.0/mlflow-artifacts"] {
                for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                    routes.append(
                        Route(method, "\(prefix)/\(family)/{rest...}") { request in
                            MLflowError(
                                "ENDPOINT_NOT_FOUND", 404,
                                "No endpoint answers \(request.method) \(request.path.prefix(200))"
                            ).response
                        })
                }
            }
        }
        return routes
    }

    /// The routes of one call that answers a JSON object, below both prefixes.
    func call(
        _ method: String, _ path: String, version: String = "2.0",
        _ handler: @escaping @Sendable (MLflowRequest) async throws -> JSONValue
    ) -> [Route] {
        ["/api", "/ajax-api"].map { prefix in
            Route(method, "\(prefix)/\(version)/\(path)") { request in
                await answer(request) { .json(try await handler(MLflowRequest($0))) }
            }
        }
    }

    /// Runs a handler and says its failure as MLflow does.
    func answer(
        _ request: APIRequest, _ handler: (APIRequest) async throws -> APIResponse
    ) async -> APIResponse {
        do { return try await handler(request) } catch {
            if let known = MLflowError(of: error) { return known.response }
            logger.error(
                "an MLflow call failed",
                metadata: [
                    "method": "\(request.method)", "path": "\(request.path)", "error": "\(errorText(error))",
                ])
            return MLflowError("INTERNAL_ERROR", 500, "the call failed: \(errorText(error))").response
        }
    }
}
