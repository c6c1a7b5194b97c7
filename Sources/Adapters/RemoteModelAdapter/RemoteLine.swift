import PlatformCore
import RuntimePorts

/// How a remote server is asked: one for each protocol.
///
/// A line makes one attempt within its time and says what became of it; the breaker and the counts are above it.
protocol RemoteLine: Sendable {
    /// Most bytes of tensors that go into one call.
    var requestByteCountMax: Int { get }

    /// What the model takes and gives, as the protocol's JSON has it.
    func metadata(until deadline: ContinuousClock.Instant) async throws(ModelError) -> JSONValue

    /// Numbers `[rows, width]` of the layout's output.
    func infer(
        _ rows: [Float], rowCount: Int, _ layout: RemoteLayout, categories: [Int: [String]],
        until deadline: ContinuousClock.Instant
    ) async throws(ModelError) -> (width: Int, values: [Float])
}

extension RemoteLine {
    /// What is said where no answer came in time.
    static var late: ModelError { ModelError(.deadlineExceeded, "the remote server did not answer in time") }
}
