import Definitions
public import PlatformCore

/// Who is not answered, and what is said instead.
extension Predictor {
    /// Seconds after which a caller who was refused for load may try again.
    public static let retryAfterSeconds = 1

    func overloaded(_ route: DeploymentRoute, _ priority: RequestPriority, _ reason: String) -> PlatformError {
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
            let place = isBatch ? "instances[\(index)]" : ""
            let field = [place, fault.field].filter { !$0.isEmpty }.joined(separator: ".")
            return ["field": .string(field), "message": .string(fault.message)]
        }
        let summary = fields.map { field in
            [field["field"], field["message"]].compactMap { $0?.stringValue }.filter { !$0.isEmpty }
                .joined(separator: ": ")
        }
        let error: JSONValue = [
            "error": [
                "code": "invalid_input", "subject": .string("predict/\(model)"),
                "message": .string(summary.joined(separator: "\n")), "fields": .array(fields),
            ]
        ]
        return Answer(status: 422, body: error.canonicalBytes, entries: [], logPolicy: .shed)
    }
}
