public import Expressions
public import PlatformCore

/// Why a deployment's own model does not answer a request.
public enum AnswerFault: String, Sendable, Hashable, CaseIterable, Codable {
    /// The feature store cannot be read.
    case featuresUnreadable = "features_unreadable"
    /// A feature that the deployment requires has no value.
    case missingFeatures = "missing_features"
    /// The model failed.
    case modelError = "model_error"
    /// The model gave a value that is no finite number.
    case noNumber = "no_number"
    /// The request's time was over.
    case timeout
    /// The model failed so often that it is not asked for a while.
    case breakerOpen = "breaker_open"

    /// For what a fallback answers that says nothing of it, sorted.
    static func usual(with fallback: [FallbackStep]) -> [AnswerFault] {
        fallback.isEmpty ? [] : allCases.sorted { $0.rawValue < $1.rawValue }
    }
}

/// One way to an answer when the model gives none.
public enum FallbackStep: Sendable, Hashable {
    /// Another version computes it.
    case version(Int)
    /// The version that a rollback would go back to computes it.
    case previousVersion
    /// An expression over the features of the request's entity; null goes on to the next step.
    case expression(Expression, inputs: [ExpressionColumn])
    /// Always the same number.
    case constant(Double)

    /// How answers and metrics call it: `version 3`, `previous version`, `expression`, `constant`.
    public var word: String {
        switch self {
        case .version(let number): "version \(number)"
        case .previousVersion: "previous version"
        case .expression: "expression"
        case .constant: "constant"
        }
    }
}

/// Whose requests are refused first when there are too many.
public enum RequestPriority: String, Sendable, Hashable, CaseIterable, Codable {
    /// Refused first.
    case low
    /// Refused when refusing the low ones was not enough.
    case normal
    /// Refused only where nothing more can be held.
    case high
}

/// How long predictions for the same input are remembered.
public struct PredictionCacheDefinition: Sendable, Hashable {
    /// How old a remembered prediction may be.
    public let keptFor: TimeSpan
    /// Most predictions that are remembered.
    public let entryCountMax: Int
}

/// What a deployment promises whoever asks it: by when, what instead of a model's answer, how many at once.
public struct AnswerPromise: Sendable, Hashable {
    /// Ways to an answer when the model gives none, in order; the last always gives one.
    ///
    /// Empty: such a request is answered with an error.
    public var fallback: [FallbackStep] = []
    /// Faults for which the fallback answers, sorted; others are answered with an error.
    public var fallbackOn: [AnswerFault] = []
    /// Inputs without which the model is not asked.
    public var requiredFeatures: [String] = []
    /// Longest time for one request; `nil` for no bound.
    public var deadline: TimeSpan?
    /// Priority of requests that state none.
    public var priority = RequestPriority.normal
    /// Most requests in hand at once; `nil` for no bound of its own.
    public var concurrencyMax: Int?
    /// Whether predictions are remembered.
    public var cache: PredictionCacheDefinition?
    /// A feature that holds the prediction computed before; where it has a fresh value, the model is not asked.
    public var precomputed: ServedFeature?

    /// No promise beyond the model's own answer.
    public init() {}
}
