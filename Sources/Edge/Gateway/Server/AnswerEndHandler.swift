import NIOCore
import NIOHTTPTypes

/// Stands where the framework writes its answers: tells the connection's `WireHandler` of their ends, and lets a file
/// through as a body.
final class AnswerEndHandler: ChannelOutboundHandler, RemovableChannelHandler {
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    /// Whether a head was written and its end was not.
    private var isInBody = false

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let part = unwrapOutboundIn(data)
        context.write(data, promise: promise)
        switch part {
        case .head: isInBody = true
        case .body: break
        case .end:
            isInBody = false
            context.flush()
            if let wire = try? wire(context) { (wire.handler as? WireHandler)?.frameworkAnswered(context: wire) }
        }
    }

    /// Writes a part of a file behind what the framework has written of an answer: its head, and parts before.
    ///
    /// The framework's bodies are buffers only. A file passes by its encoder, which adds nothing to a body of known length.
    /// - Throws: `ChannelError` if no answer is under way, or the connection is gone.
    func write(_ region: FileRegion, context: ChannelHandlerContext, promise: EventLoopPromise<Void>) throws {
        guard isInBody else { throw ChannelError.inappropriateOperationForState }
        try wire(context).writeAndFlush(NIOAny(IOData.fileRegion(region)), promise: promise)
    }

    private func wire(_ context: ChannelHandlerContext) throws -> ChannelHandlerContext {
        try context.pipeline.syncOperations.context(handlerType: WireHandler.self)
    }
}
