import Definitions
import Foundation
import PlatformCore
import Testing

@testable import Datasets

struct SourceContractTests {
    private func reasons(_ changes: [String: JSONValue], without: String? = nil) throws -> [String] {
        let bench = try Workbench()
        guard case .object(var row) = bench.row(1) else { return [] }
        for (key, value) in changes { row[key] = value }
        if let without { row[without] = nil }
        switch SourceContract(bench.source).check(.object(row), from: .push) {
        case .accepted: return []
        case .refused(let breaches): return breaches.map(\.message)
        }
    }

    @Test(
        arguments: [
            ("dep_delay", "abc", "dep_delay: 'abc' is not a number"),
            ("dep_delay", "5", "dep_delay: '5' is not a number"),
            ("seats", 1.5, "seats: '1.5' is not a whole number"),
            ("seats", 1e300, "seats: '1e+300' does not fit in 64 bits"),
            ("diverted", 1, "diverted: a number is not true or false"), ("flight", 7, "flight: a number is not text"),
            ("flight", nil, "flight: is null"), ("carrier", "United", "carrier: 'United' does not match [A-Z0-9]{2}"),
            (
                "departed_at", "2013-01-01T05:15:00",
                "departed_at: '2013-01-01T05:15:00' is not a time with a zone, such as 2013-07-01T09:15:00Z"
            ),
            (
                "departed_at", "9999-01-01T00:00:00Z",
                "departed_at: '9999-01-01T00:00:00Z' lies outside of the years 1900 to 2199"
            ),
            ("known_at", 1_380_000_000_000, "known_at: '1380000000000' is before departed_at"),
            ("dep_delay", 2001, "dep_delay: '2001.0' is outside of -120.0 to 2000.0"),
            ("fligt", "x", "row: the column 'fligt' is unknown; did you mean 'flight'?"),
            ("dep_delay", [1], "dep_delay: a list is not a number"),
        ] as [(String, JSONValue, String)])
    func saysWhatIsWrong(column: String, value: JSONValue, reason: String) throws {
        #expect(try reasons([column: value]) == [reason])
    }

    @Test func takesWhatFits() throws {
        #expect(try reasons([:]).isEmpty)
        #expect(try reasons(["dep_delay": 2000, "seats": 12.0, "known_at": nil]).isEmpty)
        #expect(try reasons([:], without: "dep_delay").isEmpty)
        #expect(try reasons([:], without: "departed_at") == ["departed_at: is missing"])
        let bench = try Workbench()
        guard case .refused(let breaches) = SourceContract(bench.source).check([1], from: .push) else {
            Issue.record("a list is a row")
            return
        }
        #expect(breaches.map(\.rule) == ["row: is not an object"])
    }

    @Test(arguments: UInt64(0)..<50) func codecGivesBackWhatItTook(seed: UInt64) throws {
        var generator = SplitMix(state: seed)
        let bench = try Workbench()
        let codec = SourceRowCodec(bench.source)
        let texts = ["", "a", "\"\\\n\u{1}", "ü🙂", String(repeating: "x", count: 300)]
        let cells = bench.source.columns.map { column -> CellValue in
            if Int.random(in: 0..<5, using: &generator) == 0 { return .null }
            switch column.type {
            case .string: return .text(texts[Int.random(in: 0..<texts.count, using: &generator)])
            case .bool: return .bool(.random(using: &generator))
            case .int64: return .integer(.random(in: .min ... .max, using: &generator))
            case .timestamp: return .integer(.random(in: -2_000_000_000_000...7_000_000_000_000, using: &generator))
            case .float64:
                return .double(
                    Double(Int.random(in: -9_000...9_000, using: &generator))
                        / [1, 8, 3e300][Int.random(in: 0..<3, using: &generator)])
            case .vector, .list:
                return .list(
                    (0..<column.length).map { _ in
                        .double(Double(Float.random(in: -3...3, using: &generator)))
                    })
            }
        }
        let row = SourceRow(
            eventTime: EventTime(milliseconds: -5), ingestTime: EventTime(milliseconds: 9), cells: cells)
        let bytes = codec.encode(row, batch: "b")
        #expect(try codec.decode(bytes) == row)
        #expect(try JSONValue.parse(bytes).canonicalBytes == bytes)
        for _ in 0..<100 {  // damaged bytes give a row or an error, never a trap
            var damaged = bytes
            for _ in 0..<3 {
                damaged[Int.random(in: 0..<damaged.count, using: &generator)] = .random(in: 0...255, using: &generator)
            }
            _ = try? codec.decode(Array(damaged.prefix(Int.random(in: 0...damaged.count, using: &generator))))
        }
    }

    @Test(
        arguments: [
            ("a,b\r\n1,2\r\n", ["1: a|b", "2: 1|2"]), ("a\n\n\"x\ny\"\n2", ["1: a", "3: x\ny", "5: 2"]),
            ("\u{FEFF}a,\"b\"\"c\",\n,", ["1: a|b\"c|", "2: |"]),
            ("a\n\"x\"y\nb", ["1: a", "2! has text behind a closing quote", "3: b"]),
            ("a\n\"open\nb\nc", ["1: a", "2! a quote is not closed", "3: b", "4: c"]),
            ("a,\"b\"\r\nc", ["1: a|b", "2: c"]),
            ("5\" pipe,x\n", ["1: 5\" pipe|x"]),
        ] as [(String, [String])])
    func readsCSVLineByLine(text: String, expected: [String]) throws {
        let bench = try Workbench()
        #expect(try items(of: Array(text.utf8), bench) == expected)
    }

    @Test(arguments: UInt64(0)..<40) func readsAnyBytes(seed: UInt64) throws {
        var generator = SplitMix(state: seed)
        let bench = try Workbench()
        let alphabet = Array("a1,,\"\"\n\r\u{FF}".utf8) + [0xFF, 0]
        let bytes = (0..<Int.random(in: 0..<400, using: &generator)).map { _ in
            alphabet[Int.random(in: 0..<alphabet.count, using: &generator)]
        }
        #expect(try items(of: bytes, bench).count <= bytes.count + 1)
    }

    @Test func givesUpALineThatIsTooLong() throws {
        let bench = try Workbench()
        let text = "a\n" + String(repeating: "x", count: 3_000_000) + "\nb"
        #expect(try items(of: Array(text.utf8), bench) == ["1: a", "2! is longer than 1048576 bytes", "3: b"])
    }

    private func items(of bytes: [UInt8], _ bench: Workbench) throws -> [String] {
        let path = bench.folder + "/c.csv"
        try Data(bytes).write(to: URL(filePath: path))
        var reader = try CSVReader(path: path, subject: "c", recordByteCountMax: 1 << 20)
        var found: [String] = []
        while let item = try reader.next() {
            switch item {
            case .record(let line, let fields): found.append("\(line): \(fields.joined(separator: "|"))")
            case .malformed(let line, _, let reason): found.append("\(line)! \(reason)")
            }
        }
        return found
    }
}

/// A small generator with a seed.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
