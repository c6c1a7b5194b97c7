import APIContract
import PlatformCore
import Testing

@testable import InferenceAPI

/// What the server refuses in place of the protocol's routes.
struct RefusalTests {
    @Test func hasOneTextAsTritonSaysIt() throws {
        for (reason, code, status) in [
            (RefusalForm.Reason.unauthenticated, PlatformError.Code.forbidden, 401), (.failure, .forbidden, 403),
            (.unknownPath, .notFound, 404), (.otherMethod, .invalidInput, 405), (.failure, .tooLarge, 413),
            (.failure, .unavailable, 503),
        ] {
            let answer = InferenceRoutes.refusals.answer(PlatformError(code, "server", "not now"), reason)
            #expect(answer.status == status)
            guard case .bytes(let bytes) = answer.body else { throw DecodingFailure("a refusal is in memory") }
            #expect(try JSONValue.parse(bytes) == ["error": "not now"])
        }
    }
}
