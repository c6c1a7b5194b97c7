import APIContract
import Definitions
import Foundation
import ModelRegistry
import ModelServing
import PlatformCore
import StoragePorts
import Workflows

/// Batches that are scored, and the tables of scores they make.
enum ScoringRoutes {
    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route("POST", "/api/v1/models/{model}/scores") { request in
                let asked = try scoringRequest(try request.name("model"), try RequestBody(request))
                let actor = request.actor
                let version = try await services.scoring.version(asked)
                return try services.start { progress in
                    let outcome = try await services.audited(
                        actor, "scores.written", "model/\(asked.model)",
                        outcome: { (outcome: ScoringOutcome) in
                            [
                                "table": .string(outcome.partition.table), "date": .string(outcome.partition.date),
                                "version": .integer(Int64(version.number)),
                                "rows": .integer(Int64(outcome.partition.rows)),
                                "unchanged": .bool(outcome.isUnchanged),
                            ]
                        }
                    ) { try await services.scoring.score(asked, progress: progress) }
                    return try describe(outcome)
                }
            },
            Route("GET", "/api/v1/models/{model}/scoring-plan") { request in
                let version = try await version(request, services)
                let plan = try await services.scoring.plan(version)
                return .json([
                    "model": .string(version.model.text), "version": .integer(Int64(version.number)),
                    "artifact": .string(plan.artifact.hex), "file_name": .string(plan.fileName),
                    "inputs": .array(
                        plan.inputs.map { input in
                            [
                                "name": .string(input.name),
                                "categories": input.categories.map { .array($0.map(JSONValue.string)) } ?? .null,
                            ]
                        }),
                ])
            },
            Route("GET", "/api/v1/models/{model}/artifact") { request in
                let version = try await version(request, services)
                return APIResponse(
                    headers: [("Content-Type", "application/octet-stream")],
                    body: .file(try await services.scoring.artifactPath(of: version)))
            },
            Route("GET", "/api/v1/scored-streams") { _ in
                let streams = try await StreamScoring.status(of: services.catalog.current, log: services.log)
                return .json([
                    "streams": .array(
                        streams.map { stream in
                            [
                                "deployment": .string(stream.deployment.text), "model": .string(stream.model.text),
                                "source": .string(stream.source.text),
                                "deployed": .bool(services.predictor.routes.route(stream.model.text) != nil),
                                "events": .integer(Int64(stream.eventCount)),
                                "waiting": stream.waitingCount.map { .integer(Int64($0)) } ?? .null,
                                "last": stream.last ?? .null,
                            ]
                        })
                ])
            },
            Route("GET", "/api/v1/deployments/{deployment}/scored-events") { request in
                let deployment = try request.name("deployment")
                guard let topic = ScoredEvent.topic(of: deployment),
                    try await services.log.topics().contains(topic)
                else {
                    throw PlatformError(
                        .notFound, "deployment/\(deployment)",
                        "it scores no stream; 'stream' in its definition makes it")
                }
                guard let from = Int(request.queryValue("from") ?? "0"), from >= 0 else {
                    throw PlatformError(.invalidInput, "query", "'from' must be a whole number from 0")
                }
                let count = try request.count("count", default: 1000, most: 10_000)
                guard let patience = Double(request.queryValue("wait") ?? "0"), 0...30 ~= patience else {
                    throw PlatformError(.invalidInput, "query", "'wait' must be a number of seconds from 0 to 30")
                }
                if patience > 0 {
                    try await services.log.waitForRecords(
                        topic, partition: 0, past: UInt64(from), timeout: .seconds(patience))
                }
                // The end is that of the records read, or one from before: what comes meanwhile is behind both.
                let end = try await services.log.endOffset(topic, partition: 0)
                let records = try await services.log.read(
                    topic, partition: 0, from: UInt64(from), recordCountMax: count, byteCountMax: 16 << 20)
                let next = records.last.map { $0.offset + 1 } ?? UInt64(from)
                let start = try await services.log.startOffset(topic, partition: 0)
                return .json([
                    "events": .array(records.map { ScoredEvent.shown($0.record.value) ?? .null }),
                    "next": .integer(Int64(next)), "start": .integer(Int64(start)),
                    "end": .integer(Int64(records.isEmpty ? end : max(end, next))),
                ])
            },
            Route("GET", "/api/v1/scores") { request in
                let table = try request.queryValue("table").map { text in
                    guard let name = Name(text) else {
                        throw PlatformError(.invalidInput, "query", "'table' must be the name of a table of scores")
                    }
                    return name
                }
                let found = try await services.scoring.partitions(of: table)
                return .json(["partitions": .array(try found.map(describe))])
            },
            Route("GET", "/api/v1/scores/{table}/{date}/{file}") { request in
                let file = request.parameters["file"] ?? ""
                let path = try await services.scoring.path(
                    of: file, in: try request.name("table"), date: request.parameters["date"] ?? "")
                let type = file.hasSuffix(".json") ? "application/json" : "application/vnd.apache.parquet"
                return APIResponse(headers: [("Content-Type", type)], body: .file(path))
            },
        ]
    }

    private static func version(_ request: APIRequest, _ services: PlatformServices) async throws -> ModelVersion {
        var asked = ScoringRequest(
            model: try request.name("model"), rows: .features(path: ""), table: Name(static: "none"))
        asked.version = request.queryValue("version")
        return try await services.scoring.version(asked)
    }

    private static func describe(_ partition: ScoredPartition) throws -> JSONValue {
        guard case .object(var members) = try JSONValue.of(partition) else { return .null }
        members["scoredAt"] = nil
        members["request"] = nil
        members["scored_at"] = .string(partition.scoredAt.description)
        return .object(members)
    }

    private static func describe(_ outcome: ScoringOutcome) throws -> JSONValue {
        guard case .object(var members) = try describe(outcome.partition) else { return .null }
        members["folder"] = .string(outcome.folder)
        members["unchanged"] = .bool(outcome.isUnchanged)
        members["resumed_parts"] = .integer(Int64(outcome.resumedPartCount))
        return .object(members)
    }

    // MARK: Reading requests

    private static func scoringRequest(_ model: Name, _ body: RequestBody) throws -> ScoringRequest {
        try body.checkKeys(["version", "rows", "table", "date", "as_of", "keep", "replace", "allow_nulls"])
        guard let rows = body["rows"] else {
            throw PlatformError(
                .invalidInput, "request body",
                "'rows' is missing: {features: path}, {source: name}, {files: path, …}, …")
        }
        var asked = ScoringRequest(
            model: model, rows: try self.rows(try RequestBody(rows)), table: try body.name("table"))
        if let version = body["version"] {
            guard let text = version.stringValue ?? version.integerValue.map(String.init) else {
                throw PlatformError(
                    .invalidInput, "request body", "'version' must be a number, an alias, a stage or latest")
            }
            asked.version = text
        }
        if body["date"] != nil { asked.date = try body.text("date") }
        asked.asOf = try body.time("as_of")
        if let keep = body["keep"] {
            guard let list = keep.arrayValue, list.count <= 1000, list.allSatisfy({ $0.stringValue != nil }) else {
                throw PlatformError(.invalidInput, "request body", "'keep' must be a list of at most 1,000 columns")
            }
            asked.kept = list.compactMap(\.stringValue)
        }
        asked.replaces = try flag(body, "replace")
        asked.allowsMissing = try flag(body, "allow_nulls")
        return asked
    }

    private static func flag(_ body: RequestBody, _ key: String) throws -> Bool {
        guard let value = body[key] else { return false }
        guard let flag = value.boolValue else {
            throw PlatformError(.invalidInput, "request body", "'\(key)' must be true or false")
        }
        return flag
    }

    private static func rows(_ body: RequestBody) throws -> ScoringRequest.Rows {
        let kinds = ["features", "source", "files", "sql", "postgres"].filter { body[$0] != nil }
        guard kinds.count == 1 else {
            throw PlatformError(
                .invalidInput, "request body",
                "'rows' must have one of 'features', 'source', 'files', 'sql', 'postgres'")
        }
        func path(_ key: String) throws -> String {
            let text = try body.text(key)
            guard text.hasPrefix("/"), !text.contains("\0") else {
                throw PlatformError(
                    .invalidInput, "request body", "'\(key)' must be an absolute path on the server's machine")
            }
            return text
        }
        switch kinds[0] {
        case "features":
            try body.checkKeys(["features"])
            return .features(path: try path("features"))
        case "source":
            try body.checkKeys(["source"])
            return .source(try body.name("source"))
        case "files":
            try body.checkKeys(["files", "format", "event_time"])
            return .questions(
                .files(location: try path("files"), format: body["format"] == nil ? nil : try body.text("format")),
                eventTime: try body.text("event_time"))
        case "sql":
            try body.checkKeys(["sql", "sources", "event_time"])
            let sources = try (body["sources"]?.arrayValue ?? []).map { value in
                try checkedName(value.stringValue ?? "", "sources")
            }
            guard 1...100 ~= sources.count else {
                throw PlatformError(
                    .invalidInput, "request body", "'sources' must name the 1 to 100 sources that the query reads")
            }
            return .questions(
                .sql(query: try body.text("sql"), sources: sources), eventTime: try body.text("event_time"))
        default:
            try body.checkKeys(["postgres", "connection", "timeout", "event_time"])
            let timeout = try body["timeout"].map { value in
                guard let span = value.stringValue.flatMap({ TimeSpan(text: $0) }) else {
                    throw PlatformError(.invalidInput, "request body", "'timeout' must be a span of time such as 10m")
                }
                return span
            }
            return .questions(
                .postgreSQL(
                    connection: try body.text("connection"), query: try body.text("postgres"),
                    timeout: timeout ?? .minutes(10)), eventTime: try body.text("event_time"))
        }
    }
}
