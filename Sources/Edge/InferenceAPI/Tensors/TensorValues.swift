import Foundation
import ModelServing
import PlatformCore

/// Reads the elements of a tensor from its binary form: little-endian, row after row.
enum BinaryTensor {
    /// Reads `count` elements that fill `bytes`.
    /// - Throws: `PlatformError` (`invalidInput`) where the bytes are too many, too few, or no text.
    static func values(_ bytes: ArraySlice<UInt8>, datatype: TensorDatatype, count: Int, name: String)
        throws(PlatformError) -> InputColumns.Values
    {
        if let width = datatype.byteCount {
            guard bytes.count == width * count else {
                throw InferenceFault.invalid(
                    "unexpected total byte size \(bytes.count) for input '\(name)', expecting \(width * count)")
            }
        }
        switch datatype {
        case .bytes: return .texts(try texts(bytes, count: count, name: name))
        case .bool: return .integers(bytes.map { $0 == 0 ? 0 : 1 })
        case .uint8: return .integers(bytes.map(Int64.init))
        case .int8: return .integers(bytes.map { Int64(Int8(bitPattern: $0)) })
        case .uint16: return .integers(elements(bytes, UInt16.self).map(Int64.init))
        case .int16: return .integers(elements(bytes, Int16.self).map(Int64.init))
        case .uint32: return .integers(elements(bytes, UInt32.self).map(Int64.init))
        case .int32: return .integers(elements(bytes, Int32.self).map(Int64.init))
        case .int64: return .integers(elements(bytes, Int64.self))
        case .uint64:
            let values = elements(bytes, UInt64.self)
            guard values.allSatisfy({ $0 <= UInt64(Int64.max) }) else { return .numbers(values.map(Double.init)) }
            return .integers(values.map { Int64($0) })
        case .fp16: return .numbers(elements(bytes, UInt16.self).map { Double(Float16(bitPattern: $0)) })
        case .bf16: return .numbers(elements(bytes, UInt16.self).map { Double(Float(bitPattern: UInt32($0) << 16)) })
        case .fp32: return .numbers(elements(bytes, UInt32.self).map { Double(Float(bitPattern: $0)) })
        case .fp64: return .numbers(elements(bytes, UInt64.self).map { Double(bitPattern: $0) })
        }
    }

    private static func elements<Element: FixedWidthInteger>(_ bytes: ArraySlice<UInt8>, _: Element.Type) -> [Element] {
        let width = MemoryLayout<Element>.size
        return bytes.withUnsafeBytes { source in
            [Element](unsafeUninitializedCapacity: source.count / width) { target, count in
                count = source.count / width
                for index in 0..<count {
                    target.initializeElement(
                        at: index,
                        to: Element(littleEndian: source.loadUnaligned(fromByteOffset: index * width, as: Element.self))
                    )
                }
            }
        }
    }

    /// Texts with four bytes of length before each; an empty one is none.
    private static func texts(_ bytes: ArraySlice<UInt8>, count: Int, name: String) throws(PlatformError) -> [String?] {
        var texts: [String?] = []
        texts.reserveCapacity(min(count, bytes.count / 4))
        var at = bytes.startIndex
        while at < bytes.endIndex {
            guard bytes.endIndex - at >= 4, texts.count < count else {
                throw InferenceFault.invalid(
                    "unexpected number of string elements for input '\(name)', expecting \(count)")
            }
            let length = Int(bytes[at]) | Int(bytes[at + 1]) << 8 | Int(bytes[at + 2]) << 16 | Int(bytes[at + 3]) << 24
            at += 4
            guard length <= bytes.endIndex - at else {
                throw InferenceFault.invalid(
                    "incomplete string data for input '\(name)', expecting string of length \(length) but only "
                        + "\(bytes.endIndex - at) bytes available")
            }
            texts.append(try text(bytes[at..<(at + length)], name: name))
            at += length
        }
        guard texts.count == count else {
            throw InferenceFault.invalid(
                "unexpected number of string elements \(texts.count) for input '\(name)', expecting \(count)")
        }
        return texts
    }

    /// An element of type BYTES as text.
    static func text(_ bytes: some Sequence<UInt8>, name: String) throws(PlatformError) -> String? {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw InferenceFault.invalid("input '\(name)' holds bytes that are no UTF-8 text")
        }
        return text.isEmpty ? nil : text
    }
}

/// What a tensor's shape says.
enum TensorShape {
    /// Number of elements.
    /// - Throws: `invalidInput` for a negative extent, or more elements than `InferenceRequest.elementCountMax`.
    static func count(_ shape: [Int64], name: String) throws(PlatformError) -> Int {
        var count = 1
        for extent in shape {
            guard extent >= 0 else {
                throw InferenceFault.invalid("input '\(name)' has a negative extent in its shape \(text(shape))")
            }
            let (product, isTooLarge) = count.multipliedReportingOverflow(by: Int(extent))
            guard !isTooLarge, product <= InferenceRequest.elementCountMax else {
                throw PlatformError(
                    .tooLarge, "",
                    "input '\(name)' has more than \(InferenceRequest.elementCountMax) elements; send fewer rows")
            }
            count = product
        }
        return count
    }

    static func text(_ shape: [Int64]) -> String { "[" + shape.map(String.init).joined(separator: ",") + "]" }
}

/// How faults of tensors are made.
enum InferenceFault {
    static func invalid(_ message: String) -> PlatformError { PlatformError(.invalidInput, "", message) }
    static func noRegion(_ region: String, _ kind: String) -> PlatformError {
        PlatformError(.notFound, "", "Unable to find \(kind) shared memory region: '\(region.prefix(128))'")
    }
}
