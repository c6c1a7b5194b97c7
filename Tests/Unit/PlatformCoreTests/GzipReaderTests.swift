import Foundation
import PlatformCore
import Testing

struct GzipReaderTests {
    /// `hello hello hello hello\n` by gzip -9, and an empty content.
    private static let hello: [UInt8] = [
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 203, 72, 205, 201, 201, 87, 200, 64, 39, 185, 0, 0, 136, 89, 11, 24, 0, 0, 0,
    ]
    private static let long: [UInt8] = Array(
        Data(
            base64Encoded: """
                H4sIAAAAAAACA2WXsY5UMQxFe74CbU0Rx4mT8DcgbQkSoK1W/DsDDXNOypEnL8mJfe37/vL97dvX158vnz+2Tx9ffv14+/Lz\
                9e+P3x/e/4fiORQI9efQQCifQwehgQ8WYvM51idi9RxLrls4Cffbz7HiMc9zbPN2ASjRhIVcutYCTQzuGkkEPG8Q0OFNg4jE\
                KIoAtRaY+ta+AJVdZz7Er0wAqyFWHazG0Fqm0ea+Haxm55k7WM3F+3awKrHqYFVeC1bL+4LV8pmZVrpvgtURqwSrI87JvGp6\
                pGRiNb1wMrNC6ZGTKS1eWQwrMRPAIpXVuVUROjmQxVQ9DdZiCdpgMZYqeZDakggMUtvSj6F6lPQMFmQTtcGKDAneYEn2pr1B\
                rWfTyUGtj8Z7z0Y1ELUJar28GtT60t4zKSY6+QS1fiz0oJamNin2IeZzSaq0N5Us9d6TUjaULdWodKJWoJZLmVqgllt5XqCW\
                R1VSgzqqGitQG67QArWRqu9ilxxShwK1UdKWArWxpEyLHcCytkBtNmniArUZEtTFJpBS48UuMCTlC9Sm+8Aq9hCvBrV5vDfH\
                i+aTH7Yg3Xs3DieitkGtppjvzg6mF9ugVlvvvUFtNWXLnmyAorZBbaUydbN9TuX5Zv9cqpINauuoxk7j2CZqB9R2V32fzu7s\
                kRDUdklbDqjtLWU6k81d1A6oPe6l1aB2hjT1bM4GUuQDamc3z7MeaD3SttB0cX1B48fQCaJpACnd4LFEE4oIROMQEib4+Cb/\
                0NNf4CDyGDV8Bo4iUeVbcBiJbWcga9BvcyB3kPYHMgh92iLII/RllyCb0I+NAp1C5OUVaBYih+1CeKSzY6BliDw2DXQNMaLs\
                k5rGQpOkd4hHtfoLslpbChx0EDFDCh40ETFTHSDoI+LqIEErEXNfXyDJus9AkpXXLUiyLg6pEdkdOOgsYl1vIXOxhl9T9mJd\
                +SCDsY4zShZjXzkpk/GYxf0FktxXXchonHaZ76N53rUps3E8AYbsxrn0gYbjIaNWGFqO3i6NounobVnlZDtunbTxSCutrEdc\
                Wi3z8Rel/kD70f/1iz+BXAdWVhIAAA==
                """) ?? Data())

    @Test func readsWhatGzipWrote() throws {
        #expect(try GzipReader.decompress(Self.hello, byteCountMax: 100) == Array("hello hello hello hello\n".utf8))
        let lines = (0..<150).map { "{\"number\": \($0), \"square\": \($0 * $0)}\n" }.joined()
        #expect(try GzipReader.decompress(Self.long, byteCountMax: 1 << 20) == Array(lines.utf8))
        #expect(try GzipReader.decompress(Self.hello + Self.hello, byteCountMax: 100).count == 48)
    }

    @Test func stopsAtTheLimit() {
        #expect(throws: DecodingFailure.self) { try GzipReader.decompress(Self.hello, byteCountMax: 23) }
        #expect(throws: DecodingFailure.self) { try GzipReader.decompress(Self.long, byteCountMax: 1000) }
    }

    /// Every cut and every damaged byte is refused or read, never a trap.
    @Test func damageIsRefused() {
        for count in 0..<Self.hello.count {
            #expect(throws: DecodingFailure.self) {
                try GzipReader.decompress(Array(Self.hello[..<count]), byteCountMax: 100)
            }
        }
        for position in stride(from: 0, to: Self.long.count, by: 3) {
            var bytes = Self.long
            bytes[position] ^= UInt8(truncatingIfNeeded: position &* 31 | 1)
            _ = try? GzipReader.decompress(bytes, byteCountMax: 1 << 20)
        }
        for seed in UInt64(1)..<300 {
            var state = seed
            let bytes = (0..<64).map { _ -> UInt8 in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return UInt8(truncatingIfNeeded: state >> 33)
            }
            _ = try? GzipReader.decompress([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3] + bytes, byteCountMax: 4096)
        }
    }
}
