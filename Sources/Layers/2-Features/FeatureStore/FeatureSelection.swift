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
    let parts: [ServingPlan.ViewPart]
    let reads: ReadCounter
    let generation: UInt64
}

/// What a selection gave, entity by entity in the order of its features.
public struct SelectedFeatures: Sendable {
    /// The values.
    public internal(set) var values: [CellValue]
    /// A status for each value.
    public internal(set) var statuses: [FeatureStatus]
    /// For each value, the event time of the newest visible event of the entity in that view; `nil` if there is none.
    public internal(set) var eventTimes: [EventTime?]
}

extension StreamEngine {
    /// Compiles a list of features.
    /// - Throws: `notFound` for an unknown view, or one that nothing serves; `invalidInput` for a feature that its view
    ///   does not have; `unavailable` while a version is being built.
    public func select(_ features: [ServedFeature]) throws(PlatformError) -> FeatureSelection {
        let known = snapshot.withLock { $0 }
        var order: [Name] = []
        var picked: [Name: (positions: [Int], outputs: [Int])] = [:]
        for (output, feature) in features.enumerated() {
            let view = try served(feature.view, known).view
            guard let position = view.features.firstIndex(where: { $0.name == feature.feature }) else {
                let near = nearestName(to: feature.feature, among: view.features.map(\.name))
                throw PlatformError(
                    .invalidInput, "feature_view/\(feature.view)",
                    "it has no feature '\(feature.feature.prefix(100))'"
                        + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            if picked[feature.view] == nil { order.append(feature.view) }
            picked[feature.view, default: ([], [])].positions.append(position)
            picked[feature.view, default: ([], [])].outputs.append(output)
        }
        var joinKeys: [FeatureSelection.Key] = []
        var parts: [ServingPlan.ViewPart] = []
        var types = [ColumnType](repeating: .string, count: features.count)
        var listed: [ServingPlan.Feature] = []
        for name in order {
            guard let chosen = picked[name] else { continue }
            let held = try served(name, known)
            var keyPositions: [Int] = []
            for key in held.view.joinKeys {
                if let position = joinKeys.firstIndex(where: { $0.name == key }) {
                    keyPositions.append(position)
                } else {
                    keyPositions.append(joinKeys.count)
                    joinKeys.append(FeatureSelection.Key(name: key, type: held.source.column(key)?.type ?? .string))
                }
            }
            for (position, output) in zip(chosen.positions, chosen.outputs) {
                let feature = held.view.features[position]
                types[output] = feature.type
                listed.append(
                    ServingPlan.Feature(
                        servedName: features[output].servedName, feature: feature.name, viewVersion: held.versionName,
                        type: feature.type))
            }
            parts.append(
                ServingPlan.ViewPart(
                    whole: AggregationPlan(view: held.view, source: held.source), positions: chosen.positions,
                    keyPositions: keyPositions, outputs: chosen.outputs))
        }
        return FeatureSelection(
            joinKeys: joinKeys, features: features, types: types,
            versions: zip(order, parts).map { ($0, $1.versionName) },
            parts: parts, reads: ReadCounter(consumer: "view", features: listed), generation: known.generation)
    }

    /// The features that a service reads from views.
    /// - Throws: `notFound` for an unknown service; as `select` of a list.
    public func select(service name: Name) throws(PlatformError) -> FeatureSelection {
        let known = snapshot.withLock { $0 }
        guard let service = known.definitions.featureServices[name] else {
            let near = nearestName(to: name.text, among: known.definitions.featureServices.keys.map(\.text))
            throw PlatformError(
                .notFound, "feature_service/\(name)",
                "no feature service has this name" + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
        let selection = try select(service.features)
        guard case .service(let counter) = known.servicePlans[name]?.reader else { return selection }
        return FeatureSelection(
            joinKeys: selection.joinKeys, features: selection.features, types: selection.types,
            versions: selection.versions, parts: selection.parts, reads: counter, generation: selection.generation)
    }

    /// Whether the versions that a selection holds still answer for the names of its views.
    public func isCurrent(_ selection: FeatureSelection) -> Bool {
        snapshot.withLock { $0.generation } == selection.generation
    }

    /// Computes the selected features of several entities at one moment, synchronously; as the read of a service.
    /// - Parameters:
    ///   - keys: entity by entity, a value for each of `selection.joinKeys`; `nil` makes the entity `notFound` in the views
    ///     that have the key.
    ///   - time: the moment of the question; now where it is left out.
    /// - Throws: `notFound` if a version is no longer served, `unavailable` or `corrupted` when the online store fails.
    public func read(_ selection: FeatureSelection, entityCount: Int, keys: [String?], at time: EventTime? = nil)
        throws(PlatformError) -> SelectedFeatures
    {
        let keyCount = selection.joinKeys.count
        let featureCount = selection.features.count
        precondition(keys.count == entityCount * keyCount, "a value, or nil, for each join key")
        let time = time ?? clock.now()
        let views = snapshot.withLock { $0.views }
        if selection.reads.add(entityCount) { usage.list(selection.reads) }
        var answer = SelectedFeatures(
            values: Array(repeating: .null, count: entityCount * featureCount),
            statuses: Array(repeating: .notFound, count: entityCount * featureCount),
            eventTimes: Array(repeating: nil, count: entityCount * featureCount))
        for part in selection.parts {
            guard let state = views[part.versionName] else { throw unserved(part.versionName) }
            for entity in 0..<entityCount {
                var found: (presence: EntityPresence, values: [CellValue])?
                if let key = Self.key(keys, from: entity * keyCount, part.keyPositions) {
                    do {
                        found = try state.read(key) { series, missing in
                            (series ?? part.empty).cells(part.plan, at: time, missing: &missing)
                        }
                    } catch { throw Self.platformError(error) }
                }
                let result = found ?? part.empty.cells(part.plan, at: time)
                let (status, newest) = Self.describe(result.presence)
                for (index, output) in part.outputs.enumerated() {
                    let place = entity * featureCount + output
                    answer.values[place] = result.values[index]
                    answer.eventTimes[place] = newest
                    answer.statuses[place] = status == .present && result.values[index].isNull ? .nullValue : status
                }
            }
        }
        return answer
    }

    private func served(_ name: Name, _ known: Snapshot) throws(PlatformError) -> HeldView {
        guard let wanted = known.definitions.featureViews[name] else {
            let near = nearestName(to: name.text, among: known.definitions.featureViews.keys.map(\.text))
            throw PlatformError(
                .notFound, "feature_view/\(name)",
                "no feature view has this name" + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
        guard let held = known.served[name] else { throw unserved(wanted.versionName) }
        return held
    }
}
