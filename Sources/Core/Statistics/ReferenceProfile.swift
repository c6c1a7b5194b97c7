/// A model version's training slice as the monitor remembers it: every input and the predictions on that slice.
public struct ReferenceProfile: Sendable, Hashable, Codable {
    /// The inputs, in the order in which the model reads them.
    public let inputs: [InputProfile]
    /// The model's own predictions.
    public let prediction: InputProfile
    /// Rows of the slice.
    public let rowCount: Int

    /// Drift bins of the prediction.
    public static let predictionDriftBinCount = 20

    /// Makes a profile of profiles.
    public init(inputs: [InputProfile], prediction: InputProfile, rowCount: Int) {
        self.inputs = inputs
        self.prediction = prediction
        self.rowCount = rowCount
    }

    /// One column of the training slice; NaN is a missing value.
    public struct Column: Sendable {
        let name: String
        let values: [Double]
        let codeCount: Int?

        /// A column of numbers.
        public init(name: String, numbers: [Double]) {
            (self.name, values, codeCount) = (name, numbers, nil)
        }
        /// A column of numbers.
        public init(name: String, numbers: [Float]) { self.init(name: name, numbers: numbers.map(Double.init)) }
        /// A column of codes from 0 up to, not including, `codeCount` (at most 1,048,576).
        public init(name: String, codes: [Double], codeCount: Int) {
            (self.name, values, self.codeCount) = (name, codes, codeCount)
        }
    }

    /// The profile of a training slice.
    /// - Throws: `shapeMismatch` unless every column has as many rows as there are predictions.
    public init(columns: [Column], predictions: [Double]) throws(StatisticsError) {
        for column in columns where column.values.count != predictions.count {
            throw .shapeMismatch(column.values.count, predictions.count)
        }
        self.init(
            inputs: columns.map { column in
                column.codeCount.map { InputProfile(name: column.name, codes: column.values, codeCount: $0) }
                    ?? InputProfile(name: column.name, numbers: column.values)
            },
            prediction: InputProfile(
                name: "prediction", numbers: predictions, driftBinCount: Self.predictionDriftBinCount),
            rowCount: predictions.count)
    }
}
