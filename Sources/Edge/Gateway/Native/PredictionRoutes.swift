import APIContract
import Datasets
import Definitions
import FeatureStore
import Foundation
import ModelRegistry
import ModelServing
import PlatformCore
import RuntimePorts
import StoragePorts
import TrainingJobs
import Workflows

/// Labels, and the questions an auditor asks of a prediction.
enum PredictionRoutes {
    /// Most labels in one request.
    static let labelCountMax = 10_000

    /// Answers what the event loop leaves to the framework: large bodies, those of unknown length, explanations, features that
    /// take long to read, and models whose answers are waited for.
    private static func predict(_ request: APIRequest, _ services: PlatformServices) async throws -> APIResponse {
        let terms = try terms(request)
        let predictor = services.predictor
        predictor.admission.beginWaiting()
        defer { predictor.admission.endWaiting() }
        await predictor.prepare(model: request.parameters["model"] ?? "", body: request.body)
        let answer = await predictor.answerLater(
            model: request.parameters["model"] ?? "", body: request.body, terms: terms,
            pressure: predictor.admission.pressure)
        return await logged(answer, predictor)
    }

    /// Query fields of predictions.
    static let wishes = ["ages", "explain", "latency"]

    /// What a request asks for beside a prediction, from its query and header fields.
    static func terms(_ request: APIRequest) throws -> RequestTerms {
        func flag(_ name: String) throws -> Bool {
            switch request.queryValue(name) {
            case nil, "false": return false
            case "true": return true
            case let text?:
                throw PlatformError(.invalidInput, name, "true or false is expected, not '\(text.prefix(40))'")
            }
        }
        var terms = RequestTerms(
            caller: request.headers["x-bottega-caller"].map { String($0.prefix(64)) } ?? "",
            withAges: try flag("ages"), withLatency: try flag("latency"),
            explaining: try flag("explain") ? .always : .asked)
        terms.read(
            timeout: request.headers["x-request-timeout-ms"]?.utf8, priority: request.headers["x-priority"]?.utf8)
        return terms
    }

    /// Gives an answer once the prediction log has what the deployment's policy wants it to have.
    static func logged(_ answer: Predictor.Answer, _ predictor: Predictor) async -> APIResponse {
        let isTaken = await predictor.log.take(answer.entries, policy: answer.logPolicy, until: answer.deadline)
        let answer = isTaken ? answer : predictor.refusalOfLate(answer) ?? answer
        var headers = [("Content-Type", "application/json")]
        if answer.retryAfterSeconds > 0 { headers.append(("Retry-After", String(answer.retryAfterSeconds))) }
        return APIResponse(status: answer.status, headers: headers, body: .bytes(answer.body))
    }

    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route("POST", "/predict/{model}", body: .collect(byteCountMax: 4 << 20), query: wishes, isSigned: false) {
                request in
                try await predict(request, services)
            },
            Route("POST", "/labels", query: [], isSigned: false) { request in try await labels(request, services) },
            Route("GET", "/predictions/{id}/why", query: []) { request in
                .json(try await why(request.parameters["id"] ?? "", services))
            },
            Route("GET", "/predictions/{id}/explain", query: []) { request in
                .json(try await explain(request.parameters["id"] ?? "", services))
            },
            Route("POST", "/predictions/{id}/replay", query: []) { request in
                var models: [String: any LoadedModel] = [:]
                await services.predictor.log.settle()
                let record = try await services.archive.answer(request.parameters["id"] ?? "")
                let comparison = try await services.archive.replay(record, models: &models)
                return .json([
                    "prediction_id": .string(record.id), "version": .integer(Int64(record.version)),
                    "artifact": .string(record.artifact), "compared": 1, "equal": .integer(comparison.isEqual ? 1 : 0),
                    "logged": .array(record.output.map { .number(Double($0)) }),
                    "replayed": .array(comparison.output.map { .number(Double($0)) }),
                ])
            },
            Route("POST", "/api/v1/replay") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["model", "count", "seed"])
                let model = try body.name("model")
                let count = Int(try body.integer("count", default: 1000, in: 1...1_000_000))
                let seed = UInt64(try body.integer("seed", default: 0, in: 0...Int64.max))
                _ = try await services.registry.model(id: model)  // an unknown one is not found
                return try services.start { progress in
                    try await replay(model, count: count, seed: seed, services, progress)
                }
            },
        ]
    }

    // MARK: Labels

    private static func labels(_ request: APIRequest, _ services: PlatformServices) async throws -> APIResponse {
        let json = try request.json()
        let list = json["labels"]?.arrayValue ?? [json]
        guard case .object = json else {
            throw PlatformError(.invalidInput, "request body", "an object is expected, not \(json.kindName)")
        }
        guard 1...labelCountMax ~= list.count else {
            throw PlatformError(
                .invalidInput, "labels", "1 to \(labelCountMax) labels are accepted in one request, not \(list.count)")
        }
        let now = services.clock.now()
        var records: [LogRecord] = []
        records.reserveCapacity(list.count)
        for (index, label) in list.enumerated() {
            let place = "labels[\(index)]"
            guard let id = label["prediction_id"]?.stringValue, IdentifierSource.time(of: id) != nil else {
                throw PlatformError(
                    .invalidInput, place, "'prediction_id' must be an identifier that a prediction returned")
            }
            let value: Double
            switch label["label"] {
            case .bool(let flag)?: value = flag ? 1 : 0
            case let number?:
                guard let double = number.doubleValue else {
                    throw PlatformError(
                        .invalidInput, place, "'label' must be a number, true or false, not \(number.kindName)")
                }
                value = double
            case nil: throw PlatformError(.invalidInput, place, "'label' is missing")
            }
            if let given = label["event_time"], !given.isNull {
                guard
                    let time = given.stringValue.flatMap({ EventTime(text: $0) })
                        ?? given.integerValue.map(EventTime.init(milliseconds:)),
                    time.isAccepted, time <= now
                else {
                    throw PlatformError(.invalidInput, place, "'event_time' must be a time that is not in the future")
                }
            }
            // When it reached us decides whether it is on time: a sender's clock cannot close the monitor's windows.
            let record = LabelRecord(predictionID: id, time: now, value: value)
            records.append(LogRecord(key: id, time: now, value: record.encoded()))
        }
        try await services.log.append(records, to: PlatformTopic.labels)
        return .json(["accepted": .integer(Int64(records.count))])
    }

    // MARK: Why

    private static let statusWords = ["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "REQUEST"]

    private static func why(_ id: String, _ services: PlatformServices) async throws -> JSONValue {
        await services.predictor.log.settle()
        let records = try await services.archive.find(id)
        let record = records[0]
        var bound: ServiceVersion?
        if let version = ContentHash(hex: record.serviceVersion) { bound = try await services.catalog.service(version) }
        let service = bound?.service
        let monitor = services.catalog.current.monitors.values.first { $0.model.text == record.model }
        let label = try await services.archive.label(of: record, horizon: monitor?.labelHorizon ?? .days(30))
        var inputs: [JSONValue] = []
        for (position, value) in record.inputs.enumerated() {
            let name = service.map { $0.inputNames[position] } ?? "input \(position)"
            let served = service.flatMap {
                let place = position - $0.request.count
                return $0.features.indices.contains(place) ? $0.features[place] : nil
            }
            let view = served.flatMap { bound?.definitions.featureViews[$0.view] }
            var shown: JSONValue = value.isNaN ? .null : .number(value)
            if let service, position < service.request.count,
                case .category(let values) = service.request[position].kind,
                let code = Int(exactly: value), values.indices.contains(code)
            {
                shown = .string(values[code])
            }
            let status = Int(record.statuses[position])
            inputs.append([
                "name": .string(name), "value": shown,
                "status": .string(
                    record.overridden.contains(position)
                        ? "OVERRIDDEN" : statusWords.indices.contains(status) ? statusWords[status] : "?"),
                "age": record.ages[position] < 0 ? .null : .string(age(record.ages[position])),
                "age_milliseconds": record.ages[position] < 0 ? .null : .integer(record.ages[position]),
                "event_time": record.ages[position] < 0
                    ? .null
                    : .string(EventTime(milliseconds: record.time.milliseconds - record.ages[position]).description),
                "view": served.map { .string($0.view.text) } ?? .null,
                "view_version": view.map { .string($0.version.short) } ?? .null,
            ])
        }
        var answer: [String: JSONValue] = [
            "prediction_id": .string(record.id), "time": .string(record.time.description),
            "model": .string(record.model),
            "prediction": record.prediction.map { .number(Double($0)) } ?? .null,
            "output": .array(record.output.map { .number(Double($0)) }), "variant": .string(record.choice.word),
            "policy_revision": .integer(Int64(record.policyRevision)),
            "fallback": .bool(record.choice == .fallback),
            "fallback_reason": record.fallbackReason.isEmpty ? .null : .string(record.fallbackReason),
            "fallback_cause": record.fallback.map { .string($0.cause.rawValue) } ?? .null,
            "fallback_step": record.fallback.flatMap { $0.step.isEmpty ? nil : .string($0.step) } ?? .null,
            "origin": .string(record.origin.word),
            "feature_service": service.map { .string($0.name.text) } ?? .null,
            "service_version": .string(record.serviceVersion), "caller": .string(record.caller),
            "entities": .object(
                Dictionary(
                    record.entities.map { ($0.key, $0.value.map(JSONValue.string) ?? .null) }, uniquingKeysWith: { $1 })
            ),
            "inputs": .array(inputs), "label": label.map { .number($0.value) } ?? .null,
            "label_time": label.map { .string($0.time.description) } ?? .null,
            "latency_microseconds": [
                "features": .integer(Int64(record.latency.features)), "score": .integer(Int64(record.latency.score)),
                "total": .integer(Int64(record.latency.total)),
            ],
            "shadows": .array(
                records.dropFirst().map {
                    [
                        "version": .integer(Int64($0.version)),
                        "prediction": $0.prediction.map { .number(Double($0)) } ?? .null,
                    ]
                }),
        ]
        if record.choice != .fallback, let model = Name(record.model) {
            let version = try await services.registry.version(model, record.version)
            answer["version"] = try await ModelRoutes.describe(version, services.registry, whole: true)
            if let deployment = services.catalog.current.deployment(of: model) {
                let revision = try await services.registry.history(deployment.name).first {
                    $0.revision == record.policyRevision
                }
                answer["policy"] = revision.map(ModelRoutes.describe) ?? .null
            }
        }
        return .object(answer)
    }

    // MARK: Explain

    /// Why the model answered as it did, from the inputs and the version that the log holds.
    private static func explain(_ id: String, _ services: PlatformServices) async throws -> JSONValue {
        await services.predictor.log.settle()
        let record = try await services.archive.answer(id)
        var bound: ServiceVersion?
        if let version = ContentHash(hex: record.serviceVersion) { bound = try await services.catalog.service(version) }
        // A version that is being served is in memory.
        var models: [String: any LoadedModel] = [:]
        for variant in services.predictor.routes.route(record.model)?.variants ?? [] {
            models[PredictionArchive.key(of: variant.version)] = variant.version.loaded
        }
        let (explanation, scale) = try await services.archive.explain(record, models: &models)
        let names = bound?.service.inputNames ?? record.inputs.indices.map { "input \($0)" }
        var categories: [String: JSONValue] = [:]
        for (position, values) in bound?.service.categories ?? [:] where record.inputs.indices.contains(position) {
            guard let code = Int(exactly: record.inputs[position]), values.indices.contains(code) else { continue }
            categories[names[position]] = .string(values[code])
        }
        return [
            "prediction_id": .string(record.id), "model": .string(record.model),
            "version": .integer(Int64(record.version)), "categories": .object(categories),
            "prediction": record.output.first.map { .number(Double($0)) } ?? .null,
            "output": .array(record.output.map { .number(Double($0)) }),
            "inputs": .object(
                Dictionary(
                    zip(names, record.inputs).map { ($0, $1.isNaN ? .null : .number($1)) }, uniquingKeysWith: { $1 })),
            "explanation": ExplanationAnswer.json(explanation, names: names, scale: scale),
        ]
    }

    static func age(_ milliseconds: Int64) -> String {
        switch milliseconds {
        case ..<1000: "\(milliseconds)ms"
        case ..<120_000: "\(milliseconds / 1000)s"
        case ..<7_200_000: "\(milliseconds / 60_000)m"
        case ..<172_800_000: "\(milliseconds / 3_600_000)h"
        default: "\(milliseconds / 86_400_000)d"
        }
    }

    // MARK: Replay

    private static func replay(
        _ model: Name, count: Int, seed: UInt64, _ services: PlatformServices, _ progress: ProgressReporter
    ) async throws -> JSONValue {
        var models: [String: any LoadedModel] = [:]
        var versions: [String: Int] = [:]
        var different: [JSONValue] = []
        var equal = 0
        await services.predictor.log.settle()
        let records = try await services.archive.sample(model: model.text, count: count, seed: seed)
        for (index, record) in records.enumerated() {
            let comparison = try await services.archive.replay(record, models: &models)
            versions[String(record.version), default: 0] += 1
            if comparison.isEqual {
                equal += 1
            } else if different.count < 100 {
                different.append([
                    "prediction_id": .string(record.id), "logged": .array(record.output.map { .number(Double($0)) }),
                    "replayed": .array(comparison.output.map { .number(Double($0)) }),
                ])
            }
            if index % 100 == 0 {
                progress.report("replaying", done: Double(index), total: Double(records.count), unit: "predictions")
            }
        }
        return [
            "model": .string(model.text), "compared": .integer(Int64(records.count)),
            "equal": .integer(Int64(equal)), "different": .array(different),
            "versions": .object(versions.mapValues { .integer(Int64($0)) }),
        ]
    }
}
