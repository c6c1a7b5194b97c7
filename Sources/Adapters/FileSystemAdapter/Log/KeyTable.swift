import Glibc
import PlatformCore
import StoragePorts
import Synchronization

/// One record in a table of keys: 38 bits of its key's hash, then 26 of its place in the segment.
///
/// A segment has a gibibyte at most, and a record 32 bytes at least.
struct KeyEntry: Sendable, Comparable {
    let bits: UInt64

    private static let placeBitCount: UInt64 = 26

    init(bits: UInt64) { self.bits = bits }

    init(_ key: String, place: UInt64) {
        bits = Self.first(of: key).bits | place & (1 << Self.placeBitCount - 1)
    }

    /// The least entry that a key can have.
    static func first(of key: String) -> KeyEntry {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325  // FNV-1a, and a finish that brings every bit to the upper ones
        for byte in key.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        hash = (hash ^ (hash >> 33)) &* 0xFF51_AFD7_ED55_8CCD
        return KeyEntry(bits: (hash >> placeBitCount) << placeBitCount)
    }

    var place: UInt64 { bits & (1 << Self.placeBitCount - 1) }
    func isOf(_ first: KeyEntry) -> Bool { bits >> Self.placeBitCount == first.bits >> Self.placeBitCount }

    static func < (left: KeyEntry, right: KeyEntry) -> Bool { left.bits < right.bits }
}

/// The keys of the segment that grows.
struct GrowingKeys: Sendable {
    let baseOffset: UInt64
    /// The offset behind the last record in it.
    var endOffset: UInt64
    var entries: [KeyEntry] = []
}

/// A file beside a full segment that says in the order of their hashes which records have which keys.
///
/// Blocks of 4 KiB: a CRC-32C of the rest and of the block's number, how many entries there are, and the entries. So what is
/// damaged is noticed where it is read, and the table is made again. It may name a record of another key: who asks looks.
struct KeyTable {
    private static let blockByteCount = 4096
    private static let entryCount = blockByteCount / 8 - 1

    private let file: File
    private let blockCount: Int

    /// - Returns: `nil` if there is none, or only a part of one.
    init?(path: String, subject: String) {
        guard let file = try? File(path, O_RDONLY, subject: subject), let byteCount = try? file.byteCount(),
            byteCount > 0, byteCount % Self.blockByteCount == 0
        else { return nil }
        (self.file, blockCount) = (file, byteCount / Self.blockByteCount)
    }

    static func encoded(_ entries: [KeyEntry]) -> [UInt8] {
        let entries = entries.sorted()
        var writer = ByteWriter(capacity: (entries.count / entryCount + 1) * blockByteCount)
        var start = 0
        repeat {
            let part = entries[start..<min(entries.count, start + entryCount)]
            var block = ByteWriter(capacity: blockByteCount)
            block.write(fixed: UInt32(part.count))
            for entry in part { block.write(fixed: entry.bits) }
            block.write(bytes: [UInt8](repeating: 0, count: blockByteCount - 4 - block.bytes.count))
            writer.write(fixed: check(block.bytes[...], number: start / entryCount))
            writer.write(bytes: block.bytes)
            start += entryCount
        } while start < entries.count
        return writer.bytes
    }

    private static func check(_ rest: ArraySlice<UInt8>, number: Int) -> UInt32 {
        rest.withUnsafeBytes { bytes in
            withUnsafeBytes(of: UInt64(number).littleEndian) { CRC32C.of(bytes, after: CRC32C.of($0)) }
        }
    }

    /// A block's entries; `nil` if it is damaged.
    private func block(_ number: Int) throws(StoreError) -> [KeyEntry]? {
        let bytes = try file.read(Self.blockByteCount, at: number * Self.blockByteCount)
        var reader = ByteReader(bytes)
        guard let sum = try? reader.fixed(UInt32.self), sum == Self.check(bytes.dropFirst(4), number: number),
            let count = try? reader.fixed(UInt32.self), count <= Self.entryCount
        else { return nil }
        var entries: [KeyEntry] = []
        entries.reserveCapacity(Int(count))
        for _ in 0..<count { if let bits = try? reader.fixed(UInt64.self) { entries.append(KeyEntry(bits: bits)) } }
        return entries
    }

    /// Places of records that may have a key, in order; `nil` if the table is damaged.
    func places(of key: String) throws(StoreError) -> [UInt64]? {
        let first = KeyEntry.first(of: key)
        // The last block that begins before the key's first entry, or the first one.
        var (low, high) = (0, blockCount)
        while high - low > 1 {
            let middle = (low + high) / 2
            guard let entries = try block(middle) else { return nil }
            if let least = entries.first, least < first { low = middle } else { high = middle }
        }
        var found: [UInt64] = []
        while low < blockCount {
            guard let entries = try block(low) else { return nil }
            found += entries.filter { $0.isOf(first) }.map(\.place)
            if let last = entries.last, last > first, !last.isOf(first) { break }
            low += 1
        }
        return found
    }
}

extension LogPartition {
    /// Records by their key; see the port.
    ///
    /// Blocks on the disk.
    func records(key: String, from offset: UInt64) throws(StoreError) -> [StoredRecord] {
        try reading { content throws(StoreError) in
            var found: [StoredRecord] = []
            for (position, base) in content.baseOffsets.enumerated() {
                let isLast = position == content.baseOffsets.count - 1
                let end = isLast ? content.index.endOffset : content.baseOffsets[position + 1]
                guard end > offset else { continue }
                let places =
                    isLast
                    ? try placesInLast(of: key, base, content) : try placesInFull(of: key, position, end, content)
                for place in places where base + place >= offset && base + place < end {
                    let stored = try read(content, from: base + place, recordCountMax: 1, byteCountMax: 1)
                    found += stored.filter { $0.record.key == key }
                }
            }
            return found
        }
    }

    private func placesInFull(
        of key: String, _ position: Int, _ end: UInt64, _ content: Content
    ) throws(StoreError) -> [UInt64] {
        let base = content.baseOffsets[position]
        let path = LogSegment.keysPath(in: directory, base)
        if let known = try KeyTable(path: path, subject: subject)?.places(of: key) { return known }
        return try gathering.withLock { (_) throws(StoreError) in
            if let known = try KeyTable(path: path, subject: subject)?.places(of: key) { return known }
            let entries = try entries(from: base, to: end, base, content)
            // It saves time and holds nothing that the segment does not, so a failure is no failure.
            try? Folder.replaceFile(path, with: KeyTable.encoded(entries), durable: false, subject: subject)
            let first = KeyEntry.first(of: key)
            return entries.filter { $0.isOf(first) }.map(\.place)
        }
    }

    private func placesInLast(of key: String, _ base: UInt64, _ content: Content) throws(StoreError) -> [UInt64] {
        try gathering.withLock { (_) throws(StoreError) in
            var keys = state.withLock { state in
                defer { state.keys = nil }
                return state.keys
            }
            if keys?.baseOffset != base { keys = nil }
            // What a writer cut after a crash is not known any more.
            if let known = keys, known.endOffset > content.index.endOffset { keys = nil }
            var known = keys ?? GrowingKeys(baseOffset: base, endOffset: base)
            keys = nil
            if known.endOffset < content.index.endOffset {
                known.entries += try entries(from: known.endOffset, to: content.index.endOffset, base, content)
                known.endOffset = content.index.endOffset
            }
            let first = KeyEntry.first(of: key)
            let places = known.entries.filter { $0.isOf(first) }.map(\.place)
            state.withLock { [known] in $0.keys = known }
            return places
        }
    }

    /// The keys of a stretch of a segment; those of damaged records nobody knows, and the others are there all the same.
    private func entries(
        from start: UInt64, to end: UInt64, _ base: UInt64, _ content: Content
    ) throws(StoreError) -> [KeyEntry] {
        var entries: [KeyEntry] = []
        var offset = start
        while offset < end {
            let stored: [StoredRecord]
            do {
                stored = try read(content, from: offset, recordCountMax: 10_000, byteCountMax: 16 << 20)
            } catch {
                guard let resumed = Self.resumeOffset(of: error), resumed > offset else { throw error }
                offset = resumed
                continue
            }
            guard let last = stored.last else { break }
            for item in stored where item.offset < end {
                entries.append(KeyEntry(item.record.key, place: item.offset - base))
            }
            offset = last.offset + 1
        }
        return entries
    }
}
