/// Snappy's block format, both ways.
///
/// - SeeAlso: `format_description.txt` of google/snappy. Written here because it is 100 lines and saves a system library.
enum Snappy {
    /// Expands `source` into exactly `out`.
    static func expand(_ source: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer)
        throws(ColumnFileError)
    {
        guard let from = source.baseAddress, let to = out.baseAddress else {
            if out.isEmpty, source.count <= 1 { return }
            throw .corrupted("an empty Snappy block")
        }
        var input = ByteCursor(from, count: source.count)
        guard try input.varint() == UInt64(out.count) else { throw .corrupted("a Snappy block of another size") }
        var done = 0
        while input.remaining > 0 {
            let tag = Int(try input.byte())
            var length: Int
            let distance: Int
            switch tag & 3 {
            case 0:
                length = tag >> 2
                if length >= 60 {
                    let extra = length - 59
                    length = 0
                    for index in 0..<extra { length |= Int(try input.byte()) << (8 * index) }
                }
                length += 1
                guard length <= out.count - done else { throw .corrupted("a Snappy literal is too long") }
                let start = try input.take(length)
                (to + done).copyMemory(from: start, byteCount: length)
                done += length
                continue
            case 1:
                length = ((tag >> 2) & 7) + 4
                distance = (tag >> 5) << 8 | Int(try input.byte())
            case 2:
                length = (tag >> 2) + 1
                distance = Int(UInt16(littleEndian: try input.take(2).loadUnaligned(as: UInt16.self)))
            default:
                length = (tag >> 2) + 1
                distance = try input.fixed32()
            }
            guard distance > 0, distance <= done, length <= out.count - done else {
                throw .corrupted("a Snappy copy from outside the block")
            }
            if distance >= length {
                (to + done).copyMemory(from: to + done - distance, byteCount: length)
            } else {
                for index in 0..<length {
                    let byte = to.load(fromByteOffset: done - distance + index, as: UInt8.self)
                    to.storeBytes(of: byte, toByteOffset: done + index, as: UInt8.self)
                }
            }
            done += length
        }
        guard done == out.count else { throw .corrupted("a Snappy block ends too early") }
    }

    /// Compresses `source`, 64 KiB at a time.
    static func compress(_ source: UnsafeRawBufferPointer) -> [UInt8] {
        let capacity = 32 + source.count + source.count / 6
        var out = [UInt8](repeating: 0, count: capacity)
        var size = 0
        out.withUnsafeMutableBytes { target in
            guard let to = target.baseAddress else { return }
            var writer = Writer(to: to)
            writer.varint(UInt64(source.count))
            guard let from = source.baseAddress else {
                size = writer.position
                return
            }
            withUnsafeTemporaryAllocation(of: UInt16.self, capacity: 1 << 14) { table in
                var start = 0
                while start < source.count {
                    let count = min(1 << 16, source.count - start)
                    writer.block(from + start, count: count, table: table)
                    start += count
                }
            }
            size = writer.position
        }
        out.removeLast(capacity - size)
        return out
    }

    private struct Writer {
        let to: UnsafeMutableRawPointer
        var position = 0
        init(to: UnsafeMutableRawPointer) { self.to = to }

        mutating func byte(_ value: Int) {
            to.storeBytes(of: UInt8(truncatingIfNeeded: value), toByteOffset: position, as: UInt8.self)
            position += 1
        }
        mutating func varint(_ value: UInt64) {
            var rest = value
            while rest >= 0x80 {
                byte(Int(rest & 0x7F) | 0x80)
                rest >>= 7
            }
            byte(Int(rest))
        }
        mutating func literal(_ start: UnsafeRawPointer, _ count: Int) {
            guard count > 0 else { return }
            let length = count - 1
            if length < 60 {
                byte(length << 2)
            } else if length < 256 {
                byte(60 << 2)
                byte(length)
            } else {
                byte(61 << 2)
                byte(length)
                byte(length >> 8)
            }
            (to + position).copyMemory(from: start, byteCount: count)
            position += count
        }
        mutating func copy(distance: Int, length: Int) {
            var rest = length
            while rest > 0 {
                let part = rest > 64 ? (rest < 68 ? 60 : 64) : rest
                byte((part - 1) << 2 | 2)
                byte(distance)
                byte(distance >> 8)
                rest -= part
            }
        }
        mutating func block(_ from: UnsafeRawPointer, count: Int, table: UnsafeMutableBufferPointer<UInt16>) {
            table.update(repeating: 0)
            var (next, anchor) = (1, 0)
            var misses = 32
            while next + 8 <= count {
                let word = from.loadUnaligned(fromByteOffset: next, as: UInt32.self)
                let slot = Int((word &* 0x1E35_A7BD) >> 18)
                let candidate = Int(table[slot])
                table[slot] = UInt16(truncatingIfNeeded: next)
                guard candidate < next, from.loadUnaligned(fromByteOffset: candidate, as: UInt32.self) == word else {
                    // What does not repeat is stepped over faster and faster.
                    next += misses >> 5
                    misses += 1
                    continue
                }
                misses = 32
                var length = 4
                while next + length < count,
                    from.load(fromByteOffset: next + length, as: UInt8.self)
                        == from.load(fromByteOffset: candidate + length, as: UInt8.self)
                { length += 1 }
                literal(from + anchor, next - anchor)
                copy(distance: next - candidate, length: length)
                next += length
                anchor = next
            }
            literal(from + anchor, count - anchor)
        }
    }
}
