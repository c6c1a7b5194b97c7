public import APIContract
public import ModelServing
import PlatformCore

/// The HTTP API of the Open Inference Protocol V2 with Triton's extensions for binary tensors, classification, statistics,
/// configuration and the model repository.
public struct InferenceRoutes: Sendable {
    private let service: InferenceService
    /// Largest body in bytes, compressed or not.
    static let byteCountMax = 16 << 20

    /// Answers from a service.
    public init(service: InferenceService) { self.service = service }

    /// Every route.
    public var routes: [Route] {
        (server + models + repository + sharedMemory).map { $0.refusing(in: Self.refusals).unsigned }
    }

    /// How the server words what it refuses in place of these routes: as Triton does, with one text.
    static let refusals = RefusalForm(prefixes: ["/v2/"]) { error, reason in
        switch reason {
        case .unauthenticated: InferenceAnswer.failure(error, status: 401)
        case .otherMethod: InferenceAnswer.failure(error, status: 405)
        case .failure where error.code == .forbidden: InferenceAnswer.failure(error, status: 403)
        case .unknownPath, .otherContentCoding, .failure: InferenceAnswer.failure(error)
        }
    }

    /// Runs a handler and says its failure as Triton does.
    private static func answer(_ handler: () async throws -> APIResponse) async throws -> APIResponse {
        do { return try await handler() } catch let error as PlatformError { return InferenceAnswer.failure(error) }
    }

    private static let done = APIResponse(headers: [("Content-Type", "application/json")])

    private static func empty(_ isTrue: Bool) -> APIResponse {
        APIResponse(status: isTrue ? 200 : 400, headers: [("Content-Type", "text/plain")])
    }

    // MARK: The server

    private var server: [Route] {
        [
            Route("GET", "/v2") { _ in
                .json([
                    "name": "bottega", "version": .string(service.version),
                    "extensions": .array(InferenceService.extensions.map(JSONValue.string)),
                ])
            },
            Route("GET", "/v2/health/live") { _ in Self.empty(true) },
            Route("GET", "/v2/health/ready") { _ in Self.empty(service.isReady) },
        ]
    }

    // MARK: Models

    private var models: [Route] {
        [("/v2/models/{model}"), ("/v2/models/{model}/versions/{version}")].flatMap { path in
            [
                Route("GET", path) { request in
                    try await Self.answer { try metadata(request) }
                },
                Route("GET", "\(path)/ready") { request in
                    Self.empty(
                        service.isReady(
                            request.parameters["model"] ?? "", version: request.parameters["version"] ?? ""))
                },
                Route("GET", "\(path)/config") { request in
                    try await Self.answer { try configuration(request) }
                },
                Route("GET", "\(path)/stats") { request in
                    try await Self.answer {
                        try statistics(request.parameters["model"] ?? "", request.parameters["version"] ?? "")
                    }
                },
                Route("POST", "\(path)/infer", body: .collect(byteCountMax: Self.byteCountMax)) { request in
                    try await Self.answer { try await infer(request) }
                },
            ]
        } + [
            Route("GET", "/v2/models/stats") { _ in try await Self.answer { try statistics("", "") } }
        ]
    }

    private func infer(_ request: APIRequest) async throws -> APIResponse {
        let body = try Self.content(request)
        let headerByteCount = try Self.headerByteCount(request.headers["inference-header-content-length"])
        var terms = RequestTerms(caller: request.headers["x-bottega-caller"].map { String($0.prefix(64)) } ?? "")
        terms.read(
            timeout: request.headers["x-request-timeout-ms"]?.utf8, priority: request.headers["x-priority"]?.utf8)
        let result = try await service.answer(
            request.parameters["model"] ?? "", version: request.parameters["version"] ?? "",
            try InferenceBody.read(body, headerByteCount: headerByteCount), terms: terms)
        return InferenceAnswer.response(result)
    }

    private static func headerByteCount(_ text: String?) throws(PlatformError) -> Int? {
        guard let text else { return nil }
        guard let count = Int(text), count >= 0 else {
            throw InferenceFault.invalid("Inference-Header-Content-Length must be a number of bytes")
        }
        return count
    }

    /// The path that `answerAtOnce` answers.
    public static let directPath = "/v2/models/{model}/infer"
    /// Largest body that `answerAtOnce` is for.
    public static let directByteCountMax = 64 << 10

    /// Answers an inference request on an event loop, or leaves it to the ordinary route: what has to be waited for.
    ///
    /// - Parameters:
    ///   - headerByteCount: the field `Inference-Header-Content-Length`.
    ///   - scratch: as for `Predictor.answer`.
    public func answerAtOnce(
        model: String, body: UnsafeRawBufferPointer, headerByteCount: String?, terms: RequestTerms, pressure: Int,
        scratch: PredictionScratch
    ) -> Predictor.Answer {
        guard service.answersAtOnce(model) else { return .left }
        let answer: (response: APIResponse, columns: Predictor.ColumnAnswer?)
        do {
            let request = try InferenceBody.read(
                body, headerByteCount: try Self.headerByteCount(headerByteCount),
                memory: scratch.companion { InferenceBody.Memory() })
            guard
                let reply = try service.inferAtOnce(
                    model, version: "", request, terms: terms, pressure: pressure, scratch: scratch)
            else { return .left }
            answer = (
                reply.answer.failure.map({ InferenceAnswer.failure($0) }) ?? InferenceAnswer.response(reply.result),
                reply.answer
            )
        } catch { answer = (InferenceAnswer.failure(error), nil) }
        guard case .bytes(let bytes) = answer.response.body else { preconditionFailure("an answer is in memory") }
        return Predictor.Answer(
            status: answer.response.status, headers: answer.response.headers, body: bytes, columns: answer.columns,
            failureBody: InferenceAnswer.failureBody)
    }

    /// The body, unpacked.
    private static func content(_ request: APIRequest) throws -> [UInt8] {
        do {
            return try ContentCoding.unpacked(
                request.body, request.headers["content-encoding"], byteCountMax: byteCountMax)
        } catch let unknown as UnknownContentCoding {
            throw InferenceFault.invalid(unknown.error.message)
        }
    }

    private func metadata(_ request: APIRequest) throws -> APIResponse {
        let model = request.parameters["model"] ?? ""
        let (route, number) = try service.route(model, version: request.parameters["version"] ?? "")
        return .json(
            ModelDescriptions.metadata(
                model, route, service.served(route, number), service.tensors(route, version: number)))
    }

    private func configuration(_ request: APIRequest) throws -> APIResponse {
        let model = request.parameters["model"] ?? ""
        let (route, number) = try service.route(model, version: request.parameters["version"] ?? "")
        return .json(
            ModelDescriptions.configuration(
                model, route, service.served(route, number), service.tensors(route, version: number)))
    }

    private func statistics(_ model: String, _ version: String) throws -> APIResponse {
        let counted = try service.counted(model, version: version)
        return .json([
            "model_stats": .array(
                counted.map {
                    ModelDescriptions.statistics(
                        $0.model, $0.version, service.statistics.counts(model: $0.model, version: $0.version))
                })
        ])
    }

    // MARK: The repository

    private var repository: [Route] {
        [
            Route("POST", "/v2/repository/index", body: .collect(byteCountMax: 1 << 20)) { request in
                try await Self.answer {
                    let readyOnly = try Self.members(request)["ready"]?.boolValue ?? false
                    let entries = try await service.index(readyOnly: readyOnly)
                    return .json(
                        .array(
                            entries.map {
                                var entry: [String: JSONValue] = [
                                    "name": .string($0.name), "version": .string($0.version),
                                    "state": .string($0.state),
                                ]
                                if !$0.reason.isEmpty { entry["reason"] = .string($0.reason) }
                                return .object(entry)
                            }))
                }
            },
            Route("POST", "/v2/repository/models/{model}/load", body: .collect(byteCountMax: 1 << 20)) { request in
                try await Self.answer {
                    var parameters: [String: InferenceParameter] = [:]
                    for name in try Self.members(request)["parameters"]?.objectValue?.keys.sorted() ?? [] {
                        parameters[name] = .flag(true)
                    }
                    try await service.load(
                        request.parameters["model"] ?? "", parameters: parameters, actor: request.actor)
                    return Self.done
                }
            },
            Route("POST", "/v2/repository/models/{model}/unload", body: .collect(byteCountMax: 1 << 20)) { request in
                try await Self.answer {
                    _ = try Self.members(request)
                    await service.unload(request.parameters["model"] ?? "", actor: request.actor)
                    return Self.done
                }
            },
        ]
    }

    private static func members(_ request: APIRequest) throws(PlatformError) -> JSONValue {
        do { return try request.json() } catch let error as PlatformError { throw error } catch {
            throw InferenceFault.invalid("the request body is no JSON")
        }
    }

    // MARK: Shared memory

    /// There is none: nothing is registered, and nothing can be.
    private var sharedMemory: [Route] {
        [("systemsharedmemory", "system"), ("cudasharedmemory", "CUDA")].flatMap { path, name in
            [
                Route("GET", "/v2/\(path)/status") { _ in .json(.array([])) },
                Route("GET", "/v2/\(path)/region/{region}/status") { request in Self.noRegion(request, name) },
                Route("POST", "/v2/\(path)/region/{region}/register") { request in
                    let region = request.parameters["region"] ?? ""
                    return InferenceAnswer.failure(
                        InferenceFault.invalid(
                            "failed to register \(name) shared memory region: '\(region.prefix(128))', "
                                + "shared memory is not supported"))
                },
                Route("POST", "/v2/\(path)/region/{region}/unregister") { _ in APIResponse() },
                Route("POST", "/v2/\(path)/unregister") { _ in APIResponse() },
            ]
        }
    }

    private static func noRegion(_ request: APIRequest, _ name: String) -> APIResponse {
        InferenceAnswer.failure(InferenceFault.noRegion(request.parameters["region"] ?? "", name))
    }
}
