import Definitions
import Foundation
import PlatformCore
import StoragePorts
import Synchronization
import Testing

@testable import Datasets

struct SourcePullTests {
    private static let from = """

        from:
          postgres: {connection: SHOP, query: SELECT * FROM departures, cursor: known_at, overlap: 1m}
        """
    private static let columns = [
        RowColumn(name: "flight", type: "text"), RowColumn(name: "departed_at", type: "timestamp with time zone"),
        RowColumn(name: "known_at", type: "timestamp with time zone"),
        RowColumn(name: "dep_delay", type: "numeric(9,2)"),
        RowColumn(name: "seats", type: "integer"), RowColumn(name: "diverted", type: "boolean"),
        RowColumn(name: "carrier", type: "character varying(2)"),
    ]

    private func bench(_ more: String = "") throws -> Workbench {
        let bench = try Workbench(Workbench.schema + Self.from + more)
        bench.database.state.withLock { $0.columns = Self.columns }
        return bench
    }

    private func row(_ number: Int, known: String) -> [String?] {
        ["F\(number)", "2013-01-01 05:00:00+00", known, "1.50", "10", number % 2 == 0 ? "t" : "f", nil]
    }

    @Test func goesOnFromTheLargestCursorLessTheOverlap() async throws {
        let bench = try bench()
        let service = try await bench.service()
        bench.database.state.withLock {
            $0.rows = [row(1, known: "2013-01-01 06:00:00.25+00"), row(2, known: "2013-01-01 07:00:00+00")]
        }
        let first = try await service.pull(bench.source, now: bench.clock.now())
        #expect(first.loads.first?.rows.accepted == 2, "\(first.json.text)")
        #expect(first.watermark == "2013-01-01 07:00:00+00")
        #expect(bench.listener.rows[0].row.cells[3] == .double(1.5) && bench.listener.rows[0].row.cells[6] == .null)
        bench.database.state.withLock { $0.rows.append(row(3, known: "2013-01-01 06:59:30+00")) }
        let second = try await bench.service().pull(bench.source, now: bench.clock.now())
        #expect(second.loads.first?.rows.accepted == 1 && second.loads.first?.rows.duplicates == 2)
        let asked = bench.database.state.withLock(\.asked)
        #expect(asked.map(\.parameter) == [nil, "2013-01-01T06:59:00.000Z"])
        #expect(asked.allSatisfy { $0.connection == "dbname=shop" })
    }

    @Test func aLoadThatIsRefusedLeavesTheWatermark() async throws {
        let bench = try bench()
        let service = try await bench.service()
        bench.database.state.withLock { $0.columns[4] = RowColumn(name: "seats", type: "text") }
        bench.database.state.withLock { $0.rows = [row(1, known: "2013-01-01 06:00:00+00")] }
        await #expect(throws: PlatformError.self) { try await service.pull(bench.source, now: bench.clock.now()) }
        #expect(bench.listener.rows.isEmpty)
        bench.database.state.withLock { $0.columns = Self.columns }
        let report = try await service.pull(bench.source, now: bench.clock.now())
        #expect(report.loads.first?.rows.accepted == 1)
        #expect(bench.database.state.withLock(\.asked).map(\.parameter) == [nil, nil])
    }

    @Test func keepsTheSameTenthOfTheKeys() {
        let sampling = RowSampling(share: 0.1)
        let kept = (0..<20_000).count { sampling?.keeps("key-\($0)") == true }
        #expect(1_800...2_200 ~= kept)
        #expect((0..<40).filter { sampling?.keeps("key-\($0)") == true } == Self.keptOfForty)
        #expect(RowSampling(share: 1) == nil)
    }

    /// What FNV-1a and MurmurHash3's finalizer give, computed apart from this program.
    private static let keptOfForty = [0, 6, 25, 31]

    @Test(arguments: [
        ("amount: 'x' is not a number", "amount: is not a number"),
        ("a: 'it: 'is' odd' is outside of 0.0 to 5.0", "a: is outside of 0.0 to 5.0"),
        ("sale, shop: 's1', 'n' is there already", "sale, shop: is there already"),
        ("line: has 2 fields, the header has 7", "line: has 2 fields, the header has 7"), ("x: is null", "x: is null"),
    ])
    func reasonsAreCountedWithoutTheirValues(reason: String, counted: String) {
        #expect(IngestService.withoutValue(reason) == counted)
    }
}
