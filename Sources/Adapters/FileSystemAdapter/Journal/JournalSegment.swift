import Glibc
import StoragePorts

/// How entries lie in a file of a journal.
///
/// The first block holds a magic number, the number of the file's first entry and a check of both. Then entries follow
/// without gaps: byte count, CRC-32C of number and content, number (4, 4 and 8 bytes, little end first), content. A
/// file is used again for later entries, so what follows the last entry is older and known by its number.
enum JournalSegment {
    static let blockByteCount = 4096
    static let frameHeaderByteCount = 16
    private static let magic: UInt64 = 0x314C_4E4A_5447_5442  // "BTGTJNL1"

    static func name(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 10 - digits.count)) + digits + ".journal"
    }

    static func number(ofName name: String) -> Int? {
        name.hasSuffix(".journal") ? Int(name.dropLast(".journal".count)) : nil
    }

    static func check(number: UInt64, _ content: UnsafeRawBufferPointer) -> UInt32 {
        let first = withUnsafeBytes(of: number.littleEndian) { CRC32C.of($0) }
        return CRC32C.of(content, after: first)
    }

    /// Writes the first block.
    static func writeHeader(firstNumber: UInt64, to block: UnsafeMutableRawBufferPointer) {
        block.initializeMemory(as: UInt8.self, repeating: 0)
        block.storeBytes(of: magic.littleEndian, as: UInt64.self)
        block.storeBytes(of: firstNumber.littleEndian, toByteOffset: 8, as: UInt64.self)
        let check = CRC32C.of(UnsafeRawBufferPointer(rebasing: block[..<16]))
        block.storeBytes(of: check.littleEndian, toByteOffset: 16, as: UInt32.self)
    }

    /// The number of a file's first entry; `nil` for a file without a sound first block.
    static func firstNumber(in bytes: [UInt8]) -> UInt64? {
        guard bytes.count >= blockByteCount else { return nil }
        return bytes.withUnsafeBytes { bytes in
            let check = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt32.self))
            guard UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self)) == magic,
                CRC32C.of(UnsafeRawBufferPointer(rebasing: bytes[..<16])) == check
            else { return nil }
            return UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
    }

    /// The entry at `position` if it is sound and has that number: where its content lies.
    static func entry(in bytes: [UInt8], at position: Int, number: UInt64) -> Range<Int>? {
        guard bytes.count - position >= frameHeaderByteCount else { return nil }
        return bytes.withUnsafeBytes { bytes in
            let count = Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self)))
            let start = position + frameHeaderByteCount
            guard count <= journalEntryByteCountMax, count <= bytes.count - start else { return nil }
            let stored = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 4, as: UInt32.self))
            let found = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 8, as: UInt64.self))
            let content = UnsafeRawBufferPointer(rebasing: bytes[start..<(start + count)])
            guard found == number, check(number: number, content) == stored else { return nil }
            return start..<(start + count)
        }
    }
}

/// Bytes on their way to a file, beginning at a block's border and in memory that direct writes take.
struct JournalBuffer: ~Copyable {
    private var memory: UnsafeMutableRawBufferPointer
    /// How many bytes are filled.
    private(set) var count = 0

    init(capacity: Int) {
        memory = .allocate(byteCount: capacity, alignment: JournalSegment.blockByteCount)
    }

    deinit { memory.deallocate() }

    /// Appends the frame of an entry.
    mutating func append(number: UInt64, _ content: [UInt8]) {
        let byteCount = JournalSegment.frameHeaderByteCount + content.count
        reserve(count + byteCount)
        content.withUnsafeBytes { content in
            memory.storeBytes(of: UInt32(content.count).littleEndian, toByteOffset: count, as: UInt32.self)
            memory.storeBytes(
                of: JournalSegment.check(number: number, content).littleEndian, toByteOffset: count + 4, as: UInt32.self
            )
            memory.storeBytes(of: number.littleEndian, toByteOffset: count + 8, as: UInt64.self)
            UnsafeMutableRawBufferPointer(rebasing: memory[(count + 16)..<(count + byteCount)]).copyMemory(
                from: content)
        }
        count += byteCount
    }

    /// Grows to at least `needed` bytes and a block.
    private mutating func reserve(_ needed: Int) {
        let wanted = needed + JournalSegment.blockByteCount
        guard wanted > memory.count else { return }
        let larger = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(wanted, memory.count * 2), alignment: JournalSegment.blockByteCount)
        larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[..<count]))
        memory.deallocate()
        memory = larger
    }

    /// The filled bytes with zeros up to the next block's border.
    mutating func blocks() -> UnsafeRawBufferPointer {
        let block = JournalSegment.blockByteCount
        let end = (count + block - 1) / block * block
        UnsafeMutableRawBufferPointer(rebasing: memory[count..<end]).initializeMemory(as: UInt8.self, repeating: 0)
        return UnsafeRawBufferPointer(rebasing: memory[..<end])
    }

    /// Forgets full blocks; the bytes of the last, unfilled one move to the front.
    ///
    /// Gives how many bytes were forgotten.
    mutating func dropFullBlocks() -> Int {
        let full = count / JournalSegment.blockByteCount * JournalSegment.blockByteCount
        if full > 0, let base = memory.baseAddress { memmove(base, base + full, count - full) }
        count -= full
        return full
    }

    /// The first block of a file; takes the place of what is in the buffer.
    mutating func header(firstNumber: UInt64) -> UnsafeRawBufferPointer {
        let block = UnsafeMutableRawBufferPointer(rebasing: memory[..<JournalSegment.blockByteCount])
        JournalSegment.writeHeader(firstNumber: firstNumber, to: block)
        count = 0
        return UnsafeRawBufferPointer(block)
    }

    /// Takes back what was appended after `count` bytes.
    mutating func cut(to count: Int) { self.count = count }
}
