import Definitions
import PlatformCore
import StoragePorts

/// How the records of one topic become the rows of one table.
struct TableLayout: Sendable {
    struct Column: Sendable {
        let name: String
        /// DuckDB's type.
        let type: String
        /// Delta's type.
        let deltaType: String
        /// SQL over `d`, the record, and `s`, its offset.
        let expression: String
    }
    let table: Name
    let topic: Name
    let columns: [Column]
    /// DuckDB's type of the record's JSON.
    let recordType: String
    /// Rewrites a record whose cells no longer have the source's types; `nil` where that cannot happen.
    let rewrite: (@Sendable ([UInt8]) -> [UInt8]?)?

    /// Delta's type of a vector, as `DeltaColumn` holds types that are no single word.
    static let vectorDeltaType: String =
        (["type": "array", "elementType": "float", "containsNull": true] as JSONValue).text

    /// The table of a source's rows.
    static func rows(of source: SourceDefinition) -> TableLayout {
        var columns: [Column] = []
        var fields: [String] = []
        for column in source.columns {
            let name = SQLText.identifier(column.name)
            let cell = "d.v.\(name)"
            let jsonType: String
            switch column.type {
            case .string:
                jsonType = "VARCHAR"
                columns.append(Column(name: column.name, type: "VARCHAR", deltaType: "string", expression: cell))
            case .int64:
                jsonType = "BIGINT"
                columns.append(Column(name: column.name, type: "BIGINT", deltaType: "long", expression: cell))
            case .float64:
                jsonType = "DOUBLE"
                columns.append(Column(name: column.name, type: "DOUBLE", deltaType: "double", expression: cell))
            case .bool:
                jsonType = "BOOLEAN"
                columns.append(Column(name: column.name, type: "BOOLEAN", deltaType: "boolean", expression: cell))
            case .timestamp:
                jsonType = "BIGINT"
                columns.append(
                    Column(
                        name: column.name, type: "TIMESTAMPTZ", deltaType: "timestamp",
                        expression: "make_timestamptz(\(cell) * 1000)"))
            case .vector:
                jsonType = "FLOAT[]"
                columns.append(
                    Column(name: column.name, type: "FLOAT[]", deltaType: Self.vectorDeltaType, expression: cell))
            case .list: preconditionFailure("a source's column is no list")
            }
            fields.append("\(name) \(jsonType)")
        }
        columns += times(event: "d.e", ingest: "d.i")
        let codec = SourceRowCodec(source)
        return TableLayout(
            table: source.name, topic: PlatformTopic.source(source.name), columns: columns,
            recordType: "STRUCT(e BIGINT, i BIGINT, v STRUCT(\(fields.joined(separator: ", "))))",
            rewrite: { bytes in (try? codec.decode(bytes)).map { codec.encode($0, batch: "") } })
    }

    /// The table of a source's refused rows, `quarantine_<source>`.
    static func quarantine(of source: Name) throws(PlatformError) -> TableLayout {
        guard let table = Name("quarantine_\(source.text)") else {
            throw PlatformError(.invalidInput, "source/\(source)", "the name is too long for a quarantine table")
        }
        func text(_ name: String, _ expression: String) -> Column {
            Column(name: name, type: "VARCHAR", deltaType: "string", expression: expression)
        }
        return TableLayout(
            table: table, topic: PlatformTopic.quarantine(source),
            columns: [
                text("reason", "array_to_string(d.s, '; ')"), text("row", "d.w"), text("origin", "d.o"),
                text("batch", "d.b"), Column(name: "position", type: "BIGINT", deltaType: "long", expression: "d.n"),
            ] + times(event: "d.t", ingest: "d.t"),
            recordType: "STRUCT(s VARCHAR[], w VARCHAR, o VARCHAR, b VARCHAR, n BIGINT, t BIGINT)", rewrite: nil)
    }

    private static func times(event: String, ingest: String) -> [Column] {
        [("__event_time", event), ("__ingest_time", ingest), ("__sequence", "s")].map {
            Column(name: $0.0, type: "BIGINT", deltaType: "long", expression: $0.1)
        }
    }

    var deltaColumns: [DeltaColumn] { columns.map { DeltaColumn(name: $0.name, type: $0.deltaType) } }

    /// SQL that turns spooled records into a Parquet file.
    func copy(from spool: String, to target: String) -> String {
        let cells = columns.map { "\($0.expression) AS \(SQLText.identifier($0.name))" }.joined(separator: ", ")
        let types = "{s: 'BIGINT', d: \(SQLText.literal(recordType))}"
        return """
            COPY (SELECT \(cells) FROM read_json(\(SQLText.literal(spool)), format='newline_delimited', columns=\(types),
                maximum_object_size=\(recordByteCountMax + 4096)))
            TO \(SQLText.literal(target)) (FORMAT parquet, COMPRESSION zstd)
            """
    }

    /// A table expression for Spark over the files of a snapshot; files with the same columns are read together.
    func sparkScan(_ entries: [DeltaSnapshot.Entry], paths: [String]) -> String {
        func quoted(_ name: String) -> String { "`" + name.replacing("`", with: "``") + "`" }
        func cells(_ known: Set<String>) -> String {
            columns.map { column in
                let name = quoted(column.name)
                return "CAST(\(known.contains(column.name) ? name : "NULL") AS \(column.deltaType)) AS \(name)"
            }.joined(separator: ", ")
        }
        guard !paths.isEmpty else { return "(SELECT \(cells([])) WHERE false)" }
        let groups = Dictionary(grouping: zip(entries, paths)) { Set($0.0.columns.map(\.name)) }
        // A glob names the files: the folder may hold others that belong to no version or to older ones.
        func escaped(_ path: String) -> String {
            path.reduce(into: "") { $0 += "{}[]*?,\\".contains($1) ? "\\\($1)" : String($1) }
        }
        return "("
            + groups.values.sorted { $0[0].1 < $1[0].1 }.map { group in
                let names = group.map { escaped($0.1) }
                let glob = names.count == 1 ? names[0] : "{\(names.joined(separator: ","))}"
                return
                    "SELECT \(cells(Set(group[0].0.columns.map(\.name)))) FROM parquet.\(quoted(glob))"
            }.joined(separator: " UNION ALL ") + ")"
    }

    /// A table expression over the files of a snapshot.
    func scan(_ entries: [DeltaSnapshot.Entry], paths: [String]) -> String {
        guard !paths.isEmpty else {
            let cells = columns.map { "CAST(NULL AS \($0.type)) AS \(SQLText.identifier($0.name))" }
            return "(SELECT \(cells.joined(separator: ", ")) WHERE false)"
        }
        let known = Set(entries.flatMap { $0.columns.map(\.name) })
        let cells = columns.map { column in
            let name = SQLText.identifier(column.name)
            return "CAST(\(known.contains(column.name) ? name : "NULL") AS \(column.type)) AS \(name)"
        }
        let isMixed = Set(entries.map { $0.columns.map(\.name) }).count > 1
        let files = paths.map(SQLText.literal).joined(separator: ", ")
        return
            "(SELECT \(cells.joined(separator: ", ")) FROM read_parquet([\(files)]\(isMixed ? ", union_by_name=true" : "")))"
    }
}
