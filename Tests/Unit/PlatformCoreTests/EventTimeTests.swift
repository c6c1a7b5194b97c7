import Foundation
import PlatformCore
import PlatformTesting
import Testing

/// Moments and spans as text: read strictly, written one way, the same as the calendar of the system.
struct EventTimeTests {
    @Test(arguments: UInt64(0)..<20) func textAgreesWithTheSystemsCalendar(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        let range = EventTime.earliestAccepted.milliseconds..<EventTime.latestAccepted.milliseconds
        for _ in 0..<50 {
            let moment = EventTime(milliseconds: Int64.random(in: range, using: &random))
            let text = moment.description
            #expect(EventTime(text: text) == moment)
            #expect(moment.isAccepted)
            let date = try style.parse(text)
            #expect(Int64((date.timeIntervalSince1970 * 1000).rounded()) == moment.milliseconds, "\(text)")
            // A tenth of a millisecond more, so that the formatter's rounding down lands on the same one.
            let shown = Date(timeIntervalSince1970: (Double(moment.milliseconds) + 0.1) / 1000).formatted(style)
            #expect(shown == text)
        }
    }

    @Test func everyDayOfFourCenturiesFollowsTheOneBefore() throws {
        var expected = EventTime(milliseconds: try #require(EventTime(text: "1900-01-01")).milliseconds)
        for year in 1900..<2300 {
            for month in 1...12 {
                for day in 1...31 {
                    func pad(_ value: Int) -> String { (value < 10 ? "0" : "") + String(value) }
                    guard let moment = EventTime(text: "\(year)-\(pad(month))-\(pad(day))") else { continue }
                    guard moment == expected else {
                        Issue.record("\(year)-\(month)-\(day) is \(moment), not \(expected)")
                        return
                    }
                    expected = expected.advanced(by: .days(1))
                }
            }
        }
        #expect(expected.dateText == "2300-01-01")
    }

    @Test(arguments: [
        ("1970-01-01T00:00:00Z", 0), ("1970-01-01", 0), ("0", 0), ("-1", -1), ("1372670100000", 1_372_670_100_000),
        ("2013-07-01T09:15:00Z", 1_372_670_100_000), ("2013-07-01t09:15:00z", 1_372_670_100_000),
        ("2013-07-01 09:15:00Z", 1_372_670_100_000), ("2013-07-01T09:15Z", 1_372_670_100_000),
        ("2013-07-01T05:15:00-04:00", 1_372_670_100_000), ("2013-07-01T05:15:00-0400", 1_372_670_100_000),
        ("2013-07-01T14:45:00+05:30", 1_372_670_100_000), ("2013-07-01T11:15:00+02", 1_372_670_100_000),
        ("2013-06-30T23:15:00-10:00", 1_372_670_100_000), ("2013-07-01T09:15:00.5Z", 1_372_670_100_500),
        ("2013-07-01T09:15:00.123456789Z", 1_372_670_100_123), ("2013-07-01T09:15:00.999999+00:00", 1_372_670_100_999),
        ("1969-12-31T23:59:59.999Z", -1), ("2012-02-29", 1_330_473_600_000), ("2000-02-29", 951_782_400_000),
    ]) func readsTheFormsThatItPromises(text: String, milliseconds: Int64) {
        #expect(EventTime(text: text)?.milliseconds == milliseconds)
    }

    @Test(arguments: [
        "", " ", "-", "now", "2013-02-29", "1900-02-29", "2013-04-31", "2013-13-01", "2013-00-01", "2013-01-00",
        "2013-1-1", "13-01-01", "2013/01/01", "2013-07-01T24:00:00Z", "2013-07-01T09:60:00Z", "2013-07-01T09:15:60Z",
        "2013-07-01T09:15:00.Z", "2013-07-01T09:15:00.1234567890Z", "2013-07-01T09:15:00Zx", "2013-07-01T09:15:00+",
        "2013-07-01T09:15:00+5", "2013-07-01T09:15:00+05:", "2013-07-01T09:15:00+05:3", "2013-07-01T09:15:00+05:60",
        "2013-07-01T09:15:00+24:00", "2013-07-01T09:15:00+05:300", "2013-07-01T9:15:00Z", "2013-07-01Z", "2013-07-01T",
        "2013-07-01T09Z", "2013-07-01x09:15:00Z", "20130701T091500Z", "+5", "1.5", "1e3", "12345678901234567",
        "2013-07-01T09:15:00 Z", "２０１３-07-01",
    ]) func refusesEverythingElse(text: String) {
        #expect(EventTime(text: text) == nil)
    }

    @Test(arguments: ["2013-07-01T09:15:00", "2013-07-01 09:15", "2013-07-01T09:15:00.250"])
    func aTimeOfDayWithoutZoneIsRefused(text: String) {
        #expect(EventTime(text: text) == nil)
        #expect(EventTime(text: text + "Z") != nil)
    }

    @Test func farMomentsAreReadButNotAccepted() throws {
        let far = try #require(EventTime(text: "9999-12-31T23:59:59.999Z"))
        #expect(far.description == "9999-12-31T23:59:59.999Z")
        #expect(!far.isAccepted)
        #expect(try #require(EventTime(text: "2199-12-31T23:59:59.999Z")).isAccepted)
        #expect(try #require(EventTime(text: "2200-01-01")).isAccepted == false)
        #expect(try #require(EventTime(text: "1900-01-01")).isAccepted)
        #expect(try #require(EventTime(text: "1899-12-31T23:59:59.999Z")).isAccepted == false)
        #expect(EventTime(text: "0000-01-01")?.description == "0000-01-01T00:00:00.000Z")
    }

    @Test func theEndsOfTheRangeSaturateAndHaveText() {
        let first = EventTime(milliseconds: .min)
        let last = EventTime(milliseconds: .max)
        #expect(first.advanced(by: .days(-1)) == first)
        #expect(last.advanced(by: .days(1)) == last)
        #expect(last.since(first) == TimeSpan(milliseconds: .max))
        #expect(first.since(last) == TimeSpan(milliseconds: .min))
        #expect(last.description == "292278994-08-17T07:12:55.807Z")
        #expect(first.description == "-292275055-05-16T16:47:04.192Z")
    }

    @Test(arguments: UInt64(0)..<8) func damagedTextNeverTraps(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let alphabet = Array("0123456789-:.TZ+ t\u{7F}é".unicodeScalars)
        for _ in 0..<200 {
            var scalars = Array("2013-07-01T09:15:00.250+05:30".unicodeScalars)
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                scalars[Int.random(in: 0..<scalars.count, using: &random)] =
                    alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
            }
            scalars.removeLast(Int.random(in: 0..<scalars.count, using: &random))
            var text = String.UnicodeScalarView()
            text.append(contentsOf: scalars)
            if let moment = EventTime(text: String(text)) { #expect(EventTime(text: moment.description) == moment) }
        }
    }

    @Test func codingIsMilliseconds() throws {
        let moment = EventTime(milliseconds: -1_234)
        #expect(try JSONValue.of([moment]) == [-1234])
        #expect(try JSONValue.array([-1234]).decoded(as: [EventTime].self) == [moment])
    }
}

/// Spans of time as people write them.
struct TimeSpanTests {
    @Test(arguments: [
        ("250ms", 250, "250ms"), ("30s", 30_000, "30s"), ("5m", 300_000, "5m"), ("90s", 90_000, "90s"),
        ("1h", 3_600_000, "1h"), ("24h", 86_400_000, "1d"), ("7d", 604_800_000, "7d"), ("2w", 1_209_600_000, "14d"),
        ("0s", 0, "0s"), ("1000ms", 1000, "1s"), ("366000d", 31_622_400_000_000, "366000d"),
    ]) func readsAndWrites(text: String, milliseconds: Int64, shown: String) throws {
        let span = try #require(TimeSpan(text: text))
        #expect(span.milliseconds == milliseconds)
        #expect(span.description == shown)
        #expect(TimeSpan(text: span.description) == span)
    }

    @Test(arguments: [
        "", "7", "d", "-7d", "+7d", "7 d", " 7d", "7D", "1.5h", "7dd", "7d ", "1y", "٧d", "9223372036854775807d",
        "99999999999999999999s", "366001d", "1h30m",
    ]) func refusesEverythingElse(text: String) {
        #expect(TimeSpan(text: text) == nil)
    }

    @Test(arguments: UInt64(0)..<50) func everySpanReadsBack(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for unit: Int64 in [1, 1000, 60_000, 3_600_000, 86_400_000] {
            let span = TimeSpan(milliseconds: Int64.random(in: 0...10_000, using: &random) * unit)
            #expect(TimeSpan(text: span.description) == span)
        }
    }
}
