import Definitions
import PlatformCore
import RuntimePorts

/// A deployment's ways to an answer when the model gives none, ready to be asked.
struct FallbackChain: Sendable {
    /// One step of it.
    enum Step: Sendable {
        case version(ServedVersion)
        /// The expression, and the service that it reads.
        case expression(VectorExpression, service: String)
        case constant(Float)
    }
    let steps: [(step: Step, word: String)]
    private let faults: Set<AnswerFault>

    /// - Parameter versions: loaded versions by the place of their step; a step without one is left out.
    init(_ promise: AnswerPromise, versions: [Int: ServedVersion], binding: ServiceBinding) {
        faults = Set(promise.fallbackOn)
        steps = promise.fallback.enumerated().compactMap { index, step in
            switch step {
            case .version, .previousVersion: versions[index].map { (.version($0), step.word) }
            case .expression(let expression, let inputs):
                (
                    .expression(
                        VectorExpression(expression, inputs: inputs, of: binding.definition),
                        service: binding.versionText), step.word
                )
            case .constant(let value): (.constant(Float(value)), step.word)
            }
        }
    }

    /// Whether it answers for a fault.
    func answers(_ fault: AnswerFault) -> Bool { faults.contains(fault) }
}

/// What went wrong with a prediction, in a word and in words: ours, then after a colon what others said, which no caller is told.
struct AnswerFailure {
    let cause: AnswerFault
    let message: String

    init(_ cause: AnswerFault, _ message: String) {
        self.cause = cause
        self.message = message
    }

    init(features error: PlatformError) {
        self.init(.featuresUnreadable, "features cannot be read: \(error.message)")
    }

    init(model error: ModelError) {
        switch error.code {
        case .deadlineExceeded: self.init(.timeout, "the model took too long: \(error.message)")
        case .breakerOpen: self.init(.breakerOpen, "the model is not asked for a while: \(error.message)")
        case .noNumber: self.init(.noNumber, "the model gave a value that is no finite number: \(error.message)")
        case .notLoaded: self.init(.modelError, "\(UnloadedModel.recordedReason): \(error.message)")
        default: self.init(.modelError, "the model failed: \(error.message)")
        }
    }

    static let noNumber = AnswerFailure(.noNumber, "the model gave a value that is no finite number")
    static let late = AnswerFailure(.timeout, "the time of the request was over")
}
