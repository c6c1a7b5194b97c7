import ContentHashing
public import Definitions
import Foundation
public import PlatformCore
import StoragePorts
import Synchronization

/// What a pull from where a source's rows come from did.
public struct PullReport: Sendable, Hashable {
    /// One for each file or query that was loaded.
    public var loads: [LoadReport] = []
    /// Files that were loaded before and have not changed.
    public var unchangedFiles = 0
    /// The largest cursor read; `nil` where there is none.
    public var watermark: String?

    /// The report as the HTTP contract shows it.
    public var json: JSONValue {
        [
            "loads": .array(loads.map(\.json)), "files_unchanged": .integer(Int64(unchangedFiles)),
            "watermark": watermark.map(JSONValue.string) ?? .null,
            "rows_accepted": .integer(Int64(loads.reduce(0) { $0 + ($1.isAlreadyLoaded ? 0 : $1.rows.accepted) })),
            "rows_quarantined": .integer(
                Int64(loads.reduce(0) { $0 + ($1.isAlreadyLoaded ? 0 : $1.rows.quarantined) })),
        ]
    }
}

extension IngestService {
    /// Fetches what is new where the source says its rows come from.
    ///
    /// Files: each one whose location, size and stamp are not those of its last load, in byte order of the locations; the
    /// first one that fails ends the pull, those before it stay loaded. A query: all of its rows, or with a cursor those
    /// from the largest one read on, less the overlap; what is read twice is known by its content.
    ///
    /// - Throws: `PlatformError` (`invalidInput` for a source without `from`, `conflict` while another pull runs), as `load`.
    @concurrent
    public func pull(
        _ source: SourceDefinition, now: EventTime, progress: @Sendable (LoadProgress) -> Void = { _ in }
    ) async throws -> PullReport {
        guard let origin = source.origin else {
            throw PlatformError(
                .invalidInput, "source/\(source.name)",
                "its definition does not say where rows come from; name a file, or write 'from' there")
        }
        let claimed = "\(source.name)/pull"
        guard claim(claimed) else {
            throw PlatformError(.conflict, "source/\(source.name)", "a pull is running already")
        }
        defer { release(claimed) }
        switch origin {
        case .files(let location, let format):
            return try await pull(source, files: location, format, now: now, progress: progress)
        case .postgreSQL(let query): return try await pull(source, query, now: now, progress: progress)
        }
    }

    // MARK: Files

    private func pull(
        _ source: SourceDefinition, files location: String, _ given: String?, now: EventTime,
        progress: @Sendable (LoadProgress) -> Void
    ) async throws -> PullReport {
        let found: [SourceFileInfo]
        do { found = try await files.list(location) } catch {
            let code: PlatformError.Code =
                [.notFound, .invalidInput, .limitExceeded].contains(error.code) ? .invalidInput : .unavailable
            throw PlatformError(code, "source/\(source.name)", "from '\(location)': \(error.message)")
        }
        var report = PullReport()
        for file in found {
            guard
                let format = given.flatMap(SourceFileFormat.init(rawValue:))
                    ?? SourceFileFormat(fileName: file.location)
            else {
                if found.count == 1 {
                    throw PlatformError(
                        .invalidInput, "file/\(file.location)", "say its format with 'format: csv|parquet|ndjson'")
                }
                continue  // a folder holds other things too: README, _SUCCESS
            }
            if try await isLoaded(file, source.name) {
                report.unchangedFiles += 1
                continue
            }
            let path = try await files.localPath(of: file.location)
            let hash = try Self.hash(fileAt: path, subject: file.location)
            let load = try await load(
                source, fileAt: path, fileName: file.location, format: format, contentHash: hash, now: now,
                progress: progress)
            // A file that was written to meanwhile is read again next time.
            if try await files.list(file.location) == [file] {
                try await remember(file, source.name, hash, now: now)
            }
            report.loads.append(load)
        }
        guard !report.loads.isEmpty || report.unchangedFiles > 0 else {
            throw PlatformError(
                .invalidInput, "source/\(source.name)",
                "from '\(location)': none of \(found.count) files is called .csv, .parquet, .ndjson, .jsonl or .json; say 'format'"
            )
        }
        return report
    }

    private static func hash(fileAt path: String, subject: String) throws -> ContentHash {
        guard let file = FileHandle(forReadingAtPath: path) else {
            throw PlatformError(.invalidInput, "file/\(subject)", "the file cannot be read")
        }
        defer { try? file.close() }
        var hasher = ContentHasher()
        while let data = try file.read(upToCount: 1 << 20), !data.isEmpty { hasher.update(Array(data)) }
        return hasher.finalize()
    }

    private func isLoaded(_ file: SourceFileInfo, _ source: Name) async throws -> Bool {
        try await metadata.read { transaction in
            try !transaction.query(
                "SELECT 1 AS one FROM dataset_file WHERE source = ? AND location = ? AND byte_count = ? AND stamp = ?",
                [.text(source.text), .text(file.location), .integer(Int64(file.byteCount)), .text(file.stamp)]
            ).isEmpty
        }
    }

    private func remember(_ file: SourceFileInfo, _ source: Name, _ hash: ContentHash, now: EventTime) async throws {
        _ = try await metadata.write { transaction in
            try transaction.execute(
                """
                INSERT INTO dataset_file (source, location, byte_count, stamp, content_hash, loaded_ms)
                VALUES (?, ?, ?, ?, ?, ?)
                ON CONFLICT (source, location) DO UPDATE SET byte_count = excluded.byte_count, stamp = excluded.stamp,
                    content_hash = excluded.content_hash, loaded_ms = excluded.loaded_ms
                """,
                [
                    .text(source.text), .text(file.location), .integer(Int64(file.byteCount)), .text(file.stamp),
                    .text(hash.hex), .integer(now.milliseconds),
                ])
        }
    }

    // MARK: Queries

    private func pull(
        _ source: SourceDefinition, _ origin: PostgreSQLOrigin, now: EventTime,
        progress: @Sendable (LoadProgress) -> Void
    ) async throws -> PullReport {
        let subject = "source/\(source.name)"
        guard let connection = secret(origin.connection), !connection.isEmpty else {
            throw PlatformError(
                .invalidInput, subject,
                "the environment variable \(origin.connection) is not set where the server runs; it must hold the connection string"
            )
        }
        // Another query starts anew: its rows are known by their content.
        let identity = ContentHasher.hash("\(origin.query)\u{1F}\(origin.cursor ?? "")").hex
        let known = try await watermark(of: source.name, identity)
        var sql = origin.query
        var parameter: String?
        if let cursor = origin.cursor, let type = source.column(cursor)?.type {
            let name = SQLText.identifier(cursor)
            if let known {
                parameter = Self.lowered(known, type, by: origin.overlap)
                let cast = type == .timestamp ? "timestamptz" : type == .int64 ? "bigint" : "text"
                sql = "SELECT * FROM (\(sql)\n) AS rows WHERE \(name) >= $1::\(cast) ORDER BY \(name)"
            } else {
                sql = "SELECT * FROM (\(sql)\n) AS rows ORDER BY \(name)"
            }
        }
        let spool = try spoolPath("pull")
        defer { try? FileManager.default.removeItem(atPath: spool) }
        let answer = try QueryAnswer(
            path: spool, cursor: origin.cursor, type: origin.cursor.flatMap { source.column($0)?.type })
        do {
            try await database.read(
                RowQuery(
                    connection: connection, subject: subject, sql: sql, parameter: parameter,
                    statementTimeout: .milliseconds(origin.timeout.milliseconds)),
                columns: { try answer.begin($0) }, rows: { try answer.add($0) })
        } catch let error as StoreError {
            let code: PlatformError.Code =
                switch error.code {
                case .invalidInput: .invalidInput
                case .limitExceeded: .deadlineExceeded
                default: .unavailable
                }
            throw PlatformError(code, subject, error.message)
        }
        let (columns, watermark, rowCount) = try answer.finish()
        var report = PullReport(watermark: watermark ?? known)
        var load = LoadReport(
            source: source.name, file: "query at \(now)", contentHash: try Self.hash(fileAt: spool, subject: "query"))
        try await fit(columns, to: source, subject: subject, &load, now: now, type: Self.type(ofPostgreSQL:))
        if rowCount > 0 {
            var finished = try await self.load(
                source, fileAt: spool, fileName: load.file, origin: .database, contentHash: load.contentHash, now: now,
                progress: progress)
            for change in load.rows.schemaChanges { finished.rows.note(change) }
            if finished.rows.ignoredColumns.isEmpty { finished.rows.ignoredColumns = load.rows.ignoredColumns }
            report.loads.append(finished)
        }
        if let watermark, watermark != known {
            try await remember(watermark, of: source.name, identity, now: now)
        }
        return report
    }

    /// The watermark less the overlap, as the database reads it.
    private static func lowered(_ watermark: String, _ type: ColumnType, by overlap: TimeSpan) -> String {
        guard type == .timestamp, overlap.milliseconds > 0, let time = EventTime(text: watermark) else {
            return watermark
        }
        return time.advanced(by: TimeSpan(milliseconds: -overlap.milliseconds)).description
    }

    private func watermark(of source: Name, _ query: String) async throws -> String? {
        try await metadata.read { transaction in
            try transaction.query(
                "SELECT value FROM dataset_watermark WHERE source = ? AND query_hash = ?",
                [.text(source.text), .text(query)]
            ).first?.text("value")
        }
    }

    private func remember(_ watermark: String, of source: Name, _ query: String, now: EventTime) async throws {
        _ = try await metadata.write { transaction in
            try transaction.execute(
                """
                INSERT INTO dataset_watermark (source, query_hash, value, updated_ms) VALUES (?, ?, ?, ?)
                ON CONFLICT (source) DO UPDATE SET query_hash = excluded.query_hash, value = excluded.value,
                    updated_ms = excluded.updated_ms
                """,
                [.text(source.text), .text(query), .text(watermark), .integer(now.milliseconds)])
        }
    }

    static func type(ofPostgreSQL type: String) -> ForeignType {
        switch type {
        case "smallint", "integer", "bigint": return .known(.int64)
        case "real", "double precision": return .known(.float64)
        case "boolean": return .known(.bool)
        case "text", "name": return .known(.string)
        case "timestamp with time zone", "date": return .known(.timestamp)
        case "uuid", "json", "jsonb", "inet", "cidr", "macaddr", "interval", "time without time zone",
            "time with time zone", "citext", "xml":
            return .text
        case "bytea": return .unusable("holds bytes")
        default:
            if type.hasPrefix("numeric") { return .known(.float64) }
            if type.hasPrefix("character") || type == "bpchar" { return .known(.string) }
            if type.hasPrefix("timestamp"), type.hasSuffix("with time zone") { return .known(.timestamp) }
            if type.hasPrefix("timestamp") {
                return .zoneless("write (column AT TIME ZONE 'UTC') in the query")
            }
            if type.hasSuffix("[]") { return .unusable("is an array; a column holds one value") }
            return .text  // an enumeration, a domain, a range: its text
        }
    }
}

/// The rows of a query on their way to a file of JSON lines, and the largest cursor among them.
private final class QueryAnswer: Sendable {
    private struct State {
        var columns: [RowColumn] = []
        var prefixes: [[UInt8]] = []
        var cursorIndex: Int?
        var largest: String?
        var rowCount = 0
    }
    private let handle: FileHandle
    private let cursor: String?
    private let type: ColumnType?
    private let state = Mutex(State())

    init(path: String, cursor: String?, type: ColumnType?) throws {
        guard FileManager.default.createFile(atPath: path, contents: nil),
            let handle = FileHandle(forWritingAtPath: path)
        else { throw StoreError(.full, "spool", "the query's answer cannot be written") }
        self.handle = handle
        self.cursor = cursor
        self.type = type
    }

    func begin(_ columns: [RowColumn]) throws {
        var names: Set<String> = []
        for column in columns where !names.insert(column.name).inserted {
            throw StoreError(.invalidInput, "query", "the query gives the column '\(column.name)' twice")
        }
        if let cursor, !names.contains(cursor) {
            throw StoreError(.invalidInput, "query", "the query does not give the cursor '\(cursor)'")
        }
        state.withLock { state in
            state.columns = columns
            state.cursorIndex = cursor.flatMap { cursor in columns.firstIndex { $0.name == cursor } }
            state.prefixes = columns.map { column in
                var bytes: [UInt8] = []
                JSONValue.write(column.name, to: &bytes)
                return bytes + [0x3A]
            }
        }
    }

    func add(_ rows: [[String?]]) throws {
        var bytes: [UInt8] = []
        state.withLock { state in
            for row in rows {
                bytes.append(0x7B)
                var isFirst = true
                for (prefix, cell) in zip(state.prefixes, row) {
                    guard let cell else { continue }
                    if !isFirst { bytes.append(0x2C) }
                    isFirst = false
                    bytes += prefix
                    JSONValue.write(cell, to: &bytes)
                }
                bytes += [0x7D, 10]
                if let index = state.cursorIndex, let value = row[index], isBeyond(value, state.largest) {
                    state.largest = value
                }
            }
            state.rowCount += rows.count
        }
        do { try handle.write(contentsOf: bytes) } catch {
            throw StoreError(.full, "spool", "the query's answer cannot be written", cause: error)
        }
    }

    private func isBeyond(_ value: String, _ largest: String?) -> Bool {
        guard let largest else { return true }
        switch type {
        case .int64: return (Int64(value) ?? .min) > (Int64(largest) ?? .min)
        case .timestamp:
            // Microseconds matter: what the database orders last is the largest, and rows come in its order.
            return (EventTime(text: value) ?? EventTime(milliseconds: .min))
                >= (EventTime(text: largest) ?? EventTime(milliseconds: .min))
        default: return true  // the database's own order
        }
    }

    func finish() throws -> ([RowColumn], String?, Int) {
        try handle.close()
        return state.withLock { ($0.columns, $0.largest, $0.rowCount) }
    }
}
