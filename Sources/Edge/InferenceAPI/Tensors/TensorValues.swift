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
        try bytes.withUnsafeBufferPointer { (bytes) throws(PlatformError) -> InputColumns.Values in
            try values(UnsafeRawBufferPointer(bytes), datatype: datatype, count: count, name: name)
        }
    }

    /// Reads `count` elements that fill `bytes`.
    /// - Throws: `PlatformError` (`invalidInput`) where the bytes are too many, too few, or no text.
    static func values(_ bytes: UnsafeRawBufferPointer, datatype: TensorDatatype, count: Int, name: String)
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
        case .uint16: return .integers(elements(bytes) { (bits: UInt16) in Int64(bits) })
        case .int16: return .integers(elements(bytes) { (bits: Int16) in Int64(bits) })
        case .uint32: return .integers(elements(bytes) { (bits: UInt32) in Int64(bits) })
        case .int32: return .integers(elements(bytes) { (bits: Int32) in Int64(bits) })
        case .int64: return .integers(elements(bytes) { (bits: Int64) in bits })
        case .uint64:
            let values = elements(bytes) { (bits: UInt64) in bits }
            guard values.allSatisfy({ $0 <= UInt64(Int64.max) }) else { return .numbers(values.map(Double.init)) }
            return .integers(values.map { Int64($0) })
        case .fp16: return .numbers(elements(bytes) { (bits: UInt16) in Double(Float16(bitPattern: bits)) })
        case .bf16: return .numbers(elements(bytes) { (bits: UInt16) in Double(Float(bitPattern: UInt32(bits) << 16)) })
        case .fp32: return .numbers(elements(bytes) { (bits: UInt32) in Double(Float(bitPattern: bits)) })
        case .fp64: return .numbers(elements(bytes) { (bits: UInt64) in Double(bitPattern: bits) })
        }
    }

    private static func elements<Bits: FixedWidthInteger, Element>(
        _ bytes: UnsafeRawBufferPointer, _ element: (Bits) -> Element
    ) -> [Element] {
        let width = MemoryLayout<Bits>.size
        return [Element](unsafeUninitializedCapacity: bytes.count / width) { target, count in
            count = bytes.count / width
            for index in 0..<count {
                let bits = Bits(littleEndian: bytes.loadUnaligned(fromByteOffset: index * width, as: Bits.self))
                target.initializeElement(at: index, to: element(bits))
            }
        }
    }

    /// Texts with four bytes of length before each; an empty one is none.
    private static func texts(_ bytes: UnsafeRawBufferPointer, count: Int, name: String) throws(PlatformError)
        -> [String?]
    {
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
