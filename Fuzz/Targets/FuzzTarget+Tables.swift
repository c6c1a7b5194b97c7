#if DEBUG || FUZZED  // it looks into modules, which a release build does not allow

import Foundation
import ModelMonitoring
import PlatformCore
import Statistics

@testable import Datasets
@testable import Definitions
@testable import DuckDBAdapter
@testable import FeastAPI
@testable import ModelServing
@testable import ProcessAdapter

/// Rows of sources on their way in, answers of engines, and what the monitor keeps.
extension FuzzTarget {
    static let tables: [FuzzTarget] = [sourceLine, sourceRow, csv, feastFrame, engineRow, modelFiles, monitorState]

    private static let source: SourceDefinition? = {
        let text = """
            kind: Source
            name: departures
            event_time: at
            key: [id]
            schema:
              - {name: at, type: timestamp}
              - {name: id, type: int64}
              - {name: who, type: string, nullable: true}
              - {name: amount, type: float64, nullable: true}
              - {name: held, type: bool, nullable: true}
              - {name: place, type: vector, length: 2, nullable: true}
            expectations:
              - {name: form, column: who, matches: "N[0-9A-Z]{1,5}"}
              - {name: plausible, column: amount, range: [-60, 1440]}

            """
        let set = try? DefinitionCompiler.compile([DefinitionFile(path: "a.yaml", folder: "/", text: text)])
        return set?.sources[Name(static: "departures")]
    }()
    private static let contract = source.map { SourceContract($0) }
    private static let codec = source.map { SourceRowCodec($0) }

    private static let rowWords = [
        "\"at\":", "\"id\":", "\"who\":", "\"amount\":", "\"held\":", "\"place\":", "null", "true", "1e999", "-0",
        "0.1234567890123456789", "999999999999999999", "9223372036854775808", "\"2013-07-01T00:00:00Z\"", "\\u0041",
        "{\"b\":", ",\"e\":", ",\"i\":", ",\"k\":", ",\"r\":", ",\"v\":", "[1.0,2.5]", "12.0",
    ]

    private static let sourceLine = FuzzTarget(
        "source-line", byteCountMax: 1024, words: rowWords,
        seeds: [
            .text(#"{"at":1372636800000,"id":7,"who":"N1","amount":-12.25,"held":true}"#),
            .text(#"{"at": "2013-07-01T00:00:00Z", "id": 1, "who": null, "amount": 7, "place": [1, 2.5]}"#),
        ]
    ) { bytes in
        guard let contract else { preconditionFailure("the source above does not compile") }
        let quick = bytes.withUnsafeBufferPointer { contract.check(line: $0) }
        guard let value = try? JSONValue.parse(bytes) else {
            precondition(quick == nil, "the quick way takes what is no JSON")
            return
        }
        let verdict = contract.check(value, from: .push)
        precondition(quick == nil || quick == verdict, "the quick way says something else")
        for origin in RowOrigin.allCases where origin != .push { _ = contract.check(value, from: origin) }
    }

    private static let sourceRow = FuzzTarget(
        "source-row", byteCountMax: 1024, words: rowWords,
        seeds: [
            .text(
                #"{"b":"x","e":1372636800000,"i":1372636800001,"v":{"amount":12.0,"at":1372636800000,"held":true,"id":7,"place":[1.0,2.5],"who":"N1"}}"#
            ),
            .text(#"{"b":"x","e":1,"i":2,"k":"key","r":{"rows":1},"v":{"id":7}}"#),
        ]
    ) { bytes in
        guard let codec else { preconditionFailure("the source above does not compile") }
        _ = SourceRowCodec.memory(of: bytes)
        guard let row = try? codec.decode(bytes) else { return }
        _ = codec.key(of: row.cells)
        let written = codec.encode(row, batch: "x")
        let again = try? codec.decode(written)
        precondition(again.map { codec.encode($0, batch: "x") } == written, "a row does not read as it was written")
    }

    private static let feastFrame = FuzzTarget(
        "feast-frame", byteCountMax: 1024,
        words: rowWords + ["\"event_timestamp\":", "\"created\":", "1372636800.5", "2013-07-01 00:00:00"],
        seeds: [.text(#"{"event_timestamp":[1372636800,"2013-07-01T00:00:00"],"id":[1,2],"x":[null,"a"]}"#)]
    ) { bytes in
        guard let source, let contract, let frame = try? DataFrame(try? JSONValue.parse(bytes)) else { return }
        for row in (try? frame.rows(of: source, renamed: ["who": "x"])) ?? [] { _ = contract.check(row, from: .push) }
    }

    /// A file that inputs are written to: the readers take a path.
    private static let scratch = FileManager.default.temporaryDirectory.appendingPathComponent(
        "bottega-fuzz-\(ProcessInfo.processInfo.processIdentifier)")

    private static let csv = FuzzTarget(
        "csv", words: ["\"\"", "\",\"", "\r\n", "\n", "\"", ",", "\u{FEFF}"],
        seeds: [.text("at,id,who\r\n1,2,\"a \"\"b\"\",\nc\"\n\n3,,\"\"\r\n"), .text("\u{FEFF}a\n\"b\"x\n\"c")]
    ) { bytes in
        guard (try? Data(bytes).write(to: scratch)) != nil else { return }
        defer { try? FileManager.default.removeItem(at: scratch) }
        do {
            var reader = try CSVReader(path: scratch.path, subject: "file/a", recordByteCountMax: 64)
            var itemCount = 0
            while try reader.next() != nil { itemCount += 1 }
            precondition(reader.consumedByteCount == bytes.count, "a file is not read to its end")
            precondition(itemCount <= bytes.count, "a file has more records than bytes")
            var lines = try LineReader(path: scratch.path, subject: "file/a", lineByteCountMax: 64)
            while let line = try lines.next() { precondition(line.bytes.count <= 64, "a line is longer than allowed") }
            precondition(lines.consumedByteCount == bytes.count, "a file is not read to its end")
        } catch { preconditionFailure("a file that is there cannot be read: \(error)") }
    }

    private static let engineRow = FuzzTarget(
        "engine-row", byteCountMax: 1024, words: ["NaN", "-nan", "-Infinity", "inf", "\\\"", "{", "}", "\n"],
        seeds: [.text("{\"a\":NaN,\"b\":\"NaN \\\" inf\",\"c\":-inf}\n\n{\"a\":1}\n{\"a\":")]
    ) { bytes in
        var splitter = JSONLineSplitter(byteCountMax: 256)
        bytes.withUnsafeBytes { buffer in
            do {
                for start in stride(from: 0, to: buffer.count, by: 100) {
                    let part = UnsafeRawBufferPointer(rebasing: buffer[start..<min(buffer.count, start + 100)])
                    try splitter.add(part) { _ = try? DuckDBRow.parse($0, byteCountMax: 256) }
                }
                try splitter.finish { _ = try? DuckDBRow.parse($0, byteCountMax: 256) }
            } catch { return }
        }
    }

    private static let modelFiles = FuzzTarget(
        "model-files", byteCountMax: 1024, words: ["path", "hash", "byte_count", "../", "/", "."],
        seeds: [
            .text(
                #"{"files":[{"path":"data/model.pkl","hash":""# + String(repeating: "0a", count: 32)
                    + #"","byte_count":7}]}"#)
        ]
    ) { bytes in _ = try? ModelFileList(bytes) }

    static let monitor = MonitorDefinition(
        name: Name(static: "watch"), model: Name(static: "delay"), window: .days(7), labelHorizon: .days(2),
        rules: [
            MonitorRule(name: "drift", condition: .psi(feature: nil, above: 0.2), severity: .p1, rowsMin: 2),
            MonitorRule(
                name: "worse", condition: .metricWorseThanReference(.auc, by: 0.05), severity: .p2, rowsMin: 2),
        ], retrain: nil)

    private static let monday = EventTime(milliseconds: 1_372_636_800_000)

    private static func prediction(_ id: String, hour: Int64, version: Int = 1) -> PredictionRecord {
        PredictionRecord(
            id: id, time: monday.advanced(by: TimeSpan(milliseconds: hour * 3_600_000)), model: "delay",
            version: version, artifact: "", policyRevision: 1, choice: .primary, serviceVersion: "", entities: [],
            inputs: [0.5, .nan], ages: [0, 0], statuses: [0, 0], overridden: [], output: [0.5], fallbackReason: "",
            latency: .init(), caller: "")
    }

    private static let monitorState = FuzzTarget("monitor-state", byteCountMax: 8192, seeds: monitorSeeds) { bytes in
        guard var engine = try? MonitorEngine(snapshot: bytes, definitions: [monitor]) else { return }
        _ = (engine.incidents, engine.waitingLabelCount)
        for hour in [1, 30, 200, 2000] as [Int64] {
            let record = prediction("p\(hour)", hour: hour)
            _ = engine.consume(record)
            _ = engine.consume(LabelRecord(predictionID: "p1", time: record.time, value: 1))
        }
        guard let snapshot = try? engine.snapshot() else { return }
        precondition(
            (try? MonitorEngine(snapshot: snapshot, definitions: [monitor])) != nil,
            "a state does not read as it was written")
    }

    private static var monitorSeeds: [[UInt8]] {
        guard
            let profile = try? ReferenceProfile(
                columns: [
                    .init(name: "speed", numbers: [0, 1, 2, 3] as [Double]),
                    .init(name: "kind", codes: [0, 1, 1, 0], codeCount: 2),
                ], predictions: [0.1, 0.5, 0.5, 0.9])
        else { return [] }
        var engine = MonitorEngine(definitions: [monitor])
        engine.add(
            MonitorReference(profile: profile, inputNames: ["speed", "kind"], metrics: [.auc: 0.8]), model: "delay",
            version: 1)
        var seeds: [[UInt8]] = []
        for hour in 0..<4 as Range<Int64> {
            _ = engine.consume(prediction("p\(hour)", hour: hour))
            _ = engine.consume(
                LabelRecord(
                    predictionID: "p\(hour + 1)", time: monday.advanced(by: .days(hour * 4)), value: Double(hour)))
            if let bytes = try? engine.snapshot(), hour != 1 { seeds.append(bytes) }
        }
        return seeds
    }
}

#endif
