import APIContract
import Datasets
import Definitions
import FeatureStore
import Foundation
import Governance
import ModelRegistry
import ModelServing
import PlatformCore
import RuntimePorts
import TrainingJobs
import Workflows

/// Training jobs and the registration of what they logged.
enum TrainingRoutes {
    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route("POST", "/training-jobs") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["model", "dataset", "seed", "parameters"])
                let (model, dataset) = (
                    try body.name("model"), try await services.pipeline.dataset(named: try body.text("dataset"))
                )
                let seed = try body["seed"].map { _ in try body.integer("seed", default: 0, in: 0...Int64(Int32.max)) }
                var parameters: [String: String] = [:]
                for (key, value) in body["parameters"]?.objectValue ?? [:] {
                    parameters[key] = value.stringValue ?? value.text
                }
                let actor = request.actor
                let job = try await services.audited(
                    actor, "training_job.started", "model/\(model)",
                    outcome: {
                        ["job": .string($0.id), "run_id": .string($0.runID), "dataset": .string(dataset.hex)]
                    }
                ) {
                    try await services.pipeline.start(
                        model, dataset: dataset, seed: seed, parameters: parameters, actor: actor)
                }
                let operation = try services.operations.start { progress in
                    describe(try await services.pipeline.finish(job, progress: progress))
                }
                return .json(
                    ["id": .string(job.id), "run_id": .string(job.runID), "operation": .string(operation)], status: 202)
            },
            Route("GET", "/training-jobs") { _ in
                .json(["jobs": .array(try await services.jobs.jobs(of: nil, countMax: 1000).map(describe))])
            },
            Route("GET", "/training-jobs/{id}") { request in
                .json(describe(try await services.jobs.job(request.parameters["id"] ?? "")))
            },
            Route("POST", "/training-jobs/{id}/cancel") { request in
                let id = request.parameters["id"] ?? ""
                try await services.audited(
                    request.actor, "training_job.cancelled", "training_job/\(id.prefix(100))", outcome: { _ in [:] }
                ) { try await services.jobs.cancel(id) }
                return .json(describe(try await services.jobs.job(id)))
            },
            Route("GET", "/training-jobs/{id}/output") { request in
                let lines = try await services.jobs.progress(
                    request.parameters["id"] ?? "", lineCountMax: try request.count("lines", default: 200, most: 10_000)
                )
                return .text(lines.joined(separator: "\n") + "\n")
            },
            Route("POST", "/api/v1/models/{model}/versions") { request in try await register(request, services) },
            Route("GET", "/api/v1/models/{model}/versions/{version}/card") { request in
                let model = try await request.model(services.registry)
                let version = try await services.registry.version(model, try request.versionNumber())
                var facts = try await services.desk.cardFacts(version)
                facts.evaluations = try await services.evaluations.list(model, version: version.number).map {
                    ModelCardFacts.Evaluation(
                        hash: $0.hash, time: $0.createdAt, actor: $0.actor,
                        data: $0.part.isEmpty
                            ? "file \($0.data.short)" : "the \($0.part) part of dataset \($0.data.short)",
                        rowCount: $0.rowCount, metrics: $0.metrics)
                }
                if request.queryValue("format") == "html" {
                    let charts = facts.report.map { EvaluationPage.charts([$0], versions: [version.number]) } ?? ""
                    let body = ModelCard.htmlBody(version, facts, charts: charts)
                    return .text(
                        EvaluationPage.page(ModelCard.title(version, facts), "<main class=\"card\">\(body)</main>"),
                        type: "text/html; charset=utf-8")
                }
                return .json(["markdown": .string(ModelCard.markdown(version, facts))])
            },
        ]
    }

    private static func register(_ request: APIRequest, _ services: PlatformServices) async throws -> APIResponse {
        let body = try RequestBody(request)
        try body.checkKeys(["job", "run_id", "dataset", "reason"])
        let model = try request.name("model")
        let actor = request.actor
        let reason = body["reason"]?.stringValue ?? "registered by \(actor)"
        let job = body["job"]?.stringValue
        let run = body["run_id"]?.stringValue
        guard (job == nil) != (run == nil) else {
            throw PlatformError(.invalidInput, "request body", "name either 'job', or 'run_id' with 'dataset'")
        }
        var dataset: ContentHash?
        if job == nil { dataset = try await services.pipeline.dataset(named: try body.text("dataset")) }
        return try services.start { [dataset] progress in
            progress.report("evaluating the model on its training set")
            let version: ModelVersion
            if let job {
                version = try await services.pipeline.register(model, job: job, actor: actor, reason: reason)
            } else if let run, let dataset {
                version = try await services.pipeline.register(
                    model, run: run, dataset: dataset, actor: actor, reason: reason)
            } else {
                throw PlatformError(.internal, "request body", "checked above")
            }
            return try await ModelRoutes.describe(version, services.registry, whole: true)
        }
    }

    static func describe(_ job: TrainingJob) -> JSONValue {
        [
            "id": .string(job.id), "model": .string(job.model.text), "dataset": .string(job.dataset.hex),
            "state": .string(job.state.rawValue), "run_id": .string(job.runID), "seed": .integer(job.seed),
            "parameters": .object(job.parameters.mapValues(JSONValue.string)),
            "created_at": .string(job.createdAt.description),
            "commit": job.facts.map { .string($0.code.commit) } ?? .null,
            "environment": job.facts?.environment.map { .string($0.hex) } ?? .null,
            "reason": job.outcome.map { .string($0.reason) } ?? .null,
            "seconds": job.outcome.map { .number(Double($0.duration.milliseconds) / 1000) } ?? .null,
            "memory_bytes_peak": job.outcome.map { .integer(Int64($0.memoryByteCountPeak)) } ?? .null,
            "log": .string(job.logPath),
        ]
    }
}
