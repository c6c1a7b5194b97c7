public import RuntimePorts

/// Loads linear and logistic models from `model.linear.json`: plain numbers, no code.
///
/// `bottega.linear.save` of the Python package writes the format from scikit-learn's estimators; docs/serving.md
/// describes it. Sums are `float64`, as scikit-learn's are; a prediction is rounded to `float32` once.
public struct LinearModelRuntime: ModelRuntime {
    private let byteCountMax: Int
    private let featureCountMax: Int

    /// Makes a runtime.
    /// - Parameters:
    ///   - byteCountMax: longest accepted file in bytes.
    ///   - featureCountMax: most features that a model may have.
    public init(byteCountMax: Int = 64 << 20, featureCountMax: Int = 1 << 20) {
        self.byteCountMax = byteCountMax
        self.featureCountMax = featureCountMax
    }

    /// `linear-json`.
    public var formats: [String] { ["linear-json"] }

    /// Whether the first 4,096 bytes are an object that names the format.
    public func recognizes(_ bytes: [UInt8], fileName: String) -> Bool {
        guard let brace = bytes.first(where: { $0 != 32 && !(9...13).contains($0) }), brace == 0x7B else {
            return false
        }
        let head = bytes.prefix(4096)
        let word = Array("\"bottega-linear/".utf8)
        guard head.count >= word.count else { return false }
        return head.indices.dropLast(word.count - 1).contains { head[$0..<($0 + word.count)].elementsEqual(word) }
    }

    /// Loads a model.
    public func load(_ bytes: [UInt8], fileName: String) throws(ModelError) -> any LoadedModel {
        do {
            return LinearModel(
                try LinearModelFile(bytes, byteCountMax: byteCountMax, featureCountMax: featureCountMax))
        } catch {
            let name = LinearModelFile.line(fileName)
            throw ModelError(error.code, name.isEmpty ? error.message : "\(name): \(error.message)")
        }
    }
}
