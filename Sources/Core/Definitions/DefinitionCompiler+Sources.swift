import Foundation
import PlatformCore

/// Conditions on rows and loads, and where rows are fetched.
extension DefinitionCompiler {
    mutating func expectations(_ fields: FieldReader, _ columns: [ColumnDefinition]) throws
        -> ([ExpectationDefinition], [LoadCheckDefinition])
    {
        var rows: [ExpectationDefinition] = []
        var loads: [LoadCheckDefinition] = []
        var names: Set<String> = []
        let readers = Array(try fields.mappings("expectations", of: "expectation").enumerated())
        try each(readers) { compiler, element throws(PlatformError) in
            let (index, reader) = element
            let severity = try reader.optionalChoice("severity", ExpectationSeverity.self) ?? .reject
            let given = try reader.optionalText("name")
            let name: String
            if let check = try compiler.loadCheck(reader, columns) {
                name = given ?? "\(check.0)_\(index + 1)"
                loads.append(LoadCheckDefinition(name: name, check: check.1, severity: severity))
            } else {
                let (column, check) = try compiler.rowCheck(reader, columns)
                name = given ?? "\(column)_\(index + 1)"
                rows.append(ExpectationDefinition(name: name, column: column, check: check, severity: severity))
            }
            guard names.insert(name).inserted else {
                throw reader.error("name", "two expectations are called '\(name.prefix(60))'")
            }
            try reader.finish()
        }
        return (rows, loads)
    }

    private func column(_ name: String, _ key: String, _ reader: FieldReader, _ columns: [ColumnDefinition])
        throws(PlatformError) -> ColumnDefinition
    {
        if let found = columns.first(where: { $0.name == name }) { return found }
        let near = nearestName(to: name, among: columns.map(\.name))
        throw reader.error(
            key, "the schema has no column '\(name.prefix(60))'" + (near.map { "; did you mean '\($0)'?" } ?? ""))
    }

    /// `[from, to]`; a side may be open, a share may be written as a percentage.
    private func bounds(_ key: String, _ reader: FieldReader) throws(PlatformError) -> (Double?, Double?) {
        let texts = try reader.texts(key)
        func bound(_ text: String) throws(PlatformError) -> Double? {
            if ["", "null", "~"].contains(text) { return nil }
            let isShare = text.hasSuffix("%")
            guard let value = Double(isShare ? String(text.dropLast()) : text), value.isFinite else {
                throw reader.error(key, "'\(key)' must be two numbers [from, to]; '~' leaves a side open")
            }
            return isShare ? value / 100 : value
        }
        guard texts.count == 2 else { throw reader.error(key, "'\(key)' must be [from, to]") }
        let (low, high) = (try bound(texts[0]), try bound(texts[1]))
        guard low ?? -.infinity <= high ?? .infinity else { throw reader.error(key, "'\(key)' is empty") }
        return (low, high)
    }

    private func rowCheck(_ reader: FieldReader, _ columns: [ColumnDefinition]) throws(PlatformError)
        -> (String, ExpectationDefinition.Check)
    {
        var checks: [ExpectationDefinition.Check] = []
        // `unique: [a, b]` names its columns itself; `unique: true` is about `column`.
        var uniqueColumns: [String] = []
        if reader.has("unique") {
            if let listed = try? reader.optionalTexts("unique") {
                guard 1...8 ~= listed.count, Set(listed).count == listed.count else {
                    throw reader.error("unique", "'unique' must name 1 to 8 different columns, or be true")
                }
                for name in listed { _ = try column(name, "unique", reader, columns) }
                uniqueColumns = listed
            } else if try !reader.flag("unique", default: true) {
                throw reader.error("unique", "'unique' must be true or a list of columns")
            }
        }
        if !uniqueColumns.isEmpty, !reader.has("column") {
            try refuseSecond(reader, besides: "unique")
            return (uniqueColumns[0], .unique(columns: uniqueColumns))
        }
        let name = try reader.text("column")
        let target = try column(name, "column", reader, columns)
        guard target.type != .vector || reader.has("not_null") else {
            throw reader.error("column", "'\(name)' is a vector: its length and finite numbers are checked anyhow")
        }
        if reader.has("unique") { checks.append(.unique(columns: uniqueColumns.isEmpty ? [name] : uniqueColumns)) }
        if reader.has("range") {
            guard target.type.isNumeric else {
                throw reader.error("range", "'range' must be [from, to] on a number column")
            }
            let (low, high) = try bounds("range", reader)
            checks.append(.range(minimum: low, maximum: high))
        }
        if reader.has("in") { checks.append(.among(try reader.texts("in"))) }
        if let pattern = try reader.optionalText("matches") {
            guard target.type == .string else { throw reader.error("matches", "'matches' needs a string column") }
            do { _ = try Regex(pattern) } catch {
                throw reader.error("matches", "'\(pattern.prefix(60))' is no regular expression")
            }
            checks.append(.matches(pattern))
        }
        if let other = try reader.optionalText("not_before") {
            guard try column(other, "not_before", reader, columns).type == target.type, target.type != .string else {
                throw reader.error("not_before", "'not_before' needs two number or two timestamp columns")
            }
            checks.append(.notBefore(otherColumn: other))
        }
        if try reader.flag("not_null", default: false) { checks.append(.notNull) }
        guard checks.count == 1 else {
            throw reader.error(
                nil,
                "needs exactly one of 'range', 'in', 'matches', 'not_before', 'not_null', 'unique', 'freshness', 'row_count_change', 'distribution', 'sql'"
            )
        }
        return (name, checks[0])
    }

    private static let expectationKinds = [
        "range", "in", "matches", "not_before", "not_null", "unique", "freshness", "row_count_change", "distribution",
        "sql",
    ]

    private func refuseSecond(_ reader: FieldReader, besides kind: String) throws(PlatformError) {
        for other in Self.expectationKinds where other != kind && reader.has(other) {
            throw reader.error(other, "'\(other)' and '\(kind)' are two expectations")
        }
    }

    private func loadCheck(_ reader: FieldReader, _ columns: [ColumnDefinition]) throws(PlatformError)
        -> (String, LoadCheckDefinition.Check)?
    {
        if let age = try reader.optionalSpan("freshness") {
            try refuseSecond(reader, besides: "freshness")
            return ("freshness", .freshness(age))
        }
        if reader.has("row_count_change") {
            try refuseSecond(reader, besides: "row_count_change")
            let (low, high) = try bounds("row_count_change", reader)
            let loads = try reader.integer("loads", default: 5, in: 1...1000)
            return ("row_count_change", .rowCountChange(minimum: low, maximum: high, loads: loads))
        }
        if reader.has("sql") {
            try refuseSecond(reader, besides: "sql")
            return ("sql", .sql(try statement("sql", reader)))
        }
        guard let figures = try reader.mapping("distribution") else { return nil }
        try refuseSecond(reader, besides: "distribution")
        let name = try reader.text("column")
        let target = try column(name, "column", reader, columns)
        var bounds: [LoadCheckDefinition.Bound] = []
        for key in figures.keys {
            let statistic: LoadCheckDefinition.Statistic
            switch key {
            case "mean": statistic = .mean
            case "stddev": statistic = .stddev
            case "min": statistic = .min
            case "max": statistic = .max
            case "null_share": statistic = .nullShare
            case "distinct_share": statistic = .distinctShare
            default:
                guard key.hasPrefix("p"), let percent = Int(key.dropFirst()), 0...100 ~= percent else {
                    let known = ["mean", "stddev", "min", "max", "null_share", "distinct_share", "p50", "p99"]
                    let near = nearestName(to: key, among: known)
                    throw figures.error(
                        key,
                        "unknown figure '\(key.prefix(60))'"
                            + (near.map { "; did you mean '\($0)'?" }
                                ?? "; known: mean, stddev, min, max, null_share, distinct_share, p0 to p100"))
                }
                statistic = .quantile(Double(percent) / 100)
            }
            guard target.type.isNumeric || [.nullShare, .distinctShare].contains(statistic) else {
                throw figures.error(key, "'\(key)' needs a number column")
            }
            let (low, high) = try self.bounds(key, figures)
            bounds.append(LoadCheckDefinition.Bound(statistic: statistic, minimum: low, maximum: high))
        }
        guard !bounds.isEmpty else { throw reader.error("distribution", "'distribution' names no figure") }
        return (name, .distribution(column: name, bounds: bounds))
    }

    func origin(_ fields: FieldReader, _ columns: [ColumnDefinition], folder: String) throws
        -> (SourceOrigin?, TimeSpan?)
    {
        guard let reader = try fields.mapping("from") else { return (nil, nil) }
        let every = try reader.optionalSpan("every")
        if let every, every.milliseconds < 1000 { throw reader.error("every", "'every' must be at least 1s") }
        let origin: SourceOrigin
        if let location = try reader.optionalText("files") {
            guard !location.isEmpty else { throw reader.error("files", "'files' is empty") }
            let format = try fileFormat(reader)
            if reader.has("postgres") { throw reader.error("postgres", "rows come from 'files' or 'postgres'") }
            origin = .files(location: Self.absolute(location, in: folder), format: format)
        } else if let postgres = try reader.mapping("postgres") {
            origin = .postgreSQL(try postgreSQL(postgres, columns))
        } else {
            throw reader.error(nil, "needs 'files' or 'postgres'")
        }
        try reader.finish()
        return (origin, every)
    }

    func fileFormat(_ reader: FieldReader) throws(PlatformError) -> String? {
        guard let format = try reader.optionalText("format") else { return nil }
        guard ["csv", "parquet", "ndjson"].contains(format) else {
            throw reader.error(
                "format", "'format' cannot be '\(format.prefix(60))'; it is one of csv, parquet, ndjson")
        }
        return format
    }

    /// A location as it is meant in a file of `folder`.
    static func absolute(_ location: String, in folder: String) -> String {
        location.hasPrefix("/") || location.contains("://") ? location : "\(folder)/\(location)"
    }

    /// Name of the variable with the connection string, the query, and how long it may take.
    func query(_ reader: FieldReader) throws(PlatformError) -> (connection: String, query: String, timeout: TimeSpan) {
        let connection = try reader.text("connection")
        guard let first = connection.utf8.first, 65...90 ~= first || first == 95, connection.utf8.count <= 200,
            connection.utf8.allSatisfy({ 48...57 ~= $0 || 65...90 ~= $0 || $0 == 95 })
        else {
            // The text itself is not repeated: it may be a connection string with its password.
            throw reader.error(
                "connection",
                "'connection' must be the name of an environment variable that holds the connection string, such as SHOP_DATABASE"
            )
        }
        return (
            connection, try statement("query", reader),
            try reader.optionalSpan("timeout") ?? TimeSpan(milliseconds: 300_000)
        )
    }

    /// One statement without its semicolon.
    func statement(_ key: String, _ reader: FieldReader) throws(PlatformError) -> String {
        var text = try reader.text(key).trimmingCharacters(in: .whitespacesAndNewlines)
        if text.hasSuffix(";") { text.removeLast() }
        guard !text.isEmpty else { throw reader.error(key, "'\(key)' is empty") }
        return text
    }

    private func postgreSQL(_ reader: FieldReader, _ columns: [ColumnDefinition]) throws -> PostgreSQLOrigin {
        let (connection, query, timeout) = try query(reader)
        let cursor = try reader.optionalText("cursor")
        let overlap = try reader.optionalSpan("overlap")
        if let cursor {
            let type = try column(cursor, "cursor", reader, columns).type
            guard type == .timestamp || type == .int64 || type == .string else {
                throw reader.error("cursor", "'cursor' must be a timestamp, int64 or string column")
            }
            if overlap != nil, type != .timestamp {
                throw reader.error("overlap", "'overlap' is for a cursor of type timestamp")
            }
        } else if overlap != nil {
            throw reader.error("overlap", "'overlap' needs a 'cursor'")
        }
        let origin = PostgreSQLOrigin(
            connection: connection, query: query, cursor: cursor, overlap: overlap ?? TimeSpan(milliseconds: 0),
            timeout: timeout)
        try reader.finish()
        return origin
    }
}
