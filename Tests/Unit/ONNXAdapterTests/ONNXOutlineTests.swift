import RuntimePorts
import Testing

@testable import ONNXAdapter

/// Model files before the library sees them.
struct ONNXOutlineTests {
    /// A field with bytes.
    private static func field(_ number: Int, _ bytes: [UInt8]) -> [UInt8] {
        variable(UInt64(number << 3 | 2)) + variable(UInt64(bytes.count)) + bytes
    }

    private static func field(_ number: Int, _ text: String) -> [UInt8] { field(number, Array(text.utf8)) }

    private static func number(_ number: Int, _ value: UInt64) -> [UInt8] {
        variable(UInt64(number << 3)) + variable(value)
    }

    private static func variable(_ value: UInt64) -> [UInt8] {
        var (value, result): (UInt64, [UInt8]) = (value, [])
        while value > 127 {
            result.append(UInt8(value & 127) | 128)
            value >>= 7
        }
        return result + [UInt8(value)]
    }

    private static func node(_ name: String, output: String, attributes: [[UInt8]] = []) -> [UInt8] {
        field(1, field(1, "x") + field(2, output) + field(4, name) + attributes.flatMap { field(5, $0) })
    }

    private static func model(_ graph: [UInt8]) -> [UInt8] {
        number(1, 8) + field(2, "test") + field(7, graph) + field(8, number(2, 17))
    }

    private static let tensor = number(1, 2) + number(2, 1) + field(8, "w") + field(9, [0, 0, 128, 63, 0, 0, 0, 64])

    private static func refusal(_ bytes: [UInt8]) -> ModelError? {
        do {
            _ = try ONNXOutline(bytes)
            return nil
        } catch { return error }
    }

    @Test func readsOperatorsAndTrees() throws {
        let trees = Self.field(1, "nodes_treeids") + [0, 0, 0, 1, 1, 2, 2].flatMap { Self.number(8, $0) }
        let graph =
            Self.node("TreeEnsembleClassifier", output: "probabilities", attributes: [trees])
            + Self.field(5, Self.tensor)
        let bytes = Self.model(graph)
        let outline = try ONNXOutline(bytes)
        #expect(outline.operators == ["probabilities": "TreeEnsembleClassifier"])
        #expect(outline.treeCount == 3)
        #expect(ONNXOutline.isModel(bytes))
        #expect(!ONNXOutline.isModel(Array("{\"learner\": {}}".utf8)) && !ONNXOutline.isModel([]))
        #expect(!ONNXOutline.isModel(bytes.dropLast()))
    }

    @Test func refusesWeightsInOtherFilesWhereverTheyAre() {
        let elsewhere = Self.tensor + Self.field(13, Self.field(1, "location") + Self.field(2, "../secret"))
        let flagged = Self.tensor + Self.number(14, 1)
        for tensor in [elsewhere, flagged] {
            let inner = Self.field(5, tensor)
            for graph in [
                inner, Self.node("Constant", output: "y", attributes: [Self.field(5, tensor)]),
                Self.node("If", output: "y", attributes: [Self.field(6, inner)]),
                Self.node("If", output: "y", attributes: [Self.field(11, Self.field(15, Self.field(1, tensor)))]),
            ] {
                let error = Self.refusal(Self.model(graph))
                #expect(error?.code == .unsupportedModel)
                #expect(error?.message.contains("another file") == true)
            }
            let function =
                Self.number(1, 8) + Self.field(7, [])
                + Self.field(25, Self.field(7, Self.field(5, Self.field(5, tensor))))
            #expect(Self.refusal(function)?.code == .unsupportedModel)
        }
        #expect(Self.refusal(Self.model(Self.field(5, Self.tensor))) == nil)
    }

    @Test func refusesGraphsWithinGraphsWithoutEnd() {
        var graph: [UInt8] = []
        for _ in 0..<200 { graph = Self.node("If", output: "y", attributes: [Self.field(6, graph)]) }
        #expect(Self.refusal(Self.model(graph))?.code == .malformedModel)
    }

    @Test(arguments: UInt64(0)..<8) func changedBytesAreReadOrRefused(seed: UInt64) {
        let trees = Self.field(1, "nodes_treeids") + (0..<9).flatMap { Self.number(8, $0 / 3) }
        let graph =
            Self.node("If", output: "y", attributes: [Self.field(6, Self.node("Softmax", output: "z")), trees])
            + Self.field(5, Self.tensor) + Self.field(15, Self.field(1, Self.tensor))
        let good = Self.model(graph)
        var state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1
        func random(_ bound: Int) -> Int {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state % UInt64(bound))
        }
        for _ in 0..<3000 {
            var bytes = good
            for _ in 0...random(4) {
                let place = random(bytes.count)
                switch random(3) {
                case 0: bytes[place] = UInt8(random(256))
                case 1: bytes.removeSubrange(place..<min(bytes.count, place + 1 + random(4)))
                default: bytes.insert(contentsOf: [255, 255, 255, 255, 255, 255, 255, 255, 255, 1], at: place)
                }
                if bytes.isEmpty { bytes = [8] }
            }
            // It comes back: that is the promise.
            _ = Self.refusal(bytes)
            _ = ONNXOutline.isModel(bytes)
        }
    }
}
