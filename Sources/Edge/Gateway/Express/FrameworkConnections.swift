import HummingbirdCore
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// Connections that the framework goes on with: those that ask for anything but predictions.
final class FrameworkConnections: Sendable {
    private struct Arrival: Sendable {
        let descriptor: Int32
        let bytes: ByteBuffer
    }
    private struct Open {
        var channels: [ObjectIdentifier: any Channel] = [:]
        var isEnding = false
    }

    private let hot: HotRoutes
    private let framework: HTTP1Channel
    private let logger: Logger
    private let arrivals: AsyncStream<Arrival>
    private let arriving: AsyncStream<Arrival>.Continuation
    private let open = Mutex(Open())

    init(_ hot: HotRoutes, _ framework: HTTP1Channel, logger: Logger) {
        self.hot = hot
        self.framework = framework
        self.logger = logger
        (arrivals, arriving) = AsyncStream.makeStream(of: Arrival.self)
    }

    /// Takes a connection over, with what it has brought so far.
    func take(_ descriptor: Int32, _ bytes: ByteBuffer) {
        if case .terminated = arriving.yield(Arrival(descriptor: descriptor, bytes: bytes)) { close(descriptor) }
    }

    /// Serves connections until `finish`, and until the last of them has ended.
    func run() async {
        await withDiscardingTaskGroup { group in
            for await arrival in arrivals { group.addTask { await self.serve(arrival) } }
        }
    }

    /// No more connections come.
    func finish() { arriving.finish() }

    /// Has idle connections end now, and the others when they are answered.
    func quiesce() {
        for channel in open.withLock({ open in
            open.isEnding = true
            return Array(open.channels.values)
        }) {
            channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
        }
    }

    /// Ends all connections now.
    func abandon() {
        for channel in open.withLock({ Array($0.channels.values) }) {
            channel.pipeline.fireUserInboundEventTriggered(WireHandler.Abandon())
        }
    }

    private func serve(_ arrival: Arrival) async {
        let (hot, framework, logger) = (hot, framework, logger)
        do {
            let (channel, value) = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .channelOption(.allowRemoteHalfClosure, value: true)
                .withConnectedSocket(arrival.descriptor) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(
                            WireHandler(routes: hot, arrived: arrival.bytes))
                    }.flatMap { framework.setup(channel: channel, logger: logger) }.map { (channel, $0) }
                }
            let key = ObjectIdentifier(channel)
            let isEnding = open.withLock { open in
                open.channels[key] = channel
                return open.isEnding
            }
            if isEnding { channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent()) }
            await framework.handle(value: value, logger: logger)
            open.withLock { $0.channels[key] = nil }
        } catch {
            // Its caller has gone meanwhile.
            logger.debug("a connection was not taken over", metadata: ["error": "\(error)"])
        }
    }
}
