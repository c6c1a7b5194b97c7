public import APIContract
public import Datasets
public import Definitions
public import FeatureStore
public import PlatformCore

/// The HTTP API of Feast's feature server over the platform's own features.
///
/// `feast` with `online_store: {type: remote}`, and whoever posts to `/get-online-features` or `/push`, works unchanged.
/// It keeps nothing itself: values are those of every other read, rows take the same way as every other push. The
/// registry, vectors and chat are not part of it.
public struct FeastRoutes: Sendable {
    /// Runs something that takes long, and gives its identifier.
    public typealias Starter = @Sendable (@escaping @Sendable () async throws -> JSONValue) throws -> String

    let definitions: @Sendable () -> DefinitionSet
    let stream: StreamEngine
    let ingest: IngestService
    let clock: any PlatformClock
    let start: Starter
    let pulled: @Sendable (Name, PullReport, String) async -> Void
    let plans = PlanCache()
    let underWay = ViewsUnderWay()

    /// Answers from the parts of a platform.
    ///
    /// - Parameter pulled: told of each pull that materializing did: source, report, who asked.
    public init(
        definitions: @escaping @Sendable () -> DefinitionSet, stream: StreamEngine, ingest: IngestService,
        clock: any PlatformClock, start: @escaping Starter,
        pulled: @escaping @Sendable (Name, PullReport, String) async -> Void
    ) {
        self.definitions = definitions
        self.stream = stream
        self.ingest = ingest
        self.clock = clock
        self.start = start
        self.pulled = pulled
    }

    /// Every route.
    public var routes: [Route] {
        [
            Route("POST", "/get-online-features", body: .collect(byteCountMax: Self.questionByteCountMax)) { request in
                await answer { try await getOnlineFeatures(request) }
            },
            Route("POST", "/push", body: .collect(byteCountMax: Self.frameByteCountMax)) { request in
                await answer { try await push(request) }
            },
            Route("POST", "/write-to-online-store", body: .collect(byteCountMax: Self.frameByteCountMax)) { request in
                await answer { try await writeToOnlineStore(request) }
            },
            Route("POST", "/materialize", body: .collect(byteCountMax: 1 << 20)) { request in
                await answer { try await materialize(request, isIncremental: false) }
            },
            Route("POST", "/materialize-incremental", body: .collect(byteCountMax: 1 << 20)) { request in
                await answer { try await materialize(request, isIncremental: true) }
            },
        ].map { $0.refusing(in: Self.refusals) }
    }

    /// How the server words what it refuses in place of these routes, and of those of Feast's server that are not here: as
    /// Feast's client reads it.
    static let refusals = RefusalForm(prefixes: ["/retrieve-online-documents", "/read-document", "/save-document"]) {
        error, reason in
        switch reason {
        case .unauthenticated: FeastError("FeastPermissionError", 401, error.message).response
        case .otherMethod: FeastError("FeastError", 405, error.message).response
        case .unknownPath: FeastError("FeastObjectNotFoundException", 404, error.message).response
        case .otherContentCoding, .failure: FeastError(of: error).response
        }
    }

    /// Largest question in bytes.
    static let questionByteCountMax = 16 << 20
    /// Largest rows in bytes.
    static let frameByteCountMax = 32 << 20

    /// Runs a handler and says its failure as Feast does.
    private func answer(_ handler: () async throws -> APIResponse) async -> APIResponse {
        do { return try await handler() } catch { return FeastError(of: error).response }
    }

    private func answer(_ handler: () throws -> APIResponse) -> APIResponse {
        do { return try handler() } catch { return FeastError(of: error).response }
    }
}
