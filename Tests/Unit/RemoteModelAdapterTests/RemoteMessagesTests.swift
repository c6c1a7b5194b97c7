import GRPCWire
import PlatformCore
import PlatformTesting
import RuntimePorts
import Testing

@testable import RemoteModelAdapter

/// Messages of gRPC: rows go out as the protocol has them, answers come back, and damage is survived.
struct RemoteMessagesTests {
    private static func layout(_ json: String) throws -> RemoteLayout {
        try RemoteLayout(try JSONValue.parse(Array(json.utf8)))
    }
    private static let columns = """
        {"inputs":[{"name":"a","datatype":"INT64","shape":[-1,1]},{"name":"b","datatype":"BYTES","shape":[-1]}],
        "outputs":[{"name":"y","datatype":"FP64","shape":[-1]}]}
        """

    /// The fields of a message: those with bytes.
    private static func fields(_ bytes: ArraySlice<UInt8>) throws -> [(number: Int, content: [UInt8])] {
        var found: [(number: Int, content: [UInt8])] = []
        var reader = ProtobufReader(bytes)
        while let (number, value) = try reader.next() { found.append((number, Array(try value.content()))) }
        return found
    }

    @Test func aRequestHasTensorsAndTheirBytesInTheSameOrder() throws {
        let message = try RemoteMessages.request(
            [7, 1, -2, 0], rowCount: 2, try Self.layout(Self.columns), categories: [1: ["app", "web"]], model: "m",
            version: "3")
        let fields = try Self.fields(message[...])
        #expect(fields.map(\.number) == [1, 2, 5, 5, 6, 7, 7])
        #expect(fields[5].content == [7] + Array(repeating: 0, count: 7) + [0xFE] + Array(repeating: 0xFF, count: 7))
        #expect(fields[6].content == [3, 0, 0, 0] + Array("web".utf8) + [3, 0, 0, 0] + Array("app".utf8))
        let shapes = try fields[2...3].map { try Self.fields($0.content[...])[2].content }
        #expect(shapes == [[2, 1], [2]])
    }

    @Test(
        arguments: [
            (Array(repeating: 0x80, count: 9), "is cut"), ([0x80], "is cut"), ([], "is cut"),
            (Array(repeating: 0xFF, count: 9) + [0x02], "more than 64 bits"),
            (Array(repeating: 0xFF, count: 9) + [0x81, 0x00], "more than 64 bits"),
        ] as [([UInt8], String)]) func whatIsWrongWithANumberIsSaid(bytes: [UInt8], words: String)
    {
        var reader = ProtobufReader(bytes[...])
        #expect { try reader.varint() } throws: { "\($0)".contains(words) }
        var largest = ProtobufReader((Array(repeating: 0xFF, count: 9) + [0x01])[...])
        #expect((try? largest.varint()) == .max)
    }

    @Test func metadataBecomeALayout() throws {
        var out = ProtobufWriter()
        out.write(1, "m")
        out.write(2, "1")
        for (field, name, type, width) in [
            (4, "x", "FP32", 5), (5, "label", "INT64", 1), (5, "probabilities", "FP32", 2),
        ] {
            out.write(field) { tensor in
                tensor.write(1, name)
                tensor.write(2, type)
                tensor.write(3, packed: [UInt64(bitPattern: -1), UInt64(width)])
            }
        }
        let layout = try RemoteLayout(try RemoteMessages.metadata(out.bytes[...]))
        #expect(layout.featureCount == 5 && layout.output == "probabilities")
    }

    private static func answer(raw: Bool, type: String = "FP32") -> [UInt8] {
        var out = ProtobufWriter()
        out.write(1, "m")
        let bytes =
            type == "FP32"
            ? [0.9, 0.1, 0.25, 0.75].flatMap { (number: Float) in withUnsafeBytes(of: number.bitPattern) { Array($0) } }
            : [0.9, 0.1, 0.25, 0.75].flatMap { (number: Double) in withUnsafeBytes(of: number.bitPattern) { Array($0) }
            }
        for (name, type, shape) in [("label", "INT64", [UInt64(2)]), ("p", type, [2, 2])] {
            out.write(5) { tensor in
                tensor.write(1, name)
                tensor.write(2, type)
                tensor.write(3, packed: shape)
                guard !raw else { return }
                tensor.write(5) { contents in
                    if name == "p" { contents.write(type == "FP32" ? 6 : 7, bytes: bytes) }
                }
            }
        }
        if raw { for content in [[UInt8](repeating: 0, count: 16), bytes] { out.write(6, bytes: content) } }
        return out.bytes
    }

    @Test(arguments: [true, false], ["FP32", "FP64"]) func anAnswerIsReadRawAndTyped(raw: Bool, type: String) throws {
        let answer = Self.answer(raw: raw, type: type)
        let read = try RemoteMessages.outputs(answer[...], rowCount: 2, output: "p")
        #expect(read.values == [0.1, 0.75] && read.width == 1)
        #expect(throws: ModelError.self) { try RemoteMessages.outputs(answer[...], rowCount: 3, output: "p") }
        #expect(throws: ModelError.self) { try RemoteMessages.outputs(answer[...], rowCount: 2, output: "q") }
    }

    @Test func noAnswerMakesTheReaderTrap() {
        var random = SplitMix64(seed: 5)
        for round in 0..<4000 {
            let good = Self.answer(raw: round % 2 == 0)
            var bytes = Array(
                good.prefix(Int.random(in: (round % 3 == 0 ? 0 : good.count)...good.count, using: &random)))
            for _ in 0..<Int.random(in: 0...3, using: &random) where !bytes.isEmpty {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            _ = try? RemoteMessages.outputs(bytes[...], rowCount: 2, output: "p")
            _ = try? RemoteLayout(RemoteMessages.metadata(bytes[...]))
        }
    }

    @Test func anotherServerOfThisPlatformIsAskedForAllFeaturesAtOnce() throws {
        func tensors(_ names: [String]) -> String {
            names.map { #"{"name":"\#($0)","datatype":"FP32","shape":[-1,\#($0 == "features" ? 6 : 1)]}"# }
                .joined(separator: ",")
        }
        let ours = tensors(["prediction", "prediction_id", "model_version", "variant", "fallback"])
        let inputs = tensors(["price", "features"])
        let layout = try Self.layout(#"{"inputs":[\#(inputs)],"outputs":[\#(ours)]}"#)
        #expect(layout.inputs.map(\.name) == ["features"] && layout.featureCount == 6)
        let other = try Self.layout(#"{"inputs":[\#(inputs)],"outputs":[\#(tensors(["prediction"]))]}"#)
        #expect(other.featureCount == 7)
    }
}
