public import Definitions
import Expressions
public import PlatformCore
import StoragePorts

/// What a service computed on demand from one set of inputs: what the offline engine must find from the same inputs.
public struct OnDemandObservation: Sendable, Hashable {
    /// Where it was seen: a prediction's identifier, or `probe`.
    public let origin: String
    /// Join key values by name; an unknown one is left out.
    public let keys: [String: String]
    /// Moment of the answer.
    public let time: EventTime
    /// What the service read, by name: numbers, categories as text; what is left out is null.
    public let inputs: [String: CellValue]
    /// What it gave, under the names of the service's on-demand features.
    public let values: [ParityObservation.Value]

    /// Makes an observation.
    public init(
        origin: String, keys: [String: String], time: EventTime, inputs: [String: CellValue],
        values: [ParityObservation.Value]
    ) {
        self.origin = origin
        self.keys = keys
        self.time = time
        self.inputs = inputs
        self.values = values
    }
}

extension ParityChecker {
    /// Computes a service's on-demand features again from the inputs that they had, and compares them bit for bit.
    ///
    /// The expressions run in the offline engine, as they do when a training set is built. Values are compared as the
    /// doubles that a model reads.
    /// - Throws: what the engine throws.
    @concurrent
    public func check(_ service: FeatureServiceDefinition, observations: [OnDemandObservation]) async throws -> Finding
    {
        var counts: [String: FeatureParity] = [:]
        for feature in service.onDemand {
            counts[feature.name] = FeatureParity(
                view: "service/\(service.name)", feature: feature.name, version: service.versionName)
        }
        var differences: [ParityDifference] = []
        let answers = try await values(of: service, observations)
        for (observation, answer) in zip(observations, answers) {
            for value in observation.values {
                guard var count = counts[value.feature] else { continue }
                let served = Self.asDouble(value.value)
                let offline = Self.asDouble(answer[value.feature] ?? .null)
                count.compared += 1
                if served.isNull, offline.isNull { count.null += 1 }
                if !Self.isSame(served, offline) {
                    count.different += 1
                    if differences.count < Self.differenceCountMax {
                        differences.append(Self.difference(service, value, offline, observation))
                    }
                }
                counts[value.feature] = count
            }
        }
        return Finding(
            features: service.onDemand.compactMap { counts[$0.name] }, differences: differences, beyondRetention: 0)
    }

    private static func asDouble(_ value: CellValue) -> CellValue { value.number.map(CellValue.double) ?? .null }

    private static func difference(
        _ service: FeatureServiceDefinition, _ value: ParityObservation.Value, _ offline: CellValue,
        _ observation: OnDemandObservation
    ) -> ParityDifference {
        let expression = service.onDemand.first { $0.name == value.feature }?.expression
        let inputs = (expression?.columns ?? []).map { "\($0) = \((observation.inputs[$0] ?? .null).json.text)" }
        return ParityDifference(
            view: "service/\(service.name)", feature: value.feature, origin: observation.origin,
            keys: observation.keys, time: observation.time, served: value.value.json.text, offline: offline.json.text,
            explanation: "computed on demand from \(inputs.joined(separator: ", "))")
    }

    /// The values by feature, observation by observation.
    private func values(of service: FeatureServiceDefinition, _ observations: [OnDemandObservation]) async throws
        -> [[String: CellValue]]
    {
        guard !observations.isEmpty, !service.onDemand.isEmpty else { return [] }
        var names: [String] = []
        for feature in service.onDemand {
            for name in feature.expression.columns where !names.contains(name) { names.append(name) }
        }
        let texts = Set(
            service.request.compactMap { feature in
                if case .category = feature.kind { feature.name } else { nil }
            })
        let dialect = SQLDialect.duckdb
        let rows = observations.enumerated().map { index, observation in
            let cells = names.map { Self.literal(observation.inputs[$0] ?? .null, isText: texts.contains($0)) }
            return "(\(([String(index)] + cells).joined(separator: ", ")))"
        }
        let columns = service.onDemand.enumerated().map { place, feature in
            let sql = OnDemandSQL(feature: feature, service: service, dialect: dialect).value { name in
                dialect.identifier(name)
            } served: { name, type in
                let column = dialect.identifier(name)
                return switch type {
                case .int64, .timestamp: "CASE WHEN \(column) = trunc(\(column)) THEN TRY_CAST(\(column) AS BIGINT) END"
                case .bool: "(\(column) <> 0)"
                default: column
                }
            }
            return "\(sql) AS o\(place)"
        }
        let list = (["__row"] + names.map(dialect.identifier)).joined(separator: ", ")
        let asked =
            "CREATE TEMP TABLE inputs AS SELECT * FROM (VALUES \(rows.joined(separator: ",\n"))) AS asked(\(list))"
        let answers = try await engine.rows(
            "SELECT __row, \(columns.joined(separator: ", ")) FROM inputs ORDER BY __row",
            setup: (dialect.preparation + [asked]).joined(separator: ";\n"), limits: limits)
        guard answers.count == observations.count else {
            throw PlatformError(
                .internal, "feature_service/\(service.name)",
                "the offline engine gave \(answers.count) answers to \(observations.count) questions")
        }
        return answers.map { answer in
            Dictionary(
                uniqueKeysWithValues: service.onDemand.enumerated().map { place, feature in
                    (feature.name, OfflineValues.cell(answer["o\(place)"] ?? .null, feature.expression.type))
                })
        }
    }

    /// A double is written as text, because a number with a point would be read as a decimal first.
    private static func literal(_ value: CellValue, isText: Bool) -> String {
        switch value {
        case .text(let text) where isText: "\(SQLText.literal(text))::VARCHAR"
        default:
            if isText { "NULL::VARCHAR" } else { value.number.map { "'\($0)'::DOUBLE" } ?? "NULL::DOUBLE" }
        }
    }
}

extension FeatureServiceDefinition {
    /// `flight_delay.v1a2b3c4d`: its name and the first 8 digits of its version.
    var versionName: String { "\(name).v\(version.hex.prefix(8))" }
}
