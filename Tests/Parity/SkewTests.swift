import Aggregation
import Datasets
import Definitions
import FeatureStore
import PlatformCore
import StoragePorts
import Testing

/// The usual ways in which served values come to differ from those of training.
enum Skew: String, CaseIterable, Sendable {
    /// A row that arrives late is dropped.
    case lateEvent
    /// Expired values are served as fresh.
    case timeToLive
    /// Null is served as 0.
    case nullDefault
    /// Event times are read in another zone.
    case timeZone
    /// Doubles go through 32 bits.
    case narrowedType
    /// The window's edges lie on the other side.
    case windowEdge
    /// Rows count when they arrive, not when they happened.
    case outOfOrder
    /// A row that is delivered twice counts twice.
    case duplicate
}

/// A certificate finds every kind of skew, and nothing where there is none.
struct SkewTests {
    /// What a server with one fault, or none, answers to the history's questions.
    private static func served(_ history: GeneratedHistory, _ skew: Skew?, limit: String) throws -> [ParityObservation]
    {
        let isInclusive = skew == .windowEdge ? !history.view.inclusive : history.view.inclusive
        let set = try DefinitionCompiler.compile([
            DefinitionFile(
                path: "served.yaml", folder: "/",
                text: GeneratedHistory.yaml(
                    inclusive: isInclusive, timeToLive: skew == .timeToLive ? nil : limit,
                    keys: history.view.joinKeys.joined(separator: ", ")))
        ])
        let view = try #require(set.featureViews[history.view.name])
        let plan = AggregationPlan(view: view, source: history.source)
        var states: [[UInt8]: EventSeries] = [:]
        for logged in history.rows {
            var (event, ingest) = (logged.row.eventTime, logged.row.ingestTime)
            if skew == .lateEvent, ingest.milliseconds > event.milliseconds + 2000 { continue }
            if skew == .timeZone { event = event.advanced(by: .hours(-1)) }
            if skew == .outOfOrder { event = max(event, ingest) }
            guard let key = Self.key(history, logged.row) else { continue }
            var series = states[key] ?? EventSeries(plan: plan)
            for copy in 0..<(skew == .duplicate && logged.sequence % 5 == 0 ? 2 : 1) {
                if copy == 1 { ingest = ingest.advanced(by: TimeSpan(milliseconds: 1)) }
                series.insert(
                    eventTime: event, ingestTime: ingest, sequence: logged.sequence * 2 + UInt64(copy),
                    cells: logged.row.cells, plan: plan)
            }
            states[key] = series
        }
        return history.questions.enumerated().map { index, question in
            let whole = question.keys.compactMap { $0 }
            let key = whole.count == question.keys.count ? EntityKey(values: whole).map { Array($0.joined.utf8) } : nil
            let series = key.flatMap { states[$0] } ?? EventSeries(plan: plan)
            let cells = series.cells(plan, at: EventTime(milliseconds: question.time)).values
            let values = zip(plan.features, cells).map { feature, cell in
                ParityObservation.Value(feature: feature.name, value: Self.spoiled(cell, skew))
            }
            return ParityObservation(
                origin: "question \(index)", keys: question.keys, time: EventTime(milliseconds: question.time),
                isNumber: false, values: values)
        }
    }

    private static func spoiled(_ cell: CellValue, _ skew: Skew?) -> CellValue {
        switch (skew, cell) {
        case (.nullDefault, .null): .double(0)
        case (.narrowedType, .double(let value)): .double(Double(Float(value)))
        default: cell
        }
    }

    private static func key(_ history: GeneratedHistory, _ row: SourceRow) -> [UInt8]? {
        let parts = history.view.joinKeys.compactMap { name in
            history.source.columns.firstIndex { $0.name == name }.flatMap { row.cells[$0].keyText }
        }
        guard parts.count == history.view.joinKeys.count else { return nil }
        return EntityKey(values: parts).map { Array($0.joined.utf8) }
    }

    private static func finding(_ skew: Skew?, allowance: TimeSpan = .seconds(0)) async throws -> ParityChecker.Finding
    {
        // Seed 3: two keys, with a time to live.
        let history = try GeneratedHistory(seed: 3, rowCount: 420, questionCount: 150)
        let scan = TableScan(
            table: history.source.name, version: 0, sql: history.table, rowCount: history.rows.count)
        return try await ParityChecker(engine: try CommandLineEngine()).check(
            history.view, source: history.source, scan: scan,
            observations: try served(history, skew, limit: "30s"), inFlightAllowance: allowance)
    }

    @Test
    func findsNothingWhereServedValuesAreThoseOfTraining() async throws {
        let finding = try await Self.finding(nil)
        #expect(finding.features.reduce(0) { $0 + $1.compared } == 150 * finding.features.count)
        #expect(finding.features.allSatisfy { $0.different == 0 && $0.inFlight == 0 })
        #expect(finding.differences.isEmpty)
        #expect(finding.features.contains { $0.null < $0.compared })
    }

    @Test
    func answersThatNeedRowsWhichHaveLeftAreNotCompared() async throws {
        let history = try GeneratedHistory(seed: 3, rowCount: 420, questionCount: 150)
        let times = history.questions.map(\.time).sorted()
        let reach = try #require(history.view.reach).milliseconds
        let limit = EventTime(milliseconds: times[75] - reach)
        // What is left of the table once rows before the limit have gone.
        let scan = TableScan(
            table: history.source.name, version: 0,
            sql: "(SELECT * FROM \(history.table) WHERE __event_time >= \(limit.milliseconds))",
            rowCount: history.rows.count, retainedFrom: limit)
        let finding = try await ParityChecker(engine: try CommandLineEngine()).check(
            history.view, source: history.source, scan: scan,
            observations: try Self.served(history, nil, limit: "30s"), inFlightAllowance: .seconds(0))
        let early = times.count { $0 < times[75] }
        #expect(finding.beyondRetention == early && early > 0)
        #expect(finding.features.allSatisfy { $0.compared == 150 - early })
        // Only counts of a view with a time to live tell a gone row from none; definitions with both are refused.
        let counts = Set(history.view.features.filter { $0.aggregate.countsNothingAsZero }.map(\.name))
        for feature in finding.features where history.view.timeToLive == nil || !counts.contains(feature.feature) {
            #expect(feature.different == 0, "\(feature.feature)")
        }
    }

    @Test(arguments: Skew.allCases)
    func findsEveryKindOfSkew(skew: Skew) async throws {
        let finding = try await Self.finding(skew)
        let example = try #require(finding.differences.first, "\(skew) was not found")
        #expect(finding.features.contains { $0.different > 0 })
        #expect(example.served != example.offline)
        #expect(example.origin.hasPrefix("question "))
    }

    @Test
    func aRowAcknowledgedInTheMomentOfTheAnswerIsSaidToBeInFlight() async throws {
        let history = try GeneratedHistory(seed: 3, rowCount: 420, questionCount: 150)
        let scan = TableScan(
            table: history.source.name, version: 0, sql: history.table, rowCount: history.rows.count)
        // A server that is 400 milliseconds behind the log.
        let plan = AggregationPlan(view: history.view, source: history.source)
        var states: [[UInt8]: EventSeries] = [:]
        for logged in history.rows {
            guard let key = Self.key(history, logged.row) else { continue }
            var series = states[key] ?? EventSeries(plan: plan)
            series.insert(
                eventTime: logged.row.eventTime,
                ingestTime: logged.row.ingestTime.advanced(by: TimeSpan(milliseconds: 400)), sequence: logged.sequence,
                cells: logged.row.cells, plan: plan)
            states[key] = series
        }
        let observations = history.questions.map { question in
            let whole = question.keys.compactMap { $0 }
            let key = whole.count == question.keys.count ? EntityKey(values: whole).map { Array($0.joined.utf8) } : nil
            let series = key.flatMap { states[$0] } ?? EventSeries(plan: plan)
            let moment = EventTime(milliseconds: question.time)
            return ParityObservation(
                origin: "answer", keys: question.keys, time: moment, isNumber: false,
                values: zip(plan.features, series.cells(plan, at: moment).values).map {
                    ParityObservation.Value(feature: $0.name, value: $1)
                })
        }
        let checker = ParityChecker(engine: try CommandLineEngine())
        let strict = try await checker.check(
            history.view, source: history.source, scan: scan, observations: observations,
            inFlightAllowance: .seconds(0))
        let lenient = try await checker.check(
            history.view, source: history.source, scan: scan, observations: observations,
            inFlightAllowance: TimeSpan(milliseconds: 400))
        let behind = strict.features.reduce(0) { $0 + $1.different }
        #expect(behind > 0)
        #expect(lenient.features.reduce(0) { $0 + $1.different } == 0)
        #expect(lenient.features.reduce(0) { $0 + $1.inFlight } == behind)
    }
}
