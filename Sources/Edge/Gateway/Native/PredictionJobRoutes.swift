import APIContract
import ModelServing
import PlatformCore
import Synchronization
import Workflows

/// Predictions that are fetched later, and those that come one by one.
enum PredictionJobRoutes {
    /// Most instances of one stream.
    static let streamedInstanceCountMax = 10_000
    private static let bodyByteCountMax = 64 << 20

    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route(
                "POST", "/predict/{model}/async", body: .collect(byteCountMax: bodyByteCountMax),
                query: PredictionRoutes.wishes, isSigned: false
            ) { request in
                let job = try await services.predictionJobs.submit(
                    model: request.parameters["model"] ?? "", body: try json(request),
                    terms: try PredictionRoutes.terms(request))
                var answer = job.json.objectValue ?? [:]
                answer["url"] = .string("/predictions/jobs/\(job.id)")
                return APIResponse(
                    status: 202,
                    headers: [
                        ("Content-Type", "application/json"), ("Location", "/predictions/jobs/\(job.id)"),
                    ], body: .bytes(JSONValue.object(answer).canonicalBytes))
            },
            Route("GET", "/predictions/jobs", query: ["model", "state", "limit", "page_token"]) { request in
                let state = try request.queryValue("state").map { text in
                    guard let state = PredictionJob.State(rawValue: text) else {
                        let known = PredictionJob.State.allCases.map(\.rawValue).joined(separator: ", ")
                        throw PlatformError(.invalidInput, "query", "'state' must be one of \(known)")
                    }
                    return state
                }
                let before = try request.queryValue("page_token").map { text in
                    guard let position = Int64(text) else {
                        throw PlatformError(.invalidInput, "query", "'page_token' is none that a page gave")
                    }
                    return position
                }
                let found = try await services.predictionJobs.store.jobs(
                    model: request.queryValue("model"), state: state, before: before,
                    countMax: try request.count("limit", default: 100, most: 1000))
                return .json([
                    "jobs": .array(found.jobs.map(\.json)),
                    "next_page_token": found.next.map { .string(String($0)) } ?? .null,
                ])
            },
            Route("POST", "/predictions/jobs/{id}/cancel", query: []) { request in
                let id = request.parameters["id"] ?? ""
                return .json(
                    try await services.audited(
                        request.actor, "prediction_job.cancelled", "prediction_job/\(id.prefix(100))",
                        outcome: { (job: PredictionJob) in
                            [
                                "model": .string(job.model), "instances": .integer(Int64(job.instanceCount)),
                                "done": .integer(Int64(job.doneCount)),
                            ]
                        }
                    ) { try await services.predictionJobs.cancel(id) }.json)
            },
            Route("GET", "/predictions/jobs/{id}", query: []) { request in
                let job = try await services.predictionJobs.store.job(request.parameters["id"] ?? "")
                var bytes = job.json.canonicalBytes
                // The list is stored as text and put in as it is; parts are done in order, so it is the beginning of all.
                if job.state == .succeeded || (job.finishedAt != nil && job.doneCount > 0) {
                    bytes.removeLast()
                    bytes += Array(",\"predictions\":".utf8)
                    bytes += try await services.predictionJobs.store.predictions(of: job.id)
                    bytes.append(0x7D)
                }
                return APIResponse(headers: [("Content-Type", "application/json")], body: .bytes(bytes))
            },
            Route(
                "POST", "/predict/{model}/stream", body: .collect(byteCountMax: 16 << 20),
                query: PredictionRoutes.wishes, isSigned: false
            ) { request in
                try stream(request, services.predictor)
            },
        ]
    }

    private static func json(_ request: APIRequest) throws -> JSONValue {
        do {
            return try JSONValue.parse(
                request.body[...], limits: JSONLimits(byteCountMax: bodyByteCountMax, depthMax: 16))
        } catch { throw PlatformError(.invalidInput, "request body", error.description) }
    }

    // MARK: One by one

    /// Where a stream is.
    private final class Position: Sendable {
        private let next = Mutex(0)
        func take() -> Int {
            next.withLock { next in
                next += 1
                return next - 1
            }
        }
    }

    /// Server-sent events: `prediction` for each instance as it is computed, `error` for one that cannot be, `end` at last.
    private static func stream(_ request: APIRequest, _ predictor: Predictor) throws -> APIResponse {
        let model = request.parameters["model"] ?? ""
        var terms = try PredictionRoutes.terms(request)
        let route = try predictor.route(model)
        if let fault = terms.fault { throw PlatformError(.invalidInput, fault.field, fault.message) }
        var body = try json(request)
        let wishes = try Predictor.Wishes.take(from: &body, terms)
        if wishes.withExplanations { try predictor.checkExplaining(route) }
        (terms.withAges, terms.withLatency) = (wishes.withAges, wishes.withLatency)
        terms.explaining = wishes.withExplanations ? .always : .asked
        let wanted = terms
        let instances = try PredictionJobService.instances(body, countMax: streamedInstanceCountMax)
        let position = Position()
        return APIResponse(
            headers: [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")],
            body: .pulled {
                let index = position.take()
                if index == instances.count { return Array("event: end\ndata: {\"count\":\(index)}\n\n".utf8) }
                guard index < instances.count else { return nil }
                let body = instances[index].canonicalBytes
                var answer = await predictor.answerLater(
                    model: model, body: body, terms: wanted, pressure: predictor.admission.pressure)
                // That there is room again is measured, nobody tells of it.
                while answer.status == 429, wanted.deadline.map({ ContinuousClock.now < $0 }) ?? true {
                    try await Task.sleep(for: .milliseconds(50))
                    answer = await predictor.answerLater(
                        model: model, body: body, terms: wanted, pressure: predictor.admission.pressure)
                }
                await predictor.log.take(answer.entries, policy: answer.logPolicy, until: answer.deadline)
                // JSON text holds no line break, so one `data` line is enough.
                let name = answer.status == 200 ? "prediction" : "error"
                return Array("event: \(name)\nid: \(index)\ndata: ".utf8) + answer.body + Array("\n\n".utf8)
            })
    }
}
