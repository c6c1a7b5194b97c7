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
}

extension IngestService {
    /// Loads a file into a source.
    ///
    /// The header is checked before anything is stored. Rows then go through the same contract and the same door as pushes, in
    /// appends of `loadBatchRowCount`. The same bytes again change nothing. After a crash in the middle, loading the file once
    /// more stores the rest: rows that the first attempt stored are known by their content in the log, refused lines by file
    /// and line number in quarantine. CSV and JSON lines are read here, since a refused line is to be named by its number;
    /// Parquet is turned into JSON lines of text by the offline engine.
    ///
    /// - Parameters:
    ///   - source: the definition now in force.
    ///   - path: the file; it must not change meanwhile.
    ///   - fileName: its name as the sender knows it, for reports.
    ///   - format: how to read it.
    ///   - contentHash: SHA-256 of its bytes.
    ///   - now: ingest time of rows that carry none.
    ///   - progress: called after each append.
    /// - Throws: `PlatformError` (`invalidInput` for a file that does not fit the source, `conflict` if the same load is
    ///   running), `StoreError`.
    @concurrent
    public func load(
        _ source: SourceDefinition, fileAt path: String, fileName: String, format: SourceFileFormat,
        contentHash: ContentHash, now: EventTime, progress: @Sendable (LoadProgress) -> Void = { _ in }
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
        let size = ((try? FileManager.default.attributesOfItem(atPath: path))?[.size] as? NSNumber)?.intValue ?? 0
        var load = FileLoad(
            service: self, source: source,
            builder: builder(for: source, origin: fileName, batch: "load-\(contentHash.hex.prefix(16))", now: now),
            report: LoadReport(source: source.name, file: fileName, contentHash: contentHash), byteCount: size)
        try load.checkBeginning(of: path, format: format)
        try await remember(load.report, format: format, state: "running", now: now)

        let intake = intake(of: source.name)
        try await intake.beginFullHistory()
        defer { intake.endFullHistory() }
        switch format {
        case .csv: try await load.readCSV(path, progress)
        case .ndjson: try await load.readLines(path, from: .push, progress)
        case .parquet:
            let spool = try await parquetAsLines(path, source, &load)
            defer { try? FileManager.default.removeItem(atPath: spool) }
            try await load.readLines(spool, from: .parquet, progress)
        }
        try await load.store(bytesDone: size, progress)
        let elapsed = ContinuousClock.now - began
        load.report.seconds = (elapsed / .milliseconds(1)).rounded() / 1000
        try await remember(load.report, format: format, state: "finished", now: now)
        return load.report
    }

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

    private func finishedLoad(_ source: Name, _ hash: ContentHash) async throws -> LoadReport? {
        try await metadata.read { transaction in
            try transaction.query(
                "SELECT report FROM dataset_load WHERE source = ? AND content_hash = ? AND state = 'finished'",
                [.text(source.text), .text(hash.hex)]
            ).first.flatMap { row in (try? JSONValue.parse(row.text("report"))).flatMap(LoadReport.init) }
        }
    }

    private func remember(_ report: LoadReport, format: SourceFileFormat, state: String, now: EventTime) async throws {
        let text = report.json.text
        _ = try await metadata.write { transaction in
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
                    .text(format.rawValue),
                    .text(state), .integer(now.milliseconds), .text(text),
                ])
        }
    }

    /// A file of JSON lines with the Parquet file's rows as text; the caller removes it.
    private func parquetAsLines(_ path: String, _ source: SourceDefinition, _ load: inout FileLoad) async throws
        -> String
    {
        try FileManager.default.createDirectory(atPath: spoolFolder, withIntermediateDirectories: true)
        let file = "read_parquet(\(SQLText.literal(path)))"
        let columns: [String]
        do {
            columns = try await engine.rows("SELECT column_name FROM (DESCRIBE SELECT * FROM \(file))")
                .compactMap { $0["column_name"]?.stringValue }
        } catch let error as StoreError where error.code == .invalidInput {
            throw PlatformError(.invalidInput, "file/\(load.report.file)", error.message)
        }
        let wanted = try load.order(ofHeader: columns).enumerated().filter { $0.element != nil }.map {
            columns[$0.offset]
        }
        let spool = "\(spoolFolder)/parquet-\(UUID().uuidString).ndjson"
        let cells = wanted.map { "CAST(\(SQLText.identifier($0)) AS VARCHAR) AS \(SQLText.identifier($0))" }
        try await engine.execute(
            "COPY (SELECT \(cells.joined(separator: ", ")) FROM \(file)) TO \(SQLText.literal(spool)) (FORMAT json)")
        return spool
    }
}

/// One load on its way.
private struct FileLoad {
    let service: IngestService
    let source: SourceDefinition
    var builder: BatchBuilder
    var report: LoadReport
    let byteCount: Int

    init(service: IngestService, source: SourceDefinition, builder: BatchBuilder, report: LoadReport, byteCount: Int) {
        self.service = service
        self.source = source
        self.builder = builder
        self.report = report
        self.byteCount = byteCount
    }

    private var subject: String { "file/\(report.file)" }

    /// Refuses a file that is plainly of another kind.
    func checkBeginning(of path: String, format: SourceFileFormat) throws {
        guard let handle = FileHandle(forReadingAtPath: path) else {
            throw PlatformError(.notFound, subject, "the file cannot be read")
        }
        defer { try? handle.close() }
        let beginning = Array(try handle.read(upToCount: 4) ?? Data())
        let isParquet = beginning == Array("PAR1".utf8)
        if beginning.isEmpty { throw PlatformError(.invalidInput, subject, "the file is empty") }
        if beginning.starts(with: [0x1F, 0x8B]) || beginning.starts(with: [0x50, 0x4B, 3, 4]) {
            throw PlatformError(.invalidInput, subject, "the file is compressed; unpack it and load what is inside")
        }
        if isParquet != (format == .parquet) {
            throw PlatformError(
                .invalidInput, subject,
                isParquet ? "the file is Parquet, not \(format.rawValue)" : "the file is no Parquet")
        }
    }

    /// For each column of a header its position in the source; `nil` for one that is dropped.
    mutating func order(ofHeader header: [String]) throws -> [Int?] {
        let contract = service.contract(of: source)
        var seen: Set<String> = []
        for name in header where !seen.insert(name).inserted {
            throw PlatformError(
                .invalidInput, subject, "the column \(CellReader.shown(name)) appears twice in the header")
        }
        let missing = source.columns.filter { !seen.contains($0.name) && $0.name != source.ingestTimeColumn }.map(
            \.name)
        guard missing.isEmpty else {
            throw PlatformError(
                .invalidInput, subject,
                "the column\(missing.count == 1 ? "" : "s") \(missing.prefix(10).map { "'\($0)'" }.joined(separator: ", ")) of source '\(source.name)' \(missing.count == 1 ? "is" : "are") missing; nothing was stored"
            )
        }
        let order = header.map(contract.position)
        let unknown = zip(header, order).filter { $0.1 == nil }.map(\.0)
        if !unknown.isEmpty, source.schemaChange == .refuse {
            throw PlatformError(
                .invalidInput, subject,
                "the column\(unknown.count == 1 ? "" : "s") \(unknown.prefix(10).map(CellReader.shown).joined(separator: ", ")) \(unknown.count == 1 ? "is" : "are") not in the schema of source '\(source.name)'; add \(unknown.count == 1 ? "it" : "them") there or set on_schema_change: ignore; nothing was stored"
            )
        }
        report.rows.ignoredColumns = unknown.prefix(100).map { String($0.prefix(64)) }
        return order
    }

    mutating func readCSV(_ path: String, _ progress: @Sendable (LoadProgress) -> Void) async throws {
        var reader = try CSVReader(path: path, subject: subject, recordByteCountMax: service.limits.recordByteCountMax)
        guard let first = try reader.next() else { throw PlatformError(.invalidInput, subject, "the file is empty") }
        guard case .record(_, let header) = first else {
            if case .malformed(let line, _, let reason) = first {
                throw PlatformError(.invalidInput, subject, "line \(line) should be the header, but \(reason)")
            }
            return
        }
        let order = try order(ofHeader: header)
        let present = source.columns.indices.map { order.contains($0) }
        let contract = service.contract(of: source)
        while let item = try reader.next() {
            report.rowsRead += 1
            switch item {
            case .malformed(let line, let text, let reason): refuse("line: \(reason)", at: line, row: text)
            case .record(let line, let fields):
                guard fields.count == header.count else {
                    refuse(
                        "line: has another number of fields than the header", at: line,
                        row: fields.joined(separator: ","),
                        detail: "line: has \(fields.count) fields, the header has \(header.count)")
                    break
                }
                builder.add(contract.check(fields: fields, order: order, isPresent: present, from: .csv), at: line) {
                    JSONValue.object(Dictionary(zip(header, fields.map(JSONValue.string)), uniquingKeysWith: { $1 }))
                        .text
                }
            }
            if builder.count >= service.limits.loadBatchRowCount {
                try await store(bytesDone: reader.consumedByteCount, progress)
            }
        }
    }

    mutating func readLines(
        _ path: String, from origin: RowOrigin, _ progress: @Sendable (LoadProgress) -> Void
    ) async throws {
        var reader = try LineReader(path: path, subject: subject, lineByteCountMax: service.limits.recordByteCountMax)
        while let line = try reader.next() {
            report.rowsRead += 1
            if !line.isComplete {
                refuse(
                    "line: is longer than \(service.limits.recordByteCountMax) bytes", at: line.number,
                    row: String(decoding: line.bytes.prefix(QuarantinedRow.rowByteCountMax), as: UTF8.self))
            } else {
                do {
                    builder.add(try JSONValue.parse(line.bytes), at: line.number, from: origin)
                } catch {
                    refuse(
                        "line: is no JSON", at: line.number, row: String(decoding: line.bytes, as: UTF8.self),
                        detail: "line: is no JSON: \(error)")
                }
            }
            if builder.count >= service.limits.loadBatchRowCount {
                try await store(bytesDone: min(byteCount, reader.consumedByteCount), progress)
            }
        }
    }

    private mutating func refuse(_ rule: String, at line: Int, row: String, detail: String? = nil) {
        builder.refuse([ContractBreach(rule: rule, message: detail ?? rule)], at: line, row: row)
    }

    /// Hands what was collected to the intake and counts what became of it.
    mutating func store(bytesDone: Int, _ progress: @Sendable (LoadProgress) -> Void) async throws {
        try Task.checkCancellation()
        report.firstEventTime = [report.firstEventTime, builder.firstEventTime].compactMap { $0 }.min()
        report.lastEventTime = [report.lastEventTime, builder.lastEventTime].compactMap { $0 }.max()
        let result = try await service.intake(of: source.name).submit(builder.finish(idempotencyKey: nil))
        report.rows.accepted += result.accepted
        report.rows.duplicates += result.duplicates
        report.rows.quarantined += result.quarantined
        for (rule, count) in result.reasons { report.rows.reasons[rule, default: 0] += count }
        for (rule, count) in result.warnings { report.rows.warnings[rule, default: 0] += count }
        report.rows.ignoredColumns = Array(Set(report.rows.ignoredColumns + result.ignoredColumns)).sorted()
        progress(LoadProgress(rows: report.rowsRead, bytesDone: bytesDone, bytesTotal: byteCount))
    }
}
