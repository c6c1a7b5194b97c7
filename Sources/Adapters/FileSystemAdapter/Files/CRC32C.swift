import CCRC32C

/// The Castagnoli cyclic redundancy check, which finds every burst of damage up to 32 bits.
///
/// - SeeAlso: RFC 3720 appendix B.4 (polynomial and test vectors); Kounavis & Berry (2008) for eight bytes at a time.
enum CRC32C {
    /// Eight tables of 256: table `k` moves a byte past `k` more zero bytes.
    private static let tables: [UInt32] = {
        var tables = [UInt32](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            var rest = UInt32(byte)
            for _ in 0..<8 { rest = rest & 1 == 0 ? rest >> 1 : rest >> 1 ^ 0x82F6_3B78 }
            tables[byte] = rest
        }
        for index in 256..<(8 * 256) {
            let before = tables[index - 256]
            tables[index] = before >> 8 ^ tables[Int(before & 0xFF)]
        }
        return tables
    }()

    /// Whether the processor computes it by itself.
    private static let isInstruction = crc32c_is_there() != 0

    /// The check of `bytes`; give the check of the bytes before them to go on.
    static func of(_ bytes: UnsafeRawBufferPointer, after previous: UInt32 = 0) -> UInt32 {
        isInstruction ? ~crc32c_go_on(~previous, bytes.baseAddress, bytes.count) : byTables(bytes, after: previous)
    }

    /// The same without the processor's help.
    static func byTables(_ bytes: UnsafeRawBufferPointer, after previous: UInt32 = 0) -> UInt32 {
        tables.withUnsafeBufferPointer { table in
            var rest = ~previous
            var at = 0
            while bytes.count - at >= 8 {
                let low = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self)) ^ rest
                let high = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self))
                let first = table[1792 + Int(low & 0xFF)] ^ table[1536 + Int(low >> 8 & 0xFF)]
                let second = table[1280 + Int(low >> 16 & 0xFF)] ^ table[1024 + Int(low >> 24)]
                let third = table[768 + Int(high & 0xFF)] ^ table[512 + Int(high >> 8 & 0xFF)]
                let fourth = table[256 + Int(high >> 16 & 0xFF)] ^ table[Int(high >> 24)]
                rest = first ^ second ^ third ^ fourth
                at += 8
            }
            while at < bytes.count {
                rest = rest >> 8 ^ table[Int((rest ^ UInt32(bytes[at])) & 0xFF)]
                at += 1
            }
            return ~rest
        }
    }

    static func of(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { of($0) } }
}
