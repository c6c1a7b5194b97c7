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

    private let engine: any OfflineEngine
    private let limits: QueryLimits

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
                view: view.name.text, feature: feature.name, compared: 0, different: 0, inFlight: 0, null: 0)
        }
        var differences: [ParityDifference] = []
        if !outputs.isEmpty {
            let found = try await values(view, source, events: scan.sql, observations, outputs)
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
                let again = try await values(view, source, events: shifted, suspects.map { observations[$0] }, outputs)
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

    /// The values that the offline engine finds for each observation.
    private func values(
        _ view: FeatureViewDefinition, _ source: SourceDefinition, events: String, _ observations: [ParityObservation],
        _ features: [FeatureDefinition]
    ) async throws -> [[String: CellValue]] {
        let keys = view.joinKeys.map(SQLText.identifier)
        let rows = observations.enumerated().map { index, observation in
            let parts = observation.keys.map { $0.map(SQLText.literal) ?? "NULL::VARCHAR" }
            return "(\(index), \(observation.time.milliseconds)::BIGINT, \(parts.joined(separator: ", ")))"
        }
        let sql = try FeatureSQL(
            view: view, source: source,
            outputs: features.map { FeatureSQL.Output(feature: $0.name, column: $0.name) })
        let question = """
            CREATE TEMP TABLE question AS SELECT * FROM (VALUES \(rows.joined(separator: ",\n")))
            AS asked(__row, __time, \(keys.joined(separator: ", ")))
            """
        let setup =
            SQLDialect.duckdb.preparation + [question]
            + sql.statements(events: events, questions: "question", result: "answer")
        let columns = features.map { feature in
            let name = SQLText.identifier(feature.name)
            return feature.type == .timestamp ? "\(name)" : name
        }
        let answers = try await engine.rows(
            "SELECT __row, \(columns.joined(separator: ", ")) FROM answer ORDER BY __row",
            setup: setup.joined(separator: ";\n"), limits: limits)
        guard answers.count == observations.count else {
            throw PlatformError(
                .internal, "feature_view/\(view.name)",
                "the offline engine gave \(answers.count) answers to \(observations.count) questions")
        }
        return answers.map { answer in
            Dictionary(
                uniqueKeysWithValues: features.map { ($0.name, Self.cell(answer[$0.name] ?? .null, $0.type)) })
        }
    }

    /// A value of the engine's JSON as a cell of the feature's type.
    static func cell(_ value: JSONValue, _ type: ColumnType) -> CellValue {
        if case .array(let elements) = value {
            return .list(elements.map { type == .vector ? .double(Double(Float($0.doubleValue ?? .nan))) : scalar($0) })
        }
        return switch type {
        case .float64: value.doubleValue.map(CellValue.double) ?? .null
        case .int64, .timestamp: value.integerValue.map(CellValue.integer) ?? .null
        case .bool: value.boolValue.map(CellValue.bool) ?? .null
        case .string: value.stringValue.map(CellValue.text) ?? .null
        case .list, .vector: .null
        }
    }

    private static func scalar(_ value: JSONValue) -> CellValue {
        switch value {
        case .integer(let value): .integer(value)
        case .number(let value): .double(value)
        case .bool(let value): .bool(value)
        case .string(let value): .text(value)
        default: .null
        }
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
    private static func isSame(_ left: CellValue, _ right: CellValue) -> Bool {
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
