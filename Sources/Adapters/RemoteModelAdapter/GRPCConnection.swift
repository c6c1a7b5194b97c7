import GRPCWire
import NIOCore
import NIOHPACK
import NIOHTTP2
import RuntimePorts
import Synchronization

/// An open HTTP/2 connection.
struct GRPCConnection: Sendable {
    let channel: any Channel
    let streams: NIOHTTP2Handler.StreamMultiplexer
    let pulse: Pulse

    /// Connects.
    static func made(to socket: RemoteSocket) -> EventLoopFuture<GRPCConnection> {
        socket.connected { channel in
            let pipeline = channel.pipeline.syncOperations
            var connection = NIOHTTP2Handler.ConnectionConfiguration()
            connection.initialSettings = [
                HTTP2Setting(parameter: .enablePush, value: 0),
                HTTP2Setting(parameter: .maxHeaderListSize, value: 16 << 10),
                HTTP2Setting(parameter: .initialWindowSize, value: 1 << 20),
            ]
            connection.targetWindowSize = 4 << 20
            var stream = NIOHTTP2Handler.StreamConfiguration()
            stream.targetWindowSize = 1 << 20
            try pipeline.addHandler(PulseHandler())
            _ = try pipeline.configureHTTP2Pipeline(
                mode: .client, connectionConfiguration: connection, streamConfiguration: stream
            ) { pushed in
                pushed.close()  // it was told that nothing may be pushed
            }
            try pipeline.addHandler(FaultHandler(try pipeline.handler(type: PulseHandler.self).pulse))
        }.flatMapThrowing { channel in
            let pipeline = channel.pipeline.syncOperations
            return GRPCConnection(
                channel: channel,
                streams: try pipeline.handler(type: NIOHTTP2Handler.self).syncMultiplexer(),
                pulse: try pipeline.handler(type: PulseHandler.self).pulse)
        }
    }

    /// When the other side was heard last.
    final class Pulse: Sendable {
        private let moment = Atomic<UInt64>(NIODeadline.now().uptimeNanoseconds)
        var last: NIODeadline { .uptimeNanoseconds(moment.load(ordering: .relaxed)) }
        /// What broke the connection, if something did.
        let fault = Mutex<String?>(nil)
        func beat() { moment.store(NIODeadline.now().uptimeNanoseconds, ordering: .relaxed) }
    }

    private final class PulseHandler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        let pulse = Pulse()

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            pulse.beat()
            context.fireChannelRead(data)
        }
    }
}

/// Ends a connection whose other side breaks the protocol: HTTP/2 says so here, and leaves it open.
private final class FaultHandler: ChannelInboundHandler {
    typealias InboundIn = NIOAny
    private let pulse: GRPCConnection.Pulse

    init(_ pulse: GRPCConnection.Pulse) { self.pulse = pulse }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // Of calls that have ended.
        if error is NIOHTTP2Errors.NoSuchStream || error is NIOHTTP2Errors.StreamClosed { return }
        if error is any NIOHTTP2Error {
            pulse.fault.withLock {
                $0 =
                    $0
                    ?? "does not answer in HTTP/2, as gRPC does; at a port of HTTP the address begins with v2:// or v2s://"
            }
        }
        context.close(promise: nil)
    }
}

/// One call on a stream of its own: a message goes out, one comes back.
final class GRPCCall: ChannelInboundHandler {
    typealias InboundIn = HTTP2Frame.FramePayload
    typealias OutboundOut = HTTP2Frame.FramePayload

    /// What became of a call.
    enum Outcome: Sendable {
        case answered([UInt8])
        case failed(ModelError)
        /// The stream ended before the other side said anything; what broke the connection, if something did.
        case lost(String?)
    }

    private static let answerByteCountMax = 64 << 20

    private let head: HPACKHeaders
    private let message: [UInt8]
    private let answer: OneAnswer<Outcome>
    private let pulse: GRPCConnection.Pulse
    private let deadline: ContinuousClock.Instant
    private var end: Scheduled<Void>?
    private var messages = GRPCMessages(encoding: .identity, byteCountMax: answerByteCountMax)
    private var received: [UInt8]?

    init(
        _ head: HPACKHeaders, _ message: [UInt8], _ answer: OneAnswer<Outcome>, _ pulse: GRPCConnection.Pulse,
        until deadline: ContinuousClock.Instant
    ) {
        self.head = head
        self.message = message
        self.answer = answer
        self.pulse = pulse
        self.deadline = deadline
    }

    func channelActive(context: ChannelHandlerContext) {
        let left = max(0, (deadline - .now) / .nanoseconds(1))
        let (channel, answer) = (context.channel, answer)
        end = context.eventLoop.scheduleTask(in: .nanoseconds(Int64(min(left, 1e18)))) {
            // It is late, not lost: the connection is as good as before.
            answer.give(.failed(GRPCLine.late))
            channel.close(promise: nil)  // resets the stream, and the other side may stop computing
        }
        context.write(wrapOutboundOut(.headers(.init(headers: head))), promise: nil)
        let body = HTTP2Frame.FramePayload.data(
            .init(data: .byteBuffer(GRPCMessages.frame(message)), endStream: true))
        context.writeAndFlush(wrapOutboundOut(body), promise: nil)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .headers(let frame):
            if let status = GRPCStatus(frame.headers) {
                finish(status, context)
            } else if frame.headers.first(name: ":status") != "200" {
                fail("HTTP status \(frame.headers.first(name: ":status") ?? "none")", context)
            } else if let encoding = GRPCEncoding(frame.headers.first(name: "grpc-encoding")) {
                messages = GRPCMessages(encoding: encoding, byteCountMax: Self.answerByteCountMax)
            } else {
                fail("a packed message that was not asked for", context)
            }
        case .data(let frame):
            guard case .byteBuffer(let bytes) = frame.data else { return }
            messages.append(bytes)
            do {
                while let next = try messages.next() {
                    guard received == nil else { return fail("more than one message", context) }
                    received = next
                }
            } catch let status as GRPCStatus {
                return fail(status.message, context)
            } catch {
                return fail("\(error)", context)
            }
            if frame.endStream { fail("no status", context) }
        default: break
        }
    }

    private func finish(_ status: GRPCStatus, _ context: ChannelHandlerContext) {
        let text = printable(status.message)
        switch status.code {
        case 0:
            guard let received else { return fail("no message", context) }
            give(.answered(received), context)
        case 3:
            give(.failed(ModelError(.shapeMismatch, "the remote server answered INVALID_ARGUMENT \(text)")), context)
        case 4:
            give(
                .failed(ModelError(.deadlineExceeded, "the remote server answered DEADLINE_EXCEEDED \(text)")), context)
        case let code:
            let name = Self.names[code] ?? "status \(code)"
            give(.failed(ModelError(.unavailable, "the remote server answered \(name) \(text)")), context)
        }
    }

    private static let names = [
        1: "CANCELLED", 2: "UNKNOWN", 5: "NOT_FOUND", 7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED",
        9: "FAILED_PRECONDITION", 12: "UNIMPLEMENTED", 13: "INTERNAL", 14: "UNAVAILABLE", 16: "UNAUTHENTICATED",
    ]

    private func fail(_ text: String, _ context: ChannelHandlerContext) {
        give(.failed(ModelError(.unavailable, "the remote server answered \(printable(text))")), context)
    }

    private func give(_ outcome: Outcome, _ context: ChannelHandlerContext) {
        answer.give(outcome)
        end?.cancel()
        context.close(promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // A reset stream and a connection that broke; what comes of it is said when the stream is inactive.
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        end?.cancel()
        let fault = pulse.fault.withLock { $0 }
        answer.give(fault.map { .failed(ModelError(.unavailable, "the remote server \($0)")) } ?? .lost(nil))
        context.fireChannelInactive()
    }
}
