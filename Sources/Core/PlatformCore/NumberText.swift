import Foundation

/// Numbers as people read them: with as few digits as say something true.
public enum NumberText {
    /// A number by itself: a whole one in full, others with six significant digits, more where six would make a whole number of it.
    public static func text(_ number: Double) -> String { texts([number])[0] }

    /// Numbers that stand beside each other: with as many digits as tell different ones apart.
    public static func texts(_ numbers: [Double]) -> [String] {
        let different = Set(numbers).count
        for digits in 6..<17 {
            let texts = numbers.map { text($0, digits) }
            let isTrue = zip(numbers, texts).allSatisfy { number, text in
                number == number.rounded() || Double(text).map { $0 != $0.rounded() } ?? true
            }
            if isTrue, Set(texts).count >= different { return texts }
        }
        return numbers.map { text($0, 17) }
    }

    private static func text(_ number: Double, _ digits: Int) -> String {
        if number == number.rounded(), abs(number) < 9_007_199_254_740_992 { return String(Int64(number)) }
        return String(format: "%.\(digits)g", number)
    }
}
