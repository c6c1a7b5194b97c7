import Aggregation
import ColumnFiles
import Datasets
import Definitions
import FeatureStore
import Foundation
import PlatformCore
import StoragePorts
import Testing

/// Parquet in, Parquet out: the native join gives the oracle's cells, whatever its threads and memory.
struct JoinParityTests {
    private struct Case {
        let history: GeneratedHistory
        let plan: AggregationPlan
        /// Positions of the plan's features in the view.
        let positions: [Int]
        let folder: URL
        let columns: [PointInTimeJoin.Column]
        let views: [PointInTimeJoin.View]
        var questions: String { folder.appending(path: "questions.parquet").path }

        init(seed: UInt64, rows: Int, questions: Int) async throws {
            history = try GeneratedHistory(
                seed: seed, rowCount: rows, questionCount: questions, functions: .flat)
            plan = AggregationPlan(view: history.view, source: history.source)
            positions = Array(plan.features.indices)
            folder = FileManager.default.temporaryDirectory.appending(path: "join-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            let keys = history.view.joinKeys.map(SQLText.identifier).joined(separator: ", ")
            let folder = folder.path
            try await CommandLineEngine().execute(
                """
                \(history.questionTable);
                COPY (SELECT * FROM \(history.table)) TO '\(folder)/events.parquet' (FORMAT parquet, ROW_GROUP_SIZE 2048);
                COPY (SELECT * FROM '\(folder)/events.parquet' WHERE __sequence % 3 = 0) TO '\(folder)/a.parquet' (FORMAT parquet, COMPRESSION zstd);
                COPY (SELECT * FROM '\(folder)/events.parquet' WHERE __sequence % 3 > 0) TO '\(folder)/b.parquet' (FORMAT parquet, PARQUET_VERSION V2);
                COPY (SELECT __row, __time, \(keys) FROM questions ORDER BY __row) TO '\(folder)/questions.parquet' (FORMAT parquet)
                """)
            views = [
                PointInTimeJoin.View(
                    plan: plan, source: history.source, events: ["a", "b"].map { "\(folder)/\($0).parquet" },
                    questionKeys: history.view.joinKeys,
                    outputs: plan.features.map(\.name))
            ]
            columns = [.question("__row")] + plan.features.indices.map { .feature(view: 0, feature: $0) }
        }

        func run(_ settings: PointInTimeJoin.Settings, to name: String) async throws -> (PointInTimeJoin.Report, String)
        {
            let output = folder.appending(path: name).path
            let report = try await PointInTimeJoin(settings).run(
                [PointInTimeJoin.Table(questions: questions, output: output)], time: "__time", views: views,
                columns: columns)
            return (report, output)
        }
    }

    private static func cell(_ vector: ColumnVector, _ row: Int, _ type: ColumnType) -> CellValue {
        guard vector.hasValue(row) else { return .null }
        switch type {
        case .float64: return .double(Double(bitPattern: UInt64(bitPattern: vector.words[row])))
        case .bool: return .bool(vector.words[row] != 0)
        case .string: return .text(vector.text(row))
        default: return .integer(vector.words[row])
        }
    }

    @Test(arguments: UInt64(0)..<3)
    func joinIsTheOracle(seed: UInt64) async throws {
        let test = try await Case(seed: seed, rows: 420, questions: 150)
        defer { try? FileManager.default.removeItem(at: test.folder) }
        let (report, output) = try await test.run(
            PointInTimeJoin.Settings(spillFolder: test.folder.path), to: "out.parquet")
        #expect(report.questions == test.history.questions.count)
        let reader = try ParquetReader(FileBytes(output))
        let vectors = try reader.columns.indices.map { try reader.column($0, ofRowGroup: 0) }
        for (row, question) in test.history.questions.enumerated() {
            let rows = test.history.rows.filter { logged in
                zip(test.history.view.joinKeys, question.keys).allSatisfy { name, key in
                    let cell = test.history.source.columns.firstIndex { $0.name == name }.flatMap {
                        logged.row.cells[$0].keyText
                    }
                    return cell.map { Array($0.utf8) } == key.map { Array($0.utf8) } && cell?.isEmpty == false
                }
            }
            let expected = OracleFeatures.answer(
                test.history.view, test.history.source, rows: rows, keys: question.keys, at: question.time)
            for (index, feature) in test.plan.features.enumerated() {
                let found = Self.cell(vectors[index + 1], row, feature.type)
                #expect(
                    WindowParityTests.exactText(found)
                        == WindowParityTests.exactText(expected.values[test.positions[index]]),
                    "\(feature.name) of \(question.keys) at \(question.time), seed \(seed)")
            }
        }
    }

    @Test
    func threadsAndMemoryDoNotChangeTheBytes() async throws {
        let test = try await Case(seed: 4, rows: 2500, questions: 600)
        defer { try? FileManager.default.removeItem(at: test.folder) }
        var settings = PointInTimeJoin.Settings(threads: 2, spillFolder: test.folder.path)
        let (_, first) = try await test.run(settings, to: "first.parquet")
        settings.threads = 1
        let (_, second) = try await test.run(settings, to: "second.parquet")
        settings.threads = 3
        settings.memoryByteCountMax = 100_000
        let (report, third) = try await test.run(settings, to: "third.parquet")
        #expect(report.spilledByteCount > 0)
        let bytes = try Data(contentsOf: URL(filePath: first))
        #expect(bytes == (try Data(contentsOf: URL(filePath: second))))
        #expect(bytes == (try Data(contentsOf: URL(filePath: third))))
        // The spill file has no name, so nothing of it is left.
        let names = try FileManager.default.contentsOfDirectory(atPath: test.folder.path)
        #expect(!names.contains { $0.hasPrefix("spill") })
    }

    @Test
    func aFolderThatCannotHoldTheSpillIsAClearError() async throws {
        let test = try await Case(seed: 4, rows: 900, questions: 50)
        defer { try? FileManager.default.removeItem(at: test.folder) }
        let settings = PointInTimeJoin.Settings(memoryByteCountMax: 1000, spillFolder: "/proc/nowhere")
        let error = await #expect(throws: StoreError.self) { _ = try await test.run(settings, to: "out.parquet") }
        #expect(error?.message.contains("spill") == true)
    }
}
