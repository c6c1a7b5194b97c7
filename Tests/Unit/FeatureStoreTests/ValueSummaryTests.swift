import PlatformCore
import Testing

@testable import FeatureStore

/// What a trial says of values is what counting them says.
struct ValueSummaryTests {
    @Test func numbersAreSummarized() {
        let values: [CellValue] = (1...100).map { .double(Double($0)) } + [.null, .null]
        let summary = ValueSummary(feature: "x", type: .float64, values)
        #expect(summary.count == 102 && summary.nullCount == 2 && summary.distinctCount == 100)
        #expect(summary.minimum == 1 && summary.maximum == 100 && summary.median == 50 && summary.percentile99 == 99)
        #expect(abs((summary.mean ?? 0) - 50.5) < 1e-9)
        #expect(abs((summary.standardDeviation ?? 0) - (9999.0 / 12).squareRoot()) < 1e-9)
        #expect(summary.histogram.count == ValueSummary.binCount && summary.frequencies.isEmpty)
        #expect(summary.histogram.first?.from == 1 && summary.histogram.last?.to == 100)
    }

    @Test func textsAndFewNumbersAreCounted() {
        let texts = ValueSummary(feature: "s", type: .string, ["b", "a", "b", "c"].map(CellValue.text) + [.null])
        #expect(texts.frequencies.map(\.value) == [.text("b"), .text("a"), .text("c")])
        #expect(texts.frequencies.map(\.count) == [2, 1, 1])
        #expect(texts.minimum == nil && texts.histogram.isEmpty)
        let same = ValueSummary(feature: "n", type: .int64, [.integer(4), .integer(4)])
        #expect(same.histogram.isEmpty && same.frequencies == [.init(value: .integer(4), count: 2)])
        let lists = ValueSummary(feature: "l", type: .list, [.list([.integer(1)]), .null])
        #expect(lists.distinctCount == 1 && lists.frequencies.isEmpty)
    }

    @Test func nothingAndExtremesDoNotTrap() {
        #expect(ValueSummary(feature: "x", type: .float64, []).count == 0)
        #expect(ValueSummary(feature: "x", type: .float64, [.null]).mean == nil)
        let wide: [CellValue] = [
            .double(-.greatestFiniteMagnitude), .double(.greatestFiniteMagnitude), .double(0),
            .double(.leastNonzeroMagnitude),
        ]
        let summary = ValueSummary(feature: "x", type: .float64, wide)
        #expect(summary.histogram.reduce(0) { $0 + $1.count } == 4)
        let near = ValueSummary(feature: "x", type: .float64, [.double(1), .double(1.0.nextUp)])
        #expect(near.histogram.isEmpty || near.histogram.reduce(0) { $0 + $1.count } == 2)
        let moments = ValueSummary(feature: "t", type: .timestamp, [.integer(.max), .integer(.min), .integer(0)])
        #expect(moments.count == 3)
    }
}
