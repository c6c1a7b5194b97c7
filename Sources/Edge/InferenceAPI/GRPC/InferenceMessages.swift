import GRPCWire
import ModelServing
import PlatformCore

/// The messages of `inference.GRPCInferenceService` that carry tensors, as protocol buffers.
///
/// Field numbers are the protocol's: `grpc_predict_v2.proto` of the Open Inference Protocol, and Triton's `grpc_service.proto`
/// where it goes on.
enum InferenceMessages {
    /// `ModelInferRequest`.
    struct Request {
        var model = ""
        var version = ""
        var request = InferenceRequest(id: nil, parameters: [:], inputs: [], outputs: [])
        /// Whether tensors came as raw bytes; the answer's do then, too.
        var isRaw = true

        /// Whether the caller of a stream wants to hear which answer is a request's last.
    }

    private struct RawTensor {
        var name = ""
        var datatype = ""
        var shape: [Int64] = []
        var parameters: [String: InferenceParameter] = [:]
        var contents: ArraySlice<UInt8>?
    }

    /// Reads a request.
    static func request(_ bytes: ArraySlice<UInt8>) throws(PlatformError) -> Request {
        var request = Request()
        var id = ""
        var parameters: [String: InferenceParameter] = [:]
        var tensors: [RawTensor] = []
        var outputs: [InferenceRequest.Output] = []
        var raw: [ArraySlice<UInt8>] = []
        var reader = ProtobufReader(bytes)
        while let (number, value) = try reader.next() {
            guard max(tensors.count, outputs.count, raw.count) < InferenceBody.tensorCountMax else {
                throw PlatformError(.tooLarge, "", "a request has at most \(InferenceBody.tensorCountMax) tensors")
            }
            switch number {
            case 1: request.model = try value.text()
            case 2: request.version = try value.text()
            case 3: id = try value.text()
            case 4: try parameter(value.content(), into: &parameters)
            case 5: tensors.append(try tensor(value.content()))
            case 6: outputs.append(try output(value.content()))
            case 7: raw.append(try value.content())
            default: break
            }
        }
        request.isRaw = !raw.isEmpty || tensors.allSatisfy { $0.contents == nil }
        let rawCount = tensors.count { $0.contents == nil }
        guard raw.count == rawCount else {
            throw InferenceFault.invalid(
                "expected raw_input_contents for \(rawCount) inputs without contents, got \(raw.count)")
        }
        var inputs: [InferenceRequest.Input] = []
        var next = 0
        for tensor in tensors {
            guard let datatype = TensorDatatype(rawValue: tensor.datatype) else {
                throw InferenceFault.invalid(
                    "input '\(tensor.name.prefix(128))' has the unknown datatype '\(tensor.datatype.prefix(16))'")
            }
            if case .text(let region)? = tensor.parameters["shared_memory_region"] {
                throw InferenceFault.invalid("Unable to find shared memory region: '\(region.prefix(128))'")
            }
            let count = try TensorShape.count(tensor.shape, name: tensor.name)
            let values: InputColumns.Values
            if let contents = tensor.contents {
                values = try self.values(contents, datatype: datatype, count: count, name: tensor.name)
            } else {
                values = try BinaryTensor.values(raw[next], datatype: datatype, count: count, name: tensor.name)
                next += 1
            }
            inputs.append(.init(name: tensor.name, datatype: datatype, shape: tensor.shape, values: values))
        }
        request.request = InferenceRequest(
            id: id.isEmpty ? nil : id, parameters: parameters, inputs: inputs, outputs: outputs)
        return request
    }

    private static func tensor(_ bytes: ArraySlice<UInt8>) throws(PlatformError) -> RawTensor {
        var tensor = RawTensor()
        var reader = ProtobufReader(bytes)
        while let (number, value) = try reader.next() {
            switch number {
            case 1: tensor.name = try value.text()
            case 2: tensor.datatype = try value.text()
            case 3:
                try value.numbers { (extent) throws(PlatformError) in
                    guard tensor.shape.count < 16 else {
                        throw InferenceFault.invalid("a shape is a list of up to 16 whole numbers")
                    }
                    tensor.shape.append(Int64(bitPattern: extent))
                }
            case 4: try parameter(value.content(), into: &tensor.parameters)
            case 5: tensor.contents = try value.content()
            default: break
            }
        }
        return tensor
    }

    private static func output(_ bytes: ArraySlice<UInt8>) throws(PlatformError) -> InferenceRequest.Output {
        var name = ""
        var parameters: [String: InferenceParameter] = [:]
        var reader = ProtobufReader(bytes)
        while let (number, value) = try reader.next() {
            switch number {
            case 1: name = try value.text()
            case 2: try parameter(value.content(), into: &parameters)
            default: break
            }
        }
        var classCount = 0
        if case .integer(let count)? = parameters["classification"] {
            guard 0...1_000_000 ~= count else {
                throw InferenceFault.invalid("'classification' of output '\(name)' must be 1 or more")
            }
            classCount = Int(count)
        }
        if case .text(let region)? = parameters["shared_memory_region"] {
            throw InferenceFault.invalid("Unable to find shared memory region: '\(region.prefix(128))'")
        }
        return .init(name: name, classCount: classCount)
    }

    /// An entry of `map<string, InferParameter>`.
    static func parameter(_ bytes: ArraySlice<UInt8>, into parameters: inout [String: InferenceParameter])
        throws(PlatformError)
    {
        var key = ""
        var parameter: InferenceParameter?
        var reader = ProtobufReader(bytes)
        while let (number, value) = try reader.next() {
            switch number {
            case 1: key = try value.text()
            case 2:
                var inner = ProtobufReader(try value.content())
                while let (choice, content) = try inner.next() {
                    switch (choice, content) {
                    case (1, .varint(let flag)): parameter = .flag(flag != 0)
                    case (2, .varint(let number)): parameter = .integer(Int64(bitPattern: number))
                    case (3, .bytes): parameter = .text(try content.text())
                    case (4, .fixed64(let bits)): parameter = .number(Double(bitPattern: bits))
                    case (5, .varint(let number)): parameter = .integer(Int64(clamping: number))
                    default: break
                    }
                }
            default: break
            }
        }
        guard parameters.count < 10_000 else { throw PlatformError(.tooLarge, "", "there are too many parameters") }
        parameters[key] = parameter
    }

    /// `InferTensorContents`: the field that the type has.
    private static func values(_ bytes: ArraySlice<UInt8>, datatype: TensorDatatype, count: Int, name: String)
        throws(PlatformError) -> InputColumns.Values
    {
        let field =
            switch datatype {
            case .bool: 1
            case .int8, .int16, .int32: 2
            case .int64: 3
            case .uint8, .uint16, .uint32: 4
            case .uint64: 5
            case .fp32: 6
            case .fp64: 7
            case .bytes: 8
            case .fp16, .bf16:
                throw InferenceFault.invalid(
                    "input '\(name)' of type \(datatype.rawValue) must come in raw_input_contents")
            }
        var integers: [Int64] = []
        var numbers: [Double] = []
        var texts: [String?] = []
        var reader = ProtobufReader(bytes)
        while let (number, value) = try reader.next() {
            guard number == field else {
                throw InferenceFault.invalid(
                    "input '\(name)' has contents that do not belong to its type \(datatype.rawValue)")
            }
            guard integers.count + numbers.count + texts.count <= count else { break }
            switch (datatype, value) {
            case (.bytes, _): texts.append(try BinaryTensor.text(try value.content(), name: name))
            case (.fp32, .fixed32(let bits)): numbers.append(Double(Float(bitPattern: bits)))
            case (.fp64, .fixed64(let bits)): numbers.append(Double(bitPattern: bits))
            case (.fp32, .bytes(let packed)):
                var inner = ProtobufReader(packed)
                while !inner.isAtEnd { numbers.append(Double(Float(bitPattern: try inner.fixed(UInt32.self)))) }
            case (.fp64, .bytes(let packed)):
                var inner = ProtobufReader(packed)
                while !inner.isAtEnd { numbers.append(Double(bitPattern: try inner.fixed(UInt64.self))) }
            default:
                let range = datatype.wholeRange
                try value.numbers { (bits) throws(PlatformError) in
                    let number = Int64(bitPattern: bits)
                    guard range.contains(number) else {
                        throw InferenceFault.invalid("input '\(name)' has an element that is no \(datatype.rawValue)")
                    }
                    integers.append(number)
                }
            }
        }
        let found = integers.count + numbers.count + texts.count
        guard found == count else {
            throw InferenceFault.invalid(
                "unexpected number of elements for input '\(name)': \(found), expecting \(count)")
        }
        switch datatype {
        case .bytes: return .texts(texts)
        case .fp16, .bf16, .fp32, .fp64: return .numbers(numbers)
        default: return .integers(integers)
        }
    }

    // MARK: Answers

    /// `ModelInferResponse`.
    static func write(
        _ result: InferenceResult, isRaw: Bool, isFinal: Bool = false, to writer: inout ProtobufWriter
    ) {
        writer.write(1, result.model)
        writer.write(2, result.version)
        writer.write(3, result.id ?? "")
        if isFinal {
            writer.write(4) { entry in
                entry.write(1, "triton_final_response")
                entry.write(2) { $0.write(1, true) }
            }
        }
        for output in result.outputs {
            writer.write(5) { tensor in
                tensor.write(1, output.name)
                tensor.write(2, output.values.datatype.rawValue)
                tensor.write(3, packed: output.shape.map { UInt64($0) })
                if !isRaw { tensor.write(5) { write(output.values, to: &$0) } }
            }
        }
        if isRaw { for output in result.outputs { writer.write(6, bytes: output.values.bytes) } }
    }

    private static func write(_ values: InferenceResult.Values, to contents: inout ProtobufWriter) {
        switch values {
        case .flags(let flags): contents.write(1, packed: flags.map { $0 ? 1 : 0 })
        case .integers(let integers): contents.write(3, packed: integers.map { UInt64(bitPattern: $0) })
        case .floats: contents.write(6, bytes: values.bytes)
        case .texts(let texts): for text in texts { contents.write(8, bytes: Array(text.utf8)) }
        }
    }
}
