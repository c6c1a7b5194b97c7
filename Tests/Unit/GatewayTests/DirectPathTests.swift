import APIContract
import Testing

/// Which calls a handler on the event loop takes.
struct DirectPathTests {
    private func name(_ path: DirectPath, _ method: String, _ text: String, byteCount: Int = 0) -> String? {
        Array(method.utf8).withUnsafeBytes { method in
            Array(text.utf8).withUnsafeBytes { text in
                path.name(method: method[...], path: text, bodyByteCount: byteCount)
            }
        }
    }

    @Test(arguments: [
        ("/v2/models/a/infer", "a"), ("/v2/models/a%20b/infer", "a%20b"), ("/v2/models/a/infer?x=/y", "a"),
        ("/v2/models//infer", nil), ("/v2/models/infer", nil), ("/v2/models/a/b/infer", nil),
        ("/v2/models/a/infer/", nil), ("/v2/models/a/Infer", nil), ("/v2/model", nil), ("/v2/models/", nil), ("", nil),
        ("/v2/models/\u{1F600}/infer", "\u{1F600}"),
    ]) func theParameterIsWhatStandsInItsPlace(path: String, expected: String?) {
        #expect(name(DirectPath("POST", "/v2/models/{model}/infer", byteCountMax: 10), "POST", path) == expected)
    }

    @Test func methodLengthAndExactPathsCount() {
        let path = DirectPath("POST", "/runs/log", byteCountMax: 10)
        #expect(name(path, "POST", "/runs/log", byteCount: 10)?.isEmpty == true)
        #expect(name(path, "POST", "/runs/log?a=1") != nil)
        #expect(name(path, "POST", "/runs/log", byteCount: 11) == nil)
        #expect(name(path, "PUT", "/runs/log") == nil)
        #expect(name(path, "post", "/runs/log") == nil)
        #expect(name(path, "POST", "/runs/log2") == nil)
        #expect(name(path, "POST", "/runs/lo") == nil)
    }
}
