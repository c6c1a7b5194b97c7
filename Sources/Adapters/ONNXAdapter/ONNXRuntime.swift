public import RuntimePorts
import Synchronization

/// Loads ONNX models with ONNX Runtime, whose library is opened when the first model asks for it.
///
/// - Inputs: one tensor of shape `[rows, features]`, or several of `[rows, 1]` or `[rows]` with a feature each, of type
///   float, double, int32, int64, bool or string. A row is numbers; a string input gets the texts of the feature's
///   categories by `reading(categories:)`, and the empty text for a missing value. NaN goes into float and double
///   inputs as it is; whole and bool inputs refuse it.
/// - Output: probabilities by name, or maps from class to probability, or numbers beside a label, else the first
///   numbers, else a whole label. Of two probabilities the second is the output.
/// - Computing: bit for bit what `onnxruntime.InferenceSession.run` gives for the same rows in one call.
public final class ONNXRuntime: ModelRuntime {
    private let configuration: ONNXConfiguration
    private let gate: ONNXGate?
    private let library = Mutex<ONNXLibrary?>(nil)

    /// Makes a runtime.
    /// - Parameters:
    ///   - configuration: where the library is, and limits.
    ///   - gate: tries models in a process of its own when `admit` is asked; `nil` admits all.
    public init(configuration: ONNXConfiguration, gate: ONNXGate? = nil) {
        self.configuration = configuration
        self.gate = gate
    }

    /// `onnx`.
    public var formats: [String] { ["onnx"] }

    /// Whether the name ends in `.onnx` or the bytes are a protobuf message like a model.
    public func recognizes(_ bytes: [UInt8], fileName: String) -> Bool {
        fileName.lowercased().hasSuffix(".onnx") || ONNXOutline.isModel(bytes)
    }

    /// Reads a model's outline and has the gate try it.
    public func admit(_ bytes: [UInt8], fileName: String) async throws(ModelError) {
        guard let gate else { return }
        do throws(ModelError) {
            try checkSize(bytes)
            _ = try ONNXOutline(bytes)
            try await gate.check(bytes, fileName: fileName, libraryVersion: try opened().version)
        } catch { throw Self.named(error, fileName) }
    }

    /// Loads a model and predicts a row of zeros with it.
    public func load(_ bytes: [UInt8], fileName: String) throws(ModelError) -> any LoadedModel {
        do {
            return try load(bytes)
        } catch { throw Self.named(error, fileName) }
    }

    private static func named(_ error: ModelError, _ fileName: String) -> ModelError {
        // A trial names the file itself.
        let name = printable(fileName)
        let isNamed = name.isEmpty || error.message.hasPrefix("\(name): ")
        return ModelError(error.code, isNamed ? error.message : "\(name): \(error.message)")
    }

    /// Version of the library, which is opened for that.
    /// - Throws: `unavailable`.
    public func libraryVersion() throws(ModelError) -> String { try opened().version }

    private func checkSize(_ bytes: [UInt8]) throws(ModelError) {
        guard bytes.count <= configuration.byteCountMax else {
            throw ModelError(
                .tooLarge, "the model is \(bytes.count) bytes long, \(configuration.byteCountMax) are accepted")
        }
        guard !bytes.isEmpty else { throw ModelError(.malformedModel, "the file is empty") }
    }

    private func load(_ bytes: [UInt8]) throws(ModelError) -> any LoadedModel {
        try checkSize(bytes)
        let outline = try ONNXOutline(bytes)
        let library = try opened()
        let session = try ONNXSession(library, bytes, threadCount: configuration.threadCount)
        return try ONNXModel(
            session, treeCount: outline.treeCount,
            inputs: try ONNXInputs(session.inputs, configuration),
            output: try ONNXOutput(session.outputs, operators: outline.operators), categories: nil,
            configuration: configuration)
    }

    private func opened() throws(ModelError) -> ONNXLibrary {
        try library.withLock { (library) throws(ModelError) in
            if let library { return library }
            let opened = try ONNXLibrary(path: configuration.libraryPath)
            library = opened
            return opened
        }
    }
}
