import Foundation
import NIOHTTP1
import PlatformCore
import RuntimePorts

/// The protocol's HTTP form, with binary tensors, on connections that are kept.
struct HTTPLine: RemoteLine {
    private let path: String
    private let pool: HTTPPool

    let requestByteCountMax = 16 << 20

    /// - Throws: `unavailable` if the authorities of encrypted connections cannot be read.
    init(_ base: URL, trust: RemoteTrust) throws(ModelError) {
        let isSecure = base.scheme == "https"
        path = URLComponents(url: base, resolvingAgainstBaseURL: false)?.percentEncodedPath ?? base.path
        pool = HTTPPool(
            RemoteSocket(
                host: (base.host ?? "").trimmingCharacters(in: CharacterSet(charactersIn: "[]")),
                port: base.port ?? (isSecure ? 443 : 80),
                security: isSecure ? ("http/1.1", try trust.context(for: "http/1.1")) : nil))
    }

    func metadata(until deadline: ContinuousClock.Instant) async throws(ModelError) -> JSONValue {
        let answer = try await call(HTTPConnection.Request(path: path), until: deadline)
        do {
            return try JSONValue.parse(answer.body[...], limits: JSONLimits(byteCountMax: 1 << 20, depthMax: 16))
        } catch {
            throw ModelError(.unavailable, "the remote model's metadata are no JSON")
        }
    }

    func infer(
        _ rows: [Float], rowCount: Int, _ layout: RemoteLayout, categories: [Int: [String]],
        until deadline: ContinuousClock.Instant
    ) async throws(ModelError) -> (width: Int, values: [Float]) {
        let (head, body) = try RemoteTensors.request(rows, rowCount: rowCount, layout, categories: categories)
        let headers = [
            ("content-type", "application/octet-stream"), ("inference-header-content-length", String(head)),
            (RemoteHops.field, String(try RemoteHops.next())),
        ]
        let request = HTTPConnection.Request(method: .POST, path: path + "/infer", headers: headers, body: body)
        let answer = try await call(request, until: deadline)
        let length = answer.headers.first(name: "inference-header-content-length")
        return try RemoteTensors.outputs(
            answer.body, headByteCount: length.map { Int($0) ?? -1 }, rowCount: rowCount, output: layout.output)
    }

    private func call(_ request: HTTPConnection.Request, until deadline: ContinuousClock.Instant)
        async throws(ModelError) -> HTTPConnection.Answer
    {
        switch await pool.answer(to: request, until: deadline) {
        case .answered(let answer) where answer.status == 200: return answer
        case .answered(let answer):
            let text = (try? JSONValue.parse(answer.body.prefix(65_536)))?["error"]?.stringValue ?? ""
            throw ModelError(
                [400, 422].contains(answer.status) ? .shapeMismatch : .unavailable,
                "the remote server answered \(answer.status) \(printable(text))")
        case .failed(let error): throw error
        case .lost: throw ModelError(.unavailable, "the remote server closed the connection")
        }
    }
}
