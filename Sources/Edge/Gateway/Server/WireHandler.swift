import APIContract
import Definitions
import Foundation
import ModelServing
import NIOCore
import NIOHTTPTypes

/// Stands in front of a connection's HTTP parser and answers the hot routes from bytes to bytes, on the event loop.
///
/// The framework's parser, header types and body streams cost several times what a prediction costs, so a plain request
/// to a hot route (see `WireRequest`, `HotRoutes`) never meets them. Every other plain request is passed on byte for
/// byte, and the next one of the connection waits until the framework has answered, so answers keep their order. At a
/// request that is not plain the connection is handed to the framework for good.
final class WireHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = IOData
    typealias OutboundOut = IOData

    /// Bytes that wait behind an unfinished answer before reading stops.
    private static let waitingByteCountMax = 256 << 10
    /// How long a begun request to a hot route may take to arrive.
    private static let arrivalTime = TimeAmount.seconds(30)
    /// How long the end of a connection waits for its reader.
    private static let lastBytesTime = TimeAmount.seconds(30)
    /// Bytes of pipelined answers that are gathered into one write.
    private static let gatheredByteCountMax = 256 << 10

    private enum State {
        /// The next byte begins a request.
        case reading
        /// An answer of ours waits for room in the prediction log, for the disk, or for another thread.
        case waiting
        /// The framework has a request: bytes of its body still to come, and whether it has answered.
        case passing(bodyLeft: Int, isAnswered: Bool)
        /// Everything goes to the framework, for good.
        case handedOver
    }

    private let routes: HotRoutes
    private let scratch = PredictionScratch()
    private var state = State.reading
    /// What has arrived and is not taken yet.
    private var arrived = ByteBuffer()
    /// Answers on their way out.
    private var out: [UInt8] = []
    private var readIsHeldBack = false
    private var closesAfterAnswer = false
    /// That the server stops, or that the caller has closed its side: heard while an answer was waited for.
    private var heldEvents: [Any] = []
    /// Counts requests taken, so that a timer knows its own.
    private var requestNumber = 0
    private var timerIsSet = false
    private var isWorking = false
    /// Whether the framework was given bytes since it last heard of the end of a read.
    private var hasPassedOn = false
    private var caller = AdmittedCaller()
    private var closesAtOnce = false

    /// How long requests wait for this event loop.
    private var gauge: LoopGauges.Gauge?

    /// - Parameter arrived: what the connection brought before it came here.
    init(routes: HotRoutes, arrived: ByteBuffer = ByteBuffer()) {
        self.routes = routes
        self.arrived = arrived
    }

    func channelActive(context: ChannelHandlerContext) {
        context.fireChannelActive()
        resume(context: context)
    }

    func handlerAdded(context: ChannelHandlerContext) { gauge = routes.gauges.gauge(of: context.eventLoop) }

    /// Ends a connection now, whatever it still has to say.
    struct Abandon {}

    // MARK: Bytes in

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .handedOver = state { return context.fireChannelRead(data) }
        var bytes = unwrapInboundIn(data)
        if arrived.readableBytes == 0 { swap(&arrived, &bytes) } else { arrived.writeBuffer(&bytes) }
        work(context: context)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        sendGathered(context: context)
        if case .handedOver = state { return context.fireChannelReadComplete() }
        completePassing(context: context)
    }

    /// Tells the framework of the end of a read, if it had a part in it: its handlers need not hear of the others.
    private func completePassing(context: ChannelHandlerContext) {
        guard hasPassedOn else { return }
        hasPassedOn = false
        context.fireChannelReadComplete()
    }

    private func passOn(_ bytes: ByteBuffer, context: ChannelHandlerContext) {
        hasPassedOn = true
        context.fireChannelRead(wrapInboundOut(bytes))
    }

    func read(context: ChannelHandlerContext) {
        if isFull { readIsHeldBack = true } else { context.read() }
    }

    private var isFull: Bool {
        switch state {
        case .reading, .waiting, .passing(bodyLeft: 0, _): arrived.readableBytes >= Self.waitingByteCountMax
        case .passing, .handedOver: false
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { resume(context: context) }
        context.fireChannelWritabilityChanged()
    }

    /// Goes on after a pause.
    private func resume(context: ChannelHandlerContext) {
        work(context: context)
        sendGathered(context: context)
        // What was passed on outside of a read is delivered by the framework at the end of one only.
        completePassing(context: context)
        if readIsHeldBack, !isFull {
            readIsHeldBack = false
            context.read()
        }
        let events = heldEvents.filter { !isHeldBack($0, context: context) }
        heldEvents.removeAll { !isHeldBack($0, context: context) }
        for event in events { context.fireUserInboundEventTriggered(event) }
    }

    /// Takes what has arrived as far as it goes.
    private func work(context: ChannelHandlerContext) {
        guard !isWorking else { return }  // an answer came at once, and the loop below goes on by itself
        isWorking = true
        defer { isWorking = false }
        while arrived.readableBytes > 0, !closesAfterAnswer {
            switch state {
            case .waiting, .passing(bodyLeft: 0, _): return
            case .passing(let left, let isAnswered):
                guard let part = arrived.readSlice(length: min(left, arrived.readableBytes)) else { return }
                let rest = left - part.readableBytes
                state = rest == 0 && isAnswered ? .reading : .passing(bodyLeft: rest, isAnswered: isAnswered)
                passOn(part, context: context)
            case .handedOver:
                let all = arrived
                arrived = ByteBuffer()
                return passOn(all, context: context)
            case .reading:
                // A caller that sends on and on but reads no answer is not read on either.
                guard context.channel.isWritable, takeRequest(context: context) else { return }
            }
        }
    }

    /// Takes one request; `false` if it has not arrived whole.
    private func takeRequest(context: ChannelHandlerContext) -> Bool {
        let reading = arrived.withUnsafeReadableBytes { WireRequest.read($0) }
        switch reading {
        case .incomplete:
            watchArrival(context: context)
            return false
        case .foreign:
            sendGathered(context: context)
            state = .handedOver
            return true
        case .plain(let request):
            let target = arrived.withUnsafeReadableBytes { bytes -> HotRoutes.Target? in
                caller.isAdmitted(request, bytes, by: routes.access) ? routes.target(request, bytes) : nil
            }
            let byteCount = request.headByteCount + request.bodyByteCount
            if target?.canHold != true { routes.traffic.noteOther() }
            guard let target else {
                sendGathered(context: context)
                let head = min(arrived.readableBytes, byteCount)
                guard let part = arrived.readSlice(length: head) else { return false }
                state = .passing(bodyLeft: byteCount - head, isAnswered: false)
                passOn(part, context: context)
                return true
            }
            guard arrived.readableBytes >= byteCount else {
                arrived.reserveCapacity(minimumWritableBytes: byteCount - arrived.readableBytes)
                watchArrival(context: context)
                return false
            }
            requestNumber &+= 1
            guard let whole = arrived.readSlice(length: byteCount) else { return false }
            answer(request, whole, by: target, context: context)
            if out.count >= Self.gatheredByteCountMax { sendGathered(context: context) }
            return true
        }
    }

    /// Closes the connection if the request that has begun is not here in time.
    private func watchArrival(context: ChannelHandlerContext) {
        guard !timerIsSet else { return }
        timerIsSet = true
        let number = requestNumber
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: Self.arrivalTime) {
            let (handler, context) = bound.value
            handler.timerIsSet = false
            guard case .reading = handler.state, handler.arrived.readableBytes > 0, context.channel.isActive else {
                return
            }
            if handler.requestNumber == number {
                context.close(promise: nil)
            } else {
                handler.watchArrival(context: context)
            }
        }
    }

    // MARK: Answers

    private func answer(
        _ request: WireRequest, _ whole: ByteBuffer, by target: HotRoutes.Target, context: ChannelHandlerContext
    ) {
        if case .route(let route, let name) = target {
            if let lonely = route.lonelyHandler {
                askLater(route, lonely, name: name, whole, request, context: context)
            } else {
                ask(route.handler, name: name, whole, request, context: context)
            }
            return
        }
        let answer = whole.withUnsafeReadableBytes { bytes in
            routes.predict(target, request, bytes, pressure: gauge?.pressure ?? 0, scratch: scratch)
        }
        guard let answer, !answer.isLeft else { return pass(whole, context: context) }
        give(answer, keepsAlive: request.keepsAlive, context: context)
    }

    private func write(_ answer: Predictor.Answer, keepsAlive: Bool) {
        write(
            answer.status, answer.body, headers: answer.headers, retryAfterSeconds: answer.retryAfterSeconds,
            keepsAlive: keepsAlive)
    }

    private func write(
        _ status: Int, _ body: [UInt8], headers: [(name: String, value: String)] = [], retryAfterSeconds: Int = 0,
        keepsAlive: Bool
    ) {
        HotRoutes.writeHead(
            status: status, headers: headers, byteCount: body.count, retryAfterSeconds: retryAfterSeconds,
            keepsAlive: keepsAlive, to: &out)
        out.append(contentsOf: body)
        if !keepsAlive { closesAfterAnswer = true }
    }

    private func sendGathered(context: ChannelHandlerContext) {
        guard !out.isEmpty else { return }
        let buffer = context.channel.allocator.buffer(bytes: out)
        out.removeAll(keepingCapacity: out.count <= Self.gatheredByteCountMax)
        let data = wrapOutboundOut(.byteBuffer(buffer))
        guard closesAfterAnswer else { return context.writeAndFlush(data, promise: nil) }
        let written = context.eventLoop.makePromise(of: Void.self)
        let channel = context.channel
        written.futureResult.whenComplete { _ in channel.close(promise: nil) }
        context.writeAndFlush(data, promise: written)
    }

    /// Gives an answer as soon as the prediction log has what the deployment's policy wants it to have.
    private func give(_ answer: Predictor.Answer, keepsAlive: Bool, context: ChannelHandlerContext) {
        var written: EventLoopPromise<Bool>?
        let delivery = routes.deliver(answer) {
            let promise = context.eventLoop.makePromise(of: Bool.self)
            written = promise
            return { promise.succeed(true) }
        }
        switch delivery {
        case .now(let other):
            written?.succeed(true)
            write(other ?? answer, keepsAlive: keepsAlive)
        case .onceDurable:
            guard let written else { return }
            state = .waiting
            let predictor = routes.predictor
            predictor.admission.beginWaiting()
            if let deadline = answer.deadline {  // the first to say something counts
                let left = (deadline - ContinuousClock.now) / .milliseconds(1)
                context.eventLoop.scheduleTask(in: .milliseconds(Int64(max(1, left.rounded(.up))))) {
                    written.succeed(false)
                }
            }
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            written.futureResult.whenSuccess { isWritten in
                predictor.admission.endWaiting()
                let given = isWritten ? answer : predictor.refusalOfLate(answer) ?? answer
                let (handler, context) = bound.value
                handler.goOn(context: context) { $0.write(given, keepsAlive: keepsAlive) }
            }
        case .later:
            written?.succeed(true)
            state = .waiting
            let admission = routes.predictor.admission
            admission.beginWaiting()
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            context.eventLoop.scheduleTask(in: .milliseconds(1)) {
                admission.endWaiting()
                let (handler, context) = bound.value
                guard context.channel.isActive else { return }
                handler.state = .reading
                handler.give(answer, keepsAlive: keepsAlive, context: context)
                handler.resume(context: context)
            }
        }
    }

    /// Writes an answer that was waited for, and takes the next request.
    private func goOn(context: ChannelHandlerContext, _ write: (WireHandler) -> Void) {
        guard context.channel.isActive else { return }
        state = .reading
        write(self)
        resume(context: context)
    }

    /// Leaves a whole request to the framework.
    private func pass(_ whole: ByteBuffer, context: ChannelHandlerContext) {
        sendGathered(context: context)
        state = .passing(bodyLeft: 0, isAnswered: false)
        passOn(whole, context: context)
    }

    /// Asks a direct route; where it passes the request on, the framework gets it.
    private func ask(
        _ handler: DirectRoute.Handler, name: String, _ whole: ByteBuffer, _ request: WireRequest,
        context: ChannelHandlerContext, answered isAnswered: (() -> Void)? = nil
    ) {
        let answered = context.eventLoop.makePromise(of: (status: Int, body: [UInt8]).self)
        let body = whole.withUnsafeReadableBytes { Array($0[request.headByteCount...]) }
        let isTaken = handler(name, body) { response in
            guard case .bytes(let bytes) = response.body else { preconditionFailure("a direct answer is in memory") }
            answered.succeed((response.status, bytes))
        }
        guard isTaken else {
            answered.succeed((0, []))
            isAnswered?()
            return pass(whole, context: context)
        }
        state = .waiting
        let bound = NIOLoopBound((self, context, isAnswered), eventLoop: context.eventLoop)
        let keepsAlive = request.keepsAlive
        answered.futureResult.whenSuccess { answer in
            let (handler, context, isAnswered) = bound.value
            isAnswered?()
            handler.goOn(context: context) { $0.write(answer.status, answer.body, keepsAlive: keepsAlive) }
        }
    }

    /// Asks when everything that this round of the event loop brought has been read: then it is known whether the request
    /// is the only one.
    private func askLater(
        _ route: DirectRoute, _ lonely: @escaping DirectRoute.Handler, name: String, _ whole: ByteBuffer,
        _ request: WireRequest, context: ChannelHandlerContext
    ) {
        state = .waiting
        let traffic = routes.traffic
        traffic.enter()
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        context.eventLoop.execute {
            let (handler, context) = bound.value
            guard context.channel.isActive else { return traffic.leave() }
            handler.ask(
                traffic.isLonely ? lonely : route.handler, name: name, whole, request, context: context,
                answered: { traffic.leave() })
            if case .passing = handler.state { handler.completePassing(context: context) }
        }
    }

    // MARK: The framework's answers

    /// Hears that the framework has written the end of an answer.
    func frameworkAnswered(context: ChannelHandlerContext) {
        guard case .passing(let left, _) = state else { return }
        state = left == 0 ? .reading : .passing(bodyLeft: left, isAnswered: true)
        resume(context: context)
    }

    /// A server that stops asks idle connections to close, and a caller may close its side: the framework, which closes then,
    /// hears of it once the answers that are waited for are written.
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is Abandon {
            closesAtOnce = true
            context.close(promise: nil)
        } else if isHeldBack(event, context: context) {
            heldEvents.append(event)
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    /// The end of a connection comes behind all that was written: NIO's own takes back what its reader has not taken yet.
    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        sendGathered(context: context)
        guard mode != .input, !closesAtOnce, context.channel.isActive else {
            return context.close(mode: mode, promise: promise)
        }
        let written = context.eventLoop.makePromise(of: Void.self)
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let late = context.eventLoop.scheduleTask(in: Self.lastBytesTime) { bound.value.1.close(promise: nil) }
        written.futureResult.whenComplete { _ in
            late.cancel()
            bound.value.1.close(mode: mode, promise: promise)
        }
        context.writeAndFlush(wrapOutboundOut(.byteBuffer(ByteBuffer())), promise: written)
    }

    /// Whether the framework is not to hear of an end yet: answers of ours are on their way, or requests wait behind its own.
    private func isHeldBack(_ event: Any, context: ChannelHandlerContext) -> Bool {
        let isClosedInput = (event as? ChannelEvent) == .inputClosed
        return switch state {
        case .waiting: isClosedInput || event is ChannelShouldQuiesceEvent
        case .passing: isClosedInput && arrived.readableBytes > 0
        case .reading: isClosedInput && !context.channel.isWritable
        case .handedOver: false
        }
    }
}
