import Foundation
import FoundationNetworking
import PlatformCore
import RuntimePorts

/// The protocol's HTTP form, with binary tensors.
struct HTTPLine: RemoteLine {
    let base: URL
    let session: URLSession

    private static let answerByteCountMax = 64 << 20
    let requestByteCountMax = 16 << 20

    private struct Answer: Sendable {
        let body: [UInt8]
        let headByteCount: Int?
    }

    func metadata(until deadline: ContinuousClock.Instant) async throws(ModelError) -> JSONValue {
        let answer = try await call(URLRequest(url: base), until: deadline)
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
        var request = URLRequest(url: base.appendingPathComponent("infer"))
        request.httpMethod = "POST"
        request.setValue("application/octet-stream", forHTTPHeaderField: "Content-Type")
        request.setValue(String(head), forHTTPHeaderField: "Inference-Header-Content-Length")
        request.httpBody = Data(body)
        let answer = try await call(request, until: deadline)
        return try RemoteTensors.outputs(
            answer.body, headByteCount: answer.headByteCount, rowCount: rowCount, output: layout.output)
    }

    private func call(_ request: URLRequest, until deadline: ContinuousClock.Instant) async throws(ModelError) -> Answer
    {
        let answer = OneAnswer<Result<Answer, ModelError>>()
        let task = session.dataTask(with: request) { data, response, error in
            answer.give(Self.read(data, response, error))
        }
        answer.give(.failure(Self.late), at: deadline)
        task.resume()
        let outcome = await answer.value()
        if case .failure = outcome { task.cancel() }
        return try outcome.get()
    }

    private static func read(_ data: Data?, _ response: URLResponse?, _ error: (any Error)?) -> Result<
        Answer, ModelError
    > {
        guard let response = response as? HTTPURLResponse, let data else {
            let reason = error.map { $0.localizedDescription } ?? "no answer"
            return .failure(ModelError(.unavailable, "the remote server cannot be asked: \(printable(reason))"))
        }
        guard data.count <= answerByteCountMax else {
            return .failure(ModelError(.unavailable, "the remote server answered \(data.count) bytes"))
        }
        guard response.statusCode == 200 else {
            let text = (try? JSONValue.parse(Array(data.prefix(65_536))[...]))?["error"]?.stringValue ?? ""
            return .failure(
                ModelError(
                    [400, 422].contains(response.statusCode) ? .shapeMismatch : .unavailable,
                    "the remote server answered \(response.statusCode) \(printable(text))"))
        }
        let head = response.value(forHTTPHeaderField: "Inference-Header-Content-Length").map { Int($0) ?? -1 }
        return .success(Answer(body: Array(data), headByteCount: head))
    }
}
