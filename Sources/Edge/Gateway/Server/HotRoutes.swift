import APIContract
import Foundation
import ModelServing
import PlatformCore

/// The routes that are answered on the event loop, from bytes to bytes.
struct HotRoutes: Sendable {
    /// Largest body that is answered here; larger ones go through the framework, to the same code.
    static let bodyByteCountMax = 64 << 10

    let predictor: Predictor
    let predictions: [PredictionRoute]
    let direct: [DirectRoute]
    let access: AccessPolicy
    let traffic: LoopTraffic
    let gauges: LoopGauges
    /// How a path's routes word what is refused in their place.
    let refusals: @Sendable (_ path: String) -> RefusalForm

    /// Who answers.
    enum Target {
        case model(String)
        case predictions(PredictionRoute, name: String)
        case route(DirectRoute, name: String)

        /// Whether it is a route of another kind than predictions.
        var isRoute: Bool { if case .route = self { true } else { false } }

        /// Whether its answer may hold the event loop for a moment.
        var canHold: Bool {
            if case .route(let route, _) = self { route.lonelyHandler != nil } else { false }
        }
    }

    private static let predictPath: [UInt8] = Array("/predict/".utf8)

    /// Who answers a request; `nil` leaves it to the framework.
    func target(_ request: WireRequest, _ bytes: UnsafeRawBufferPointer) -> Target? {
        guard request.bodyByteCount <= Self.bodyByteCountMax else { return nil }
        let path = UnsafeRawBufferPointer(rebasing: bytes[request.path])
        if path.starts(with: Self.predictPath), WireRequest.equals(bytes, request.method, "post") {
            let name = path[Self.predictPath.count...]
            // The framework reads queries, and what follows a model's name.
            if name.isEmpty || name.contains(where: { $0 == 0x3F || $0 == 0x2F }) { return nil }
            return .model(Self.decoded(String(decoding: name, as: UTF8.self)))
        }
        func name(_ known: DirectPath) -> String? {
            known.name(method: bytes[request.method], path: path, bodyByteCount: request.bodyByteCount)
                .map(Self.decoded)
        }
        for route in predictions {
            if let name = name(route.path) { return .predictions(route, name: name) }
        }
        for route in direct {
            if let name = name(route.path) { return .route(route, name: name) }
        }
        return nil
    }

    private static func decoded(_ name: String) -> String {
        name.utf8.contains(0x25) ? name.removingPercentEncoding ?? name : name
    }

    /// Appends the head of an answer, up to the empty line.
    ///
    /// - Parameter headers: fields to be written; empty for those of JSON.
    static func writeHead(
        status: Int, headers: [(name: String, value: String)] = [], byteCount: Int, retryAfterSeconds: Int = 0,
        keepsAlive: Bool, to out: inout [UInt8]
    ) {
        if status == 200 {
            out.append(contentsOf: "HTTP/1.1 200 OK\r\n".utf8)
        } else {
            out.append(contentsOf: "HTTP/1.1 \(status) \(reason(status))\r\n".utf8)
        }
        if headers.isEmpty {
            out.append(contentsOf: "Content-Type: application/json\r\nContent-Length: ".utf8)
        } else {
            for (name, value) in headers {
                out.append(contentsOf: name.utf8)
                out.append(contentsOf: ": ".utf8)
                out.append(contentsOf: value.utf8)
                out.append(contentsOf: "\r\n".utf8)
            }
            out.append(contentsOf: "Content-Length: ".utf8)
        }
        out.append(contentsOf: String(byteCount).utf8)
        if retryAfterSeconds > 0 { out.append(contentsOf: "\r\nRetry-After: \(retryAfterSeconds)".utf8) }
        out.append(contentsOf: (keepsAlive ? "\r\n\r\n" : "\r\nConnection: close\r\n\r\n").utf8)
    }

    /// Appends the answer to a request that a server which stops does not begin any more.
    func writeStopping(at path: String, to out: inout [UInt8]) {
        let answer = refusals(String(path.prefix { $0 != "?" })).answer(
            PlatformError(.unavailable, "server", "the server is stopping; nothing was done, ask again"), .failure)
        guard case .bytes(let body) = answer.body else { preconditionFailure("a refusal is in memory") }
        Self.writeHead(
            status: answer.status, byteCount: body.count, retryAfterSeconds: Predictor.retryAfterSeconds,
            keepsAlive: false, to: &out)
        out.append(contentsOf: body)
    }

    private static func reason(_ status: Int) -> String {
        switch status {
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 409: "Conflict"
        case 413: "Content Too Large"
        case 422: "Unprocessable Content"
        case 429: "Too Many Requests"
        case 500: "Internal Server Error"
        case 503: "Service Unavailable"
        case 504: "Gateway Timeout"
        default: "Status"
        }
    }
}
