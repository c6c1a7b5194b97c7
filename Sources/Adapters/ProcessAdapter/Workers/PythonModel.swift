import RuntimePorts

/// Stops a pool when no model uses it any more.
final class WorkerPoolHandle: Sendable {
    let pool: WorkerPool
    init(_ pool: WorkerPool) { self.pool = pool }
    deinit { pool.stop() }
}

/// A model that is Python code: worker processes compute it.
final class PythonModel: DeferredModel {
    let description: ModelDescription
    private let handle: WorkerPoolHandle
    private let hello: WorkerHello
    private let layout: WorkerLayout?
    private let timeout: Duration
    private let startTime: Duration

    private static let rowCountMax = 4096
    private static let valueCountMax = 4 << 20

    init(
        _ handle: WorkerPoolHandle, _ hello: WorkerHello, categories: [Int: [String]]?, timeout: Duration,
        startTime: Duration
    ) {
        self.handle = handle
        self.hello = hello
        self.timeout = timeout
        self.startTime = startTime
        layout = categories.map { WorkerLayout(categories: $0) }
        description = ModelDescription(
            format: "python", featureNames: hello.features, featureCount: hello.featureCount,
            categoricalFeatures: hello.texts, outputCount: hello.outputCount,
            output: hello.output,
            objective: hello.objective, treeCount: 0)
    }

    var parallelism: Int { handle.pool.parallelism }

    func predictLater(_ rows: [Float], rowCount: Int, deadline: ContinuousClock.Instant?) async throws(ModelError)
        -> [Float]
    {
        let width = hello.featureCount
        guard rowCount > 0, rows.count == rowCount * width else {
            throw ModelError(.shapeMismatch, "\(rows.count) values are no \(rowCount) rows of \(width) features")
        }
        let step = max(1, min(Self.rowCountMax, Self.valueCountMax / width))
        if rowCount <= step { return try await ask(rows, rowCount, deadline) }
        var outputs: [Float] = []
        outputs.reserveCapacity(rowCount * hello.outputCount)
        for first in stride(from: 0, to: rowCount, by: step) {
            let count = min(step, rowCount - first)
            outputs += try await ask(Array(rows[(first * width)..<((first + count) * width)]), count, deadline)
        }
        return outputs
    }

    private func ask(_ rows: [Float], _ count: Int, _ deadline: ContinuousClock.Instant?) async throws(ModelError)
        -> [Float]
    {
        let job = WorkerJob(
            .rows(rows, count: count), layout: layout, deadline: deadline ?? .now + startTime + timeout)
        guard case .outputs(let outputs) = try await handle.pool.run(job) else {
            throw ModelError(.unavailable, "its worker answered something else")
        }
        return outputs
    }

    func reading(categories: [Int: [String]]) throws(ModelError) -> any LoadedModel {
        if let bare = hello.texts.first(where: { categories[$0] == nil }) {
            throw ModelError(
                .shapeMismatch,
                "it reads text at position \(bare)"
                    + (hello.features.isEmpty ? "" : " ('\(hello.features[bare])')")
                    + ", its feature service gives a number there")
        }
        guard !categories.isEmpty else { return self }
        return PythonModel(handle, hello, categories: categories, timeout: timeout, startTime: startTime)
    }

    /// Of the worker that was started last, else of one that another run of the server had.
    var requirementDifferences: [String] { (handle.pool.hello ?? hello).differences }

    func startAnew() { handle.pool.startAnew() }

    func warmUp() async throws(ModelError) { _ = try await handle.pool.greeting() }

    func keepReady() -> ReadyModel? {
        handle.pool.keep()
        return ReadyModel { [handle] in handle.pool.letGo() }
    }

    func heldByteCount() async -> Int? {
        let job = WorkerJob(.memory, layout: nil, deadline: .now + startTime + timeout)
        guard case .byteCount(let count) = try? await handle.pool.run(job) else { return nil }
        return count
    }
}
