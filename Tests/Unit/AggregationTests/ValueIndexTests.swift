import Definitions
import PlatformCore
import Testing

@testable import Aggregation

/// What distinct counts of long series go by says what the events say.
struct ValueIndexTests {
    private static let features = """
          - {name: short, aggregate: distinct_count, column: delay, window: 3s}
          - {name: long, aggregate: distinct_count, column: delay, window: 1h}
          - {name: seats, aggregate: distinct_count, column: seats, window: 1h}
          - {name: seats_about, aggregate: approx_count_distinct, column: seats, window: 1h, precision: 4}
          - {name: tails, aggregate: approx_count_distinct, column: tail, window: 1h, precision: 4}
          - {name: tails_short, aggregate: approx_count_distinct, column: tail, window: 1m, precision: 5}
          - {name: newest, aggregate: last, column: delay}
        """

    /// A series and its pages as a store keeps them.
    private struct Stored {
        var series: EventSeries
        var pages: [UInt64: [UInt8]] = [:]

        mutating func store(_ plan: AggregationPlan) {
            let changes = series.changes(plan: plan)
            for page in changes.pages { pages[page.identifier] = page.bytes }
            for page in changes.removed { pages[page] = nil }
            series.markStored()
            series.unloadPages()
        }

        func bytes(_ references: [PageReference]) throws -> [[UInt8]] {
            try references.map { reference in
                guard let page = pages[reference.identifier] else { throw DecodingFailure("no such page") }
                return page
            }
        }

        mutating func insert(
            _ event: (cells: [CellValue], time: Int64, known: Int64), _ number: Int, _ plan: AggregationPlan
        )
            throws
        {
            let (time, known) = (EventTime(milliseconds: event.time), EventTime(milliseconds: event.known))
            if let page = series.pageNeeded(toInsertAt: time, ingestTime: known, sequence: UInt64(number)) {
                try series.load(page, try bytes([page])[0], plan: plan)
            }
            series.insert(
                eventTime: time, ingestTime: known, sequence: UInt64(number), cells: event.cells, plan: plan)
            series.trimIfGrown(answeringFrom: EventTime(milliseconds: event.known - 10_000), plan: plan)
        }

        mutating func values(_ plan: AggregationPlan, at moment: Int64) throws -> [CellValue] {
            while true {
                var missing: [PageReference] = []
                let cells = series.cells(plan, at: EventTime(milliseconds: moment), missing: &missing)
                if missing.isEmpty { return cells.values }
                for page in Set(missing) { try series.load(page, try bytes([page])[0], plan: plan) }
            }
        }
    }

    /// Also of moments before the newest events, and while it is made of a copy as events come in.
    @Test(arguments: [(3, 4_000), (40, 3_000), (4_000, 5_000)])
    func anIndexOfValuesCountsWhatTheEventsSay(valueCount: Int, eventCount: Int) throws {
        var plan = try EventSeriesTests.plan(Self.features)
        plan.sizes = SeriesSizes(chunk: 16, group: 4)
        var (plain, indexed) = (Stored(series: EventSeries(plan: plan)), Stored(series: EventSeries(plan: plan)))
        var random = SystemRandomNumberGenerator()
        var now: Int64 = 0
        var copy: EventSeries?
        for number in 0..<eventCount {
            now += Int64.random(in: 0...4, using: &random) * 500
            let late =
                switch Int.random(in: 0..<12, using: &random) {
                case 0..<3: Int64.random(in: 0...2_000_000, using: &random)
                case 3: -Int64.random(in: 0...8_000, using: &random)  // a clock that runs ahead
                default: Int64(0)
                }
            let value = Int.random(in: 0..<valueCount, using: &random)
            let isNull = Int.random(in: 0..<20, using: &random) == 0
            let cells: [CellValue] = [
                .integer(now - late), isNull ? .null : .text("tail \(value / 2)"), .double(Double(value)),
                isNull ? .null : .integer(Int64(value / 3)),
            ]
            for isPlain in [true, false] {
                let event = (cells, max(0, now - late), now)
                if isPlain { try plain.insert(event, number, plan) } else { try indexed.insert(event, number, plan) }
            }
            if number % 250 == 249 {
                plain.store(plan)
                if copy == nil { indexed.store(plan) }  // else pages would change below the copy
            }
            switch number {
            case eventCount / 3:
                let store = indexed
                try indexed.series.makeValueIndexes(plan: plan) { try store.bytes($0) }
            case eventCount / 2:
                indexed.series.dropValueIndexes()
                indexed.store(plan)
                indexed.series.beginValueIndexes()
                copy = indexed.series
            case eventCount / 2 + 200:
                let made = try #require(copy).makingValueIndexes(plan: plan) { try indexed.bytes($0) }
                copy = nil
                let adopted = [indexed.series.adopt(made, plan: plan), indexed.series.adopt(made, plan: plan)]
                #expect(adopted == [true, false], "the second time nothing was noted since")
            default: break
            }
            guard number % 40 == 39 else { continue }
            let moment = now + Int64.random(in: -9_000...12_000, using: &random)
            let (found, wanted) = (try indexed.values(plan, at: moment), try plain.values(plan, at: moment))
            #expect(found == wanted, "\(number) at \(moment - now)")
        }
        #expect(indexed.series.hasValueIndexes && !plain.series.hasValueIndexes)
        indexed.store(plan)
        plain.store(plan)
        #expect(indexed.pages == plain.pages, "what is stored knows nothing of it")
    }

    /// Windows with fewer values than half of its limit are counted, and no more values are kept than the limit.
    @Test(arguments: [false, true])
    func aLimitedIndexForgetsTheValuesThatOccurredFirst(isText: Bool) {
        var random = SystemRandomNumberGenerator()
        let limit = 64
        var index = ValueIndex(column: 0, isText: isText, known: 0, valueCountMax: limit)
        var newest: [Int64: Int64] = [:]
        var now: Int64 = 0
        func time() -> Int64 {
            now += Int64.random(in: 0...3, using: &random)
            return max(
                0, now - (Int.random(in: 0..<4, using: &random) == 0 ? Int64.random(in: 0...400, using: &random) : 0))
        }
        for _ in 0..<500 {
            let (value, time) = (Int64.random(in: 0..<300, using: &random), time())
            newest[value] = max(newest[value] ?? .min, time)
            if isText { index.take("\(value)", at: time) } else { index.take([(value, time)]) }
        }
        index.built()
        for _ in 0..<3_000 {
            let (value, time) = (Int64.random(in: 0..<300, using: &random), time())
            newest[value] = max(newest[value] ?? .min, time)
            if isText {
                index.note("\(value)", at: time, known: now)
            } else {
                index.note(value, at: time, known: now)
            }
            #expect(index.valueCount <= limit)
            let moment = now - Int64.random(in: 0...300, using: &random)
            let count = newest.values.count { $0 > moment }
            let found = index.count(after: moment, at: now)
            #expect(found == count || found == nil && 2 * count >= limit)
        }
    }

    @Test func foreignPagesAreRefusedAndNeverTrap() throws {
        var plan = try EventSeriesTests.plan(Self.features)
        plan.sizes = SeriesSizes(chunk: 8, group: 3)
        var stored = Stored(series: EventSeries(plan: plan))
        for number in 0..<200 {
            try stored.insert(
                ([.null, .text("é\(number)"), .double(1), .integer(7)], Int64(number), 1_000), number, plan)
        }
        stored.store(plan)
        var random = SystemRandomNumberGenerator()
        for round in 0..<2_000 {
            var series = stored.series
            try? series.makeValueIndexes(plan: plan) { references in
                var pages = try stored.bytes(references)
                let page = Int.random(in: pages.indices, using: &random)
                if round % 2 == 0 {
                    pages[page].removeLast(Int.random(in: 1...pages[page].count, using: &random))
                } else {
                    for _ in 0..<3 {
                        pages[page][Int.random(in: pages[page].indices, using: &random)] = .random(
                            in: 0...255, using: &random)
                    }
                }
                return pages
            }
            #expect(round % 2 == 1 || !series.hasValueIndexes, "a page that was cut is noticed")
        }
    }

    @Test(arguments: [0, 1, 2_000, 5_000])
    func momentsAreSortedByTheirDigits(count: Int) {
        var random = SystemRandomNumberGenerator()
        for span in [1, 1_000, 90_000_000, Int64.max / 2] as [Int64] {
            let times = (0..<count).map { _ in Int64.random(in: -span...span, using: &random) }
            #expect(SortedTimes.sorted(times) == times.sorted())
        }
        let extremes = (0..<count).map { $0 % 2 == 0 ? Int64.min : .max }
        #expect(SortedTimes.sorted(extremes) == extremes.sorted())
    }
}
