import APIContract
import Datasets
import Definitions
import FeatureStore
import PlatformCore

extension FeastRoutes {
    /// How long a call waits for versions that are being built.
    static let waitMax = Duration.seconds(300)

    /// Makes sure that what the views' sources hold is what they answer.
    ///
    /// The stream engine computes features as rows arrive, so there is no interval to compute. What is left of the call is
    /// what it is for: new rows are fetched where the source's definition says they come from, and the answer comes when
    /// the views serve all of them.
    func materialize(_ request: APIRequest, isIncremental: Bool) async throws -> APIResponse {
        let body = try FeastRequest(
            request, byteCountMax: 1 << 20,
            known: isIncremental
                ? ["end_ts", "feature_views", "full_feature_names", "version"]
                : [
                    "start_ts", "end_ts", "feature_views", "disable_event_timestamp", "full_feature_names", "version",
                ])
        guard body["version"] == nil else {
            throw FeastError.invalid("'version': views are built in the version in force")
        }
        let (start, end) = (try body.moment("start_ts"), try body.moment("end_ts"))
        if isIncremental {
            guard end != nil else { throw FeastError.invalid("'end_ts' is missing") }
        } else if try !body.flag("disable_event_timestamp") {
            guard let start, let end else {
                throw FeastError.invalid("start_ts and end_ts are required when disable_event_timestamp is False")
            }
            guard start < end else { throw FeastError.invalid("start_ts (\(start)) must be before end_ts (\(end))") }
        }
        let views = try views(named: try body.texts("feature_views", countMax: 10_000))
        let names = views.map(\.name)
        let actor = request.actor
        guard try Self.flag("async", request) else {
            try await bring(views, actor)
            return .json(.null)
        }
        let busy = underWay.claim(names, isForced: try Self.flag("force", request))
        guard busy.isEmpty else {
            let list = busy.map { "'\($0)'" }.joined(separator: ", ")
            return .json(
                [
                    "error": .string(
                        "Cannot start async materialization: the following feature views are already in MATERIALIZING"
                            + " state: [\(list)]. Use ?force=true to override."),
                    "feature_views": .array(busy.map { .string($0.text) }),
                ], status: 409)
        }
        do {
            let operation = try self.start {
                defer { underWay.release(names) }
                try await bring(views, actor)
                return ["feature_views": .array(names.map { .string($0.text) })]
            }
            return .json(
                [
                    "status": "accepted", "feature_views": .array(names.map { .string($0.text) }),
                    "operation": .string(operation),
                ], status: 202)
        } catch {
            underWay.release(names)
            throw error
        }
    }

    private func views(named names: [String]?) throws -> [FeatureViewDefinition] {
        let known = definitions().featureViews
        guard let names else { return known.values.sorted { $0.name < $1.name } }
        return try names.map { text in
            guard let name = Name(text), let view = known[name] else {
                throw FeastError.unknownView(text, among: known.keys.map(\.text))
            }
            return view
        }
    }

    /// Fetches what is new for the views' sources and waits until the views answer.
    private func bring(_ views: [FeatureViewDefinition], _ actor: String) async throws {
        let sources = definitions().sources
        for name in Set(views.map(\.source)).sorted() {
            guard let source = sources[name], source.origin != nil else { continue }
            let report = try await ingest.pull(source, now: clock.now())
            await pulled(name, report, actor)
        }
        let missing = try await stream.waitUntilServed(views.map(\.versionName), timeout: Self.waitMax)
        if let view = views.first(where: { missing.contains($0.versionName) }) {
            throw FeastError("FeastError", 503, "'\(view.name)' is still being built from history; ask again later")
        }
    }

    private static func flag(_ name: String, _ request: APIRequest) throws -> Bool {
        switch request.queryValue(name)?.lowercased() {
        case nil, "false", "0": return false
        case "true", "1": return true
        case let other?: throw FeastError.invalid("'\(name)' must be true or false, not '\(other.prefix(32))'")
        }
    }
}
