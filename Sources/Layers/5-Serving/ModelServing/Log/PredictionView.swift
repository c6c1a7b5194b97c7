import Definitions
public import PlatformCore

/// What watching wants of an encoded `PredictionRecord`, read where it lies: nothing is copied or made.
///
/// Good as long as the bytes are where they were.
public struct PredictionView {
    /// Moment of prediction.
    public let time: EventTime
    /// The model's name as UTF-8.
    public let model: UnsafeRawBufferPointer
    /// Its version number.
    public let version: Int
    /// Why this variant.
    public let choice: PredictionRecord.Choice
    /// The identifier as UTF-8; checked by `readRest`.
    public let identifier: UnsafeRawBufferPointer
    /// The model's input in the order of the service: doubles, the little end first, not aligned; empty before `readRest`.
    public private(set) var inputs = UnsafeRawBufferPointer(start: nil, count: 0)
    private var outputs = UnsafeRawBufferPointer(start: nil, count: 0)
    private var cursor: Cursor
    private let form: UInt8
    private let artifact: UnsafeRawBufferPointer

    /// Reads the beginning of what `PredictionRecord.encoded` wrote: enough to know whether its rest is of interest; `nil` if
    /// that is no such record.
    public init?(head bytes: UnsafeRawBufferPointer) {
        var cursor = Cursor(bytes: bytes)
        guard let form = cursor.byte(), PredictionRecord.isKnown(form: form), let identifier = cursor.text(),
            let time = cursor.fixed(UInt64.self), let model = cursor.text(), Cursor.isUTF8(model),
            let version = cursor.varint(), let artifact = cursor.text(), cursor.varint() != nil,
            let choice = cursor.byte().flatMap(PredictionRecord.Choice.init)
        else { return nil }
        self.time = EventTime(milliseconds: Int64(bitPattern: time))
        (self.form, self.identifier, self.artifact) = (form, identifier, artifact)
        (self.model, self.version, self.choice) = (model, Int(clamping: version), choice)
        self.cursor = cursor
    }

    /// Reads all the rest; `false` if `PredictionRecord(decoding:)` refuses it.
    public mutating func readRest() -> Bool {
        guard Cursor.isUTF8(identifier), Cursor.isUTF8(artifact), cursor.passText(),
            let entityCount = cursor.count(unitByteCount: 2)
        else { return false }
        for _ in 0..<entityCount {
            guard cursor.passText(), let isThere = cursor.byte(), isThere == 0 || cursor.passText() else {
                return false
            }
        }
        guard let count = cursor.count(unitByteCount: 10), let inputs = cursor.raw(count * 8) else { return false }
        for _ in 0..<count where cursor.varint() == nil { return false }
        guard cursor.raw(count) != nil, let overriddenCount = cursor.count() else { return false }
        for _ in 0..<overriddenCount where cursor.varint() == nil { return false }
        guard let outputCount = cursor.count(unitByteCount: 4), let outputs = cursor.raw(outputCount * 4),
            cursor.passText(), cursor.varint() != nil, cursor.varint() != nil, cursor.varint() != nil,
            cursor.passText()
        else { return false }
        (self.inputs, self.outputs) = (inputs, outputs)
        return !PredictionRecord.isExtended(form: form) || readExtension()
    }

    private mutating func readExtension() -> Bool {
        guard let origin = cursor.byte(), PredictionRecord.Origin(rawValue: origin) != nil, let cause = cursor.text()
        else { return false }
        if !cause.isEmpty {
            guard AnswerFault(rawValue: String(decoding: cause, as: UTF8.self)) != nil, cursor.passText(),
                cursor.varint() != nil
            else { return false }
        }
        return !PredictionRecord.isFlagged(form: form) || cursor.byte() != nil
    }

    /// Outputs of the model; known after `readRest`.
    public var outputCount: Int { outputs.count / 4 }
    /// One of them.
    public func output(_ index: Int) -> Float {
        Float(
            bitPattern: UInt32(littleEndian: outputs.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self)))
    }

    /// Reads as `ByteReader` does, from memory that somebody else holds.
    private struct Cursor {
        let bytes: UnsafeRawBufferPointer
        var position = 0

        mutating func raw(_ count: Int) -> UnsafeRawBufferPointer? {
            guard count <= bytes.count - position else { return nil }
            defer { position += count }
            return UnsafeRawBufferPointer(rebasing: bytes[position..<(position + count)])
        }
        mutating func byte() -> UInt8? {
            guard position < bytes.count else { return nil }
            defer { position += 1 }
            return bytes[position]
        }
        mutating func fixed<Integer: FixedWidthInteger & BitwiseCopyable>(_: Integer.Type) -> Integer? {
            raw(MemoryLayout<Integer>.size).map { Integer(littleEndian: $0.loadUnaligned(as: Integer.self)) }
        }
        @inline(__always)
        mutating func varint() -> UInt64? {
            guard let first = byte() else { return nil }
            if first < 0x80 { return UInt64(first) }
            var value = UInt64(first & 0x7F)
            var shift: UInt64 = 7
            while shift <= 63, let next = byte() {
                guard shift < 63 || next < 2 else { return nil }
                value |= UInt64(next & 0x7F) << shift
                if next < 0x80 { return value }
                shift += 7
            }
            return nil
        }
        mutating func count(unitByteCount: Int = 1) -> Int? {
            guard let value = varint(), value <= UInt64((bytes.count - position) / unitByteCount) else { return nil }
            return Int(value)
        }
        mutating func text() -> UnsafeRawBufferPointer? { count().flatMap { raw($0) } }
        mutating func passText() -> Bool { text().map(Self.isUTF8) ?? false }

        static func isUTF8(_ text: UnsafeRawBufferPointer) -> Bool {
            var position = 0
            while position + 8 <= text.count {
                guard text.loadUnaligned(fromByteOffset: position, as: UInt64.self) & 0x8080_8080_8080_8080 == 0
                else { return String(validating: text, as: UTF8.self) != nil }
                position += 8
            }
            while position < text.count {
                guard text[position] < 0x80 else { return String(validating: text, as: UTF8.self) != nil }
                position += 1
            }
            return true
        }
    }
}
