import APIContract
import Definitions
import Foundation
import HTTPTypes
import ModelServing
import NIOCore
import NIOHTTPTypes

/// Answers the hot routes on the event loop, before the framework sees them.
///
/// They are `POST /predict/{model}` and small requests to a `DirectRoute`; everything else passes on. A framework route
/// costs three times the rest of a prediction here (task hops, body streams, router), so the hot routes go around it. One connection answers in order: while the framework works on a request, later ones wait here.
final class HotRouteHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    /// Largest request body of the hot route.
    static let bodyByteCountMax = 4 << 20
    /// Parts that wait behind the framework before reading stops.
    private static let waitingCountMax = 64

    private enum State {
        /// Between requests.
        case idle
        /// The body of a request to be answered here is arriving.
        case collecting(HTTPRequest, Target, ByteBuffer, tooLarge: Bool)
        /// The framework has the request; its answer is not yet written.
        case passing
        /// An answer of ours waits for room in the prediction log, or for the disk.
        case waiting
    }

    /// Who answers.
    private enum Target {
        case model(String)
        case route(DirectRoute, name: String)

        /// Whether its answer may hold the event loop for a moment.
        var canHold: Bool {
            if case .route(let route, _) = self { route.lonelyHandler != nil } else { false }
        }
    }

    private let predictor: Predictor
    private let routes: [DirectRoute]
    private let access: AccessPolicy
    private let traffic: LoopTraffic
    private var state = State.idle
    private var waiting: [HTTPRequestPart] = []
    private var readIsPending = false

    init(predictor: Predictor, routes: [DirectRoute], access: AccessPolicy, traffic: LoopTraffic) {
        self.traffic = traffic
        self.predictor = predictor
        self.routes = routes
        self.access = access
    }

    // MARK: Requests

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = unwrapInboundIn(data)
        if waiting.isEmpty { take(part, context: context) } else { waiting.append(part) }
    }

    private func take(_ part: HTTPRequestPart, context: ChannelHandlerContext) {
        switch (state, part) {
        case (.idle, .head(let head)):
            if let target = target(of: head) {
                if !target.canHold { traffic.noteOther() }
                state = .collecting(head, target, context.channel.allocator.buffer(capacity: 1024), tooLarge: false)
            } else {
                traffic.noteOther()
                state = .passing
                context.fireChannelRead(wrapInboundOut(part))
            }
        case (.collecting(let head, let target, var buffer, let tooLarge), .body(var bytes)):
            state = .idle  // so that the buffer has one owner while it grows
            if case .route(let route, _) = target, buffer.readableBytes + bytes.readableBytes > route.byteCountMax {
                pass(head, buffer, context: context)
                context.fireChannelRead(wrapInboundOut(.body(bytes)))
            } else if tooLarge || buffer.readableBytes + bytes.readableBytes > Self.bodyByteCountMax {
                state = .collecting(head, target, ByteBuffer(), tooLarge: true)
            } else {
                buffer.writeBuffer(&bytes)
                state = .collecting(head, target, buffer, tooLarge: false)
            }
        case (.collecting(let head, let target, let buffer, let tooLarge), .end):
            state = .idle
            switch target {
            case .model(let model): answer(head, model, buffer, tooLarge: tooLarge, context: context)
            case .route(let route, let name):
                if let lonely = route.lonelyHandler {
                    answerLater(head, buffer, by: route, lonely, name: name, context: context)
                } else if !answer(head, buffer, by: route.handler, name: name, context: context) {
                    pass(head, buffer, context: context)
                    context.fireChannelRead(wrapInboundOut(part))
                }
            }
        case (.passing, .head), (.waiting, _):
            waiting.append(part)
        default:
            context.fireChannelRead(wrapInboundOut(part))
        }
    }

    private func target(of head: HTTPRequest) -> Target? {
        guard let path = head.path else { return nil }
        if head.method == .post, path.hasPrefix("/predict/") {
            return .model(Self.decoded(path.dropFirst("/predict/".count).prefix { $0 != "?" }))
        }
        for route in routes where head.method.rawValue == route.method {
            guard let name = route.name(in: path) else { continue }
            let length = head.headerFields[.contentLength].flatMap(Int.init) ?? 0
            return length > route.byteCountMax ? nil : .route(route, name: Self.decoded(name))
        }
        return nil
    }

    private static func decoded(_ name: Substring) -> String {
        name.contains("%") ? name.removingPercentEncoding ?? String(name) : String(name)
    }

    func read(context: ChannelHandlerContext) {
        if waiting.count < Self.waitingCountMax { context.read() } else { readIsPending = true }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        if case .end = unwrapOutboundIn(data), case .passing = state {
            context.write(data, promise: promise)
            state = .idle
            resume(context: context)
        } else {
            context.write(data, promise: promise)
        }
    }

    private func resume(context: ChannelHandlerContext) {
        let hadWaiting = !waiting.isEmpty
        while !waiting.isEmpty {
            if case .head = waiting[0], case .passing = state { break }
            if case .waiting = state { break }
            take(waiting.removeFirst(), context: context)
        }
        if hadWaiting { context.fireChannelReadComplete() }
        if readIsPending, waiting.count < Self.waitingCountMax {
            readIsPending = false
            context.read()
        }
    }

    // MARK: Answers

    private func answer(
        _ head: HTTPRequest, _ model: String, _ body: ByteBuffer, tooLarge: Bool, context: ChannelHandlerContext
    ) {
        let keepsAlive = head.headerFields[.connection]?.lowercased() != "close"
        switch access.refusal(host: head.authority, authorization: head.headerFields[.authorization]) {
        case .unauthenticated?:
            return send(401, Self.error("forbidden", "the token is missing or wrong"), keepsAlive, context)
        case .forbiddenHost?:
            return send(403, Self.error("forbidden", "the Host header names another machine"), keepsAlive, context)
        case nil: break
        }
        guard !tooLarge else {
            let message = "the body is larger than \(Self.bodyByteCountMax) bytes"
            return send(413, Self.error("too_large", message), keepsAlive, context)
        }
        let answer = body.withUnsafeReadableBytes {
            predictor.answer(
                model: model, body: ArraySlice($0),
                caller: head.headerFields[Self.callerField].map { String($0.prefix(64)) } ?? "")
        }
        finish(answer, keepsAlive: keepsAlive, context: context)
    }

    private static let callerField = HTTPField.Name("X-Bottega-Caller") ?? .userAgent

    /// Gives what was gathered of a request to the framework.
    private func pass(_ head: HTTPRequest, _ body: ByteBuffer, context: ChannelHandlerContext) {
        state = .passing
        context.fireChannelRead(wrapInboundOut(.head(head)))
        if body.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(.body(body))) }
    }

    /// Answers by a direct route; `false` if the framework is to answer.
    private func answer(
        _ head: HTTPRequest, _ body: ByteBuffer, by handler: DirectRoute.Handler, name: String,
        context: ChannelHandlerContext, answered isAnswered: (() -> Void)? = nil
    ) -> Bool {
        guard
            access.refusal(host: head.authority, authorization: head.headerFields[.authorization]) == nil
        else { return false }  // the framework's road words it
        let keepsAlive = head.headerFields[.connection]?.lowercased() != "close"
        let answered = context.eventLoop.makePromise(of: (status: Int, body: [UInt8]).self)
        let isTaken = handler(name, Array(body.readableBytesView)) { response in
            guard case .bytes(let bytes) = response.body else { preconditionFailure("a direct answer is in memory") }
            answered.succeed((response.status, bytes))
        }
        guard isTaken else {
            answered.succeed((0, []))
            return false
        }
        state = .waiting
        let bound = NIOLoopBound((self, context, isAnswered), eventLoop: context.eventLoop)
        answered.futureResult.whenSuccess { answer in
            let (handler, context, isAnswered) = bound.value
            isAnswered?()
            guard context.channel.isActive else { return }
            handler.state = .idle
            handler.send(answer.status, answer.body, keepsAlive, context)
            handler.resume(context: context)
        }
        return true
    }

    /// Answers when everything that this round of the event loop brought has been read: then it is known whether the
    /// request is the only one.
    private func answerLater(
        _ head: HTTPRequest, _ body: ByteBuffer, by route: DirectRoute, _ lonely: @escaping DirectRoute.Handler,
        name: String, context: ChannelHandlerContext
    ) {
        state = .waiting
        traffic.enter()
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        context.eventLoop.execute { [traffic] in
            let (handler, context) = bound.value
            guard context.channel.isActive else { return traffic.leave() }
            let isTaken = handler.answer(
                head, body, by: traffic.isLonely ? lonely : route.handler, name: name, context: context,
                answered: { traffic.leave() })
            if isTaken { return }
            traffic.leave()
            handler.pass(head, body, context: context)
            context.fireChannelRead(handler.wrapInboundOut(.end(nil)))
            context.fireChannelReadComplete()  // the round's own came before: without it the framework waits
        }
    }

    private func finish(_ answer: Predictor.Answer, keepsAlive: Bool, context: ChannelHandlerContext) {
        let isDurable = answer.logPolicy == .durable && !answer.entries.isEmpty
        if isDurable {
            if offerDurably(answer, keepsAlive: keepsAlive, context: context) { return }
        } else if answer.entries.isEmpty || predictor.log.offer(answer.entries) {
            return send(answer.status, answer.body, keepsAlive, context)
        }
        guard answer.logPolicy != .shed else {
            predictor.log.countShed(answer.entries.count)
            return send(answer.status, answer.body, keepsAlive, context)
        }
        state = .waiting  // the policy is to wait rather than to lose a record
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: .milliseconds(1)) {
            let (handler, context) = bound.value
            guard context.channel.isActive else { return }
            handler.state = .idle
            handler.finish(answer, keepsAlive: keepsAlive, context: context)
            if case .idle = handler.state { handler.resume(context: context) }
        }
    }

    /// Offers the records and answers once they are on the disk; `false` if the queue is full.
    private func offerDurably(_ answer: Predictor.Answer, keepsAlive: Bool, context: ChannelHandlerContext) -> Bool {
        let written = context.eventLoop.makePromise(of: Void.self)
        var entries = answer.entries
        entries[entries.count - 1].onDurable = { written.succeed() }
        guard predictor.log.offer(entries) else {
            written.succeed()
            return false
        }
        state = .waiting
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        written.futureResult.whenComplete { _ in
            let (handler, context) = bound.value
            guard context.channel.isActive else { return }
            handler.state = .idle
            handler.send(answer.status, answer.body, keepsAlive, context)
            handler.resume(context: context)
        }
        return true
    }

    private static func error(_ code: String, _ message: String) -> [UInt8] {
        Array("{\"error\":{\"code\":\"\(code)\",\"subject\":\"predict\",\"message\":\"\(message)\"}}".utf8)
    }

    private func send(_ status: Int, _ body: [UInt8], _ keepsAlive: Bool, _ context: ChannelHandlerContext) {
        var fields = HTTPFields()
        fields[.contentType] = "application/json"
        fields[.contentLength] = String(body.count)
        if !keepsAlive { fields[.connection] = "close" }
        let head = HTTPResponse(status: .init(code: status), headerFields: fields)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(context.channel.allocator.buffer(bytes: body))), promise: nil)
        let end = wrapOutboundOut(.end(nil))
        if keepsAlive {
            context.writeAndFlush(end, promise: nil)
        } else {
            let promise = context.eventLoop.makePromise(of: Void.self)
            let channel = context.channel
            promise.futureResult.whenComplete { _ in channel.close(promise: nil) }
            context.writeAndFlush(end, promise: promise)
        }
    }
}
