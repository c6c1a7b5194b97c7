import RuntimePorts
import Testing

@testable import ONNXAdapter

/// The runtime without its library, and how rows and outputs are laid out.
struct ONNXRuntimeTests {
    private static let configuration = ONNXConfiguration(libraryPath: nil, featureCountMax: 1000)

    private static func port(_ name: String, _ element: ElementType, _ shape: [Int64], kind: Int32 = 1)
        -> ONNXSession.Port
    { ONNXSession.Port(name: name, kind: kind, element: kind == 1 ? element.rawValue : 0, shape: shape) }

    private static func inputs(_ ports: [ONNXSession.Port]) -> Result<ONNXInputs, ModelError> {
        do { return .success(try ONNXInputs(ports, configuration)) } catch { return .failure(error) }
    }

    @Test func recognizesNamesAndContent() {
        let runtime = ONNXRuntime(configuration: Self.configuration)
        #expect(runtime.recognizes([], fileName: "model.onnx"))
        #expect(runtime.recognizes([8, 8, 58, 0], fileName: "artifact"))
        #expect(!runtime.recognizes(Array("tree\nversion=v4".utf8), fileName: "artifact"))
    }

    @Test func saysHowToGetTheLibrary() {
        let model: [UInt8] = [8, 8, 58, 0]
        for path in [nil, "/nowhere/libonnxruntime.so", "/dev/null"] {
            let runtime = ONNXRuntime(configuration: ONNXConfiguration(libraryPath: path))
            let error = #expect(throws: ModelError.self) { try runtime.load(model, fileName: "model.onnx") }
            #expect(error?.code == .unavailable)
            #expect(error?.message.contains("onnx.library") == true)
            #expect(error?.message.hasPrefix("model.onnx: ") == true)
        }
    }

    @Test func rowsFillOneWideInputOrOneInputForEachFeature() throws {
        let wide = try Self.inputs([Self.port("rows", .float, [-1, 30])]).get()
        #expect(wide.featureCount == 30)
        #expect(wide.featureNames.isEmpty && wide.fixedRowCount == nil)
        let columns = try Self.inputs([
            Self.port("channel", .text, [-1, 1]), Self.port("price", .float, [-1]),
            Self.port("seats", .int64, [-1, 1]),
        ]).get()
        #expect(columns.featureNames == ["channel", "price", "seats"])
        #expect(columns.textFeatures == [0])
        #expect(columns.feeds.map(\.first) == [0, 1, 2])
        let fixed = try Self.inputs([Self.port("a", .float, [8, 2]), Self.port("b", .bool, [8, 1])]).get()
        #expect(fixed.fixedRowCount == 8)
        #expect(fixed.featureCount == 3)
        #expect(fixed.featureNames.isEmpty)
    }

    @Test(arguments: [
        [], [port("rows", .float, [-1, -1])], [port("image", .float, [-1, 3, 224, 224])],
        [port("rows", .float, [-1, 1001])], [port("a", .float, [4, 1]), port("b", .float, [8, 1])],
        [port("maps", .float, [], kind: 2)], [port("scalar", .float, [])],
    ])
    func inputsThatRowsDoNotFillAreRefused(ports: [ONNXSession.Port]) {
        #expect(throws: ModelError.self) { try Self.inputs(ports).get() }
    }

    @Test func probabilitiesComeBeforeLabels() throws {
        func chosen(_ ports: [ONNXSession.Port], _ operators: [String: String] = [:]) throws -> String {
            let output = try ONNXOutput(ports, operators: operators)
            return "\(output.name) \(output.form) \(output.meaning)"
        }
        let label = Self.port("label", .int64, [-1])
        #expect(
            try chosen([label, Self.port("probabilities", .float, [-1, 2])]) == "probabilities tensor probabilities")
        #expect(
            try chosen([label, Self.port("output_probability", .float, [], kind: 2)])
                == "output_probability maps probabilities")
        #expect(try chosen([Self.port("variable", .float, [-1, 1])]) == "variable tensor values")
        #expect(try chosen([label, Self.port("scores", .float, [-1, 1])]) == "scores tensor values")
        #expect(try chosen([Self.port("y", .float, [-1, 2])], ["y": "Softmax"]) == "y tensor probabilities")
        #expect(try chosen([Self.port("y", .float, [-1, 1])], ["y": "Sigmoid"]) == "y tensor probabilities")
        #expect(try chosen([Self.port("y", .float, [-1, 3])], ["y": "Gemm"]) == "y tensor values")
        #expect(try chosen([label]) == "label tensor label")
        #expect(throws: ModelError.self) { try chosen([Self.port("text", .text, [-1])]) }
    }
}
