public import Definitions
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

    /// An answer, and what has to reach the log before it may leave.
    public struct Answer: Sendable {
        /// HTTP status.
        public let status: Int
        /// JSON.
        public let body: [UInt8]
        /// For the log; empty for refused requests.
        public let entries: [PredictionLogEntry]
        /// What the answer owes the log.
        public let logPolicy: PredictionLogPolicy
        /// Header fields beside its length; empty for those of JSON.
        public private(set) var headers: [(name: String, value: String)] = []
        /// Seconds after which a refused caller may try again; 0 where that is not said.
        public var retryAfterSeconds = 0
        /// Until when it has to be given; `nil` for no bound.
        public internal(set) var deadline: ContinuousClock.Instant?
        /// The request's place among those in hand; to be kept until the answer is given.
        var ticket: AdmissionTicket?
        /// Whether this is no answer: the request is to be answered elsewhere (`Explaining.left`, `prepare`).
        public var isLeft: Bool { status == 0 }

        /// How a failure after the prediction is worded.
        private(set) var failureBody: @Sendable (PlatformError) -> [UInt8] = Predictor.errorBody

        /// No answer: the request is to be answered elsewhere.
        public static let left = Answer(status: 0, body: [], entries: [], logPolicy: .shed)

        init(
            status: Int, body: [UInt8], entries: [PredictionLogEntry], logPolicy: PredictionLogPolicy
        ) {
            self.status = status
            self.body = body
            self.entries = entries
            self.logPolicy = logPolicy
        }

        /// An answer in other words than those of `/predict`.
        ///
        /// - Parameters:
        ///   - columns: what was predicted; `nil` for a request that was refused.
        ///   - failureBody: how a failure after the prediction is worded.
        public init(
            status: Int, headers: [(name: String, value: String)], body: [UInt8], columns: ColumnAnswer?,
            failureBody: @escaping @Sendable (PlatformError) -> [UInt8]
        ) {
            self.init(
                status: status, body: body, entries: columns?.entries ?? [], logPolicy: columns?.logPolicy ?? .shed)
            self.headers = headers
            self.failureBody = failureBody
            deadline = columns?.deadline
            ticket = columns?.ticket
        }
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
    func route(_ model: String) throws(PlatformError) -> DeploymentRoute {
        if let route = routes.route(model) { return route }
        throw PlatformError(
            .notFound, "model/\(model.prefix(128))", "no deployment serves it; 'bottega deploy' makes one")
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

    /// Seconds after which a caller who was refused for load may try again.
    public static let retryAfterSeconds = 1

    private func overloaded(_ route: DeploymentRoute, _ priority: RequestPriority, _ reason: String) -> PlatformError {
        let model = route.definition.model.text
        metrics.countShed(model: model, priority: priority)
        return PlatformError(
            .overloaded, "predict/\(model)", "\(reason); try again in a second, or say 'X-Priority: high'")
    }

    /// Counts and words a refusal.
    func refusal(_ error: PlatformError, model: String) -> Answer {
        let status =
            switch error.code {
            case .notFound: 404
            case .overloaded: 429
            default: 422
            }
        metrics.countRefused(model: error.code == .notFound ? "" : model, status: status)
        var answer = refusal(status, error.code, error.subject, error.message)
        if error.code == .overloaded { answer.retryAfterSeconds = Self.retryAfterSeconds }
        return answer
    }

    private func answer(
        _ question: Question, model: String, body: UnsafeRawBufferPointer, terms: RequestTerms,
        scratch: PredictionScratch
    ) -> Answer {
        if body.count <= Self.quickByteCountMax, terms.explaining != .always,
            case .success(let entry)? = predict(.bytes(body), question, scratch)
        {
            if scratch.record.isUnansweredForTime { return tooLate(model, [entry], question) }
            var out: [UInt8] = []
            out.reserveCapacity(256)
            let ages = terms.withAges ? scratch.binding : nil
            scratch.withRecord { Self.write($0, agesOf: ages, withLatency: terms.withLatency, to: &out) }
            return Answer(
                status: scratch.record.isUnanswered ? 503 : 200, body: out, entries: [entry],
                logPolicy: question.route.definition.predictionLog)
        }
        return answerWhole(question, model: model, body: body, scratch: scratch, terms: terms)
    }

    /// What is said instead of an answer for whose record the log had no room in the request's time.
    ///
    /// `nil` while there is time. No record is kept of it, and it is counted as refused; what waits for the disk may still come into
    /// the log.
    public func refusalOfLate(_ answer: Answer) -> Answer? {
        lateness(answer.deadline).map {
            Answer(status: 504, body: answer.failureBody($0), entries: [], logPolicy: .shed)
        }
    }

    /// That the log had no room for a record until `deadline`, counted; `nil` while there is time.
    public func lateness(_ deadline: ContinuousClock.Instant?) -> PlatformError? {
        guard let deadline, ContinuousClock.now >= deadline else { return nil }
        metrics.countRefused(model: "", status: 504)
        return PlatformError(
            .deadlineExceeded, "prediction log",
            "the record of the prediction was not there in the time of the request")
    }

    /// Says that no answer came in time; what is known of the request is in the log all the same.
    func tooLate(_ model: String, _ entries: [PredictionLogEntry], _ question: Question) -> Answer {
        let body = Self.errorBody(Self.noAnswerInTime(model))
        return Answer(
            status: 504, body: body, entries: entries, logPolicy: question.route.definition.predictionLog)
    }

    static func noAnswerInTime(_ model: String) -> PlatformError {
        PlatformError(
            .deadlineExceeded, "predict/\(model)",
            "no answer in the time of the request, and no fallback answers for it")
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

    /// Answers a request of any form: batches, ages, explanations, and whatever has a fault to be worded.
    private func answerWhole(
        _ question: Question, model: String, body: UnsafeRawBufferPointer, scratch: PredictionScratch,
        terms: RequestTerms
    ) -> Answer {
        let form: Form
        switch read(body, question, model: model, terms: terms) {
        case .success(let read): form = read
        case .failure(let refused): return refused.answer
        }
        let (instances, isBatch, withAges) = (form.instances, form.isBatch, form.withAges)
        let withExplanations = form.withExplanations
        if terms.explaining == .left, !question.route.isReady(for: instances) { return .left }
        var out: [UInt8] = []
        out.reserveCapacity(256 * instances.count)
        if isBatch { out.append(contentsOf: "{\"predictions\":[".utf8) }
        var entries: [PredictionLogEntry] = []
        entries.reserveCapacity(instances.count)
        var faults: [(Int, FieldFault)] = []
        var (isUnanswered, isTooLate) = (false, false)
        for (index, instance) in instances.enumerated() {
            switch predict(.value(instance), question, scratch) {
            case .success(let entry)?:
                if index > 0 { out.append(0x2C) }
                var explanation: JSONValue?
                if withExplanations, faults.isEmpty {
                    do { explanation = try question.route.explain(scratch.record) } catch {
                        metrics.countRefused(model: model, status: 422)
                        return refusal(422, .invalidInput, "explain", error.message)
                    }
                }
                if faults.isEmpty {
                    Self.write(
                        scratch.record, agesOf: withAges ? scratch.binding : nil,
                        withLatency: form.withLatency, explanation: explanation, to: &out)
                }
                entries.append(entry)
                isUnanswered = isUnanswered || scratch.record.isUnanswered
                isTooLate = isTooLate || scratch.record.isUnansweredForTime
            case .failure(let fault)?: faults += fault.faults.map { (index, $0) }
            case nil: break
            }
        }
        guard faults.isEmpty else {
            metrics.countRefused(model: model, status: 422)
            return refusal(faults, isBatch: isBatch, model: model)
        }
        if isTooLate { return tooLate(model, entries, question) }
        if isBatch { out.append(contentsOf: "]}".utf8) }
        return Answer(
            status: isUnanswered ? 503 : 200, body: out, entries: entries,
            logPolicy: question.route.definition.predictionLog)
    }

    /// What a request of any form asks for.
    struct Form {
        let instances: [JSONValue]
        let isBatch: Bool
        let withAges: Bool
        let withExplanations: Bool
        let withLatency: Bool
    }
    struct Refused: Error { let answer: Answer }

    /// Reads a request of any form.
    func read(_ body: UnsafeRawBufferPointer, _ question: Question, model: String, terms: RequestTerms)
        -> Result<Form, Refused>
    {
        func refused(_ status: Int, _ code: PlatformError.Code, _ subject: String, _ message: String)
            -> Result<Form, Refused>
        {
            .failure(Refused(answer: refusal(status, code, subject, message)))
        }
        let explaining = terms.explaining
        var request: JSONValue
        do {
            request = try JSONValue.parse(Array(body)[...], limits: JSONLimits(byteCountMax: 4 << 20, depthMax: 16))
        } catch {
            metrics.countRefused(model: model, status: 400)
            return refused(400, .invalidInput, "request body", error.description)
        }
        var flags = ["ages": terms.withAges, "explain": explaining == .always, "latency": terms.withLatency]
        if case .object(var members) = request {
            for name in ["ages", "explain", "latency"] {
                guard let wanted = members.removeValue(forKey: name) else { continue }
                guard case .bool(let flag) = wanted else {
                    metrics.countRefused(model: model, status: 422)
                    return refused(422, .invalidInput, name, "true or false is expected, not \(wanted.kindName)")
                }
                flags[name] = flag
            }
            request = .object(members)
        }
        let (withAges, withExplanations) = (flags["ages"] == true, flags["explain"] == true)
        if withExplanations, explaining == .left { return .failure(Refused(answer: .left)) }
        var instances = [request]
        var isBatch = false
        if let list = request["instances"] {
            guard let elements = list.arrayValue, 1...Self.instanceCountMax ~= elements.count else {
                metrics.countRefused(model: model, status: 422)
                return refused(
                    422, .invalidInput, "instances", "a list of 1 to \(Self.instanceCountMax) instances is expected")
            }
            instances = elements
            isBatch = true
        }
        if withExplanations, let refusal = refusalToExplain(instances.count, question.route) {
            return .failure(Refused(answer: refusal))
        }
        return .success(
            Form(
                instances: instances, isBatch: isBatch, withAges: withAges, withExplanations: withExplanations,
                withLatency: flags["latency"] == true))
    }

    private func refusalToExplain(_ count: Int, _ route: DeploymentRoute) -> Answer? {
        var reason = "up to \(Self.explainedInstanceCountMax) instances are explained in one request, not \(count)"
        if count <= Self.explainedInstanceCountMax {
            do {
                try route.checkExplaining()
                return nil
            } catch { reason = error.message }
        }
        metrics.countRefused(model: route.definition.model.text, status: 422)
        return refusal(422, .invalidInput, "explain", reason)
    }

    struct Faults: Error { let faults: [FieldFault] }
    /// One instance of a request: its bytes, to be tried the quick way, its value, or a row of columns.
    enum Instance {
        case bytes(UnsafeRawBufferPointer)
        case value(JSONValue)
        case row(InputColumns, Int)

        /// Turns it into the input of a service: the faults, none for a good one; `nil` if the quick way does not take it.
        func assemble(_ binding: ServiceBinding, asOf: EventTime, into vector: inout InputVector)
            throws(PlatformError) -> [FieldFault]?
        {
            switch self {
            case .bytes(let bytes): try binding.assembleQuickly(bytes, asOf: asOf, into: &vector) ? [] : nil
            case .value(let value): try binding.assemble(value, asOf: asOf, into: &vector)
            case .row(let columns, let row): try binding.assemble(columns, row: row, asOf: asOf, into: &vector)
            }
        }

        /// The same, where the quick way's no is none.
        func assembleSlowly(_ binding: ServiceBinding, asOf: EventTime, into vector: inout InputVector)
            throws(PlatformError) -> [FieldFault]
        {
            if let faults = try assemble(binding, asOf: asOf, into: &vector) { return faults }
            guard case .bytes(let bytes) = self, let value = try? JSONValue.parse(Array(bytes)[...]) else {
                return [FieldFault(field: "", message: "it cannot be read")]
            }
            return try binding.assemble(value, asOf: asOf, into: &vector)
        }
    }

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
            record.id = identifiers.next()
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

    // MARK: JSON out

    /// Appends one answer.
    ///
    /// `prediction` is the probability of the positive class, the value, or the most probable class.
    /// - Parameters:
    ///   - binding: names the features whose ages are told too: milliseconds since the newest event behind each.
    ///   - withLatency: whether it is told where the time went.
    ///   - explanation: told too; null for a fallback, which no model computed.
    static func write(
        _ record: PredictionRecord, agesOf binding: ServiceBinding? = nil, withLatency: Bool = false,
        explanation: JSONValue? = nil, to out: inout [UInt8]
    ) {
        out.append(contentsOf: "{\"prediction\":".utf8)
        if record.output.count > 1 {
            let best = record.output.indices.max { record.output[$0] < record.output[$1] } ?? 0
            out.append(contentsOf: String(best).utf8)
            out.append(contentsOf: ",\"probabilities\":[".utf8)
            for (index, value) in record.output.enumerated() {
                if index > 0 { out.append(0x2C) }
                write(value, to: &out)
            }
            out.append(0x5D)
        } else if let value = record.output.first {
            write(value, to: &out)
        } else {
            out.append(contentsOf: "null".utf8)
        }
        out.append(contentsOf: ",\"model\":\"".utf8)
        out.append(contentsOf: record.model.utf8)  // a Name: nothing to escape
        out.append(contentsOf: "\",\"model_version\":".utf8)
        out.append(contentsOf: String(record.choice == .fallback ? record.fallback?.version ?? 0 : record.version).utf8)
        out.append(contentsOf: ",\"variant\":\"".utf8)
        out.append(contentsOf: record.choice.word.utf8)
        out.append(contentsOf: "\",\"prediction_id\":\"".utf8)
        out.append(contentsOf: record.id.utf8)
        out.append(contentsOf: "\",\"fallback\":".utf8)
        if record.choice == .fallback {
            out.append(contentsOf: "true,\"fallback_reason\":".utf8)
            JSONValue.write(record.fallbackReason, to: &out)
            if let fallback = record.fallback {
                out.append(contentsOf: ",\"fallback_cause\":\"\(fallback.cause.rawValue)\",\"fallback_step\":".utf8)
                out.append(contentsOf: (fallback.step.isEmpty ? "null" : "\"\(fallback.step)\"").utf8)
            }
        } else {
            out.append(contentsOf: "false".utf8)
        }
        switch record.origin {
        case .model: break
        case .cache: out.append(contentsOf: ",\"cached\":true".utf8)
        case .precomputed: out.append(contentsOf: ",\"precomputed\":true".utf8)
        }
        if withLatency {
            let latency = record.latency
            out.append(
                contentsOf:
                    ",\"latency_microseconds\":{\"features\":\(latency.features),\"score\":\(latency.score),\"total\":\(latency.total)}"
                    .utf8)
        }
        if let binding {
            out.append(contentsOf: ",\"feature_ages\":{".utf8)
            let first = binding.definition.request.count
            for (index, feature) in binding.definition.features.enumerated() {
                if index > 0 { out.append(0x2C) }
                JSONValue.write(feature.servedName, to: &out)
                out.append(0x3A)
                let age = record.ages[first + index]
                out.append(contentsOf: (age < 0 ? "null" : String(age)).utf8)
            }
            out.append(0x7D)
        }
        if let explanation {
            out.append(contentsOf: ",\"explanation\":".utf8)
            out.append(contentsOf: explanation.canonicalBytes)
        }
        out.append(0x7D)
    }

    private static func write(_ value: Float, to out: inout [UInt8]) {
        if value.isFinite {
            out.append(contentsOf: value.description.utf8)
        } else {
            out.append(contentsOf: "null".utf8)
        }
    }

    func refusal(_ status: Int, _ code: PlatformError.Code, _ subject: String, _ message: String) -> Answer {
        Answer(status: status, body: Self.errorBody(code, subject, message), entries: [], logPolicy: .shed)
    }

    static func errorBody(_ error: PlatformError) -> [UInt8] { errorBody(error.code, error.subject, error.message) }

    static func errorBody(_ code: PlatformError.Code, _ subject: String, _ message: String) -> [UInt8] {
        let error: JSONValue = [
            "error": ["code": .string(code.rawValue), "subject": .string(subject), "message": .string(message)]
        ]
        return error.canonicalBytes
    }

    func refusal(_ faults: [(Int, FieldFault)], isBatch: Bool, model: String) -> Answer {
        let fields: [JSONValue] = faults.prefix(100).map { index, fault in
            [
                "field": .string(isBatch ? "instances[\(index)].\(fault.field)" : fault.field),
                "message": .string(fault.message),
            ]
        }
        let summary = fields.map { "\($0["field"]?.stringValue ?? ""): \($0["message"]?.stringValue ?? "")" }
        let error: JSONValue = [
            "error": [
                "code": "invalid_input", "subject": .string("predict/\(model)"),
                "message": .string(summary.joined(separator: "\n")), "fields": .array(fields),
            ]
        ]
        return Answer(status: 422, body: error.canonicalBytes, entries: [], logPolicy: .shed)
    }
}
