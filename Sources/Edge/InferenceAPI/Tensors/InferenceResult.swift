/// The answer to an inference request, before it is put into words of HTTP or gRPC.
public struct InferenceResult: Sendable, Hashable {
    /// Elements of a tensor that goes out.
    public enum Values: Sendable, Hashable {
        /// FP32.
        case floats([Float])
        /// INT64.
        case integers([Int64])
        /// BOOL.
        case flags([Bool])
        /// BYTES.
        case texts([String])

        /// The type of the elements.
        public var datatype: TensorDatatype {
            switch self {
            case .floats: .fp32
            case .integers: .int64
            case .flags: .bool
            case .texts: .bytes
            }
        }

        /// The binary form: little-endian, texts with four bytes of length before each.
        public var bytes: [UInt8] {
            var out: [UInt8] = []
            func append<Number: FixedWidthInteger>(_ number: Number) {
                withUnsafeBytes(of: number.littleEndian) { out.append(contentsOf: $0) }
            }
            switch self {
            case .floats(let values):
                out.reserveCapacity(4 * values.count)
                for value in values { append(value.bitPattern) }
            case .integers(let values):
                out.reserveCapacity(8 * values.count)
                for value in values { append(value) }
            case .flags(let values): out = values.map { $0 ? 1 : 0 }
            case .texts(let values):
                for value in values {
                    append(UInt32(truncatingIfNeeded: value.utf8.count))
                    out.append(contentsOf: value.utf8)
                }
            }
            return out
        }
    }

    /// A tensor that goes out.
    public struct Output: Sendable, Hashable {
        /// Its name.
        public let name: String
        /// Extents, the rows first.
        public let shape: [Int]
        /// Its elements, row after row.
        public let values: Values
        /// Whether it goes out in binary form over HTTP.
        public let isBinary: Bool
    }

    /// The model.
    public let model: String
    /// The version that answered; several where the rows of a batch got different ones.
    public let version: String
    /// What the caller called the request.
    public let id: String?
    /// The tensors that were asked for.
    public let outputs: [Output]
}
