import PlatformCore
import PlatformTesting
import Testing

/// Numbers in decimal text; the standard library is the oracle.
struct DecimalTextTests {
    private func number(_ text: String) -> DecimalText.Number? {
        Array(text.utf8).withUnsafeBytes { DecimalText.number(in: $0, at: 0) }
    }

    private func agree(_ text: String) -> Bool {
        number(text)?.value.bitPattern == Double(text)?.bitPattern && number(text)?.end == text.utf8.count
    }

    @Test func whatProgramsWriteOfADoubleIsThatDouble() {
        var generator = SplitMix64(seed: 17)
        for _ in 0..<20_000 {
            let wide = Double(bitPattern: generator.next())
            let near = Double.random(in: -1...1, using: &generator)
            let large = near * 1e9
            for value in [wide, near, large] where value.isFinite {
                #expect(agree(value.description), "\(value)")
            }
        }
    }

    @Test func digitsWithAnyPointAndExponentAreRoundedRight() {
        var generator = SplitMix64(seed: 18)
        for _ in 0..<60_000 {
            let count = Int.random(in: 1...20, using: &generator)
            var text = generator.next() & 1 == 0 ? "-" : ""
            let point = Int.random(in: 1...count, using: &generator)
            for place in 0..<count {
                if place == point { text += "." }
                text += String(Int.random(in: (place == 0 && point > 1 ? 1 : 0)...9, using: &generator))
            }
            if generator.next() & 1 == 0 { text += "e\(Int.random(in: -40...40, using: &generator))" }
            #expect(agree(text), "\(text)")
        }
    }

    @Test func whatLiesHalfWayGoesToTheEvenOne() {
        for text in [
            "9007199254740993", "9007199254740995", "9007199254740993.0", "9007199254740993.001", "18014398509481990",
            "4503599627370496.5", "4503599627370497.5", "4503599627370497.501", "0.500000000000000166",
            "1152921504606847104", "1152921504606847105", "9223372036854775807", "9999999999999999999", "1e23",
            "8.41e21", "9.5367431640625e-07", "123456789012345678e-27", "1234567890123456789e27", "5e-324", "1e309",
            "0", "-0", "0.0", "0e27", "0.000000000000000000",
        ] {
            #expect(agree(text), "\(text)")
        }
    }

    @Test(arguments: ["", "-", ".5", "01", "1.", "1e", "1e+", "+1", "x"])
    func onlyNumbersOfJSONAreNumbers(text: String) { #expect(number(text) == nil) }

    @Test func aNumberEndsWhereItEnds() {
        #expect(number("12,3")?.end == 2)
        #expect(number("12,3")?.isWhole == true)
        #expect(number("1.5e3]")?.end == 5)
        #expect(number("1e3")?.isWhole == false)
        #expect(number(String(repeating: "1", count: DecimalText.byteCountMax + 1)) == nil)
    }
}
