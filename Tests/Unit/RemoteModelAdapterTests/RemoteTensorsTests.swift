import Foundation
import PlatformCore
import PlatformTesting
import RuntimePorts
import Testing

@testable import RemoteModelAdapter

struct RemoteTensorsTests {
    private static func layout(_ json: String) throws -> RemoteLayout {
        try RemoteLayout(try JSONValue.parse(Array(json.utf8)))
    }
    private static let table = """
        {"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}],"outputs":[{"name":"label","datatype":"INT64","shape":[-1]},
        {"name":"probabilities","datatype":"FP32","shape":[-1,2]}]}
        """
    private static let columns = """
        {"inputs":[{"name":"a","datatype":"INT64","shape":[-1,1]},{"name":"b","datatype":"BYTES","shape":[-1,1]},
        {"name":"c","datatype":"BOOL","shape":[-1]}],"outputs":[{"name":"y","datatype":"FP64","shape":[-1]}]}
        """

    @Test func addressesAreReadWholeOrNotAtAll() throws {
        for (text, url) in [
            ("v2://gpu:8000/fraud\n", "http://gpu:8000/v2/models/fraud"),
            ("v2s://gpu/fraud/versions/3", "https://gpu/v2/models/fraud/versions/3"),
        ] { #expect(try RemoteAddress(Array(text.utf8)) == .http(try #require(URL(string: url)))) }
        for (text, target) in [
            ("grpc://gpu:9000/fraud", RemoteAddress.Target(host: "gpu", port: 9000, model: "fraud", version: "")),
            ("grpc://[::1]/a/versions/3", RemoteAddress.Target(host: "::1", port: 8001, model: "a", version: "3")),
            (
                "grpcs://gpu/fraud",
                RemoteAddress.Target(host: "gpu", port: 8001, model: "fraud", version: "", isSecure: true)
            ),
        ] { #expect(try RemoteAddress(Array(text.utf8)) == .grpc(target)) }
        for text in [
            "v2://", "v2://host", "v2://host/", "v2://host/a/b", "v2://host/..", "v2://u:p@host/a", "v2://host/a?b=c",
            "http://host/a", "v2://host/a/versions/", "v2://ho st/a", "grpcss://host/a", "grpc://host:70000/a",
        ] {
            #expect(throws: ModelError.self, "\(text)") { try RemoteAddress(Array(text.utf8)) }
        }
    }

    @Test func rowsBecomeTensorsOfTheTypesThatTheModelTakes() throws {
        let layout = try Self.layout(Self.columns)
        #expect(layout.featureNames == ["a", "b", "c"])
        let categories = [1: ["app", "web"]]
        let (head, body) = try RemoteTensors.request(
            [7, 1, 1, -2, .nan, 0], rowCount: 2, layout, categories: categories)
        let json = try JSONValue.parse(Array(body[..<head]))
        let sizes = json["inputs"]?.arrayValue?.map { $0["parameters"]?["binary_data_size"]?.integerValue }
        #expect(sizes == [16, 11, 2])
        #expect(
            Array(body[head..<(head + 16)]) == [7, 0, 0, 0, 0, 0, 0, 0] + [0xFE] + Array(repeating: 0xFF, count: 7))
        #expect(Array(body[(head + 16)...]) == [3, 0, 0, 0, 0x77, 0x65, 0x62, 0, 0, 0, 0, 1, 0])
        #expect(throws: ModelError.self) {
            try RemoteTensors.request([0.5, 0, 0], rowCount: 1, layout, categories: categories)
        }
        #expect(throws: ModelError.self) {
            try RemoteTensors.request([.nan, 0, 0], rowCount: 1, layout, categories: categories)
        }
    }

    @Test func answersAreReadInBinaryAndInJSON() throws {
        #expect(try Self.layout(Self.table).output == "probabilities")
        let numbers: [Float] = [0.9, 0.1, 0.25, 0.75]
        let head = Array(
            """
            {"outputs":[{"name":"label","datatype":"INT64","shape":[2],"parameters":{"binary_data_size":16}},
            {"name":"p","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}}]}
            """.utf8)
        let body = head + [UInt8](repeating: 0, count: 16) + numbers.withUnsafeBytes { Array($0) }
        let read = try RemoteTensors.outputs(body, headByteCount: head.count, rowCount: 2, output: "p")
        #expect(read.values == [0.1, 0.75])
        #expect(read.width == 1)
        let text = Array(#"{"outputs":[{"name":"p","datatype":"FP64","shape":[2,1],"data":[[1.5],[2]]}]}"#.utf8)
        #expect(try RemoteTensors.outputs(text, headByteCount: nil, rowCount: 2, output: "p").values == [1.5, 2])
    }

    @Test func noAnswerMakesTheReaderTrap() throws {
        let head = Array(
            #"{"outputs":[{"name":"p","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}"#.utf8)
        let good = head + [0, 0, 0x80, 0x3F]
        #expect(try RemoteTensors.outputs(good, headByteCount: head.count, rowCount: 1, output: "p").values == [1])
        var random = SplitMix64(seed: 6)
        for _ in 0..<3000 {
            var bytes = Array(good.prefix(Int.random(in: 0...good.count, using: &random)))
            for _ in 0..<Int.random(in: 0...3, using: &random) where !bytes.isEmpty {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            let count = [head.count, -1, .max, bytes.count, nil].randomElement(using: &random) ?? nil
            _ = try? RemoteTensors.outputs(bytes, headByteCount: count, rowCount: 1, output: "p")
        }
    }

    @Test func aModelThatRowsDoNotFillIsRefused() {
        for (old, new) in [
            ("[-1,2]}],\"outputs\"", "[-1,2,3]}],\"outputs\""), ("[-1,2]}],\"outputs\"", "[-1,-1]}],\"outputs\""),
            ("\"x\",\"datatype\":\"FP32\"", "\"x\",\"datatype\":\"UINT8\""), ("\"inputs\"", "\"outputz\""),
        ] {
            #expect(throws: ModelError.self, "\(new)") { try Self.layout(Self.table.replacing(old, with: new)) }
        }
    }
}

struct CircuitBreakerTests {
    @Test func itOpensAfterFailuresInARowTriesOneAndForgetsAfterASuccess() {
        var breaker = CircuitBreaker(failureCountMax: 3, pauseMin: .seconds(1), pauseMax: .seconds(3))
        var now = ContinuousClock.now
        for _ in 0..<2 { breaker.failed(at: now) }
        breaker.succeeded()
        for _ in 0..<2 { breaker.failed(at: now) }
        func allows(at now: ContinuousClock.Instant) -> Bool { breaker.allows(at: now) }
        #expect(allows(at: now))
        breaker.failed(at: now)
        #expect(breaker.isOpen)
        #expect(!allows(at: now))
        for pause in [1, 2, 3, 3] {  // doubles up to its bound
            now += .milliseconds(pause * 1000 - 1)
            #expect(!allows(at: now))
            now += .milliseconds(1)
            #expect(allows(at: now))
            #expect(!allows(at: now), "one trial at a time")
            breaker.failed(at: now)
        }
        now += .seconds(3)
        #expect(allows(at: now))
        breaker.succeeded()
        #expect(!breaker.isOpen)
        #expect(allows(at: now))
        #expect(breaker.openingCount == 1)
    }
}
