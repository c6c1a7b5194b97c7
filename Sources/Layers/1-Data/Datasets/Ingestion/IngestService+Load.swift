public import Definitions
import Foundation
public import PlatformCore
import StoragePorts

/// The file formats that a source can be loaded from.
public enum SourceFileFormat: String, Sendable, Codable, CaseIterable {
    /// Comma-separated text with a header line.
    case csv
    /// Apache Parquet.
    case parquet
    /// One JSON object on each line.
    case ndjson

    /// The format that a file's name says, also before `.gz` or `.zst`; `nil` for any other name.
    public init?(fileName: String) {
        var name = fileName.lowercased()
        if let packed = [".gz", ".zst"].first(where: name.hasSuffix) { name.removeLast(packed.count) }
        switch name.split(separator: ".").last.map(String.init) ?? "" {
        case "csv": self = .csv
        case "parquet": self = .parquet
        case "ndjson", "jsonl", "json": self = .ndjson
        default: return nil
        }
    }
}

extension IngestService {
    /// Loads a file into a source.
    ///
    /// The header is checked before anything is stored; so are the expectations on the whole load. Rows then go through the
    /// same contract and the same door as pushes, in appends of `loadBatchRowCount`. The same bytes again change nothing.
    /// After a crash in the middle, loading the file once more goes on at its last checkpoint; rows that the first attempt
    /// stored behind it are known by their content in the log, refused lines by file and line number in quarantine. CSV and
    /// JSON lines are read here, since a refused line is to be named by its number; Parquet is turned into JSON lines of
    /// text by the offline engine; gzip and Zstandard are unpacked first.
    ///
    /// - Parameters:
    ///   - source: the definition now in force.
    ///   - path: the file; it must not change meanwhile.
    ///   - fileName: its name as the sender knows it, for reports.
    ///   - format: how to read it.
    ///   - contentHash: SHA-256 of its bytes.
    ///   - now: ingest time of rows that carry none.
    ///   - progress: called after each append.
    /// - Throws: `PlatformError` (`invalidInput` for a file that does not fit the source, `refused` for one that breaks an
    ///   expectation on the whole load, `conflict` if the same load is running), `StoreError`.
    @concurrent
    public func load(
        _ source: SourceDefinition, fileAt path: String, fileName: String, format: SourceFileFormat,
        contentHash: ContentHash, now: EventTime, progress: @Sendable (LoadProgress) -> Void = { _ in }
    ) async throws -> LoadReport {
        try await load(
            source, fileAt: path, fileName: fileName, origin: Self.rowOrigin(of: format), contentHash: contentHash,
            now: now, progress: progress)
    }

    private static func rowOrigin(of format: SourceFileFormat) -> RowOrigin {
        switch format {
        case .csv: .csv
        case .parquet: .parquet
        case .ndjson: .push
        }
    }

    /// A file by the way its rows are written: `database` is the spooled answer of a query.
    func load(
        _ source: SourceDefinition, fileAt path: String, fileName: String, origin: RowOrigin,
        contentHash: ContentHash, now: EventTime, progress: @Sendable (LoadProgress) -> Void
    ) async throws -> LoadReport {
        let claimed = "\(source.name)/\(contentHash)"
        guard claim(claimed) else {
            throw PlatformError(.conflict, "source/\(source.name)", "the file '\(fileName)' is being loaded already")
        }
        defer { release(claimed) }
        if var known = try await finishedLoad(source.name, contentHash) {
            known.isAlreadyLoaded = true
            return known
        }
        let began = ContinuousClock.now
        var report = LoadReport(source: source.name, file: fileName, contentHash: contentHash)
        let (readable, temporary) = try await prepared(path, &report, origin, source, now: now)
        defer { for path in temporary { try? FileManager.default.removeItem(atPath: path) } }
        let size =
            ((try? FileManager.default.attributesOfItem(atPath: readable))?[.size] as? NSNumber)?.intValue ?? 0
        var load = FileLoad(
            service: self, source: source,
            builder: builder(for: source, origin: fileName, batch: "load-\(contentHash.hex.prefix(16))", now: now),
            report: report, byteCount: size, path: readable, origin: origin)
        if source.schemaChange == .add || source.schemaChange == .widen {
            load = try await adapted(load, now: now)
        }
        let checks = try await checks(of: load, now: now)
        try await remember(load.report, origin: origin, state: "running", now: now)

        let intake = intake(of: source.name)
        try await intake.beginFullHistory()
        defer { intake.endFullHistory() }
        if let place = try await loadProgress(source.name, contentHash) { load.resume(at: place) }
        for sentence in shapes.sentences(of: source) { load.report.rows.note(sentence) }
        try await load.read(.store, progress)
        let elapsed = ContinuousClock.now - began
        load.report.seconds = (elapsed / .milliseconds(1)).rounded() / 1000
        let checked = checks.finished(load.report, load.builder.contract)
        try await finish(load.report, origin: origin, checks: checked.results.isEmpty ? nil : checked, now: now)
        return load.report
    }

    /// A file as the readers here can read it, and the files of the moment that this took.
    private func prepared(
        _ path: String, _ report: inout LoadReport, _ origin: RowOrigin, _ source: SourceDefinition, now: EventTime
    ) async throws -> (String, [String]) {
        let subject = "file/\(report.file)"
        var path = path
        var temporary: [String] = []
        do {
            if FileLoad.isPacked(try FileLoad.beginning(of: path, subject: subject)) {
                let unpacked = try spoolPath("unpacked")
                temporary.append(unpacked)
                do { try await files.unpack(path, to: unpacked, byteCountMax: 1 << 40) } catch {
                    if error.code != .corrupted { throw error }
                    throw PlatformError(.invalidInput, subject, error.message)
                }
                path = unpacked
            }
            try FileLoad.checkBeginning(of: path, subject: subject, origin: origin)
            if origin == .parquet {
                let spool = try spoolPath("parquet")
                temporary.append(spool)
                try await writeLines(ofParquet: path, to: spool, source, &report, now: now)
                path = spool
            }
        } catch {
            for path in temporary { try? FileManager.default.removeItem(atPath: path) }
            throw error
        }
        return (path, temporary)
    }

    func spoolPath(_ what: String) throws -> String {
        try FileManager.default.createDirectory(atPath: spoolFolder, withIntermediateDirectories: true)
        return "\(spoolFolder)/\(what)-\(UUID().uuidString)"
    }

    /// First reading under `add` or `widen`: finds what the rows bring, and changes the source's shape before any is stored.
    private func adapted(_ load: FileLoad, now: EventTime) async throws -> FileLoad {
        var survey = load
        try await survey.read(.survey, { _ in })
        guard !survey.shape.isEmpty else { return load }
        try await shapes.change(
            load.source, adding: survey.shape.wanted, widening: survey.shape.widened, origin: load.report.file, now: now
        )
        var fresh = load
        fresh.builder = builder(for: load.source, origin: load.report.file, batch: load.builder.batch, now: now)
        return fresh
    }

    // MARK: What is remembered of loads

    /// Reports of the loads of a source that finished, newest first.
    public func loads(of source: Name, countMax: Int = 100) async throws -> [LoadReport] {
        try await metadata.read { transaction in
            try transaction.query(
                """
                SELECT report FROM dataset_load WHERE source = ? AND state = 'finished'
                ORDER BY started_ms DESC, content_hash LIMIT ?
                """, [.text(source.text), .integer(Int64(countMax))]
            ).compactMap { row in (try? JSONValue.parse(row.text("report"))).flatMap(LoadReport.init) }
        }
    }

    func finishedLoad(_ source: Name, _ hash: ContentHash) async throws -> LoadReport? {
        try await metadata.read { transaction in
            try transaction.query(
                "SELECT report FROM dataset_load WHERE source = ? AND content_hash = ? AND state = 'finished'",
                [.text(source.text), .text(hash.hex)]
            ).first.flatMap { row in (try? JSONValue.parse(row.text("report"))).flatMap(LoadReport.init) }
        }
    }

    private func remember(_ report: LoadReport, origin: RowOrigin, state: String, now: EventTime) async throws {
        try await metadata.write { try Self.write(report, origin: origin, state: state, now: now, $0) }
    }

    private func finish(_ report: LoadReport, origin: RowOrigin, checks: CheckReport?, now: EventTime) async throws {
        _ = try await metadata.write { transaction in
            try Self.write(report, origin: origin, state: "finished", now: now, transaction)
            try transaction.execute(
                "DELETE FROM dataset_load_progress WHERE source = ? AND content_hash = ?",
                [.text(report.source.text), .text(report.contentHash.hex)])
            if let checks { try Self.write(checks, transaction) }
        }
    }

    private static func write(
        _ report: LoadReport, origin: RowOrigin, state: String, now: EventTime, _ transaction: any MetadataTransaction
    ) throws {
        try transaction.execute(
            """
            INSERT INTO dataset_load (source, content_hash, file_name, format, state, started_ms, report)
            VALUES (?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (source, content_hash) DO UPDATE SET
                file_name = excluded.file_name, format = excluded.format, state = excluded.state,
                report = excluded.report
            """,
            [
                .text(report.source.text), .text(report.contentHash.hex), .text(report.file),
                .text(origin == .push ? "ndjson" : origin.rawValue), .text(state), .integer(now.milliseconds),
                .text(report.json.text),
            ])
    }

    /// Keeps how far a load is: everything before is stored.
    func checkpoint(_ report: LoadReport, position: Int, line: Int) async throws {
        let text = report.json.text
        _ = try await metadata.write { transaction in
            try transaction.execute(
                """
                INSERT INTO dataset_load_progress (source, content_hash, position, line, report) VALUES (?, ?, ?, ?, ?)
                ON CONFLICT (source, content_hash) DO UPDATE SET
                    position = excluded.position, line = excluded.line, report = excluded.report
                """,
                [
                    .text(report.source.text), .text(report.contentHash.hex), .integer(Int64(position)),
                    .integer(Int64(line)), .text(text),
                ])
        }
    }

    private func loadProgress(_ source: Name, _ hash: ContentHash) async throws -> LoadPlace? {
        try await metadata.read { transaction in
            try transaction.query(
                "SELECT position, line, report FROM dataset_load_progress WHERE source = ? AND content_hash = ?",
                [.text(source.text), .text(hash.hex)]
            ).first.flatMap { row in
                (try? JSONValue.parse(row.text("report"))).flatMap(LoadReport.init).map {
                    LoadPlace(position: Int(row.integer("position")), line: Int(row.integer("line")), report: $0)
                }
            }
        }
    }
}

/// Where a load stands: the byte and line that come next.
struct LoadPlace: Sendable {
    let position: Int
    let line: Int
    let report: LoadReport
}
