import APIContract
import ExperimentTracking
import Foundation
import PlatformCore
import TrainingJobs
import Workflows

/// Runs: lists, one whole, several beside each other, notes, and making one again.
enum RunRoutes {
    /// Most runs beside each other.
    static let comparedCountMax = 50

    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route("GET", "/api/v1/runs") { request in
                let limit = try request.count("limit", default: 100, most: 1000)
                let experiments = try await experiments(request.queryValues("experiment"), services)
                let page = try await services.tracking.searchRuns(
                    experiments: experiments.map(\.id), filter: SearchFilter(request.queryValue("filter") ?? ""),
                    orders: SearchOrder.list(request.queryValues("order_by")), view: view(request),
                    pageToken: request.queryValue("page_token"), countMax: limit)
                let names = Dictionary(uniqueKeysWithValues: experiments.map { ($0.id, $0.name) })
                return .json([
                    "runs": .array(page.runs.map { summary($0, experiment: names[$0.info.experimentID]) }),
                    "next_page_token": page.nextPageToken.map(JSONValue.string) ?? .null,
                ])
            },
            Route("GET", "/api/v1/runs/{id}") { request in
                .json(try await whole(runID(request), services))
            },
            Route("GET", "/api/v1/runs/{id}/events") { request in try await RunEvents.answer(runID(request), services)
            },
            Route("GET", "/api/v1/runs/{id}/metrics") { request in
                let run = try await services.tracking.run(runID(request))
                let points = try request.count("points", default: RunEvents.pointCountMax, most: 100_000)
                return .json([
                    "metrics": .object(
                        try await RunEvents.histories(of: run, services.tracking, pointCountMax: points))
                ])
            },
            .page("/experiments") { _ in try await RunPage.experiments(services) },
            .page("/experiments/{id}") { request in
                try await RunPage.experiment(request.parameters["id"] ?? "", ExperimentQuestion(request), services)
            },
            .page("/runs/{id}") { request in try await RunPage.run(runID(request), services) },
            .page("/run-comparison") { request in try await RunPage.comparison(compared(request), services) },
            Route("GET", "/api/v1/runs/{id}/diff/{other}") { request in
                let comparison = try await services.runs.compare([runID(request), runID(request, "other")])
                return .json(describe(comparison, onlyDifferences: true))
            },
            Route("GET", "/api/v1/run-comparison") { request in
                .json(
                    describe(
                        try await services.runs.compare(compared(request)),
                        onlyDifferences: request.queryValue("all") != "true"))
            },
            Route("PUT", "/api/v1/runs/{id}/note") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["text"])
                let id = try runID(request)
                // Where MLflow's own pages keep a run's description, so both show the same.
                try await services.tracking.setTag(TrackedTag("mlflow.note.content", try body.text("text")), ofRun: id)
                return .json(try await whole(id, services))
            },
            Route("POST", "/api/v1/runs/{id}/reproduce") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["tolerance"])
                let id = try runID(request)
                let tolerance = try body["tolerance"].map { value in
                    guard let number = value.doubleValue, 0...1 ~= number else {
                        throw PlatformError(.invalidInput, "request body", "'tolerance' must lie between 0 and 1")
                    }
                    return number
                }
                _ = try await services.tracking.runInfo(id)
                let actor = request.actor
                return try services.start { progress in
                    describe(
                        try await services.runs.reproduce(
                            id, tolerance: tolerance ?? 0, actor: actor, progress: progress))
                }
            },
        ]
    }

    private static func compared(_ request: APIRequest) throws -> [String] {
        let ids = request.queryValues("run")
        guard 1...comparedCountMax ~= ids.count else {
            throw PlatformError(.invalidInput, "query", "name 1 to \(comparedCountMax) runs, as run=ID&run=ID")
        }
        return ids
    }

    static func runID(_ request: APIRequest, _ name: String = "id") throws -> String {
        try checkedRunID(request.parameters[name] ?? "")
    }

    static func checkedRunID(_ id: String) throws -> String {
        guard 1...64 ~= id.utf8.count,
            id.utf8.allSatisfy({
                (48...57).contains($0) || (97...122).contains($0) || (65...90).contains($0) || $0 == 45 || $0 == 95
            })
        else { throw PlatformError(.invalidInput, "path", "'\(id.prefix(64))' is no run") }
        return id
    }

    /// The experiments that a question names, by name or number; every one if it names none.
    static func experiments(_ names: [String], _ services: PlatformServices) async throws -> [Experiment] {
        if names.isEmpty { return try await services.tracking.searchExperiments(countMax: 10_000).experiments }
        var found: [Experiment] = []
        for name in names {
            if let experiment = try await services.tracking.experiment(named: name) {
                found.append(experiment)
            } else if Int64(name) != nil {
                found.append(try await services.tracking.experiment(name))
            } else {
                let known = try await services.tracking.searchExperiments(countMax: 10_000).experiments.map(\.name)
                throw PlatformError(
                    .notFound, "experiment/\(name.prefix(100))",
                    "no such experiment" + (nearestName(to: name, among: known).map { "; did you mean '\($0)'?" } ?? "")
                )
            }
        }
        return found
    }

    private static func view(_ request: APIRequest) throws -> LifecycleView {
        switch request.queryValue("deleted") {
        case nil, "false"?: .active
        case "true"?: .deleted
        case "all"?: .all
        default: throw PlatformError(.invalidInput, "query", "'deleted' must be true, false or all")
        }
    }

    // MARK: JSON

    static func summary(_ run: TrackedRun, experiment: String?) -> JSONValue {
        let report = RunReport(run)
        let info = run.info
        var members: [String: JSONValue] = [
            "id": .string(info.id), "name": .string(info.name), "experiment_id": .string(info.experimentID),
            "experiment": experiment.map(JSONValue.string) ?? .null, "status": .string(info.status.rawValue),
            "user": .string(info.userName), "started_at": .string(info.startedAt.description),
            "ended_at": info.endedAt.map { .string($0.description) } ?? .null, "deleted": .bool(info.isDeleted),
            "note": run.tag("mlflow.note.content").map(JSONValue.string) ?? .null,
            "job": run.tag("bottega.job").map(JSONValue.string) ?? .null,
            "reproduces": run.tag("bottega.reproduces").map(JSONValue.string) ?? .null,
        ]
        for section in [RunReport.Section.parameters, .metrics, .data] {
            members[section.rawValue] = .object(report.sections[section] ?? [:])
        }
        return .object(members)
    }

    static func whole(_ id: String, _ services: PlatformServices) async throws -> JSONValue {
        let report = try await services.runs.report(id)
        let experiment = try await services.tracking.experiment(report.run.info.experimentID)
        var members = summary(report.run, experiment: experiment.name).objectValue ?? [:]
        for section in RunReport.Section.allCases where section != .files {
            members[section.rawValue] = .object(report.sections[section] ?? [:])
        }
        members["tags"] = .object(
            Dictionary(report.run.tags.map { ($0.key, .string($0.value)) }, uniquingKeysWith: { $1 }))
        members["system"] = .object(
            Dictionary(
                report.run.metrics.filter { $0.key.hasPrefix("system/") }.map { ($0.key, RunReport.json($0.value)) },
                uniquingKeysWith: { $1 }))
        members["files"] = .array(
            report.files.sorted { $0.key < $1.key }.map { path, file in
                ["path": .string(path), "sha256": .string(file.hash.hex), "bytes": .integer(Int64(file.byteCount))]
            })
        members["record"] = report.record ?? .null
        members["artifact_uri"] = .string(report.run.info.artifactURI)
        return .object(members)
    }

    static func describe(_ comparison: RunComparison, onlyDifferences: Bool) -> JSONValue {
        [
            "runs": .array(comparison.reports.map { summary($0.run, experiment: nil) }),
            "sections": RunComparison.json(onlyDifferences ? comparison.differences : comparison.sections),
        ]
    }

    static func describe(_ result: RunReproduction) -> JSONValue {
        let files = Set(result.original.modelFiles.keys).union(result.again?.modelFiles.keys ?? [:].keys).sorted()
        let comparison = result.comparison
        let metrics = comparison?.sections.first { $0.section == .metrics }?.rows ?? []
        // What cannot be equal: where the copy of the code was, the branch's name, files with the run's number in them.
        let differences = (comparison?.differences ?? []).compactMap { section, rows in
            let kept = rows.filter { row in
                switch section {
                case .metrics, .files: false
                case .code: row.name != "branch" && row.name != "command"
                default: true
                }
            }
            return kept.isEmpty ? nil : (section: section, rows: kept)
        }
        return [
            "run": .string(result.original.run.info.id),
            "again": result.again.map { .string($0.run.info.id) } ?? .null,
            "job": result.again?.job.map { .string($0.id) } ?? .null, "verdict": .string(result.verdict.rawValue),
            "code": .string(result.code), "missing": .array(result.missing.map(JSONValue.string)),
            "steps": .array(result.steps.map(JSONValue.string)),
            "model": .array(
                files.map { path in
                    let (left, right) = (result.original.modelFiles[path]?.hash, result.again?.modelFiles[path]?.hash)
                    return [
                        "path": .string(path), "before": left.map { .string($0.hex) } ?? .null,
                        "again": right.map { .string($0.hex) } ?? .null, "same": .bool(left == right),
                    ]
                }),
            "metrics": .array(
                metrics.map { row in
                    [
                        "name": .string(row.name), "before": row.values.first.flatMap { $0 } ?? .null,
                        "again": row.values.last.flatMap { $0 } ?? .null, "same": .bool(!row.differs),
                        "difference": row.difference.map(RunReport.json) ?? .null,
                    ]
                }),
            "differences": RunComparison.json(differences),
        ]
    }
}
