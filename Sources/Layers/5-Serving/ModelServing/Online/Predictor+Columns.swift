public import Definitions
public import PlatformCore

/// One prediction as callers of tensors get it.
public struct ColumnPrediction: Sendable, Hashable {
    /// Its identifier in the log.
    public let id: String
    /// Version that answered; 0 where none did.
    public let version: Int
    /// Why this variant.
    public let choice: PredictionRecord.Choice
    /// Outputs of the model, or the fallback's one number; none where there is no fallback.
    public let output: [Float]
    /// The only output, or the number of the most probable class; `nil` where nothing answered.
    public let prediction: Float?
    /// Why the fallback answered; empty otherwise.
    public let fallbackReason: String
    /// Where the time went.
    public let latency: PredictionRecord.Latency

    /// What a caller gets of a record.
    init(_ record: PredictionRecord) {
        id = record.id
        version = record.choice == .fallback ? record.fallback?.version ?? 0 : record.version
        choice = record.choice
        output = record.output
        prediction = record.prediction
        fallbackReason = record.fallbackReason
        latency = record.latency
    }
}

extension Predictor {
    private func overloaded(_ model: String, _ priority: RequestPriority, _ reason: String) -> PlatformError {
        metrics.countRefused(model: model, status: 429)
        metrics.countShed(model: model, priority: priority)
        return PlatformError(.overloaded, "model/\(model)", "\(reason); try again in a second")
    }

    /// What became of the instances of one request.
    public struct ColumnAnswer: Sendable {
        /// One for each instance, in order.
        public let predictions: [ColumnPrediction]
        /// For the log.
        public let entries: [PredictionLogEntry]
        /// What the answer owes the log.
        public let logPolicy: PredictionLogPolicy
    }

    /// Predicts every instance of `columns`: the same checks, variants, fallback, shadows and records as of a request in JSON.
    ///
    /// - Parameters:
    ///   - version: the version that is to answer, one of those that the deployment's variants are; `nil` leaves the choice
    ///     to the deployment.
    ///   - scratch: as for `answer`.
    /// - Throws: `notFound` where no deployment serves the model or the version; `invalidInput` with a line for each bad field.
    public func predict(
        model: String, version: Int?, columns: InputColumns, caller: String, scratch: PredictionScratch
    ) throws(PlatformError) -> ColumnAnswer {
        let (question, ticket) = try open(model, version: version, caller: caller)
        defer { withExtendedLifetime(ticket) {} }
        var predictions: [ColumnPrediction] = []
        var entries: [PredictionLogEntry] = []
        predictions.reserveCapacity(columns.rowCount)
        entries.reserveCapacity(columns.rowCount)
        var faults: [(Int, FieldFault)] = []
        for row in 0..<columns.rowCount where faults.count < 100 {
            switch predict(.row(columns, row), question, scratch) {
            case .success(let entry)?:
                entries.append(entry)
                predictions.append(ColumnPrediction(scratch.record))
            case .failure(let fault)?: faults += fault.faults.map { (row, $0) }
            case nil: break
            }
        }
        guard faults.isEmpty else { throw wrong(faults, model, columns) }
        return ColumnAnswer(
            predictions: predictions, entries: entries, logPolicy: question.route.definition.predictionLog)
    }

    /// The same, whichever models are deployed: waits for those that answer later.
    public func predictLater(model: String, version: Int?, columns: InputColumns, caller: String)
        async throws(PlatformError) -> ColumnAnswer
    {
        guard let route = routes.route(model), route.isDeferred else {
            return try predict(
                model: model, version: version, columns: columns, caller: caller, scratch: PredictionScratch())
        }
        let (question, ticket) = try open(model, version: version, caller: caller)
        defer { withExtendedLifetime(ticket) {} }
        admission.beginWaiting()
        defer { admission.endWaiting() }
        switch await settle((0..<columns.rowCount).map { .row(columns, $0) }, question) {
        case .failure(let wrongs): throw wrong(wrongs.faults, model, columns)
        case .success(let pending):
            var predictions: [ColumnPrediction] = []
            let entries = pending.map { next in
                let entry = complete(
                    next.assembled, question, next.failure, next.instance, known: next.known, next.scratch)
                predictions.append(ColumnPrediction(next.scratch.record))
                return entry
            }
            return ColumnAnswer(
                predictions: predictions, entries: entries, logPolicy: question.route.definition.predictionLog)
        }
    }

    /// Lets a request in, or says why not.
    private func open(_ model: String, version: Int?, caller: String) throws(PlatformError)
        -> (Question, AdmissionTicket?)
    {
        let start = ContinuousClock.now
        guard let route = routes.route(model) else {
            metrics.countRefused(model: "", status: 404)
            throw PlatformError(.notFound, "model/\(model.prefix(128))", "no deployment serves it")
        }
        if let version, !route.variants.contains(where: { $0.version.number == version }) {
            metrics.countRefused(model: model, status: 404)
            throw PlatformError(.notFound, "model/\(model)", "version \(version) does not answer requests")
        }
        let promise = route.definition.promise
        var ticket: AdmissionTicket?
        if let reason = admission.refusal(promise.priority, pressure: admission.pressure) {
            throw overloaded(model, promise.priority, reason)
        }
        if let most = promise.concurrencyMax {
            ticket = routes.limit(model).enter(promise.priority, of: most)
            if ticket == nil {
                throw overloaded(model, promise.priority, "the deployment has too many requests in hand")
            }
        }
        return (
            Question(
                route: route, time: now(), start: start, caller: caller, deadline: route.timeout.map { start + $0 },
                version: version), ticket
        )
    }

    private func wrong(_ faults: [(Int, FieldFault)], _ model: String, _ columns: InputColumns) -> PlatformError {
        metrics.countRefused(model: model, status: 400)
        let lines = faults.prefix(100).map { row, fault in
            "\(columns.rowCount > 1 ? "instances[\(row)]." : "")\(fault.field): \(fault.message)"
        }
        return PlatformError(.invalidInput, "model/\(model)", lines.joined(separator: "\n"))
    }
}
