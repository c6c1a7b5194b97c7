import APIContract
import HTTPTypes
import HummingbirdCore
import NIOEmbedded
import PlatformCore
import RuntimePorts
import StoragePorts
import Testing

@testable import Gateway

/// Every error has one status and one wire code.
struct ErrorTableTests {
    @Test func everyCodeHasItsStatus() {
        let expected: [PlatformError.Code: Int] = [
            .invalidInput: 422, .tooLarge: 413, .notFound: 404, .conflict: 409, .refused: 409, .forbidden: 403,
            .overloaded: 429, .deadlineExceeded: 504, .unavailable: 503, .corrupted: 500, .internal: 500,
        ]
        for code in PlatformError.Code.allCases { #expect(ErrorTable.status(code) == expected[code], "\(code)") }
    }

    @Test func storeErrorsKeepSubjectAndMessage() {
        let expected: [StoreError.Code: PlatformError.Code] = [
            .notFound: .notFound, .conflict: .conflict, .preconditionFailed: .conflict, .invalidInput: .invalidInput,
            .limitExceeded: .tooLarge, .corrupted: .corrupted, .full: .unavailable, .locked: .unavailable,
            .unavailable: .unavailable,
        ]
        for code in StoreError.Code.allCases {
            let error = ErrorTable.platformError(StoreError(code, "topic/x", "why") as any Error)
            #expect(error.code == expected[code], "\(code)")
            #expect(error.subject == "topic/x" && error.message == "why")
        }
    }

    @Test func otherErrorsAreTranslated() throws {
        let own = PlatformError(.refused, "x", "no")
        #expect(ErrorTable.platformError(own as any Error) == own)
        #expect(ErrorTable.platformError(DecodingFailure("line 1") as any Error).code == .invalidInput)
        #expect(ErrorTable.platformError(ModelError(.tooLarge, "big") as any Error).code == .tooLarge)
        #expect(ErrorTable.platformError(ModelError(.malformedModel, "cut") as any Error).code == .invalidInput)
        #expect(ErrorTable.platformError(CancellationError() as any Error).code == .unavailable)
        struct Odd: Error {}
        let odd = ErrorTable.platformError(Odd() as any Error)
        #expect(odd.code == .internal && odd.message.contains("Odd"))
    }

    @Test func missingAndWrongFieldsAreNamed() throws {
        struct Wanted: Decodable {
            struct Inner: Decodable { let count: Int }
            let inner: Inner
        }
        func message(_ value: JSONValue) throws -> String {
            switch Result(catching: { try value.decoded(as: Wanted.self) }) {
            case .success: "decoded"
            case .failure(let error): ErrorTable.platformError(error).message
            }
        }
        #expect(try message([:]) == "'inner' is missing")
        #expect(try message(["inner": [:]]) == "'count' is missing")
        #expect(try message(["inner": ["count": "x"]]).hasPrefix("'inner.count': "))
    }

    @Test func theAnswerIsJSONWithCodeSubjectAndMessage() throws {
        let response = ErrorTable.form.answer(PlatformError(.notFound, "model/x", "no such model"), .failure)
        #expect(response.status == 404)
        guard case .bytes(let bytes) = response.body else {
            Issue.record("the answer is no text")
            return
        }
        #expect(
            try JSONValue.parse(bytes)
                == ["error": ["code": "not_found", "subject": "model/x", "message": "no such model"]])
    }
}

/// A route's refusals have the form that the route carries.
struct RefusalFormTests {
    private static let form = RefusalForm(prefixes: ["/api/theirs"]) { error, _ in
        .text("theirs: \(error.message)", status: 418)
    }
    private let routes = [
        Route("GET", "/api/ours") { _ in .text("") },
        Route("GET", "/elsewhere/{name}", refusals: form) { _ in .text("") },
        Route("GET", "/api/theirs/{rest...}", refusals: form) { _ in .text("") },
    ]

    @Test(
        arguments: [
            ("/api/ours", false), ("/api/none", false), ("/elsewhere", false), ("/elsewhere/x", true),
            ("/api/theirs", true), ("/api/theirs/x/y", true), ("/api/theirs-too", true),
        ]) func aPathHasTheFormOfItsRouteOrOfItsGroup(path: String, isTheirs: Bool)
    {
        let answer = AnswerMissing.form(of: path, routes).answer(
            PlatformError(.notFound, "route", "none"), .unknownPath)
        #expect(answer.status == (isTheirs ? 418 : 404))
    }

    @Test func aFileThatIsGoneIsRefusedInTheFormOfItsRoute() {
        let gone = APIResponse(body: .file("/nowhere/at/all"))
        let channel = EmbeddedChannel()
        #expect(GatewayServer.response(gone, over: channel, refusals: Self.form).status.code == 418)
        #expect(GatewayServer.response(gone, over: channel, refusals: ErrorTable.form).status.code == 404)
    }

    @Test func thePlatformsFormKnowsWhoIsNotKnown() {
        let error = PlatformError(.forbidden, "access", "no")
        #expect(ErrorTable.form.answer(error, .unauthenticated).status == 401)
        #expect(ErrorTable.form.answer(error, .failure).status == 403)
        #expect(ErrorTable.form.answer(error, .otherMethod).status == 405)
    }
}

/// Query fields as browsers and scripts send them.
struct QueryFieldTests {
    @Test(
        arguments: [
            ("", []), ("a=1", [["a", "1"]]), ("a=1&b=2&a=3", [["a", "1"], ["b", "2"], ["a", "3"]]), ("a", [["a", ""]]),
            ("a=", [["a", ""]]), ("=x", [["", "x"]]), ("a=b=c", [["a", "b=c"]]), ("&&a=1&", [["a", "1"]]),
            ("a=x+y", [["a", "x y"]]), ("a=x%20y%2Bz%26", [["a", "x y+z&"]]), ("%C3%A9=%F0%9F%98%80", [["é", "😀"]]),
            ("a=100%", [["a", "100%"]]), ("a=%FF", [["a", "%FF"]]), ("a=%zz", [["a", "%zz"]]),
        ] as [(String, [[String]])]) func fieldsAreDecodedInOrder(query: String, fields: [[String]])
    {
        #expect(GatewayServer.queryFields(query).map { [$0.key, $0.value] } == fields)
    }
}
