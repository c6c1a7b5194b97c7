import Aggregation
public import Definitions
public import PlatformCore
import Synchronization

/// Features of views picked one by one, or those of a service, compiled once and read by many requests.
///
/// It holds the versions that answered when it was made; `StreamEngine.isCurrent` says whether they still do.
public struct FeatureSelection: Sendable {
    /// A join key with its type in the source.
    public struct Key: Sendable, Hashable {
        /// The column.
        public let name: String
        /// Its type.
        public let type: ColumnType
    }

    /// Join keys in the order in which `read` takes their values.
    public let joinKeys: [Key]
    /// The features in the order of the values.
    public let features: [ServedFeature]
    /// Types of the values.
    public let types: [ColumnType]
    /// The views that are read and the versions that answer for them, in the order of their first feature.
    public let versions: [(view: Name, version: Name)]
    let plan: OnlinePlan
    let generation: UInt64
}

extension StreamEngine {
    /// Compiles a list of features.
    /// - Throws: `notFound` for an unknown view, or one that nothing serves; `invalidInput` for a feature that its view
    ///   does not have; `unavailable` while a version is being built.
    public func select(_ features: [ServedFeature]) throws(PlatformError) -> FeatureSelection {
        try select(features, reads: nil)
    }

    /// The features that a service reads from views.
    /// - Throws: `notFound` for an unknown service; as `select` of a list.
    public func select(service name: Name) throws(PlatformError) -> FeatureSelection {
        let known = snapshot.withLock { $0 }
        guard let service = known.definitions.featureServices[name] else {
            throw unknown("feature service", name, among: known.definitions.featureServices.keys.map(\.text))
        }
        guard case .service(let counter) = known.servicePlans[name]?.reader else { return try select(service.features) }
        return try select(service.features, reads: counter)
    }

    private func select(_ features: [ServedFeature], reads: ReadCounter?) throws(PlatformError) -> FeatureSelection {
        let known = snapshot.withLock { $0 }
        var joinKeys: [FeatureSelection.Key] = []
        var views: [Name: HeldView] = [:]
        var order: [Name] = []
        for feature in features {
            if views[feature.view] == nil {
                let held = try served(feature.view, known)
                views[feature.view] = held
                order.append(feature.view)
                for key in held.view.joinKeys where !joinKeys.contains(where: { $0.name == key }) {
                    joinKeys.append(FeatureSelection.Key(name: key, type: held.source.column(key)?.type ?? .string))
                }
            }
            let names = views[feature.view]?.view.features.map(\.name) ?? []
            guard names.contains(feature.feature) else {
                let near = nearestName(to: feature.feature, among: names)
                throw PlatformError(
                    .invalidInput, "feature_view/\(feature.view)",
                    "it has no feature '\(feature.feature.prefix(100))'"
                        + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
        }
        guard let compiled = ServingPlan.compile(features, joinKeys: joinKeys.map(\.name), views: views) else {
            preconditionFailure("every feature was found above")
        }
        let counter = reads ?? ReadCounter(consumer: "view", features: compiled.features)
        return FeatureSelection(
            joinKeys: joinKeys, features: features, types: compiled.features.map(\.type),
            versions: zip(order, compiled.parts).map { ($0, $1.versionName) },
            plan: OnlinePlan(
                names: features.map(\.servedName), joinKeys: joinKeys.map(\.name), parts: compiled.parts, reads: counter
            ),
            generation: known.generation)
    }

    /// Whether the versions that a selection holds still answer for the names of its views.
    public func isCurrent(_ selection: FeatureSelection) -> Bool {
        snapshot.withLock { $0.generation } == selection.generation
    }

    /// Computes the selected features of several entities at one moment, synchronously; as `online` of a service.
    /// - Parameters:
    ///   - keys: entity by entity, a value for each of `selection.joinKeys`; `nil` makes the entity `notFound` in the views
    ///     that have the key.
    ///   - time: the moment of the question; now where it is left out.
    /// - Throws: `notFound` if a version is no longer served, `unavailable` or `corrupted` when the online store fails.
    public func read(_ selection: FeatureSelection, entityCount: Int, keys: [String?], at time: EventTime? = nil)
        throws(PlatformError) -> OnlineFeatures
    {
        let plan = selection.plan
        precondition(keys.count == entityCount * plan.joinKeys.count, "a value, or nil, for each join key")
        count(plan, reads: entityCount)
        let moment = time ?? clock.now()
        let states = try states(of: plan)
        var entities: [EntityFeatures] = []
        entities.reserveCapacity(entityCount)
        for entity in 0..<entityCount {
            entities.append(
                try filled(
                    plan, states, keys, from: entity * plan.joinKeys.count, at: moment, isNow: time == nil))
        }
        return OnlineFeatures(names: plan.names, entities: entities, time: moment)
    }

    private func served(_ name: Name, _ known: Snapshot) throws(PlatformError) -> HeldView {
        guard let wanted = known.definitions.featureViews[name] else {
            throw unknown("feature view", name, among: known.definitions.featureViews.keys.map(\.text))
        }
        guard let held = known.served[name] else { throw unserved(wanted.versionName) }
        return held
    }
}
