import Testing

@testable import Gateway

/// The short way to read a request's head takes plain requests only.
struct WireRequestTests {
    private func read(_ text: String) -> (reading: WireRequest.Reading, bytes: [UInt8]) {
        let bytes = Array(text.utf8)
        return (bytes.withUnsafeBytes { WireRequest.read($0) }, bytes)
    }

    private func plain(_ text: String) -> (request: WireRequest, bytes: [UInt8])? {
        let (reading, bytes) = read(text)
        guard case .plain(let request) = reading else { return nil }
        return (request, bytes)
    }

    private func isForeign(_ text: String) -> Bool {
        if case .foreign = read(text).reading { true } else { false }
    }

    private func isIncomplete(_ text: String) -> Bool {
        if case .incomplete = read(text).reading { true } else { false }
    }

    @Test func aPlainRequestIsRead() throws {
        let text =
            "POST /predict/delay?x=1 HTTP/1.1\r\nHost: 127.0.0.1:80\r\ncontent-LENGTH:  12 \r\nX-Bottega-Caller: shop\r\n"
            + "Authorization: Bearer t\r\nAccept: */*\r\n\r\n{\"entities\":"
        let (request, bytes) = try #require(plain(text))
        func word(_ range: Range<Int>?) -> String { range.map { String(decoding: bytes[$0], as: UTF8.self) } ?? "" }
        #expect(word(request.method) == "POST" && word(request.path) == "/predict/delay?x=1")
        #expect(word(request.host) == "127.0.0.1:80" && word(request.caller) == "shop")
        #expect(word(request.authorization) == "Bearer t")
        #expect(request.bodyByteCount == 12 && request.headByteCount == text.utf8.count - 12 && request.keepsAlive)
    }

    @Test func otherFieldsAreFoundInTheHead() throws {
        let text =
            "POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\ninference-HEADER-content-length: \t12 \r\nX-Empty:\r\n"
            + "X-Two: 1\r\nX-Two: 2\r\nX-TwoMore: 3\r\nContent-Length: 19\r\n\r\nX-Body: no\r\nmore\r\n\r\n"
        let (request, bytes) = try #require(plain(text))
        func field(_ name: StaticString) -> String? {
            bytes.withUnsafeBytes {
                WireRequest.field(name, in: UnsafeRawBufferPointer(rebasing: $0[..<(request.headByteCount - 2)]))
            }
        }
        #expect(field("inference-header-content-length") == "12" && field("x-empty") == "")
        #expect(field("x-two") == "1" && field("x-twomore") == "3")
        #expect(field("x-body") == nil && field("x-tw") == nil && field("content-encoding") == nil)
    }

    @Test func theEndOfAConnectionIsSeen() throws {
        let (request, _) = try #require(plain("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n"))
        #expect(!request.keepsAlive && request.bodyByteCount == 0)
    }

    @Test(arguments: [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET /\r\nHost: a\r\n\r\n",
        "get / HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\n folded: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nbroken\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\u{0}b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\r\n", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / http/1.1\r\nHost: a\r\n\r\n", "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX(y): b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \u{7f}\r\n\r\n",
    ])
    func theUnusualIsForeign(_ text: String) { #expect(isForeign(text)) }

    @Test func everyBeginningIsIncomplete() {
        let text = "POST /predict/delay HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 12\r\n\r\n"
        for count in 0..<text.utf8.count {
            #expect(isIncomplete(String(decoding: text.utf8.prefix(count), as: UTF8.self)))
        }
        #expect(isForeign("GET /" + String(repeating: "a", count: WireRequest.headByteCountMax)))
    }

    /// Whatever arrives, reading ends, and what is called plain lies within the bytes.
    @Test func noBytesTrap() {
        var generator = SystemRandomNumberGenerator()
        let text = Array(
            "POST /predict/delay HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{}".utf8)
        var plain = 0
        for _ in 0..<20_000 {
            var bytes = text
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes.remove(at: place)
                default: bytes.insert([13, 10, 58, 32, 0, 255].randomElement(using: &generator) ?? 0, at: place)
                }
            }
            let reading = bytes.withUnsafeBytes { WireRequest.read($0) }
            guard case .plain(let request) = reading else { continue }
            plain += 1
            #expect(request.headByteCount <= bytes.count && request.path.upperBound <= bytes.count)
            #expect(bytes[(request.headByteCount - 4)..<request.headByteCount].elementsEqual([13, 10, 13, 10]))
        }
        #expect(plain > 1_000)
    }
}
