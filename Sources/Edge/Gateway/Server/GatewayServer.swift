public import APIContract
import ContentHashing
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
public import Logging
import ModelServing
import NIOCore
import NIOHTTP1
import PlatformCore
import RuntimePorts
public import ServiceLifecycle

/// Where and how the gateway listens.
public struct GatewayConfiguration: Sendable {
    /// Address to bind, `127.0.0.1`.
    public var host: String
    /// Port; 0 lets the system choose.
    public var port: Int
    /// Who may speak to it.
    public var access: AccessPolicy
    /// Folder for bodies that are spooled to disk.
    public var spoolDirectory: String
    /// How long a prediction may wait before it is looked at, in milliseconds, until others are refused; 0 refuses none.
    public var queueTargetMilliseconds: Int

    /// Makes a configuration.
    public init(
        host: String, port: Int, access: AccessPolicy, spoolDirectory: String, queueTargetMilliseconds: Int = 0
    ) {
        self.host = host
        self.port = port
        self.access = access
        self.spoolDirectory = spoolDirectory
        self.queueTargetMilliseconds = queueTargetMilliseconds
    }
}

/// The HTTP server: the hot routes on the event loop, every other route through the framework.
public struct GatewayServer: Service {
    private let configuration: GatewayConfiguration
    private let routes: [Route]
    private let directRoutes: [DirectRoute]
    private let predictionRoutes: [PredictionRoute]
    private let predictor: Predictor
    private let logger: Logger
    private let onReady: @Sendable (Int) async -> Void

    /// Makes a server for `routes` over `platform`; `onReady` hears the port once requests are accepted.
    ///
    /// - Parameters:
    ///   - directRoutes: answered in front of the framework beside the platform's own; what one passes on goes to its
    ///     namesake in `routes`.
    ///   - predictionRoutes: the same for predictions in other forms than that of `/predict`.
    public init(
        configuration: GatewayConfiguration, routes: [Route], directRoutes: [DirectRoute] = [],
        predictionRoutes: [PredictionRoute] = [], platform: PlatformServices, logger: Logger,
        onReady: @escaping @Sendable (Int) async -> Void
    ) {
        self.configuration = configuration
        self.routes = routes
        self.predictionRoutes = predictionRoutes
        self.directRoutes = NativeRoutes.direct(platform) + directRoutes
        predictor = platform.predictor
        self.logger = logger
        self.onReady = onReady
    }

    /// Serves until graceful shutdown; requests in hand are finished first.
    public func run() async throws {
        let router = Router(context: GatewayContext.self)
        for route in routes { mount(route, on: router) }
        router.addMiddleware { AnswerMissing(routes: routes) }
        let hot = HotRoutes(
            predictor: predictor, predictions: predictionRoutes, direct: directRoutes, access: configuration.access,
            traffic: LoopTraffic(),
            gauges: LoopGauges(
                admission: predictor.admission,
                targetNanoseconds: UInt64(configuration.queueTargetMilliseconds) * 1_000_000),
            refusals: { [routes] path in AnswerMissing.form(of: path, routes) })
        let socket = try ListeningSocket(host: configuration.host, port: configuration.port)
        var quiet = logger
        quiet.logLevel = max(quiet.logLevel, .warning)
        let connections = FrameworkConnections(
            hot, Self.framework(router.buildResponder(), logger: quiet), logger: quiet)
        let lanes: ExpressLanes
        do {
            lanes = try ExpressLanes(socket, hot) { connections.take($0, $1) }
        } catch {
            close(socket.descriptor)
            throw error
        }
        await withTaskCancellationHandler {
            await withGracefulShutdownHandler {
                await withDiscardingTaskGroup { group in
                    group.addTask { await connections.run() }
                    group.addTask {
                        await lanes.run()
                        connections.finish()
                    }
                    await onReady(socket.port)
                }
            } onGracefulShutdown: {
                lanes.stop()
                connections.quiesce()
            }
        } onCancel: {
            lanes.abandon()
            connections.abandon()
        }
    }

    /// What the framework does with a connection: it reads requests, has the router answer, and writes the answers.
    private static func framework(
        _ responder: some HTTPResponder<GatewayContext>, logger: Logger
    ) -> HTTP1Channel {
        HTTP1Channel(
            responder: { request, writer, channel in
                let context = GatewayContext(source: .init(channel: channel, logger: logger))
                var response: Response
                do {
                    response = try await responder.respond(to: request, context: context)
                } catch let error as HTTPParserError {
                    throw error
                } catch {
                    response = Response(status: .internalServerError)
                }
                response.headers[.date] = HTTPDate.text(of: time(nil))
                do {
                    try await writer.write(response: response.head, body: response.body)
                } catch is HTTPParserError {
                    // The request broke off while it was answered: a second answer would be no answer.
                    throw AnswerCut()
                }
            }, configuration: .init(additionalChannelHandlers: [AnswerEndHandler()]))
    }

    private struct AnswerCut: Error {}

    private func mount(_ route: Route, on router: Router<GatewayContext>) {
        let parts = route.pattern.split(separator: "/").map { part in
            part.hasPrefix("{") && part.hasSuffix("...}") ? "**" : String(part)
        }
        guard let method = HTTPRequest.Method(rawValue: route.method) else {
            preconditionFailure("a route has a method")
        }
        let configuration = configuration
        let logger = logger
        router.on(RouterPath("/" + parts.joined(separator: "/")), method: method) { request, context in
            await Self.answer(request, context, route: route, configuration: configuration, logger: logger)
        }
    }

    private static func answer(
        _ request: Request, _ context: GatewayContext, route: Route, configuration: GatewayConfiguration,
        logger: Logger
    ) async -> Response {
        let refusals = route.refusals ?? ErrorTable.form
        func refused(_ why: String, _ reason: RefusalForm.Reason = .failure) -> Response {
            response(
                refusals.answer(PlatformError(.forbidden, "access", why), reason), over: context.channel,
                refusals: refusals)
        }
        if !route.pattern.hasSuffix("livez"), !route.pattern.hasSuffix("readyz") {
            switch configuration.access.refusal(
                host: request.head.authority, authorization: request.headers[.authorization])
            {
            case .unauthenticated?:
                var answer = refused("the token is missing or wrong", .unauthenticated)
                // For browsers alone: libraries that know the scheme wait for somebody to answer.
                if request.headers[.accept]?.contains("text/html") == true {
                    answer.headers[.wwwAuthenticate] = "Basic realm=\"bottega\", charset=\"UTF-8\""
                }
                return answer
            case .forbiddenHost?:
                return refused("the Host header names another machine; use 127.0.0.1 or localhost")
            case nil: break
            }
            if configuration.access.isForged(
                method: route.method, host: request.head.authority, authorization: request.headers[.authorization],
                origin: request.headers[.origin], site: HTTPField.Name("Sec-Fetch-Site").flatMap { request.headers[$0] }
            ) {
                return refused("a page of another site may change nothing here")
            }
        }
        let spooled: String?
        do {
            let (apiRequest, file) = try await collect(
                request, context, route: route, directory: configuration.spoolDirectory)
            spooled = file
            defer {
                if let spooled { unlink(spooled) }
                apiRequest.bodyRoom?.release()
            }
            try route.checkQuery(apiRequest)
            let answer = try await RemoteHops.$current.withValue(RemoteHops.read(apiRequest.headers[RemoteHops.field]))
            {
                try await route.handler(apiRequest)
            }
            return response(answer, over: context.channel, refusals: refusals, range: request.headers[.range])
        } catch let unknown as UnknownContentCoding {
            return response(
                refusals.answer(unknown.error, .otherContentCoding), over: context.channel, refusals: refusals)
        } catch {
            let known = ErrorTable.platformError(error)
            if known.code == .internal || known.code == .corrupted {
                logger.error(
                    "request failed", metadata: ["route": "\(route.method) \(route.pattern)", "error": "\(error)"])
            }
            return response(refusals.answer(known, .failure), over: context.channel, refusals: refusals)
        }
    }

    /// Whom a request stands for: whom it names, or who signed in.
    private static func actor(_ headers: [String: String], _ route: Route) throws -> String {
        let name =
            headers["x-bottega-actor"] ?? headers["authorization"].flatMap { AccessPolicy.signIn($0)?.name } ?? ""
        do { return try ActorName.checked(name) } catch {
            guard !route.isSigned else { throw error }
            return ActorName.unnamed
        }
    }

    private static func collect(
        _ request: Request, _ context: GatewayContext, route: Route, directory: String
    ) async throws -> (APIRequest, String?) {
        var headers: [String: String] = [:]
        for field in request.headers { headers[field.name.canonicalName] = field.value }
        if let authority = request.head.authority { headers["host"] = authority }
        let actor = try actor(headers, route)
        var parameters: [String: String] = [:]
        for part in route.pattern.split(separator: "/") where part.hasPrefix("{") {
            let name = part.dropFirst().dropLast()
            if name.hasSuffix("...") {
                parameters[String(name.dropLast(3))] =
                    context.parameters.getCatchAll().map { String($0).removingPercentEncoding ?? String($0) }.joined(
                        separator: "/")
            } else if let value = context.parameters.get(String(name)) {
                parameters[String(name)] = value.removingPercentEncoding ?? value
            }
        }
        var body: [UInt8] = []
        var file: String?
        var hash: ContentHash?
        var room: (any BodyRoom)?
        switch route.body {
        case .collect(let limit):
            body = try await collectBytes(request, limit: limit)
            // Others than the platform's own routes unpack what their clients pack, and refuse it in their words.
            if route.refusals == nil {
                body = try ContentCoding.unpacked(body, headers["content-encoding"], byteCountMax: limit)
            }
        case .spool(let limit, let isHashed, let roomFor):
            try await checkLength(request, limit: limit)
            room = request.headers[.contentLength].flatMap(Int.init).flatMap { roomFor?(parameters, $0) }
            if let room {
                try await BodySpool.fill(room, with: request.body)
            } else {
                (file, hash) = try await BodySpool.file(
                    of: request.body, byteCountMax: limit, isHashed: isHashed, directory: directory)
            }
        }
        let query = request.uri.query.map(Self.queryFields) ?? []
        return (
            APIRequest(
                method: request.method.rawValue, path: request.uri.path.removingPercentEncoding ?? request.uri.path,
                parameters: parameters, query: query, headers: headers, body: body, bodyFile: file,
                bodyHash: hash, bodyRoom: room,
                actor: actor), file
        )
    }

    static func queryFields(_ query: String) -> [(key: String, value: String)] {
        query.split(separator: "&").map { pair in
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            func decoded(_ text: Substring) -> String {
                let spaced = text.replacing("+", with: " ")
                return String(spaced).removingPercentEncoding ?? String(spaced)
            }
            return (decoded(parts[0]), parts.count > 1 ? decoded(parts[1]) : "")
        }
    }

    /// What is read of a body that is refused for its size, so that its sender comes to reading the answer.
    private static let refusedByteCountMax = 256 << 20

    /// Refuses a body that says itself that it is too large, once the caller has sent it: most callers read no answer before.
    private static func checkLength(_ request: Request, limit: Int) async throws {
        guard let length = request.headers[.contentLength].flatMap(Int.init), length > limit else { return }
        var count = 0
        for try await chunk in request.body {
            count += chunk.readableBytes
            if count > refusedByteCountMax { break }
        }
        throw PlatformError(.tooLarge, "request body", "it has \(length) bytes, \(limit) are accepted")
    }

    private static func collectBytes(_ request: Request, limit: Int) async throws -> [UInt8] {
        try await checkLength(request, limit: limit)
        var bytes: [UInt8] = []
        var count = 0
        for try await chunk in request.body {
            count += chunk.readableBytes
            if count > refusedByteCountMax { break }
            if count <= limit { bytes.append(contentsOf: chunk.readableBytesView) }
        }
        guard count <= limit else {
            throw PlatformError(.tooLarge, "request body", "it has more than the \(limit) bytes that are accepted")
        }
        return bytes
    }

    static func response(
        _ answer: APIResponse, over channel: any Channel, refusals: RefusalForm, range: String? = nil
    ) -> Response {
        var fields = HTTPFields()
        for (name, value) in answer.headers {
            if let name = HTTPField.Name(name) { fields[name] = value }
        }
        fields[.xContentTypeOptions] = "nosniff"
        let status = HTTPResponse.Status(code: answer.status)
        switch answer.body {
        case .bytes(let bytes):
            return Response(status: status, headers: fields, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
        case .stream(let produce):
            return Response(
                status: status, headers: fields,
                body: ResponseBody { writer in
                    let (events, continuation) = AsyncStream.makeStream(
                        of: [UInt8].self, bufferingPolicy: .bufferingNewest(256))
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        group.addTask {
                            defer { continuation.finish() }
                            // An open stream does not hold up the end of the server.
                            try await cancelWhenGracefulShutdown { try await produce { continuation.yield($0) } }
                        }
                        group.addTask {
                            // Tells a reader that has gone from one that has nothing to read.
                            while true {
                                try await Task.sleep(for: .seconds(10))
                                continuation.yield(Array(": \n\n".utf8))
                            }
                        }
                        for await bytes in events { try await writer.write(ByteBuffer(bytes: bytes)) }
                        group.cancelAll()
                    }
                    try await writer.finish(nil)
                })
        case .pulled(let next):
            return Response(
                status: status, headers: fields,
                body: ResponseBody { writer in
                    while let bytes = try await next() { try await writer.write(ByteBuffer(bytes: bytes)) }
                    try await writer.finish(nil)
                })
        case .file(let path):
            do throws(PlatformError) {
                return file(try OpenFile(path), status: status, fields, range: range, over: channel)
            } catch {
                return response(refusals.answer(error, .failure), over: channel, refusals: refusals)
            }
        }
    }

    /// A file, or the range of it that is asked for (RFC 9110 §14; one range of bytes, anything else gives the whole).
    private static func file(
        _ file: OpenFile, status: HTTPResponse.Status, _ fields: HTTPFields, range: String?, over channel: any Channel
    ) -> Response {
        var (status, fields) = (status, fields)
        var bytes = 0..<file.byteCount
        if status == .ok, let range, let wanted = ByteRange.parse(range, byteCount: file.byteCount) {
            guard !wanted.isEmpty else {
                fields[.contentRange] = "bytes */\(file.byteCount)"
                return Response(status: .rangeNotSatisfiable, headers: fields)
            }
            bytes = wanted
            status = .partialContent
            fields[.contentRange] = "bytes \(wanted.lowerBound)-\(wanted.upperBound - 1)/\(file.byteCount)"
        }
        let wanted = bytes
        return Response(
            status: status, headers: fields,
            body: ResponseBody(contentLength: wanted.count) { writer in
                try await file.send(wanted, over: channel)
                try await writer.finish(nil)
            })
    }
}

/// What a route's handler knows of its request beside the framework's own: the connection.
struct GatewayContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    let channel: any Channel

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        channel = source.channel
    }
}

/// Says of an unknown path what there is, and of a known one with another method that it is the method.
struct AnswerMissing: RouterMiddleware {
    typealias Context = GatewayContext
    let routes: [Route]

    func handle(
        _ request: Request, context: Context,
        next: @concurrent (Request, Context) async throws -> Response
    ) async throws -> Response {
        do { return try await next(request, context) } catch let error as any HTTPResponseError
            where error.status == .notFound
        {
            let path = request.uri.path
            let allowed = Set(
                routes.filter { !$0.pattern.hasSuffix("{rest...}") && Self.matches($0.pattern, path) }.map(\.method)
            ).sorted()
            if !allowed.isEmpty, !allowed.contains(request.method.rawValue) {
                let list = allowed.joined(separator: ", ")
                let message = "'\(path.prefix(200))' takes \(list), not \(request.method.rawValue)"
                var answer = refused(PlatformError(.invalidInput, "route", message), .otherMethod, path, context)
                answer.headers[.allow] = list
                return answer
            }
            let message =
                "no route '\(request.method.rawValue) \(path.prefix(200))'; API/openapi.yaml lists them"
            let missing = PlatformError(.notFound, "route", message)
            if request.method == .get, request.headers[.accept]?.contains("text/html") == true,
                !["/api/", "/ajax-api/"].contains(where: { path.hasPrefix($0) }),
                Self.form(of: path, routes).prefixes.isEmpty
            {
                return GatewayServer.response(
                    FaultPage.answer(missing), over: context.channel, refusals: ErrorTable.form)
            }
            return refused(missing, .unknownPath, path, context)
        }
    }

    private func refused(
        _ error: PlatformError, _ reason: RefusalForm.Reason, _ path: String, _ context: Context
    ) -> Response {
        let form = Self.form(of: path, routes)
        return GatewayServer.response(form.answer(error, reason), over: context.channel, refusals: form)
    }

    /// The form of the routes that have the path, or of the group whose paths begin like it.
    static func form(of path: String, _ routes: [Route]) -> RefusalForm {
        let named = routes.first { !$0.pattern.hasSuffix("{rest...}") && matches($0.pattern, path) }
        if let named { return named.refusals ?? ErrorTable.form }
        let owner = routes.first { $0.refusals?.prefixes.contains { path.hasPrefix($0) } == true }
        return owner?.refusals ?? ErrorTable.form
    }

    private static func matches(_ pattern: String, _ path: String) -> Bool {
        let (left, right) = (pattern.split(separator: "/"), path.split(separator: "/"))
        for (index, part) in left.enumerated() {
            if part.hasSuffix("...}") { return true }
            guard index < right.count, part.hasPrefix("{") || part == right[index] else { return false }
        }
        return left.count == right.count
    }
}
