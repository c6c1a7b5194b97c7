import Aggregation
import ContentHashing
import Datasets
import Definitions
import Foundation
import PlatformCore
import SparkAdapter
import StoragePorts
import Testing

@testable import FeatureStore

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
            shufflePartitionCount: 1,
            // Small data: planning and compiling would be nearly all of the time.
            more: ["spark.sql.adaptive.enabled": "false", "spark.sql.codegen.wholeStage": "false"]))

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
                let found = WindowParityTests.cell(
                    row[feature.name] ?? .null, feature.type, of: feature.elementType)
                cells += 1
                #expect(
                    WindowParityTests.exactText(found) == WindowParityTests.exactText(wanted),
                    "\(feature.name) of \(question.keys) at \(question.time), seed \(seed)")
            }
        }
        return cells
    }

    @Test(.enabled(if: sparkPython != nil), arguments: [UInt64(0), 1, 2, 3])
    func sparkIsTheOracle(seed: UInt64) async throws {
        let history = try GeneratedHistory(seed: seed, rowCount: 300, questionCount: 100, functions: .listed)
        let sql = try FeatureSQL(view: history.view, source: history.source, dialect: .spark)
        let folder = FileManager.default.temporaryDirectory.appending(path: "engines-\(getpid())-\(seed)")
        defer { try? FileManager.default.removeItem(at: folder) }
        let setup =
            try history.tables(.spark, in: folder)
            + sql.statements(events: "history", questions: "questions", result: "answers")
        let columns = history.view.features.map { SQLDialect.spark.identifier($0.name) }
        let start = ContinuousClock.now
        let rows = try await Self.spark.rows(
            "SELECT \(columns.joined(separator: ", ")) FROM answers ORDER BY __row",
            setup: setup.joined(separator: ";\n"))
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        let cells = Self.compare(rows, with: history, seed: seed)
        print("spark: seed \(seed), \(cells) cells compared, \(seconds) s")
    }

    @Test(.enabled(if: sparkPython != nil))
    func wideSumsBecomeTheSameDoublesInSpark() async throws {
        let dialect = SQLDialect.spark
        let values = WindowParityTests.wideValues
        let list = values.map { "(CAST('\($0)' AS DECIMAL(38, 0)))" }.joined(separator: ", ")
        let part = "(v % CAST(562949953421312 AS DECIMAL(38, 0)))"
        let rows = try await Self.spark.rows(
            """
            SELECT \(dialect.double("v")) AS d, \(dialect.double("v")) / \(dialect.real(1e6)) AS s,
            \(dialect.deviation("p", "q", "n", dialect.real(1e6))) AS e
            FROM (SELECT v, p, CAST(3 AS BIGINT) AS n, 3 * p * p + 5 AS q FROM (
            SELECT v, CAST(\(part) AS DECIMAL(38, 0)) AS p FROM (VALUES \(list)) AS t(v)) t) t
            """)
        #expect(rows.count == values.count)
        for (row, value) in zip(rows, values) {
            #expect(row["d"]?.doubleValue?.bitPattern == ExactArithmetic.double(value).bitPattern)
            #expect(row["s"]?.doubleValue == ExactArithmetic.sum(value, power: 1e6))
            let part = value % (1 << 49)
            let deviation = ExactArithmetic.standardDeviation(part, squares: 3 * part * part + 5, count: 3, power: 1e6)
            #expect(row["e"]?.doubleValue?.bitPattern == deviation?.bitPattern)
        }
    }

    @Test(
        .enabled(if: sparkPython != nil),
        arguments: ["by: time, validation: 0.2, test: 0.25", "by: random, validation: 0.2, test: 0.25, seed: 3"])
    func sparkBuildsTheSameTrainingSet(split: String) async throws {
        let tables = TrainingSetTests.generate()
        let store = try FolderObjectStore()
        let content = ContentStore(base: store)
        let duckDB = try CommandLineEngine()
        let native = try await TrainingSetTests().build(tables, to: content, split: split)
        let built = try await TrainingSetTests().build(
            tables, to: content, split: split, by: Self.spark,
            scans: { source, rows in
                let scan = TrainingSetTests.scan(source, rows)
                let path = try await content.base.stagingPath(suffix: ".parquet")
                try await duckDB.execute(
                    "COPY (SELECT * FROM \(scan.sql)) TO \(SQLText.literal(path)) (FORMAT parquet)")
                return TableScan(
                    table: scan.table, version: scan.version, sql: scan.sql,
                    sparkSQL: "(SELECT * FROM parquet.`\(path)`)", rowCount: scan.rowCount)
            })
        #expect(built.manifest.engine.hasPrefix("Spark 4"))
        #expect(built.manifest.columns == native.manifest.columns)
        #expect(built.manifest.questions == native.manifest.questions)
        var cells = 0
        for (left, right) in zip(built.manifest.slices, native.manifest.slices) {
            #expect(left.rows == right.rows && left.positiveShare == right.positiveShare, "\(left.name)")
            var texts: [[String]] = []
            for part in [left.part, right.part] {
                let path = try await content.localPath(of: part)
                texts.append(
                    try await duckDB.rows(
                        "SELECT *, file_row_number AS n FROM read_parquet(\(SQLText.literal(path)), file_row_number = true) ORDER BY n"
                    ).map(\.text))
            }
            #expect(texts[0] == texts[1], "\(left.name)")
            cells += left.rows * built.manifest.columns.count
        }
        #expect(cells > 1000)
        print("spark: training set, \(cells) cells compared")
    }

    static let flinkHome = ProcessInfo.processInfo.environment["BOTTEGA_FLINK_HOME"]

    /// Runs statements, the last of which is a query, in a Flink of their own in this machine; `mode` is `batch` or `streaming`.
    static func flink(_ statements: [String], mode: String, in folder: URL) throws -> [JSONValue] {
        let script = folder.appending(path: "job.sql")
        let text = statements.joined(separator: ";\n").replacing(SQLDialect.workFolder, with: folder.path)
        try Data((text + ";\n").utf8).write(to: script)
        let (output, errors) = (folder.appending(path: "out"), folder.appending(path: "err"))
        for file in [output, errors] { try Data().write(to: file) }
        let program = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Engines/FlinkJob.java")
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [
            "java", "-Xmx1g", "-cp", "\(flinkHome ?? "")/lib/*", program.path, script.path, mode, "1",
        ]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try FileHandle(forWritingTo: output)
        process.standardError = try FileHandle(forWritingTo: errors)
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            let words = String(decoding: try Data(contentsOf: errors), as: UTF8.self)
            throw PlatformError(.unavailable, "flink", String(words.suffix(3000)))
        }
        return try Data(contentsOf: output).split(separator: 10).map { try JSONValue.parse([UInt8]($0)) }
    }

    @Test(.enabled(if: flinkHome != nil), arguments: [UInt64(0), 3])
    func flinkIsTheOracle(seed: UInt64) throws {
        let history = try GeneratedHistory(seed: seed, rowCount: 300, questionCount: 100, functions: .plain)
        let sql = try FeatureSQL(view: history.view, source: history.source, dialect: .flink)
        let folder = FileManager.default.temporaryDirectory.appending(path: "flink-\(getpid())-\(seed)")
        defer { try? FileManager.default.removeItem(at: folder) }
        let statements =
            try history.tables(.flink, in: folder)
            + sql.statements(events: "history", questions: "questions", result: "answers")
        let columns = history.view.features.map { SQLDialect.flink.identifier($0.name) }
        let start = ContinuousClock.now
        let rows = try Self.flink(
            statements + ["SELECT __row, \(columns.joined(separator: ", ")) FROM answers"], mode: "batch", in: folder)
        let sorted = rows.sorted { ($0["__row"]?.integerValue ?? 0) < ($1["__row"]?.integerValue ?? 0) }
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        let cells = Self.compare(sorted, with: history, seed: seed)
        print("flink: seed \(seed), \(cells) cells compared, \(seconds) s")
    }

    /// The rows of a history that are known when they happen, without `first`, which a stream cannot say.
    @Test(.enabled(if: flinkHome != nil), arguments: [UInt64(1), 2])
    func aFlinkStreamIsTheOracleAfterEveryEvent(seed: UInt64) throws {
        let history = try GeneratedHistory(
            seed: seed, rowCount: 200, questionCount: 1, isOnTime: true, functions: .plain, isPlain: true)
        let folder = FileManager.default.temporaryDirectory.appending(path: "stream-\(getpid())-\(seed)")
        defer { try? FileManager.default.removeItem(at: folder) }
        _ = try history.tables(.flink, in: folder)
        let job = try FlinkStreamJob(view: history.view, source: history.source)
        let events = FlinkStreamJob.events(
            history.source, latenessMilliseconds: 3_600_000,
            with: "'connector' = 'filesystem', 'format' = 'json', 'path' = '\(folder.path)/history'")
        let rows = try Self.flink([events, job.query], mode: "streaming", in: folder)
        let bySequence = Dictionary(
            history.rows.map { (Int64($0.sequence), $0.row) }, uniquingKeysWith: { first, _ in first })
        var cells = 0
        for row in rows {
            let sequence = row["__sequence"]?.integerValue ?? -1
            let event = try #require(bySequence[sequence])
            let keys = history.view.joinKeys.map { row[$0]?.stringValue }
            let moment = event.eventTime.milliseconds + (history.view.inclusive ? 0 : 1)
            let expected = OracleFeatures.answer(
                history.view, history.source,
                rows: history.rows.filter { WindowParityTests.bytesAgree(history, $0.row, keys) }, keys: keys,
                at: moment)
            for (feature, wanted) in zip(history.view.features, expected.values) {
                let found = WindowParityTests.cell(row[feature.name] ?? .null, feature.type)
                cells += 1
                #expect(
                    WindowParityTests.exactText(found) == WindowParityTests.exactText(wanted),
                    "\(feature.name) of \(keys) at \(moment), seed \(seed)")
            }
        }
        #expect(rows.count > 100)
        print("flink stream: seed \(seed), \(rows.count) events, \(cells) cells compared")
    }
}
