import Foundation
import PlatformCore
import RuntimePorts
import Synchronization

/// Calls of one remote model, and what became of them.
final class RemoteServer: Sendable {
    private let line: any RemoteLine
    private let breaker = Mutex(CircuitBreaker())
    private let ledger: RemoteLedger
    /// Most rows of one call; less where the server said so.
    private let rowCountBound = Mutex(1000)

    init(_ line: any RemoteLine, ledger: RemoteLedger) {
        self.line = line
        self.ledger = ledger
    }

    var breakerIsOpen: Bool { breaker.withLock { $0.isOpen } }
    var requestByteCountMax: Int { line.requestByteCountMax }
    var rowCountMax: Int { rowCountBound.withLock { $0 } }

    /// Takes over a limit that the server named when it refused a call of so many rows: `batch-size must be <= 8`, in the words
    /// that Triton and other servers of this platform use.
    ///
    /// - Returns: whether it is a smaller one.
    func learn(from refusal: ModelError, rowCount: Int) -> Bool {
        guard refusal.code == .shapeMismatch, let words = refusal.message.range(of: "batch-size must be <= "),
            let limit = Int(refusal.message[words.upperBound...].prefix { $0.isASCII && $0.isNumber }),
            1..<rowCount ~= limit
        else { return false }
        rowCountBound.withLock { $0 = min($0, limit) }
        return true
    }

    /// Asks for what the model takes and gives.
    func metadata(within time: Duration) async throws(ModelError) -> JSONValue {
        try await counted { () throws(ModelError) in try await line.metadata(until: .now + time) }
    }

    /// Asks for predictions.
    func infer(
        _ rows: [Float], rowCount: Int, _ layout: RemoteLayout, categories: [Int: [String]],
        until deadline: ContinuousClock.Instant
    ) async throws(ModelError) -> (width: Int, values: [Float]) {
        try await counted { () throws(ModelError) in
            try await line.infer(rows, rowCount: rowCount, layout, categories: categories, until: deadline)
        }
    }

    /// A call that the breaker allows, counted by what became of it.
    private func counted<Answer>(_ call: () async throws(ModelError) -> Answer) async throws(ModelError) -> Answer {
        guard breaker.withLock({ $0.allows(at: .now) }) else {
            ledger.add("breaker")
            throw ModelError(.breakerOpen, "the remote server failed again and again; it is left alone")
        }
        do throws(ModelError) {
            let answer = try await call()
            breaker.withLock { $0.succeeded() }
            ledger.add("answered")
            return answer
        } catch {
            if error.code == .shapeMismatch {
                breaker.withLock { $0.succeeded() }
                ledger.add("refused")
            } else {
                breaker.withLock { $0.failed(at: .now) }
                ledger.add(error.code == .deadlineExceeded ? "late" : "failed")
            }
            throw error
        }
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
    /// Most bytes of one row: eight for a number, of a text its length and its bytes.
    private let rowByteCountMax: Int

    init(
        _ server: RemoteServer, _ layout: RemoteLayout, outputCount: Int, timeout: Duration, categories: [Int: [String]]
    ) {
        self.server = server
        self.layout = layout
        self.timeout = timeout
        self.categories = categories
        rowByteCountMax = layout.inputs.reduce(0) { sum, input in
            guard input.element == .text else { return sum + 8 * input.width }
            return (input.first..<(input.first + input.width)).reduce(sum) { sum, column in
                sum + 4 + (categories[column]?.map(\.utf8.count).max() ?? 0)
            }
        }
        description = ModelDescription(
            format: "remote-v2", featureNames: layout.featureNames, featureCount: layout.featureCount,
            categoricalFeatures: layout.textFeatures, outputCount: outputCount,
            output: outputCount > 1 ? .classProbabilities : layout.isProbability ? .probability : .value,
            objective: "unknown", treeCount: 0)
    }

    /// How many calls it can take at once is the other server's affair.
    let parallelism = 16

    func predictLater(_ rows: [Float], rowCount: Int, deadline: ContinuousClock.Instant?) async throws(ModelError)
        -> [Float]
    {
        let width = layout.featureCount
        _ = try RemoteHops.next()  // refused before it counts as a fault of the other server
        guard rowCount > 0, rows.count == rowCount * width else {
            throw ModelError(.shapeMismatch, "\(rows.count) values are no \(rowCount) rows of \(width) features")
        }
        let rowsOfBytes = max(1, server.requestByteCountMax / rowByteCountMax)
        var outputs: [Float] = []
        var first = 0
        while first < rowCount {
            let count = min(server.rowCountMax, rowsOfBytes, rowCount - first)
            let limit = ContinuousClock.now + timeout
            let read: (width: Int, values: [Float])
            do throws(ModelError) {
                read = try await server.infer(
                    Array(rows[(first * width)..<((first + count) * width)]), rowCount: count, layout,
                    categories: categories, until: deadline.map { min($0, limit) } ?? limit)
            } catch {
                guard server.learn(from: error, rowCount: count) else { throw error }
                continue
            }
            guard read.width == description.outputCount else {
                throw ModelError(.unavailable, "the remote server answered \(read.width) numbers for each row")
            }
            outputs += read.values
            first += count
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
