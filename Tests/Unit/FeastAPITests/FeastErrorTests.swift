import APIContract
import PlatformCore
import Testing

@testable import FeastAPI

struct FeastErrorTests {
    @Test func anErrorIsATextThatHoldsItsClass() throws {
        let response = FeastError(of: PlatformError(.notFound, "feature_view/clicks", "no such view")).response
        #expect(response.status == 404)
        guard case .bytes(let bytes) = response.body, let text = try JSONValue.parse(bytes).stringValue else {
            Issue.record("the body is no text")
            return
        }
        let detail = try JSONValue.parse(Array(text.utf8))
        #expect(detail["class"] == "FeatureViewNotFoundException")
        #expect(detail["module"] == "feast.errors")
    }

    @Test func whatIsRefusedInPlaceOfTheRoutesHasTheSameForm() throws {
        let error = PlatformError(.unavailable, "server", "the server is stopping")
        for (reason, status, name) in [
            (RefusalForm.Reason.unauthenticated, 401, "FeastPermissionError"), (.otherMethod, 405, "FeastError"),
            (.unknownPath, 404, "FeastObjectNotFoundException"), (.failure, 503, "FeastError"),
        ] {
            let response = FeastRoutes.refusals.answer(error, reason)
            #expect(response.status == status)
            guard case .bytes(let bytes) = response.body, let text = try JSONValue.parse(bytes).stringValue else {
                Issue.record("the body is no text")
                continue
            }
            let detail = try JSONValue.parse(Array(text.utf8))
            #expect(detail["class"]?.stringValue == name)
            #expect(detail["message"]?.stringValue?.contains("the server is stopping") == true)
        }
    }

    @Test func whatTheCallerDidWrongIsNotTriedAgain() {
        for code in [PlatformError.Code.invalidInput, .tooLarge, .notFound, .conflict, .refused, .forbidden] {
            #expect(FeastError(of: PlatformError(code, "x", "y")).status < 429)
        }
    }
}
