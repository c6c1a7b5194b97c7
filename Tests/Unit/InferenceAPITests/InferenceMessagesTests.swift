import GRPCWire
import ModelServing
import NIOCore
import PlatformCore
import PlatformTesting
import Testing

@testable import InferenceAPI

/// Messages of gRPC: read as they were written, and damage survived.
struct InferenceMessagesTests {
    /// A request with one tensor as raw bytes and one as typed contents, not both.
    private static func message(raw: Bool) -> [UInt8] {
        var writer = ProtobufWriter()
        writer.write(1, "loss")
        writer.write(2, "3")
        writer.write(3, "id 7")
        writer.write(4) { entry in
            entry.write(1, "customer")
            entry.write(2) { $0.write(3, "c01") }
        }
        for (name, datatype) in [("price", "FP64"), ("channel", "BYTES"), ("count", "INT32")] {
            writer.write(5) { tensor in
                tensor.write(1, name)
                tensor.write(2, datatype)
                tensor.write(3, packed: [2, 1])
                guard !raw else { return }
                tensor.write(5) { contents in
                    switch datatype {
                    case "FP64":
                        contents.write(
                            7,
                            bytes: [1.5, -2].flatMap { number in withUnsafeBytes(of: number.bitPattern) { Array($0) } })
                    case "BYTES":
                        contents.write(8, bytes: Array("app".utf8))
                        contents.write(8, bytes: [])
                    default: contents.write(2, packed: [7, UInt64(bitPattern: -7)])
                    }
                }
            }
        }
        writer.write(6) { $0.write(1, "prediction") }
        if raw {
            writer.write(
                7, bytes: [1.5, -2].flatMap { number in withUnsafeBytes(of: number.bitPattern) { Array($0) } })
            writer.write(7, bytes: [3, 0, 0, 0] + Array("app".utf8) + [0, 0, 0, 0])
            writer.write(7, bytes: [7, 0, 0, 0, 0xF9, 0xFF, 0xFF, 0xFF])
        }
        return writer.bytes
    }

    @Test(arguments: [true, false]) func aRequestIsReadAsItWasWritten(raw: Bool) throws {
        let request = try InferenceMessages.request(Self.message(raw: raw)[...])
        #expect(request.model == "loss" && request.version == "3" && request.isRaw == raw)
        #expect(request.request.id == "id 7")
        #expect(request.request.parameters == ["customer": .text("c01")])
        #expect(request.request.outputs == [.init(name: "prediction")])
        #expect(
            request.request.inputs.map(\.values) == [
                .numbers([1.5, -2]), .texts(["app", nil]), .integers([7, -7]),
            ])
    }

    @Test(arguments: UInt64(0)..<32) func damageIsSurvived(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for round in 0..<60 {
            var bytes = Self.message(raw: round % 2 == 0)
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.remove(at: place)
                default:
                    bytes.insert(
                        contentsOf: [0xFF, 0xFF, 0xFF, 0xFF, 0x7F].prefix(Int.random(in: 1...5, using: &random)),
                        at: place)
                }
            }
            _ = try? InferenceMessages.request(bytes[...])
        }
    }

    @Test func messagesAreCutWhereverTheyArrive() throws {
        let whole = [GRPCMessages.frame([1, 2, 3]), GRPCMessages.frame([]), GRPCMessages.frame([4])]
        let bytes = whole.flatMap { Array($0.readableBytesView) }
        for size in 1...bytes.count {
            var messages = GRPCMessages(encoding: .identity)
            var found: [[UInt8]] = []
            for start in stride(from: 0, to: bytes.count, by: size) {
                messages.append(ByteBuffer(bytes: bytes[start..<min(start + size, bytes.count)]))
                while let message = try messages.next() { found.append(message) }
            }
            #expect(found == [[1, 2, 3], [], [4]] && messages.isEmpty)
        }
        var large = GRPCMessages(encoding: .identity)
        large.append(ByteBuffer(bytes: [0, 0xFF, 0xFF, 0xFF, 0xFF]))
        #expect(throws: GRPCStatus.self) { try large.next() }
        var packed = GRPCMessages(encoding: .identity)
        packed.append(ByteBuffer(bytes: [1, 0, 0, 0, 1, 0]))
        #expect(throws: GRPCStatus.self) { try packed.next() }
    }

    @Test func aStatusIsSaidInASCII() {
        #expect(GRPCStatus.escaped("100 % Zürich\n") == "100 %25 Z%C3%BCrich%0A")
        #expect(GRPCStatus.unescaped("100 %25 Z%C3%BCrich%0A") == "100 % Zürich\n")
        #expect(GRPCStatus.unescaped("5 %, %4, %zz %+5 %") == "5 %, %4, %zz %+5 %")
        #expect(GRPCStatus(of: PlatformError(.notFound, "", "x")).code == 5)
    }
}
