import ModelMonitoring
import ModelServing
import PlatformCore
import Statistics

@testable import Definitions

/// Three weeks of predictions and labels of a made-up model, with a shift of one input in the second week.
struct Scenario {
    static let monday = EventTime(milliseconds: 1_372_636_800_000)  // 2013-07-01T00:00:00Z, a Monday
    static let model = "delay"

    static func definition(
        window: TimeSpan = .days(7), horizon: TimeSpan = .days(2), rowsMin: Int = 50
    ) -> MonitorDefinition {
        MonitorDefinition(
            name: Name(static: "watch"), model: Name(static: "delay"), window: window, labelHorizon: horizon,
            rules: [
                MonitorRule(name: "drift", condition: .psi(feature: nil, above: 0.2), severity: .p1, rowsMin: rowsMin),
                MonitorRule(
                    name: "worse", condition: .metricWorseThanReference(.auc, by: 0.05), severity: .p2, rowsMin: rowsMin
                ),
            ], retrain: nil)
    }

    static let inputNames = ["speed", "wind"]

    /// Profiles are given in another order than the model's inputs.
    static func reference(auc: Double = 0.8) throws -> MonitorReference {
        var generator = SeededGenerator(seed: 42)
        func unit() -> Double { Double(generator.index(below: 1 << 30)) / Double(1 << 30) }
        let profile = try ReferenceProfile(
            columns: [
                .init(name: "wind", numbers: (0..<4000).map { _ in unit() < 0.02 ? .nan : unit() * 40 }),
                .init(name: "speed", numbers: (0..<4000).map { _ in unit() }),
            ], predictions: (0..<4000).map { _ in unit() })
        return MonitorReference(profile: profile, inputNames: inputNames, metrics: [.auc: auc])
    }

    enum Record {
        case prediction(PredictionRecord)
        case label(LabelRecord)

        var time: EventTime {
            switch self {
            case .prediction(let record): record.time
            case .label(let record): record.time
            }
        }
    }

    static func prediction(
        _ id: String, at time: EventTime, version: Int = 1, choice: PredictionRecord.Choice = .primary,
        inputs: [Double] = [0.5, 20], output: Float = 0.5, model: String = Scenario.model
    ) -> PredictionRecord {
        PredictionRecord(
            id: id, time: time, model: model, version: version, artifact: "", policyRevision: 1, choice: choice,
            serviceVersion: "", entities: [], inputs: inputs, ages: inputs.map { _ in 0 },
            statuses: inputs.map { _ in 0 }, overridden: [], output: [output], fallbackReason: "", latency: .init(),
            caller: "")
    }

    static func hours(_ count: Double) -> EventTime {
        monday.advanced(by: TimeSpan(milliseconds: Int64(count * 3_600_000)))
    }

    /// `perWeek` predictions a week, each with a shadow, a label six hours later for nine in ten.
    static func records(perWeek: Int, weeks: Int = 3) -> [Record] {
        var generator = SeededGenerator(seed: 5)
        func unit() -> Double { Double(generator.index(below: 1 << 30)) / Double(1 << 30) }
        var records: [Record] = []
        for number in 0..<(perWeek * weeks) {
            let hour = Double(number) * 168 / Double(perWeek)
            let shifted = hour >= 168 && hour < 336
            let outcome = unit() < 0.4 ? 1.0 : 0.0
            let good = Float(0.5 * unit() + 0.5 * outcome)
            let id = "p\(number)"
            let inputs = [unit() * (shifted ? 0.4 : 1), unit() < 0.02 ? .nan : unit() * 40]
            let time = hours(hour)
            records.append(
                .prediction(
                    prediction(id, at: time, inputs: inputs, output: Float(0.8 * unit() + 0.2 * outcome))))
            records.append(
                .prediction(prediction(id, at: time, version: 2, choice: .shadow, inputs: inputs, output: good)))
            if unit() < 0.9 {
                records.append(.label(LabelRecord(predictionID: id, time: hours(hour + 6), value: outcome)))
            }
        }
        return records.enumerated().sorted { ($0.element.time, $0.offset) < ($1.element.time, $1.offset) }
            .map(\.element)
    }
}

extension MonitorEngine {
    mutating func consume(_ record: Scenario.Record) -> [MonitorEffect] {
        switch record {
        case .prediction(let prediction): consume(prediction)
        case .label(let label): consume(label)
        }
    }
}
