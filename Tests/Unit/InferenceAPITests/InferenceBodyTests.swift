import ModelServing
import PlatformCore
import PlatformTesting
import Testing

@testable import InferenceAPI

struct InferenceBodyTests {
    /// Elements of a type, and both of their forms.
    private struct Drawn {
        var values: InputColumns.Values
        var json: String
        var bytes: [UInt8]
    }

    private static func little<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
        withUnsafeBytes(of: number.littleEndian) { Array($0) }
    }

    private static func draw(_ datatype: TensorDatatype, _ count: Int, _ random: inout SplitMix64) -> Drawn {
        switch datatype {
        case .bytes:
            let texts = (0..<count).map { _ in
                ["c01", "", "Zürich", "a\"b\\c", "\n"].randomElement(using: &random) ?? ""
            }
            let quoted = texts.map { text in
                var out: [UInt8] = []
                JSONValue.write(text, to: &out)
                return String(decoding: out, as: UTF8.self)
            }
            return Drawn(
                values: .texts(texts.map { $0.isEmpty ? nil : $0 }), json: quoted.joined(separator: ","),
                bytes: texts.flatMap { little(UInt32($0.utf8.count)) + Array($0.utf8) })
        case .fp16, .fp32, .fp64, .bf16:
            // Multiples of a quarter are exact in every type.
            let numbers = (0..<count).map { _ in Double(Int.random(in: -100...100, using: &random)) / 4 }
            let bytes = numbers.flatMap { number -> [UInt8] in
                switch datatype {
                case .fp16: little(Float16(number).bitPattern)
                case .bf16: little(UInt16(Float(number).bitPattern >> 16))
                case .fp32: little(Float(number).bitPattern)
                default: little(number.bitPattern)
                }
            }
            return Drawn(
                values: .numbers(numbers), json: numbers.map(\.description).joined(separator: ","), bytes: bytes)
        default:
            let integers = (0..<count).map { _ in Int64.random(in: datatype.wholeRange, using: &random) }
            let width = datatype.byteCount ?? 0
            return Drawn(
                values: .integers(integers), json: integers.map(\.description).joined(separator: ","),
                bytes: integers.flatMap { little($0).prefix(width) })
        }
    }

    /// A body of random tensors, half of them behind the JSON, and what it says.
    private static func body(_ random: inout SplitMix64) -> (
        bytes: [UInt8], header: Int, inputs: [InferenceRequest.Input]
    ) {
        var (parts, binary, inputs): ([String], [UInt8], [InferenceRequest.Input]) = ([], [], [])
        for place in 0..<Int.random(in: 1...6, using: &random) {
            let datatype = TensorDatatype.allCases.randomElement(using: &random) ?? .fp32
            let (rows, width) = (Int.random(in: 1...4, using: &random), Int.random(in: 1...3, using: &random))
            let drawn = draw(datatype, rows * width, &random)
            let head = "\"name\": \"t\(place)\", \"shape\":[\(rows),\(width)] ,\"datatype\":\"\(datatype.rawValue)\""
            if Bool.random(using: &random) {
                parts.append("{\(head),\"parameters\":{\"binary_data_size\":\(drawn.bytes.count)}}")
                binary += drawn.bytes
            } else {
                let nested = rows == 1 && Bool.random(using: &random) ? "[ [\(drawn.json)] ]" : "[\(drawn.json)]"
                parts.append("{\"data\":\(nested),\(head)}")
            }
            inputs.append(
                .init(name: "t\(place)", datatype: datatype, shape: [Int64(rows), Int64(width)], values: drawn.values))
        }
        let json = Array("{\"id\":\"x\",\"inputs\":[\(parts.joined(separator: ", "))]}".utf8)
        return (json + binary, json.count, inputs)
    }

    @Test(arguments: UInt64(0)..<64) func everyTensorIsReadAsItWasWritten(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let (bytes, header, inputs) = Self.body(&random)
        let request = try InferenceBody.read(bytes, headerByteCount: header)
        #expect(request.id == "x")
        #expect(request.inputs == inputs)
    }

    /// Whatever was read before, a body is read, or refused, as if it were the first.
    @Test(arguments: UInt64(0)..<32) func whatWasReadBeforeChangesNothing(seed: UInt64) {
        // As text: there may be NaN among the numbers.
        func outcome(_ bytes: [UInt8], _ header: Int, _ memory: InferenceBody.Memory?) -> String {
            bytes.withUnsafeBytes { bytes in
                do throws(PlatformError) {
                    return "\(try InferenceBody.read(bytes, headerByteCount: header, memory: memory))"
                } catch { return "\(error)" }
            }
        }
        var random = SplitMix64(seed: seed &+ 2000)
        let memory = InferenceBody.Memory()
        var (bytes, header, _) = Self.body(&random)
        for _ in 0..<60 {
            switch Int.random(in: 0..<6, using: &random) {
            case 0: (bytes, header, _) = Self.body(&random)
            case 1: bytes[Int.random(in: 0..<header, using: &random)] = UInt8.random(in: 32...125, using: &random)
            case 2: bytes.append(0)
            default:  // the same JSON before other numbers, mostly
                for place in header..<max(header, bytes.count) where place < bytes.count {
                    bytes[place] = UInt8.random(in: 0...255, using: &random)
                }
            }
            #expect(outcome(bytes, header, memory) == outcome(bytes, header, nil))
        }
    }

    /// Damaged bodies are refused or read, and never end the process.
    @Test(arguments: UInt64(0)..<32) func damageIsSurvived(seed: UInt64) {
        var random = SplitMix64(seed: seed &+ 1000)
        for _ in 0..<40 {
            var (bytes, header, _) = Self.body(&random)
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                guard !bytes.isEmpty else { break }
                switch Int.random(in: 0..<5, using: &random) {
                case 0:
                    bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.removeSubrange(Int.random(in: 0..<bytes.count, using: &random)...)
                case 2: header = Int.random(in: -2...(bytes.count + 2), using: &random)
                case 3:
                    let token =
                        ["[", "{", "\"", "]", "}", "1e999", "-", "null", "NaN", ":", ",", "\\", "9999999999999999999"]
                        .randomElement(using: &random) ?? ""
                    bytes.insert(contentsOf: Array(token.utf8), at: Int.random(in: 0...bytes.count, using: &random))
                default: bytes.remove(at: Int.random(in: 0..<bytes.count, using: &random))
                }
            }
            _ = try? InferenceBody.read(bytes, headerByteCount: header)
            _ = try? InferenceBody.read(bytes, headerByteCount: nil)
        }
    }

    @Test(arguments: [
        ("", "object"), ("{", "expected"), ("[]", "object"), ("{}", "inputs"), ("{\"inputs\":[]}x", "after"),
        ("{\"inputs\":[],\"inputs\":[]}", "twice"), ("{\"inputs\":[{}]}", "name"),
        ("{\"inputs\":[{\"name\":\"a\"}]}", "datatype"),
        ("{\"inputs\":[{\"name\":\"a\",\"datatype\":\"FP32\"}]}", "shape"),
        ("{\"inputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[2],\"data\":[1,2,3]}]}", "expecting 2"),
        ("{\"inputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[2],\"data\":[1]}]}", "expecting 2"),
        ("{\"inputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[2],\"data\":[1,]}]}", "FP32"),
        ("{\"inputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[2],\"data\":[1 2]}]}", "comma"),
        ("{\"inputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[2],\"data\":3}]}", "list"),
        ("{\"inputs\":[{\"name\":\"a\",\"datatype\":\"UINT8\",\"shape\":[1],\"data\":[256]}]}", "UINT8"),
        ("{\"inputs\":[{\"name\":\"a\",\"datatype\":\"INT64\",\"shape\":[1],\"data\":[1.5]}]}", "INT64"),
        ("{\"inputs\":[{\"name\":\"a\",\"datatype\":\"BYTES\",\"shape\":[1],\"data\":[1]}]}", "text"),
        ("{\"inputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[9000,9000],\"data\":[1]}]}", "elements"),
        ("{\"inputs\":[],\"parameters\":{\"a\":[1]}}", "parameter 'a'"),
    ]) func faultsAreNamed(json: String, words: String) {
        do throws(PlatformError) {
            _ = try InferenceBody.read(Array(json.utf8), headerByteCount: nil)
            Issue.record("\(json) is read")
        } catch {
            #expect(error.message.contains(words), "\(error.message)")
        }
    }

    @Test func whatIsNoNumberIsNone() throws {
        let json =
            "{\"inputs\":[{\"name\":\"a\",\"datatype\":\"FP64\",\"shape\":[4],\"data\":[NaN,null,-Infinity,1e400]}]}"
        let request = try InferenceBody.read(Array(json.utf8), headerByteCount: nil)
        guard case .numbers(let numbers) = request.inputs[0].values else {
            Issue.record("no numbers")
            return
        }
        #expect(numbers.map(\.description) == ["nan", "nan", "-inf", "inf"])
    }
}
