import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import RuntimePorts
import Synchronization

/// Whom encrypted connections trust: the system's authorities, and those of a file.
final class RemoteTrust: Sendable {
    /// A file of certificates in PEM; `nil` for the system's authorities alone.
    private let authorities: String?
    private let contexts = Mutex<[String: NIOSSLContext]>([:])

    init(authorities: String?) { self.authorities = authorities }

    /// The settings of connections that speak a protocol, named as ALPN does.
    /// - Throws: `unavailable` for a file that holds no certificates.
    func context(for application: String) throws(ModelError) -> NIOSSLContext {
        if let known = contexts.withLock({ $0[application] }) { return known }
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = [application]
        do {
            if let authorities {
                let certificates = try NIOSSLCertificate.fromPEMFile(authorities)
                configuration.additionalTrustRoots = [.certificates(certificates)]
            }
            let context = try NIOSSLContext(configuration: configuration)
            contexts.withLock { $0[application] = context }
            return context
        } catch {
            throw ModelError(
                .unavailable,
                "the authorities of encrypted connections cannot be read from \(authorities ?? "the system"): \(error)")
        }
    }
}

/// Where a connection goes, and how it is encrypted.
struct RemoteSocket: Sendable {
    let host: String
    let port: Int
    /// The protocol that is spoken inside, as ALPN names it, and whom the connection trusts; `nil` for clear text.
    let security: (application: String, context: NIOSSLContext)?

    private static let connectTime = TimeAmount.seconds(5)

    /// The host and port as requests name them.
    var authority: String { (host.contains(":") ? "[\(host)]" : host) + ":\(port)" }

    /// Connects; where it is encrypted, the other side has shown who it is.
    ///
    /// - Parameter prepare: adds handlers, on the connection's event loop.
    func connected(_ prepare: @escaping @Sendable (any Channel) throws -> Void) -> EventLoopFuture<any Channel> {
        ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connectTimeout(Self.connectTime)
            .channelOption(.socketOption(.tcp_nodelay), value: 1)
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let security {
                        let pipeline = channel.pipeline.syncOperations
                        // Servers are named by their names alone; an address is looked for in the certificate itself.
                        let name = (try? SocketAddress(ipAddress: host, port: port)) == nil ? host : nil
                        try pipeline.addHandler(NIOSSLClientHandler(context: security.context, serverHostname: name))
                        try pipeline.addHandler(
                            HandshakeHandler(
                                host: host, application: security.application,
                                channel.eventLoop.makePromise(of: Void.self)))
                    }
                    try prepare(channel)
                }
            }
            .connect(host: host, port: port)
            .flatMap { channel in
                guard security != nil else { return channel.eventLoop.makeSucceededFuture(channel) }
                do {
                    let handler = try channel.pipeline.syncOperations.handler(type: HandshakeHandler.self)
                    return handler.done.futureResult.map { channel }
                } catch {
                    return channel.eventLoop.makeFailedFuture(error)
                }
            }
    }

    /// What is said where no connection came about.
    static func words(for error: any Error) -> String {
        if let error = error as? NIOConnectionError, let first = error.connectionErrors.first {
            return printable("\(first.error)")
        }
        return printable("\(error)")
    }
}

/// Waits for the end of the TLS handshake and says in plain words why it failed.
private final class HandshakeHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer

    /// Why a handshake failed.
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    let done: EventLoopPromise<Void>
    private let host: String
    private let application: String
    private var end: Scheduled<Void>?

    private static let timeMax = TimeAmount.seconds(5)

    init(host: String, application: String, _ done: EventLoopPromise<Void>) {
        self.host = host
        self.application = application
        self.done = done
    }

    func channelActive(context: ChannelHandlerContext) {
        let (done, channel) = (done, context.channel)
        end = context.eventLoop.scheduleTask(in: Self.timeMax) {
            done.fail(Failure(description: "nobody answers in TLS"))
            channel.close(promise: nil)
        }
        context.fireChannelActive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted(let spoken)? = event as? TLSUserEvent {
            end?.cancel()
            // Servers of HTTP/1.1 need not name it, those of gRPC must.
            if spoken == application || (spoken == nil && application == "http/1.1") {
                done.succeed()
                context.pipeline.syncOperations.removeHandler(self, promise: nil)
            } else {
                fail("it speaks \(spoken.map(printable) ?? "no protocol that it names"), not \(application)", context)
            }
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { fail(words(for: error, context), context) }

    func channelInactive(context: ChannelHandlerContext) {
        fail("it closed the connection; perhaps no TLS is spoken there", context)
        context.fireChannelInactive()
    }

    /// Nothing hears of a connection that nobody accepted but this.
    func handlerRemoved(context: ChannelHandlerContext) {
        end?.cancel()
        done.fail(Failure(description: "the connection ended"))
    }

    private func fail(_ text: String, _ context: ChannelHandlerContext) {
        end?.cancel()
        done.fail(Failure(description: text))
        context.close(promise: nil)
    }

    private func words(for error: any Error, _ context: ChannelHandlerContext) -> String {
        if let error = error as? NIOSSLExtraError, error == .failedToValidateHostname {
            return "its certificate is not one of '\(printable(host))'"
        }
        let text = "\(error)"
        if text.contains("CERTIFICATE_VERIFY_FAILED") {
            return "its certificate is not trusted: \(fault(of: try? certificate(context)))"
        }
        if text.contains("WRONG_VERSION_NUMBER") || text.contains("HTTP_REQUEST") {
            return "no TLS is spoken there; addresses in clear text begin with v2:// or grpc://"
        }
        return "the TLS handshake failed: \(printable(text))"
    }

    private func certificate(_ context: ChannelHandlerContext) throws -> NIOSSLCertificate? {
        try context.pipeline.syncOperations.handler(type: NIOSSLHandler.self).peerCertificate
    }

    private func fault(of certificate: NIOSSLCertificate?) -> String {
        let now = Date()
        func moment(_ seconds: time_t) -> Date { Date(timeIntervalSince1970: Double(seconds)) }
        func day(_ moment: Date) -> String { String(moment.ISO8601Format().prefix(10)) }
        if let end = certificate.map({ moment($0.notValidAfter) }), end < now {
            return "it was valid until \(day(end))"
        }
        if let start = certificate.map({ moment($0.notValidBefore) }), start > now {
            return "it is valid from \(day(start))"
        }
        return "no authority that is known here vouches for it; remote.authorities names more of them"
    }
}
