import NIOCore
import NIOHTTP1
import RuntimePorts
import Synchronization

/// An open HTTP/1.1 connection: a request goes out, an answer comes back, and the next may follow.
struct HTTPConnection: Sendable {
    struct Request: Sendable {
        var method = HTTPMethod.GET
        let path: String
        var headers: [(String, String)] = []
        var body: [UInt8] = []
    }
    struct Answer: Sendable {
        let status: Int
        let headers: HTTPHeaders
        let body: [UInt8]
    }
    /// What became of a call.
    enum Outcome: Sendable {
        case answered(Answer)
        case failed(ModelError)
        /// The connection ended before the answer did.
        case lost
    }

    let channel: any Channel
    private let exchange: NIOLoopBound<HTTPExchange>

    /// Connects.
    static func made(to socket: RemoteSocket) -> EventLoopFuture<HTTPConnection> {
        socket.connected { channel in
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHTTPClientHandlers()
            try pipeline.addHandler(HTTPExchange(authority: socket.authority))
        }.flatMapThrowing { channel in
            let exchange = try channel.pipeline.syncOperations.handler(type: HTTPExchange.self)
            return HTTPConnection(channel: channel, exchange: NIOLoopBound(exchange, eventLoop: channel.eventLoop))
        }
    }

    /// Sends a request.
    /// - Parameter whenFree: is called once the answer is there, if another request may follow.
    func send(
        _ request: Request, _ answer: OneAnswer<Outcome>, until deadline: ContinuousClock.Instant,
        whenFree: @escaping @Sendable () -> Void
    ) {
        channel.eventLoop.execute { exchange.value.begin(request, answer, until: deadline, whenFree: whenFree) }
    }
}

/// Connections to one server that are free.
final class HTTPPool: Sendable {
    /// A connection nobody uses, and since when.
    private struct Free {
        let connection: HTTPConnection
        let since: ContinuousClock.Instant
    }

    private let socket: RemoteSocket
    private let idleTimeMax: Duration
    /// The one that became free last at the end.
    private let free = Mutex<[Free]>([])

    private static let freeCountMax = 32

    /// - Parameter idleTimeMax: how long a free connection is kept; what stands between forgets silent ones after minutes.
    init(_ socket: RemoteSocket, idleTimeMax: Duration = .seconds(60)) {
        self.socket = socket
        self.idleTimeMax = idleTimeMax
    }

    deinit { dropFree { _ in true } }

    /// Sends a request on a free connection, or on a new one.
    ///
    /// What a free connection lost may have been lost before it went out: the other side closes connections when it likes. So it is
    /// sent once more; predictions change nothing. One that stayed silent speaks for all that were free as long: perhaps they
    /// lead nowhere any more, and they go.
    func answer(to request: HTTPConnection.Request, until deadline: ContinuousClock.Instant) async
        -> HTTPConnection.Outcome
    {
        let begin = ContinuousClock.now
        dropFree { !$0.connection.channel.isActive || begin - $0.since > self.idleTimeMax }
        if let used = free.withLock({ $0.popLast() })?.connection {
            let outcome = await attempt(request, on: used.channel.eventLoop.makeSucceededFuture(used), until: deadline)
            if case .failed(let error) = outcome, error.code == .deadlineExceeded { dropFree { $0.since < begin } }
            guard case .lost = outcome else { return outcome }
        }
        return await attempt(request, on: HTTPConnection.made(to: socket), until: deadline)
    }

    private func attempt(
        _ request: HTTPConnection.Request, on future: EventLoopFuture<HTTPConnection>,
        until deadline: ContinuousClock.Instant
    ) async -> HTTPConnection.Outcome {
        let answer = OneAnswer<HTTPConnection.Outcome>()
        answer.give(
            .failed(HTTPLine.late), at: deadline)
        future.whenComplete { [weak self] result in
            switch result {
            case .failure(let error):
                let reason = RemoteSocket.words(for: error)
                answer.give(.failed(ModelError(.unavailable, "the remote server cannot be reached: \(reason)")))
            case .success(let connection):
                guard !answer.isGiven else { return connection.channel.close(promise: nil) }
                connection.send(request, answer, until: deadline) { [weak self] in
                    if self?.keep(connection) != true { connection.channel.close(promise: nil) }
                }
            }
        }
        return await answer.value()
    }

    private func keep(_ connection: HTTPConnection) -> Bool {
        free.withLock { free in
            guard free.count < Self.freeCountMax else { return false }
            free.append(Free(connection: connection, since: .now))
            return true
        }
    }

    private func dropFree(where isDropped: (Free) -> Bool) {
        let dropped = free.withLock { free in
            let dropped = free.filter(isDropped)
            free.removeAll(where: isDropped)
            return dropped
        }
        for one in dropped { one.connection.channel.close(promise: nil) }
    }
}

/// The calls of one connection, one after the other.
private final class HTTPExchange: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    private struct Call {
        let answer: OneAnswer<HTTPConnection.Outcome>
        let end: Scheduled<Void>
        let whenFree: @Sendable () -> Void
        var head: HTTPResponseHead?
        var body: [UInt8] = []
    }

    private let authority: String
    private var call: Call?
    private var fault: ModelError?
    private var context: ChannelHandlerContext?

    private static let answerByteCountMax = 64 << 20

    init(authority: String) { self.authority = authority }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func begin(
        _ request: HTTPConnection.Request, _ answer: OneAnswer<HTTPConnection.Outcome>,
        until deadline: ContinuousClock.Instant, whenFree: @escaping @Sendable () -> Void
    ) {
        guard let context, context.channel.isActive, call == nil else {
            answer.give(.lost)
            return
        }
        let channel = context.channel
        let left = min(max(0, (deadline - .now) / .nanoseconds(1)), 1e18)
        call = Call(
            answer: answer,
            end: context.eventLoop.scheduleTask(in: .nanoseconds(Int64(left))) {
                answer.give(.failed(HTTPLine.late))
                channel.close(promise: nil)
            },
            whenFree: whenFree)
        var headers: HTTPHeaders = ["host": authority, "user-agent": "bottega"]
        for (name, value) in request.headers { headers.add(name: name, value: value) }
        if request.method != .GET { headers.add(name: "content-length", value: String(request.body.count)) }
        let head = HTTPRequestHead(version: .http1_1, method: request.method, uri: request.path, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        if !request.body.isEmpty {
            context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: request.body)))), promise: nil)
        }
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): call?.head = head
        case .body(let bytes):
            guard (call?.body.count ?? 0) + bytes.readableBytes <= Self.answerByteCountMax else {
                return fail("answered more than \(Self.answerByteCountMax) bytes", context)
            }
            call?.body += bytes.readableBytesView
        case .end:
            guard let done = call, let head = done.head else { return fail("answered before it was asked", context) }
            call = nil
            done.end.cancel()
            // Free before the answer is heard: whoever asks next takes it.
            if head.isKeepAlive { done.whenFree() } else { context.close(promise: nil) }
            done.answer.give(
                .answered(.init(status: Int(head.status.code), headers: head.headers, body: done.body)))
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if error is HTTPParserError {
            fail("does not answer in HTTP", context)
        } else {
            context.close(promise: nil)
        }
    }

    private func fail(_ text: String, _ context: ChannelHandlerContext) {
        fault = ModelError(.unavailable, "the remote server \(text)")
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        if let call {
            call.end.cancel()
            call.answer.give(fault.map { .failed($0) } ?? .lost)
        }
        call = nil
        context.fireChannelInactive()
    }
}
