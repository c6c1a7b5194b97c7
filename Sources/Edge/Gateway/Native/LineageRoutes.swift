import APIContract
import Catalogue
import ContentHashing
import Datasets
import Definitions
import PlatformCore
import StoragePorts
import Workflows

/// What is made from what.
enum LineageRoutes {
    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route("GET", "/api/v1/lineage") { request in
                guard let name = request.queryValue("node"), !name.isEmpty else {
                    let graph = try await services.catalogue.graph()
                    return .json(["root": "", "kinds": .object(graph.kinds.mapValues { .integer(Int64($0)) })])
                }
                let word = request.queryValue("direction") ?? "both"
                guard let direction = LineageGraph.Direction(rawValue: word) else {
                    throw PlatformError(
                        .invalidInput, "query", "'direction' must be up, down or both, not '\(word.prefix(40))'")
                }
                let graph = try await services.catalogue.graph()
                let root = try services.catalogue.resolve(name, in: graph)
                guard
                    let slice = graph.slice(
                        around: root, direction, depth: try request.count("depth", default: 20, most: 100))
                else { throw PlatformError(.notFound, "lineage/\(name.prefix(100))", "nothing has this name") }
                if request.queryValue("format") == "dot" {
                    return .json(["root": .string(root), "dot": .string(slice.dot)])
                }
                return .json(slice.json)
            },
            Route("GET", "/api/v1/lineage/datasets/{hash}") { request in
                let hash = try await DataRoutes.dataset(request, services)
                _ = try await services.pipeline.manifest(hash)
                return .json(try await services.catalogue.origin(of: hash))
            },
            Route("POST", "/api/v1/lineage", body: .collect(byteCountMax: OpenLineageEvent.byteCountMax)) { request in
                try await services.lineage.receive(try body(request))
                return .json(["received": 1], status: 201)
            },
            Route("POST", "/api/v1/lineage/batch", body: .collect(byteCountMax: 4 * OpenLineageEvent.byteCountMax)) {
                request in
                try await batch(request, services)
            },
            Route("GET", "/api/v1/lineage/rows/{source}/{offset}") { request in
                let source = try DataRoutes.source(request, services)
                let text = request.parameters["offset"] ?? ""
                guard let offset = UInt64(text) else {
                    throw PlatformError(.invalidInput, "path", "'\(text.prefix(40))' is no offset of the log")
                }
                return .json(try await row(source, offset, services))
            },
        ]
    }

    /// The body as JSON.
    private static func body(_ request: APIRequest) throws -> JSONValue {
        do {
            return try JSONValue.parse(
                request.body, limits: JSONLimits(byteCountMax: 4 * OpenLineageEvent.byteCountMax))
        } catch {
            throw PlatformError(.invalidInput, "request body", error.description)
        }
    }

    /// Takes what is right of a list and says what is wrong with the rest.
    private static func batch(_ request: APIRequest, _ services: PlatformServices) async throws -> APIResponse {
        guard let events = try body(request).arrayValue, 1...1000 ~= events.count else {
            throw PlatformError(.invalidInput, "request body", "a list of 1 to 1,000 events is expected")
        }
        var failed: [JSONValue] = []
        for (index, event) in events.enumerated() {
            do { try await services.lineage.receive(event) } catch let error as PlatformError {
                failed.append([
                    "index": .integer(Int64(index)), "reason": .string("\(error.subject): \(error.message)"),
                    "retriable": false,
                ])
            }
        }
        return .json([
            "status": failed.isEmpty ? "success" : "partial_success",
            "summary": [
                "received": .integer(Int64(events.count)), "successful": .integer(Int64(events.count - failed.count)),
                "failed": .integer(Int64(failed.count)), "retriable": 0, "non_retriable": .integer(Int64(failed.count)),
            ], "failed_events": .array(failed),
        ])
    }

    /// Where one row came from: its batch, and the file if it was loaded from one.
    private static func row(_ source: SourceDefinition, _ offset: UInt64, _ services: PlatformServices) async throws
        -> JSONValue
    {
        let topic = PlatformTopic.source(source.name)
        let found = try await services.log.read(
            topic, partition: 0, from: offset, recordCountMax: 1, byteCountMax: 32 << 20)
        guard let stored = found.first, stored.offset == offset else {
            throw PlatformError(.notFound, "\(topic)/\(offset)", "the log has no row there")
        }
        let record = try JSONValue.parse(stored.record.value)
        let batch = record["b"]?.stringValue ?? ""
        let load = try await services.ingest.loads(of: source.name, countMax: 10_000).first {
            "load-\($0.contentHash.hex.prefix(16))" == batch
        }
        return [
            "source": .string(source.name.text), "topic": .string(topic.text),
            "offset": .integer(Int64(clamping: offset)),
            "key": .string(source.columns.contains(where: \.isSensitive) ? "•••" : stored.record.key),
            "batch": .string(batch), "file": load.map { .string($0.file) } ?? .null,
            "sha256": load.map { .string($0.contentHash.hex) } ?? .null,
            "event_time": record["e"]?.integerValue.map { .string(EventTime(milliseconds: $0).description) } ?? .null,
            "ingest_time": record["i"]?.integerValue.map { .string(EventTime(milliseconds: $0).description) } ?? .null,
        ]
    }
}
