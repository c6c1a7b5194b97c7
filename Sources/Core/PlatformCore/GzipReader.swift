/// Reads gzip (RFC 1952) whose content is known to be small: a request body.
///
/// Bounded: stops at the first byte past the limit, checks length and CRC-32, and never traps on damaged input.
public enum GzipReader {
    /// The content of one or more gzip members.
    /// - Throws: `DecodingFailure` for anything that is no whole gzip, or holds more than `byteCountMax` bytes.
    public static func decompress(_ bytes: [UInt8], byteCountMax: Int) throws(DecodingFailure) -> [UInt8] {
        var reader = BitReader(bytes: bytes)
        var out: [UInt8] = []
        repeat { try member(&reader, &out, byteCountMax) } while reader.position < bytes.count
        return out
    }

    /// The content of a zlib stream (RFC 1950): what HTTP calls `deflate`.
    /// - Throws: as `decompress`.
    public static func decompressZlib(_ bytes: [UInt8], byteCountMax: Int) throws(DecodingFailure) -> [UInt8] {
        var reader = BitReader(bytes: bytes)
        var out: [UInt8] = []
        let (method, flags) = (Int(try reader.byte()), Int(try reader.byte()))
        guard method & 15 == 8, method >> 4 <= 7, (method << 8 | flags) % 31 == 0, flags & 32 == 0 else {
            throw DecodingFailure("this is no zlib stream")
        }
        try inflate(&reader, &out, byteCountMax)
        reader.alignToByte()
        var checksum: UInt32 = 0
        for _ in 0..<4 { checksum = checksum << 8 | UInt32(try reader.byte()) }
        var (low, high): (UInt32, UInt32) = (1, 0)
        for byte in out {
            low = (low + UInt32(byte)) % 65_521
            high = (high + low) % 65_521
        }
        guard checksum == high << 16 | low, reader.position == bytes.count else {
            throw DecodingFailure("the zlib stream's checksum or length does not fit its content")
        }
        return out
    }

    private static func member(_ reader: inout BitReader, _ out: inout [UInt8], _ limit: Int) throws(DecodingFailure) {
        guard try reader.byte() == 0x1F, try reader.byte() == 0x8B, try reader.byte() == 8 else {
            throw DecodingFailure("this is no gzip")
        }
        let flags = try reader.byte()
        for _ in 0..<6 { _ = try reader.byte() }
        if flags & 4 != 0 {
            let length = Int(try reader.byte()) | Int(try reader.byte()) << 8
            for _ in 0..<length { _ = try reader.byte() }
        }
        if flags & 8 != 0 { while try reader.byte() != 0 {} }
        if flags & 16 != 0 { while try reader.byte() != 0 {} }
        if flags & 2 != 0 { for _ in 0..<2 { _ = try reader.byte() } }
        let start = out.count
        try inflate(&reader, &out, limit)
        reader.alignToByte()
        var trailer: [UInt32] = []
        for _ in 0..<2 {
            var value: UInt32 = 0
            for shift in stride(from: UInt32(0), to: 32, by: 8) { value |= UInt32(try reader.byte()) << shift }
            trailer.append(value)
        }
        guard trailer[0] == checksum(out[start...]), trailer[1] == UInt32(truncatingIfNeeded: out.count - start) else {
            throw DecodingFailure("the gzip's checksum or length does not fit its content")
        }
    }

    // MARK: DEFLATE (RFC 1951)

    private static let lengthBases = [
        3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227,
        258,
    ]
    private static let lengthBits = [
        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
    ]
    private static let distanceBases = [
        1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097,
        6145,
        8193, 12289, 16385, 24577,
    ]
    private static let distanceBits = [
        0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
    ]
    private static let codeOrder = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]

    private static func inflate(_ reader: inout BitReader, _ out: inout [UInt8], _ limit: Int) throws(DecodingFailure) {
        var isLast = false
        while !isLast {
            isLast = try reader.bits(1) == 1
            switch try reader.bits(2) {
            case 0:
                reader.alignToByte()
                let length = Int(try reader.byte()) | Int(try reader.byte()) << 8
                let inverse = Int(try reader.byte()) | Int(try reader.byte()) << 8
                guard length == ~inverse & 0xFFFF else { throw DecodingFailure("a stored block's length is damaged") }
                guard out.count + length <= limit else { throw tooLong(limit) }
                for _ in 0..<length { out.append(try reader.byte()) }
            case 1:
                var lengths = [UInt8](repeating: 8, count: 288)
                for symbol in 144..<256 { lengths[symbol] = 9 }
                for symbol in 256..<280 { lengths[symbol] = 7 }
                try block(&reader, &out, limit, HuffmanCode(lengths), HuffmanCode([UInt8](repeating: 5, count: 30)))
            case 2:
                let (literals, distances) = try codes(&reader)
                try block(&reader, &out, limit, literals, distances)
            default: throw DecodingFailure("a block has no known kind")
            }
        }
    }

    private static func tooLong(_ limit: Int) -> DecodingFailure {
        DecodingFailure("the content is longer than \(limit) bytes", isTooLong: true)
    }

    private static func codes(_ reader: inout BitReader) throws(DecodingFailure) -> (HuffmanCode, HuffmanCode) {
        let literalCount = try reader.bits(5) + 257
        let distanceCount = try reader.bits(5) + 1
        let codeCount = try reader.bits(4) + 4
        guard literalCount <= 286, distanceCount <= 30 else { throw DecodingFailure("a block has too many codes") }
        var lengths = [UInt8](repeating: 0, count: 19)
        for index in 0..<codeCount { lengths[codeOrder[index]] = UInt8(try reader.bits(3)) }
        let code = try HuffmanCode(lengths)
        var all: [UInt8] = []
        while all.count < literalCount + distanceCount {
            let symbol = try code.next(&reader)
            switch symbol {
            case 0...15: all.append(UInt8(symbol))
            case 16:
                guard let last = all.last else { throw DecodingFailure("a code repeats nothing") }
                all += [UInt8](repeating: last, count: try reader.bits(2) + 3)
            case 17: all += [UInt8](repeating: 0, count: try reader.bits(3) + 3)
            default: all += [UInt8](repeating: 0, count: try reader.bits(7) + 11)
            }
        }
        guard all.count == literalCount + distanceCount else { throw DecodingFailure("a block's codes run over") }
        return (try HuffmanCode(Array(all[..<literalCount])), try HuffmanCode(Array(all[literalCount...])))
    }

    private static func block(
        _ reader: inout BitReader, _ out: inout [UInt8], _ limit: Int, _ literals: HuffmanCode, _ distances: HuffmanCode
    ) throws(DecodingFailure) {
        while true {
            let symbol = try literals.next(&reader)
            if symbol == 256 { return }
            if symbol < 256 {
                guard out.count < limit else { throw tooLong(limit) }
                out.append(UInt8(symbol))
                continue
            }
            guard symbol - 257 < lengthBases.count else { throw DecodingFailure("a length has no known code") }
            let length = lengthBases[symbol - 257] + (try reader.bits(lengthBits[symbol - 257]))
            let code = try distances.next(&reader)
            guard code < distanceBases.count else { throw DecodingFailure("a distance has no known code") }
            let distance = distanceBases[code] + (try reader.bits(distanceBits[code]))
            guard distance <= out.count else { throw DecodingFailure("a distance reaches before the beginning") }
            guard out.count + length <= limit else { throw tooLong(limit) }
            for _ in 0..<length { out.append(out[out.count - distance]) }
        }
    }

    /// CRC-32 as gzip has it, bit by bit: bodies are small.
    private static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        var crc: UInt32 = 0xFFFF_FFFF
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc >> 1 ^ (crc & 1 == 1 ? 0xEDB8_8320 : 0) }
        }
        return ~crc
    }

    private struct BitReader {
        let bytes: [UInt8]
        var position = 0
        private var buffer: UInt32 = 0
        private var count = 0

        init(bytes: [UInt8]) { self.bytes = bytes }

        /// The next byte; only where no bits are pending.
        mutating func byte() throws(DecodingFailure) -> UInt8 {
            guard position < bytes.count else { throw DecodingFailure("the gzip ends too early") }
            defer { position += 1 }
            return bytes[position]
        }
        mutating func bits(_ wanted: Int) throws(DecodingFailure) -> Int {
            while count < wanted {
                buffer |= UInt32(try byte()) << UInt32(count)
                count += 8
            }
            defer {
                buffer >>= UInt32(wanted)
                count -= wanted
            }
            return Int(buffer & (1 << UInt32(wanted) - 1))
        }
        mutating func alignToByte() { (buffer, count) = (0, 0) }
    }

    /// A canonical Huffman code, read bit by bit.
    private struct HuffmanCode {
        private var counts = [Int](repeating: 0, count: 16)
        private var symbols: [Int] = []

        init(_ lengths: [UInt8]) throws(DecodingFailure) {
            for length in lengths { counts[Int(length)] += 1 }
            counts[0] = 0
            var left = 1
            for length in 1...15 {
                left = left * 2 - counts[length]
                guard left >= 0 else { throw DecodingFailure("a code has more words than fit") }
            }
            for length in 1...15 where counts[length] > 0 {
                for (symbol, own) in lengths.enumerated() where Int(own) == length { symbols.append(symbol) }
            }
        }

        func next(_ reader: inout BitReader) throws(DecodingFailure) -> Int {
            var (code, first, index) = (0, 0, 0)
            for length in 1...15 {
                code |= try reader.bits(1)
                let count = counts[length]
                if code - count < first { return symbols[index + code - first] }
                index += count
                first = (first + count) << 1
                code <<= 1
            }
            throw DecodingFailure("a word is in no code")
        }
    }
}
