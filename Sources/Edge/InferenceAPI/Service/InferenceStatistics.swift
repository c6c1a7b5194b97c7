import ModelServing
import Synchronization

/// What was done by way of the protocol since the start, by model and version.
final class InferenceStatistics: Sendable {
    /// How often something happened, and how long it took in all.
    struct Duration: Sendable, Hashable {
        var count: UInt64 = 0
        var nanoseconds: UInt64 = 0

        mutating func add(_ nanoseconds: UInt64) {
            count += 1
            self.nanoseconds &+= nanoseconds
        }
    }

    /// One version of a model.
    struct Counts: Sendable {
        /// Milliseconds since 1970 of the last request.
        var lastInference: UInt64 = 0
        /// Rows that were predicted.
        var inferenceCount: UInt64 = 0
        /// Requests that were answered.
        var executionCount: UInt64 = 0
        var success = Duration()
        var fail = Duration()
        /// Reading the features.
        var computeInput = Duration()
        /// Scoring.
        var computeInfer = Duration()
        /// The rest.
        var computeOutput = Duration()
        /// By rows of a request.
        var batches: [Int: (input: Duration, infer: Duration, output: Duration)] = [:]
    }

    private let counts = Mutex<[String: [Int: Counts]]>([:])

    /// Counts a request that was answered.
    func count(_ predictions: [ColumnPrediction], model: String, nanoseconds: UInt64, now: UInt64) {
        guard let version = predictions.first?.version else { return }
        let input = predictions.reduce(UInt64(0)) { $0 + UInt64($1.latency.features) } &* 1000
        let infer = predictions.reduce(UInt64(0)) { $0 + UInt64($1.latency.score) } &* 1000
        let output = nanoseconds > input + infer ? nanoseconds - input - infer : 0
        counts.withLock { counts in
            var own = counts[model]?[version] ?? Counts()
            counts[model]?[version] = nil
            own.lastInference = now
            own.inferenceCount += UInt64(predictions.count)
            own.executionCount += 1
            own.success.add(nanoseconds)
            own.computeInput.add(input)
            own.computeInfer.add(infer)
            own.computeOutput.add(output)
            var batch = own.batches[predictions.count] ?? (Duration(), Duration(), Duration())
            batch.input.add(input)
            batch.infer.add(infer)
            batch.output.add(output)
            own.batches[predictions.count] = batch
            counts[model, default: [:]][version] = own
        }
    }

    /// Counts a request that was refused or failed.
    func countFailure(model: String, version: Int, nanoseconds: UInt64) {
        counts.withLock { $0[model, default: [:]][version, default: Counts()].fail.add(nanoseconds) }
    }

    /// What a version did.
    func counts(model: String, version: Int) -> Counts {
        counts.withLock { $0[model]?[version] ?? Counts() }
    }
}
