/// Reads foreign bytes; every read checks what is left.
///
/// The memory behind `end` must be readable for another 16 bytes, so that bit fields can be read eight bytes at a time.
struct ByteCursor {
    static let slack = 16

    let base: UnsafeRawPointer
    let end: Int
    var position: Int

    init(_ base: UnsafeRawPointer, count: Int, position: Int = 0) {
        self.base = base
        self.end = count
        self.position = position
    }

    var remaining: Int { end - position }

    @inline(__always)
    mutating func take(_ count: Int) throws(ColumnFileError) -> UnsafeRawPointer {
        guard count >= 0, count <= end - position else { throw .corrupted("a page ends too early") }
        defer { position += count }
        return base + position
    }

    @inline(__always)
    mutating func byte() throws(ColumnFileError) -> UInt8 {
        guard position < end else { throw .corrupted("a page ends too early") }
        defer { position += 1 }
        return base.load(fromByteOffset: position, as: UInt8.self)
    }

    @inline(__always)
    mutating func fixed32() throws(ColumnFileError) -> Int {
        Int(UInt32(littleEndian: try take(4).loadUnaligned(as: UInt32.self)))
    }

    mutating func varint() throws(ColumnFileError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let next = try byte()
            value |= UInt64(next & 0x7F) << shift
            if next & 0x80 == 0 { return value }
            shift += 7
            guard shift < 70 else { throw .corrupted("an integer is too long") }
        }
    }

    mutating func zigzag() throws(ColumnFileError) -> Int64 {
        let raw = try varint()
        return Int64(bitPattern: (raw >> 1) ^ (0 &- (raw & 1)))
    }

    /// A count or length that must fit in `limit`.
    mutating func count(max limit: Int) throws(ColumnFileError) -> Int {
        let raw = try varint()
        guard raw <= UInt64(limit) else { throw .corrupted("a length of \(raw) is out of bounds") }
        return Int(raw)
    }

    // MARK: Bit fields

    /// Value `index` of a run of bit fields of `width` (0...64) bits that begins at `start`.
    @inline(__always)
    static func field(_ start: UnsafeRawPointer, _ index: Int, _ width: Int, _ mask: UInt64) -> UInt64 {
        let bit = index &* width
        let place = start + (bit >> 3)
        let shift = UInt64(truncatingIfNeeded: bit & 7)
        var value = UInt64(littleEndian: place.loadUnaligned(as: UInt64.self)) >> shift
        if width > 56, shift > 0 {
            value |= UInt64(place.load(fromByteOffset: 8, as: UInt8.self)) << (64 - shift)
        }
        return value & mask
    }

    static func mask(_ width: Int) -> UInt64 { width >= 64 ? .max : (1 << UInt64(width)) - 1 }

    /// Reads `count` values of Parquet's hybrid of runs and bit fields.
    mutating func hybrid(width: Int, count: Int, into out: UnsafeMutablePointer<UInt32>) throws(ColumnFileError) {
        guard 0...32 ~= width else { throw .corrupted("bit fields of \(width) bits") }
        let mask = Self.mask(width)
        var done = 0
        while done < count {
            let header = try varint()
            if header & 1 == 0 {
                let run = Int(min(header >> 1, UInt64(count - done)))
                guard run > 0 else { throw .corrupted("an empty run") }
                var value: UInt32 = 0
                for index in 0..<((width + 7) / 8) { value |= UInt32(try byte()) << UInt32(8 * index) }
                (out + done).update(repeating: value, count: run)
                done += run
            } else {
                let groups = header >> 1
                guard 1...(1 << 28) ~= groups else { throw .corrupted("a bit-packed run of \(groups) groups") }
                let run = min(Int(groups) * 8, count - done)
                // Some writers leave out the padding of the last group.
                let byteCount = min(Int(groups) * width, remaining)
                guard byteCount * 8 >= run * width else { throw .corrupted("a bit-packed run ends too early") }
                let start = try take(byteCount)
                for index in 0..<run {
                    out[done + index] = UInt32(truncatingIfNeeded: Self.field(start, index, width, mask))
                }
                done += run
            }
        }
    }

    /// Reads a DELTA_BINARY_PACKED sequence of exactly `count` values.
    mutating func deltas(count: Int, into out: UnsafeMutablePointer<Int64>) throws(ColumnFileError) {
        let blockSize = try self.count(max: 1 << 20)
        let miniCount = try self.count(max: 1 << 12)
        let total = try self.count(max: 1 << 31)
        var value = try zigzag()
        guard miniCount > 0, blockSize % miniCount == 0, blockSize / miniCount % 8 == 0, blockSize > 0 else {
            throw .corrupted("delta blocks of \(blockSize) values in \(miniCount)")
        }
        guard total == count else { throw .corrupted("\(total) deltas where \(count) values are due") }
        guard count > 0 else { return }
        let perMini = blockSize / miniCount
        out[0] = value
        var done = 1
        while done < count {
            let least = try zigzag()
            let widths = try take(miniCount)
            for mini in 0..<miniCount where done < count {
                let width = Int(widths.load(fromByteOffset: mini, as: UInt8.self))
                guard width <= 64 else { throw .corrupted("deltas of \(width) bits") }
                let run = min(perMini, count - done)
                let byteCount = min(perMini * width / 8, remaining)
                guard byteCount * 8 >= run * width else { throw .corrupted("a delta block ends too early") }
                let start = try take(byteCount)
                let mask = Self.mask(width)
                for index in 0..<run {
                    value &+= least &+ Int64(bitPattern: Self.field(start, index, width, mask))
                    out[done + index] = value
                }
                done += run
            }
        }
    }
}
