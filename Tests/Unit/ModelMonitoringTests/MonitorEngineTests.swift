import ModelMonitoring
import ModelServing
import PlatformCore
import Statistics
import Testing

@testable import Definitions

struct MonitorEngineTests {
    private func engine(_ definition: MonitorDefinition = Scenario.definition()) throws -> MonitorEngine {
        var engine = MonitorEngine(definitions: [definition])
        engine.add(try Scenario.reference(), model: Scenario.model, version: 1)
        engine.add(try Scenario.reference(), model: Scenario.model, version: 2)
        return engine
    }

    private func effects(
        _ records: [Scenario.Record], _ definition: MonitorDefinition = Scenario.definition()
    ) throws -> [MonitorEffect] {
        var engine = try engine(definition)
        return records.flatMap { engine.consume($0) } + engine.advance(to: Scenario.hours(168 * 3 + 48))
    }

    private func reports(_ effects: [MonitorEffect], _ kind: WindowReport.Kind) -> [WindowReport] {
        effects.compactMap {
            switch $0 {
            case .windowClosed(let report), .performanceMeasured(let report): report.kind == kind ? report : nil
            default: nil
            }
        }
    }

    @Test func windowsBeginOnMondayOrAtMidnight() {
        let friday = Scenario.hours(4 * 24 + 15.5)
        #expect(MonitorEngine.windowStart(of: friday, length: .days(7)) == Scenario.monday)
        #expect(MonitorEngine.windowStart(of: friday, length: .days(1)) == Scenario.hours(96))
        #expect(MonitorEngine.windowStart(of: friday, length: .hours(6)) == Scenario.hours(108))
        #expect(MonitorEngine.windowStart(of: Scenario.monday, length: .days(7)) == Scenario.monday)
        let before = EventTime(milliseconds: -1)  // a Wednesday
        #expect(MonitorEngine.windowStart(of: before, length: .days(7)).dateText == "1969-12-29")
    }

    @Test func aShiftRaisesOneIncidentThatAQuietWindowResolves() throws {
        let effects = try effects(Scenario.records(perWeek: 400))
        let raised = effects.compactMap { if case .alertRaised(let alert) = $0 { alert } else { nil } }
        let drift = raised.filter { $0.rule == "drift" }
        #expect(drift.count == 1)
        let alert = try #require(drift.first)
        #expect(alert.feature == "speed" && alert.features.map(\.name) == ["speed"])
        #expect(alert.observed > 0.2 && alert.threshold == 0.2)
        #expect(alert.scope.from == Scenario.hours(168))
        #expect(alert.message.contains("PSI of speed"))
        let resolved = effects.compactMap { if case .alertResolved(let alert) = $0 { alert } else { nil } }
        #expect(resolved.contains { $0.id == alert.id && $0.resolvedAt == Scenario.hours(504) })
        // The version is worse than its test slice in every week: one incident, seen three times.
        let worse = raised.filter { $0.rule == "worse" }
        #expect(worse.count == 1 && worse[0].feature == nil)
        let continued = effects.compactMap { if case .alertContinued(let alert) = $0 { alert } else { nil } }
        #expect(continued.filter { $0.rule == "worse" }.map(\.count) == [2, 3])
        #expect(Set(effects.map(\.id)).count == effects.count)
    }

    @Test func windowsOfLessThanADayAreSaidWithTheirTimes() throws {
        let effects = try effects(Scenario.records(perWeek: 4000), Scenario.definition(window: .hours(6)))
        let raised = effects.compactMap { if case .alertRaised(let alert) = $0 { alert } else { nil } }
        let alert = try #require(raised.first { $0.rule == "drift" })
        #expect(alert.message.contains("from \(alert.scope.from.description) to \(alert.scope.to.description)"))
    }

    @Test func reportsEqualWhatTheRowsSay() throws {
        let records = Scenario.records(perWeek: 400)
        let effects = try effects(records)
        let inputs = reports(effects, .inputs)
        #expect(inputs.map(\.scope.choice) == ["primary", "shadow", "primary", "shadow", "primary", "shadow"])
        #expect(inputs.allSatisfy { $0.rows == 400 && $0.inputs.map(\.name) == ["speed", "wind"] })
        var (scores, outcomes, index): ([Double], [Double], [String: Int]) = ([], [], [:])
        var values: [String: Float] = [:]
        for case .prediction(let record) in records where record.choice == .primary {
            values[record.id] = record.output[0]
            index[record.id] = Int(record.time.since(Scenario.monday).milliseconds / 604_800_000)
        }
        for case .label(let label) in records where index[label.predictionID] == 1 {
            scores.append(Double(try #require(values[label.predictionID])))
            outcomes.append(label.value)
        }
        let second = try #require(
            reports(effects, .performance).first {
                $0.scope.choice == "primary" && $0.scope.from == Scenario.hours(168)
            }?.performance)
        #expect(second.labelled == scores.count && second.unlabelled == 400 - scores.count)
        for metric in EvaluationMetric.basic {
            let expected = try metric.value(predictions: scores, outcomes: outcomes)
            #expect(abs(try #require(second.metrics[metric.rawValue]) - expected) < 1e-12)
        }
        #expect(second.undefined.isEmpty && second.aucInterval != nil && !second.reliability.isEmpty)
    }

    @Test func pairsCompareAnswerAndShadowOnTheSameRows() throws {
        let effects = try effects(Scenario.records(perWeek: 400))
        let pairs = effects.compactMap { if case .pairCompared(let report) = $0 { report } else { nil } }
        #expect(
            pairs.map(\.kind.rawValue).sorted() == ["inputs", "inputs", "inputs"] + [
                "performance", "performance", "performance",
            ])
        #expect(pairs.allSatisfy { $0.pairs == 400 && $0.shadowVersion == 2 && $0.disagreementShare > 0 })
        let measured = pairs.filter { $0.kind == .performance }
        for pair in measured {
            let difference = try #require(pair.aucDifference)
            #expect(difference.lower > 0 && difference.lower < difference.estimate)
            #expect(pair.labelledPairs > 300)
        }
        #expect(pairs.filter { $0.kind == .inputs }.allSatisfy { $0.aucDifference == nil && $0.labelledPairs > 0 })
    }

    @Test func labelsKeepToTheHorizonAndWaitForTheirPrediction() throws {
        var engine = try engine()
        _ = engine.consume(LabelRecord(predictionID: "early", time: Scenario.hours(1), value: 1))
        #expect(engine.waitingLabelCount == 1)
        _ = engine.consume(Scenario.prediction("early", at: Scenario.hours(2)))
        _ = engine.consume(Scenario.prediction("early", at: Scenario.hours(2), version: 2, choice: .shadow))
        _ = engine.consume(Scenario.prediction("early", at: Scenario.hours(2)))
        #expect(engine.counters.predictionsRepeated == 1 && engine.waitingLabelCount == 0)
        _ = engine.consume(Scenario.prediction("late", at: Scenario.hours(3)))
        _ = engine.consume(LabelRecord(predictionID: "nobody", time: Scenario.hours(4), value: 1))
        _ = engine.consume(LabelRecord(predictionID: "late", time: Scenario.hours(3 + 48.1), value: 1))
        #expect(engine.counters.labelsLate == 1)
        // A prediction of a finished window whose labels are still awaited counts for performance alone.
        let closed = engine.advance(to: Scenario.hours(169))
        #expect(reports(closed, .inputs).map(\.rows) == [2, 1])
        _ = engine.consume(Scenario.prediction("straggler", at: Scenario.hours(167)))
        _ = engine.consume(LabelRecord(predictionID: "straggler", time: Scenario.hours(170), value: 0))
        let measured = reports(engine.advance(to: Scenario.hours(168 + 48)), .performance)
        #expect(measured.first?.performance?.labelled == 2 && measured.first?.performance?.unlabelled == 1)
        #expect(measured.last?.scope.choice == "shadow" && measured.last?.performance?.labelled == 1)
        _ = engine.consume(Scenario.prediction("gone", at: Scenario.hours(10)))
        #expect(engine.counters.predictionsLate == 1 && engine.counters.predictionsDropped == 1)
        #expect(engine.counters.labelsUnmatched == 1)
    }

    @Test func oneClassIsReportedAsUndefined() throws {
        var engine = try engine()
        for number in 0..<60 {
            _ = engine.consume(Scenario.prediction("p\(number)", at: Scenario.hours(1), output: Float(number) / 60))
            _ = engine.consume(LabelRecord(predictionID: "p\(number)", time: Scenario.hours(2), value: 1))
        }
        let effects = engine.advance(to: Scenario.hours(400))
        let performance = try #require(reports(effects, .performance).first?.performance)
        #expect(performance.metrics["auc"] == nil && performance.undefined["auc"] == "all outcomes are of one class")
        #expect(performance.metrics["brier"] != nil)
        #expect(!effects.contains { if case .alertRaised(let alert) = $0 { alert.rule == "worse" } else { false } })
    }

    @Test func fewRowsKeepARuleSilentAndAReplacedVersionsIncidentEnds() throws {
        var engine = try engine()
        func week(_ number: Int, rows: Int, version: Int, speed: Double) {
            for row in 0..<rows {
                let time = Scenario.hours(Double(168 * number) + Double(row) / 100)
                found += engine.consume(
                    Scenario.prediction("\(number)-\(row)", at: time, version: version, inputs: [speed, 20]))
            }
        }
        var found: [MonitorEffect] = []
        week(0, rows: 60, version: 1, speed: 3)
        week(1, rows: 10, version: 1, speed: 0.5)  // too few to say that it is over
        week(2, rows: 60, version: 2, speed: 0.5)
        week(3, rows: 1, version: 2, speed: 0.5)
        let resolved = found.compactMap { if case .alertResolved(let alert) = $0 { alert } else { nil } }
        #expect(resolved.contains { $0.scope.version == 1 && $0.resolution == "the version no longer answers" })
        #expect(resolved.allSatisfy { $0.resolvedAt == Scenario.hours(168 * 3) })
    }

    @Test func aBrokenTimeClosesNothing() throws {
        var engine = try engine()
        _ = engine.consume(Scenario.prediction("a", at: Scenario.hours(1)))
        #expect(engine.advance(to: EventTime(milliseconds: .max)).isEmpty)
        #expect(engine.time == Scenario.hours(1))
    }
}
