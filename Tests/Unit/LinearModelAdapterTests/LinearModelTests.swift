import Foundation
import RuntimePorts
import Testing

@testable import LinearModelAdapter

/// The format of linear models: what is computed, and what is refused.
struct LinearModelTests {
    private static func load(_ text: String) throws(ModelError) -> any LoadedModel {
        try LinearModelRuntime().load(Array(text.utf8), fileName: "model.linear.json")
    }

    private static func file(_ members: String, link: String = "identity") -> String {
        "{\"format\": \"bottega-linear/1\", \"link\": \"\(link)\", \"features\": [\"a\", \"b\"], \(members)}"
    }

    @Test func sumsAreCenteredScaledAndWeighted() throws {
        let model = try Self.load(
            Self.file(
                #""coefficients": [[2, -3]], "intercepts": [0.5], "center": [1, 10], "scale": [2, 0.5]"#))
        #expect(try model.predict([3, 11, 1, 10], rowCount: 2) == [2 * 1 - 3 * 2 + 0.5, 0.5])
        #expect(model.description.objective == "reg:linear")
        #expect(model.description.featureNames == ["a", "b"])
    }

    @Test(arguments: [("logistic", 1 / (1 + exp(-1.5))), ("exp", exp(1.5))])
    func linksTurnSumsIntoPredictions(link: String, expected: Double) throws {
        let model = try Self.load(Self.file(#""coefficients": [[1, 0]], "intercepts": [0.5]"#, link: link))
        #expect(try model.predict([1, 7], rowCount: 1) == [Float(expected)])
    }

    @Test(arguments: ["softmax", "one-vs-rest"]) func classesHaveProbabilities(link: String) throws {
        let model = try Self.load(
            Self.file(
                #""coefficients": [[1, 0], [0, 1], [-1, 2]], "intercepts": [0, 0.5, 1], "classes": [0, 1, 2]"#,
                link: link))
        let sums = [2.0, -0.5, -3.0]
        let parts = link == "softmax" ? sums.map { exp($0) } : sums.map { 1 / (1 + exp(-$0)) }
        let found = try model.predict([2, -1], rowCount: 1)
        for (value, part) in zip(found, parts) { #expect(abs(Double(value) - part / parts.reduce(0, +)) < 1e-7) }
        #expect(model.description.outputCount == 3)
    }

    @Test func hugeSumsStayProbabilities() throws {
        let model = try Self.load(
            Self.file(#""coefficients": [[1, 0], [0, 1]], "intercepts": [0, 0]"#, link: "softmax"))
        #expect(try model.predict([3e38, -3e38], rowCount: 1) == [1, 0])
        let logistic = try Self.load(Self.file(#""coefficients": [[1, 0]], "intercepts": [0]"#, link: "logistic"))
        #expect(try logistic.predict([3e38, 0, -3e38, 0], rowCount: 2) == [1, 0])
    }

    @Test func missingValuesAreFilledOrRefused() throws {
        let filled = try Self.load(
            Self.file(#""coefficients": [[2, 1]], "intercepts": [0], "center": [1, 0], "fill": [4, 5]"#))
        #expect(try filled.predict([.nan, 1, 2, .nan], rowCount: 2) == [7, 7])
        let strict = try Self.load(Self.file(#""coefficients": [[2, 1]], "intercepts": [0]"#))
        #expect(throws: ModelError.self) { try strict.predict([.nan, 1], rowCount: 1) }
        for model in [filled, strict] {
            #expect(throws: ModelError.self) { try model.predict([.infinity, 1], rowCount: 1) }
            #expect(throws: ModelError.self) { try model.predict([1, 1, 1], rowCount: 1) }
        }
    }

    @Test(
        arguments: [
            #""coefficients": [[1]], "intercepts": [0]"#, #""coefficients": [[1, 2]], "intercepts": []"#,
            #""coefficients": [[1, 2], [1, 2]], "intercepts": [0, 0]"#, #""coefficients": [], "intercepts": []"#,
            #""coefficients": [[1, "2"]], "intercepts": [0]"#, #""coefficients": [[1, 2]]"#,
            #""coefficients": [[1, 2]], "intercepts": [0], "scale": [1, 0]"#,
            #""coefficients": [[1, 2]], "intercepts": [0], "center": [1]"#,
            #""coefficients": [[1, 2]], "intercepts": [0], "classes": [0, 1]"#,
            #""coefficients": [[1, 2]], "intercepts": [0], "intercept": 4"#,
            #""coefficients": [[1, 1e999]], "intercepts": [0]"#,
        ]) func faultsAreNamed(members: String)
    {
        let error = #expect(throws: ModelError.self) { try Self.load(Self.file(members)) }
        #expect(error?.message.hasPrefix("model.linear.json: ") == true)
        #expect(error?.message.contains("\n") == false)
    }

    @Test func onlyItsOwnFormatIsRecognized() {
        let runtime = LinearModelRuntime()
        #expect(runtime.recognizes(Array(" {\"format\": \"bottega-linear/1\"}".utf8), fileName: ""))
        #expect(!runtime.recognizes(Array("{\"learner\": {}}".utf8), fileName: "model.linear.json"))
        #expect(!runtime.recognizes(Array("[\"bottega-linear/1\"]".utf8), fileName: ""))
        #expect(!runtime.recognizes([], fileName: ""))
    }

    @Test(arguments: UInt64(1)..<7) func changedBytesNeverTrap(seed: UInt64) {
        let sample = Array(
            Self.file(
                #""coefficients": [[1.5e0, -2], [3, 4.25]], "intercepts": [0, 1], "center": [1, 2], "fill": [0, 0]"#,
                link: "softmax"
            ).utf8)
        var state = seed
        func random(_ count: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(count))
        }
        let interesting: [UInt8] = [0, 0x7F, 0x80, 0xFF] + Array("[]{}\",:-019.eENu\\".utf8)
        var loaded = 0
        for _ in 0..<1500 {
            var bytes = sample
            for _ in 0...random(3) {
                let at = random(bytes.count)
                switch random(5) {
                case 0: bytes[at] = UInt8(random(256))
                case 1: bytes[at] = interesting[random(interesting.count)]
                case 2: bytes.remove(at: at)
                case 3: bytes.insert(interesting[random(interesting.count)], at: at)
                default: bytes.removeLast(random(bytes.count / 2))
                }
            }
            guard let model = try? LinearModelRuntime().load(bytes, fileName: "fuzz") else { continue }
            loaded += 1
            let width = model.description.featureCount
            _ = try? model.predict([Float](repeating: 1, count: width * 3), rowCount: 3)
        }
        #expect(loaded > 0 && loaded < 1500)
    }
}
