public import Definitions
public import PlatformCore

/// One prediction as callers of tensors get it.
public struct ColumnPrediction: Sendable, Hashable {
    /// Its identifier in the log.
    public let id: String
    /// Version that answered; 0 for a fallback.
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
        version = record.choice == .fallback ? 0 : record.version
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
        defer { withExtendedLifetime(ticket) {} }
        let question = Question(
            route: route, time: now(), start: start, caller: caller, deadline: route.timeout.map { start + $0 },
            version: version)
        var predictions: [ColumnPrediction] = []
        var entries: [PredictionLogEntry] = []
        predictions.reserveCapacity(columns.rowCount)
        entries.reserveCapacity(columns.rowCount)
        var faults: [String] = []
        for row in 0..<columns.rowCount {
            switch predict(.row(columns, row), question, scratch) {
            case .success(let entry)?:
                entries.append(entry)
                predictions.append(ColumnPrediction(scratch.record))
            case .failure(let fault)?:
                let place = columns.rowCount > 1 ? "instances[\(row)]." : ""
                faults += fault.faults.map { "\(place)\($0.field): \($0.message)" }
            case nil: break
            }
            if faults.count >= 100 { break }
        }
        guard faults.isEmpty else {
            metrics.countRefused(model: model, status: 400)
            throw PlatformError(.invalidInput, "model/\(model)", faults.prefix(100).joined(separator: "\n"))
        }
        return ColumnAnswer(
            predictions: predictions, entries: entries, logPolicy: route.definition.predictionLog)
    }
}
