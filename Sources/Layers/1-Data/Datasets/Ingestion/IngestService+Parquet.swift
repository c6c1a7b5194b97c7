import Definitions
import PlatformCore
import StoragePorts

extension IngestService {
    /// Writes a Parquet file's rows as JSON lines of text, the columns that the source knows alone.
    func writeLines(
        ofParquet path: String, to spool: String, _ source: SourceDefinition, _ report: inout LoadReport,
        now: EventTime
    ) async throws {
        let subject = "file/\(report.file)"
        let file = "read_parquet(\(SQLText.literal(path)))"
        let described: [JSONValue]
        do {
            described = try await engine.rows("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM \(file))")
        } catch let error as StoreError where error.code == .invalidInput {
            throw PlatformError(
                .invalidInput, subject, Self.firstLine(error.message.replacing(path, with: report.file)))
        }
        let columns = described.compactMap { row -> RowColumn? in
            guard let name = row["column_name"]?.stringValue, let type = row["column_type"]?.stringValue else {
                return nil
            }
            return RowColumn(name: name, type: type)
        }
        try await fit(columns, to: source, subject: subject, &report, now: now, type: Self.type(ofDuckDB:))
        let contract = contract(of: source)
        let wanted = columns.filter { contract.position(of: $0.name) != nil }
        let cells = wanted.map { "CAST(\(SQLText.identifier($0.name)) AS VARCHAR) AS \(SQLText.identifier($0.name))" }
        do {
            try await engine.execute(
                "COPY (SELECT \(cells.joined(separator: ", ")) FROM \(file)) TO \(SQLText.literal(spool)) (FORMAT json)"
            )
        } catch {
            if error.code != .invalidInput { throw error }
            throw PlatformError(
                .invalidInput, subject, Self.firstLine(error.message.replacing(path, with: report.file)))
        }
    }

    static func firstLine(_ text: String) -> String {
        String(text.split(whereSeparator: \.isNewline).joined(separator: " ").prefix(400))
    }

    /// What a column of another system can be here.
    enum ForeignType: Sendable {
        case known(ColumnType)
        /// Only as text.
        case text
        /// Times without a zone, which only a column that says `zone` takes; and what to do otherwise.
        case zoneless(String)
        /// Not at all, and why.
        case unusable(String)
    }

    static func type(ofDuckDB type: String) -> ForeignType {
        switch type {
        case "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER": return .known(.int64)
        case "FLOAT", "DOUBLE", "UBIGINT", "HUGEINT", "UHUGEINT": return .known(.float64)
        case "BOOLEAN": return .known(.bool)
        case "VARCHAR": return .known(.string)
        case "TIMESTAMP WITH TIME ZONE", "DATE": return .known(.timestamp)
        case "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS":
            return .zoneless("write them as instants (isAdjustedToUTC)")
        case "FLOAT[]", "DOUBLE[]", "INTEGER[]", "BIGINT[]": return .known(.vector)
        case "UUID", "TIME", "TIME WITH TIME ZONE", "INTERVAL": return .text
        case "BLOB": return .unusable("holds bytes")
        default:
            if type.hasPrefix("DECIMAL") { return .known(.float64) }
            if type.hasPrefix("ENUM") { return .known(.string) }
            return .unusable("is nested (\(type.prefix(60))); a column holds one value")
        }
    }

    /// Compares the columns that come with the source's, and does what its policy says about the difference.
    func fit(
        _ columns: [RowColumn], to source: SourceDefinition, subject: String, _ report: inout LoadReport,
        now: EventTime, type: (String) -> ForeignType
    ) async throws {
        let contract = contract(of: source)
        var added: [String: ColumnType] = [:]
        for column in columns {
            guard let position = contract.position(of: column.name) else {
                // A vector has a length, which only the definition knows.
                if source.schemaChange == .add, case .known(let found) = type(column.type), found != .vector {
                    added[column.name] = found
                }
                continue
            }
            let declared = contract.definition.columns[position]
            func refuse(_ what: String) -> PlatformError {
                PlatformError(
                    .invalidInput, subject,
                    "the column '\(column.name)' \(what), source '\(source.name)' declares \(declared.type.rawValue); nothing was stored"
                )
            }
            switch type(column.type) {
            case .unusable(let why): throw refuse(why)
            case .zoneless(let hint):
                guard declared.assumesUTC else {
                    throw refuse("has times without a zone; \(hint), or say 'zone: UTC' in the schema")
                }
            case .text:
                guard declared.type == .string else { throw refuse("is \(column.type)") }
            case .known(let found):
                switch (found, declared.type) {
                case (let found, let declared) where found == declared: break
                case (.int64, .float64), (.float64, .int64), (.int64, .timestamp), (.string, .timestamp), (_, .string):
                    report.rows.note(
                        "column '\(column.name)' comes as \(column.type.lowercased()), declared is \(declared.type.rawValue): values that do not fit exactly are refused"
                    )
                default: throw refuse("is \(column.type)")
                }
            }
        }
        // Whether a column of doubles is widened is decided by its values: whole ones need no other type.
        if !added.isEmpty {
            try await shapes.change(source, adding: added, widening: [], origin: report.file, now: now)
        }
        try report.compare(
            columns: columns.map(\.name), with: source, self.contract(of: source), subject: subject)
    }
}
