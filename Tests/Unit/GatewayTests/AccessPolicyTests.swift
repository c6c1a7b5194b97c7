import Foundation
import Testing

@testable import Gateway

/// Who may speak to the gateway: this machine without a token, anybody else only with it.
struct AccessPolicyTests {
    @Test(arguments: [
        "localhost", "localhost:8000", "127.0.0.1", "127.0.0.1:8000", "127.1.2.3:80", "[::1]", "[::1]:8000",
        "bottega.localhost", "a.b.localhost:8000",
    ]) func loopbackNamesAreThisMachine(host: String) {
        #expect(AccessPolicy(token: nil).refusal(host: host, authorization: nil) == nil)
    }

    @Test(arguments: [
        "example.com", "localhost.example.com", "127.0.0.1.example.com", "evil-localhost", "127.0.0.1x", "127.0.0",
        "127.0.0.256", "128.0.0.1", "10.0.0.1:8000", "[::2]:8000", "[::ffff:10.0.0.1]", "0.0.0.0", "127...1", ":8000",
        "[", " localhost",
    ]) func otherNamesAreRefused(host: String) {
        #expect(AccessPolicy(token: nil).refusal(host: host, authorization: nil) == .forbiddenHost)
        #expect(AccessPolicy(token: nil).refusal(host: host, authorization: "Bearer x") == .forbiddenHost)
    }

    @Test func hostNamesHaveNoCase() {
        #expect(AccessPolicy(token: nil).refusal(host: "LocalHost:8000", authorization: nil) == nil)
    }

    @Test func clientsOfOldThatNameNoHostAreLet() {
        #expect(AccessPolicy(token: nil).refusal(host: nil, authorization: nil) == nil)
        #expect(AccessPolicy(token: nil).refusal(host: "", authorization: nil) == nil)
    }

    @Test func theTokenOpensAndNothingElseDoes() {
        let policy = AccessPolicy(token: "s3cret")
        for authorization in ["Bearer s3cret", "bearer s3cret", "BEARER s3cret"] {
            #expect(policy.refusal(host: "example.com", authorization: authorization) == nil)
        }
        for authorization in [
            nil, "", "s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cretx", "Bearer S3CRET", "Bearer  s3cret",
            "Basic s3cret", "Bearer s3cret ",
        ] {
            #expect(policy.refusal(host: "localhost", authorization: authorization) == .unauthenticated)
        }
    }

    @Test func anEmptyTokenOpensToNobody() {
        let policy = AccessPolicy(token: "")
        for authorization in [nil, "Bearer ", "Bearer", "Basic \(Data("mallory:".utf8).base64EncodedString())"] {
            #expect(policy.refusal(host: "localhost", authorization: authorization) == .unauthenticated)
        }
    }

    @Test func browsersSendTheTokenAsAPassword() {
        let policy = AccessPolicy(token: "s3cret:é")
        func basic(_ text: String) -> String { "Basic " + Data(text.utf8).base64EncodedString() }
        for text in ["ada:s3cret:é", ":s3cret:é"] {
            #expect(policy.refusal(host: "example.com", authorization: basic(text)) == nil)
        }
        for authorization in [basic("ada:s3cret"), basic("s3cret:é"), basic(""), "Basic", "Basic !!", "Basic YQ=="] {
            #expect(policy.refusal(host: "localhost", authorization: authorization) == .unauthenticated)
        }
        #expect(AccessPolicy.signIn(basic("ada:x:y"))?.name == "ada")
        #expect(AccessPolicy.signIn(basic("a\u{1B}[2J\r\nb\u{0}\u{9B}é:\u{7}x"))?.name == "a [2J  b  é")
        #expect(AccessPolicy.signIn(basic("ada:\u{7}x"))?.password == "\u{7}x")
    }

    @Test(
        arguments: [
            // Programs say nothing of a page; browsers compare sites themselves where they may.
            (nil, nil, false), ("http://localhost:8000", nil, false), ("http://LOCALHOST:8000", nil, false),
            ("https://ml.example", "same-origin", false), ("http://localhost:8000", "none", false),
            ("http://localhost:3000", "same-site", true), ("http://localhost:8000", "cross-site", true),
            ("http://evil.example", nil, true), ("null", nil, true), ("http://localhost", nil, true), ("", nil, true),
        ] as [(String?, String?, Bool)]) func pagesOfOtherSitesChangeNothing(
            origin: String?, site: String?, isForged: Bool
        )
    {
        let policy = AccessPolicy(token: nil)
        func ask(_ method: String, _ authorization: String?) -> Bool {
            policy.isForged(
                method: method, host: "localhost:8000", authorization: authorization, origin: origin, site: site)
        }
        #expect(ask("POST", nil) == isForged)
        #expect(ask("DELETE", "Basic YTpi") == isForged)
        #expect(!ask("GET", nil))
        #expect(!ask("POST", "Bearer x"))
    }

    @Test(arguments: [
        ("", "", true), ("a", "a", true), ("a", "b", false), ("a", "", false), ("a", "a\0", false), ("ab", "ba", false),
        ("é", "e\u{301}", false),
    ]) func comparisonIsOfBytes(left: String, right: String, isEqual: Bool) {
        #expect(AccessPolicy.equalInConstantTime(left, right) == isEqual)
        #expect(AccessPolicy.equalInConstantTime(right, left) == isEqual)
    }
}
