import GRPCWire
public import Logging
import ModelServing
import NIOCore
import NIOHPACK
import NIOHTTP2
import NIOPosix
import PlatformCore
import RuntimePorts
public import ServiceLifecycle
import Synchronization

/// The Open Inference Protocol V2 over gRPC: HTTP/2 in clear text, on a port of its own.
///
/// A server of these few calls alone, straight on NIO's HTTP/2 (`docs/adr/0045-grpc-on-nio.md`).
public struct InferenceGRPCServer: Service {
    /// Whether a caller may speak to the server; `nil` if so, else the gRPC status and why.
    public typealias Admission =
        @Sendable (_ authority: String?, _ authorization: String?) -> (code: Int, message: String)?

    private typealias Stream = NIOAsyncChannel<HTTP2Frame.FramePayload, HTTP2Frame.FramePayload>
    private typealias Multiplexer = NIOHTTP2Handler.AsyncStreamMultiplexer<Stream>

    private let host: String
    private let port: Int
    private let methods: InferenceMethods
    private let admission: Admission
    private let logger: Logger
    private let connections = Connections()

    /// Makes a server.
    public init(
        host: String, port: Int, service: InferenceService, admission: @escaping Admission, logger: Logger
    ) {
        self.host = host
        self.port = port
        methods = InferenceMethods(service: service)
        self.admission = admission
        self.logger = logger
    }

    /// Calls at once on a connection.
    private static let streamCountMax = 256
    /// How long a connection may take to its first call.
    private static let arrivalTime = TimeAmount.seconds(30)
    /// How long a caller may take to let the end of an answer in.
    private static let takingTime = TimeAmount.seconds(60)
    /// How long calls in hand may take when the server stops.
    private static let finishingTime = Duration.seconds(10)

    /// Serves until graceful shutdown; calls in hand are finished first.
    public func run() async throws {
        let connections = connections
        let listener = try await listen()
        try await withGracefulShutdownHandler {
            try await withThrowingDiscardingTaskGroup { group in
                try await listener.executeThenClose { inbound in
                    for try await (channel, multiplexer) in inbound {
                        group.addTask { await serve(channel, multiplexer) }
                    }
                }
                await connections.finish(within: Self.finishingTime)
            }
        } onGracefulShutdown: {
            listener.channel.close(promise: nil)
        }
    }

    private func listen() async throws -> NIOAsyncChannel<(any Channel, Multiplexer), Never> {
        var configuration = NIOHTTP2Handler.Configuration()
        configuration.connection.initialSettings = [
            HTTP2Setting(parameter: .maxConcurrentStreams, value: Self.streamCountMax),
            HTTP2Setting(parameter: .maxHeaderListSize, value: 16 << 10),
            HTTP2Setting(parameter: .initialWindowSize, value: 1 << 20),
        ]
        configuration.connection.targetWindowSize = 4 << 20
        configuration.stream.targetWindowSize = 1 << 20
        // gRPC's clients measure the line by pings, many a second on a busy connection.
        configuration.connection.controlFrameRateLimit.maximumCount = 100_000
        configuration.stream.streamResetFrameRateLimit.maximumCount = 2000
        let settings = configuration
        do {
            return try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .serverChannelOption(.backlog, value: 256)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
                .bind(host: host, port: port) { channel in
                    channel.configureAsyncHTTP2Pipeline(mode: .server, configuration: settings) { stream in
                        stream.eventLoop.makeCompletedFuture {
                            try Stream(wrappingChannelSynchronously: stream)
                        }
                    }.map { (channel, $0) }
                }
        } catch let error as IOError {
            throw PlatformError(
                .unavailable, "\(host):\(port)",
                "cannot listen there for gRPC (gateway.grpcport): \(error.localizedDescription)")
        }
    }

    /// Answers the calls of a connection.
    private func serve(_ channel: any Channel, _ multiplexer: Multiplexer) async {
        connections.add(channel)
        defer { connections.remove(channel) }
        // A client that comes back later makes a new connection by itself.
        let arrival = channel.eventLoop.scheduleTask(in: Self.arrivalTime) { channel.close(promise: nil) }
        defer { arrival.cancel() }
        do {
            try await withThrowingDiscardingTaskGroup { group in
                for try await stream in multiplexer.inbound {
                    arrival.cancel()
                    group.addTask { await answer(stream) }
                }
            }
        } catch {
            logger.debug("a gRPC connection ended", metadata: ["error": "\(error)"])
        }
        channel.close(promise: nil)
    }

    /// Answers one call.
    private func answer(_ stream: Stream) async {
        do {
            try await stream.executeThenClose { inbound, outbound in
                var call = Call(frames: inbound.makeAsyncIterator(), outbound: outbound, channel: stream.channel)
                do {
                    try await answer(&call)
                } catch {
                    try await call.end(GRPCStatus(of: error))
                }
            }
        } catch {
            logger.debug("a gRPC call ended", metadata: ["error": "\(error)"])  // its caller has gone
        }
    }

    private static let prefix = "/inference.GRPCInferenceService/"

    private func answer(_ call: inout Call) async throws {
        let headers = try await call.head()
        if let refusal = admission(
            headers.first(name: ":authority"), headers.first(name: "authorization"))
        {
            throw GRPCStatus(code: refusal.code, message: refusal.message)
        }
        let path = headers.first(name: ":path") ?? ""
        let name = path.hasPrefix(Self.prefix) ? String(path.dropFirst(Self.prefix.count)) : ""
        let terms = try Self.terms(headers)
        let hops = RemoteHops.read(headers.first(name: RemoteHops.field))
        if name == InferenceMethods.stream {
            try await call.begin()
            while let message = try await call.next() {
                connections.begin()  // an open stream that asks nothing does not hold up the end of the server
                defer { connections.end() }
                let answer = await RemoteHops.$current.withValue(hops) {
                    await methods.streamAnswer(message[...], terms: terms)
                }
                try await call.send(answer)
            }
        } else if InferenceMethods.unary.contains(name) {
            connections.begin()
            defer { connections.end() }
            guard let message = try await call.next() else {
                throw GRPCStatus(code: 13, message: "the call has no message")
            }
            guard try await call.next() == nil else {
                throw GRPCStatus(code: 13, message: "the call has more than one message")
            }
            let actor: String
            do { actor = try ActorName.checked(headers.first(name: "x-bottega-actor") ?? "") } catch {
                throw GRPCStatus(code: error.code == .forbidden ? 7 : 3, message: error.message)
            }
            let answer = try await RemoteHops.$current.withValue(hops) {
                try await methods.answer(name, message[...], terms: terms, actor: actor)
            }
            try await call.begin()
            try await call.send(answer)
        } else {
            throw GRPCStatus(code: 12, message: "no method '\(path.prefix(200))'")
        }
        try await call.end(.ok)
    }

    /// What a call asks for beside its answer, from its metadata.
    private static func terms(_ headers: HPACKHeaders) throws -> RequestTerms {
        var terms = RequestTerms(caller: String((headers.first(name: "x-bottega-caller") ?? "").prefix(64)))
        terms.read(timeout: String.UTF8View?.none, priority: headers.first(name: "x-priority")?.utf8)
        if let text = headers.first(name: "grpc-timeout") {
            guard let timeout = GRPCTimeout.read(text) else {
                throw GRPCStatus(code: 13, message: "grpc-timeout '\(text.prefix(32))' is malformed")
            }
            terms.deadline = ContinuousClock.now + timeout
        }
        return terms
    }

    /// One call: what came of it, and what went out.
    private struct Call {
        var frames: NIOAsyncChannelInboundStream<HTTP2Frame.FramePayload>.AsyncIterator
        let outbound: NIOAsyncChannelOutboundWriter<HTTP2Frame.FramePayload>
        private let channel: any Channel
        private var messages = GRPCMessages(encoding: .identity)
        private var isAtEnd = false
        private var hasBegun = false

        init(
            frames: NIOAsyncChannelInboundStream<HTTP2Frame.FramePayload>.AsyncIterator,
            outbound: NIOAsyncChannelOutboundWriter<HTTP2Frame.FramePayload>, channel: any Channel
        ) {
            self.frames = frames
            self.outbound = outbound
            self.channel = channel
        }

        /// The fields that a call begins with.
        mutating func head() async throws -> HPACKHeaders {
            guard case .headers(let frame)? = try await frames.next(isolation: #isolation) else {
                throw GRPCStatus(code: 13, message: "a call begins with its fields")
            }
            isAtEnd = frame.endStream
            let headers = frame.headers
            guard headers.first(name: ":method") == "POST",
                headers.first(name: "content-type")?.hasPrefix("application/grpc") == true
            else { throw GRPCStatus(code: 13, message: "this port takes gRPC alone") }
            guard let encoding = GRPCEncoding(headers.first(name: "grpc-encoding")) else {
                throw GRPCStatus(code: 12, message: "messages may come as they are, as gzip and as deflate")
            }
            messages = GRPCMessages(encoding: encoding)
            return headers
        }

        /// The next message; `nil` at the end.
        mutating func next() async throws -> [UInt8]? {
            while true {
                if let message = try messages.next() { return message }
                guard !isAtEnd, let frame = try await frames.next(isolation: #isolation) else {
                    guard messages.isEmpty else { throw GRPCStatus(code: 13, message: "a message is not whole") }
                    return nil
                }
                switch frame {
                case .data(let data):
                    if case .byteBuffer(let bytes) = data.data { messages.append(bytes) }
                    isAtEnd = data.endStream
                case .headers(let trailers): isAtEnd = trailers.endStream
                default: break
                }
            }
        }

        mutating func begin() async throws {
            hasBegun = true
            let headers = HPACKHeaders([
                (":status", "200"), ("content-type", "application/grpc"),
                ("grpc-accept-encoding", "identity,gzip,deflate"),
            ])
            try await outbound.write(.headers(.init(headers: headers)))
        }

        func send(_ message: [UInt8]) async throws {
            try await outbound.write(.data(.init(data: .byteBuffer(GRPCMessages.frame(message)))))
        }

        /// Ends the call once its caller has taken all of it.
        ///
        /// What closes a stream drops what still waits for the caller's window.
        func end(_ status: GRPCStatus) async throws {
            var trailers = hasBegun ? HPACKHeaders() : [":status": "200", "content-type": "application/grpc"]
            status.write(to: &trailers)
            let patience = channel.eventLoop.scheduleTask(in: InferenceGRPCServer.takingTime) { [channel] in
                channel.close(promise: nil)
            }
            defer { patience.cancel() }
            let last = HTTP2Frame.FramePayload.headers(.init(headers: trailers, endStream: true))
            try await channel.writeAndFlush(last).get()
        }
    }

    /// The open connections and the calls in hand.
    private final class Connections: Sendable {
        private let state = Mutex<(channels: [ObjectIdentifier: any Channel], calls: Int)>(([:], 0))

        func add(_ channel: any Channel) { state.withLock { $0.channels[ObjectIdentifier(channel)] = channel } }
        func remove(_ channel: any Channel) { state.withLock { $0.channels[ObjectIdentifier(channel)] = nil } }
        func begin() { state.withLock { $0.calls += 1 } }
        func end() { state.withLock { $0.calls -= 1 } }

        /// Waits for the calls in hand, then closes what is open.
        func finish(within limit: Duration) async {
            let end = ContinuousClock.now + limit
            while state.withLock({ $0.calls }) > 0, ContinuousClock.now < end {
                do { try await Task.sleep(for: .milliseconds(10)) } catch { break }
            }
            for channel in state.withLock({ Array($0.channels.values) }) { channel.close(promise: nil) }
        }
    }
}
