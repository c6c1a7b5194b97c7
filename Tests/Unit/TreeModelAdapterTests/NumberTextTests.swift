import Foundation
import Testing

@testable import TreeModelAdapter

/// Decimal text becomes the float that `strtof` gives.
struct NumberTextTests {
    private func check(_ text: String) {
        #expect(NumberText.float(text[...])?.bitPattern == strtof(text, nil).bitPattern, "\(text)")
    }

    @Test func roundsOnceWhereTwoRoundingsDiffer() {
        // Just above, on and below the middle of two floats; the nearest double is the middle itself.
        for text in [
            "1.00000017881393432617187499", "1.000000178813934326171875", "1.00000017881393432617187501",
            "1.0000000596046447753906251", "1.00000005960464477539062499", "16777217.0000000001", "16777217",
            "16777219", "33554435", "-16777217.0000000001", "7.0385307e-26", "8.5899347E9", "9007199791611905",
        ] { check(text) }
    }

    @Test func readsTheEndsOfTheRange() {
        for text in [
            "0", "0E0", "-0E0", "-0.0", "1e-45", "7e-46", "1.17549435E-38", "1.17549421E-38", "3.4028235E38",
            "3.4028236E38", "1e39", "-1e400", "1e-400", "1E-5000000000", "0e99999999999",
            "123456789012345678901234567890",
        ] { check(text) }
        #expect(NumberText.float("-0")?.bitPattern == Float(0).bitPattern)  // xgboost reads the integer zero
    }

    @Test(arguments: UInt64(0)..<4) func equalsTheCLibrary(seed: UInt64) {
        var random = SeededGenerator(seed)
        for _ in 0..<3_000 {
            let digits = String(
                UInt64.random(in: 0..<UInt64(pow(10, Double.random(in: 1...18, using: &random))), using: &random))
            let cut = Int.random(in: 1...digits.count, using: &random)
            let exponent = Int.random(in: -50...45, using: &random)
            check("\(digits.prefix(cut)).\(digits.dropFirst(cut))0E\(exponent)")
            let bits = UInt32.random(in: 0..<0x7F80_0000, using: &random)
            check("\(Float(bitPattern: bits))")
        }
    }

    @Test func refusesWhatIsNoNumber() {
        for text in ["", "-", ".5", "1.", "1e", "1e+", "+1", "1x", " 1", "0x10", String(repeating: "1", count: 500)] {
            #expect(NumberText.float(text[...]) == nil, "\(text)")
        }
    }
}
