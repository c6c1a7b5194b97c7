import Foundation
import PlatformCore
import StoragePorts
import Synchronization
import Testing

@testable import DuckDBAdapter

/// The executable of the `duckdb-cli` wheel: `BOTTEGA_DUCKDB`, or the one in the project's `.venv`.
enum DuckDBProgram {
    static let path: String? = {
        if let path = ProcessInfo.processInfo.environment["BOTTEGA_DUCKDB"] { return path }
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().path()
        let found = (try? FileManager.default.contentsOfDirectory(atPath: root + "/.venv/lib")) ?? []
        return found.map { "\(root)/.venv/lib/\($0)/site-packages/duckdb_cli/duckdb" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }()
}

@Suite(.enabled(if: DuckDBProgram.path != nil, "duckdb-cli is not installed; set BOTTEGA_DUCKDB"))
final class DuckDBEngineTests {
    let folder = NSTemporaryDirectory() + "duckdb-engine-\(UUID().uuidString)"
    let engine: DuckDBEngine

    init() throws {
        engine = DuckDBEngine(
            configuration: DuckDBConfiguration(
                executablePath: DuckDBProgram.path ?? "", spillFolder: folder, rowByteCountMax: 100_000))
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: folder) }

    private func failure(_ sql: String, _ limits: QueryLimits = QueryLimits()) async -> StoreError? {
        do { try await engine.query(sql, setup: "", limits: limits) { _ in } } catch { return error as? StoreError }
        return nil
    }

    @Test func givesRowsInOrderWithExactIntegers() async throws {
        let rows = try await engine.rows(
            "SELECT range AS n, 9223372036854775807 AS big, 'a\n.shell echo x' AS words FROM range(3) ORDER BY n DESC",
            setup: "SELECT 'not a row'; CREATE TABLE t AS SELECT 1 x;")
        #expect(rows.map { $0["n"]?.integerValue } == [2, 1, 0])
        #expect(rows[0]["big"] == .integer(.max))
        #expect(rows[0]["words"] == "a\n.shell echo x")
    }

    @Test func readsNumbersThatJSONCannotHoldAsNull() async throws {
        let rows = try await engine.rows(
            "SELECT 'NaN'::DOUBLE a, 'Infinity'::DOUBLE b, '-Infinity'::DOUBLE c, 'NaN, \\\" Infinity' d, 1.5::DOUBLE e"
        )
        #expect(rows == [["a": nil, "b": nil, "c": nil, "d": "NaN, \\\" Infinity", "e": 1.5]])
    }

    @Test func givesNoRowForAnEmptyAnswer() async throws {
        #expect(try await engine.rows("SELECT 1 AS x WHERE false").isEmpty)
    }

    @Test func showsMomentsInUTC() async throws {
        #expect(
            try await engine.rows("SELECT CAST(make_timestamptz(1000000) AS VARCHAR) t") == [
                ["t": "1970-01-01 00:00:01+00"]
            ])
    }

    @Test func saysWhatIsWrongWithAQuery() async throws {
        let parser = await failure("SELEC 1")
        #expect(parser?.code == .invalidInput)
        #expect(parser?.message.hasPrefix("Parser Error") == true)
        #expect(await failure("SELECT nope")?.message.hasPrefix("Binder Error") == true)
        #expect(await failure("SELECT CAST('abc' AS INT)")?.code == .invalidInput)
        #expect(await failure("SELECT * FROM read_parquet('/does/not/exist')")?.code == .notFound)
    }

    @Test func stopsAtTheFirstError() async throws {
        let target = folder + "/out.csv"
        await #expect(throws: StoreError.self) {
            try await self.engine.execute("SELECT nope; COPY (SELECT 1) TO '\(target)';")
        }
        #expect(!FileManager.default.fileExists(atPath: target))
    }

    @Test func endsAQueryAtItsDeadline() async throws {
        let began = ContinuousClock.now
        let error = await failure(
            "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range = -1",
            QueryLimits(deadline: .milliseconds(300)))
        #expect(error?.code == .limitExceeded)
        #expect(ContinuousClock.now - began < .seconds(60))
    }

    @Test func endsAQueryWhoseCallerWasCancelled() async throws {
        let call = Task { [engine] in
            try await engine.execute(
                "CREATE TABLE t AS SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range = -1"
            )
        }
        try await Task.sleep(for: .milliseconds(200))
        call.cancel()
        await #expect(throws: (any Error).self) { try await call.value }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
    }

    @Test func reportsTooLittleMemory() async throws {
        let error = await failure(
            "SELECT list(md5(CAST(range AS VARCHAR))) AS x FROM range(3000000)",
            QueryLimits(memoryByteCountMax: 20 << 20))
        #expect(error?.code == .limitExceeded)
    }

    @Test func refusesARowThatIsTooLong() async throws {
        #expect(await failure("SELECT repeat('x', 200000) AS x")?.code == .limitExceeded)
    }

    @Test func handsOverTheErrorOfWhoReadsTheRows() async throws {
        struct Enough: Error {}
        let seen = Mutex(0)
        await #expect(throws: Enough.self) {
            try await self.engine.query("SELECT * FROM range(5000000)", setup: "", limits: QueryLimits()) { _ in
                if seen.withLock({
                    $0 += 1; return $0
                }) == 3 {
                    throw Enough()
                }
            }
        }
        #expect(seen.withLock { $0 } == 3)
    }

    @Test func namesAProgramThatIsNotThere() async throws {
        let missing = DuckDBEngine(
            configuration: DuckDBConfiguration(executablePath: "/does/not/exist", spillFolder: folder))
        do {
            try await missing.execute("SELECT 1")
            Issue.record("a missing program ran")
        } catch {
            #expect(error.code == .unavailable)
            #expect(error.message.contains("/does/not/exist"))
        }
        await #expect(throws: StoreError.self) { _ = try await missing.version() }
    }

    @Test func leavesNothingBehind() async throws {
        try await engine.execute("CREATE TABLE t AS SELECT 1 x; SELECT * FROM t")
        _ = await failure("SELECT nope")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
        #expect(try await engine.version() == "DuckDB v1.5.5")
    }

    @Test func splitsLinesHoweverTheyArrive() throws {
        let text = Array("{\"a\":1}\n\n{\"b\":2}\n{\"c\":3}".utf8)
        for size in 1...text.count {
            var splitter = JSONLineSplitter(byteCountMax: 7)
            var lines: [String] = []
            for start in stride(from: 0, to: text.count, by: size) {
                try Array(text[start..<min(text.count, start + size)]).withUnsafeBytes {
                    try splitter.add($0) { lines.append(String(decoding: $0, as: UTF8.self)) }
                }
            }
            try splitter.finish { lines.append(String(decoding: $0, as: UTF8.self)) }
            #expect(lines == ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"])
        }
    }

    @Test func mapsTheEnginesWords() {
        #expect(DuckDBFailure.error("IO Error: Could not write: No space left on device\n", exitCode: 1).code == .full)
        #expect(
            DuckDBFailure.error("Out of Memory Error: failed\n\nmore", exitCode: 1).message
                == "Out of Memory Error: failed")
        #expect(DuckDBFailure.error("", exitCode: 3).code == .unavailable)
        #expect(DuckDBFailure.died(signal: 9).message.contains("SIGKILL"))
    }
}
