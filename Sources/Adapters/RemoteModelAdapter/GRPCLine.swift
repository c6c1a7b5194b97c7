import GRPCWire
import NIOCore
import NIOHPACK
import NIOHTTP2
import PlatformCore
import RuntimePorts
import Synchronization

/// The protocol's gRPC form: one HTTP/2 connection, on which all calls of a model travel side by side.
///
/// It is made when a call needs it, and again when it has ended. Predictions change nothing, so a call that lost its
/// connection before an answer was there is made once more on a new one.
final class GRPCLine: RemoteLine {
    private let target: RemoteAddress.Target
    private let socket: RemoteSocket
    private let connection = Mutex<EventLoopFuture<GRPCConnection>?>(nil)

    /// Servers take 4 MiB in one message unless told otherwise.
    let requestByteCountMax = 3 << 20

    /// How long calls may go on, on a connection that takes no new ones.
    private static let partingTime = TimeAmount.minutes(5)

    /// - Throws: `unavailable` if the authorities of encrypted connections cannot be read.
    init(_ target: RemoteAddress.Target, trust: RemoteTrust) throws(ModelError) {
        self.target = target
        socket = RemoteSocket(
            host: target.host, port: target.port,
            security: target.isSecure ? ("h2", try trust.context(for: "h2")) : nil)
    }

    deinit {
        connection.withLock { $0 }?.whenSuccess { $0.channel.close(promise: nil) }
    }

    func metadata(until deadline: ContinuousClock.Instant) async throws(ModelError) -> JSONValue {
        var out = ProtobufWriter()
        out.write(1, target.model)
        out.write(2, target.version)
        return try RemoteMessages.metadata(try await call("ModelMetadata", out.bytes, until: deadline)[...])
    }

    func infer(
        _ rows: [Float], rowCount: Int, _ layout: RemoteLayout, categories: [Int: [String]],
        until deadline: ContinuousClock.Instant
    ) async throws(ModelError) -> (width: Int, values: [Float]) {
        let message = try RemoteMessages.request(
            rows, rowCount: rowCount, layout, categories: categories, model: target.model, version: target.version)
        let answer = try await call("ModelInfer", message, until: deadline)
        return try RemoteMessages.outputs(answer[...], rowCount: rowCount, output: layout.output)
    }

    private func call(_ method: String, _ message: [UInt8], until deadline: ContinuousClock.Instant)
        async throws(ModelError) -> [UInt8]
    {
        var outcome = await attempt(method, message, until: deadline)
        if case .lost = outcome { outcome = await attempt(method, message, until: deadline) }
        switch outcome {
        case .answered(let message): return message
        case .failed(let error): throw error
        case .lost(let fault):
            throw ModelError(.unavailable, "the remote server \(fault ?? "closed the connection")")
        }
    }

    private func attempt(_ method: String, _ message: [UInt8], until deadline: ContinuousClock.Instant) async
        -> GRPCCall.Outcome
    {
        let left = deadline - .now
        guard left > .zero else { return .failed(Self.late) }
        let hops = RemoteHops.current + 1  // the callbacks are of no task
        let answer = OneAnswer<GRPCCall.Outcome>()
        answer.give(.failed(Self.late), at: deadline)
        let future = connected()
        let beginning = NIODeadline.now()
        future.whenComplete { [self] result in
            switch result {
            case .failure(let error):
                let reason = RemoteSocket.words(for: error)
                answer.give(.failed(ModelError(.unavailable, "the remote server cannot be reached: \(reason)")))
            case .success(let connection):
                guard !answer.isGiven else { return }
                let head = head(method, left, hops: hops)
                connection.streams.createStreamChannel { stream in
                    stream.eventLoop.makeCompletedFuture {
                        try stream.pipeline.syncOperations.addHandler(
                            GRPCCall(head, message, answer, connection.pulse, until: deadline))
                    }
                }.whenFailure { [self] _ in  // the other side takes no more calls on this connection
                    forget(future)
                    answer.give(.lost(connection.pulse.fault.withLock { $0 }))
                }
            }
        }
        let outcome = await answer.value()
        if case .lost = outcome { forget(future) }
        if case .failed(let error) = outcome, error.code == .deadlineExceeded {
            // Nothing at all has come since the call went out: perhaps nobody is there any more. Calls that wait there may
            // know better and are left alone.
            future.whenSuccess { [self] connection in if connection.pulse.last < beginning { forget(future) } }
        }
        return outcome
    }

    private func head(_ method: String, _ time: Duration, hops: Int) -> HPACKHeaders {
        [
            ":method": "POST", ":scheme": target.isSecure ? "https" : "http",
            ":path": "/inference.GRPCInferenceService/\(method)", ":authority": socket.authority, "te": "trailers",
            "content-type": "application/grpc",
            RemoteHops.field: String(hops), "grpc-timeout": GRPCTimeout.text(time),
            "grpc-accept-encoding": "identity,gzip,deflate",
            "user-agent": "bottega",
        ]
    }

    /// The connection that there is, or a new one.
    private func connected() -> EventLoopFuture<GRPCConnection> {
        let (future, isNew) = connection.withLock { held in
            if let held { return (held, false) }
            let made = GRPCConnection.made(to: socket)
            held = made
            return (made, true)
        }
        guard isNew else { return future }
        future.whenComplete { [weak self] result in
            switch result {
            case .failure: self?.forget(future)
            case .success(let connection):
                connection.channel.closeFuture.whenComplete { [weak self] _ in self?.forget(future) }
            }
        }
        return future
    }

    /// Has the next call make a connection of its own; those under way may end on the old one.
    private func forget(_ future: EventLoopFuture<GRPCConnection>) {
        let isFirst = connection.withLock { held in
            guard held === future else { return false }
            held = nil
            return true
        }
        guard isFirst else { return }
        future.whenSuccess { connection in
            let channel = connection.channel
            channel.eventLoop.scheduleTask(in: Self.partingTime) { channel.close(promise: nil) }
        }
    }
}
