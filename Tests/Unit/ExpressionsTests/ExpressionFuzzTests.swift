import Expressions
import PlatformCore
import Testing

/// Nothing that somebody writes makes the compiler or the evaluator trap.
struct ExpressionFuzzTests {
    private static let columns: [ExpressionColumn] = [
        ExpressionColumn(name: "i", type: .int64), ExpressionColumn(name: "x", type: .float64),
        ExpressionColumn(name: "s", type: .string), ExpressionColumn(name: "b", type: .bool),
        ExpressionColumn(name: "t", type: .timestamp),
    ]
    private static let words =
        Expression.functions.map(\.name)
        + [
            "i", "x", "s", "b", "t", "and", "or", "not", "is", "null", "in", "between", "case", "when", "then", "else",
            "end", "cast", "as", "int64", "float64", "string", "bool", "timestamp", "true", "(", ")", "(", ")", ",",
            "[",
            "]", "+", "-", "*", "/", "//", "%", "||", "=", "<", ">=", "!=", "1", "0", "2.5", "1e300",
            "9223372036854775807", "9223372036854775808", "7d", "'a'", "'month'", "\"é\"", "`i`", "'", "\\", "\u{0}",
        ]
    private static let rows: [[CellValue]] = [
        [],
        [.null, .null, .null, .null, .null],
        [.integer(.min), .double(-1e308), .text(""), .bool(false), .integer(.min)],
        [.integer(.max), .double(5e300), .text("e\u{301}\u{1F600}"), .bool(true), .integer(.max)],
        // Cells of other types than the columns say.
        [.text("1"), .text("x"), .integer(3), .list([.null]), .bool(true)],
    ]

    private func tryOut(_ text: String) -> Bool {
        guard let expression = try? Expression.compile(text, columns: Self.columns) else { return false }
        for row in Self.rows { _ = expression.evaluate(row) }
        for dialect in SQLDialect.allCases where expression.supports(dialect) { _ = expression.sql(dialect) { $0 } }
        return true
    }

    @Test(arguments: UInt64(0)..<4) func randomWordsAndBytesNeverTrap(seed: UInt64) {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 7
        func below(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(bound))
        }
        var compiled = 0
        for _ in 0..<1500 {
            let text = (0..<(1 + below(9))).map { _ in Self.words[below(Self.words.count)] }.joined(separator: " ")
            if tryOut(text) { compiled += 1 }
            let bytes = (0..<below(30)).map { _ in UInt8(below(256)) }
            _ = tryOut(String(decoding: bytes, as: UTF8.self))
        }
        #expect(compiled > 0)
    }

    @Test func depthLengthAndPartsAreLimited() {
        for text in [
            String(repeating: "(", count: 4000) + "1", String(repeating: "-", count: 4000) + "x",
            String(repeating: "abs(", count: 2000) + "x", String(repeating: "case when b then ", count: 500),
            "x" + String(repeating: "+x", count: 3000), "i in (" + String(repeating: "1,", count: 4000) + "1)",
            String(repeating: "[", count: 4000), "'" + String(repeating: "a", count: 10_001) + "'",
        ] { #expect(!tryOut(text), "\(text.prefix(20))") }
        // As deep as may be.
        #expect(tryOut(String(repeating: "abs(", count: 60) + "x" + String(repeating: ")", count: 60)))
        #expect(tryOut(String(repeating: "(x / ", count: 60) + "x" + String(repeating: ")", count: 60)))
    }
}
