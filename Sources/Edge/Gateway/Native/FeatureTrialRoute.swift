import APIContract
import Definitions
import FeatureStore
import PlatformCore
import Workflows

/// A view of definitions that are not applied, computed on the stored history.
enum FeatureTrialRoute {
    /// Rows of the answer; the statistics are over all.
    private static let shownRowCount = 20

    static func `try`(_ request: APIRequest, _ services: PlatformServices) throws -> APIResponse {
        let body = try RequestBody(request)
        try body.checkKeys(["files", "view", "path", "entity", "at", "rows", "seed"])
        let files = try body.definitionFiles()
        let set: DefinitionSet
        do { set = try DefinitionCompiler.compile(files) } catch {
            throw PlatformError(.invalidInput, "", error.description)
        }
        let views = try views(body, files, set)
        let question = FeatureTrial.Question(
            entity: try entity(body), time: try body.time("at"),
            rowCount: Int(try body.integer("rows", default: 1000, in: 1...Int64(FeatureTrial.Question.rowCountMax))),
            seed: UInt64(try body.integer("seed", default: 0, in: 0...Int64.max)))
        return try services.start { progress in
            var answers: [JSONValue] = []
            for view in views {
                let source = set.source(of: view)
                let current = services.catalog.current
                let outcome = try await services.trial.run(
                    view, source: source, current: current.sources[source.name], question
                ) { step in
                    progress.report(
                        step.message, done: Double(step.done), total: Double(step.total), unit: "steps")
                }
                answers.append(
                    describe(outcome, isApplied: current.featureViews[view.name]?.version == view.version))
            }
            return ["views": .array(answers)]
        }
    }

    /// The view that was named, or those of one of the files.
    private static func views(_ body: RequestBody, _ files: [DefinitionFile], _ set: DefinitionSet) throws
        -> [FeatureViewDefinition]
    {
        switch (body["view"], body["path"]) {
        case (_?, nil):
            let name = try body.name("view")
            guard let view = set.featureViews[name] else {
                let near = nearestName(to: name.text, among: set.featureViews.keys.map(\.text))
                throw PlatformError(
                    .notFound, "feature_view/\(name)",
                    "the files do not define it" + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            return [view]
        case (nil, _?):
            let path = try body.text("path")
            guard let file = files.first(where: { $0.path == path }) else {
                throw PlatformError(.invalidInput, "request body", "'path' must be that of one of the files")
            }
            let names = DefinitionCompiler.names(of: "FeatureView", in: file)
            let views = names.compactMap { set.featureViews[$0] }
            guard !views.isEmpty else { throw PlatformError(.invalidInput, path, "defines no FeatureView to try") }
            return views
        default: throw PlatformError(.invalidInput, "request body", "say which: 'view', or 'path' of one of the files")
        }
    }

    private static func entity(_ body: RequestBody) throws -> [String: String]? {
        guard let given = body["entity"] else { return nil }
        guard case .object(let members) = given else {
            throw PlatformError(.invalidInput, "request body", "'entity' must be an object of join key values")
        }
        return try Dictionary(
            uniqueKeysWithValues: members.map { key, value in
                switch value {
                case .string(let text): (key, text)
                case .integer(let number): (key, String(number))
                default:
                    throw PlatformError(
                        .invalidInput, "request body", "'entity.\(key.prefix(60))' must be text or a whole number")
                }
            })
    }

    // MARK: The answer

    private static func describe(_ outcome: FeatureTrial.Outcome, isApplied: Bool) -> JSONValue {
        let (view, history) = (outcome.view, outcome.history)
        return [
            "view": .string(view.versionName.text), "applied": .bool(isApplied), "source": .string(view.source.text),
            "keys": .array(view.joinKeys.map(JSONValue.string)),
            "history": [
                "table_version": .integer(history.tableVersion), "rows": .integer(Int64(history.rowCount)),
                "entities": .integer(Int64(history.entityCount)),
                "first_event_time": .string(history.firstEventTime.description),
                "last_event_time": .string(history.lastEventTime.description),
                "median_delay_ms": .integer(history.medianDelayMilliseconds),
            ],
            "questions": .integer(Int64(outcome.rows.count)),
            "features": .array(zip(view.features, outcome.summaries).map(describe)),
            "rows": .array(
                outcome.rows.prefix(shownRowCount).map { row in
                    [
                        "entity": .object(
                            Dictionary(
                                uniqueKeysWithValues: zip(view.joinKeys, row.keys).map {
                                    ($0, $1.map(JSONValue.string) ?? .null)
                                })),
                        "at": .string(row.time.description),
                        "values": .object(
                            Dictionary(
                                uniqueKeysWithValues: zip(view.features, row.values).map { ($0.name, $1.json) })),
                    ]
                }),
            "cost": describe(outcome.cost),
            "remarks": .array(outcome.remarks.map(JSONValue.string)),
        ]
    }

    private static func describe(_ feature: FeatureDefinition, _ summary: ValueSummary) -> JSONValue {
        func number(_ value: Double?) -> JSONValue { value.map(JSONValue.number) ?? .null }
        return [
            "name": .string(feature.name), "type": .string(feature.type.rawValue),
            "aggregate": .string(feature.aggregate.rawValue),
            "window": feature.window.map { .string($0.description) } ?? .null,
            "count": .integer(Int64(summary.count)), "nulls": .integer(Int64(summary.nullCount)),
            "distinct": .integer(Int64(summary.distinctCount)), "min": number(summary.minimum),
            "max": number(summary.maximum), "mean": number(summary.mean),
            "stddev": number(summary.standardDeviation), "median": number(summary.median),
            "p99": number(summary.percentile99),
            "histogram": .array(
                summary.histogram.map {
                    ["from": .number($0.from), "to": .number($0.to), "count": .integer(Int64($0.count))]
                }),
            "frequent": .array(
                summary.frequencies.map { ["value": $0.value.json, "count": .integer(Int64($0.count))] }),
        ]
    }

    private static func describe(_ cost: FeatureTrial.Cost) -> JSONValue {
        [
            "offline_seconds": .number(cost.offlineSeconds), "sampled_rows": .integer(Int64(cost.sampledRowCount)),
            "nanoseconds_per_row": .number(cost.nanosecondsPerRow), "bytes_per_row": .number(cost.bytesPerRow),
            "nanoseconds_per_read": .number(cost.nanosecondsPerRead), "build_seconds": .number(cost.buildSeconds),
            "state_bytes": .number(cost.stateByteCount),
        ]
    }
}
