/// Why a model answered what it answered: how far each feature moved one row's margins away from the base values.
///
/// Margins are what an ensemble sums before its objective turns them into probabilities. They add up:
/// `baseValues[m] + contributions[m].sum = margin m` to rounding. The contributions are Shapley values, so features that
/// no tree splits on have 0.
public struct Explanation: Sendable, Equatable {
    /// The margin that the model gives on average over the rows that it was trained on; one for each margin.
    public let baseValues: [Double]
    /// What each feature adds; shape `[margins, featureCount]`.
    public let contributions: [[Double]]

    /// Makes an explanation.
    public init(baseValues: [Double], contributions: [[Double]]) {
        self.baseValues = baseValues
        self.contributions = contributions
    }

    /// The margins that were explained: base value and contributions together.
    public var margins: [Double] { zip(baseValues, contributions).map { $0 + $1.reduce(0, +) } }
}

/// A loaded model that can explain its predictions.
public protocol ExplainingModel: LoadedModel {
    /// Why this model cannot explain although models of its kind can, as its file lacks what it takes; `nil` if it can.
    var explanationFault: String? { get }
    /// Explains `rowCount` rows as `predict` takes them.
    ///
    /// Takes some hundred times as long as a prediction: not for event loops.
    /// - Throws: `shapeMismatch` as `predict`, `unsupportedModel` with `explanationFault`, or where the file's numbers lead
    ///   out of the range of numbers.
    func explain(_ rows: UnsafeBufferPointer<Float>, rowCount: Int) throws(ModelError) -> [Explanation]
}

extension ExplainingModel {
    /// Explains rows of an array.
    public func explain(_ rows: [Float], rowCount: Int) throws(ModelError) -> [Explanation] {
        try rows.withUnsafeBufferPointer { (source) throws(ModelError) in try explain(source, rowCount: rowCount) }
    }
}

extension LoadedModel {
    /// This model as one that explains.
    /// - Throws: `unsupportedModel` with the reason if it cannot.
    public func explaining() throws(ModelError) -> any ExplainingModel {
        if let wrapping = self as? any WrappingModel { return try wrapping.base.explaining() }
        guard let model = self as? any ExplainingModel else {
            throw ModelError(
                .unsupportedModel,
                "models of format '\(description.format)' are not explained; tree ensembles of XGBoost and LightGBM are"
            )
        }
        if let fault = model.explanationFault { throw ModelError(.unsupportedModel, fault) }
        return model
    }
}
