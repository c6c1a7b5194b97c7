public import Definitions
import FeatureStore
import Foundation
import ModelRegistry
import PlatformCore

/// What an `apply` would reach: who leans on what changes, what is built again, who keeps what was there before.
public struct BlastRadius: Sendable, Codable {
    /// A version of a view that has to be built.
    public struct Backfill: Sendable, Codable {
        /// The view.
        public let view: String
        /// The version to be built, `paid.v1a2b3c4d`.
        public let version: String
        /// The source whose log is read.
        public let source: String
        /// Rows of the log to read.
        public let rows: UInt64
        /// Entities that the version before knows, about; 0 if there is none.
        public let entities: Int
        /// How long it takes, about.
        public let seconds: Double
    }
    /// A version of a model that goes on with what it was trained with.
    public struct Keeper: Sendable, Codable {
        /// `model/loss/versions/3`.
        public let model: String
        /// Its stage and its place in a deployment.
        public let use: String
        /// The feature service.
        public let service: String
        /// The versions of views that are kept for it.
        public let views: [String]
    }
    /// A feature that appears, goes, or means something else.
    public struct Feature: Sendable, Codable {
        /// `view__feature`.
        public let name: String
        /// What happens to it.
        public let kind: DefinitionChange.Kind
    }

    /// Everything that leans on what changes, by kind; what changes itself included.
    public var touched: [String: [String]] = [:]
    /// Owners of all that.
    public var teams: [String] = []
    /// Columns of training sets and inputs of models that differ.
    public var features: [Feature] = []
    /// Versions of views to be built.
    public var backfills: [Backfill] = []
    /// Rows of the log applied in a second, for one view, that the estimates suppose.
    public var rowsPerSecond: Double = 0
    /// Whether that was measured here; else it is a cautious guess.
    public var isMeasured = false
    /// Versions of models that keep what was there before.
    public var keepers: [Keeper] = []
    /// Rows that leave their table by a shorter retention; `apply` asks for a confirmation.
    public var removals: [RetentionEffect] = []
    /// What to know before one does it.
    public var warnings: [String] = []
    /// Why `apply` refuses, unless it is forced.
    public var refusals: [String] = []

    enum CodingKeys: String, CodingKey {
        case touched, teams, features, backfills, keepers, removals, warnings, refusals
        case rowsPerSecond = "rows_per_second"
        case isMeasured = "rate_measured"
    }
}

extension FeatureVersionKeeper {
    /// Rows of one view in a second that are supposed before any were measured.
    private static let rowsPerSecondGuess = 100_000.0

    /// What going from one set to another would reach.
    public func blastRadius(of changes: [DefinitionChange], from before: DefinitionSet, to after: DefinitionSet)
        async throws -> BlastRadius
    {
        var radius = BlastRadius()
        guard !changes.isEmpty else { return radius }
        var touched: Set<String> = []
        for change in changes {
            touched.insert(change.identifier)
            touched.formUnion(change.touches)
        }
        radius.touched = Dictionary(grouping: touched.sorted()) { String($0.prefix { $0 != "/" }) }
            .mapValues { $0.map { String($0.drop { $0 != "/" }.dropFirst()) } }
        radius.teams = Set(
            touched.flatMap { [before.owner(of: $0), after.owner(of: $0)] }.filter { !$0.isEmpty }
        ).sorted()
        radius.features = Self.features(changes, before, after)
        try await addBackfills(to: &radius, changes, before, after)
        try await addModels(to: &radius, changes, before, after)
        return radius
    }

    private static func features(_ changes: [DefinitionChange], _ before: DefinitionSet, _ after: DefinitionSet)
        -> [BlastRadius.Feature]
    {
        var features: [BlastRadius.Feature] = []
        for change in changes where change.identifier.hasPrefix("FeatureView/") {
            guard let name = Name(change.identifier.dropFirst("FeatureView/".count)) else { continue }
            let (old, new) = (before.featureViews[name], after.featureViews[name])
            let (olds, news) = (Set((old?.features ?? []).map(\.name)), Set((new?.features ?? []).map(\.name)))
            // `features.mean_24h.window`
            let changed = Set(
                change.fields.compactMap { field -> String? in
                    let parts = field.path.split(separator: ".", maxSplits: 2)
                    return parts.count > 1 && parts[0] == "features" ? String(parts[1]) : nil
                })
            // What the view says of all its features reaches each of them.
            let isWhole =
                change.kind == .change
                && change.fields.contains { !$0.path.hasPrefix("features.") && $0.path != "features (order)" }
            for feature in olds.union(news).sorted() {
                let kind: DefinitionChange.Kind? =
                    switch (olds.contains(feature), news.contains(feature)) {
                    case (false, _): .create
                    case (_, false): .remove
                    case (true, true): changed.contains(feature) || isWhole || change.fields.isEmpty ? .change : nil
                    }
                if let kind { features.append(BlastRadius.Feature(name: "\(name)__\(feature)", kind: kind)) }
            }
        }
        return features
    }

    private func addBackfills(
        to radius: inout BlastRadius, _ changes: [DefinitionChange], _ before: DefinitionSet, _ after: DefinitionSet
    ) async throws {
        let held = Dictionary(stream.versions.map { ($0.versionName, $0) }, uniquingKeysWith: { $1 })
        let measured = stream.rowsPerSecond
        radius.isMeasured = measured != nil
        radius.rowsPerSecond = (measured ?? Self.rowsPerSecondGuess).rounded()
        for change in changes where change.kind != .remove && change.identifier.hasPrefix("FeatureView/") {
            guard let name = Name(change.identifier.dropFirst("FeatureView/".count)),
                let view = after.featureViews[name], held[view.versionName]?.state != .ready
            else { continue }
            let end = try await stream.endOffset(of: view.source)
            let rows = end - min(end, held[view.versionName]?.nextOffset ?? 0)
            guard rows > 0 else { continue }
            radius.backfills.append(
                BlastRadius.Backfill(
                    view: name.text, version: view.versionName.text, source: view.source.text, rows: rows,
                    entities: before.featureViews[name].map { stream.entityCount(of: $0.versionName) } ?? 0,
                    seconds: (Double(rows) / radius.rowsPerSecond * 10).rounded(.up) / 10))
        }
    }

    private func addModels(
        to radius: inout BlastRadius, _ changes: [DefinitionChange], _ before: DefinitionSet, _ after: DefinitionSet
    ) async throws {
        let services = Set(after.featureServices.values.map(\.version))
        let removed = Set(changes.filter { $0.kind == .remove }.map(\.identifier))
        for (version, use) in try await modelVersionsInUse() {
            let wanted = version.candidate.origin.serviceVersion
            if let wanted, !services.contains(wanted), let service = try await catalog.service(wanted) {
                let gone = service.views.filter { after.featureViews[$0.view.name]?.version != $0.view.version }
                radius.keepers.append(
                    BlastRadius.Keeper(
                        model: version.subject, use: use, service: service.service.name.text,
                        views: gone.map(\.versionName.text)))
            }
            if removed.contains("Model/\(version.model)"), use.hasPrefix("canary") || use.hasPrefix("production") {
                radius.refusals.append("Model/\(version.model) is removed, and \(version.subject) is in use: \(use)")
            }
        }
        for deployment in before.deployments.keys where after.deployments[deployment] == nil {
            guard let policy = try await registry.current(deployment)?.policy else { continue }
            let versions = policy.variants.map { String($0.version) }.joined(separator: ", ")
            radius.refusals.append(
                "Deployment/\(deployment) is removed, and version \(versions) answers its requests; they would get 404")
        }
        for name in before.sources.keys.sorted() where after.sources[name] == nil {
            let end = try await stream.endOffset(of: name)
            if end > 0 {
                radius.warnings.append(
                    "Source/\(name) is removed: its \(end) rows stay in the log and the table, new ones are refused")
            }
        }
        for change in changes where change.kind == .remove && change.identifier.hasPrefix("FeatureView/") {
            let name = change.identifier.dropFirst("FeatureView/".count)
            let users = radius.keepers.filter { keeper in keeper.views.contains { $0.hasPrefix("\(name).v") } }
            if !users.isEmpty {
                radius.warnings.append(
                    "\(change.identifier) is removed, and goes on being computed for "
                        + users.map(\.model).joined(separator: ", "))
            }
        }
        radius.refusals.sort()
    }
}
