import APIContract
import Definitions
import FeatureStore
import PlatformCore

extension FeastRoutes {
    /// Most features of one request.
    static let featureCountMax = 10_000
    /// Most values of one answer.
    static let valueCountMax = 1_000_000

    func getOnlineFeatures(_ request: APIRequest) async throws -> APIResponse {
        let body = try FeastRequest(
            request, byteCountMax: Self.questionByteCountMax,
            known: [
                "entities", "features", "feature_service", "full_feature_names",
                "include_feature_view_version_metadata",
            ])
        let hasFullNames = try body.flag("full_feature_names")
        let hasVersions = try body.flag("include_feature_view_version_metadata")
        let features = try body.texts("features", countMax: Self.featureCountMax) ?? []
        let service = try body["feature_service"].map { _ in try body.text("feature_service") }
        let plan = try plan(features: features, service: service, hasFullNames: hasFullNames)
        let entities = try EntityColumns(body["entities"], joinKeys: plan.selection.joinKeys)
        guard entities.count * plan.selection.features.count <= Self.valueCountMax else {
            throw FeastError(
                "FeastError", 413,
                "\(entities.count) entities with \(plan.selection.features.count) features are more than the"
                    + " \(Self.valueCountMax) values of one answer; ask in parts")
        }
        await stream.prepare(plan.selection, keys: entities.keys)
        let values = try stream.read(plan.selection, entityCount: entities.count, keys: entities.keys)
        return APIResponse(
            headers: [("Content-Type", "application/json")],
            body: .bytes(OnlineAnswer.bytes(plan, entities, values, hasVersions: hasVersions)))
    }

    /// The compiled question: the same as last time, unless other versions answer by now.
    private func plan(features: [String], service: String?, hasFullNames: Bool) throws -> FeastPlan {
        // The flag comes first and no name holds a line feed, so two questions with one key are the same question.
        var key = hasFullNames ? "full" : "short"
        if let service { key += "\nservice\n" + service } else { for feature in features { key += "\n" + feature } }
        if let known = plans[key], stream.isCurrent(known.selection) { return known }
        let selection: FeatureSelection
        if let service {
            guard let name = Name(service) else {
                throw FeastError(
                    "FeatureServiceNotFoundException", 404, "Feature service \(service.prefix(128)) does not exist")
            }
            selection = try stream.select(service: name)
        } else {
            guard !features.isEmpty else { throw FeastError.invalid("No features specified for retrieval") }
            selection = try stream.select(features.map(Self.reference))
        }
        let fresh = try FeastPlan(selection, hasFullNames: hasFullNames)
        plans[key] = fresh
        return fresh
    }

    /// Reads `view:feature`.
    static func reference(_ text: String) throws -> ServedFeature {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty, !text.utf8.contains(10) else {
            throw FeastError.invalid(
                "Invalid feature reference '\(text.prefix(128))'. Expected format: '<feature_view>:<feature>'")
        }
        let view = parts[0].split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        guard view.count == 1 || view[1] == "latest" else {
            throw FeastError(
                "VersionedOnlineReadNotSupported", 422,
                "'\(text.prefix(128))': a view answers in the version in force, or in that of the model that reads it")
        }
        guard let name = Name(view[0]) else { throw FeastError.unknownView(String(view[0]), among: []) }
        return ServedFeature(view: name, feature: String(parts[1]))
    }
}
