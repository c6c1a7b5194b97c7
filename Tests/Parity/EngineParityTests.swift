import Datasets
import Definitions
import FeatureStore
import Foundation
import PlatformCore
import SparkAdapter
import StoragePorts
import Testing

/// The plan in the languages of other engines gives the oracle's cells, bit for bit.
///
/// The engines are large, so these run where a variable names one: `make test-engines` installs them and sets it.
@Suite(.serialized)
struct EngineParityTests {
    static let sparkPython = ProcessInfo.processInfo.environment["BOTTEGA_SPARK_PYTHON"]
    /// One session for all tests.
    static let spark = SparkEngine(
        configuration: SparkConfiguration(
            pythonPath: sparkPython ?? "", memoryByteCount: 1 << 30,
            folder: FileManager.default.temporaryDirectory.appending(path: "spark-\(getpid())").path,
            shufflePartitionCount: 2))

    /// Compares every cell; gives how many.
    static func compare(_ rows: [JSONValue], with history: GeneratedHistory, seed: UInt64) -> Int {
        #expect(rows.count == history.questions.count)
        var cells = 0
        for (row, question) in zip(rows, history.questions) {
            let expected = OracleFeatures.answer(
                history.view, history.source,
                rows: history.rows.filter { WindowParityTests.bytesAgree(history, $0.row, question.keys) },
                keys: question.keys, at: question.time)
            for (feature, wanted) in zip(history.view.features, expected.values) {
                let found = WindowParityTests.cell(row[feature.name] ?? .null, feature.type)
                cells += 1
                #expect(
                    WindowParityTests.exactText(found) == WindowParityTests.exactText(wanted),
                    "\(feature.name) of \(question.keys) at \(question.time), seed \(seed)")
            }
        }
        return cells
    }

    @Test(.enabled(if: sparkPython != nil), arguments: UInt64(0)..<6)
    func sparkIsTheOracle(seed: UInt64) async throws {
        let history = try GeneratedHistory(seed: seed, rowCount: 420, questionCount: 150)
        let sql = try FeatureSQL(view: history.view, source: history.source, dialect: .spark)
        let folder = FileManager.default.temporaryDirectory.appending(path: "engines-\(getpid())-\(seed)")
        defer { try? FileManager.default.removeItem(at: folder) }
        let setup =
            try history.sparkTables(in: folder)
            + sql.statements(events: "history", questions: "questions", result: "answers")
        try setup.joined(separator: ";\n--@@\n").write(
            toFile: "/tmp/engines-work/setup\(seed).sql", atomically: false, encoding: .utf8)
        let columns = history.view.features.map { SQLDialect.spark.identifier($0.name) }
        let start = ContinuousClock.now
        let rows = try await Self.spark.rows(
            "SELECT \(columns.joined(separator: ", ")) FROM answers ORDER BY __row",
            setup: setup.joined(separator: ";\n"))
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        let cells = Self.compare(rows, with: history, seed: seed)
        print("spark: seed \(seed), \(cells) cells compared, \(seconds) s")
    }
}
