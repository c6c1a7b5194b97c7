/// The element types of the Open Inference Protocol.
public enum TensorDatatype: String, Sendable, CaseIterable {
    /// One byte, 0 or 1.
    case bool = "BOOL"
    /// Unsigned integers.
    case uint8 = "UINT8"
    case uint16 = "UINT16"
    case uint32 = "UINT32"
    case uint64 = "UINT64"
    /// Signed integers.
    case int8 = "INT8"
    case int16 = "INT16"
    case int32 = "INT32"
    case int64 = "INT64"
    /// IEEE 754 numbers.
    case fp16 = "FP16"
    case fp32 = "FP32"
    case fp64 = "FP64"
    /// The upper half of an FP32.
    case bf16 = "BF16"
    /// Texts, each with its length before it.
    case bytes = "BYTES"

    /// Bytes of an element in binary form; `nil` where they vary.
    public var byteCount: Int? {
        switch self {
        case .bool, .uint8, .int8: 1
        case .uint16, .int16, .fp16, .bf16: 2
        case .uint32, .int32, .fp32: 4
        case .uint64, .int64, .fp64: 8
        case .bytes: nil
        }
    }

    /// Whether elements are whole numbers or truth values.
    var isWhole: Bool {
        switch self {
        case .bool, .uint8, .uint16, .uint32, .uint64, .int8, .int16, .int32, .int64: true
        case .fp16, .fp32, .fp64, .bf16, .bytes: false
        }
    }

    /// The smallest and the largest whole number; those of 64 bits without a sign are read up to 2⁶³ − 1.
    var wholeRange: ClosedRange<Int64> {
        switch self {
        case .bool: 0...1
        case .uint8: 0...255
        case .uint16: 0...65_535
        case .uint32: 0...4_294_967_295
        case .uint64: 0...Int64.max
        case .int8: -128...127
        case .int16: -32_768...32_767
        case .int32: -2_147_483_648...2_147_483_647
        default: Int64.min...Int64.max
        }
    }

    /// A number as the type holds it.
    func rounded(_ value: Double) -> Double {
        switch self {
        case .fp16: Double(Float16(value))
        case .fp32: Double(Float(value))
        case .bf16: Double(Float(bitPattern: Float(value).bitPattern & 0xFFFF_0000))
        default: value
        }
    }

    /// The name in a model's configuration.
    var configurationName: String { self == .bytes ? "TYPE_STRING" : "TYPE_\(rawValue)" }
}
