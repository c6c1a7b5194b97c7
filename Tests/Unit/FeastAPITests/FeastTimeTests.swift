import PlatformCore
import Testing

@testable import FeastAPI

struct FeastTimeTests {
    @Test func timeWithoutAZoneIsInUTC() {
        let wanted = EventTime(text: "2026-11-21T10:00:00.5Z")
        #expect(FeastTime.moment("2026-11-21T10:00:00.500000") == wanted)
        #expect(FeastTime.moment("2026-11-21 11:00:00.5+01:00") == wanted)
        #expect(FeastTime.moment("2026-11-21T05:00:00.5-05:00") == wanted)
        #expect(FeastTime.moment("yesterday") == nil)
    }

    @Test func aWrittenMomentReadsBack() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<1000 {
            let moment = EventTime(milliseconds: Int64.random(in: 0...7_000_000_000_000, using: &generator))
            var bytes: [UInt8] = []
            FeastTime.write(moment, to: &bytes)
            #expect(EventTime(text: String(decoding: bytes, as: UTF8.self)) == moment)
        }
    }
}
