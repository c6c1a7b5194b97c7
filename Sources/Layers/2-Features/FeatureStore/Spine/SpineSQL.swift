import Definitions
import PlatformCore
import StoragePorts

/// Rows as they come, before anything is known of their cells.
struct RawRows {
    /// What a cell is.
    enum Form {
        /// Text, as in CSV.
        case text
        /// A member of the JSON object `json`.
        case json
        /// A member of the JSON object `json`, text whatever its type was; the columns are known.
        case jsonOfText([String])
        /// A value of the engine's types.
        case typed
    }
    /// A SQL table expression.
    let table: String
    let form: Form
    /// The files that it reads.
    let readable: [String]
    /// Statements before it.
    var setup: [String] = []

    /// Statements after which only these files can be read, and only `path` written.
    ///
    /// No query can undo them.
    func sandbox(writing path: String) -> [String] {
        let paths = (readable + [path]).map(SQLText.literal).joined(separator: ", ")
        return SQLDialect.duckdb.preparationOfWriting + [
            "SET allowed_paths = [\(paths)]", "SET enable_external_access = false", "SET lock_configuration = true",
        ] + setup
    }
}

/// SQL that reads the cells of a spine strictly, and says which one it could not read.
struct SpineSQL {
    private struct Column {
        let name: String
        let position: Int
        let isRequired: Bool
        /// What a cell must be, for people.
        let expectation: String
        /// Text to show of a cell.
        let shown: String
        /// The cell as its type; NULL also where it cannot be read.
        let value: String
        /// Whether there is a cell.
        let isThere: String
    }
    private let table: String
    private let columns: [Column]
    private let isOpen: Bool

    /// - Parameter known: the columns that there are, and their types.
    /// - Throws: `invalidInput` for a column that is missing, or of a type that cannot be what it must be.
    init(_ rows: RawRows, _ spine: SpineDefinition, known: [String: String], subject: String) throws {
        let contract = spine.contract
        table = rows.table
        isOpen = if case .json = rows.form { true } else { false }
        var columns: [Column] = []
        for (position, column) in contract.columns.enumerated() {
            if !isOpen, known[column.name] == nil {
                let near = nearestName(to: column.name, among: Array(known.keys))
                throw PlatformError(
                    .invalidInput, subject,
                    "the spine has no column '\(column.name)'"
                        + (near.map { "; did you mean '\($0)'?" }
                            ?? "; it has \(known.keys.sorted().prefix(20).joined(separator: ", "))"))
            }
            let name = SQLText.identifier(column.name)
            let member = "json ->> \(SQLText.literal("$.\"\(column.name)\""))"
            let (shown, value, isThere): (String, String, String)
            switch rows.form {
            case .text where spine.carried.contains(column.name):
                (shown, value, isThere) = (name, name, "\(name) IS NOT NULL")
            case .json where spine.carried.contains(column.name), .jsonOfText where spine.carried.contains(column.name):
                (shown, value, isThere) = (member, "(\(member))", "(\(member)) IS NOT NULL")
            case .typed where spine.carried.contains(column.name):
                (shown, isThere) = ("CAST(\(name) AS VARCHAR)", "\(name) IS NOT NULL")
                value = Self.carried(name, known[column.name] ?? "")
            case .text: (shown, value, isThere) = (name, Self.fromText(name, column.type), "\(name) IS NOT NULL")
            case .jsonOfText:
                let text = "(\(member))"
                (shown, value, isThere) = (text, Self.fromText(text, column.type), "\(text) IS NOT NULL")
            case .json:
                let text = "(\(member))"
                let kind = "coalesce(json_type(json, \(SQLText.literal("$.\"\(column.name)\""))), 'NULL')"
                (shown, value, isThere) = (text, Self.fromJSON(text, kind, column.type), "\(kind) <> 'NULL'")
            case .typed:
                let type = known[column.name] ?? ""
                guard let read = Self.fromType(name, type, column.type) else {
                    throw PlatformError(
                        .invalidInput, subject,
                        "the spine's column '\(column.name)' is \(type), not \(Self.expectation(column.type))"
                            + Self.remedy(type, column.type))
                }
                let isReal = type == "DOUBLE" || type == "FLOAT"
                (shown, value) = ("CAST(\(name) AS VARCHAR)", read)
                isThere = "\(name) IS NOT NULL" + (isReal ? " AND NOT isnan(\(name))" : "")
            }
            columns.append(
                Column(
                    name: column.name, position: position, isRequired: column.name == contract.eventTimeColumn,
                    expectation: Self.expectation(column.type), shown: shown, value: value, isThere: isThere))
        }
        self.columns = columns
    }

    // MARK: Statements

    /// Statements that leave the table `spine`, and its rows in `path` if they can all be read.
    func statements(to path: String, rowCountMax: Int) -> [String] {
        let cells = columns.map { column -> String in
            let cell = "c\(column.position)"
            let missing = column.isRequired ? "NOT (\(column.isThere)) OR " : ""
            return """
                \(column.value) AS \(cell),
                CASE WHEN \(missing)(\(column.isThere) AND \(column.value) IS NULL) THEN left(coalesce(\(column.shown), ''), 60) END AS f\(column.position),
                \(column.isThere) AS t\(column.position)
                """
        }
        let named = columns.map { "c\($0.position) AS \(SQLText.identifier($0.name))" }.joined(separator: ", ")
        let order = (["__event_time"] + columns.map { "c\($0.position)" }).joined(separator: ", ")
        let time = columns.first { $0.isRequired }.map { "epoch_ms(c\($0.position))" } ?? "NULL"
        let isWhole = columns.map { "f\($0.position) IS NULL" }.joined(separator: " AND ")
        return [
            """
            CREATE TEMP TABLE spine AS SELECT \(cells.joined(separator: ",\n")), row_number() OVER () AS line
            FROM (SELECT * FROM \(table) source LIMIT \(rowCountMax + 1)) source
            """,
            """
            COPY (SELECT \(named), __event_time, __event_time AS __ingest_time,
            row_number() OVER (ORDER BY \(order)) - 1 AS __sequence
            FROM (SELECT *, CAST(\(time) AS BIGINT) AS __event_time FROM spine WHERE \(isWhole)) s ORDER BY __sequence)
            TO \(SQLText.literal(path)) (FORMAT parquet, COMPRESSION zstd)
            """,
        ]
    }

    /// One row: the number of questions, and of each column its cells, its faults and the first of them.
    var summary: String {
        let counts = columns.map { column in
            let place = column.position
            return """
                , count(*) FILTER (WHERE t\(place)) AS there\(place), count(f\(place)) AS faults\(place),
                min(line) FILTER (WHERE f\(place) IS NOT NULL) AS line\(place),
                arg_min(f\(place), line) FILTER (WHERE f\(place) IS NOT NULL) AS fault\(place)
                """
        }
        return "SELECT count(*) AS n\(counts.joined()) FROM spine"
    }

    /// What is wrong with the first column that has a fault, from a row of `summary`.
    func fault(in row: JSONValue) -> String? {
        for column in columns {
            let place = column.position
            if isOpen, row["there\(place)"]?.integerValue == 0 {
                return "no row of the spine has the member '\(column.name)'"
            }
            guard let count = row["faults\(place)"]?.integerValue, count > 0 else { continue }
            let line = row["line\(place)"]?.integerValue ?? 0
            let text = (row["fault\(place)"]?.stringValue ?? "").unicodeScalars
                .map { $0.value < 0x20 || $0.value == 0x7F ? "?" : String($0) }.joined()
            return "row \(line) of the spine: '\(column.name)' "
                + (text.isEmpty ? "is missing" : "is '\(text)'") + ", which must be \(column.expectation)"
                + (count > 1 ? "; so in \(count) rows" : "")
        }
        return nil
    }

    // MARK: Cells

    private static func expectation(_ type: ColumnType) -> String {
        switch type {
        case .int64: "a whole number"
        case .float64: "a finite number"
        case .bool: "true or false"
        case .timestamp: "a time with a zone between 1900 and 2199, such as 2013-07-01T09:15:00Z"
        default: "text"
        }
    }

    private static func fromText(_ text: String, _ type: ColumnType) -> String {
        func matches(_ pattern: String) -> String { "regexp_full_match(\(text), '\(pattern)')" }
        switch type {
        case .int64:
            return
                "CASE WHEN \(matches("[+-]?[0-9]{1,19}(\\.0+)?")) THEN TRY_CAST(regexp_replace(\(text), '\\.0+$', '') AS BIGINT) END"
        case .float64:
            return
                "CASE WHEN \(matches("[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?")) THEN \(finite("TRY_CAST(\(text) AS DOUBLE)")) END"
        case .bool:
            return """
                CASE WHEN \(text) IN ('true', 'True', 'TRUE', 't', '1') THEN true
                WHEN \(text) IN ('false', 'False', 'FALSE', 'f', '0') THEN false END
                """
        case .timestamp:
            let pattern =
                "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?(Z|[+-][0-9]{2}(:?[0-9]{2})?)"
            return "CASE WHEN \(matches(pattern)) THEN \(accepted("TRY_CAST(\(text) AS TIMESTAMPTZ)")) END"
        default: return text
        }
    }

    private static func fromJSON(_ text: String, _ kind: String, _ type: ColumnType) -> String {
        let whole = "\(kind) IN ('BIGINT', 'UBIGINT')"
        switch type {
        case .int64, .float64:
            return "CASE WHEN \(whole) OR \(kind) = 'DOUBLE' THEN \(fromText(text, type)) END"
        case .bool: return "CASE WHEN \(kind) = 'BOOLEAN' THEN \(text) = 'true' END"
        case .timestamp:
            let moment = accepted("CAST(epoch_ms(TRY_CAST(\(text) AS BIGINT)) AS TIMESTAMPTZ)")
            return "CASE WHEN \(whole) THEN \(moment) WHEN \(kind) = 'VARCHAR' THEN \(fromText(text, type)) END"
        default: return "CASE WHEN \(kind) = 'VARCHAR' THEN \(text) END"
        }
    }

    /// A cell as it is, of a type that files of scores have; as text where there is none.
    private static func carried(_ name: String, _ given: String) -> String {
        switch given {
        case "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER": "CAST(\(name) AS BIGINT)"
        case "FLOAT", "DOUBLE": "CAST(\(name) AS DOUBLE)"
        case "BOOLEAN", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP": name
        default: "CAST(\(name) AS VARCHAR)"
        }
    }

    private static let wholeTypes: Set<String> = [
        "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT",
        "UHUGEINT",
    ]

    /// The cell of a column of the engine's type, or `nil` if no such cell can be what it must be.
    private static func fromType(_ name: String, _ given: String, _ type: ColumnType) -> String? {
        let isWhole = wholeTypes.contains(given)
        let isReal = given == "DOUBLE" || given == "FLOAT"
        let isDecimal = given.hasPrefix("DECIMAL")
        switch type {
        case .int64:
            if isWhole { return "TRY_CAST(\(name) AS BIGINT)" }
            // Programs that know only doubles, or doubles for nulls, write whole numbers so.
            guard isReal || isDecimal else { return nil }
            return
                "CASE WHEN \(name) = trunc(\(name)) AND abs(\(name)) <= 9007199254740992 THEN TRY_CAST(\(name) AS BIGINT) END"
        case .float64: return isWhole || isReal || isDecimal ? finite("CAST(\(name) AS DOUBLE)") : nil
        case .bool: return given == "BOOLEAN" ? name : nil
        case .timestamp: return given == "TIMESTAMP WITH TIME ZONE" ? accepted(name) : nil
        default:
            guard given == "VARCHAR" || given == "UUID" || given.hasPrefix("ENUM") || isWhole else { return nil }
            return "CAST(\(name) AS VARCHAR)"
        }
    }

    private static func remedy(_ given: String, _ type: ColumnType) -> String {
        switch (type, given) {
        case (.timestamp, _) where given.hasPrefix("TIMESTAMP"):
            "; a time without a zone is not guessed: write it with one, in SQL as (column AT TIME ZONE 'UTC')"
        case (.timestamp, "BIGINT"): "; in SQL write CAST(epoch_ms(column) AS TIMESTAMPTZ)"
        default: "; in SQL write CAST(column AS \(type == .string ? "VARCHAR" : type == .bool ? "BOOLEAN" : "DOUBLE"))"
        }
    }

    /// A double with one zero, NULL unless it is finite.
    private static func finite(_ value: String) -> String {
        "CASE WHEN isfinite(\(value)) THEN \(value) + 0.0::DOUBLE END"
    }

    /// A moment of an accepted year, else NULL.
    private static func accepted(_ value: String) -> String {
        "CASE WHEN epoch_ms(\(value)) >= \(EventTime.earliestAccepted.milliseconds) AND epoch_ms(\(value)) < \(EventTime.latestAccepted.milliseconds) THEN \(value) END"
    }
}
