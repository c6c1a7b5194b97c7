import Definitions
import Foundation
import PlatformCore
import StoragePorts
import Synchronization
import Testing

@testable import Datasets

struct IngestServiceTests {
    @Test func tellsTheListenerBeforeItAnswers() async throws {
        let bench = try Workbench()
        let report = try await bench.service().push(
            bench.source, rows: [bench.row(1), bench.row(2, delay: "abc"), bench.row(1)], idempotencyKey: nil,
            now: bench.clock.now())
        #expect(report.accepted == 1 && report.duplicates == 1 && report.quarantined == 1)
        #expect(report.reasons == ["dep_delay: is not a number": 1])
        #expect(bench.listener.rows.map(\.offset) == [0])
        #expect(bench.listener.rows[0].row.ingestTime == EventTime(milliseconds: 1_380_000_061_000))
        let refused = try await bench.service().quarantined(bench.source.name, countMax: 10)
        #expect(refused.map(\.reasons) == [["dep_delay: 'abc' is not a number"]])
        #expect(refused[0].position == 2 && refused[0].row.contains("\"F2\""))
    }

    @Test func knowsDuplicatesAndKeysAfterARestart() async throws {
        let bench = try Workbench()
        let first = try await bench.service().push(
            bench.source, rows: [bench.row(1), bench.row(2, delay: 9999)], idempotencyKey: "k\"1",
            now: bench.clock.now())
        let again = try await bench.service()
        #expect(
            try await again.push(
                bench.source, rows: [bench.row(1), bench.row(2, delay: 9999)], idempotencyKey: "k\"1",
                now: bench.clock.now())
                == first)
        let third = try await again.push(
            bench.source, rows: [bench.row(1), bench.row(1, delay: 6)], idempotencyKey: nil, now: bench.clock.now())
        #expect(third.duplicates == 1 && third.accepted == 1)
        let counts = try await again.counts(of: bench.source.name)
        #expect(counts.rows == 2 && counts.quarantined == 1)
    }

    private final class Count: Sendable {
        private let count = Mutex(0)
        var value: Int { count.withLock { $0 } }
        func add() { count.withLock { $0 += 1 } }
    }

    /// While the listener is behind, pushes wait up to the limit, and what goes beyond it is refused and changes nothing.
    @Test(.timeLimit(.minutes(2))) func pushesWaitForAListenerThatIsBehind() async throws {
        let bench = try Workbench()
        var limits = IngestLimits()
        limits.waitingRowCountMax = 3
        let service = try await bench.service(limits)
        try await service.open(bench.source)
        let (isBehind, answered) = (Count(), Count())
        let gate = AsyncStream<Void>.makeStream()
        bench.listener.willTake.withLock { hook in
            hook = {
                isBehind.add()
                for await _ in gate.stream {}
            }
        }
        try await withThrowingTaskGroup(of: Int.self) { group in
            func push(_ number: Int) {
                group.addTask {
                    do {
                        _ = try await service.push(
                            bench.source, rows: [bench.row(number)], idempotencyKey: nil, now: bench.clock.now())
                        answered.add()
                        return 1
                    } catch let error as PlatformError {
                        #expect(error.code == .overloaded, "\(error)")
                        return 0
                    }
                }
            }
            push(0)
            while isBehind.value == 0 { try await Task.sleep(for: .milliseconds(2)) }
            for number in 1...10 { push(number) }
            var accepted = 0
            for _ in 0..<7 { accepted += try await group.next() ?? 1 }  // seven find the line full
            #expect(accepted == 0 && answered.value == 0, "nobody is told yes before the listener has it")
            gate.continuation.finish()
            for try await count in group { accepted += count }
            #expect(accepted == 4)
        }
        #expect(bench.listener.rows.count == 4)
        #expect(try await service.counts(of: bench.source.name).rows == 4)
    }

    @Test func sharesAppendsAndKeepsOneOrder() async throws {
        let bench = try Workbench(log: MemoryEventLog(appendDelay: .milliseconds(20)))
        let service = try await bench.service()
        try await withThrowingTaskGroup(of: IngestReport.self) { group in
            for number in 0..<100 {
                group.addTask {
                    try await service.push(
                        bench.source, rows: [bench.row(number % 90)], idempotencyKey: nil, now: bench.clock.now())
                }
            }
            var accepted = 0
            for try await report in group { accepted += report.accepted }
            #expect(accepted == 90)
        }
        #expect(bench.log.appendCount < 50)
        let heard = bench.listener.rows
        #expect(heard.map(\.offset) == Array(0..<90))
        let codec = SourceRowCodec(bench.source)
        #expect(
            try bench.log.records(of: Name(static: "source.departures")).map { try codec.decode($0.value) }
                == heard.map(\.row))
    }

    @Test func storesNothingWhenTheLogIsFullAndAllAfterwards() async throws {
        let bench = try Workbench()
        let service = try await bench.service()
        try await service.open(bench.source)
        bench.log.failNextAppends(1)
        await #expect(throws: StoreError.self) {
            _ = try await service.push(bench.source, rows: [bench.row(1)], idempotencyKey: "a", now: bench.clock.now())
        }
        #expect(bench.listener.rows.isEmpty)
        let report = try await service.push(
            bench.source, rows: [bench.row(1)], idempotencyKey: "a", now: bench.clock.now())
        #expect(report.accepted == 1)
    }

    private let csv = """
        flight,departed_at,known_at,dep_delay,seats,diverted,carrier
        F1,2013-01-01T05:15:00Z,2013-01-01T05:20:00Z,2,149.0,False,UA
        F2,2013-01-01 05:16:00Z,,NA,,,
        F3,2013-01-01T05:17:00Z,2013-01-01T05:20:00Z,abc,1,True,UA
        F4,2013-01-01T05:18:00Z
        "F,5",2013-01-01T05:15:00Z,2013-01-01T05:20:00Z,-3.5,1000,True,"UA"
        F6,9999-01-01T00:00:00Z,,1,1,True,UA
        F7,2013-01-01T05:15:00,,1,1,True,UA
        ,2013-01-01T05:15:00Z,2013-01-01T05:10:00Z,5000,1,True,united
        F9,2013-01-01T05:15:00Z,2013-01-01T05:10:00Z,5000,1,True,united
        """

    @Test func loadsAFileUnderItsContract() async throws {
        let bench = try Workbench()
        let service = try await bench.service()
        let report = try await bench.load(service, csv)
        #expect(report.rowsRead == 9)
        #expect(report.rows.accepted == 3)
        #expect(report.rows.quarantined == 6)
        #expect(report.rows.warnings == ["seats: is outside of 1.0 to 900.0 (few_seats)": 1])
        #expect(report.rows.reasons["flight: is null"] == 1)
        #expect(report.rows.reasons["line: has another number of fields than the header"] == 1)
        #expect(report.firstEventTime?.description == "2013-01-01T05:15:00.000Z")
        let refused = try await service.quarantined(bench.source.name, countMax: 100)
        #expect(refused.map(\.position) == [10, 9, 8, 7, 5, 4])
        #expect(refused[0].reasons.count == 3)
        #expect(refused[4].reasons == ["line: has 2 fields, the header has 7"])
        let cells = bench.listener.rows.map(\.row.cells)
        #expect(cells[0][4] == .integer(149) && cells[1][3] == .null && cells[2][0] == .text("F,5"))
        #expect(bench.listener.rows[1].row.ingestTime == bench.clock.now())

        let again = try await bench.load(await bench.service(), csv)
        #expect(again.isAlreadyLoaded && again.rows.accepted == 3)
        #expect(bench.listener.rows.count == 3)
    }

    @Test func continuesAfterACrashWithoutDuplicates() async throws {
        let bench = try Workbench()
        let limits = IngestLimits(recentRowCount: 40, loadBatchRowCount: 10)  // the log outgrows what pushes remember
        let lines = (0..<95).map {
            "F\($0),2013-01-01T05:\(10 + $0 / 60):\(10 + $0 % 50)Z,,\($0 % 10 == 3 ? "bad" : "1"),1,True,UA"
        }
        let text = (["flight,departed_at,known_at,dep_delay,seats,diverted,carrier"] + lines).joined(separator: "\n")
        try await bench.service(limits).open(bench.source)
        let file = try bench.write(text)
        await #expect(throws: StoreError.self) {
            _ = try await bench.service(limits).load(
                bench.source, fileAt: file.path, fileName: "f", format: .csv, contentHash: file.hash,
                now: bench.clock.now()
            ) { progress in
                if progress.rows == 50 { bench.log.failNextAppends(1) }
            }
        }
        let stored = bench.listener.rows.count
        #expect(stored > 0 && stored < 85)
        let report = try await bench.load(await bench.service(limits), text)
        // A load that had time for a checkpoint goes on with its counts; rows between it and the end are known by content.
        #expect(report.rows.accepted + report.rows.duplicates == 85 && report.rows.accepted >= 85 - stored)
        let counts = try await bench.service().counts(of: bench.source.name)
        #expect(counts.rows == 85 && counts.quarantined == 10)
    }

    @Test(arguments: [
        ("flight,departed_at\nF1,2013-01-01T05:15:00Z", "'dep_delay', 'seats', 'diverted', 'carrier'"),
        ("flight,departed_at,known_at,dep_delay,seats,diverted,carrier,gate\n", "'gate' is not in the schema"),
        ("flight,flight\n", "appears twice"), ("", "empty"), ("PAR1xxxx", "Parquet"),
    ])
    func refusesAFileThatDoesNotFit(text: String, words: String) async throws {
        let bench = try Workbench()
        do {
            _ = try await bench.load(await bench.service(), text)
            Issue.record("the file was taken")
        } catch let error as PlatformError {
            #expect(error.code == .invalidInput && error.message.contains(words), "\(error)")
        }
        #expect(bench.log.records(of: Name(static: "source.departures")).isEmpty)
    }

    @Test func readsJSONLinesLikePushes() async throws {
        let bench = try Workbench()
        let text = [bench.row(1).text, "{broken", "", bench.row(2, delay: "5").text, "[1]"].joined(separator: "\n")
        let report = try await bench.load(await bench.service(), text, .ndjson)
        #expect(report.rowsRead == 4 && report.rows.accepted == 1 && report.rows.quarantined == 3)
        #expect(try await bench.service().quarantined(bench.source.name, countMax: 9).map(\.position) == [5, 4, 2])
    }

    @Test(.enabled(if: Workbench.duckDBPath != nil, "set BOTTEGA_DUCKDB"))
    func readsParquet() async throws {
        let bench = try Workbench()
        let path = bench.folder + "/x.parquet"
        try await bench.engine.execute(
            """
            COPY (SELECT 'F' || range AS flight, make_timestamptz(1380000000000000 + range * 1000000) AS departed_at,
                NULL::TIMESTAMPTZ AS known_at, CASE WHEN range = 3 THEN 'NaN'::DOUBLE ELSE range * 0.5 END AS dep_delay,
                range::DOUBLE + 1 AS seats, range % 2 = 0 AS diverted, 'UA' AS carrier FROM range(10))
            TO '\(path)' (FORMAT parquet)
            """)
        let report = try await bench.service().load(
            bench.source, fileAt: path, fileName: "x.parquet", format: .parquet,
            contentHash: bench.write("x", as: "y").hash, now: bench.clock.now())
        #expect(report.rows.accepted == 10, "\(report.json.text)")
        #expect(bench.listener.rows[3].row.cells[3] == .null && bench.listener.rows[4].row.cells[3] == .double(2))
    }
}
