public import Datasets
public import Definitions
import Foundation
public import PlatformCore
public import StoragePorts

/// Most that questions from outside may be.
public struct SpineLimits: Sendable {
    /// Questions.
    public var rowCountMax: Int
    /// Bytes of all files, or of a query's answer.
    public var byteCountMax: Int
    /// Makes limits.
    public init(rowCountMax: Int = 100_000_000, byteCountMax: Int = 64 << 30) {
        self.rowCountMax = rowCountMax
        self.byteCountMax = byteCountMax
    }
}

/// Fetches the questions of a training set from files, from SQL over the platform's tables, or from PostgreSQL.
///
/// What is read is checked strictly, cell by cell, as rows of a source are; one cell that is not what it must be refuses the
/// whole spine with column, value and row. The questions are kept as a Parquet file under its hash, in one order that does
/// not depend on how they came: the same questions give the same hash. SQL sees the tables of the sources that the
/// definition names, as they were known at `as_of`, and no file, setting or network.
public struct SpineReader: Sendable {
    let engine: any OfflineEngine
    let content: ContentStore
    private let files: any SourceFileStore
    private let database: any RowSource
    private let secret: @Sendable (String) -> String?
    private let queryLimits: QueryLimits
    let limits: SpineLimits

    /// Makes a reader.
    ///
    /// - Parameters:
    ///   - engine: an engine that speaks DuckDB's SQL.
    ///   - content: where questions are kept.
    ///   - files: where files come from.
    ///   - database: reads PostgreSQL.
    ///   - secret: the value of an environment variable.
    ///   - queryLimits: what one query may use.
    ///   - limits: how much may be read.
    public init(
        engine: any OfflineEngine, content: ContentStore, files: any SourceFileStore, database: any RowSource,
        secret: @escaping @Sendable (String) -> String?, queryLimits: QueryLimits = QueryLimits(),
        limits: SpineLimits = SpineLimits()
    ) {
        precondition(engine.dialect == .duckdb, "questions are read by DuckDB")
        self.engine = engine
        self.content = content
        self.files = files
        self.database = database
        self.secret = secret
        self.queryLimits = queryLimits
        self.limits = limits
    }

    /// Reads the questions and keeps them.
    ///
    /// - Parameters:
    ///   - subject: what errors are about: `training_set/late`.
    ///   - scans: the tables of the sources that a query names.
    ///   - asOf: rows that were not known before it are not in those tables.
    /// - Throws: `invalidInput` for a location, query, column or cell that is not what it must be, `tooLarge` for too much of
    ///   it, `unavailable` for a database that cannot be reached; what the engine and the store throw.
    @concurrent
    public func read(_ spine: SpineDefinition, of subject: String, scans: [Name: TableScan], asOf: EventTime)
        async throws
        -> DatasetManifest.Spine
    {
        var temporary: [String] = []
        defer { for path in temporary { try? FileManager.default.removeItem(atPath: path) } }
        let rows: RawRows
        let kind: String
        switch spine.origin {
        case .files(let location, let format):
            kind = "files"
            rows = try await fileRows(location, format, subject)
        case .sql(let query, let sources):
            kind = "sql"
            rows = Self.queryRows(query, sources.compactMap { scans[$0] }, asOf)
        case .postgreSQL(let connection, let query, let timeout):
            kind = "postgres"
            let path = try await content.base.stagingPath(suffix: ".ndjson")
            temporary.append(path)
            rows = try await databaseRows(connection, query, timeout, to: path, subject)
        }
        let output = try await content.base.stagingPath(suffix: ".parquet")
        temporary.append(output)
        let count = try await write(rows, spine, to: output, subject)
        let (part, byteCount) = try await content.adopt(stagedFileAt: output)
        return DatasetManifest.Spine(origin: kind, rows: count, part: part, byteCount: byteCount)
    }

    /// Questions that were read before, as a table.
    public static func scan(_ spine: DatasetManifest.Spine, as contract: SourceDefinition, in content: ContentStore)
        async throws -> TableScan
    {
        let path = try await content.localPath(of: spine.part)
        return TableScan(
            table: contract.name, version: 0, sql: "read_parquet(\(SQLText.literal(path)))",
            sparkSQL: "parquet.`\(path.replacing("`", with: "``"))`", rowCount: spine.rows, files: [path])
    }

    // MARK: Where rows come from

    /// The files of a location, each with a mark that differs when its content may.
    /// - Throws: `invalidInput` for a location without files.
    public func stamps(of location: String, subject: String) async throws -> [String: String] {
        Dictionary(
            try await list(location, subject).map { ($0.location, "\($0.byteCount) \($0.stamp)") },
            uniquingKeysWith: { $1 })
    }

    private func list(_ location: String, _ subject: String) async throws -> [SourceFileInfo] {
        do { return try await files.list(location) } catch {
            throw PlatformError(.invalidInput, subject, "the spine's files '\(location)': \(error.message)")
        }
    }

    private func fileRows(_ location: String, _ given: String?, _ subject: String) async throws -> RawRows {
        let found = try await list(location, subject)
        var paths: [String] = []
        var format: SourceFileFormat?
        var byteCount = 0
        for file in found {
            guard let own = given.flatMap(SourceFileFormat.init(rawValue:)) ?? SourceFileFormat(fileName: file.location)
            else {
                if found.count > 1 { continue }
                throw PlatformError(
                    .invalidInput, subject, "say the format of '\(file.location)' with 'format: csv|parquet|ndjson'")
            }
            if let format, format != own {
                throw PlatformError(
                    .invalidInput, subject,
                    "'\(location)' holds \(format.rawValue) and \(own.rawValue) files; name those of one format")
            }
            format = own
            byteCount += file.byteCount
            paths.append(try await files.localPath(of: file.location))
        }
        guard let format else {
            throw PlatformError(
                .invalidInput, subject,
                "none of \(found.count) files in '\(location)' is called .csv, .parquet, .ndjson, .jsonl or .json; say 'format'"
            )
        }
        try check(byteCount: byteCount, subject)
        let list = "[\(paths.map(SQLText.literal).joined(separator: ", "))]"
        switch format {
        case .csv:
            return RawRows(
                table:
                    "read_csv(\(list), header=true, all_varchar=true, nullstr=['', 'NA'], delim=',', quote='\"', escape='\"', union_by_name=true)",
                form: .text, readable: paths)
        case .ndjson:
            return RawRows(
                table: "read_ndjson_objects(\(list), ignore_errors=false)", form: .json, readable: paths)
        case .parquet:
            return RawRows(table: "read_parquet(\(list), union_by_name=true)", form: .typed, readable: paths)
        }
    }

    private static func queryRows(_ query: String, _ scans: [TableScan], _ asOf: EventTime) -> RawRows {
        let views = scans.map { scan in
            "CREATE TEMP VIEW \(SQLText.identifier(scan.table.text)) AS SELECT * FROM \(scan.sql) WHERE __ingest_time < \(asOf.milliseconds)"
        }
        return RawRows(
            // The line break ends a comment at the query's end.
            table: "(\(query)\n)", form: .typed, readable: scans.flatMap { $0.files ?? [] }, setup: views)
    }

    private func databaseRows(
        _ connection: String, _ query: String, _ timeout: TimeSpan, to path: String, _ subject: String
    ) async throws -> RawRows {
        guard let address = secret(connection), !address.isEmpty else {
            throw PlatformError(
                .invalidInput, subject,
                "the environment variable \(connection) is not set where the server runs; it must hold the connection string"
            )
        }
        let answer = try SpineAnswer(path: path, byteCountMax: limits.byteCountMax, subject: subject)
        do {
            try await database.read(
                RowQuery(
                    connection: address, subject: subject, sql: query,
                    statementTimeout: .milliseconds(timeout.milliseconds)),
                columns: { try answer.begin($0) }, rows: { try answer.add($0) })
        } catch let error as StoreError {
            let code: PlatformError.Code =
                switch error.code {
                case .invalidInput: .invalidInput
                case .limitExceeded: .deadlineExceeded
                default: .unavailable
                }
            throw PlatformError(code, subject, "the spine's query: \(error.message)")
        }
        return RawRows(
            table: "read_ndjson_objects([\(SQLText.literal(path))])", form: .jsonOfText(try answer.finish()),
            readable: [path])
    }

    private func check(byteCount: Int, _ subject: String) throws {
        guard byteCount > limits.byteCountMax else { return }
        throw PlatformError(
            .tooLarge, subject,
            "the spine's files have \(byteCount) bytes, more than \(limits.byteCountMax); build the set in spans of time"
        )
    }

    // MARK: Reading

    /// Checks the rows and writes them in their order; gives their number.
    private func write(_ rows: RawRows, _ spine: SpineDefinition, to path: String, _ subject: String) async throws
        -> Int
    {
        let sandbox = rows.sandbox(writing: path)
        let known: [String: String]
        if case .json = rows.form {
            known = [:]
        } else {
            known = try await columns(of: rows, sandbox, subject)
        }
        let sql = try SpineSQL(rows, spine, known: known, subject: subject)
        let setup = sandbox + sql.statements(to: path, rowCountMax: limits.rowCountMax)
        let found = try await asking(subject) {
            try await engine.rows(sql.summary, setup: setup.joined(separator: ";\n"), limits: queryLimits).first
        }
        guard let found, let count = found["n"]?.integerValue else {
            throw PlatformError(.internal, subject, "the engine counted no questions")
        }
        guard count > 0 else { throw PlatformError(.invalidInput, subject, "the spine holds no question") }
        guard count <= limits.rowCountMax else {
            throw PlatformError(
                .tooLarge, subject,
                "the spine has more than \(limits.rowCountMax) questions; build the set in spans of time")
        }
        if let fault = sql.fault(in: found) { throw PlatformError(.invalidInput, subject, fault) }
        return Int(count)
    }

    private func columns(of rows: RawRows, _ sandbox: [String], _ subject: String) async throws -> [String: String] {
        if case .jsonOfText(let columns) = rows.form {
            return Dictionary(columns.map { ($0, "VARCHAR") }, uniquingKeysWith: { first, _ in first })
        }
        let described = try await asking(subject) {
            try await engine.rows(
                "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM \(rows.table) spine)",
                setup: sandbox.joined(separator: ";\n"), limits: queryLimits)
        }
        var known: [String: String] = [:]
        for column in described {
            guard let name = column["column_name"]?.stringValue, let type = column["column_type"]?.stringValue else {
                continue
            }
            known[name] = type
        }
        return known
    }

    /// What the engine refuses is the spine's fault.
    private func asking<Answer>(_ subject: String, _ body: () async throws -> Answer) async throws -> Answer {
        do { return try await body() } catch let error as StoreError {
            guard error.code == .invalidInput else { throw error }
            throw PlatformError(.invalidInput, subject, "the spine cannot be read: \(error.message)")
        }
    }
}
