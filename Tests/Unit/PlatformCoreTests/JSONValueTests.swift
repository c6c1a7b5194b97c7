import PlatformCore
import PlatformTesting
import Testing

/// Every byte of JSON from outside goes through one parser: what it takes, what it refuses, and that nothing traps.
struct JSONValueTests {
    static let readable: [(String, JSONValue)] = [
        ("null", JSONValue.null), (" true ", true), ("\tfalse\r\n", false), ("\"\"", ""), ("[]", []), ("{}", [:]),
        ("[ ]", []), ("{ }", [:]), ("[1,[2,[3]]]", [1, [2, [3]]]), ("{\"a\":{\"b\":null}}", ["a": ["b": nil]]),
        (" { \"a\" : [ 1 , true ] } ", ["a": [1, true]]), ("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\u{8}\u{C}\n\r\t"),
        ("\"\\u00e9\\u20AC\"", "é€"), ("\"\\ud83d\\ude00\"", "😀"), ("\"😀\u{7F}\"", "😀\u{7F}"), ("\"\\u0000\"", "\0"),
        ("{\"\":1}", ["": 1]),
    ]

    @Test(arguments: readable) func readsWhatTheStandardAllows(text: String, value: JSONValue) throws {
        #expect(try JSONValue.parse(text) == value)
    }

    @Test(arguments: [
        "", " ", "nul", "nulll", "True", "NaN", "Infinity", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "1.e5",
        "0x1",
        "1 2", "[1,]", "[,1]", "[1 2]", "[", "[1", "[1,", "]", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,",
        "{a:1}",
        "{\"a\":1,}", "{\"a\" 1}", "{1:2}", "{,}", "'a'", "\"", "\"a", "\"\\", "\"\\x\"", "\"\\u\"", "\"\\u12\"",
        "\"\\u12g4\"", "\"\\ud83d\"", "\"\\ud83d\\n\"", "\"\\ud83d\\u0041\"", "\"\\ude00\"", "\"\\ud83d\\ud83d\"",
        "\"\n\"",
        "\"\u{0}\"", "\"\\n\u{1F}\"", "/* a */ 1", "\u{FEFF}1", "1\u{A0}", "[1]]", "{}}", "true false",
    ]) func refusesWhatTheStandardForbids(text: String) {
        #expect(throws: DecodingFailure.self) { try JSONValue.parse(text) }
    }

    static let numbers: [(String, JSONValue)] = [
        ("0", JSONValue.integer(0)), ("-1", .integer(-1)), ("9223372036854775807", .integer(.max)),
        ("-9223372036854775807", .integer(-.max)), ("-9223372036854775808", .integer(.min)),
        ("9223372036854775808", .number(0x1p63)), ("-9223372036854775809", .number(-0x1p63)),
        ("18446744073709551616", .number(0x1p64)), ("1.0", .number(1)), ("1e2", .number(100)), ("1E+2", .number(100)),
        ("25e-1", .number(2.5)), ("0.1", .number(0.1)), ("1.7976931348623157e308", .number(.greatestFiniteMagnitude)),
        ("5e-324", .number(.leastNonzeroMagnitude)), ("2.2250738585072014e-308", .number(.leastNormalMagnitude)),
        ("123456789012345678901234567890", .number(1.2345678901234568e29)), ("1e-400", .number(0)),
    ]

    @Test(arguments: numbers) func numbersKeepAllTheirBits(text: String, value: JSONValue) throws {
        let parsed = try JSONValue.parse(text)
        #expect(Self.isSame(parsed, value), "\(parsed)")
    }

    @Test func numbersAreWrittenAsTheShortestDecimal() {
        var random = SystemRandomNumberGenerator()
        var numbers: [Double] = [
            0.001, 0.1 + 0.2, 999_999_999.999999, 1e9 + 0.5, 0.0009, 4.35, 1.005, -0.5, 123_456.789,
        ]
        for _ in 0..<20_000 {
            var power = 1.0
            for _ in 0..<Int.random(in: 0...9, using: &random) { power *= 10 }
            let digits = Int64.random(in: -1_000_000_000_000...1_000_000_000_000, using: &random)
            let shift = Int64.random(in: 0...40, using: &random)
            numbers.append(Double(digits >> shift) / power)
            numbers.append((Double(digits) / power).nextUp)
            numbers.append(Double.random(in: -2...2, using: &random))
        }
        for number in numbers where number.rounded() != number {
            #expect(JSONValue.number(number).text == number.description)
        }
        for whole in [Int64.min, .max, 0, -1, 9, 10, -10, 1_000_000_007] {
            #expect(JSONValue.integer(whole).text == String(whole))
        }
    }

    @Test(arguments: ["-0", "-0.0", "-0e5"]) func minusZeroKeepsItsSign(text: String) throws {
        let number = try #require(try JSONValue.parse(text).doubleValue)
        #expect(number == 0 && number.sign == .minus)
        #expect(try JSONValue.parse(JSONValue.number(number).text).doubleValue?.sign == .minus)
    }

    @Test(arguments: ["1e400", "-1e400", "1e99999999999999999999", String(repeating: "9", count: 500)])
    func numbersThatNoDoubleHoldsAreRefused(text: String) throws {
        let failure = #expect(throws: DecodingFailure.self) { try JSONValue.parse("[\n  \(text)]") }
        #expect(failure?.description == "line 2, column 3: the number does not fit in 64 bits")
    }

    @Test(arguments: ["NaN", "Infinity", "-Infinity"]) func pythonsNumbersAreReadWhereThatIsAsked(text: String) throws {
        let list = "[1, \(text), -2, \"\(text)\"]"
        #expect(throws: DecodingFailure.self) { try JSONValue.parse(list) }
        let read = try JSONValue.parse(list, limits: JSONLimits(hasPythonNumbers: true))
        #expect(read == [1, nil, -2, .string(text)])
        #expect(throws: DecodingFailure.self) {
            try JSONValue.parse("[\(text.dropLast())]", limits: JSONLimits(hasPythonNumbers: true))
        }
    }

    @Test func depthIsBounded() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect(throws: Never.self) { try JSONValue.parse(nested(64)) }
        let failure = #expect(throws: DecodingFailure.self) { try JSONValue.parse(nested(65)) }
        #expect(failure?.description.contains("deeper than 64 levels") == true)
        #expect(throws: DecodingFailure.self) { try JSONValue.parse(String(repeating: "[", count: 1 << 20)) }
        #expect(throws: DecodingFailure.self) { try JSONValue.parse(String(repeating: "{\"a\":", count: 1 << 16)) }
        #expect(throws: DecodingFailure.self) { try JSONValue.parse("[[]]", limits: JSONLimits(depthMax: 1)) }
    }

    @Test func sizeIsBoundedBeforeAnythingIsRead() throws {
        let limits = JSONLimits(byteCountMax: 8)
        #expect(try JSONValue.parse("\"abcdef\"", limits: limits) == "abcdef")
        let failure = #expect(throws: DecodingFailure.self) { try JSONValue.parse("\"abcdefg\"", limits: limits) }
        #expect(failure?.description == "the JSON is 9 bytes long, 8 are accepted")
    }

    @Test func aMemberMayAppearOnce() throws {
        let failure = #expect(throws: DecodingFailure.self) { try JSONValue.parse("{\"a\":1,\n \"b\":2, \"a\":3}") }
        #expect(failure?.description == "line 2, column 9: the member 'a' appears twice")
        #expect(throws: DecodingFailure.self) { try JSONValue.parse("{\"a\":1,\"\\u0061\":3}") }
        #expect(try JSONValue.parse("[{\"a\":1},{\"a\":1}]") == [["a": 1], ["a": 1]])
    }

    @Test(
        arguments: [
            [0x80], [0xC3], [0xC3, 0x28], [0xC0, 0xAF], [0xE2, 0x82], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80],
            [0xFF],
        ] as [[UInt8]]) func bytesThatAreNotUTF8AreRefused(content: [UInt8])
    {
        for escape in ["", "\\n"] {
            let text = [0x22] + content + Array(escape.utf8) + [0x22]
            let failure = #expect(throws: DecodingFailure.self) { try JSONValue.parse(text) }
            #expect(failure?.description == "line 1, column 1: the text is not UTF-8")
        }
        #expect(throws: DecodingFailure.self) { try JSONValue.parse(content) }
    }

    @Test func aSliceIsReadFromItsOwnStart() throws {
        let bytes = Array("xx[1,2]yy".utf8)
        #expect(try JSONValue.parse(bytes[2..<7]) == [1, 2])
        let failure = #expect(throws: DecodingFailure.self) { try JSONValue.parse(bytes[2..<8]) }
        #expect(failure?.description == "line 1, column 6: more text follows the JSON value")
    }

    @Test func faultsNameLineAndColumn() {
        let failure = #expect(throws: DecodingFailure.self) { try JSONValue.parse("{\n  \"a\": 1,\n  \"b\": tru\n}") }
        #expect(failure?.description == "line 3, column 8: a JSON value is expected")
    }

    @Test func membersAreWrittenInOrderAndControlsEscaped() throws {
        let value: JSONValue = ["b": [1, 2.0, 0.1], "a": "x\n\u{1}\"\\/é", "c": [:], "d": nil]
        #expect(
            value.text == #"{"a":"x\n\u0001\"\\/é","b":[1,2.0,0.1],"c":{},"d":null}"#)
        #expect(value.prettyText.hasPrefix("{\n  \"a\": \"x"))
        #expect(try JSONValue.parse(value.prettyText) == value)
        #expect(JSONValue.array([.number(.nan), .number(.infinity), .number(-.infinity)]).text == "[null,null,null]")
    }

    @Test func wholeNumbersAreRecognizedAndOthersAreNot() {
        #expect(JSONValue.number(3).integerValue == 3)
        #expect(JSONValue.number(3.5).integerValue == nil)
        #expect(JSONValue.number(0x1p63).integerValue == nil)
        #expect(JSONValue.number(-0x1p63).integerValue == .min)
        #expect(JSONValue.number(.nan).integerValue == nil)
    }

    // MARK: Generated

    @Test(arguments: UInt64(0)..<200) func whatIsWrittenReadsBackAsTheSameValue(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        for _ in 0..<10 {
            let value = Self.randomValue(depth: 4, &random)
            let compact = try JSONValue.parse(value.canonicalBytes)
            #expect(Self.isSame(compact, value), "\(value.text)")
            #expect(compact.canonicalBytes == value.canonicalBytes)
            #expect(Self.isSame(try JSONValue.parse(value.prettyText), value))
        }
    }

    @Test(arguments: UInt64(0)..<100) func randomDoublesReadBackBitForBit(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        for _ in 0..<50 {
            let value = Double(bitPattern: random.next())
            guard value.isFinite else { continue }
            #expect(try JSONValue.parse(JSONValue.number(value).text).doubleValue?.bitPattern == value.bitPattern)
        }
    }

    @Test(arguments: UInt64(0)..<16) func damagedTextNeverTraps(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let interesting = Array("{}[]\",:\\u0dD8-+.eE0189tfn \n".utf8) + [0, 0x1F, 0x7F, 0x80, 0xC3, 0xED, 0xFF]
        var refused = 0
        for _ in 0..<200 {
            var bytes = Self.randomValue(depth: 4, &random).canonicalBytes
            for _ in 0..<Int.random(in: 1...5, using: &random) where !bytes.isEmpty {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<5, using: &random) {
                case 0: bytes[at] = UInt8(truncatingIfNeeded: random.next())
                case 1: bytes[at] = interesting[Int.random(in: 0..<interesting.count, using: &random)]
                case 2: bytes.insert(interesting[Int.random(in: 0..<interesting.count, using: &random)], at: at)
                case 3: bytes.remove(at: at)
                default: bytes.removeSubrange(at...)
                }
            }
            do {
                let value = try JSONValue.parse(bytes)
                #expect(throws: Never.self) { try JSONValue.parse(value.canonicalBytes) }
            } catch {
                refused += 1
                #expect(!error.description.contains("\n"))
            }
        }
        #expect(refused > 50)
    }

    @Test(arguments: UInt64(0)..<8) func randomBytesNeverTrap(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for length in 0..<200 {
            let bytes = random.bytes(length)
            if length == 0 || bytes.first.map({ $0 >= 0x80 }) == true {
                #expect(throws: DecodingFailure.self) { try JSONValue.parse(bytes) }
            } else {
                _ = try? JSONValue.parse(bytes)
            }
        }
    }

    private static func isSame(_ left: JSONValue, _ right: JSONValue) -> Bool {
        switch (left, right) {
        case (.number(let left), .number(let right)): left.bitPattern == right.bitPattern
        case (.string(let left), .string(let right)): Array(left.utf8) == Array(right.utf8)
        case (.array(let left), .array(let right)):
            left.count == right.count && zip(left, right).allSatisfy { isSame($0, $1) }
        case (.object(let left), .object(let right)):
            left.count == right.count
                && left.allSatisfy { key, value in right[key].map { isSame(value, $0) } ?? false }
        default: left == right
        }
    }

    private static func randomValue(depth: Int, _ random: inout SplitMix64) -> JSONValue {
        switch Int.random(in: 0..<(depth > 0 ? 9 : 7), using: &random) {
        case 0: return .null
        case 1: return .bool(Bool.random(using: &random))
        case 2: return .integer(Int64(bitPattern: random.next()))
        case 3: return .integer([0, -1, .max, .min, .min + 1, 1 << 53].randomElement(using: &random) ?? 0)
        case 4:
            let value = Double(bitPattern: random.next())
            return .number(value.isFinite ? value : -0.0)
        case 5: return .number(Double(Int64.random(in: -1_000_000...1_000_000, using: &random)) / 1000)
        case 6: return .string(randomText(&random))
        case 7:
            return .array(
                (0..<Int.random(in: 0...4, using: &random)).map { _ in randomValue(depth: depth - 1, &random) })
        default:
            var members: [String: JSONValue] = [:]
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                members[randomText(&random)] = randomValue(depth: depth - 1, &random)
            }
            return .object(members)
        }
    }

    private static func randomText(_ random: inout SplitMix64) -> String {
        var text = ""
        for _ in 0..<Int.random(in: 0...8, using: &random) {
            let range: ClosedRange<UInt32> =
                [0...0x7F, 0x20...0x7E, 0x80...0x7FF, 0xE000...0xFFFF, 0x1F300...0x1F6FF].randomElement(using: &random)
                ?? 0...0x7F
            if let scalar = Unicode.Scalar(UInt32.random(in: range, using: &random)) {
                text.unicodeScalars.append(scalar)
            }
        }
        return text
    }

    @Test
    func aMemberThatIsNullIsTakenAsOneThatIsMissing() throws {
        let members = try JSONValue.parse("{\"a\": null, \"b\": 0, \"c\": false, \"d\": [null]}")
        #expect(members["a"] == .some(.null))
        #expect(members["a"]?.unlessNull == Optional<JSONValue>.none)
        #expect(members["missing"]?.unlessNull == Optional<JSONValue>.none)
        for (key, value) in [("b", JSONValue.integer(0)), ("c", .bool(false)), ("d", .array([.null]))] {
            #expect(members[key]?.unlessNull == value)
        }
    }
}
