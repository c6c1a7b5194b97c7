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
            // Small data: planning and compiling would be nearly all of the time, and each broadcast is a job of its own.
            more: [
                "spark.sql.adaptive.enabled": "false", "spark.sql.codegen.wholeStage": "false",
                "spark.sql.autoBroadcastJoinThreshold": "-1",
                "spark.driver.extraJavaOptions": "-Duser.timezone=UTC -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            ]))
    /// Every function over each, and some over one minute: what an engine plans for one window it plans for all.
    static let windows = ["10s", "5m"]

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

    @Test(.enabled(if: sparkPython != nil), arguments: [1, 3, 6, GeneratedHistory.estimating])
    func sparkIsTheOracle(seed: UInt64) async throws {
        let history =
            try seed == GeneratedHistory.estimating
            ? GeneratedHistory(seed: seed)
            : GeneratedHistory(seed: seed, rowCount: 300, questionCount: 100, windows: Self.windows)
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
            setup: setup.joined(separator: ";\n"), limits: QueryLimits(deadline: .seconds(900)))
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

    /// Runs a script as it is printed in a Flink of its own in this machine; gives the rows of its table `output`.
    static func flink(_ script: String, in folder: URL) throws -> [JSONValue] {
        var text = script
        for (mark, place) in ["events": "history", "questions": "questions", "work": "work", "output": "output"] {
            text = text.replacing("${\(mark)}", with: folder.appending(path: place).path)
        }
        let file = folder.appending(path: "job.sql")
        try Data(text.utf8).write(to: file)
        let (output, errors) = (folder.appending(path: "out"), folder.appending(path: "err"))
        for file in [output, errors] { try Data().write(to: file) }
        let program = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Engines/FlinkJob.java")
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [
            "timeout", "900", "java", "-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp",
            "\(flinkHome ?? "")/lib/*", program.path, file.path,
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
        let parts = try FileManager.default.subpathsOfDirectory(atPath: folder.appending(path: "output").path).sorted()
        var rows: [JSONValue] = []
        for part in parts where part.split(separator: "/").last?.hasPrefix("part-") == true {
            let lines = try Data(contentsOf: folder.appending(path: "output/\(part)")).split(separator: 10)
            rows += try lines.map { try JSONValue.parse([UInt8]($0)) }
        }
        return rows
    }

    @Test
    func whatFlinkCannotSayIsRefusedByName() throws {
        let history = try GeneratedHistory(seed: 0, rowCount: 1, questionCount: 1)
        let features = history.view.features.filter { $0.name.hasSuffix("_10s") }.map {
            FeatureSQL.Output(feature: $0.name, column: $0.name)
        }
        for output in features {
            let isRefused =
                ["last_n", "shape_last", "shape_first"].contains {
                    output.feature.contains($0)
                }
            var words: String?
            do {
                _ = try FeatureSQL(view: history.view, source: history.source, outputs: [output], dialect: .flink)
            } catch {
                words = "\(error)"
            }
            #expect((words != nil) == isRefused, "\(output.feature)")
            #expect(words?.contains("use DuckDB or Spark") != false, "\(output.feature)")
        }
        #expect(throws: PlatformError.self) { try FlinkStreamJob(view: history.view, source: history.source) }
        let estimates = try GeneratedHistory(seed: 0, rowCount: 1, questionCount: 1, functions: .estimates)
        #expect(throws: PlatformError.self) { try FlinkStreamJob(view: estimates.view, source: estimates.source) }
    }

    @Test(.enabled(if: flinkHome != nil), arguments: [1, GeneratedHistory.estimating])
    func flinkIsTheOracle(seed: UInt64) throws {
        let history =
            try seed == GeneratedHistory.estimating
            ? GeneratedHistory(seed: seed)
            : GeneratedHistory(
                seed: seed, rowCount: 300, questionCount: 100, functions: .flat, windows: Self.windows)
        let folder = FileManager.default.temporaryDirectory.appending(path: "flink-\(getpid())-\(seed)")
        defer { try? FileManager.default.removeItem(at: folder) }
        _ = try history.tables(.flink, in: folder)
        let table = TableScan(
            table: history.source.name, version: 0, sql: "", sparkSQL: "", rowCount: history.rows.count)
        let job = try FeatureJob(view: history.view, source: history.source, table: table, dialect: .flink)
        let start = ContinuousClock.now
        let rows = try Self.flink(job.script, in: folder)
        let sorted = rows.sorted { ($0["__row"]?.integerValue ?? 0) < ($1["__row"]?.integerValue ?? 0) }
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        let cells = Self.compare(sorted, with: history, seed: seed)
        print("flink: seed \(seed), \(cells) cells compared, \(seconds) s")
    }

    /// The rows of a history that are known when they happen, one output for each.
    @Test(.enabled(if: flinkHome != nil), arguments: [UInt64(2)])
    func aFlinkStreamIsTheOracleAfterEveryEvent(seed: UInt64) throws {
        let history = try GeneratedHistory(
            seed: seed, rowCount: 300, questionCount: 1, isOnTime: true, functions: .streamed, windows: Self.windows)
        let folder = FileManager.default.temporaryDirectory.appending(path: "stream-\(getpid())-\(seed)")
        defer { try? FileManager.default.removeItem(at: folder) }
        _ = try history.tables(.flink, in: folder)
        let job = try FlinkStreamJob(
            view: history.view, source: history.source, latenessMilliseconds: 3_600_000)
        let start = ContinuousClock.now
        let rows = try Self.flink(job.script, in: folder)
        let seconds = (ContinuousClock.now - start) / .seconds(1)
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
        // Every event of a known entity has its row.
        let wanted = history.rows.filter { logged in
            WindowParityTests.hasKey(history, logged.row)
        }
        #expect(Set(rows.map { $0["__sequence"]?.integerValue ?? -1 }) == Set(wanted.map { Int64($0.sequence) }))
        #expect(rows.count == wanted.count)
        print("flink stream: seed \(seed), \(rows.count) events, \(cells) cells compared, \(seconds) s")
    }
}
