import Definitions
import PlatformCore
import RuntimePorts

/// Scores, what is looked up before them, and what stands in for them.
extension Predictor {
    /// Asks a version; what it cannot answer is said.
    static func score(_ version: ServedVersion, _ scratch: PredictionScratch) -> AnswerFailure? {
        scratch.fillRow()
        do { try scratch.score(version.loaded) } catch { return AnswerFailure(model: error) }
        return scratch.outputIsFinite
            ? nil : AnswerFailure(.noNumber, "the model gave a value that is no finite number")
    }

    /// Looks for what the deployment requires, for a prediction made before, for a remembered one, and asks then.
    static func lookUpOrScore(_ version: ServedVersion, _ question: Question, _ scratch: PredictionScratch)
        -> AnswerFailure?
    {
        let route = question.route
        if let score = route.precomputed?.score(scratch.vector, version.binding, at: question.time) {
            scratch.record.output = [score]
            scratch.record.origin = .precomputed
            return nil
        }
        if let name = route.missingFeature(scratch.vector, version.binding) {
            return AnswerFailure(.missingFeatures, "'\(name)' has no value")
        }
        guard let cache = route.cache else { return score(version, scratch) }
        scratch.fillRow()
        if let output = cache.output(version: version.number, row: scratch.row, at: question.time) {
            scratch.record.output = output
            scratch.record.origin = .cache
            return nil
        }
        if let failure = score(version, scratch) { return failure }
        cache.remember(scratch.record.output, version: version.number, row: scratch.row, at: question.time)
        return nil
    }

    /// Goes along the fallback chain; leaves the output in the record, empty where no step answers.
    /// - Returns: the version that computed it, if one did; the vector is then that of its service.
    func answerInstead(
        _ failure: AnswerFailure, of version: ServedVersion, _ instance: Instance, _ question: Question,
        _ scratch: PredictionScratch
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
                    guard other !== version, !question.isOver(at: ContinuousClock.now), assemble(other.binding),
                        route.missingFeature(scratch.vector, other.binding) == nil,
                        Self.score(other, scratch) == nil
                    else { continue }
                    answering = other
                    output = scratch.record.output
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
