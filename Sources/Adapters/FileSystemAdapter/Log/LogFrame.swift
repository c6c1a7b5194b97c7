import PlatformCore
import StoragePorts

/// How one record lies in a segment file.
///
/// All integers have the little end first.
///
/// | Byte | Content |
/// |---|---|
/// | 0 | byte count of the whole frame, 4 bytes |
/// | 4 | CRC-32C of the frame without these four bytes |
/// | 8 | offset, 8 bytes |
/// | 16 | time in milliseconds, 8 bytes |
/// | 24 | where in the file the commit begins that this frame was written with, 4 bytes |
/// | 28 | byte count of the key, 4 bytes; the highest bit says that the next record belongs to the same append |
/// | 32 | key, then value |
///
/// The start of the commit tells damage from a torn tail. A commit is written only after the one before it is on the
/// disk; so if a sound frame names a commit that begins behind a damaged place, that place was once acknowledged.
///
/// An append whose last record is missing was never acknowledged, and does not count: the records of one call are there
/// all or none, also after a crash in the middle of writing them.
struct LogFrame: Sendable, Equatable {
    static let headerByteCount = 32
    static let keyByteCountMax = 64 << 10
    static let byteCountMax = headerByteCount + keyByteCountMax + recordByteCountMax

    let offset: UInt64
    let timeMilliseconds: Int64
    let commitPosition: Int
    let position: Int
    let byteCount: Int
    let keyByteCount: Int
    /// Whether the next record belongs to the same append.
    let isContinued: Bool

    private static let continuedBit: UInt32 = 1 << 31

    var end: Int { position + byteCount }

    /// The frame's size for a record.
    static func byteCount(of record: LogRecord) -> Int {
        headerByteCount + record.key.utf8.count + record.value.count
    }

    /// Appends the frame of a record to `out`.
    static func write(
        _ record: LogRecord, offset: UInt64, commitPosition: Int, isContinued: Bool, to out: inout [UInt8]
    ) {
        let start = out.count
        var key = record.key
        let keyByteCount = key.utf8.count
        withUnsafeTemporaryAllocation(byteCount: headerByteCount, alignment: 8) { header in
            header.storeBytes(
                of: UInt32(headerByteCount + keyByteCount + record.value.count).littleEndian, as: UInt32.self)
            header.storeBytes(of: 0, toByteOffset: 4, as: UInt32.self)
            header.storeBytes(of: offset.littleEndian, toByteOffset: 8, as: UInt64.self)
            header.storeBytes(of: record.time.milliseconds.littleEndian, toByteOffset: 16, as: Int64.self)
            header.storeBytes(of: UInt32(commitPosition).littleEndian, toByteOffset: 24, as: UInt32.self)
            let mark = isContinued ? continuedBit : 0
            header.storeBytes(of: (UInt32(keyByteCount) | mark).littleEndian, toByteOffset: 28, as: UInt32.self)
            out.append(contentsOf: header)
        }
        key.withUTF8 { out.append(contentsOf: $0) }
        out.append(contentsOf: record.value)
        out.withUnsafeMutableBytes { bytes in
            let frame = UnsafeMutableRawBufferPointer(rebasing: bytes[start...])
            frame.storeBytes(of: check(UnsafeRawBufferPointer(frame)).littleEndian, toByteOffset: 4, as: UInt32.self)
        }
    }

    private static func check(_ frame: UnsafeRawBufferPointer) -> UInt32 {
        let size = UnsafeRawBufferPointer(rebasing: frame[..<4])
        return CRC32C.of(UnsafeRawBufferPointer(rebasing: frame[8...]), after: CRC32C.of(size))
    }

    /// Reads the fixed part of a frame; `nil` if it cannot be one.
    ///
    /// `bytes` begins at the frame, which lies at `position`.
    init?(header bytes: UnsafeRawBufferPointer, position: Int) {
        guard bytes.count >= Self.headerByteCount else { return nil }
        func integer<Integer: FixedWidthInteger>(_ at: Int, _: Integer.Type) -> Integer {
            Integer(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: Integer.self))
        }
        byteCount = Int(integer(0, UInt32.self))
        offset = integer(8, UInt64.self)
        timeMilliseconds = integer(16, Int64.self)
        commitPosition = Int(integer(24, UInt32.self))
        let keyField = integer(28, UInt32.self)
        keyByteCount = Int(keyField & ~Self.continuedBit)
        isContinued = keyField & Self.continuedBit != 0
        self.position = position
        guard byteCount >= Self.headerByteCount, byteCount <= Self.byteCountMax,
            keyByteCount <= byteCount - Self.headerByteCount, commitPosition <= position, offset < UInt64.max
        else { return nil }
    }

    /// Whether the frame's bytes, which `bytes` begins with, are those that were written.
    func isSound(in bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count >= byteCount else { return false }
        let stored = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        return Self.check(UnsafeRawBufferPointer(rebasing: bytes[..<byteCount])) == stored
    }

    /// The record of a sound frame, which `bytes` begins with.
    func record(in bytes: UnsafeRawBufferPointer) -> StoredRecord {
        let keyEnd = Self.headerByteCount + keyByteCount
        return StoredRecord(
            offset: offset,
            record: LogRecord(
                key: String(decoding: bytes[Self.headerByteCount..<keyEnd], as: UTF8.self),
                time: EventTime(milliseconds: timeMilliseconds), value: Array(bytes[keyEnd..<byteCount])))
    }
}
