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
    init(_ record: borrowing PredictionRecord) {
        id = record.id
        version = record.choice == .fallback ? record.fallback?.version ?? 0 : record.version
        choice = record.choice
        output = record.output
        prediction = record.prediction
        fallbackReason = record.callersReason
        latency = record.latency
    }
}

extension Predictor {
    /// What became of the instances of one request.
    public struct ColumnAnswer: Sendable {
        /// One for each instance, in order.
        public let predictions: [ColumnPrediction]
        /// For the log.
        public let entries: [PredictionLogEntry]
        /// What the answer owes the log.
        public let logPolicy: PredictionLogPolicy
        /// Why there is no answer after all: `deadlineExceeded` or `unavailable`; the entries go to the log all the same.
        public let failure: PlatformError?
        /// Until when it has to be given; `nil` for no bound.
        public let deadline: ContinuousClock.Instant?
        /// The request's place among those in hand; to be kept until the answer is given.
        let ticket: AdmissionTicket?
    }

    /// Predicts every instance of `columns`: the same terms, checks, variants, fallback, shadows and records as of a request
    /// in JSON.
    ///
    /// - Parameters:
    ///   - version: the version that is to answer, one of those that the deployment's variants are; `nil` leaves the choice
    ///     to the deployment.
    ///   - pressure: how much is refused by priority, see `Admission`.
    ///   - scratch: as for `answer`.
    /// - Returns: `nil` where the answer has to be waited for, which `predictLater` does.
    /// - Throws: `notFound` where no deployment serves the model or the version; `invalidInput` with a line for each bad
    ///   field; `overloaded`.
    public func predict(
        model: String, version: Int?, columns: InputColumns, terms: RequestTerms, pressure: Int = 0,
        scratch: PredictionScratch
    ) throws(PlatformError) -> ColumnAnswer? {
        let start = ContinuousClock.now
        do {
            let route = try route(model)
            guard !route.isDeferred, route.isReady(for: columns) else { return nil }
            let (question, ticket) = try admit(route, version: version, terms, start: start, pressure: pressure)
            return try predict(columns, question, ticket, scratch)
        } catch { throw counted(error, model) }
    }

    /// The same, whichever models and features: prepares what takes long to read and waits for models that answer later.
    public func predictLater(
        model: String, version: Int?, columns: InputColumns, terms: RequestTerms, pressure: Int = 0
    ) async throws(PlatformError) -> ColumnAnswer {
        let start = ContinuousClock.now
        do throws(PlatformError) {
            let route = try route(model)
            let (question, ticket) = try admit(route, version: version, terms, start: start, pressure: pressure)
            await prepare(route, columns)
            guard route.isDeferred else { return try predict(columns, question, ticket, PredictionScratch()) }
            switch await settle((0..<columns.rowCount).map { .row(columns, $0) }, question) {
            case .failure(let wrongs): throw wrong(wrongs.faults, model, columns)
            case .success(let pending):
                var gathered = Gathered(count: pending.count)
                for next in pending {
                    let entry = complete(
                        next.assembled, question, next.failure, next.instance, known: next.known, next.scratch)
                    next.scratch.withRecord { gathered.add(entry, $0, model) }
                }
                return gathered.answer(question, ticket)
            }
        } catch { throw counted(error, model) }
    }

    private func predict(
        _ columns: InputColumns, _ question: Question, _ ticket: AdmissionTicket?, _ scratch: PredictionScratch
    ) throws(PlatformError) -> ColumnAnswer {
        let model = question.route.definition.model.text
        var gathered = Gathered(count: columns.rowCount)
        var faults: [(Int, FieldFault)] = []
        for row in 0..<columns.rowCount where faults.count < 100 {
            switch predict(.row(columns, row), question, scratch) {
            case .success(let entry)?: scratch.withRecord { gathered.add(entry, $0, model) }
            case .failure(let fault)?: faults += fault.faults.map { (row, $0) }
            case nil: break
            }
        }
        guard faults.isEmpty else { throw wrong(faults, model, columns) }
        return gathered.answer(question, ticket)
    }

    /// An answer in the making.
    private struct Gathered {
        private var predictions: [ColumnPrediction] = []
        private var entries: [PredictionLogEntry] = []
        private var failure: PlatformError?

        init(count: Int) {
            predictions.reserveCapacity(count)
            entries.reserveCapacity(count)
        }

        mutating func add(_ entry: PredictionLogEntry, _ record: borrowing PredictionRecord, _ model: String) {
            entries.append(entry)
            predictions.append(ColumnPrediction(record))
            if record.isUnansweredForTime {
                failure = Predictor.noAnswerInTime(model)
            } else if failure == nil, record.isUnanswered {
                failure = PlatformError(.unavailable, "predict/\(model)", record.callersReason)
            }
        }

        func answer(_ question: Question, _ ticket: AdmissionTicket?) -> ColumnAnswer {
            ColumnAnswer(
                predictions: predictions, entries: entries, logPolicy: question.route.definition.predictionLog,
                failure: failure, deadline: question.deadline, ticket: ticket)
        }
    }

    /// Counts a refusal under the status that callers over HTTP get.
    private func counted(_ error: PlatformError, _ model: String) -> PlatformError {
        let status =
            switch error.code {
            case .notFound: 404
            case .overloaded: 429
            default: 400
            }
        metrics.countRefused(model: routes.route(model) == nil ? "" : model, status: status)
        return error
    }

    private func wrong(_ faults: [(Int, FieldFault)], _ model: String, _ columns: InputColumns) -> PlatformError {
        let lines = faults.prefix(100).map { row, fault in
            "\(columns.rowCount > 1 ? "instances[\(row)]." : "")\(fault.field): \(fault.message)"
        }
        return PlatformError(.invalidInput, "model/\(model)", lines.joined(separator: "\n"))
    }
}
