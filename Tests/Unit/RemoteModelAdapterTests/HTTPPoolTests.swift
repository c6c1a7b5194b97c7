import NIOCore
import NIOPosix
import RuntimePorts
import Synchronization
import Testing

@testable import RemoteModelAdapter

/// Connections that are kept, and which of them are trusted again.
struct HTTPPoolTests {
    @Test func aConnectionThatWasIdleTooLongIsNotTakenAgain() async throws {
        for (idleTimeMax, expected) in [(Duration.seconds(3600), 1), (.nanoseconds(-1), 3)] {
            let server = try await AnsweringServer()
            let pool = HTTPPool(server.socket, idleTimeMax: idleTimeMax)
            for _ in 0..<3 { #expect(await server.isAnswered(by: pool)) }
            #expect(server.connectionCount == expected)
            try await server.end()
        }
    }
}

/// Answers whatever comes with an empty object.
private final class AnsweringServer: Sendable {
    private final class Answerer: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let answer = ByteBuffer(string: "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            context.writeAndFlush(wrapOutboundOut(answer), promise: nil)
        }
    }

    let socket: RemoteSocket
    private let channel: any Channel
    private let count: SharedCount

    /// Connections that were made to it.
    private final class SharedCount: Sendable {
        let value = Atomic(0)
    }

    init() async throws {
        let count = SharedCount()
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                count.value.add(1, ordering: .relaxed)
                return channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Answerer())
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        self.count = count
        socket = RemoteSocket(host: "127.0.0.1", port: channel.localAddress?.port ?? 0, security: nil)
    }

    var connectionCount: Int { count.value.load(ordering: .relaxed) }

    func isAnswered(by pool: HTTPPool) async -> Bool {
        let outcome = await pool.answer(to: .init(path: "/"), until: .now + .seconds(60))
        if case .answered = outcome { return true }
        return false
    }

    func end() async throws { try await channel.close() }
}
