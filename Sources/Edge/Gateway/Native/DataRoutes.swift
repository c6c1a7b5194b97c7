import APIContract
import Catalogue
import ContentHashing
import Datasets
import Definitions
import FeatureStore
import Foundation
import Governance
import ModelRegistry
import ModelServing
import PlatformCore
import RuntimePorts
import StoragePorts
import TrainingJobs
import Workflows

/// Sources, quarantine, online features, training sets.
enum DataRoutes {
    /// Largest push in bytes.
    static let pushByteCountMax = 32 << 20
    /// Largest file in bytes.
    static let fileByteCountMax = 64 << 30

    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route(
                "POST", "/sources/{source}/events", body: .collect(byteCountMax: pushByteCountMax), isSigned: false
            ) { request in
                try await push(request, services)
            },
            Route("POST", "/api/v1/sources/{source}/load", body: .spool(byteCountMax: fileByteCountMax)) { request in
                try await load(request, services)
            },
            Route("GET", "/api/v1/sources") { _ in
                var list: [JSONValue] = []
                for source in services.catalog.current.sources.values.sorted(by: { $0.name < $1.name }) {
                    let counts = try await services.ingest.counts(of: source.name)
                    list.append([
                        "name": .string(source.name.text), "description": .string(source.description),
                        "owner": .string(source.owner),
                        "rows": .integer(Int64(counts.rows)), "quarantined": .integer(Int64(counts.quarantined)),
                        "columns": .array(
                            services.ingest.shapes.effective(source).columns.map {
                                [
                                    "name": .string($0.name), "type": .string($0.type.rawValue),
                                    "nullable": .bool($0.nullable),
                                    "unit": $0.unit.map(JSONValue.string) ?? .null,
                                ]
                            }),
                    ])
                }
                return .json(["sources": .array(list)])
            },
            Route("GET", "/api/v1/sources/{source}/versions") { request in
                let source = try source(request, services)
                let history = try await services.tables.history(of: source.name)
                return .json([
                    "versions": .array(
                        history.map {
                            [
                                "version": .integer($0.version), "time": .string($0.time.description),
                                "rows": .integer(Int64($0.rowCount)),
                                "operation": .string($0.operation),
                            ]
                        })
                ])
            },
            Route("POST", "/api/v1/sources/{source}/flush") { request in
                let source = try source(request, services)
                return try services.start { _ in
                    let rows = try await services.tables.flush(source)
                    let quarantine = try await services.tables.flushQuarantine(of: source.name)
                    return [
                        "rows": .integer(Int64(rows.rows)), "version": .integer(rows.version),
                        "quarantined": .integer(Int64(quarantine.rows)),
                    ]
                }
            },
            Route("POST", "/features/groups/{view}/get-online", isSigned: false) { request in
                let online = OnlineFeatureRoute(stream: services.stream)
                return APIResponse(
                    headers: [("Content-Type", "application/json")],
                    body: .bytes(try await online.answer(request.parameters["view"] ?? "", request.body[...])))
            },
            Route("GET", "/api/v1/datasets") { request in try await list(request, services) },
            Route("POST", "/api/v1/datasets") { request in
                let body = try RequestBody(request)
                try body.checkKeys(["training_set", "from", "to", "as_of"])
                let (name, from, to) = (
                    try body.name("training_set"), try body.requiredTime("from"), try body.requiredTime("to")
                )
                let asOf = try body.time("as_of")
                return try services.start { progress in
                    let build = try await services.pipeline.buildDataset(
                        name, from: from, to: to, asOf: asOf, progress: progress)
                    return describe(build)
                }
            },
            Route("POST", "/api/v1/datasets/{hash}/check") { request in
                let hash = try await dataset(request, services)
                return try services.start { progress in
                    let report = try await services.pipeline.checkLeakage(hash, progress: progress)
                    var members = try JSONValue.of(report).objectValue ?? [:]
                    members["clean"] = .bool(report.isClean)
                    return .object(members)
                }
            },
            Route("POST", "/api/v1/datasets/{hash}/rebuild") { request in
                let hash = try await dataset(request, services)
                return try services.start { progress in
                    try JSONValue.of(try await services.pipeline.rebuildDataset(hash, progress: progress))
                }
            },
            Route("GET", "/api/v1/datasets/{hash}/slices/{slice}") { request in
                let path = try await services.pipeline.slicePath(
                    request.parameters["slice"] ?? "", of: try await dataset(request, services))
                return APIResponse(headers: [("Content-Type", "application/vnd.apache.parquet")], body: .file(path))
            },
            Route("GET", "/api/v1/datasets/{hash}") { request in
                let hash = try await dataset(request, services)
                let manifest = try await services.pipeline.manifest(hash)
                return .json([
                    "dataset": .string(hash.hex), "rows": .integer(Int64(manifest.rows)), "manifest": manifest.json,
                ])
            },
        ]
    }

    /// The training set in the path, by its hash or the hash's beginning.
    static func dataset(_ request: APIRequest, _ services: PlatformServices) async throws -> ContentHash {
        try await services.pipeline.dataset(named: request.parameters["hash"] ?? "")
    }

    private static func list(_ request: APIRequest, _ services: PlatformServices) async throws -> APIResponse {
        let before = try request.queryValue("page_token").map { text in
            guard let hash = ContentHash(hex: text) else {
                throw PlatformError(.invalidInput, "query", "'page_token' is none that a page gave")
            }
            return hash
        }
        let found = try await services.pipeline.datasets(
            of: try request.queryValue("training_set").map { try checkedName($0, "training_set") }, before: before,
            countMax: try request.count("limit", default: 100, most: 1000))
        return .json([
            "datasets": .array(
                found.datasets.map { entry, manifest in
                    [
                        "dataset": .string(entry.hash.hex), "training_set": .string(entry.trainingSet.text),
                        "service": manifest.map { .string($0.service.text) } ?? .null,
                        "from": manifest.map { .string($0.from.description) } ?? .null,
                        "to": manifest.map { .string($0.to.description) } ?? .null,
                        "as_of": manifest.map { .string($0.asOf.description) } ?? .null,
                        "rows": manifest.map { .integer(Int64($0.rows)) } ?? .null,
                        "slices": .object(
                            Dictionary(
                                uniqueKeysWithValues: (manifest?.slices ?? []).map {
                                    ($0.name, .integer(Int64($0.rows)))
                                })),
                        "built_at": .string(entry.builtAt.description),
                    ]
                }),
            "next_page_token": found.isLast
                ? .null : found.datasets.last.map { .string($0.entry.hash.hex) } ?? .null,
        ])
    }

    static func source(_ request: APIRequest, _ services: PlatformServices) throws -> SourceDefinition {
        let name = try request.name("source")
        let sources = services.catalog.current.sources
        if let source = sources[name] { return source }
        let near = nearestName(to: name.text, among: sources.keys.map(\.text))
        throw PlatformError(
            .notFound, "source/\(name)",
            "no such source is defined" + (near.map { "; did you mean '\($0)'?" } ?? "; 'bottega apply' defines it"))
    }

    private static func push(_ request: APIRequest, _ services: PlatformServices) async throws -> APIResponse {
        let source = try source(request, services)
        let (key, now) = (request.headers["idempotency-key"], services.clock.now())
        let report: IngestReport
        if let rows = try rows(of: request) {
            guard !rows.isEmpty else { throw noEvent(source) }
            report = try await services.ingest.push(source, rows: rows, idempotencyKey: key, now: now)
        } else {
            guard request.body.contains(where: { $0 > 32 }) else { throw noEvent(source) }
            report = try await services.ingest.push(source, lines: request.body, idempotencyKey: key, now: now)
        }
        return .json(report.json)
    }

    private static func noEvent(_ source: SourceDefinition) -> PlatformError {
        PlatformError(.invalidInput, "source/\(source.name)", "the body holds no event")
    }

    /// One object or a list; `nil` if the body is JSON lines.
    private static func rows(of request: APIRequest) throws -> [JSONValue]? {
        let isLines =
            request.headers["content-type"].map {
                $0.contains("ndjson") || $0.contains("jsonl") || $0.contains("json-lines")
            } ?? false
        if isLines { return nil }
        do {
            let json = try JSONValue.parse(request.body, limits: JSONLimits(byteCountMax: pushByteCountMax))
            return json.arrayValue ?? [json]
        } catch {
            // A list or object that is broken stays an error; several lines of objects are JSON lines without the header.
            guard request.body.first == 0x7B, error.description.contains("more text follows") else {
                throw PlatformError(.invalidInput, "request body", error.description)
            }
            return nil
        }
    }

    private static func load(_ request: APIRequest, _ services: PlatformServices) async throws -> APIResponse {
        let source = try source(request, services)
        let name = String((request.queryValue("name") ?? "file").suffix(255))
        guard let format = SourceFileFormat(rawValue: request.queryValue("format") ?? "csv") else {
            let known = SourceFileFormat.allCases.map(\.rawValue).joined(separator: ", ")
            throw PlatformError(.invalidInput, "query", "'format' must be one of \(known)")
        }
        guard let spooled = request.bodyFile else {
            throw PlatformError(.invalidInput, "request body", "the file is missing")
        }
        let kept = spooled + ".load"
        try FileManager.default.moveItem(atPath: spooled, toPath: kept)
        let actor = request.actor
        do {
            return try services.start { progress in
                defer { try? FileManager.default.removeItem(atPath: kept) }
                progress.report("hashing")
                let hash = try hash(fileAt: kept)
                return try await services.audited(
                    actor, "source.file.loaded", "source/\(source.name)",
                    outcome: { $0.isAlreadyLoaded ? nil : $0.json }
                ) {
                    try await services.lineage.record(
                        "load.\(source.name)", kind: "LOAD", inputs: [RunLineage.file(name)],
                        outcome: { RunLineage.loads([$0], into: source) }
                    ) {
                        try await services.ingest.load(
                            source, fileAt: kept, fileName: name, format: format, contentHash: hash,
                            now: services.clock.now()
                        ) { step in
                            progress.report("loading", done: Double(step.rows), unit: "rows")
                        }
                    }
                }.json
            }
        } catch {
            try? FileManager.default.removeItem(atPath: kept)
            throw error
        }
    }

    static func hash(fileAt path: String) throws -> ContentHash {
        let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
        defer { try? file.close() }
        var hasher = ContentHasher()
        while let data = try file.read(upToCount: 1 << 20), !data.isEmpty { hasher.update(Array(data)) }
        return hasher.finalize()
    }

    private static func describe(_ build: DatasetBuild) -> JSONValue {
        [
            "dataset": .string(build.hash.hex), "rows": .integer(Int64(build.manifest.rows)),
            "slices": .object(
                Dictionary(uniqueKeysWithValues: build.manifest.slices.map { ($0.name, .integer(Int64($0.rows))) })),
            "positive_share": .number(
                build.manifest.slices.reduce(0) { $0 + ($1.positiveShare ?? 0) * Double($1.rows) }
                    / Double(max(1, build.manifest.rows))),
            "questions": .integer(Int64(build.manifest.questions)),
            "questions_without_label": .integer(Int64(build.manifest.questionsWithoutLabel)),
            "seconds": .number(build.seconds), "warnings": .array(build.warnings.map(JSONValue.string)),
            "manifest": build.manifest.json,
        ]
    }
}
