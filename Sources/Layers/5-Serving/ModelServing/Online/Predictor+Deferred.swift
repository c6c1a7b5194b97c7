import Definitions
import PlatformCore
import RuntimePorts

/// Answers that are waited for.
extension Predictor {
    /// Answers one request body, whichever models are deployed: waits for those that answer later.
    ///
    /// - Parameters:
    ///   - explaining: whether explanations can be had here.
    ///   - deadline: when nobody waits for the answer any more; `nil` for the models' own limits.
    public func answerLater(
        model: String, body: [UInt8], caller: String, explaining: Explaining,
        deadline: ContinuousClock.Instant? = nil
    ) async -> Answer {
        await answerLater(
            model: model, body: body,
            terms: RequestTerms(caller: caller, deadline: deadline, explaining: explaining))
    }

    /// Answers one request body on the terms of its sender, whichever models are deployed: waits for those that answer later.
    ///
    /// - Parameter pressure: how much is refused by priority, see `Admission`.
    public func answerLater(model: String, body: [UInt8], terms: RequestTerms, pressure: Int = 0) async -> Answer {
        let start = ContinuousClock.now
        guard let route = routes.route(model), route.isDeferred else {
            return body.withUnsafeBytes {
                self.answer(model: model, body: $0, terms: terms, pressure: pressure, scratch: PredictionScratch())
            }
        }
        let question: Question
        let ticket: AdmissionTicket?
        do { (question, ticket) = try admit(route, terms, start: start, pressure: pressure) } catch {
            return refusal(error, model: model)
        }
        var answer = await answerLater(question, model: model, body: body, terms: terms)
        answer.deadline = question.deadline
        answer.ticket = ticket
        return answer
    }

    /// An instance on its way through a deferred model.
    struct Pending {
        let assembled: Assembled
        let instance: Instance
        let scratch: PredictionScratch
        var failure: AnswerFailure?
        var isFound = false
        /// Outputs of the fallback's versions, by number.
        var known: [Int: [Float]] = [:]
    }

    private func answerLater(_ question: Question, model: String, body: [UInt8], terms: RequestTerms) async -> Answer {
        let form: Form
        switch body.withUnsafeBytes({ read($0, question, model: model, terms: terms) }) {
        case .success(let read): form = read
        case .failure(let refused): return refused.answer
        }
        switch await settle(form.instances.map(Instance.value), question) {
        case .success(let pending): return write(pending, form, question, model: model)
        case .failure(let wrong):
            metrics.countRefused(model: model, status: 422)
            return refusal(wrong.faults, isBatch: form.isBatch, model: model)
        }
    }

    /// What is wrong with some instances of a request, by their places.
    struct InstanceFaults: Error { let faults: [(Int, FieldFault)] }

    /// Reads instances and asks whoever is to answer each; `complete` then makes their records.
    func settle(_ instances: [Instance], _ question: Question) async -> Result<[Pending], InstanceFaults> {
        var pending: [Pending] = []
        pending.reserveCapacity(instances.count)
        var faults: [(Int, FieldFault)] = []
        for (index, instance) in instances.enumerated() {
            let scratch = PredictionScratch()
            switch assemble(instance, question, scratch) {
            case .success(let assembled)?:
                var next = Pending(
                    assembled: assembled, instance: instance, scratch: scratch, failure: assembled.failure)
                if next.failure == nil, !question.route.asksModelAtOnce {
                    switch Self.lookUp(assembled.version, question, scratch) {
                    case .found: next.isFound = true
                    case .failed(let failure): next.failure = failure
                    case .nothing: break
                    }
                }
                pending.append(next)
            case .failure(let fault)?: faults += fault.faults.map { (index, $0) }
            case nil: break
            }
        }
        guard faults.isEmpty else { return .failure(InstanceFaults(faults: faults)) }
        await score(&pending, question)
        for index in pending.indices where pending[index].failure != nil {
            await askFallbackVersions(&pending[index], question)
        }
        return .success(pending)
    }

    private func write(_ pending: [Pending], _ form: Form, _ question: Question, model: String) -> Answer {
        var out: [UInt8] = []
        out.reserveCapacity(256 * pending.count)
        if form.isBatch { out.append(contentsOf: "{\"predictions\":[".utf8) }
        var entries: [PredictionLogEntry] = []
        entries.reserveCapacity(pending.count)
        var (isUnanswered, isTooLate) = (false, false)
        for (index, next) in pending.enumerated() {
            let scratch = next.scratch
            entries.append(
                complete(next.assembled, question, next.failure, next.instance, known: next.known, scratch))
            if index > 0 { out.append(0x2C) }
            var explanation: JSONValue?
            if form.withExplanations { explanation = (try? question.route.explain(scratch.record)) ?? .null }
            Self.write(
                scratch.record, agesOf: form.withAges ? scratch.binding : nil, withLatency: form.withLatency,
                explanation: explanation, to: &out)
            isUnanswered = isUnanswered || scratch.isUnanswered
            isTooLate = isTooLate || scratch.isUnansweredForTime
        }
        if isTooLate { return tooLate(model, entries, question) }
        if form.isBatch { out.append(contentsOf: "]}".utf8) }
        return Answer(
            status: isUnanswered ? 503 : 200, body: out, entries: entries,
            logPolicy: question.route.definition.predictionLog)
    }

    /// Scores assembled instances, those of one version in one call; leaves outputs in the records, or why there are none.
    private func score(_ pending: inout [Pending], _ question: Question) async {
        var places: [Int: [Int]] = [:]
        for index in pending.indices where pending[index].failure == nil && !pending[index].isFound {
            places[pending[index].assembled.version.number, default: []].append(index)
        }
        for (_, indices) in places.sorted(by: { $0.key < $1.key }) {
            let version = pending[indices[0]].assembled.version
            var rows: [Float] = []
            rows.reserveCapacity(indices.count * version.binding.inputCount)
            for index in indices {
                pending[index].scratch.fillRow()
                rows += pending[index].scratch.row
            }
            let outcomes = await version.loaded.predictions(
                of: rows, rowCount: indices.count, deadline: question.deadline)
            for (outcome, index) in zip(outcomes, indices) {
                let scratch = pending[index].scratch
                switch outcome {
                case .failure(let error): pending[index].failure = AnswerFailure(model: error)
                case .success(let output):
                    scratch.record.output = output
                    if scratch.outputIsFinite {
                        Self.remember(version, question, scratch)
                    } else {
                        pending[index].failure = .noNumber
                    }
                }
            }
        }
    }

    /// Asks the versions of the fallback, in order, until one answers or another step does.
    private func askFallbackVersions(_ next: inout Pending, _ question: Question) async {
        let route = question.route
        guard let failure = next.failure, route.fallback.answers(failure.cause) else { return }
        for (step, _) in route.fallback.steps {
            guard case .version(let other) = step else {
                // A constant answers; an expression may not, and is asked again where the record is made.
                if case .constant = step { return }
                continue
            }
            guard other !== next.assembled.version, !question.isOver(at: ContinuousClock.now) else { continue }
            let scratch = PredictionScratch()
            let faults = try? next.instance.assembleSlowly(other.binding, asOf: question.time, into: &scratch.vector)
            guard let faults, faults.isEmpty, route.missingFeature(scratch.vector, other.binding) == nil else {
                continue
            }
            scratch.fillRow()
            guard
                let output = try? await other.loaded.prediction(
                    of: scratch.row, rowCount: 1, deadline: question.deadline), output.allSatisfy(\.isFinite)
            else { continue }
            next.known[other.number] = output
            return
        }
    }
}
