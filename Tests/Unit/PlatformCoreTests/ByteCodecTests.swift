import PlatformCore
import PlatformTesting
import Testing

/// Binary records: what is written reads back, and foreign bytes are refused, never a trap.
struct ByteCodecTests {
    @Test(arguments: UInt64(0)..<50) func whatIsWrittenReadsBack(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let shift = UInt64.random(in: 0..<64, using: &random)
        let unsigned = random.next() >> shift
        let signed = Int64(bitPattern: random.next()) >> Int64(shift)
        let double = Double(bitPattern: random.next())
        let raw = random.bytes(Int.random(in: 0..<40, using: &random))
        let text = ["", "é😀", "plain", String(repeating: "x", count: 300)].randomElement(using: &random) ?? ""
        var writer = ByteWriter(capacity: 16)
        writer.write(UInt8(7))
        writer.write(varint: unsigned)
        writer.write(signed: signed)
        writer.write(double)
        writer.write(fixed: Int16(-2))
        writer.write(fixed: unsigned)
        writer.write(text)
        writer.write(varint: UInt64(raw.count))
        writer.write(bytes: raw)
        var reader = ByteReader(writer.bytes)
        #expect(try reader.byte() == 7)
        #expect(try reader.varint() == unsigned)
        #expect(try reader.signed() == signed)
        #expect(try reader.double().bitPattern == double.bitPattern)
        #expect(try reader.fixed(Int16.self) == -2)
        #expect(try reader.fixed(UInt64.self) == unsigned)
        #expect(try reader.text() == text)
        let count = try reader.count()
        #expect(try reader.raw(count) == raw)
        #expect(reader.remaining == 0)
        #expect(throws: DecodingFailure.self) { try reader.byte() }
    }

    @Test(
        arguments: [
            (0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (UInt64.max >> 1, 9), (UInt64.max, 10),
        ] as [(UInt64, Int)]) func smallNumbersTakeFewBytes(value: UInt64, byteCount: Int) throws
    {
        var writer = ByteWriter()
        writer.write(varint: value)
        #expect(writer.bytes.count == byteCount)
        var reader = ByteReader(writer.bytes)
        #expect(try reader.varint() == value)
    }

    @Test(arguments: [Int64.min, .max, 0, -1, 1]) func signedNumbersKeepTheirEnds(value: Int64) throws {
        var writer = ByteWriter()
        writer.write(signed: value)
        var reader = ByteReader(writer.bytes)
        #expect(try reader.signed() == value)
    }

    @Test func integersAreLittleEndian() {
        var writer = ByteWriter()
        writer.write(fixed: UInt32(0x0403_0201))
        #expect(writer.bytes == [1, 2, 3, 4])
    }

    @Test(
        arguments: [
            Array(repeating: 0xFF, count: 10), Array(repeating: 0x80, count: 20), [0x80], [],
            Array(repeating: 0x80, count: 9) + [0x02],
        ] as [[UInt8]]) func numbersThatAreTooLongOrCutAreRefused(bytes: [UInt8])
    {
        var reader = ByteReader(bytes)
        #expect(throws: DecodingFailure.self) { try reader.varint() }
    }

    @Test func countsThatTheBytesCannotHoldAreRefused() {
        var writer = ByteWriter()
        writer.write(varint: 1_000_000_000_000)
        writer.write(bytes: [1, 2, 3])
        var counting = ByteReader(writer.bytes)
        #expect(throws: DecodingFailure.self) { try counting.count() }
        var texts = ByteReader(writer.bytes)
        #expect(throws: DecodingFailure.self) { try texts.text() }
        var units = ByteReader([2, 0, 0, 0])
        #expect(throws: DecodingFailure.self) { try units.count(unitByteCount: 2) }
        var negative = ByteReader([1, 2])
        #expect(throws: DecodingFailure.self) { try negative.raw(-1) }
        #expect(throws: DecodingFailure.self) { try negative.raw(.max) }
    }

    @Test func textThatIsNotUTF8IsRefused() {
        var reader = ByteReader([2, 0xC3, 0x28])
        #expect(throws: DecodingFailure.self) { try reader.text() }
    }

    @Test func readingStartsWhereItIsTold() throws {
        var reader = ByteReader([1, 2, 3], from: 2)
        #expect(try reader.byte() == 3)
        #expect(ByteReader([1], from: 9).remaining == 0)
        #expect(ByteReader([1], from: -9).remaining == 1)
    }

    @Test(arguments: UInt64(0)..<16) func randomBytesNeverTrap(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for _ in 0..<200 {
            let bytes = random.bytes(Int.random(in: 0..<64, using: &random))
            var reader = ByteReader(bytes)
            var position = 0
            reading: while reader.remaining > 0 {
                do throws(DecodingFailure) {
                    switch Int.random(in: 0..<7, using: &random) {
                    case 0: _ = try reader.byte()
                    case 1: _ = try reader.varint()
                    case 2: _ = try reader.signed()
                    case 3: _ = try reader.double()
                    case 4: _ = try reader.text()
                    case 5: _ = try reader.raw(Int.random(in: -1...80, using: &random))
                    default: _ = try reader.count(unitByteCount: Int.random(in: -1...9, using: &random))
                    }
                } catch { break reading }
                #expect(reader.position >= position && reader.position <= bytes.count)
                position = reader.position
            }
        }
    }
}
