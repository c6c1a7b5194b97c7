/// A loaded model whose predictions are waited for: another process or another machine computes them, or rows are gathered
/// first.
///
/// `predict`, which answers at once, throws; whoever can wait asks `prediction(of:rowCount:deadline:)` of any model.
public protocol DeferredModel: LoadedModel {
    /// Calls that are computed at the same time, now.
    var parallelism: Int { get }
    /// Predicts `rowCount` rows, laid out as for `predict`, and gives `[rowCount, outputCount]`.
    ///
    /// - Parameter deadline: when nobody waits any more; `nil` for the model's own limit. An answer comes soon after it at the
    ///   latest.
    /// - Throws: `shapeMismatch` where the rows are refused, the same rows again would be; `unavailable` for everything
    ///   that may be otherwise next time, `deadlineExceeded` among it.
    func predictLater(_ rows: [Float], rowCount: Int, deadline: ContinuousClock.Instant?) async throws(ModelError)
        -> [Float]
    /// Makes the model ready: waited for before requests are sent to it.
    /// - Throws: when it cannot be made ready; it may be asked all the same.
    func warmUp() async throws(ModelError)
    /// Begins to make the model ready, without waiting, and keeps it so while somebody holds the result; `nil` where
    /// there is nothing to keep.
    func keepReady() -> ReadyModel?
    /// Memory that it holds outside of this process, in bytes; `nil` if that is not known.
    func heldByteCount() async -> Int?
    /// What it finds where it runs otherwise than it was logged with, a line for each; bounded.
    var requirementDifferences: [String] { get }
    /// Has what computes it replaced by what sees the environment as it is now; calls in hand are answered.
    func startAnew()
}

/// Keeps a model ready for as long as it lives.
public final class ReadyModel: Sendable {
    private let release: @Sendable () -> Void

    /// Calls `release` when nobody holds it any more.
    public init(release: @escaping @Sendable () -> Void) { self.release = release }

    deinit { release() }
}

extension DeferredModel {
    /// Throws `unavailable`: it has to be waited for.
    public func predict(
        _ rows: UnsafeBufferPointer<Float>, rowCount: Int, into output: UnsafeMutableBufferPointer<Float>
    ) throws(ModelError) {
        throw ModelError(
            .unavailable, "models of format '\(description.format)' answer later, this place needs an answer at once")
    }

    /// Nothing to do.
    public func warmUp() async throws(ModelError) {}

    /// Nothing to keep.
    public func keepReady() -> ReadyModel? { nil }

    /// Unknown.
    public func heldByteCount() async -> Int? { nil }

    /// None.
    public var requirementDifferences: [String] { [] }

    /// Nothing to replace.
    public func startAnew() {}
}

extension LoadedModel {
    /// This model if it has to be waited for.
    public var deferred: (any DeferredModel)? { self as? any DeferredModel }

    /// Predicts rows of an array with any model, at once or later.
    public func prediction(of rows: [Float], rowCount: Int, deadline: ContinuousClock.Instant? = nil)
        async throws(ModelError) -> [Float]
    {
        if let deferred { return try await deferred.predictLater(rows, rowCount: rowCount, deadline: deadline) }
        return try predict(rows, rowCount: rowCount)
    }
}

/// A model that stands in front of another one.
public protocol WrappingModel: LoadedModel {
    /// The one behind it.
    var base: any LoadedModel { get }
}

/// What a runtime is told about a model beside its bytes.
public struct RuntimeOptions: Sendable, Hashable {
    /// Name of the model, for messages and measurements.
    public var model: String
    /// Folder of a virtual environment, or an interpreter; `nil` for the configured one.
    public var environment: String?
    /// Least and most worker processes.
    public var workerCount: ClosedRange<Int>
    /// Address space of a worker process in bytes.
    public var memoryByteCountMax: Int
    /// Time for one call of the model.
    public var timeout: Duration

    /// Options as stated, by default one worker with 4 GiB and 10 s for a call.
    public init(
        model: String = "", environment: String? = nil, workerCount: ClosedRange<Int> = 1...1,
        memoryByteCountMax: Int = 4 << 30, timeout: Duration = .seconds(10)
    ) {
        self.model = model
        self.environment = environment
        self.workerCount = workerCount
        self.memoryByteCountMax = memoryByteCountMax
        self.timeout = timeout
    }
}

/// One number that a runtime tells about its models, as a series of the metrics page.
public struct RuntimeMeasurement: Sendable, Hashable {
    /// Name of the series, `bottega_worker_restarts_total`; a counter ends in `_total`.
    public let name: String
    /// Labels in their order.
    public let labels: [Label]
    /// The value.
    public let value: Double

    /// A name and its value.
    public struct Label: Sendable, Hashable {
        /// The name.
        public let name: String
        /// The value.
        public let value: String
        /// Makes a label.
        public init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    /// Makes a measurement.
    public init(_ name: String, _ labels: [Label], _ value: Double) {
        self.name = name
        self.labels = labels
        self.value = value
    }
}
