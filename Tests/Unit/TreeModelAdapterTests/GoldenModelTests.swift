import Foundation
import RuntimePorts
import Testing

@testable import TreeModelAdapter

/// Predictions of models from files against what xgboost 3.2.0 predicted, bit for bit.
struct GoldenModelTests {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../Golden/models")

    static func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: folder.appending(path: name)))
    }

    static func floats(_ name: String) throws -> [Float] {
        let bytes = try bytes(name)
        return stride(from: 0, to: bytes.count, by: 4).map { start in
            Float(bitPattern: (0..<4).reduce(0) { $0 | UInt32(bytes[start + $1]) << UInt32(8 * $1) })
        }
    }

    @Test(
        arguments: [
            ("xgb_binary_base03.ubj", "numeric", "xgb_binary_base03.pred", 1),
            ("xgb_binary_cat.ubj", "xgb_binary_cat", "xgb_binary_cat.pred", 1),
            ("xgb_dart.ubj", "numeric", "xgb_dart.pred", 1),
            ("xgb_poisson.ubj", "numeric", "xgb_poisson.pred", 1),
            ("xgb_softprob.ubj", "numeric", "xgb_softprob.pred", 3),
            ("xgb_earlystop.json", "numeric", "xgb_earlystop.pred_all", 1),
        ])
    func predictsTheBitsOfXGBoost(model: String, rows: String, expected: String, outputCount: Int) throws {
        let loaded = try XGBoostRuntime().load(try Self.bytes(model), fileName: model)
        #expect(loaded.description.outputCount == outputCount)
        let values = try Self.floats("\(rows).X.f32")
        let wanted = try Self.floats("\(expected).f32").map(\.bitPattern)
        let found = try loaded.predict(values, rowCount: 512)
        #expect(found.map(\.bitPattern) == wanted)
        let width = loaded.description.featureCount
        for row in stride(from: 0, to: 512, by: 37) {
            let one = try loaded.predict(Array(values[(row * width)..<((row + 1) * width)]), rowCount: 1)
            #expect(one.map(\.bitPattern) == Array(wanted[(row * outputCount)..<((row + 1) * outputCount)]))
        }
    }

    @Test func stopsAtTheBestIterationWhenAskedTo() throws {
        let runtime = XGBoostRuntime(treeRange: .upToBestIteration)
        let loaded = try runtime.load(try Self.bytes("xgb_earlystop.json"), fileName: "xgb_earlystop.json")
        let found = try loaded.predict(try Self.floats("numeric.X.f32"), rowCount: 512)
        #expect(found.map(\.bitPattern) == (try Self.floats("xgb_earlystop.pred_best.f32")).map(\.bitPattern))
    }

    @Test func describesWhatTheModelTakes() throws {
        let loaded = try XGBoostRuntime().load(try Self.bytes("xgb_binary_cat.ubj"), fileName: "model.ubj")
        #expect(loaded.description.format == "xgboost-ubj")
        #expect(loaded.description.featureCount == 30)
        #expect(loaded.description.categoricalFeatures == [27, 28, 29])
        #expect(loaded.description.objective == "binary:logistic")
        #expect(loaded.description.output == .probability && loaded.description.marginScale == .logOdds)
        #expect(loaded.description.treeCount == 100)
    }

    @Test func scoresRawBytes() throws {
        let output = try TreeModelTool.score(
            model: try Self.bytes("xgb_poisson.ubj"), fileName: "xgb_poisson.ubj",
            rows: try Self.bytes("numeric.X.f32"))
        #expect(output == (try Self.bytes("xgb_poisson.pred.f32")))
        #expect(throws: ModelError.self) {
            try TreeModelTool.score(
                model: try Self.bytes("xgb_poisson.ubj"), fileName: "xgb_poisson.ubj", rows: [1, 2, 3])
        }
    }

    @Test func recognizesItsOwnFormats() throws {
        let runtime = XGBoostRuntime()
        #expect(runtime.recognizes(try Self.bytes("xgb_earlystop.json"), fileName: "x.json"))
        #expect(runtime.recognizes(try Self.bytes("xgb_binary_base03.ubj"), fileName: "x.ubj"))
        #expect(!runtime.recognizes(Array("{\"a\": 1}".utf8), fileName: "x.json"))
        #expect(!runtime.recognizes(Array("tree\nversion=v4".utf8), fileName: "x.txt"))
        #expect(!runtime.recognizes([], fileName: ""))
    }
}
