import PlatformTesting
import Testing

@testable import FileSystemAdapter

@Suite struct CodecTests {
    /// RFC 3720 appendix B.4.
    @Test func checksAsTheStandardSays() {
        #expect(CRC32C.of(Array(repeating: 0, count: 32)) == 0x8A91_36AA)
        #expect(CRC32C.of(Array(repeating: 0xFF, count: 32)) == 0x62A8_AB43)
        #expect(CRC32C.of(Array(0..<32)) == 0x46DD_794E)
        #expect(CRC32C.of(Array((0..<32).reversed())) == 0x113F_DB5C)
        #expect(CRC32C.of(Array("123456789".utf8)) == 0xE306_9283)
    }

    @Test func checksInPartsLikeInOne() {
        var generator = SplitMix64(seed: 2)
        let bytes = generator.bytes(100)
        for cut in 0...100 {
            let parts = bytes.withUnsafeBytes { all in
                CRC32C.of(
                    UnsafeRawBufferPointer(rebasing: all[cut...]),
                    after: CRC32C.of(UnsafeRawBufferPointer(rebasing: all[..<cut])))
            }
            #expect(parts == CRC32C.of(bytes))
        }
    }

    @Test func checksWithTheProcessorsHelpAsWithTables() {
        var generator = SplitMix64(seed: 3)
        for count in Array(0..<40) + [63, 64, 65, 1000] {
            let bytes = generator.bytes(count + 3)
            bytes.withUnsafeBytes { all in
                for start in 0..<3 {
                    let part = UnsafeRawBufferPointer(rebasing: all[start..<(start + count)])
                    #expect(CRC32C.of(part, after: 77) == CRC32C.byTables(part, after: 77))
                }
            }
        }
    }

    @Test func readsItsOwnIndexAndNoOther() throws {
        var index = SegmentIndex(baseOffset: 40, maximumTimeBefore: -7)
        for number in 0..<50 {
            index.add(offset: UInt64(40 + number), position: 32 + number * 9_000, byteCount: 9_000, timeMilliseconds: 3)
        }
        let bytes = index.encoded()
        #expect(SegmentIndex(bytes: bytes, baseOffset: 40, segmentByteCount: 1 << 20) == index)
        #expect(SegmentIndex(bytes: bytes, baseOffset: 41, segmentByteCount: 1 << 20) == nil)
        #expect(SegmentIndex(bytes: bytes, baseOffset: 40, segmentByteCount: 1_000) == nil)
        for count in bytes.indices {
            #expect(SegmentIndex(bytes: Array(bytes.prefix(count)), baseOffset: 40, segmentByteCount: 1 << 20) == nil)
        }
        for position in bytes.indices {
            var damaged = bytes
            damaged[position] ^= 4
            #expect(SegmentIndex(bytes: damaged, baseOffset: 40, segmentByteCount: 1 << 20) == nil)
        }
    }
}
