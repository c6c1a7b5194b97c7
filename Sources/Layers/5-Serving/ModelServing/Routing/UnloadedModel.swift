public import RuntimePorts

/// Stands where a version belongs that cannot be loaded: its deployment is there, each of its answers a failure.
public struct UnloadedModel: LoadedModel {
    /// What the version would take, as far as that is known.
    public let description: ModelDescription
    /// Why it cannot be loaded.
    public let reason: String
    /// How a record begins to say that its version was not loaded.
    static let recordedReason = "the model is not loaded"

    /// Stands in for a model that reads so many features.
    public init(reason: String, featureCount: Int, outputCount: Int) {
        self.reason = reason
        description = ModelDescription(
            format: "unloaded", featureNames: [], featureCount: featureCount, categoricalFeatures: [],
            outputCount: outputCount, output: outputCount > 1 ? .classProbabilities : .value, objective: "unknown",
            treeCount: 0)
    }

    /// Refuses.
    public func predict(
        _ rows: UnsafeBufferPointer<Float>, rowCount: Int, into output: UnsafeMutableBufferPointer<Float>
    ) throws(ModelError) {
        throw ModelError(.notLoaded, reason)
    }
}
