import Glibc
import RuntimePorts

/// What an objective does to scores: the intercept on its way in, the margin on its way out.
///
/// All arithmetic is `float32` with the C library's `expf` and `logf`, as XGBoost 3.2 computes it, except the softmax's
/// sum, which is a double.
enum OutputTransform: Sendable, Equatable {
    /// The margin as it is.
    case identity
    /// The logistic function: the probability of class 1.
    case sigmoid
    /// `eˣ`.
    case exponential
    /// 1 above 0, else 0.
    case step
    /// Probabilities of the classes.
    case softmax
    /// The number of the class with the highest margin, the first one of equals: what `Booster.predict` gives.
    case argumentOfMaximum
}

/// An XGBoost objective.
struct Objective: Sendable, Equatable {
    /// What turns margins into predictions.
    let output: OutputTransform
    /// What turned `base_score` into a margin.
    let intercept: Intercept

    /// How `base_score` enters the margin.
    enum Intercept: Sendable, Equatable {
        case identity
        case logit
        case logarithm
    }

    /// Looks an objective up.
    /// - Throws: `unsupportedModel` with its name, when this code does not know its arithmetic.
    init(named name: String) throws(ModelError) {
        switch name {
        case "reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
            "reg:quantileerror", "rank:pairwise", "rank:ndcg", "rank:map":
            (output, intercept) = (.identity, .identity)
        case "binary:logistic", "reg:logistic": (output, intercept) = (.sigmoid, .logit)
        // xgboost 3.2 adds the base score of `logitraw` as it stands: it is in margin space there.
        case "binary:logitraw": (output, intercept) = (.identity, .identity)
        case "binary:hinge": (output, intercept) = (.step, .identity)
        case "count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft":
            (output, intercept) = (.exponential, .logarithm)
        case "multi:softprob": (output, intercept) = (.softmax, .identity)
        case "multi:softmax": (output, intercept) = (.argumentOfMaximum, .identity)
        case "": throw ModelError(.malformedModel, "learner.objective: the model names no objective")
        default:
            throw ModelError(.unsupportedModel, "learner.objective: '\(printable(name))' is not supported")
        }
    }

    /// What predictions are.
    var prediction: ModelOutput {
        switch output {
        case .sigmoid: .probability
        case .softmax: .classProbabilities
        case .identity, .exponential, .step, .argumentOfMaximum: .value
        }
    }

    /// What margins are measured in, for the objective of this name.
    func marginScale(named name: String) -> MarginScale? {
        switch output {
        case .sigmoid: .logOdds
        case .exponential: .logarithm
        case .identity: name == "binary:logitraw" ? .logOdds : name.hasPrefix("reg:") ? .value : nil
        case .step, .softmax, .argumentOfMaximum: nil
        }
    }

    /// The margin that `base_score` stands for.
    func margin(ofBaseScore score: Float) -> Float {
        switch intercept {
        case .identity: score
        case .logit: -logf(1 / score - 1)
        case .logarithm: logf(score)
        }
    }
}

extension OutputTransform {
    /// Turns the margins of one row, in place; for `argumentOfMaximum` the result is in the first element.
    @inline(__always)
    func apply(_ margins: UnsafeMutablePointer<Float>, count: Int) {
        switch self {
        case .identity: break
        case .sigmoid: for index in 0..<count { margins[index] = Self.sigmoid(margins[index]) }
        case .exponential: for index in 0..<count { margins[index] = expf(margins[index]) }
        case .step: for index in 0..<count { margins[index] = margins[index] > 0 ? 1 : 0 }
        case .softmax: Self.softmax(margins, count: count)
        case .argumentOfMaximum:
            var best = 0
            for index in 1..<max(1, count) where margins[index] > margins[best] { best = index }
            margins[0] = Float(best)
        }
    }

    /// `1 / (1 + e⁻ˣ)` with the exponent held below 88.7 so that it stays finite, as XGBoost does.
    @inline(__always)
    static func sigmoid(_ margin: Float) -> Float { 1 / (expf(margin < -88.7 ? 88.7 : -margin) + 1) }

    private static func softmax(_ margins: UnsafeMutablePointer<Float>, count: Int) {
        var highest = margins[0]
        for index in 1..<max(1, count) { highest = max(highest, margins[index]) }
        var sum = 0.0
        for index in 0..<count {
            margins[index] = expf(margins[index] - highest)
            sum += Double(margins[index])
        }
        let divisor = Float(sum)
        for index in 0..<count { margins[index] /= divisor }
    }
}
