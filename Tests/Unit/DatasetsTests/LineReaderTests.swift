import Definitions
import PlatformCore
import Testing

@testable import Datasets

/// A push of JSON lines is the push of the same objects.
struct LineReaderTests {
    static let pieces: [String] = [
        "1", "-1", "0", "-0", "007", "1.5", "-0.0", "0.1", "12.", "1e3", "123456789012345.25", "1234567890.12345678",
        "999999999999999999", "9223372036854775807", "9223372036854775808", "true", "false", "null",
        "\"2013-07-01T09:15:00Z\"",
        "\"2013-07-01\"", "\"\"", "\"é\"", "\"a\\u0041\"", "\"tab\tin\"", "1372636800000", "99999999999999999", "{}",
        "[1]", "\"UA\"",
        " 4", "0.3", "100000000000000000000", "1.00", "-273.15", "nul", "\"open",
    ]

    static func source() throws -> SourceDefinition {
        let set = try DefinitionCompiler.compile([
            DefinitionFile(
                path: "test.yaml", folder: "/",
                text: """
                    kind: Source
                    name: events
                    event_time: at
                    key: [id]
                    schema:
                      - {name: at, type: timestamp}
                      - {name: id, type: int64}
                      - {name: who, type: string, nullable: true}
                      - {name: amount, type: float64, nullable: true}
                      - {name: held, type: bool, nullable: true}
                    """)
        ])
        guard let source = set.sources[Name(static: "events")] else { preconditionFailure("defined above") }
        return source
    }

    @Test
    func aLineSaysWhatItsObjectSays() throws {
        let contract = SourceContract(try Self.source())
        var random = SystemRandomNumberGenerator()
        var readCount = 0
        for round in 0..<20_000 {
            var members: [String] = []
            for (name, usual) in [
                ("at", "1372636800000"), ("id", "\(round)"), ("who", "\"UA\""), ("amount", "12.25"), ("held", "true"),
            ] {
                let pick = Int.random(in: 0..<8, using: &random)
                if pick == 0 { continue }
                let value = pick < 3 ? (Self.pieces.randomElement(using: &random) ?? usual) : usual
                members.append("\"\(name)\": \(value)")
                if Int.random(in: 0..<40, using: &random) == 0 { members.append("\"\(name)\":\(value)") }
                if Int.random(in: 0..<40, using: &random) == 0 { members.append("\"other\":1") }
            }
            if Bool.random(using: &random) { members.shuffle(using: &random) }
            var line = Array("{\(members.joined(separator: ","))}".utf8)
            if Int.random(in: 0..<4, using: &random) == 0 {
                line[Int.random(in: line.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            guard let verdict = line.withUnsafeBufferPointer({ contract.check(line: $0) }) else { continue }
            readCount += 1
            let object = try #require(try? JSONValue.parse(line), "\(String(decoding: line, as: UTF8.self))")
            #expect(verdict == contract.check(object, from: .push), "\(String(decoding: line, as: UTF8.self))")
        }
        #expect(readCount > 2_000)
    }
}
