import PlatformCore
import RuntimePorts

/// Rows and answers as the binary tensors of the Open Inference Protocol's HTTP form.
enum RemoteTensors {
    /// A request: the JSON head, whose length goes into `Inference-Header-Content-Length`, and the tensors behind it.
    /// - Throws: `shapeMismatch` for a value that an input's type cannot hold.
    static func request(
        _ rows: [Float], rowCount: Int, _ layout: RemoteLayout, categories: [Int: [String]]
    ) throws(ModelError) -> (headByteCount: Int, body: [UInt8]) {
        var tensors: [UInt8] = []
        var inputs: [JSONValue] = []
        for input in layout.inputs {
            let values = try values(rows, rowCount: rowCount, of: input, layout, categories: categories)
            inputs.append([
                "name": .string(input.name), "datatype": .string(input.element.rawValue),
                "shape": .array(input.shape(rowCount).map(JSONValue.integer)),
                "parameters": ["binary_data_size": .integer(Int64(values.count))],
            ])
            tensors += values
        }
        let head: JSONValue = [
            "inputs": .array(inputs),
            "outputs": [["name": .string(layout.output), "parameters": ["binary_data": true]]],
        ]
        let bytes = head.canonicalBytes
        return (bytes.count, bytes + tensors)
    }

    /// The bytes of one input's tensor.
    /// - Throws: `shapeMismatch` for a value that its type cannot hold.
    static func values(
        _ rows: [Float], rowCount: Int, of input: RemoteLayout.Input, _ layout: RemoteLayout,
        categories: [Int: [String]]
    ) throws(ModelError) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(rowCount * input.width * 4)
        for row in 0..<rowCount {
            for column in input.first..<(input.first + input.width) {
                try append(rows[row * layout.featureCount + column], input, column, categories, to: &bytes)
            }
        }
        return bytes
    }

    private static func append(
        _ value: Float, _ input: RemoteLayout.Input, _ column: Int, _ categories: [Int: [String]],
        to bytes: inout [UInt8]
    ) throws(ModelError) {
        func write(_ number: some FixedWidthInteger) {
            withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
        }
        func whole() throws(ModelError) -> Int64 {
            guard value == value.rounded(), let number = Int64(exactly: value) else {
                throw ModelError(.shapeMismatch, "'\(printable(input.name))' takes whole numbers, not \(value)")
            }
            return number
        }
        switch input.element {
        case .float: write(value.bitPattern)
        case .double: write(Double(value).bitPattern)
        case .int64: write(try whole())
        case .int32:
            guard let number = Int32(exactly: try whole()) else {
                throw ModelError(.shapeMismatch, "'\(printable(input.name))' takes 32 bits, not \(value)")
            }
            write(number)
        case .bool:
            guard value == 0 || value == 1 else {
                throw ModelError(.shapeMismatch, "'\(printable(input.name))' takes 0 or 1, not \(value)")
            }
            bytes.append(value == 1 ? 1 : 0)
        case .text:
            let texts = categories[column] ?? []
            let text = Int(exactly: value).flatMap { texts.indices.contains($0) ? texts[$0] : nil } ?? ""
            write(UInt32(text.utf8.count))
            bytes += Array(text.utf8)
        }
    }

    /// Reads an answer: numbers `[rows, outputs]` of the wanted output, of two columns the second.
    /// - Parameter headByteCount: what `Inference-Header-Content-Length` says; `nil` for an answer in JSON alone.
    /// - Throws: `unavailable` for bytes that are no such answer.
    static func outputs(_ body: [UInt8], headByteCount: Int?, rowCount: Int, output: String) throws(ModelError)
        -> (width: Int, values: [Float])
    {
        let count = headByteCount ?? body.count
        guard 0...body.count ~= count else { throw garbage("has another length than it says") }
        let json: JSONValue
        do {
            json = try JSONValue.parse(body[..<count], limits: JSONLimits(byteCountMax: 64 << 20, depthMax: 16))
        } catch {
            throw garbage("is no JSON")
        }
        var start = count
        for tensor in json["outputs"]?.arrayValue ?? [] {
            let size = tensor["parameters"]?["binary_data_size"]?.integerValue
            if let size {
                guard size >= 0, size <= Int64(body.count - start) else { throw garbage("is shorter than it says") }
            }
            defer { start += Int(size ?? 0) }
            guard tensor["name"]?.stringValue == output else { continue }
            let width = try shape(tensor["shape"]?.arrayValue?.compactMap(\.integerValue) ?? [], rowCount: rowCount)
            let values =
                if let size {
                    try numbers(body[start..<(start + Int(size))], tensor["datatype"]?.stringValue ?? "")
                } else {
                    flat(tensor["data"] ?? .null).map { Float($0) }
                }
            return try predictions(values, rowCount: rowCount, width: width)
        }
        throw garbage("lacks '\(printable(output))'")
    }

    /// What is said of an answer that cannot be read.
    static func garbage(_ text: String) -> ModelError {
        ModelError(.unavailable, "the remote server's answer \(text)")
    }

    /// How many numbers an answer of this shape has for each row.
    static func shape(_ shape: [Int64], rowCount: Int) throws(ModelError) -> Int {
        guard 1...2 ~= shape.count, shape[0] == Int64(rowCount), 1...4096 ~= (shape.count == 2 ? shape[1] : 1) else {
            throw garbage("has the shape \(shape.prefix(8)) for \(rowCount) rows")
        }
        return shape.count == 2 ? Int(shape[1]) : 1
    }

    /// Numbers as predictions: of two columns the second.
    static func predictions(_ values: [Float], rowCount: Int, width: Int) throws(ModelError)
        -> (width: Int, values: [Float])
    {
        guard values.count == rowCount * width else {
            throw garbage("has \(values.count) numbers for \(rowCount) rows of \(width)")
        }
        guard width == 2 else { return (width, values) }
        return (1, (0..<rowCount).map { values[2 * $0 + 1] })
    }

    /// Little-endian floats or doubles.
    static func numbers(_ bytes: ArraySlice<UInt8>, _ type: String) throws(ModelError) -> [Float] {
        func word(_ place: Int, _ size: Int) -> UInt64 {
            (0..<size).reduce(0) { $0 | UInt64(bytes[place + $1]) << UInt64(8 * $1) }
        }
        switch type {
        case "FP32":
            return stride(from: bytes.startIndex, through: bytes.endIndex - 4, by: 4).map {
                Float(bitPattern: UInt32(truncatingIfNeeded: word($0, 4)))
            }
        case "FP64":
            return stride(from: bytes.startIndex, through: bytes.endIndex - 8, by: 8).map {
                Float(Double(bitPattern: word($0, 8)))
            }
        default: throw ModelError(.unavailable, "the remote server's answer is of type '\(printable(type))'")
        }
    }

    private static func flat(_ data: JSONValue) -> [Double] {
        if let list = data.arrayValue { return list.flatMap(flat) }
        return [data.doubleValue ?? .nan]
    }
}
