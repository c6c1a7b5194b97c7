import Foundation
import Testing

@testable import Gateway

/// The moment in answers' heads.
struct HTTPDateTests {
    @Test(arguments: [
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"), (4_102_444_799, "Thu, 31 Dec 2099 23:59:59 GMT"),
    ]) func isWrittenAsTheStandardSays(seconds: Int, text: String) {
        #expect(HTTPDate.text(of: seconds) == text)
    }

    @Test func isWhatTheSystemSaysOfAnyMoment() {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(identifier: "GMT")
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        var numbers = SystemRandomNumberGenerator()
        for _ in 0..<500 {
            let seconds = Int.random(in: 0..<4_000_000_000, using: &numbers)
            #expect(HTTPDate.text(of: seconds) == formatter.string(from: Date(timeIntervalSince1970: Double(seconds))))
        }
    }
}
