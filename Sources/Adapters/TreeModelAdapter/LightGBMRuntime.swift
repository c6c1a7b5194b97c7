public import RuntimePorts

/// Loads LightGBM models (the text that `Booster.save_model` writes, formats v3 and v4) and scores them like
/// `Booster.predict` of LightGBM 4 does for rows of `float32`.
///
/// Scores are summed in `float64` in the order of the trees, as LightGBM does, and equal to it bit for bit; predictions
/// are those, rounded to `float32` once. Boosters gbdt, goss, dart and rf; numeric splits with all three meanings of a
/// missing value, categorical splits. Refused by name: linear leaves (`linear_tree`) and objectives whose arithmetic is
/// not known here.
///
/// - Output: what `Booster.predict` gives: `multiclass` and `multiclassova` have one probability for each class.
/// - Early stopping: a file that was saved after it holds the trees up to the best iteration, and all of them are used.
/// - Categories: a model trained on a data frame names its categories (`pandas_categorical`), and `reading(categories:)`
///   translates rows that have others, as LightGBM does with a data frame; one that training did not know is missing. A
///   row that nobody gave names to holds the codes of the training data.
/// - Infinite values are numbers to LightGBM and are accepted.
public struct LightGBMRuntime: ModelRuntime {
    private let limits: ModelLimits

    /// Makes a runtime.
    public init(limits: ModelLimits = ModelLimits()) { self.limits = limits }

    /// `lightgbm-text`.
    public var formats: [String] { ["lightgbm-text"] }

    /// Whether the file starts with the line `tree`.
    public func recognizes(_ bytes: [UInt8], fileName: String) -> Bool {
        bytes.starts(with: Array("tree\n".utf8)) || bytes.starts(with: Array("tree\r\n".utf8))
    }

    /// Loads a model.
    public func load(_ bytes: [UInt8], fileName: String) throws(ModelError) -> any LoadedModel {
        do { return try load(bytes) } catch {
            let name = printable(fileName)
            throw ModelError(error.code, name.isEmpty ? error.message : "\(name): \(error.message)")
        }
    }

    private func load(_ bytes: [UInt8]) throws(ModelError) -> any LoadedModel {
        guard bytes.count <= limits.byteCountMax else {
            throw ModelError(.tooLarge, "the model is \(bytes.count) bytes long, \(limits.byteCountMax) are accepted")
        }
        let file = try bytes.withUnsafeBufferPointer { (buffer) throws(ModelError) -> LightGBMFile in
            try LightGBMFile(buffer)
        }
        return try LightGBMCompiler(limits: limits).compile(file)
    }
}
