import Foundation
import PlatformCore
import Statistics
import StoragePorts
import Synchronization
import Testing

@testable import MLflowImport

/// What a source says is bytes from outside: whatever they are, the importer answers or refuses, and never traps.
@Suite struct SourceTests {
    /// A database whose every cell is drawn.
    private final class DrawnDatabase: ForeignDatabase {
        private let generator: Mutex<SeededGenerator>
        init(seed: UInt64) { generator = Mutex(SeededGenerator(seed: seed)) }

        func query(_ sql: String, _ arguments: [MetadataValue]) async throws -> [MetadataRow] {
            let columns = [
                "experiment_id", "name", "artifact_location", "lifecycle_stage", "creation_time", "owner", "key",
                "value",
                "run_uuid", "is_nan", "timestamp", "step", "status", "start_time", "version", "alias", "model_id",
                "source_type", "destination_id", "source_id", "input_uuid", "dataset_source", "current_stage",
            ]
            return generator.withLock { generator in
                (0..<generator.index(below: 4)).map { _ in
                    MetadataRow(columns: columns, values: columns.map { _ in Self.cell(&generator) })
                }
            }
        }

        private static func cell(_ generator: inout SeededGenerator) -> MetadataValue {
            switch generator.index(below: 8) {
            case 0: .null
            case 1: .integer(Int64(bitPattern: generator.next()))
            case 2: .real(Double(bitPattern: generator.next()))
            case 3: .text("")
            case 4: .text("../../etc/passwd")
            case 5: .text("mlflow-artifacts:/../x")
            case 6: .blob([0xFF, 0x00, 0xC3])
            default: .integer(Int64(generator.index(below: 7)) - 1)
            }
        }
    }

    @Test(arguments: 0..<60) func anyDatabaseIsReadOrRefused(seed: Int) async throws {
        let drawn = DrawnDatabase(seed: UInt64(seed))
        _ = try? await DatabaseSource(drawn, path: "/nowhere/mlflow.db", artifacts: .beside)
        let empty = "\(NSTemporaryDirectory())/bottega-source-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: empty, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: empty) }
        let source = try await DatabaseSource(drawn, path: "/nowhere/mlflow.db", artifacts: .folder(empty))
        for experiment in (try? await source.experiments()) ?? [] {
            let id = experiment.text("experiment_id")
            for run in (try? await source.runs(of: id)) ?? [] {
                _ = run["info"]?.number("start_time")
                _ = try? await source.files(below: run["info"]?.text("artifact_uri") ?? "", run: nil)
            }
            _ = Importer.links((try? await source.loggedModels(of: id)) ?? [])
            _ = try? await source.traceCount(of: id, countMax: 3)
        }
        _ = try? await source.history(run: "r", key: "k").map(\.fingerprint)
        _ = try? await source.registeredModels()
        _ = try? await source.modelVersions()
    }

    /// JSON as an MLflow server might send it, with anything in any place.
    private func drawn(_ generator: inout SeededGenerator, depth: Int = 0) -> JSONValue {
        switch generator.index(below: depth > 4 ? 6 : 9) {
        case 0: return .null
        case 1: return .bool(generator.index(below: 2) == 0)
        case 2: return .integer(Int64(bitPattern: generator.next()))
        case 3: return .number(Double(bitPattern: generator.next()))
        case 4:
            return .string(
                ["", "NaN", "-Infinity", "1e999", "9223372036854775808", "ü\u{0}"][generator.index(below: 6)])
        case 5: return .string(String(generator.next()))
        case 6: return .array((0..<generator.index(below: 4)).map { _ in drawn(&generator, depth: depth + 1) })
        default:
            let keys = [
                "info", "data", "metrics", "key", "value", "timestamp", "step", "run_id", "model_id", "tags", "name",
                "version", "dataset_name",
            ]
            var members: [String: JSONValue] = [:]
            for key in keys where generator.index(below: 2) == 0 { members[key] = drawn(&generator, depth: depth + 1) }
            return .object(members)
        }
    }

    @Test(arguments: 0..<300) func anyAnswerIsReadOrRefused(seed: Int) {
        var generator = SeededGenerator(seed: UInt64(seed))
        let answer = drawn(&generator)
        for key in ["info", "value", "step", "version"] {
            _ = answer.number(key)
            _ = answer.text(key)
            _ = answer.pairs(key)
            _ = answer[key]?.metricValue
        }
        _ = Importer.links([answer] + answer.list("tags"))
        _ = Importer.links(answer.arrayValue ?? [])
    }

    @Test func pathsLeadDownOrAreRefused() {
        for path in ["a", "a/b", "a b/ü.txt", "a%20b", "...", "-"] { #expect(ServerSource.isBelow(path), "\(path)") }
        for path in ["", "/a", "a//b", "..", "a/../b", "a/.", "a/", String(repeating: "a/", count: 80) + "a"] {
            #expect(!ServerSource.isBelow(path), "\(path)")
        }
    }

    @Test func addressesOfArtifactsAreUnderstood() {
        #expect(ServerSource.proxied("mlflow-artifacts:/1/r/artifacts") == "1/r/artifacts")
        #expect(ServerSource.proxied("mlflow-artifacts://host:1/1/r") == "1/r")
        #expect(ServerSource.proxied("mlflow-artifacts:") == "")
        #expect(ServerSource.proxied("s3://bucket/1") == nil)
        let moved = Importer.Moved(roots: [("mlflow-artifacts:/1/r", "runs:/r"), ("", "never")])
        #expect(Importer.rewritten("mlflow-artifacts:/1/r/model", moved) == "runs:/r/model")
        #expect(Importer.rewritten("mlflow-artifacts:/1/rr/model", moved) == "mlflow-artifacts:/1/rr/model")
        #expect(Importer.rewritten("", moved) == "")
    }

    @Test func pointsAreEqualWhereTheirValuesAre() {
        func point(_ value: Double) -> String { ImportedPoint(milliseconds: 1, step: 2, value: value).fingerprint }
        #expect(point(.nan) == point(-.nan) && point(0) == point(-0.0))
        #expect(point(.infinity) == point(.greatestFiniteMagnitude) && point(1) != point(1.0.nextUp))
    }

    @Test func aSourceIsAnAddress() {
        for text in ["", "x", "ftp://a", "http://", "http:///x", "http://[", "http://a b"] {
            #expect(throws: PlatformError.self, "\(text)") { try HTTPEndpoint(base: text) }
        }
        #expect((try? HTTPEndpoint(base: "http://ada:secret@host:1/x/?q#f"))?.base == "http://host:1/x")
    }
}
