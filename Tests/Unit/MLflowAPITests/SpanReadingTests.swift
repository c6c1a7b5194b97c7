import ExperimentTracking
import Foundation
import PlatformCore
import Testing

@testable import MLflowAPI

/// Numbers that a seed determines (SplitMix64).
private struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}

struct SpanReadingTests {
    // MARK: Writing protobuf

    private func variable(_ value: UInt64) -> [UInt8] {
        var (rest, bytes) = (value, [UInt8]())
        while rest > 127 {
            bytes.append(UInt8(rest & 127) | 128)
            rest >>= 7
        }
        return bytes + [UInt8(rest)]
    }
    private func field(_ number: UInt64, _ content: [UInt8]) -> [UInt8] {
        variable(number << 3 | 2) + variable(UInt64(content.count)) + content
    }
    private func field(_ number: UInt64, _ text: String) -> [UInt8] { field(number, Array(text.utf8)) }
    private func number(_ number: UInt64, _ value: UInt64) -> [UInt8] { variable(number << 3) + variable(value) }
    private func fixed(_ number: UInt64, _ value: UInt64) -> [UInt8] {
        variable(number << 3 | 1) + (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    /// A value in protobuf, and as it must be read.
    private func value(_ depth: Int, _ generator: inout SeededGenerator) -> (bytes: [UInt8], plain: JSONValue) {
        switch Int.random(in: 0..<(depth < 3 ? 7 : 5), using: &generator) {
        case 0:
            let text = ["", "a", "δ", "\"\\\n", "%"].randomElement(using: &generator) ?? ""
            return (field(1, text), .string(text))
        case 1:
            let flag = Bool.random(using: &generator)
            return (number(2, flag ? 1 : 0), .bool(flag))
        case 2:
            let integer = Int64.random(in: .min ... .max, using: &generator)
            return (number(3, UInt64(bitPattern: integer)), .integer(integer))
        case 3:
            let double = Double.random(in: -1e9...1e9, using: &generator)
            return (fixed(4, double.bitPattern), .number(double))
        case 4: return ([], .null)
        case 5:
            let members = (0..<Int.random(in: 0...3, using: &generator)).map { _ in value(depth + 1, &generator) }
            return (field(5, members.flatMap { field(1, $0.bytes) }), .array(members.map(\.plain)))
        default:
            let members = (0..<Int.random(in: 0...3, using: &generator)).map {
                ("k\($0)", value(depth + 1, &generator))
            }
            return (
                field(6, members.flatMap { field(1, field(1, $0.0) + field(2, $0.1.bytes)) }),
                .object(Dictionary(members.map { ($0.0, $0.1.plain) }, uniquingKeysWith: { $1 }))
            )
        }
    }

    private func request(_ spans: [[UInt8]]) -> [UInt8] {
        let resource = field(1, field(1, field(1, "service.name") + field(2, field(1, "kiosk"))))
        return field(1, resource + field(2, spans.flatMap { field(2, $0) }))
    }

    private func span(_ attributes: [(String, [UInt8])], parent: [UInt8] = []) -> [UInt8] {
        field(1, Array(1...16)) + field(2, Array(1...8)) + field(4, parent) + field(5, "step") + number(6, 1)
            + fixed(7, 5_000_000) + fixed(8, 9_000_000) + field(15, number(3, 2) + field(2, "broken"))
            + attributes.flatMap { field(9, field(1, $0.0) + field(2, $0.1)) } + number(999, 7)
    }

    @Test(arguments: UInt64(0)..<50) func valuesComeThroughAsTheyWere(seed: UInt64) throws {
        var generator = SeededGenerator(state: seed)
        let values = (0..<5).map { ("attribute \($0)", value(0, &generator)) }
        let read = try SpanProtobuf.spans(of: request([span(values.map { ($0.0, $0.1.bytes) })]))
        let found = try #require(read.first)
        #expect(found.attributes == Dictionary(values.map { ($0.0, $0.1.plain) }, uniquingKeysWith: { $1 }))
        #expect(found.traceID == "tr-0102030405060708090a0b0c0d0e0f10" && found.id == "0102030405060708")
        #expect(found.parentID == nil && found.status == "ERROR" && found.name == "step")
        #expect(found.startedAtNanoseconds == 5_000_000 && found.endedAtNanoseconds == 9_000_000)
        #expect(found.resource == ["service.name": "kiosk"])
        let document = try JSONValue.parse(found.document)
        #expect(document["trace_id"]?.stringValue == Data(1...16).base64EncodedString())
        #expect(document["attributes"]?.arrayValue?.count == 5)
    }

    @Test(arguments: UInt64(0)..<40) func noBytesMakeTheReaderTrap(seed: UInt64) throws {
        var generator = SeededGenerator(state: seed)
        let whole = request([span([("a", value(0, &generator).bytes)], parent: Array(9...16)), span([])])
        for _ in 0..<200 {
            var bytes = Array(whole.prefix(Int.random(in: 0...whole.count, using: &generator)))
            for _ in 0..<Int.random(in: 0...4, using: &generator) where !bytes.isEmpty {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = .random(in: 0...255, using: &generator)
            }
            guard let spans = try? SpanProtobuf.spans(of: bytes) else { continue }
            for span in spans { _ = try JSONValue.parse(span.document) }
        }
        for _ in 0..<100 {
            let noise = (0..<Int.random(in: 0...200, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            _ = try? SpanProtobuf.spans(of: noise)
            _ = try? SpanJSON.spans(of: noise, byteCountMax: 1000)
        }
    }

    @Test func valuesAreNestedOnlySoDeep() throws {
        var bytes = field(1, "x")
        for _ in 0..<SpanDraft.depthMax { bytes = field(5, field(1, bytes)) }
        let deep = request([span([("a", bytes)])])
        #expect(throws: DecodingFailure.self) { try SpanProtobuf.spans(of: deep) }
        for _ in 0..<100_000 { bytes = field(5, field(1, bytes.count > 1000 ? [] : bytes)) }
        let noTrap = request([span([("a", bytes)])])
        _ = try? SpanProtobuf.spans(of: noTrap)
    }

    @Test(arguments: [
        #"[]"#, #"{"resourceSpans":[{"scopeSpans":[{"spans":[{}]}]}]}"#,
        #"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz","spanId":"01"}]}]}]}"#,
        #"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00","spanId":"0000000000000001"}]}]}]}"#,
    ]) func spansWithoutIdentifiersAreRefused(text: String) {
        #expect(throws: DecodingFailure.self) { try SpanJSON.spans(of: Array(text.utf8), byteCountMax: 1 << 20) }
    }

    @Test func durationsAreWrittenAsProtobufDoes() throws {
        for (milliseconds, text) in [(Int64(86), "0.086s"), (1500, "1.500s"), (0, "0.000s"), (-250, "-0.250s")] {
            let info = TraceInfo(
                id: "tr-1", experimentID: "0", requestedAt: EventTime(milliseconds: 1),
                durationMilliseconds: milliseconds)
            #expect(info.wire["execution_duration"]?.stringValue == text)
            let back = try MLflowMember(value: info.wire, place: "t").traceInfo(now: EventTime(milliseconds: 2))
            #expect(back == info)
        }
    }
}
