import Definitions
import Foundation
import PlatformCore
import StoragePorts
import Testing

@testable import Datasets

@Suite(.enabled(if: Workbench.duckDBPath != nil, "set BOTTEGA_DUCKDB"))
struct TableServiceTests {
    private func push(_ bench: Workbench, _ numbers: Range<Int>) async throws {
        _ = try await bench.service().push(
            bench.source, rows: numbers.map { bench.row($0) }, idempotencyKey: nil, now: bench.clock.now())
    }

    @Test func movesEveryRowOnceAndReadsOldVersions() async throws {
        let bench = try Workbench()
        let empty = try await bench.tables().scan(bench.source)
        #expect(empty.version == -1)
        #expect(try await bench.engine.rows("SELECT count(dep_delay) n FROM \(empty.sql)") == [["n": 0]])
        try await push(bench, 0..<25)
        let first = try await bench.tables(fileRowCountMax: 10).flush(bench.source)
        #expect(first.rows == 25 && first.version == 2 && first.nextOffset == 25)
        try await push(bench, 20..<40)
        let tables = bench.tables()
        #expect(try await tables.flush(bench.source).rows == 15)
        #expect(try await tables.flush(bench.source).rows == 0)
        for (version, rows) in [(0, 10), (1, 20), (2, 25), (3, 40)] as [(Int64, Int)] {
            let scan = try await tables.scan(bench.source, version: version)
            #expect(scan.rowCount == rows)
            let answer = try await bench.engine.rows(
                "SELECT count(*) n, sum(__sequence) s, min(epoch_ms(departed_at) - __event_time) d, max(seats) m FROM \(scan.sql)"
            )
            #expect(
                answer == [["n": .integer(Int64(rows)), "s": .string(String(rows * (rows - 1) / 2)), "d": 0, "m": 100]])
        }
        #expect(try await tables.history(of: bench.source.name).map(\.rowCount) == [10, 20, 25, 40])
        await #expect(throws: StoreError.self) { _ = try await tables.scan(bench.source, version: 4) }
    }

    @Test func letsNothingStandTwiceWhenTwoWritersFlush() async throws {
        let bench = try Workbench()
        try await push(bench, 0..<30)
        let writers = (0..<3).map { _ in bench.tables(fileRowCountMax: 10) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in writers { group.addTask { try await writer.flush(bench.source) } }
            try await group.waitForAll()
        }
        let scan = try await bench.tables().scan(bench.source)
        #expect(
            try await bench.engine.rows("SELECT count(DISTINCT __sequence) d, count(*) n FROM \(scan.sql)") == [
                ["d": 30, "n": 30]
            ])
    }

    @Test func keepsRefusedRowsInATable() async throws {
        let bench = try Workbench()
        _ = try await bench.service().push(
            bench.source, rows: [bench.row(1, delay: "abc"), 5], idempotencyKey: nil, now: bench.clock.now())
        try await bench.tables().flushQuarantine(of: bench.source.name)
        let scan = try await bench.tables().scanQuarantine(of: bench.source.name)
        let rows = try await bench.engine.rows("SELECT reason, position FROM \(scan.sql) ORDER BY position")
        #expect(rows[0] == ["reason": "dep_delay: 'abc' is not a number", "position": 1])
        #expect(rows.count == 2)
    }

    @Test func readsOldRowsUnderANewSchema() async throws {
        let bench = try Workbench()
        try await push(bench, 0..<5)
        try await bench.tables().flush(bench.source)
        let wider = try Workbench(
            Workbench.schema.replacing("type: int64}", with: "type: string}\n  - {name: gate, type: string}")
                .replacing("  - {name: few_seats, column: seats, range: [1, 900], severity: warn}\n", with: ""))
        try await push(bench, 5..<7)  // still integers: they no longer fit and read as null
        try await bench.tables().flush(wider.source)
        let scan = try await bench.tables().scan(wider.source)
        let rows = try await bench.engine.rows("SELECT count(*) n, count(gate) g, count(flight) f FROM \(scan.sql)")
        #expect(rows == [["n": 7, "g": 0, "f": 7]])
    }

    @Test func refusesALogThatIsNoDeltaLog() async throws {
        for text in [
            "{", "5", "{\"add\":{\"path\":\"../x\",\"size\":1}}", "{\"add\":{\"path\":\"x\"}}",
            "{\"protocol\":{\"minReaderVersion\":3,\"minWriterVersion\":7}}",
        ] {
            let bench = try Workbench()
            try await bench.objects.put(Array(text.utf8), at: "tables/departures/_delta_log/00000000000000000000.json")
            await #expect(throws: StoreError.self, "\(text)") { _ = try await bench.tables().scan(bench.source) }
        }
    }
}
