import APIContract
import Definitions
import Foundation
import PlatformCore
import Statistics
import Workflows

/// Evaluations of versions, and of predictions that somebody hands in.
enum EvaluationRoutes {
    private static let fileByteCountMax = 8 << 30
    private static let bodyByteCountMax = 128 << 20

    static func routes(_ services: PlatformServices) -> [Route] {
        [
            Route("POST", "/api/v1/evaluation-data", body: .spool(byteCountMax: fileByteCountMax)) { request in
                guard let spooled = request.bodyFile else {
                    throw PlatformError(.invalidInput, "request body", "the file is missing")
                }
                let hash = try DataRoutes.hash(fileAt: spooled)
                try await services.evaluations.keep(fileAt: spooled, hash: hash)
                return .json(["data": .string(hash.hex)], status: 201)
            },
            Route("POST", "/api/v1/models/{model}/evaluations") { request in
                let model = try request.name("model")
                let asked = try await evaluationRequest(try RequestBody(request), services)
                let actor = request.actor
                return try services.start { progress in
                    let (hash, found) = try await services.evaluations.evaluate(
                        model, asked, actor: actor, progress: progress)
                    return try describe(hash, found)
                }
            },
            Route("GET", "/api/v1/models/{model}/evaluations") { request in
                let model = try request.name("model")
                let version = try request.queryValue("version").map { text in
                    guard let number = Int(text), number > 0 else {
                        throw PlatformError(.invalidInput, "query", "'version' must be a version's number")
                    }
                    return number
                }
                let entries = try await services.evaluations.list(
                    model, version: version, countMax: try request.count("count", default: 200, most: 10_000))
                return .json(["evaluations": .array(entries.map(describe))])
            },
            Route("GET", "/api/v1/evaluations/{hash}") { request in
                let hash = try hash(request.parameters["hash"] ?? "", "evaluation")
                return .json(try describe(hash, try await services.evaluations.evaluation(hash)))
            },
            .page("/evaluations/{hash}") { request in
                let hash = try hash(request.parameters["hash"] ?? "", "evaluation")
                return EvaluationPage.html(hash, try await services.evaluations.evaluation(hash))
            },
            Route("POST", "/api/v1/evaluations", body: .collect(byteCountMax: bodyByteCountMax)) { request in
                .json(try await handedIn(request))
            },
        ]
    }

    private static func describe(_ hash: ContentHash, _ found: ModelEvaluation) throws -> JSONValue {
        guard case .object(var members) = try JSONValue.of(found) else { return .null }
        members["evaluation"] = .string(hash.hex)
        members["created_at"] = .string(found.createdAt.description)
        members["page"] = .string("/evaluations/\(hash.hex)")
        return .object(members)
    }

    private static func describe(_ entry: EvaluationIndex.Entry) -> JSONValue {
        [
            "evaluation": .string(entry.hash.hex), "version": .integer(Int64(entry.version)),
            "created_at": .string(entry.createdAt.description), "actor": .string(entry.actor),
            "data": .string(entry.data.hex), "part": .string(entry.part), "rows": .integer(Int64(entry.rowCount)),
            "metrics": .object(entry.metrics.mapValues(JSONValue.number)),
        ]
    }

    private static func hash(_ text: String, _ what: String) throws -> ContentHash {
        guard let hash = ContentHash(hex: text) else {
            throw PlatformError(
                .invalidInput, what, "'\(text.prefix(64))' is no hash of 64 hexadecimal digits")
        }
        return hash
    }

    // MARK: Reading requests

    private static let planKeys = [
        "metrics", "threshold", "bins", "bin_strategy", "small_below", "replicates", "confidence", "seed",
    ]

    private static func evaluationRequest(_ body: RequestBody, _ services: PlatformServices) async throws
        -> EvaluationRequest
    {
        try body.checkKeys(
            planKeys + [
                "version", "compare", "dataset", "part", "data", "format", "name", "label", "slices", "protected",
                "query", "track",
            ])
        var asked = EvaluationRequest()
        if let data = body["data"] {
            guard body["dataset"] == nil, body["part"] == nil else {
                throw PlatformError(.invalidInput, "request body", "name either 'data', or 'dataset' with 'part'")
            }
            let format = try body.text("format")
            guard let known = EvaluationFile.Format(rawValue: format) else {
                let names = EvaluationFile.Format.allCases.map(\.rawValue).joined(separator: ", ")
                throw PlatformError(.invalidInput, "request body", "'format' must be one of \(names)")
            }
            asked.rows = .file(
                try hash(data.stringValue ?? "", "request body"), format: known,
                name: String((body["name"]?.stringValue ?? "").suffix(255)))
        } else {
            var dataset: ContentHash?
            if let named = body["dataset"] {
                dataset = try await services.pipeline.dataset(named: named.stringValue ?? "")
            }
            asked.rows = .dataset(
                dataset, part: body["part"] == nil ? "test" : try body.text("part"))
        }
        if body["version"] != nil {
            asked.version = Int(try body.integer("version", default: 1, in: 1...Int64(Int32.max)))
        }
        asked.others = try (body["compare"]?.arrayValue ?? []).map { value in
            guard let number = value.integerValue, 1...Int64(Int32.max) ~= number else {
                throw PlatformError(.invalidInput, "request body", "'compare' must be a list of version numbers")
            }
            return Int(number)
        }
        if body["label"] != nil { asked.label = try body.text("label") }
        if body["query"] != nil { asked.query = try body.text("query") }
        asked.slices = try texts(body, "slices")
        asked.protected = try texts(body, "protected")
        let plan = try plan(body)
        asked.metrics = body["metrics"] == nil ? nil : plan.metrics
        asked.threshold = body["threshold"] == nil ? nil : plan.threshold
        asked.binCount = body["bins"] == nil ? nil : plan.binCount
        asked.binStrategy = body["bin_strategy"] == nil ? nil : plan.binStrategy
        asked.smallBelow = body["small_below"] == nil ? nil : plan.smallBelow
        asked.replicateCount = body["replicates"] == nil ? nil : plan.bootstrap.replicateCount
        asked.confidence = plan.bootstrap.confidence
        asked.seed = plan.bootstrap.seed
        if let track = body["track"] {
            guard let flag = track.boolValue else {
                throw PlatformError(.invalidInput, "request body", "'track' must be true or false")
            }
            asked.isTracked = flag
        }
        return asked
    }

    private static func texts(_ body: RequestBody, _ key: String) throws -> [String]? {
        guard let value = body[key] else { return nil }
        guard let list = value.arrayValue, list.count <= 100, list.allSatisfy({ $0.stringValue != nil }) else {
            throw PlatformError(.invalidInput, "request body", "'\(key)' must be a list of at most 100 columns")
        }
        return list.compactMap(\.stringValue)
    }

    private static func plan(_ body: RequestBody) throws -> EvaluationPlan {
        var plan = EvaluationPlan()
        plan.metrics = try (texts(body, "metrics") ?? []).map { text in
            if let metric = EvaluationMetric(rawValue: text) { return metric }
            let known = EvaluationMetric.knownNames
            throw PlatformError(
                .invalidInput, "request body",
                "'\(text.prefix(60))' is no metric"
                    + (nearestName(to: text, among: known).map { "; did you mean '\($0)'?" }
                        ?? "; known are \(known.joined(separator: ", "))"))
        }
        plan.threshold = try number(body, "threshold", default: 0.5, in: -1e300...1e300)
        plan.binCount = Int(try body.integer("bins", default: 10, in: 1...1000))
        if let text = body["bin_strategy"] {
            guard let strategy = ReliabilityBin.Strategy(rawValue: text.stringValue ?? "") else {
                throw PlatformError(.invalidInput, "request body", "'bin_strategy' must be uniform or quantile")
            }
            plan.binStrategy = strategy
        }
        plan.smallBelow = Int(try body.integer("small_below", default: 30, in: 0...Int64(Int32.max)))
        plan.bootstrap = Bootstrap(
            replicateCount: Int(try body.integer("replicates", default: 1000, in: 2...100_000)),
            confidence: try number(body, "confidence", default: 0.95, in: 0.01...0.9999),
            seed: UInt64(try body.integer("seed", default: 0, in: 0...Int64.max)))
        return plan
    }

    private static func number(
        _ body: RequestBody, _ key: String, default value: Double, in range: ClosedRange<Double>
    ) throws -> Double {
        guard let given = body[key] else { return value }
        guard let number = given.doubleValue, range.contains(number) else {
            throw PlatformError(
                .invalidInput, "request body",
                "'\(key)' must be a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    // MARK: Predictions that somebody hands in

    @concurrent
    private static func handedIn(_ request: APIRequest) async throws -> JSONValue {
        let json: JSONValue
        do {
            json = try JSONValue.parse(request.body, limits: JSONLimits(byteCountMax: bodyByteCountMax))
        } catch { throw PlatformError(.invalidInput, "request body", error.description) }
        let body = try RequestBody(json)
        try body.checkKeys(planKeys + ["predictions", "labels", "queries", "slices", "protected"])
        guard let list = body["predictions"]?.arrayValue, let labels = try numbers(body, "labels") else {
            throw PlatformError(
                .invalidInput, "request body", "'predictions' and 'labels' are lists, one element for each row")
        }
        let outputCount = list.first?.arrayValue?.count ?? 1
        var predictions: [Double] = []
        predictions.reserveCapacity(list.count * outputCount)
        for (row, value) in list.enumerated() {
            let outputs = value.arrayValue ?? [value]
            guard outputs.count == outputCount, outputCount > 0 else {
                throw PlatformError(
                    .invalidInput, "predictions[\(row)]",
                    "\(outputs.count) outputs, but \(outputCount) in the first row")
            }
            for output in outputs {
                guard let number = output.doubleValue, number.isFinite else {
                    throw PlatformError(.invalidInput, "predictions[\(row)]", "\(output.kindName) is no finite number")
                }
                predictions.append(number)
            }
        }
        let queries = try body["queries"].map { _ in try codes(body, "queries") }
        do {
            let rows = try EvaluationRows(
                predictions: predictions, outcomes: labels, outputCount: outputCount, queries: queries)
            let report = try EvaluationReport(
                rows, plan: try plan(body), slices: try columns(body, "slices"),
                protected: try columns(body, "protected"))
            return try JSONValue.of(report)
        } catch let error as StatisticsError { throw PlatformError(.invalidInput, "request body", error.description) }
    }

    private static func numbers(_ body: RequestBody, _ key: String) throws -> [Double]? {
        guard let list = body[key]?.arrayValue else { return nil }
        return try list.enumerated().map { row, value in
            guard let number = value.doubleValue ?? value.boolValue.map({ $0 ? 1 : 0 }), number.isFinite else {
                throw PlatformError(.invalidInput, "\(key)[\(row)]", "\(value.kindName) is no finite number")
            }
            return number
        }
    }

    /// A list of texts or numbers as numbers, equal for equal elements.
    private static func codes(_ body: RequestBody, _ key: String) throws -> [Int] {
        guard let list = body[key]?.arrayValue else {
            throw PlatformError(.invalidInput, "request body", "'\(key)' must be a list, one element for each row")
        }
        var known: [JSONValue: Int] = [:]
        return list.map { value in
            if let code = known[value] { return code }
            known[value] = known.count
            return known.count - 1
        }
    }

    private static func columns(_ body: RequestBody, _ key: String) throws -> [SliceColumn] {
        guard let value = body[key] else { return [] }
        guard let members = value.objectValue, members.values.allSatisfy({ $0.arrayValue != nil }) else {
            throw PlatformError(
                .invalidInput, "request body", "'\(key)' must be an object of lists, one element for each row")
        }
        return members.sorted { $0.key < $1.key }.map { name, list in
            SliceColumn(
                name: name, texts: (list.arrayValue ?? []).map { $0.isNull ? "(missing)" : $0.stringValue ?? $0.text })
        }
    }
}
