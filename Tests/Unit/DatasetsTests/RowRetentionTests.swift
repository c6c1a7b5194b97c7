import Definitions
import Foundation
import PlatformCore
import StoragePorts
import Testing

@testable import Datasets

/// Rows that leave a table by their source's retention.
@Suite(.enabled(if: Workbench.duckDBPath != nil, "set BOTTEGA_DUCKDB"))
struct RowRetentionTests {
    /// `rows` in the order of the log, a row a second; ten to a file.
    private func table(_ bench: Workbench, _ rows: [Int]) async throws -> TableService {
        let tables = bench.tables()
        for first in stride(from: 0, to: rows.count, by: 10) {
            _ = try await bench.service().push(
                bench.source, rows: rows[first..<min(first + 10, rows.count)].map { bench.row($0) },
                idempotencyKey: nil,
                now: bench.clock.now())
            try await tables.flush(bench.source)
        }
        return tables
    }

    private func flights(_ bench: Workbench, _ tables: TableService, version: Int64? = nil) async throws -> [String] {
        try await bench.engine.rows(
            "SELECT flight AS f FROM \(try await tables.scan(bench.source, version: version).sql)"
        )
        .compactMap { $0["f"]?.stringValue }
    }

    private func moment(_ number: Int) -> EventTime {
        EventTime(milliseconds: 1_380_000_000_000 + Int64(number) * 1000)
    }

    @Test func oldRowsLeaveAndTheOthersKeepTheirOrder() async throws {
        let bench = try Workbench()
        // Old rows in the first file (all of it), in the second and the last (some), late as rows may be.
        let rows =
            Array(0..<10) + [3, 40, 41, 42, 43, 44, 45, 46, 47, 48].map { $0 + 100 } + Array(200..<210)
            + [5, 300].map { $0 + 20 }
        let tables = try await table(bench, rows)
        let before = try await tables.scan(bench.source)
        #expect(before.retainedFrom == nil)
        let cutoff = moment(110)
        let made = TableReference(version: before.version, by: "dataset/abc")
        let rehearsal = try await tables.removeRows(
            of: bench.source.name, before: cutoff, keeping: [made], isRehearsal: true)
        #expect(
            rehearsal.files.map(\.removedRowCount) == [10, 1, 1] && rehearsal.files.map(\.rowCount) == [10, 10, 2])
        #expect(rehearsal.heldRowCount == 12 && rehearsal.rowCount == 32 && rehearsal.version == before.version)
        let report = try await tables.removeRows(
            of: bench.source.name, before: cutoff, keeping: [made], isRehearsal: false)
        #expect(report.removedRowCount == 12 && report.version == before.version + 1)
        for service in [tables, bench.tables()] {  // as this process knows it, and as the log says
            let after = try await service.scan(bench.source)
            #expect(after.rowCount == 20 && after.retainedFrom == cutoff)
            #expect(
                try await flights(bench, service) == rows.filter { moment($0) >= cutoff }.map { "F\($0)" },
                "the order of the log")
            #expect(try await flights(bench, service, version: before.version) == rows.map { "F\($0)" })
        }
        let last = try #require(try await tables.history(of: bench.source.name).last)
        #expect(last.operation == "DELETE" && last.rowsAdded == 0 && last.rowCount == 20)
        #expect(
            try await tables.removeRows(of: bench.source.name, before: cutoff, isRehearsal: false).removedRowCount == 0)
        #expect(try await tables.scan(bench.source).version == report.version, "nothing to do writes nothing")
    }

    @Test func flushesCompactionsAndCheckpointsGoOnAfterwards() async throws {
        let bench = try Workbench()
        var tables = try await table(bench, Array(0..<40))
        _ = try await tables.removeRows(of: bench.source.name, before: moment(15), isRehearsal: false)
        _ = try await bench.service().push(
            bench.source, rows: [bench.row(2, delay: 7), bench.row(50)], idempotencyKey: nil, now: bench.clock.now())
        #expect(try await tables.flush(bench.source).rows == 2)
        #expect(try await tables.compact(bench.source.name).filesAfter == 1)
        bench.clock.advance(to: bench.clock.now().advanced(by: .days(1)))
        _ = try await tables.vacuum(
            bench.source.name, keeping: [], retention: TimeSpan(milliseconds: 0), isRehearsal: false)
        tables = bench.tables()
        let scan = try await tables.scan(bench.source)
        #expect(scan.retainedFrom == moment(15), "a checkpoint keeps it")
        #expect(try await flights(bench, tables) == (Array(15..<40) + [2, 50]).map { "F\($0)" })
        // A row that came late leaves with the next round; the moment only moves on.
        let report = try await tables.removeRows(of: bench.source.name, before: moment(10), isRehearsal: false)
        #expect(report.removedRowCount == 1)
        #expect(try await tables.scan(bench.source).retainedFrom == moment(15))
        _ = try await tables.removeRows(of: bench.source.name, before: moment(1000), isRehearsal: false)
        #expect(try await flights(bench, tables).isEmpty)
        #expect(try await tables.scan(bench.source).rowCount == 0)
        #expect(try await flights(bench, bench.tables()).isEmpty)
    }
}
