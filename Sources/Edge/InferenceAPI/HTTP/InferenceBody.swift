import Foundation
import ModelServing
public import PlatformCore

/// Reads an inference request from the body of an HTTP request: JSON, and behind it the tensors that come in binary form.
public enum InferenceBody {
    /// Most tensors of one request.
    static let tensorCountMax = 4096

    /// Reads a body.
    ///
    /// - Parameters:
    ///   - headerByteCount: bytes of the JSON, from the field `Inference-Header-Content-Length`; `nil` where all of the body
    ///     is JSON.
    ///   - memory: what was read before.
    /// - Throws: `PlatformError` (`invalidInput`, `tooLarge`).
    public static func read(_ body: UnsafeRawBufferPointer, headerByteCount: Int?, memory: Memory? = nil)
        throws(PlatformError) -> InferenceRequest
    {
        let length = headerByteCount ?? body.count
        guard 0...body.count ~= length else {
            throw InferenceFault.invalid(
                "Inference-Header-Content-Length is \(length), the body has \(body.count) bytes")
        }
        let json = UnsafeRawBufferPointer(rebasing: body[..<length])
        let binary = UnsafeRawBufferPointer(rebasing: body[length...])
        if let known = memory?.form(of: json) { return try known.request(json, binary: binary) }
        let form = try Form(json)
        let request = try form.request(json, binary: binary)
        if form.isAllBinary { memory?.keep(form, of: json) }
        return request
    }

    /// Reads a body that is in memory as an array.
    public static func read(_ body: [UInt8], headerByteCount: Int?) throws(PlatformError) -> InferenceRequest {
        try body.withUnsafeBufferPointer { (bytes) throws(PlatformError) -> InferenceRequest in
            try read(UnsafeRawBufferPointer(bytes), headerByteCount: headerByteCount)
        }
    }

    /// The last request whose JSON only describes binary tensors: from the same caller the next one mostly has the same.
    ///
    /// Used by one request at a time.
    public final class Memory {
        private var json: [UInt8] = []
        private var form: Form?
        /// Larger ones are read each time.
        private static let byteCountMax = 16 << 10

        /// Nothing was read.
        public init() {}

        fileprivate func form(of json: UnsafeRawBufferPointer) -> Form? {
            guard json.count == self.json.count, let form else { return nil }
            let isSame = self.json.withUnsafeBytes { known in
                guard let known = known.baseAddress, let new = json.baseAddress else { return true }
                return memcmp(known, new, json.count) == 0
            }
            return isSame ? form : nil
        }

        fileprivate func keep(_ form: Form, of json: UnsafeRawBufferPointer) {
            guard json.count <= Self.byteCountMax else { return }
            self.json = Array(json)
            self.form = form
        }
    }

    private struct RawTensor {
        var name = ""
        var datatype = ""
        var shape: [Int64]?
        var parameters: [String: InferenceParameter] = [:]
        var data: Range<Int>?
    }

    /// What the JSON of a request says.
    fileprivate final class Form {
        private let id: String?
        private let parameters: [String: InferenceParameter]
        private let inputs: [RawTensor]
        private let outputs: [InferenceRequest.Output]
        /// Whether all elements come behind the JSON, so that the same JSON says the same of other bytes.
        let isAllBinary: Bool

        init(_ json: UnsafeRawBufferPointer) throws(PlatformError) {
            var id: String?
            var parameters: [String: InferenceParameter] = [:]
            var raw: [RawTensor] = []
            var outputs: [InferenceRequest.Output] = []
            var hasInputs = false
            var scanner = JSONScanner(json)
            try scanner.object { (scanner, name) throws(PlatformError) in
                switch name {
                case "id": id = try scanner.value().stringValue.flatMap { $0.isEmpty ? nil : $0 }
                case "parameters": parameters = try Self.parameters(&scanner)
                case "inputs":
                    hasInputs = true
                    try scanner.list { (scanner) throws(PlatformError) in
                        guard raw.count < InferenceBody.tensorCountMax else { throw Self.tooMany() }
                        raw.append(try Self.tensor(&scanner))
                    }
                case "outputs":
                    try scanner.list { (scanner) throws(PlatformError) in
                        guard outputs.count < InferenceBody.tensorCountMax else { throw Self.tooMany() }
                        outputs.append(try Self.output(&scanner))
                    }
                default: _ = try scanner.value()  // as Triton does, what is not known is passed over
                }
            }
            guard scanner.peek() == 0, scanner.at == json.count else {
                throw scanner.fault("nothing is expected after the request")
            }
            guard hasInputs else { throw InferenceFault.invalid("the request has no 'inputs'") }
            isAllBinary = raw.allSatisfy { $0.data == nil }
            (self.id, self.parameters, inputs, self.outputs) = (id, parameters, raw, outputs)
        }

        /// The request, with its elements.
        func request(_ json: UnsafeRawBufferPointer, binary: UnsafeRawBufferPointer) throws(PlatformError)
            -> InferenceRequest
        {
            var rest = binary
            var filled: [InferenceRequest.Input] = []
            filled.reserveCapacity(inputs.count)
            for tensor in inputs { filled.append(try Self.input(tensor, json, &rest)) }
            guard rest.isEmpty else {
                throw InferenceFault.invalid(
                    "unexpected additional input data: \(rest.count) bytes belong to no input")
            }
            return InferenceRequest(id: id, parameters: parameters, inputs: filled, outputs: outputs)
        }

        private static func tooMany() -> PlatformError {
            PlatformError(.tooLarge, "", "a request has at most \(InferenceBody.tensorCountMax) tensors")
        }

        private static func parameters(_ scanner: inout JSONScanner) throws(PlatformError) -> [String:
            InferenceParameter]
        {
            var parameters: [String: InferenceParameter] = [:]
            try scanner.object { (scanner, name) throws(PlatformError) in
                switch try scanner.value() {
                case .bool(let flag): parameters[name] = .flag(flag)
                case .integer(let number): parameters[name] = .integer(number)
                case .number(let number): parameters[name] = .number(number)
                case .string(let text): parameters[name] = .text(text)
                case .null: break
                case .array, .object:
                    throw InferenceFault.invalid(
                        "parameter '\(name.prefix(64))' must be text, a number, true or false")
                }
            }
            return parameters
        }

        private static func tensor(_ scanner: inout JSONScanner) throws(PlatformError) -> RawTensor {
            var tensor = RawTensor()
            try scanner.object { (scanner, name) throws(PlatformError) in
                switch name {
                case "name": tensor.name = try Self.text(&scanner, "name")
                case "datatype": tensor.datatype = try Self.text(&scanner, "datatype")
                case "shape":
                    var shape: [Int64] = []
                    try scanner.list { (scanner) throws(PlatformError) in
                        guard shape.count < 16, let extent = try scanner.value().integerValue else {
                            throw InferenceFault.invalid("a shape is a list of up to 16 whole numbers")
                        }
                        shape.append(extent)
                    }
                    tensor.shape = shape
                case "parameters": tensor.parameters = try parameters(&scanner)
                case "data": tensor.data = try scanner.skip()
                default: _ = try scanner.value()
                }
            }
            return tensor
        }

        private static func text(_ scanner: inout JSONScanner, _ what: String) throws(PlatformError) -> String {
            guard case .string(let text) = try scanner.value() else {
                throw InferenceFault.invalid("'\(what)' of a tensor must be text")
            }
            return text
        }

        private static func output(_ scanner: inout JSONScanner) throws(PlatformError) -> InferenceRequest.Output {
            let tensor = try tensor(&scanner)
            var isBinary: Bool?
            if case .flag(let flag)? = tensor.parameters["binary_data"] { isBinary = flag }
            var classCount = 0
            if case .integer(let count)? = tensor.parameters["classification"] {
                guard 0...1_000_000 ~= count else {
                    throw InferenceFault.invalid("'classification' of output '\(tensor.name)' must be 1 or more")
                }
                classCount = Int(count)
            }
            try refuseSharedMemory(tensor.parameters)
            return .init(name: tensor.name, isBinary: isBinary, classCount: classCount)
        }

        private static func refuseSharedMemory(_ parameters: [String: InferenceParameter]) throws(PlatformError) {
            guard case .text(let region)? = parameters["shared_memory_region"] else { return }
            throw InferenceFault.invalid("Unable to find shared memory region: '\(region.prefix(128))'")
        }

        /// A tensor with its elements.
        private static func input(
            _ tensor: RawTensor, _ json: UnsafeRawBufferPointer, _ binary: inout UnsafeRawBufferPointer
        ) throws(PlatformError) -> InferenceRequest.Input {
            let name = tensor.name
            guard !name.isEmpty else { throw InferenceFault.invalid("an input has no name") }
            guard let datatype = TensorDatatype(rawValue: tensor.datatype) else {
                throw InferenceFault.invalid(
                    "input '\(name.prefix(128))' has the unknown datatype '\(tensor.datatype.prefix(16))'")
            }
            guard let shape = tensor.shape else {
                throw InferenceFault.invalid("input '\(name.prefix(128))' has no shape")
            }
            try Self.refuseSharedMemory(tensor.parameters)
            let count = try TensorShape.count(shape, name: name)
            let values: InputColumns.Values
            switch (tensor.data, tensor.parameters["binary_data_size"]) {
            case (nil, .integer(let size)?):
                guard 0...Int64(binary.count) ~= size else {
                    throw InferenceFault.invalid(
                        "input '\(name)' says that it has \(size) bytes behind the JSON, \(binary.count) are left")
                }
                values = try BinaryTensor.values(
                    UnsafeRawBufferPointer(rebasing: binary[..<Int(size)]), datatype: datatype, count: count, name: name
                )
                binary = UnsafeRawBufferPointer(rebasing: binary[Int(size)...])
            case (let data?, nil):
                values = try JSONTensor.values(json, data, datatype: datatype, count: count, name: name)
            case (_?, _?):
                throw InferenceFault.invalid("input '\(name)' has 'data' and 'binary_data_size'; one of them is enough")
            default: throw InferenceFault.invalid("input '\(name)' has no data")
            }
            return .init(name: name, datatype: datatype, shape: shape, values: values)
        }
    }
}
