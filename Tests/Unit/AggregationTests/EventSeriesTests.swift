import Aggregation
import Definitions
import PlatformCore
import Testing

struct EventSeriesTests {
    static func plan(_ features: String, more: String = "") throws -> AggregationPlan {
        let set = try DefinitionCompiler.compile([
            DefinitionFile(
                path: "test.yaml", folder: "/",
                text: """
                    kind: Entity
                    name: plane
                    keys: [tail]
                    ---
                    kind: Source
                    name: departures
                    event_time: departed
                    key: [tail]
                    schema:
                      - {name: departed, type: timestamp}
                      - {name: tail, type: string}
                      - {name: delay, type: float64}
                      - {name: seats, type: int64}
                    ---
                    kind: FeatureView
                    name: delays
                    entities: [plane]
                    source: departures
                    \(more)
                    features:
                    \(features)
                    """)
        ])
        guard let view = set.featureViews[Name(static: "delays")] else { preconditionFailure("defined above") }
        return AggregationPlan(view: view, source: set.source(of: view))
    }

    static func insert(
        _ delay: CellValue, at event: Int64, known: Int64? = nil, _ sequence: UInt64 = 0, _ series: inout EventSeries,
        _ plan: AggregationPlan
    ) {
        series.insert(
            eventTime: EventTime(milliseconds: event), ingestTime: EventTime(milliseconds: known ?? event),
            sequence: sequence, cells: [.integer(event), .text("N1"), delay, .null], plan: plan)
    }

    static let all = """
          - {name: n, aggregate: count, window: 10s}
          - {name: mean, aggregate: mean, column: delay, window: 10s}
          - {name: sum, aggregate: sum, column: delay, window: 10s}
          - {name: spread, aggregate: stddev, column: delay, window: 10s}
          - {name: last, aggregate: last, column: delay}
        """

    @Test
    func windowEdgesAreInAndTheMomentItselfIsOut() throws {
        let plan = try Self.plan(Self.all)
        var series = EventSeries(plan: plan)
        for (event, delay) in [(Int64(1000), 1.0), (11_000, 2.0), (11_001, 4.0)] {
            Self.insert(.double(delay), at: event, 0, &series, plan)
        }
        let at = series.cells(plan, at: EventTime(milliseconds: 11_000)).values
        #expect(at == [.integer(1), .double(1), .double(1), .double(0), .double(1)])
        let later = series.cells(plan, at: EventTime(milliseconds: 11_001)).values
        #expect(later[0] == .integer(1) && later[1] == .double(2))
    }

    @Test
    func aTimeToLiveIsAWindowOfTheNewestEvent() throws {
        let plan = try Self.plan(Self.all, more: "ttl: 5s")
        var series = EventSeries(plan: plan)
        Self.insert(.double(3), at: 1000, 0, &series, plan)
        #expect(series.cells(plan, at: EventTime(milliseconds: 6000)).values[4] == .double(3))
        let old = series.cells(plan, at: EventTime(milliseconds: 6001))
        #expect(old.presence == .outsideMaxAge(newestEventTime: EventTime(milliseconds: 1000)))
        #expect(old.values.allSatisfy { $0.isNull })
        let never = series.cells(plan, at: EventTime(milliseconds: 1000))
        #expect(never.presence == .notFound && never.values[0] == .integer(0))
    }

    @Test
    func aValueTooLargeToSumLeavesNoSum() throws {
        let plan = try Self.plan(Self.all)
        var series = EventSeries(plan: plan)
        Self.insert(.double(1), at: 1000, 0, &series, plan)
        let unsummable = series.insert(
            eventTime: EventTime(milliseconds: 2000), ingestTime: EventTime(milliseconds: 2000), sequence: 1,
            cells: [.null, .null, .double(1e15), .null], plan: plan)
        #expect(unsummable == 1)
        let with = series.cells(plan, at: EventTime(milliseconds: 3000)).values
        #expect(with == [.integer(2), .null, .null, .null, .double(1e15)])
        Self.insert(.double(6), at: 13_000, 2, &series, plan)
        #expect(series.cells(plan, at: EventTime(milliseconds: 14_000)).values[2] == .double(6))
    }

    @Test
    func trimmingForgetsOnlyWhatNoLaterQuestionNeeds() throws {
        let plan = try Self.plan(Self.all)
        var series = EventSeries(plan: plan)
        for second in 0..<1000 {
            Self.insert(.double(Double(second)), at: Int64(second) * 1000, UInt64(second), &series, plan)
        }
        let question = EventTime(milliseconds: 1_000_000)
        let before = series.cells(plan, at: question)
        series.trim(answeringFrom: question, plan: plan)
        #expect(series.count == 10)
        #expect(series.cells(plan, at: question).values == before.values)
        series.trim(answeringFrom: EventTime(milliseconds: 9_000_000), plan: plan)
        #expect(series.count == 1)
        #expect(series.cells(plan, at: EventTime(milliseconds: 9_000_000)).values[4] == .double(999))
    }

    @Test
    func foreignBytesAreRefusedAndNeverTrap() throws {
        var plan = try Self.plan(Self.all + "\n  - {name: seats, aggregate: max, column: seats, window: 1d}")
        plan.sizes = SeriesSizes(chunk: 8, group: 3)
        var series = EventSeries(plan: plan)
        for second in 0..<70 { Self.insert(.double(0.5), at: Int64(second) * 1000, UInt64(second), &series, plan) }
        let bytes = series.encoded(plan: plan)
        #expect(try EventSeries(decoding: bytes, plan: plan).encoded(plan: plan) == bytes)
        for length in 0..<bytes.count {
            #expect(throws: DecodingFailure.self) { try EventSeries(decoding: Array(bytes.prefix(length)), plan: plan) }
        }
        var random = SystemRandomNumberGenerator()
        for _ in 0..<3000 {
            var broken = bytes
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                broken[Int.random(in: broken.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            guard let read = try? EventSeries(decoding: broken, plan: plan) else { continue }
            _ = read.cells(plan, at: EventTime(milliseconds: 60_000))
        }
        for length in 0..<300 {
            _ = try? EventSeries(
                decoding: (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }, plan: plan)
        }
    }

    @Test(arguments: [
        (2.5, 3), (-2.5, -3), (0.0000005, 1), (-0.0000005, -1), (1e13, Int64.min), (Double.nan, Int64.min),
    ])
    func multiplesRoundHalfAwayFromZero(value: Double, wanted: Int64) {
        let power = abs(value) < 1 || value == 1e13 || value.isNaN ? 1e6 : 1
        #expect(ExactArithmetic.scaled(value, by: power) == wanted)
    }
}
