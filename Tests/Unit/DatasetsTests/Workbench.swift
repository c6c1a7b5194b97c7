import ContentHashing
import Definitions
import DuckDBAdapter
import FileSystemAdapter
import Foundation
import PlatformCore
import SQLiteAdapter
import StoragePorts
import Synchronization

@testable import Datasets

/// A source, stores in memory and services over them.
final class Workbench: Sendable {
    static let duckDBPath: String? = {
        if let path = ProcessInfo.processInfo.environment["BOTTEGA_DUCKDB"] { return path }
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().path()
        let found = (try? FileManager.default.contentsOfDirectory(atPath: root + "/.venv/lib")) ?? []
        return found.map { "\(root)/.venv/lib/\($0)/site-packages/duckdb_cli/duckdb" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }()

    static let schema = """
        kind: Source
        name: departures
        event_time: departed_at
        ingest_time: known_at
        key: [flight]
        schema:
          - {name: flight, type: string, nullable: false}
          - {name: departed_at, type: timestamp, nullable: false}
          - {name: known_at, type: timestamp}
          - {name: dep_delay, type: float64, unit: minutes}
          - {name: seats, type: int64}
          - {name: diverted, type: bool}
          - {name: carrier, type: string}
        expectations:
          - {name: delay_range, column: dep_delay, range: [-120, 2000]}
          - {name: carrier_code, column: carrier, matches: "[A-Z0-9]{2}"}
          - {name: few_seats, column: seats, range: [1, 900], severity: warn}
          - {name: known_after, column: known_at, not_before: departed_at}
        """

    let folder = NSTemporaryDirectory() + "datasets-\(UUID().uuidString)"
    let log: MemoryEventLog
    let metadata: SQLiteMetadataStore
    let shapes: SourceShapes
    let database = TextRows()
    let listener = RecordingListener()
    let source: SourceDefinition
    let engine: DuckDBEngine
    let objects: FolderObjects
    let clock = ManualClock(startingAt: EventTime(milliseconds: 1_400_000_000_000))

    init(_ schema: String = Workbench.schema, log: MemoryEventLog = MemoryEventLog()) throws {
        self.log = log
        let set = try DefinitionCompiler.compile([DefinitionFile(path: "s.yaml", folder: "/", text: schema)])
        guard let source = set.sources.values.first else { throw DecodingFailure("no source") }
        self.source = source
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        metadata = try SQLiteMetadataStore(path: folder + "/metadata.sqlite")
        shapes = SourceShapes(metadata: metadata)
        engine = DuckDBEngine(
            configuration: DuckDBConfiguration(executablePath: Self.duckDBPath ?? "", spillFolder: folder + "/spill"))
        objects = FolderObjects(folder: folder)
    }
    deinit { try? FileManager.default.removeItem(atPath: folder) }

    func service(_ limits: IngestLimits = IngestLimits()) async throws -> IngestService {
        let service = IngestService(
            log: log, metadata: metadata, engine: engine, files: LocalSourceFiles(), database: database, shapes: shapes,
            secret: { $0 == "SHOP" ? "dbname=shop" : nil }, spoolFolder: folder + "/spool", listener: listener,
            identifiers: IdentifierSource(clock: clock), limits: limits)
        try await service.prepare()
        return service
    }
    func tables(fileRowCountMax: Int = 1_000_000) -> TableService {
        TableService(
            log: log, objects: objects, engine: engine, spoolFolder: folder + "/spool",
            identifiers: IdentifierSource(clock: clock), clock: clock, fileRowCountMax: fileRowCountMax)
    }
    func row(_ number: Int, delay: JSONValue = 5) -> JSONValue {
        [
            "flight": .string("F\(number)"), "departed_at": .integer(1_380_000_000_000 + Int64(number) * 1000),
            "known_at": .integer(1_380_000_060_000 + Int64(number) * 1000), "dep_delay": delay, "seats": 100,
            "diverted": false, "carrier": "UA",
        ]
    }
    func write(_ text: String, as name: String = "file") throws -> (path: String, hash: ContentHash) {
        let path = "\(folder)/\(name)"
        try Data(text.utf8).write(to: URL(filePath: path))
        return (path, ContentHasher.hash(text))
    }
    func load(_ service: IngestService, _ text: String, _ format: SourceFileFormat = .csv) async throws -> LoadReport {
        let file = try write(text)
        return try await service.load(
            source, fileAt: file.path, fileName: "file.csv", format: format, contentHash: file.hash, now: clock.now())
    }
}

/// Keeps what it hears.
final class RecordingListener: SourceListener {
    private let batches = Mutex<[SourceBatch]>([])
    var rows: [(offset: UInt64, row: SourceRow)] {
        batches.withLock {
            $0.flatMap { batch in batch.rows.enumerated().map { (batch.firstOffset + UInt64($0), $1) } }
        }
    }
    /// Is awaited before a batch is taken: a listener that is behind.
    let willTake = Mutex<(@Sendable () async -> Void)?>(nil)

    func received(_ batch: SourceBatch) async {
        await willTake.withLock { $0 }?()
        batches.withLock { $0.append(batch) }
    }
}

/// A database that gives the same rows to every query, and remembers what it was asked.
final class TextRows: RowSource {
    struct State {
        var columns: [RowColumn] = []
        var rows: [[String?]] = []
        var asked: [RowQuery] = []
    }
    let state = Mutex(State())

    func read(
        _ query: RowQuery, columns: @escaping @Sendable ([RowColumn]) throws -> Void,
        rows: @escaping @Sendable ([[String?]]) throws -> Void
    ) async throws {
        let (names, cells) = state.withLock { state in
            state.asked.append(query)
            return (state.columns, state.rows)
        }
        try columns(names)
        try rows(cells)
    }
}
