import Definitions
public import PlatformCore
import RuntimePorts
import Synchronization

/// Answers prediction requests: validate, choose a variant, read features, score, hand to the log.
///
/// Synchronous and free of disk waits, to be called on event loops.
public final class Predictor: Sendable {
    /// Where requests go.
    public let routes: RouteTable
    /// Takes what was answered.
    public let log: PredictionLog
    /// What was measured.
    public let metrics: ServingMetrics
    /// Who is let in.
    public let admission: Admission
    let clock: any PlatformClock
    private let identifiers: IdentifierSource

    /// Most instances in one request.
    public static let instanceCountMax = 1000

    /// Makes a predictor.
    public init(
        routes: RouteTable, log: PredictionLog, metrics: ServingMetrics, clock: any PlatformClock,
        identifiers: IdentifierSource, admission: Admission = Admission()
    ) {
        self.routes = routes
        self.log = log
        self.metrics = metrics
        self.clock = clock
        self.admission = admission
        self.identifiers = identifiers
    }

    /// Answers one request body.
    ///
    /// - Parameters:
    ///   - scratch: kept by the caller from request to request, so that few of them allocate; used by one at a time.
    ///   - explaining: whether explanations can be had here.
    public func answer(
        model: String, body: UnsafeRawBufferPointer, caller: String, scratch: PredictionScratch,
        explaining: Explaining = .left
    ) -> Answer {
        answer(
            model: model, body: body, terms: RequestTerms(caller: caller, explaining: explaining), scratch: scratch)
    }

    /// Answers one request body on the terms of its sender; one whose answer has to be waited for is left (`Answer.isLeft`)
    /// to `answerLater`.
    ///
    /// - Parameters:
    ///   - pressure: how much is refused by priority, see `Admission`.
    ///   - scratch: kept by the caller from request to request, so that few of them allocate; used by one at a time.
    public func answer(
        model: String, body: UnsafeRawBufferPointer, terms: RequestTerms, pressure: Int = 0, scratch: PredictionScratch
    ) -> Answer {
        let start = ContinuousClock.now
        do {
            let route = try route(model)
            if route.isDeferred { return .left }
            let (question, ticket) = try admit(route, terms, start: start, pressure: pressure)
            var answer = answer(question, model: model, body: body, terms: terms, scratch: scratch)
            answer.deadline = question.deadline
            answer.ticket = ticket
            return answer
        } catch { return refusal(error, model: model) }
    }

    /// Who answers for a model.
    /// - Throws: `notFound` where no deployment serves it.
    public func route(_ model: String) throws(PlatformError) -> DeploymentRoute {
        if let route = routes.route(model) { return route }
        let near = nearestName(to: model, among: routes.routes().keys)
        throw PlatformError(
            .notFound, "model/\(model.prefix(128))",
            "no deployment serves it; " + (near.map { "did you mean '\($0)'?" } ?? "'bottega deploy' makes one"))
    }

    /// Lets a request in, whichever way it came; the caller counts and words what is thrown.
    ///
    /// - Parameters:
    ///   - version: the version that is to answer whatever the shares are; `nil` leaves it to the deployment.
    ///   - pressure: how much is refused by priority, see `Admission`.
    /// - Throws: `invalidInput` for terms with a fault, `notFound` for a version that answers nobody, `overloaded` where
    ///   there are too many requests.
    func admit(
        _ route: DeploymentRoute, version: Int? = nil, _ terms: RequestTerms, start: ContinuousClock.Instant,
        pressure: Int
    ) throws(PlatformError) -> (question: Question, ticket: AdmissionTicket?) {
        if let fault = terms.fault { throw PlatformError(.invalidInput, fault.field, fault.message) }
        if let version, route.variant(of: version) == nil {
            throw PlatformError(
                .notFound, "model/\(route.definition.model)", "version \(version) does not answer requests")
        }
        let promise = route.definition.promise
        let priority = terms.priority ?? promise.priority
        if let reason = admission.refusal(priority, pressure: pressure) { throw overloaded(route, priority, reason) }
        var ticket: AdmissionTicket?
        if let most = promise.concurrencyMax {
            ticket = routes.limit(route.definition.model.text).enter(priority, of: most)
            if ticket == nil { throw overloaded(route, priority, "the deployment has too many requests in hand") }
        }
        var deadline = terms.deadline
        if let timeout = route.timeout, !terms.hasTime { deadline = min(deadline ?? start + timeout, start + timeout) }
        let question = Question(
            route: route, time: clock.now(), start: start, caller: terms.caller, deadline: deadline, version: version)
        return (question, ticket)
    }

    private func answer(
        _ question: Question, model: String, body: UnsafeRawBufferPointer, terms: RequestTerms,
        scratch: PredictionScratch
    ) -> Answer {
        if body.count <= Self.quickByteCountMax, terms.explaining != .always,
            case .success(let entry)? = predict(.bytes(body), question, scratch)
        {
            if scratch.isUnansweredForTime { return tooLate(model, [entry], question) }
            var out: [UInt8] = []
            out.reserveCapacity(256)
            let ages = terms.withAges ? scratch.binding : nil
            scratch.withRecord { Self.write($0, agesOf: ages, withLatency: terms.withLatency, to: &out) }
            return Answer(
                status: scratch.isUnanswered ? 503 : 200, body: out, entries: [entry],
                logPolicy: question.route.definition.predictionLog)
        }
        return answerWhole(question, model: model, body: body, scratch: scratch, terms: terms)
    }

    /// Largest body that is tried the quick way.
    private static let quickByteCountMax = 64 << 10

    /// What is the same for all instances of a request.
    struct Question {
        let route: DeploymentRoute
        let time: EventTime
        let start: ContinuousClock.Instant
        let caller: String
        let deadline: ContinuousClock.Instant?
        /// The version that is to answer whatever the shares are; `nil` mostly.
        var version: Int?

        /// Whether the time of the request is over at a moment.
        func isOver(at moment: ContinuousClock.Instant) -> Bool { deadline.map { moment >= $0 } ?? false }
    }

    struct Faults: Error { let faults: [FieldFault] }
    /// An instance that is ready to be scored: its inputs are in a scratch, its variant is chosen.
    struct Assembled {
        let version: ServedVersion
        let choice: PredictionRecord.Choice
        /// Why no model can be asked; `nil` when one can.
        let failure: AnswerFailure?
        let begin: ContinuousClock.Instant
        let end: ContinuousClock.Instant
    }

    /// Predicts one instance; leaves its record and the binding that read it in `scratch`.
    ///
    /// `nil` if the quick way does not take it.
    func predict(_ instance: Instance, _ question: Question, _ scratch: PredictionScratch)
        -> Result<PredictionLogEntry, Faults>?
    {
        guard let assembling = assemble(instance, question, scratch) else { return nil }
        switch assembling {
        case .failure(let faults): return .failure(faults)
        case .success(let assembled):
            var failure = assembled.failure
            if failure == nil {
                failure =
                    question.route.asksModelAtOnce
                    ? Self.score(assembled.version, scratch) : Self.lookUpOrScore(assembled.version, question, scratch)
            }
            return .success(complete(assembled, question, failure, instance, scratch))
        }
    }

    /// Reads one instance into `scratch` and chooses who answers; `nil` if the quick way does not take it.
    func assemble(_ instance: Instance, _ question: Question, _ scratch: PredictionScratch)
        -> Result<Assembled, Faults>?
    {
        let route = question.route
        let primary = route.variants[0].version
        let begin = ContinuousClock.now
        var version = primary
        var choice = PredictionRecord.Choice.primary
        var failure: AnswerFailure?
        do {
            guard let faults = try instance.assemble(primary.binding, asOf: question.time, into: &scratch.vector) else {
                return nil
            }
            guard faults.isEmpty else { return .failure(Faults(faults: faults)) }
            if route.isSplit || question.version != nil {
                let chosen =
                    question.version.flatMap(route.variant(of:))
                    ?? route.choose(scratch.vector.keys, inputs: scratch.vector.inputs)
                (version, choice) = (chosen.variant.version, chosen.choice)
                if version.binding !== primary.binding {  // another feature service: its own reading
                    guard let more = try instance.assemble(version.binding, asOf: question.time, into: &scratch.vector)
                    else { return nil }
                    guard more.isEmpty else { return .failure(Faults(faults: more)) }
                }
            }
        } catch {
            failure = AnswerFailure(features: error)
        }
        scratch.record.origin = .model
        scratch.record.fallback = nil
        let end = ContinuousClock.now
        if failure == nil, question.isOver(at: end) { failure = .late }
        return .success(Assembled(version: version, choice: choice, failure: failure, begin: begin, end: end))
    }

    /// Makes the record of a scored instance, with the fallback's output where there was a failure.
    ///
    /// - Parameter known: outputs of versions of the fallback that were waited for, by number.
    func complete(
        _ assembled: Assembled, _ question: Question, _ failure: AnswerFailure?, _ instance: Instance,
        known: [Int: [Float]] = [:], _ scratch: PredictionScratch
    ) -> PredictionLogEntry {
        let (route, version) = (question.route, assembled.version)
        var (choice, failure) = (assembled.choice, failure)
        var done = ContinuousClock.now
        if failure == nil, question.isOver(at: done) { failure = .late }
        var answering: ServedVersion?
        if let failure {
            choice = .fallback
            scratch.record.origin = .model
            answering = answerInstead(failure, of: version, instance, question, known: known, scratch)
            done = ContinuousClock.now
        }
        let binding = (answering ?? version).binding
        scratch.binding = binding
        scratch.takeInputs(joinKeys: binding.definition.joinKeys)
        let artifact =
            choice == .fallback
            ? answering?.artifactText ?? "" : scratch.record.origin == .precomputed ? "" : version.artifactText
        return scratch.withRecord { record in
            record.id = identifiers.next(at: question.time)
            record.time = question.time
            Self.set(&record.model, version.model.text)
            record.version = version.number
            Self.set(&record.artifact, artifact)
            record.policyRevision = route.revision
            record.choice = choice
            Self.set(&record.serviceVersion, binding.versionText)
            Self.set(&record.fallbackReason, failure?.message ?? "")
            record.latency = .init(
                features: Self.microseconds(assembled.end - assembled.begin),
                score: Self.microseconds(done - assembled.end), total: Self.microseconds(done - question.start))
            Self.set(&record.caller, question.caller)
            record.isVersionNamed = question.version != nil
            metrics.count(record)
            return PredictionLogEntry(record: record, shadows: route.shadows(of: record.id))
        }
    }

    /// Takes a text over unless it is there already, as it mostly is from the request before: every event loop would count the
    /// references to the same few texts up and down.
    private static func set(_ target: inout String, _ text: String) {
        if target != text { target = text }
    }

    static func microseconds(_ duration: Duration) -> UInt32 {
        // Up to nine seconds without a division of 128 bits.
        if let attoseconds = Int64(exactly: duration.attoseconds) {
            return UInt32(clamping: attoseconds / 1_000_000_000_000)
        }
        let (seconds, attoseconds) = duration.components
        return UInt32(clamping: seconds * 1_000_000 + attoseconds / 1_000_000_000_000)
    }
}
