import GRPCWire
import PlatformCore
import RuntimePorts

/// Rows and answers as the messages of the Open Inference Protocol's gRPC form.
///
/// Field numbers are those of `grpc_predict_v2.proto`. Tensors go out as raw bytes and come back as raw bytes or as typed contents.
enum RemoteMessages {
    /// `ModelInferRequest`.
    /// - Throws: `shapeMismatch` for a value that an input's type cannot hold.
    static func request(
        _ rows: [Float], rowCount: Int, _ layout: RemoteLayout, categories: [Int: [String]], model: String,
        version: String
    ) throws(ModelError) -> [UInt8] {
        var out = ProtobufWriter()
        out.write(1, model)
        out.write(2, version)
        for input in layout.inputs {
            out.write(5) { tensor in
                tensor.write(1, input.name)
                tensor.write(2, input.element.rawValue)
                tensor.write(3, packed: input.shape(rowCount).map { UInt64($0) })
            }
        }
        out.write(6) { $0.write(1, layout.output) }
        for input in layout.inputs {
            out.write(
                7, bytes: try RemoteTensors.values(rows, rowCount: rowCount, of: input, layout, categories: categories))
        }
        return out.bytes
    }

    private static func garbage(_ text: String) -> ModelError { RemoteTensors.garbage(text) }

    /// Runs what reads protocol buffers; its faults are the remote server's.
    private static func read<Value>(_ body: () throws(PlatformError) -> Value) throws(ModelError) -> Value {
        do { return try body() } catch { throw garbage("cannot be read: \(printable(error.message))") }
    }

    /// `ModelMetadataResponse` as the JSON of the HTTP form.
    /// - Throws: `unavailable` for bytes that are no such message.
    static func metadata(_ bytes: ArraySlice<UInt8>) throws(ModelError) -> JSONValue {
        guard bytes.count <= 1 << 20 else { throw garbage("has \(bytes.count) bytes") }
        return try read { () throws(PlatformError) in
            var lists: [Int: [JSONValue]] = [4: [], 5: []]
            var (name, platform) = ("", "")
            var reader = ProtobufReader(bytes)
            while let (number, value) = try reader.next() {
                switch number {
                case 1: name = try value.text()
                case 3: platform = try value.text()
                case 4, 5: lists[number]?.append(try Tensor(value.content()).json)
                default: break
                }
            }
            return [
                "name": .string(name), "platform": .string(platform), "inputs": .array(lists[4] ?? []),
                "outputs": .array(lists[5] ?? []),
            ]
        }
    }

    /// A tensor of metadata or of an answer: both have name, type and shape in the same places.
    private struct Tensor {
        var name = ""
        var datatype = ""
        var shape: [Int64] = []
        var contents: ArraySlice<UInt8>?

        init(_ bytes: ArraySlice<UInt8>) throws(PlatformError) {
            var reader = ProtobufReader(bytes)
            while let (number, value) = try reader.next() {
                switch number {
                case 1: name = try value.text()
                case 2: datatype = try value.text()
                case 3:
                    try value.numbers { (extent) throws(PlatformError) in
                        guard shape.count < 16 else {
                            throw PlatformError(.invalidInput, "", "a shape has more than 16 extents")
                        }
                        shape.append(Int64(bitPattern: extent))
                    }
                case 5: contents = try value.content()
                default: break
                }
            }
        }

        var json: JSONValue {
            [
                "name": .string(name), "datatype": .string(datatype),
                "shape": .array(shape.map(JSONValue.integer)),
            ]
        }
    }

    /// Reads a `ModelInferResponse`: numbers `[rows, outputs]` of the wanted output, of two columns the second.
    /// - Throws: `unavailable` for bytes that are no such answer.
    static func outputs(_ bytes: ArraySlice<UInt8>, rowCount: Int, output: String) throws(ModelError)
        -> (width: Int, values: [Float])
    {
        let (tensors, raw) = try read { () throws(PlatformError) in
            var tensors: [Tensor] = []
            var raw: [ArraySlice<UInt8>] = []
            var reader = ProtobufReader(bytes)
            while let (number, value) = try reader.next() {
                guard max(tensors.count, raw.count) < 1000 else {
                    throw PlatformError(.invalidInput, "", "it has more than 1000 tensors")
                }
                switch number {
                case 5: tensors.append(try Tensor(value.content()))
                case 6: raw.append(try value.content())
                default: break
                }
            }
            return (tensors, raw)
        }
        guard let place = tensors.firstIndex(where: { $0.name == output }) else {
            throw garbage("lacks '\(printable(output))'")
        }
        let tensor = tensors[place]
        let shape = try RemoteTensors.shape(tensor.shape, rowCount: rowCount)
        let values: [Float]
        if !raw.isEmpty {
            guard raw.indices.contains(place) else { throw garbage("has fewer values than tensors") }
            values = try RemoteTensors.numbers(raw[place], tensor.datatype)
        } else {
            values = try typed(tensor.contents ?? [], tensor.datatype)
        }
        return try RemoteTensors.predictions(values, rowCount: rowCount, width: shape)
    }

    /// `InferTensorContents`: floats and doubles.
    private static func typed(_ contents: ArraySlice<UInt8>, _ datatype: String) throws(ModelError) -> [Float] {
        let field = datatype == "FP32" ? 6 : 7
        return try read { () throws(PlatformError) in
            var values: [Float] = []
            var reader = ProtobufReader(contents)
            while let (number, value) = try reader.next() {
                guard number == field else { continue }
                switch value {
                case .fixed32(let bits): values.append(Float(bitPattern: bits))
                case .fixed64(let bits): values.append(Float(Double(bitPattern: bits)))
                case .bytes(let packed):
                    var inner = ProtobufReader(packed)
                    while !inner.isAtEnd {
                        values.append(
                            field == 6
                                ? Float(bitPattern: try inner.fixed(UInt32.self))
                                : Float(Double(bitPattern: try inner.fixed(UInt64.self))))
                    }
                case .varint: throw PlatformError(.invalidInput, "", "a number is a whole one")
                }
            }
            return values
        }
    }
}
