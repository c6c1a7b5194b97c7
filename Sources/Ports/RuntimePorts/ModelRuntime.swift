/// Why a model cannot be loaded or cannot predict.
public struct ModelError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure.
    public enum Code: String, Sendable {
        /// The bytes are no model of a known format, or are cut or inconsistent.
        case malformedModel
        /// The model uses something this runtime refuses to guess at (an unknown objective, a booster).
        case unsupportedModel
        /// The model is larger than the stated limits.
        case tooLarge
        /// The rows do not fit the model: number of features, an infinite value.
        case shapeMismatch
        /// The runtime failed.
        case unavailable
        /// The answer did not come in time.
        case deadlineExceeded
        /// The model failed so often that it is not asked for a while.
        case breakerOpen
        /// The model answered, but no number.
        case noNumber
        /// The version is not in memory, since it could not be loaded.
        case notLoaded
    }
    /// The kind of failure.
    public let code: Code
    /// What exactly, in one line.
    public let message: String
    /// Makes an error.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
    /// The message.
    public var description: String { message }
}

/// What the outputs of a row are.
public enum ModelOutput: Sendable, Hashable {
    /// One value.
    case value
    /// The probability of class 1.
    case probability
    /// A probability for each class.
    case classProbabilities
    /// Several values that are no probabilities of classes.
    case values
}

/// What the margins of a model are measured in.
public enum MarginScale: String, Sendable, Hashable {
    /// Log-odds of class 1.
    case logOdds = "log_odds"
    /// The logarithm of the prediction.
    case logarithm = "log"
    /// The prediction itself.
    case value
}

/// What a loaded model takes and gives.
public struct ModelDescription: Sendable, Hashable {
    /// The format, `xgboost-ubj`.
    public let format: String
    /// Features in the model's order; empty names where the model has none.
    public let featureNames: [String]
    /// Number of features in a row.
    public let featureCount: Int
    /// Positions of features that are categorical codes, as far as the file says so.
    public let categoricalFeatures: [Int]
    /// Texts of the codes of categorical features, by position, where the file names them so.
    public let categories: [Int: [String]]
    /// Outputs for each row: 1 for regression and binary classification, the number of classes for multiclass, as many as
    /// there are for several values.
    public let outputCount: Int
    /// What those outputs are.
    public let output: ModelOutput
    /// What margins are measured in; `nil` where they mean something beside each other alone, as those of classes and of
    /// ranks.
    public let marginScale: MarginScale?
    /// The training objective in the words of the model's library, `binary:logistic`.
    public let objective: String
    /// Number of trees, for ensembles.
    public let treeCount: Int
    /// Makes a description.
    public init(
        format: String, featureNames: [String], featureCount: Int, categoricalFeatures: [Int],
        categories: [Int: [String]] = [:], outputCount: Int,
        output: ModelOutput, marginScale: MarginScale? = nil, objective: String, treeCount: Int
    ) {
        self.format = format
        self.featureNames = featureNames
        self.featureCount = featureCount
        self.categoricalFeatures = categoricalFeatures
        self.categories = categories
        self.outputCount = outputCount
        self.output = output
        self.marginScale = marginScale
        self.objective = objective
        self.treeCount = treeCount
    }
}

/// A model in memory, ready to predict.
///
/// Immutable; any number of threads may use it at once.
public protocol LoadedModel: Sendable {
    /// What it takes and gives.
    var description: ModelDescription { get }
    /// Predicts `rowCount` rows held one after the other in `rows` (shape `[rowCount, featureCount]`; NaN is a missing
    /// value) into `output` (shape `[rowCount, outputCount]`): probabilities for classifiers, values for regressors.
    ///
    /// The result for a row does not depend on the other rows, but for the last bits of a model whose library sums batches
    /// in another order than single rows. No I/O and no lock; a native model takes microseconds and does not allocate
    /// for each row, one that a library computes may.
    /// - Throws: `shapeMismatch` when the buffers do not have these sizes, or a value is infinite and the format refuses that.
    func predict(_ rows: UnsafeBufferPointer<Float>, rowCount: Int, into output: UnsafeMutableBufferPointer<Float>)
        throws(ModelError)
    /// The same model for rows whose categorical features hold codes of these texts.
    ///
    /// A model that reads texts needs them, and one whose file names its categories has them in another order perhaps; the
    /// others are what they were.
    /// - Parameter categories: for each categorical feature of a row, by position, the texts of the codes 0, 1, ….
    /// - Throws: `shapeMismatch` when the model reads a text where there are none, `unsupportedModel` where the file's
    ///   categories cannot be told apart.
    func reading(categories: [Int: [String]]) throws(ModelError) -> any LoadedModel
}

extension LoadedModel {
    /// This model: it reads no texts.
    public func reading(categories: [Int: [String]]) throws(ModelError) -> any LoadedModel { self }

    /// Predicts rows of an array, for callers that are not hot.
    public func predict(_ rows: [Float], rowCount: Int) throws(ModelError) -> [Float] {
        var output = [Float](repeating: 0, count: rowCount * description.outputCount)
        try rows.withUnsafeBufferPointer { (source) throws(ModelError) in
            try output.withUnsafeMutableBufferPointer { (target) throws(ModelError) in
                try predict(source, rowCount: rowCount, into: target)
            }
        }
        return output
    }
}

/// Turns artifact bytes into models that predict.
///
/// Bytes come from outside: loading never traps and is bounded in memory.
public protocol ModelRuntime: Sendable {
    /// Formats it loads, `xgboost-json`, `xgboost-ubj`.
    var formats: [String] { get }
    /// Whether the bytes look like one of its formats, by their first bytes and the file's name.
    func recognizes(_ bytes: [UInt8], fileName: String) -> Bool
    /// Tries bytes apart from this process where loading them could end it; to be awaited before `load`.
    /// - Throws: as `load`, for what must not be loaded.
    func admit(_ bytes: [UInt8], fileName: String) async throws(ModelError)
    /// Loads a model.
    /// - Throws: `malformedModel`, `unsupportedModel`, `tooLarge`.
    func load(_ bytes: [UInt8], fileName: String) throws(ModelError) -> any LoadedModel
    /// Tries and loads a model for one use of it; may wait for other processes.
    /// - Throws: as `load`.
    func open(_ bytes: [UInt8], fileName: String, options: RuntimeOptions) async throws(ModelError) -> any LoadedModel
    /// What it has to tell for the metrics page.
    func measurements() -> [RuntimeMeasurement]
}

extension ModelRuntime {
    /// Admits everything: loading is our own code, which does not trap.
    public func admit(_ bytes: [UInt8], fileName: String) async throws(ModelError) {}

    /// `admit` and `load`: no use of the model differs from another.
    public func open(_ bytes: [UInt8], fileName: String, options: RuntimeOptions) async throws(ModelError)
        -> any LoadedModel
    {
        try await admit(bytes, fileName: fileName)
        return try load(bytes, fileName: fileName)
    }

    /// Nothing.
    public func measurements() -> [RuntimeMeasurement] { [] }
}
