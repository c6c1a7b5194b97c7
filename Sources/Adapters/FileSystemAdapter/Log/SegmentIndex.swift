import PlatformCore
import StoragePorts

/// What is known of a segment without reading it: every so often, which offset lies where and what came before it.
struct SegmentIndex: Sendable, Equatable {
    /// A place in the segment.
    struct Entry: Sendable, Equatable {
        let offset: UInt64
        let position: Int
        /// The latest time of all records before this place, those of earlier segments included.
        let maximumTimeBefore: Int64
    }

    /// Bytes between entries: what a read may have to skip, and a lookup by time to scan.
    static let spacing = 64 << 10
    private static let magic = Array("BTGIDX1\n".utf8)

    private(set) var entries: [Entry]
    /// The offset behind the last record that this index covers.
    private(set) var endOffset: UInt64
    /// The byte behind it.
    private(set) var endPosition: Int
    /// The latest time up to there, earlier segments included.
    private(set) var maximumTime: Int64

    var baseOffset: UInt64 { entries[0].offset }

    /// Covers nothing of a segment that begins with `baseOffset`.
    init(baseOffset: UInt64, maximumTimeBefore: Int64) {
        let position = SegmentHeader.byteCount
        entries = [Entry(offset: baseOffset, position: position, maximumTimeBefore: maximumTimeBefore)]
        endOffset = baseOffset
        endPosition = position
        maximumTime = maximumTimeBefore
    }

    /// Covers one more frame.
    mutating func add(_ frame: LogFrame) {
        add(
            offset: frame.offset, position: frame.position, byteCount: frame.byteCount,
            timeMilliseconds: frame.timeMilliseconds)
    }

    mutating func add(offset: UInt64, position: Int, byteCount: Int, timeMilliseconds: Int64) {
        if position - entries[entries.count - 1].position >= Self.spacing {
            entries.append(Entry(offset: offset, position: position, maximumTimeBefore: maximumTime))
        }
        endOffset = offset + 1
        endPosition = position + byteCount
        maximumTime = max(maximumTime, timeMilliseconds)
    }

    /// The last entry at or before `offset`.
    func entry(atOrBefore offset: UInt64) -> Entry { last { $0.offset <= offset } }
    /// The last entry before which every record is older than `timeMilliseconds`.
    func entry(before timeMilliseconds: Int64) -> Entry { last { $0.maximumTimeBefore < timeMilliseconds } }

    /// The last entry for which `holds` is true, which it is for a beginning of them; the first if for none.
    private func last(where holds: (Entry) -> Bool) -> Entry {
        var low = 0
        var high = entries.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if holds(entries[middle]) { low = middle } else { high = middle }
        }
        return entries[low]
    }

    // MARK: File

    /// The index as the content of a file.
    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 64 + entries.count * 12)
        writer.write(bytes: Self.magic)
        writer.write(fixed: endOffset)
        writer.write(fixed: UInt64(endPosition))
        writer.write(fixed: maximumTime)
        writer.write(varint: UInt64(entries.count))
        for entry in entries {
            writer.write(fixed: entry.offset)
            writer.write(varint: UInt64(entry.position))
            writer.write(fixed: entry.maximumTimeBefore)
        }
        writer.write(fixed: CRC32C.of(writer.bytes))
        return writer.bytes
    }

    /// Reads what `encoded` gave; `nil` for anything else, or for an index of another segment.
    init?(bytes: [UInt8], baseOffset: UInt64, segmentByteCount: Int) {
        guard bytes.count > Self.magic.count + 4, Array(bytes.prefix(Self.magic.count)) == Self.magic else {
            return nil
        }
        var tail = ByteReader(bytes, from: bytes.count - 4)
        guard (try? tail.fixed(UInt32.self)) == CRC32C.of(Array(bytes.dropLast(4))) else { return nil }
        var reader = ByteReader(Array(bytes.dropLast(4)), from: Self.magic.count)
        do throws(DecodingFailure) {
            endOffset = try reader.fixed(UInt64.self)
            let position = try reader.fixed(UInt64.self)
            maximumTime = try reader.fixed(Int64.self)
            let count = try reader.count(unitByteCount: 17)
            entries = []
            entries.reserveCapacity(count)
            for _ in 0..<count {
                let offset = try reader.fixed(UInt64.self)
                let place = try reader.varint()
                guard place <= UInt64(segmentByteCount) else { return nil }
                entries.append(
                    Entry(offset: offset, position: Int(place), maximumTimeBefore: try reader.fixed(Int64.self)))
            }
            guard position <= UInt64(segmentByteCount), entries.first?.offset == baseOffset, endOffset >= baseOffset
            else {
                return nil
            }
            endPosition = Int(position)
        } catch { return nil }
    }
}

/// The first bytes of a segment file: what the segment is, and the latest time in the segments before it.
enum SegmentHeader {
    static let byteCount = 32
    private static let magic = Array("BTGLOG1\n".utf8)

    static func encoded(baseOffset: UInt64, maximumTimeBefore: Int64) -> [UInt8] {
        var writer = ByteWriter(capacity: byteCount)
        writer.write(bytes: magic)
        writer.write(fixed: baseOffset)
        writer.write(fixed: maximumTimeBefore)
        writer.write(fixed: UInt32(0))
        writer.write(fixed: CRC32C.of(writer.bytes))
        return writer.bytes
    }

    /// The latest time before the segment; `nil` if the bytes are not the header of the segment that begins here.
    static func maximumTimeBefore(in bytes: [UInt8], baseOffset: UInt64) -> Int64? {
        var reader = ByteReader(bytes)
        guard bytes.count == byteCount, (try? reader.raw(8)) == magic, (try? reader.fixed(UInt64.self)) == baseOffset,
            let time = try? reader.fixed(Int64.self), (try? reader.fixed(UInt32.self)) != nil,
            (try? reader.fixed(UInt32.self)) == CRC32C.of(Array(bytes.prefix(byteCount - 4)))
        else { return nil }
        return time
    }
}
