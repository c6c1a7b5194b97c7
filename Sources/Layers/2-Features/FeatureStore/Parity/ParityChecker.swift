public import Datasets
public import Definitions
public import PlatformCore
public import StoragePorts

/// Computes served values again with the offline engine, as of the moment they were served, and compares them bit for bit.
///
/// The offline engine reads the tables that training sets are built from, by the same generated SQL. A difference therefore
/// means that a model sees in production what it never saw in training.
public struct ParityChecker: Sendable {
    /// What one view's comparison found.
    public struct Finding: Sendable {
        /// One entry for each feature that was asked for.
        public let features: [FeatureParity]
        /// The first differences.
        public let differences: [ParityDifference]
        /// Answers that were not compared: rows that they need have left the table by its source's retention.
        public let beyondRetention: Int

        /// Both comparisons of one view together.
        public func joined(with other: Finding) -> Finding {
            Finding(
                features: zip(features, other.features).map { left, right in
                    var sum = left
                    sum.compared += right.compared
                    sum.different += right.different
                    sum.inFlight += right.inFlight
                    sum.null += right.null
                    return sum
                }, differences: Array((differences + other.differences).prefix(ParityChecker.differenceCountMax)),
                beyondRetention: beyondRetention + other.beyondRetention)
        }
    }

    /// Most differences that are kept with their values.
    public static let differenceCountMax = 100

    let engine: any OfflineEngine
    let limits: QueryLimits

    /// Makes a checker.
    public init(engine: any OfflineEngine, limits: QueryLimits = QueryLimits()) {
        self.engine = engine
        self.limits = limits
    }

    /// Compares what a view served with what its table says.
    /// - Parameters:
    ///   - view: the version of the view that served.
    ///   - source: its source.
    ///   - scan: the source's table, brought up to date after the last observation.
    ///   - observations: what was served.
    ///   - inFlightAllowance: a row acknowledged this shortly before an answer may have missed it.
    /// - Throws: what the engine throws.
    @concurrent
    public func check(
        _ view: FeatureViewDefinition, source: SourceDefinition, scan: TableScan,
        observations sampled: [ParityObservation], inFlightAllowance: TimeSpan
    ) async throws -> Finding {
        let observations = sampled.filter { observation in
            guard let limit = scan.retainedFrom else { return true }
            return view.reach.map { observation.time >= limit.advanced(by: $0) } ?? false
        }
        let asked = Set(observations.flatMap { $0.values.map(\.feature) })
        let outputs = view.features.filter { asked.contains($0.name) }
        var counts: [String: FeatureParity] = [:]
        for feature in view.features {
            counts[feature.name] = FeatureParity(
                view: view.name.text, feature: feature.name, version: view.versionName.text)
        }
        var differences: [ParityDifference] = []
        if !outputs.isEmpty {
            let offline = OfflineValues(engine: engine, limits: limits, view: view, source: source, features: outputs)
            let questions = observations.map { OfflineValues.Question(keys: $0.keys, time: $0.time) }
            let found = try await offline.values(events: scan.sql, questions)
            // Only where something differs, the second question: is it a row that came in that very moment?
            var suspects: [Int] = []
            for (index, observation) in observations.enumerated() {
                for value in observation.values where !Self.agree(value, found[index][value.feature], observation) {
                    suspects.append(index)
                    break
                }
            }
            var earlier: [Int: [String: CellValue]] = [:]
            if !suspects.isEmpty, inFlightAllowance.milliseconds > 0 {
                let shifted =
                    "(SELECT * REPLACE (__ingest_time + \(inFlightAllowance.milliseconds) AS __ingest_time) FROM \(scan.sql))"
                let again = try await offline.values(events: shifted, suspects.map { questions[$0] })
                for (index, row) in zip(suspects, again) { earlier[index] = row }
            }
            for (index, observation) in observations.enumerated() {
                for value in observation.values {
                    guard var count = counts[value.feature] else { continue }
                    let offline = found[index][value.feature] ?? .null
                    count.compared += 1
                    if value.value.isNull, offline.isNull { count.null += 1 }
                    if !Self.agree(value, offline, observation) {
                        if let before = earlier[index]?[value.feature], Self.agree(value, before, observation) {
                            count.inFlight += 1
                        } else {
                            count.different += 1
                            if differences.count < Self.differenceCountMax {
                                differences.append(Self.difference(view, value, offline, observation))
                            }
                        }
                    }
                    counts[value.feature] = count
                }
            }
        }
        return Finding(
            features: view.features.compactMap { counts[$0.name] }, differences: differences,
            beyondRetention: sampled.count - observations.count)
    }

    private static func agree(
        _ served: ParityObservation.Value, _ offline: CellValue?, _ observation: ParityObservation
    ) -> Bool {
        let offline = offline ?? .null
        guard observation.isNumber else { return isSame(served.value, offline) }
        return isSame(
            served.value.number.map(CellValue.double) ?? .null, offline.number.map(CellValue.double) ?? .null)
    }

    /// Equal bits; a list element by element, an integer and a double of the same value in lists alike.
    static func isSame(_ left: CellValue, _ right: CellValue) -> Bool {
        switch (left, right) {
        case (.double(let left), .double(let right)): left.bitPattern == right.bitPattern
        case (.text(let left), .text(let right)): left.utf8.elementsEqual(right.utf8)
        case (.list(let left), .list(let right)):
            left.count == right.count
                && zip(left, right).allSatisfy {
                    isSame($0, $1) || ($0.number != nil && $0.number?.bitPattern == $1.number?.bitPattern)
                }
        default: left == right
        }
    }

    private static func difference(
        _ view: FeatureViewDefinition, _ value: ParityObservation.Value, _ offline: CellValue,
        _ observation: ParityObservation
    ) -> ParityDifference {
        var keys: [String: String] = [:]
        for (name, key) in zip(view.joinKeys, observation.keys) { keys[name] = key }
        return ParityDifference(
            view: view.name.text, feature: value.feature, origin: observation.origin, keys: keys,
            time: observation.time, served: value.value.json.text, offline: offline.json.text,
            explanation: explanation(served: value.value, offline: offline))
    }

    /// What the two values alone already say; the rest needs eyes.
    static func explanation(served: CellValue, offline: CellValue) -> String? {
        switch (served, offline) {
        case (.null, .null): nil
        case (.null, _): "served as missing: an expired value, an unknown entity, or a row that was not yet applied"
        case (_, .null): "missing offline: a default was served for null, or an expired value as fresh"
        default:
            if let left = served.number, let right = offline.number, Double(Float(right)) == left {
                "the served value is the offline value cut to 32 bits"
            } else if let left = served.number, let right = offline.number, abs(left - right) == 3_600_000 {
                "an hour apart: two time zones"
            } else {
                nil
            }
        }
    }
}
