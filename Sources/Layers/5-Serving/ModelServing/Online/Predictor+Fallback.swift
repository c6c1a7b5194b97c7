import Definitions
import PlatformCore
import RuntimePorts

/// Scores, what is looked up before them, and what stands in for them.
extension Predictor {
    /// Asks a version; what it cannot answer is said.
    static func score(_ version: ServedVersion, _ scratch: PredictionScratch) -> AnswerFailure? {
        scratch.fillRow()
        do { try scratch.score(version.loaded) } catch { return AnswerFailure(model: error) }
        return scratch.outputIsFinite ? nil : .noNumber
    }

    /// What is found before a model is asked.
    enum LookUp {
        /// The record has the output.
        case found
        /// The model is not to be asked.
        case failed(AnswerFailure)
        /// The model is to be asked; the row is filled.
        case nothing
    }

    /// Looks for a prediction made before, for what the deployment requires, and for a remembered prediction.
    static func lookUp(_ version: ServedVersion, _ question: Question, _ scratch: PredictionScratch) -> LookUp {
        let route = question.route
        if let score = route.precomputed?.score(scratch.vector, version.binding, at: question.time) {
            scratch.record.output = [score]
            scratch.record.origin = .precomputed
            return .found
        }
        if let name = route.missingFeature(scratch.vector, version.binding) {
            return .failed(AnswerFailure(.missingFeatures, "'\(name)' has no value"))
        }
        scratch.fillRow()
        if let output = route.cache?.output(version: version.number, row: scratch.row, at: question.time) {
            scratch.record.output = output
            scratch.record.origin = .cache
            return .found
        }
        return .nothing
    }

    /// Keeps what a version predicted for the row.
    static func remember(_ version: ServedVersion, _ question: Question, _ scratch: PredictionScratch) {
        question.route.cache?.remember(
            scratch.record.output, version: version.number, row: scratch.row, at: question.time)
    }

    /// The same with a look for what makes asking needless.
    static func lookUpOrScore(_ version: ServedVersion, _ question: Question, _ scratch: PredictionScratch)
        -> AnswerFailure?
    {
        switch lookUp(version, question, scratch) {
        case .found: return nil
        case .failed(let failure): return failure
        case .nothing:
            if let failure = score(version, scratch) { return failure }
            remember(version, question, scratch)
            return nil
        }
    }

    /// Goes along the fallback chain; leaves the output in the record, empty where no step answers.
    ///
    /// - Parameter known: outputs of versions that were waited for, by number.
    /// - Returns: the version that computed it, if one did; the vector is then that of its service.
    func answerInstead(
        _ failure: AnswerFailure, of version: ServedVersion, _ instance: Instance, _ question: Question,
        known: [Int: [Float]] = [:], _ scratch: PredictionScratch
    ) -> ServedVersion? {
        let route = question.route
        var output: [Float] = []
        var (word, answering): (String, ServedVersion?) = ("", nil)
        var binding = version.binding
        /// Reads the request again where another service is wanted than that of the vector; whether its features are there.
        func assemble(_ wanted: ServiceBinding) -> Bool {
            if wanted === binding { return wanted !== version.binding || failure.cause != .featuresUnreadable }
            binding = wanted
            do {
                return try instance.assembleSlowly(wanted, asOf: question.time, into: &scratch.vector).isEmpty
            } catch { return false }
        }
        if route.fallback.answers(failure.cause) {
            for (step, stepWord) in route.fallback.steps where output.isEmpty {
                switch step {
                case .version(let other):
                    if let waited = known[other.number] {
                        (answering, output) = (other, waited)
                        break
                    }
                    guard other !== version, other.deferred == nil, !question.isOver(at: ContinuousClock.now),
                        assemble(other.binding), route.missingFeature(scratch.vector, other.binding) == nil,
                        Self.score(other, scratch) == nil
                    else { continue }
                    (answering, output) = (other, scratch.record.output)
                case .expression(let expression, let service):
                    if binding.versionText != service { _ = assemble(route.variants[0].version.binding) }
                    guard let value = expression.evaluate(scratch.vector).number, Float(value).isFinite else {
                        continue
                    }
                    output = [Float(value)]
                case .constant(let value): output = [value]
                }
                word = stepWord
            }
        }
        // What the log remembers as input is what the record's service names.
        if binding !== (answering ?? version).binding { _ = assemble((answering ?? version).binding) }
        scratch.record.output = output
        scratch.record.fallback = .init(cause: failure.cause, step: word, version: answering?.number ?? 0)
        metrics.countFallback(model: version.model.text, cause: failure.cause, step: word)
        return answering
    }
}
