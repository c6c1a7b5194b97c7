import CONNXRuntime
import RuntimePorts

/// A model that ONNX Runtime computes.
///
/// The library allocates in each call and takes from some microseconds to as long as the model likes. Rows of one call are
/// computed together: matrix products may sum in another order then, which can change the last bit.
final class ONNXModel: LoadedModel {
    let description: ModelDescription
    private let session: ONNXSession
    private let inputs: ONNXInputs
    private let output: ONNXOutput
    private let configuration: ONNXConfiguration
    /// Numbers that the model gives for each row.
    private let width: Int
    private let inputNames: TextTable
    private let outputNames: TextTable
    /// Texts of the categories of a text feature, by its position; the last one is empty and stands for a missing value.
    private let categories: [Int: TextTable]

    /// Rows in one call of the library; more would take memory and not be faster.
    private static let rowCountMax = 4096

    /// Reads what a model takes and gives, and asks it for one prediction.
    /// - Parameter categories: the texts of text features, by position; `nil` if they are not known yet.
    init(
        _ session: ONNXSession, treeCount: Int, inputs: ONNXInputs, output: ONNXOutput,
        categories: [Int: [String]]?, configuration: ONNXConfiguration
    ) throws(ModelError) {
        self.session = session
        self.inputs = inputs
        self.output = output
        self.configuration = configuration
        inputNames = TextTable(inputs.feeds.map(\.name))
        outputNames = TextTable([output.name])
        var tables: [Int: TextTable] = [:]
        for position in inputs.textFeatures {
            if let texts = categories?[position] {
                tables[position] = TextTable(texts + [""])
            } else if categories == nil {
                tables[position] = TextTable([""])
            } else {
                throw ModelError(
                    .shapeMismatch,
                    "the model reads \(Self.named(position, inputs)) as text, and that feature is no category")
            }
        }
        self.categories = tables
        let batch = inputs.fixedRowCount ?? 1
        let rows = [Float](repeating: 0, count: batch * inputs.featureCount)
        let call = Call(
            session: session, inputs: inputs, output: output, categories: tables, inputNames: inputNames,
            outputNames: outputNames)
        var width = 0
        do throws(ModelError) {
            width = try rows.withUnsafeBufferPointer { (rows) throws(ModelError) in
                try call.width(rows, rowCount: batch)
            }
        } catch {
            // An encoder that refuses unknown categories refuses the empty text; the declaration has to do until they are known.
            let declared = session.outputs.first { $0.name == output.name }?.shape ?? []
            guard categories == nil, !tables.isEmpty, declared.count == 2, let last = declared.last, last > 0 else {
                throw ModelError(
                    error.code == .shapeMismatch ? .unsupportedModel : error.code,
                    "it does not predict a row of zeros: \(error.message)")
            }
            width = Int(clamping: last)
        }
        guard width >= 1, width <= configuration.outputCountMax else {
            throw ModelError(.unsupportedModel, "it gives \(width) numbers for each row")
        }
        self.width = width
        // Of two probabilities the second says it all: that of the positive class.
        let isBinary = output.meaning == .probabilities && width == 2
        description = ModelDescription(
            format: "onnx", featureNames: inputs.featureNames, featureCount: inputs.featureCount,
            categoricalFeatures: inputs.textFeatures, outputCount: isBinary ? 1 : width,
            output: output.prediction(width: width), objective: output.meaning.rawValue, treeCount: treeCount)
    }

    func reading(categories: [Int: [String]]) throws(ModelError) -> any LoadedModel {
        guard !inputs.textFeatures.isEmpty else { return self }
        return try ONNXModel(
            session, treeCount: description.treeCount, inputs: inputs, output: output, categories: categories,
            configuration: configuration)
    }

    func predict(_ rows: UnsafeBufferPointer<Float>, rowCount: Int, into target: UnsafeMutableBufferPointer<Float>)
        throws(ModelError)
    {
        let featureCount = inputs.featureCount
        guard rowCount >= 0, rows.count == rowCount * featureCount,
            target.count == rowCount * description.outputCount
        else {
            throw ModelError(
                .shapeMismatch,
                "\(rowCount) rows of \(featureCount) features are \(rowCount * featureCount) values, not \(rows.count)")
        }
        let call = Call(
            session: session, inputs: inputs, output: output, categories: categories, inputNames: inputNames,
            outputNames: outputNames)
        let skips = width != description.outputCount
        let batch = inputs.fixedRowCount ?? Self.rowCountMax
        var row = 0
        while row < rowCount {
            let count = min(batch, rowCount - row)
            let part = UnsafeBufferPointer(rebasing: rows[(row * featureCount)..<((row + count) * featureCount)])
            let place = UnsafeMutableBufferPointer(
                rebasing: target[(row * description.outputCount)..<((row + count) * description.outputCount)])
            if inputs.fixedRowCount != nil, count < batch {  // the model takes this many, no fewer
                var padded = Array(part) + [Float](repeating: 0, count: (batch - count) * featureCount)
                for missing in count..<batch {  // with copies of the last row, which is one the model can take
                    for feature in 0..<featureCount {
                        padded[missing * featureCount + feature] = part[(count - 1) * featureCount + feature]
                    }
                }
                var answer = [Float](repeating: 0, count: batch * description.outputCount)
                try padded.withUnsafeBufferPointer { (padded) throws(ModelError) in
                    try answer.withUnsafeMutableBufferPointer { (answer) throws(ModelError) in
                        try call.predict(padded, rowCount: batch, width: width, skipsFirst: skips, into: answer)
                    }
                }
                for index in place.indices { place[index] = answer[index] }
            } else {
                try call.predict(part, rowCount: count, width: width, skipsFirst: skips, into: place)
            }
            row += count
        }
    }

    /// What a feature is called in messages.
    static func named(_ position: Int, _ inputs: ONNXInputs) -> String {
        inputs.featureNames.indices.contains(position)
            ? "'\(printable(inputs.featureNames[position]))'" : "feature \(position)"
    }
}
