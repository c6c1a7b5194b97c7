import Foundation
import FoundationNetworking
import PlatformCore
import RuntimePorts
import Synchronization

/// Calls of one remote model, and what became of them.
final class RemoteServer: Sendable {
    let address: RemoteAddress
    private let session: URLSession
    private let breaker = Mutex(CircuitBreaker())
    private let ledger: RemoteLedger

    private static let answerByteCountMax = 64 << 20

    init(_ address: RemoteAddress, session: URLSession, ledger: RemoteLedger) {
        self.address = address
        self.session = session
        self.ledger = ledger
    }

    var breakerIsOpen: Bool { breaker.withLock { $0.isOpen } }

    struct Answer: Sendable {
        let body: [UInt8]
        let headByteCount: Int?
    }

    /// Asks for what the model takes and gives.
    func metadata(within time: Duration) async throws(ModelError) -> JSONValue {
        let answer = try await call(URLRequest(url: address.base), until: .now + time)
        do {
            return try JSONValue.parse(answer.body[...], limits: JSONLimits(byteCountMax: 1 << 20, depthMax: 16))
        } catch {
            throw ModelError(.unavailable, "the remote model's metadata are no JSON")
        }
    }

    /// Asks for predictions.
    func infer(_ body: [UInt8], headByteCount: Int, until deadline: ContinuousClock.Instant) async throws(ModelError)
        -> Answer
    {
        var request = URLRequest(url: address.base.appendingPathComponent("infer"))
        request.httpMethod = "POST"
        request.setValue("application/octet-stream", forHTTPHeaderField: "Content-Type")
        request.setValue(String(headByteCount), forHTTPHeaderField: "Inference-Header-Content-Length")
        request.httpBody = Data(body)
        return try await call(request, until: deadline)
    }

    private func call(_ request: URLRequest, until deadline: ContinuousClock.Instant) async throws(ModelError) -> Answer
    {
        guard breaker.withLock({ $0.allows(at: .now) }) else {
            ledger.add("breaker")
            throw ModelError(.breakerOpen, "the remote server failed again and again; it is left alone")
        }
        let answer = OneAnswer<Result<Answer, ModelError>>()
        let late = ModelError(.deadlineExceeded, "the remote server did not answer in time")
        let task = session.dataTask(with: request) { data, response, error in
            answer.give(Self.read(data, response, error))
        }
        answer.give(.failure(late), at: deadline)
        task.resume()
        let outcome = await answer.value()
        switch outcome {
        case .success:
            breaker.withLock { $0.succeeded() }
            ledger.add("answered")
        case .failure(let error) where error.code == .shapeMismatch:
            breaker.withLock { $0.succeeded() }
            ledger.add("refused")
        case .failure(let error):
            task.cancel()
            breaker.withLock { $0.failed(at: .now) }
            ledger.add(error.code == .deadlineExceeded ? "late" : "failed")
        }
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

/// Calls of the remote models of one name.
final class RemoteLedger: Sendable {
    private let state = Mutex<[String: Int]>([:])
    var outcomes: [String: Int] { state.withLock { $0 } }
    func add(_ word: String) { state.withLock { $0[word, default: 0] += 1 } }
}

/// A model on another server.
final class RemoteModel: DeferredModel {
    let description: ModelDescription
    private let server: RemoteServer
    private let layout: RemoteLayout
    private let categories: [Int: [String]]
    private let timeout: Duration

    private static let valueCountMax = 2 << 20

    init(
        _ server: RemoteServer, _ layout: RemoteLayout, outputCount: Int, timeout: Duration, categories: [Int: [String]]
    ) {
        self.server = server
        self.layout = layout
        self.timeout = timeout
        self.categories = categories
        let objective =
            outputCount > 1 ? "multi:probability" : layout.isProbability ? "binary:probability" : "regression"
        description = ModelDescription(
            format: "remote-v2", featureNames: layout.featureNames, featureCount: layout.featureCount,
            categoricalFeatures: layout.textFeatures, outputCount: outputCount, objective: objective, treeCount: 0)
    }

    /// How many calls it can take at once is the other server's affair.
    let parallelism = 16

    func predictLater(_ rows: [Float], rowCount: Int, deadline: ContinuousClock.Instant?) async throws(ModelError)
        -> [Float]
    {
        let width = layout.featureCount
        guard rowCount > 0, rows.count == rowCount * width else {
            throw ModelError(.shapeMismatch, "\(rows.count) values are no \(rowCount) rows of \(width) features")
        }
        let step = max(1, min(4096, Self.valueCountMax / width))
        var outputs: [Float] = []
        for first in stride(from: 0, to: rowCount, by: step) {
            let count = min(step, rowCount - first)
            let (head, body) = try RemoteTensors.request(
                Array(rows[(first * width)..<((first + count) * width)]), rowCount: count, layout,
                categories: categories)
            let limit = ContinuousClock.now + timeout
            let answer = try await server.infer(
                body, headByteCount: head, until: deadline.map { min($0, limit) } ?? limit)
            let read = try RemoteTensors.outputs(
                answer.body, headByteCount: answer.headByteCount, rowCount: count, output: layout.output)
            guard read.width == description.outputCount else {
                throw ModelError(.unavailable, "the remote server answered \(read.width) numbers for each row")
            }
            outputs += read.values
        }
        return outputs
    }

    func reading(categories: [Int: [String]]) throws(ModelError) -> any LoadedModel {
        if let bare = layout.textFeatures.first(where: { categories[$0] == nil }) {
            throw ModelError(
                .shapeMismatch, "it reads text at position \(bare), its feature service gives a number there")
        }
        return RemoteModel(
            server, layout, outputCount: description.outputCount, timeout: timeout, categories: categories)
    }
}
