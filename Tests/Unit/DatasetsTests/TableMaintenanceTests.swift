import Definitions
import Foundation
import PlatformCore
import StoragePorts
import Testing

@testable import Datasets

@Suite(.enabled(if: Workbench.duckDBPath != nil, "set BOTTEGA_DUCKDB"))
struct TableMaintenanceTests {
    private func push(_ bench: Workbench, _ numbers: Range<Int>) async throws {
        _ = try await bench.service().push(
            bench.source, rows: numbers.map { bench.row($0) }, idempotencyKey: nil, now: bench.clock.now())
    }

    /// Flushes `count` files of ten rows each, a minute apart.
    private func fill(_ bench: Workbench, files count: Int, from first: Int = 0) async throws -> TableService {
        let tables = bench.tables()
        for number in first..<(first + count) {
            try await push(bench, (number * 10)..<(number * 10 + 10))
            try await tables.flush(bench.source)
            bench.clock.advance(to: bench.clock.now().advanced(by: .minutes(1)))
        }
        return tables
    }

    /// Every log offset from 0 to `count` once, in the order of the files.
    private func check(_ bench: Workbench, _ tables: TableService, rows count: Int, version: Int64? = nil) async throws
    {
        let scan = try await tables.scan(bench.source, version: version)
        #expect(scan.rowCount == count)
        let rows = try await bench.engine.rows("SELECT __sequence AS s, flight AS f FROM \(scan.sql)")
        #expect(
            rows == (0..<count).map { ["s": .integer(Int64($0)), "f": .string("F\($0)")] }, "version \(version ?? -1)")
    }

    @Test func compactionChangesNoRowAndNoOrder() async throws {
        let bench = try Workbench()
        let tables = try await fill(bench, files: 7)
        let report = try await tables.compact(bench.source.name)
        #expect(report.filesBefore == 7 && report.filesAfter == 1 && report.rows == 70 && report.version == 7)
        try await check(bench, tables, rows: 70)
        try await check(bench, tables, rows: 30, version: 2)
        #expect(try await tables.compact(bench.source.name).filesBefore == 0, "nothing is left to do")
        try await push(bench, 70..<75)
        #expect(try await tables.flush(bench.source).rows == 5, "the log is read on where it was left")
        try await check(bench, bench.tables(), rows: 75)
        let last = try await tables.history(of: bench.source.name)[7]
        #expect(last.operation == "OPTIMIZE" && last.rowsAdded == 0 && last.rowCount == 70 && last.fileCount == 1)
    }

    @Test func automaticCompactionLeavesLargeFilesAlone() async throws {
        let bench = try Workbench()
        let tables = try await fill(bench, files: 6)
        #expect(try await tables.maintain(bench.source.name, fileCountMin: 6).filesBefore == 6)
        _ = try await fill(bench, files: 4, from: 6)
        #expect(try await tables.maintain(bench.source.name, fileCountMin: 4).filesBefore == 4, "the 60 rows stay")
        #expect(try await tables.state(of: bench.source.name).files.map(\.rowCount) == [60, 40])
        try await check(bench, tables, rows: 100)
    }

    @Test func compactionOfOldRowsKeepsWhatTheyHad() async throws {
        let bench = try Workbench()
        _ = try await fill(bench, files: 3)
        let wider = try Workbench(
            Workbench.schema.replacing(
                "- {name: carrier, type: string}",
                with: "- {name: carrier, type: string}\n  - {name: gate, type: string}"))
        let tables = bench.tables()
        try await push(bench, 30..<33)
        try await tables.flush(wider.source)
        try await push(bench, 33..<36)
        try await tables.flush(wider.source)
        #expect(try await tables.compact(bench.source.name).filesAfter == 2, "files of one schema at a time")
        let scan = try await bench.tables().scan(wider.source)
        let rows = try await bench.engine.rows(
            "SELECT count(*) n, count(gate) g, count(DISTINCT __sequence) d, sum(seats) s FROM \(scan.sql)")
        #expect(rows == [["n": 36, "g": 0, "d": 36, "s": "3600"]])
    }

    @Test func aTableReadsFromItsCheckpointOnceItsLogIsGone() async throws {
        let bench = try Workbench()
        let tables = try await fill(bench, files: 12)
        try await tables.compact(bench.source.name)
        bench.clock.advance(to: bench.clock.now().advanced(by: .days(40)))
        let report = try await tables.vacuum(
            bench.source.name, keeping: [], retention: .days(30), isRehearsal: false)
        #expect(report.oldestVersion == 12 && report.removedFileCount == 24, "12 small files, 12 commits")
        for reader in [tables, bench.tables()] {
            try await check(bench, reader, rows: 120)
            let history = try await reader.history(of: bench.source.name)
            #expect(history.map(\.version) == [12] && history.first?.operation == "OPTIMIZE")
            await #expect(throws: StoreError.self) { _ = try await reader.scan(bench.source, version: 3) }
        }
        try await push(bench, 120..<130)
        #expect(try await bench.tables().flush(bench.source).rows == 10)
        try await check(bench, bench.tables(), rows: 130)
    }

    @Test func retentionKeepsWhatIsReferencedOrYoung() async throws {
        let bench = try Workbench()
        let tables = try await fill(bench, files: 6)
        try await tables.compact(bench.source.name)
        bench.clock.advance(to: bench.clock.now().advanced(by: .days(40)))
        try await push(bench, 60..<65)
        try await tables.flush(bench.source)
        let references = [TableReference(version: 3, by: "dataset/ab")]
        let name = bench.source.name
        let plan = try await tables.vacuum(name, keeping: references, retention: .days(30), isRehearsal: true)
        let kept = plan.files.filter { !$0.isRemoved && !$0.path.hasPrefix("_delta") }
        #expect(kept.count == 6, "four small files, the large one, the new one")
        #expect(kept.filter { $0.reason.contains("dataset/ab") }.count == 4)
        #expect(plan.files.allSatisfy { !$0.reason.isEmpty })
        try await check(bench, tables, rows: 60, version: 5)
        let done = try await tables.vacuum(name, keeping: references, retention: .days(30), isRehearsal: false)
        #expect(done == plan)
        for reader in [tables, bench.tables()] {
            try await check(bench, reader, rows: 40, version: 3)
            try await check(bench, reader, rows: 60, version: 6)
            try await check(bench, reader, rows: 65)
            await #expect(throws: StoreError.self, "past retention") {
                _ = try await reader.scan(bench.source, version: 5)
            }
        }
    }

    @Test func aFileThatNoCommitNamesGoesOnceItIsOldAndForeignFilesStay() async throws {
        let bench = try Workbench()
        let tables = try await fill(bench, files: 1)
        let old = IdentifierSource(clock: bench.clock).next()
        let young = IdentifierSource(clock: SystemClock()).next()
        for name in ["part-5-\(old).parquet", "part-5-\(young).parquet", "notes.txt", "part-00001.snappy.parquet"] {
            try await bench.objects.put([1, 2, 3], at: "tables/departures/\(name)")
        }
        let report = try await tables.vacuum(
            bench.source.name, keeping: [], retention: .days(1), isRehearsal: false)
        #expect(report.files.filter(\.isRemoved).map(\.path) == ["part-5-\(old).parquet"])
        try await check(bench, tables, rows: 10)
    }

    @Test func readsATableAsItWasAtAMoment() async throws {
        let bench = try Workbench()
        let start = bench.clock.now()
        let tables = try await fill(bench, files: 3)
        let state = try await tables.state(of: bench.source.name, at: .time(start.advanced(by: .seconds(90))))
        #expect(state.version == 1 && state.rowCount == 20 && state.nextOffsets == ["source.departures": 20])
        await #expect(throws: StoreError.self) {
            _ = try await tables.state(of: bench.source.name, at: .time(start.advanced(by: .seconds(-1))))
        }
        let known = EventTime(milliseconds: 1_380_000_060_000 + 5000)
        let rows = try await tables.rows(of: state, knownAt: known, columns: ["flight"], countMax: 100)
        #expect(rows == (0..<5).map { ["flight": .string("F\($0)")] })
        #expect(try await tables.rows(of: state, seed: 7, countMax: 4).count == 4)
    }

    /// Flushes, compactions, vacuums and restarts in any order, some cut off between storing a file and committing it.
    @Test(arguments: UInt64(1)..<5) func anySequenceOfMaintenanceKeepsEveryRow(seed: UInt64) async throws {
        var random = SeededGenerator(state: seed)
        let bench = try Workbench()
        var tables = bench.tables()
        var rows = 0
        var counts: [Int64: Int] = [:]
        for _ in 0..<14 {
            bench.clock.advance(to: bench.clock.now().advanced(by: .hours(Int64.random(in: 1...30, using: &random))))
            switch Int.random(in: 0..<8, using: &random) {
            case 0...3:
                let more = Int.random(in: 1...12, using: &random)
                try await push(bench, rows..<(rows + more))
                rows += more
                let version = try await tables.flush(bench.source).version
                counts[version] = rows
            case 4: try await tables.compact(bench.source.name)
            case 5: _ = try await tables.maintain(bench.source.name, fileCountMin: 3, commitCountMax: 2)
            case 6:
                let kept = counts.keys.sorted().filter { $0 % 3 == 0 }
                let report = try await tables.vacuum(
                    bench.source.name, keeping: kept.map { TableReference(version: $0, by: "test") },
                    retention: .hours(24), isRehearsal: false)
                if report.version >= 0 { counts = counts.filter { kept.contains($0.key) || $0.key == report.version } }
            default:
                tables = bench.tables()
                let leftover = "tables/departures/part-0-\(IdentifierSource(clock: bench.clock).next()).parquet"
                try await bench.objects.put([0], at: leftover)
            }
            guard rows > 0 else { continue }
            try await check(bench, tables, rows: rows)
        }
        for (version, count) in counts { try await check(bench, bench.tables(), rows: count, version: version) }
    }

    @Test func flushesAndScansGoOnDuringACompaction() async throws {
        let bench = try Workbench()
        let tables = try await fill(bench, files: 8)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await tables.compact(bench.source.name) }
            group.addTask {
                for number in 8..<11 {
                    try await push(bench, (number * 10)..<(number * 10 + 10))
                    try await tables.flush(bench.source)
                }
            }
            group.addTask {
                for _ in 0..<3 {
                    let scan = try await tables.scan(bench.source)
                    let answer = try await bench.engine.rows("SELECT count(*) AS n FROM \(scan.sql)")
                    #expect(answer == [["n": .integer(Int64(scan.rowCount))]])
                }
            }
            try await group.waitForAll()
        }
        let scan = try await tables.scan(bench.source)
        let answer = try await bench.engine.rows(
            "SELECT count(DISTINCT __sequence) AS d, count(*) AS n FROM \(scan.sql)")
        #expect(answer == [["d": 110, "n": 110]])
    }
}

/// SplitMix64: the same seed gives the same sequence.
private struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
