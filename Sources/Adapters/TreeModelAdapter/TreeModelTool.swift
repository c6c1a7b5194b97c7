public import RuntimePorts

/// Scores raw rows with a model file: what `bottega score-file` does between reading and writing its files.
public enum TreeModelTool {
    /// The runtimes for tree ensembles.
    public static var all: [any ModelRuntime] { [XGBoostRuntime(), LightGBMRuntime()] }

    /// Predicts little-endian `float32` rows, one after the other, and gives little-endian `float32` predictions.
    ///
    /// - Parameters:
    ///   - model: the bytes of the model file.
    ///   - fileName: its name, for messages.
    ///   - rows: the rows; NaN is a missing value.
    ///   - categories: texts of the features that a model reads as text, by position.
    ///   - runtimes: what may load the model; the first that recognizes it does.
    /// - Throws: what `load` and `predict` throw; `shapeMismatch` when the bytes are no whole number of rows.
    public static func score(
        model: [UInt8], fileName: String, rows: [UInt8], categories: [Int: [String]] = [:],
        runtimes: [any ModelRuntime] = all
    ) throws(ModelError) -> [UInt8] {
        let (loaded, values, rowCount) = try open(model, fileName, rows, categories, runtimes)
        let predictions = try loaded.predict(values, rowCount: rowCount)
        var output: [UInt8] = []
        output.reserveCapacity(4 * predictions.count)
        for value in predictions {
            withUnsafeBytes(of: value.bitPattern.littleEndian) { output.append(contentsOf: $0) }
        }
        return output
    }

    /// Explains rows as `score` takes them, and gives little-endian `float64` numbers of shape
    /// `[rows, margins, features + 1]`: what each feature adds to each margin, and last the base value.
    ///
    /// - Throws: as `score`, and `unsupportedModel` if the model cannot explain.
    public static func explain(
        model: [UInt8], fileName: String, rows: [UInt8], categories: [Int: [String]] = [:],
        runtimes: [any ModelRuntime] = all
    ) throws(ModelError) -> [UInt8] {
        let (loaded, values, rowCount) = try open(model, fileName, rows, categories, runtimes)
        var output: [UInt8] = []
        for explanation in try loaded.explaining().explain(values, rowCount: rowCount) {
            for (base, contributions) in zip(explanation.baseValues, explanation.contributions) {
                for value in contributions + [base] {
                    withUnsafeBytes(of: value.bitPattern.littleEndian) { output.append(contentsOf: $0) }
                }
            }
        }
        return output
    }

    private static func open(
        _ model: [UInt8], _ fileName: String, _ rows: [UInt8], _ categories: [Int: [String]],
        _ runtimes: [any ModelRuntime]
    ) throws(ModelError) -> (any LoadedModel, values: [Float], rowCount: Int) {
        guard let runtime = runtimes.first(where: { $0.recognizes(model, fileName: fileName) }) ?? runtimes.first else {
            throw ModelError(.unsupportedModel, "there is no runtime")
        }
        let loaded = try runtime.load(model, fileName: fileName).reading(categories: categories)
        let width = loaded.description.featureCount
        guard width > 0, rows.count.isMultiple(of: 4 * width) else {
            throw ModelError(
                .shapeMismatch, "\(rows.count) bytes are no whole number of rows of \(width) float32 features")
        }
        let values = rows.withUnsafeBytes { bytes in
            (0..<(rows.count / 4)).map { index in
                let bits = bytes.loadUnaligned(fromByteOffset: 4 * index, as: UInt32.self)
                return Float(bitPattern: UInt32(littleEndian: bits))
            }
        }
        return (loaded, values, values.count / width)
    }
}
