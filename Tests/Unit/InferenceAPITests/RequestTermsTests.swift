import APIContract
import Definitions
import GRPCWire
import ModelServing
import PlatformCore
import Testing

@testable import InferenceAPI

/// What a request of the protocol says of its time and its urgency.
struct RequestTermsTests {
    private func terms(_ parameters: [String: InferenceParameter], keys: [String] = []) throws(PlatformError)
        -> RequestTerms
    {
        var terms = RequestTerms()
        try terms.read(parameters, keyNames: keys)
        return terms
    }

    @Test func prioritiesAreTritons() throws {
        #expect(try terms([:]).priority == nil)
        #expect(try terms(["priority": .integer(0)]).priority == nil)
        #expect(try terms(["priority": .integer(1)]).priority == .high)
        #expect(try terms(["priority": .integer(2)]).priority == .normal)
        #expect(try terms(["priority": .integer(9)]).priority == .low)
    }

    @Test func timeoutsAreMicrosecondsAndTheSoonerOneCounts() throws {
        #expect(try terms(["timeout": .integer(0)]).deadline == nil)
        let deadline = try #require(try terms(["timeout": .integer(5_000_000)]).deadline)
        #expect(abs((deadline - ContinuousClock.now) / .seconds(1) - 5) < 4)
        #expect(try terms(["timeout": .integer(Int64.max)]).deadline != nil)
        let past = ContinuousClock.now - .seconds(1)
        var both = RequestTerms(deadline: past)
        try both.read(["timeout": .integer(1)], keyNames: [])
        #expect(both.deadline == past)
    }

    @Test(arguments: [InferenceParameter.integer(-1), .text("high"), .flag(true), .number(1.5)])
    func otherValuesAreRefused(value: InferenceParameter) {
        for name in ["priority", "timeout"] {
            #expect(throws: PlatformError.self) { try terms([name: value]) }
        }
    }

    @Test func aKeyOfTheModelIsAKey() throws {
        let terms = try terms(["priority": .text("high"), "timeout": .text("t1")], keys: ["priority", "timeout"])
        #expect(terms.priority == nil && terms.deadline == nil)
    }

    @Test func theTimeoutOfACallHasSixUnits() {
        for (text, expected) in [
            ("1H", Duration.seconds(3600)), ("2M", .seconds(120)), ("3S", .seconds(3)), ("4m", .milliseconds(4)),
            ("5u", .microseconds(5)), ("99999999n", .nanoseconds(99_999_999)), ("0m", .zero),
        ] { #expect(GRPCTimeout.read(text) == expected) }
        for text in ["", "m", "1", "1s", "-1m", "1.5S", "123456789m", "1 m", "é"] {
            #expect(GRPCTimeout.read(text) == nil, "\(text)")
        }
    }

    @Test(arguments: [
        (PlatformError.Code.overloaded, 429, 8), (.deadlineExceeded, 504, 4), (.unavailable, 503, 14),
        (.invalidInput, 400, 3), (.notFound, 404, 5),
    ])
    func refusalsHaveTheirStatusOnBothWays(code: PlatformError.Code, http: Int, grpc: Int) {
        let error = PlatformError(code, "predict/delay", "a reason")
        let answer = InferenceAnswer.failure(error)
        #expect(answer.status == http && GRPCStatus(of: error) == GRPCStatus(code: grpc, message: "a reason"))
        #expect(answer.headers.contains { $0.name == "Retry-After" && $0.value == "1" } == (code == .overloaded))
    }
}
