import Aggregation
public import Definitions
public import PlatformCore

/// Where each view feature of one service is found, compiled once and read by every request.
///
/// Values come out in the service's order. Features that a request brings are not part of it: they stand before these in
/// the model's input.
public struct ServingPlan: Sendable {
    /// One view feature of the service.
    public struct Feature: Sendable, Hashable {
        /// `view__feature`.
        public let servedName: String
        /// The feature's name within the view.
        public let feature: String
        /// The view version it comes from.
        public let viewVersion: Name
        /// Type of its value.
        public let type: ColumnType
    }

    /// One view that the service reads.
    ///
    /// A class, so that a reader counts one reference to it and none to what it holds.
    final class ViewPart: Sendable {
        /// The view with all its features.
        let whole: AggregationPlan
        /// The features that are read.
        let plan: AggregationPlan
        let program: ReadProgram
        /// Where the features that are read stand among all of the view.
        let positions: [Int]
        /// Positions in `joinKeys` of the view's keys, in the view's order.
        let keyPositions: [Int]
        /// For each of the plan's features, the place of its value.
        let outputs: [Int]
        /// What an entity is that has never been seen.
        let empty: EventSeries
        let versionName: Name
        /// Whether a feature of the view counts different values.
        let countsValues: Bool

        init(whole: AggregationPlan, positions: [Int], keyPositions: [Int], outputs: [Int]) {
            self.whole = whole
            plan = positions == Array(whole.features.indices) ? whole : whole.selecting(positions)
            program = ReadProgram(plan)
            self.positions = positions
            self.keyPositions = keyPositions
            self.outputs = outputs
            empty = EventSeries(plan: whole)
            versionName = whole.view.versionName
            countsValues = whole.view.features.contains(where: \.aggregate.countsValues)
        }

        /// Fills in the values of one entity; `value` gives that of the feature at a position in `plan`.
        func put(
            _ presence: EntityPresence, staleness: Int64, into filled: inout EntityFeatures, value: (Int) -> CellValue
        ) {
            let (status, newest) = StreamEngine.describe(presence)
            for (index, output) in outputs.enumerated() {
                let cell = value(index)
                filled.values[output] = cell
                filled.eventTimes[output] = newest
                filled.statuses[output] = status == .present && cell.isNull ? .nullValue : status
                filled.staleness[output] = staleness
            }
        }
    }

    /// The service.
    public let service: FeatureServiceDefinition
    /// Join keys in the order in which `read` takes their values.
    public let joinKeys: [String]
    /// View features in the order of the values.
    public let features: [Feature]
    let views: [ViewPart]
    let reads: ReadCounter
    /// Most features of one view.
    let widestPartCount: Int

    /// Whether a read may have to wait for `StreamEngine.prepare`.
    public var mayTakeLong: Bool { views.contains { $0.countsValues } }

    /// Values that `read` writes.
    public var featureCount: Int { features.count }

    /// Compiles a service of a checked set.
    public init(service: FeatureServiceDefinition, definitions: DefinitionSet) {
        var views: [Name: HeldView] = [:]
        for served in service.features where views[served.view] == nil {
            views[served.view] = HeldView(served.view, in: definitions)
        }
        guard let plan = ServingPlan(service: service, views: views) else {
            preconditionFailure("a checked service names features that exist")
        }
        self = plan
    }

    /// Compiles a service over given versions of its views; `nil` if they lack one of its features or have other keys.
    init?(service: FeatureServiceDefinition, views known: [Name: HeldView]) {
        guard let compiled = Self.compile(service.features, joinKeys: service.joinKeys, views: known) else {
            return nil
        }
        self.service = service
        joinKeys = service.joinKeys
        features = compiled.features
        reads = ReadCounter(service: service.name, features: features)
        views = compiled.parts
        widestPartCount = views.map(\.outputs.count).max() ?? 0
    }

    /// The parts of a list of features, view by view in the order of first use, and what each feature is.
    ///
    /// `nil` if a view lacks one of them or has another key.
    static func compile(_ served: [ServedFeature], joinKeys: [String], views: [Name: HeldView]) -> (
        parts: [ViewPart], features: [Feature]
    )? {
        var features: [Feature] = []
        var order: [HeldView] = []
        var picked: [Name: (positions: [Int], outputs: [Int])] = [:]
        for feature in served {
            guard let held = views[feature.view],
                let position = held.view.features.firstIndex(where: { $0.name == feature.feature })
            else { return nil }
            if picked[feature.view] == nil { order.append(held) }
            picked[feature.view, default: ([], [])].positions.append(position)
            picked[feature.view, default: ([], [])].outputs.append(features.count)
            features.append(
                Feature(
                    servedName: feature.servedName, feature: feature.feature, viewVersion: held.versionName,
                    type: held.view.features[position].type))
        }
        var parts: [ViewPart] = []
        for held in order {
            guard let part = picked[held.view.name] else { preconditionFailure("picked above") }
            let keyPositions = held.view.joinKeys.compactMap { joinKeys.firstIndex(of: $0) }
            guard keyPositions.count == held.view.joinKeys.count else { return nil }
            parts.append(
                ViewPart(
                    whole: AggregationPlan(view: held.view, source: held.source), positions: part.positions,
                    keyPositions: keyPositions, outputs: part.outputs))
        }
        return (parts, features)
    }
}
