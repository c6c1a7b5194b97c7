import Definitions
import Foundation
import PlatformCore
import StoragePorts

/// One load on its way.
struct FileLoad: Sendable {
    /// What a reading of the file is for.
    enum Pass: Sendable {
        /// To find what the rows bring beyond the schema.
        case survey
        /// To learn what the checks of whole loads need; the rows that would be accepted are written to a file.
        case check(CheckSpool)
        /// To store the rows.
        case store
    }
    let service: IngestService
    let source: SourceDefinition
    var builder: BatchBuilder
    var report: LoadReport
    let byteCount: Int
    let path: String
    let origin: RowOrigin
    private(set) var shape = ShapeSurvey()
    private var place: LoadPlace?
    private var lastCheckpoint = ContinuousClock.now

    init(
        service: IngestService, source: SourceDefinition, builder: BatchBuilder, report: LoadReport, byteCount: Int,
        path: String, origin: RowOrigin
    ) {
        self.service = service
        self.source = source
        self.builder = builder
        self.report = report
        self.byteCount = byteCount
        self.path = path
        self.origin = origin
    }

    private var subject: String { "file/\(report.file)" }
    private var batchRowCount: Int { service.limits.loadBatchRowCount }

    static func beginning(of path: String, subject: String) throws -> [UInt8] {
        guard let handle = FileHandle(forReadingAtPath: path) else {
            throw PlatformError(.notFound, subject, "the file cannot be read")
        }
        defer { try? handle.close() }
        return Array(try handle.read(upToCount: 4) ?? Data())
    }

    /// Whether a file begins as one of gzip or Zstandard does.
    static func isPacked(_ beginning: [UInt8]) -> Bool {
        beginning.starts(with: [0x1F, 0x8B]) || beginning == [0x28, 0xB5, 0x2F, 0xFD]
    }

    /// Refuses a file that is plainly of another kind.
    static func checkBeginning(of path: String, subject: String, origin: RowOrigin) throws {
        let beginning = try beginning(of: path, subject: subject)
        let isParquet = beginning == Array("PAR1".utf8)
        if origin == .database { return }
        if beginning.isEmpty { throw PlatformError(.invalidInput, subject, "the file is empty") }
        if beginning.starts(with: [0x50, 0x4B, 3, 4]) || isPacked(beginning) {
            throw PlatformError(
                .invalidInput, subject, "the file is compressed; unpack it, or compress it once with gzip or zstd")
        }
        let format = origin == .push ? "ndjson" : origin.rawValue
        if isParquet != (origin == .parquet) {
            throw PlatformError(
                .invalidInput, subject, isParquet ? "the file is Parquet, not \(format)" : "the file is no Parquet")
        }
    }

    /// Goes on where an earlier attempt stood.
    mutating func resume(at place: LoadPlace) {
        self.place = place
        report = place.report
        report.resumedAtRow = place.report.rowsRead
    }

    mutating func read(_ pass: Pass, _ progress: @Sendable (LoadProgress) -> Void) async throws {
        lastCheckpoint = ContinuousClock.now
        if origin == .csv { try await readCSV(pass, progress) } else { try await readLines(pass, progress) }
    }

    // MARK: CSV

    /// For each column of a header its position in the source; `nil` for one that is dropped.
    private mutating func order(ofHeader header: [String], _ pass: Pass) throws -> [Int?] {
        var seen: Set<String> = []
        for name in header where !seen.insert(name).inserted {
            throw PlatformError(
                .invalidInput, subject, "the column \(CellReader.shown(name)) appears twice in the header")
        }
        let order = header.map(builder.contract.position)
        let unknown = zip(header, order).filter { $0.1 == nil }.map(\.0)
        if case .survey = pass {
            if source.schemaChange == .add { for name in unknown { shape.add(name, .string) } }
            return order
        }
        try report.compare(columns: header, with: source, builder.contract, subject: subject)
        return order
    }

    private mutating func readCSV(_ pass: Pass, _ progress: @Sendable (LoadProgress) -> Void) async throws {
        var reader = try CSVReader(path: path, subject: subject, recordByteCountMax: service.limits.recordByteCountMax)
        guard let first = try reader.next() else { throw PlatformError(.invalidInput, subject, "the file is empty") }
        guard case .record(_, let header) = first else {
            if case .malformed(let line, _, let reason) = first {
                throw PlatformError(.invalidInput, subject, "line \(line) should be the header, but \(reason)")
            }
            return
        }
        let order = try order(ofHeader: header, pass)
        let contract = builder.contract
        let present = contract.definition.columns.indices.map { order.contains($0) }
        if case .store = pass, let place { try reader.move(to: place.position, line: place.line) }
        func text(_ fields: [String]) -> JSONValue {
            .object(Dictionary(zip(header, fields.map(JSONValue.string)), uniquingKeysWith: { $1 }))
        }
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
                if case .survey = pass {
                    if source.schemaChange == .widen { shape.look(at: text(fields), contract, from: .csv) }
                    break
                }
                builder.add(
                    contract.check(fields: fields, order: order, isPresent: present, from: .csv), at: line, from: .csv
                ) { text(fields).text }
            }
            if builder.count >= batchRowCount {
                try await take(pass, position: reader.consumedByteCount, line: reader.nextLine, progress)
            }
        }
        try await take(pass, position: reader.consumedByteCount, line: reader.nextLine, progress)
    }

    // MARK: JSON lines

    private mutating func readLines(_ pass: Pass, _ progress: @Sendable (LoadProgress) -> Void) async throws {
        var reader = try LineReader(path: path, subject: subject, lineByteCountMax: service.limits.recordByteCountMax)
        if case .store = pass, let place { try reader.move(to: place.position, line: place.line) }
        while let line = try reader.next() {
            report.rowsRead += 1
            if !line.isComplete {
                refuse(
                    "line: is longer than \(service.limits.recordByteCountMax) bytes", at: line.number,
                    row: String(decoding: line.bytes.prefix(QuarantinedRow.rowByteCountMax), as: UTF8.self))
            } else {
                do {
                    let row = try JSONValue.parse(line.bytes)
                    if case .survey = pass {
                        shape.look(at: row, builder.contract, from: origin)
                    } else {
                        builder.add(row, at: line.number, from: origin)
                    }
                } catch {
                    refuse(
                        "line: is no JSON", at: line.number, row: String(decoding: line.bytes, as: UTF8.self),
                        detail: "line: is no JSON: \(error)")
                }
            }
            if builder.count >= batchRowCount {
                try await take(
                    pass, position: min(byteCount, reader.consumedByteCount), line: reader.nextLine, progress)
            }
        }
        try await take(pass, position: min(byteCount, reader.consumedByteCount), line: reader.nextLine, progress)
    }

    private mutating func refuse(_ rule: String, at line: Int, row: String, detail: String? = nil) {
        builder.refuse([ContractBreach(rule: rule, message: detail ?? rule)], at: line, row: row, from: origin)
    }

    // MARK: Portions

    /// Does with the collected rows what this reading is for.
    private mutating func take(
        _ pass: Pass, position: Int, line: Int, _ progress: @Sendable (LoadProgress) -> Void
    ) async throws {
        try Task.checkCancellation()
        switch pass {
        case .survey: _ = builder.finish(idempotencyKey: nil)
        case .check(let spool):
            report.lastEventTime = [report.lastEventTime, builder.lastEventTime].compactMap { $0 }.max()
            let request = builder.finish(idempotencyKey: nil)
            report.rows.accepted += request.rows.count
            try spool.write(request.rows)
        case .store:
            report.firstEventTime = [report.firstEventTime, builder.firstEventTime].compactMap { $0 }.min()
            report.lastEventTime = [report.lastEventTime, builder.lastEventTime].compactMap { $0 }.max()
            let result = try await service.intake(of: source.name).submit(builder.finish(idempotencyKey: nil))
            report.rows.add(result)
            if ContinuousClock.now - lastCheckpoint > .milliseconds(500) {
                try await service.checkpoint(report, position: position, line: line)
                lastCheckpoint = ContinuousClock.now
            }
            progress(LoadProgress(rows: report.rowsRead, bytesDone: position, bytesTotal: byteCount))
        }
    }
}

extension LoadReport {
    /// Compares the columns that a file or query brings with the source's, under its policy.
    mutating func compare(
        columns: [String], with source: SourceDefinition, _ contract: SourceContract, subject: String
    ) throws(PlatformError) {
        let present = Set(columns)
        let missing = contract.definition.columns.filter {
            !present.contains($0.name) && source.column($0.name) != nil
                && ($0.name != source.ingestTimeColumn || $0.name == source.eventTimeColumn)
        }
        let needed = missing.filter {
            source.schemaChange == .refuse || !$0.nullable || $0.name == source.eventTimeColumn
        }
        let unknown = columns.filter { contract.position(of: $0) == nil }
        guard needed.isEmpty else {
            let names = needed.prefix(10).map { "'\($0.name)'" }.joined(separator: ", ")
            throw PlatformError(
                .invalidInput, subject,
                "the column\(needed.count == 1 ? "" : "s") \(names) of source '\(source.name)' \(needed.count == 1 ? "is" : "are") missing\(Self.hint(needed.map(\.name), columns: columns, unknown: unknown)); nothing was stored"
            )
        }
        for column in missing {
            rows.note("column '\(column.name)' is missing; its rows hold null there")
        }
        if !unknown.isEmpty, source.schemaChange == .refuse {
            throw PlatformError(
                .invalidInput, subject,
                "the column\(unknown.count == 1 ? "" : "s") \(unknown.prefix(10).map(CellReader.shown).joined(separator: ", ")) \(unknown.count == 1 ? "is" : "are") not in the schema of source '\(source.name)'; add \(unknown.count == 1 ? "it" : "them") there or set on_schema_change: ignore; nothing was stored"
            )
        }
        rows.ignoredColumns = unknown.prefix(100).map { String($0.prefix(64)) }
    }

    /// What may be behind columns that are missing: another separator, or a name that is nearly theirs.
    private static func hint(_ missing: [String], columns: [String], unknown: [String]) -> String {
        if columns.count == 1, let only = columns.first {
            for (separator, shown) in [(";", "';'"), ("\t", "tabs"), ("|", "'|'")] where only.contains(separator) {
                return
                    ": the header has one column with \(shown) in it, and a CSV file here has commas between its columns"
            }
        }
        let near = missing.compactMap { name in
            nearestName(to: name, among: unknown).map { (there: $0, meant: name) }
        }
        guard let first = near.first else { return "" }
        return ": the file has \(CellReader.shown(first.there)); did you mean '\(first.meant)'?"
    }
}
