import PlatformCore
import Testing

struct NumberTextTests {
    @Test(arguments: [
        (0.5, "0.5"), (1.0 / 3, "0.333333"), (1_234_567, "1234567"), (9_007_199_254_740_991, "9007199254740991"),
        (0.999_999_61, "0.9999996"), (1e300, "1e+300"), (-0.000_012_345_678, "-1.23457e-05"), (.infinity, "inf"),
        (.nan, "nan"),
    ])
    func saysNothingUntrueInFewDigits(number: Double, text: String) { #expect(NumberText.text(number) == text) }

    @Test func numbersBesideEachOtherAreToldApart() {
        #expect(NumberText.texts([0.1234567, 0.1234568]) == ["0.1234567", "0.1234568"])
        #expect(NumberText.texts([0.25, 0.25]) == ["0.25", "0.25"])
        #expect(NumberText.texts([1, 1.0.nextUp]).last == "1.0000000000000002")
        var draw = SystemRandomNumberGenerator()
        for _ in 0..<200 {
            let one = Double.random(in: -1e6...1e6, using: &draw)
            let texts = NumberText.texts([one, one.nextUp])
            #expect(texts[0] != texts[1])
        }
    }
}
