import Foundation
import RuntimePorts
import Testing

@testable import TreeModelAdapter

/// Damaged model files: each is refused with a `ModelError` or loads and predicts; nothing traps or takes long.
struct ModelFuzzTests {
    private static func samples() -> [[UInt8]] {
        let shapes = [
            ModelShape(featureCount: 4, treeCount: 3, nodeCountMax: 9),
            ModelShape(featureCount: 2, treeCount: 4, nodeCountMax: 5, groups: 2, objective: "multi:softprob"),
            ModelShape(featureCount: 3, treeCount: 2, nodeCountMax: 7, booster: "dart"),
        ]
        return shapes.enumerated().flatMap { index, shape in
            let file = randomModel(shape, seed: UInt64(index))
            return [ModelWriter.json(file), ModelWriter.ubjson(file)]
        }
    }

    /// Loads and, if that works, predicts.
    ///
    /// A trap ends the test run; anything but `ModelError` does not compile.
    private static func load(_ bytes: [UInt8]) -> Bool {
        let limits = ModelLimits(byteCountMax: 1 << 20, featureCountMax: 10_000, categorySetByteCountMax: 4 << 20)
        do {
            let model = try XGBoostRuntime(limits: limits).load(bytes, fileName: "fuzz")
            let width = model.description.featureCount
            _ = try model.predict(randomRows(9, featureCount: width, seed: 1), rowCount: 9)
            if let explaining = try? model.explaining(),
                let explanations = try? explaining.explain(randomRows(2, featureCount: width, seed: 1), rowCount: 2)
            {
                #expect(explanations.allSatisfy { $0.margins.allSatisfy(\.isFinite) })
            }
            return true
        } catch {
            #expect(!error.message.contains("\n"))
            return false
        }
    }

    @Test func everyTruncationIsRefused() {
        for sample in Self.samples() {
            for length in stride(from: 0, to: sample.count, by: 3) {
                #expect(!Self.load(Array(sample.prefix(length))), "\(length) of \(sample.count) bytes")
            }
        }
    }

    @Test(arguments: UInt64(0)..<8) func changedBytesNeverTrap(seed: UInt64) {
        var random = SeededGenerator(seed)
        let samples = Self.samples()
        let interesting: [UInt8] = [0, 1, 0x7F, 0x80, 0xFF] + Array("[]{}$#\",:-0189.eENTFZSdDlLiUI\\".utf8)
        var loaded = 0
        for _ in 0..<500 {
            var bytes = samples[Int.random(in: 0..<samples.count, using: &random)]
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<6, using: &random) {
                case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 2: bytes[at] = interesting[Int.random(in: 0..<interesting.count, using: &random)]
                case 3: bytes.remove(at: at)
                case 4: bytes.insert(interesting[Int.random(in: 0..<interesting.count, using: &random)], at: at)
                default:  // a piece of the file elsewhere
                    let from = Int.random(in: 0..<bytes.count, using: &random)
                    let piece = bytes[from..<min(bytes.count, from + Int.random(in: 1...40, using: &random))]
                    bytes.insert(contentsOf: Array(piece), at: at)
                }
            }
            if Self.load(bytes) { loaded += 1 }
        }
        #expect(loaded > 0 && loaded < 500)  // the changes reach past the parser, and are noticed
    }

    @Test func randomBytesAreRefused() {
        var random = SeededGenerator(99)
        for length in 0..<400 {
            let bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
            #expect(!Self.load(bytes))
            #expect(!Self.load(Array("{".utf8) + bytes))
            #expect(!Self.load(Array("{\"learner\":{".utf8) + bytes))
            #expect(!Self.load(Array("{i\u{7}learner{".utf8) + bytes))
        }
    }

    @Test(.timeLimit(.minutes(5))) func damagedFilesOfXGBoostNeverTrap() throws {
        var random = SeededGenerator(7)
        for name in ["xgb_binary_base03.ubj", "xgb_earlystop.json"] {
            let sample = try GoldenModelTests.bytes(name)
            for _ in 0..<20 {
                var bytes = sample
                for _ in 0..<20 {
                    bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
                }
                _ = Self.load(bytes)
                #expect(!Self.load(Array(sample.prefix(Int.random(in: 0..<sample.count, using: &random)))))
            }
        }
    }
}
