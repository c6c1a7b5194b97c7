import Expressions
import PlatformCore
import Testing

private let columns = [
    ExpressionColumn(name: "i", type: .int64), ExpressionColumn(name: "x", type: .float64),
    ExpressionColumn(name: "s", type: .string), ExpressionColumn(name: "b", type: .bool),
    ExpressionColumn(name: "t", type: .timestamp), ExpressionColumn(name: "dep_delay", type: .int64, nullable: false),
]

private func value(
    _ text: String, i: CellValue = .null, x: CellValue = .null, s: CellValue = .null, b: CellValue = .null,
    t: CellValue = .null
) throws -> CellValue {
    try Expression.compile(text, columns: columns).evaluate([i, x, s, b, t, .integer(12)])
}

@Suite("Expressions")
struct ExpressionTests {
    @Test("Arithmetic: integers stay integers, division gives a double, what cannot be computed is null")
    func arithmetic() throws {
        #expect(try value("1 + 2 * 3 - -4") == .integer(11))
        #expect(try value("7 / 2") == .double(3.5))
        #expect(try value("-7 // 2") == .integer(-3))
        #expect(try value("-7 % 2") == .integer(-1))
        #expect(try value("i // 0", i: .integer(1)) == .null)
        #expect(try value("i % -1", i: .integer(.min)) == .integer(0))
        #expect(try value("i // -1", i: .integer(.min)) == .null)
        #expect(try value("i + 1", i: .integer(.max)) == .null)
        #expect(try value("abs(i)", i: .integer(.min)) == .null)
        #expect(try value("-i", i: .integer(.min)) == .null)
        #expect(try value("-9223372036854775808") == .integer(.min))
        #expect(try value("x / 0", x: .double(1)) == .null)
        #expect(try value("1 / (x * 10)", x: .double(1e308)) == .null)
        #expect(try value("x * -1", x: .double(0)) == .double(0))
        #expect(try value("i + x", i: .integer(1), x: .double(0.5)) == .double(1.5))
        #expect(try value("round(x, 1)", x: .double(-2.25)) == .double(-2.3))
        #expect(try value("round(0.49999999999999994)") == .double(0))
        #expect(try value("sqrt(x)", x: .double(-1)) == .null)
        #expect(try value("clip(i, 0, 10)", i: .integer(-3)) == .integer(0))
        #expect(try value("least(3, x)", x: .double(2.5)) == .double(2.5))
        #expect(try value("greatest(i, 3)") == .null)
        #expect(try value("bucketize(i, [0, 10, 20])", i: .integer(10)) == .integer(2))
        #expect(try value("bucketize(i, [0, 10, 20])") == .null)
        #expect(try value("sign(x)", x: .double(-0.5)) == .integer(-1))
        #expect(try value("pow(x, 3)", x: .double(1.5)) == .double(3.375))
        #expect(try value("pow(x, -1)", x: .double(4)) == .double(0.25))
    }

    @Test("Truth has three values")
    func truth() throws {
        #expect(try value("b and false") == .bool(false))
        #expect(try value("b or true") == .bool(true))
        #expect(try value("not b") == .null)
        #expect(try value("i = 1") == .null)
        #expect(try value("i is null and x is null") == .bool(true))
        #expect(try value("i between 1 and 3", i: .integer(3)) == .bool(true))
        #expect(try value("i not between 1 and 3", i: .integer(3)) == .bool(false))
        #expect(try value("i between 5 and cast(null as int64)", i: .integer(3)) == .bool(false))
        #expect(try value("s in ('a', 'b')", s: .text("b")) == .bool(true))
        #expect(try value("s not in ('a', 'b')") == .null)
        #expect(try value("if(i > 0, 'yes', 'no')") == .text("no"))
        #expect(try value("case when i > 10 then 1 when i > 5 then 2.5 end", i: .integer(7)) == .double(2.5))
        #expect(try value("coalesce(i, x, 0)", x: .double(2)) == .double(2))
        #expect(try value("nullif(i, 3)", i: .integer(3)) == .null)
        #expect(try Expression.compile("i > 3", columns: columns).holds([.null]) == false)
    }

    @Test("Text: code points, A to Z, bytes; never canonical equivalence")
    func text() throws {
        #expect(try value("length(s)", s: .text("né\u{1F600}")) == .integer(3))
        #expect(try value("length(s)", s: .text("e\u{301}")) == .integer(2))
        #expect(try value("s = '\\u{e9}'", s: .text("e\u{301}")) == .bool(false))
        #expect(try value("upper(s)", s: .text("aßé")) == .text("Aßé"))
        #expect(try value("substring(s, 2, 2)", s: .text("héllo")) == .text("él"))
        #expect(try value("substring(s, 9)", s: .text("héllo")) == .text(""))
        #expect(try value("trim(s) || '!'", s: .text("  a b ")) == .text("a b!"))
        #expect(try value("replace(s, 'aa', 'b')", s: .text("aaaaa")) == .text("bba"))
        #expect(try value("split_part(s, ', ', 2)", s: .text("a, b, c")) == .text("b"))
        #expect(try value("split_part(s, ',', 4)", s: .text("a,b")) == .text(""))
        #expect(
            try value("starts_with(s, 'ab') and ends_with(s, 'ba') and contains(s, 'bb')", s: .text("abba"))
                == .bool(true))
        #expect(try value("concat('it''s ', \"q\\\"\")") == .text("it's q\""))
        #expect(try value("cast(s as int64)", s: .text("+12")) == .integer(12))
        #expect(try value("cast(s as int64)", s: .text("12 ")) == .null)
        #expect(try value("cast(s as float64)", s: .text("1e999")) == .null)
        #expect(try value("cast(s as float64)", s: .text("-.5e1")) == .double(-5))
        #expect(try value("hash('abc', 2147483648)") == .integer(2_416_005_272 % 2_147_483_648))
        #expect(RowHash.bucket(of: "abc", buckets: 100) == 2_416_005_272 % 100)
    }

    @Test("Moments: parts in UTC, truncation, spans")
    func moments() throws {
        func at(_ text: String) throws -> CellValue { .integer(try #require(EventTime(text: text)).milliseconds) }
        let t = try at("2013-12-30T23:59:58.700Z")
        #expect(try value("year(t) * 10000 + month(t) * 100 + day(t)", t: t) == .integer(20_131_230))
        #expect(try value("(hour(t) * 60 + minute(t)) * 60 + second(t)", t: t) == .integer(86_398))
        #expect(try value("week(t)", t: t) == .integer(1))
        #expect(try value("day_of_week(t)", t: t) == .integer(1))
        #expect(try value("day_of_year(t)", t: t) == .integer(364))
        #expect(try value("date_trunc('month', t)", t: t) == at("2013-12-01"))
        #expect(try value("date_trunc('year', t)", t: t) == at("2013-01-01"))
        #expect(try value("date_trunc('week', t)", t: t) == at("2013-12-30"))
        #expect(try value("date_trunc('day', t - 7d)", t: at("1960-02-29T12:00:00Z")) == at("1960-02-22"))
        #expect(try value("t - timestamp('2013-12-30') > 12h", t: t) == .bool(true))
        #expect(try value("minutes_between(timestamp('2013-12-30'), t)", t: at("2013-12-30T01:30:00Z")) == .double(90))
        #expect(try value("t + 300000d", t: t) == .null)
        #expect(try value("epoch_ms(t)", t: .integer(5)) == .integer(5))
    }

    @Test("Distances and logarithms come close to the libraries'")
    func mathematics() throws {
        func number(_ text: String, _ x: Double) throws -> Double? { try value(text, x: .double(x)).number }
        #expect(abs(try #require(try number("exp(x)", 1)) - 2.718281828459045) < 1e-15)
        #expect(try number("exp(x)", 0) == 1)
        #expect(try number("exp(x)", -800) == 0)
        #expect(try number("exp(x)", 711) == nil)
        #expect(try number("ln(x)", 1) == 0)
        #expect(try number("ln(x)", 0) == nil)
        let half = try #require(try number("exp(ln(x) * 0.5)", 2))
        #expect(abs(half - 1.4142135623730951) < 1e-15)
        #expect(abs(try #require(try number("ln(x)", Double.leastNonzeroMagnitude)) + 744.4400719213812) < 1e-12)
        #expect(abs(try #require(try number("log10(x)", 1e300)) - 300) < 1e-12)
        let distance = try #require(try value("haversine_km(40.6413, -73.7781, 51.4700, -0.4543)").number)
        #expect(abs(distance - 5540) < 5)
        let half2 = try #require(try value("haversine_km(0, -90, 0, 90)").number)
        #expect(abs(half2 - 20015.1) < 0.1)
        #expect(try value("haversine_km(x, 0, 91, 0)", x: .double(1)) == .null)
    }

    @Test("Faults name line, column and the nearest name")
    func faults() throws {
        func message(_ text: String) -> String {
            do {
                _ = try Expression.compile(text, columns: columns)
                return ""
            } catch { return error.description }
        }
        #expect(
            message("1 +\n dep_dely * 2").contains(
                "line 2, column 2: no column is called 'dep_dely'; did you mean 'dep_delay'?"))
        #expect(message("1 +\n dep_dely * 2").contains("▸dep_dely * 2"))
        #expect(message("subsrting(s, 1)").contains("did you mean 'substring'?"))
        #expect(message("i + s").contains("mixes int64 and string"))
        #expect(message("s + s").contains("joined with '||'"))
        #expect(message("i and b").contains("must be bool"))
        #expect(message("1 < 2 < 3").contains("do not chain"))
        #expect(message("coalesce(null, null)").contains("type of null"))
        #expect(message("i i").contains("should end here"))
        #expect(message("hash(x, 3)").contains("does not read float64"))
        #expect(message("99999999999999999999").contains("64 bits"))
        #expect(message("5 parsecs").contains("should end"))
        #expect(message("5parsecs").contains("span of time"))
        #expect(message("'abc").contains("not closed"))
        #expect(message(String(repeating: "(", count: 5000) + "1").contains("levels deep"))
        #expect(message(String(repeating: "not ", count: 2000) + "b").contains("levels deep"))
        #expect(message(String(repeating: "1+", count: 2000) + "1").contains("levels deep"))
        #expect(message("timestamp('2013-01-01 10:00')").contains("with a zone"))
    }

    @Test("The canonical text is the meaning: blanks, synonyms and constants do not count, columns do")
    func canonical() throws {
        func text(_ expression: String) throws -> String {
            try Expression.compile(expression, columns: columns).canonicalText
        }
        #expect(try text("dep_delay>1*15") == text("15 < dep_delay"))
        #expect(
            try text("I_F(x)".replacing("I_F(x)", with: "IF(b, 1, 2.0)")) == text("case when b then 1.0 else 2 end"))
        #expect(try text("i = 1") != text("x = 1"))
        #expect(try text("s in ('b', 'a', 'b')") == text("s in (\"a\", 'b')"))
        let expression = try Expression.compile("if(true, dep_delay * 2.5, x)", columns: columns)
        #expect(expression.columns == ["dep_delay"])
        #expect(expression.type == .float64)
        #expect(expression.nullable)
        #expect(try Expression.compile("dep_delay > 3", columns: columns).nullable == false)
    }
}
