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
}
