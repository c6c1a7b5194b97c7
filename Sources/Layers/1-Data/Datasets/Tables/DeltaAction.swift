import PlatformCore

/// One action of a Delta Lake commit, as far as append-only tables of our own and other writers' additions need it.
///
/// - SeeAlso: the Delta Transaction Log Protocol (delta-io/delta, PROTOCOL.md), reader version 1, writer version 2.
enum DeltaAction: Sendable, Hashable {
    /// Which readers and writers may touch the table.
    case protocolVersions(reader: Int64, writer: Int64)
    /// The table's identity and columns from this commit on.
    case metadata(id: String, columns: [DeltaColumn])
    /// A file that belongs to the table from now on.
    case add(DeltaFile)
    /// A file that no longer does.
    case remove(DeltaRemoval)
    /// How far an application has come, in the same commit as what it wrote.
    case transaction(application: String, version: Int64)
    /// For people.
    case commitInfo(time: EventTime, operation: String, rows: Int64)
}

/// A column of a Delta table.
struct DeltaColumn: Sendable, Hashable, Codable {
    let name: String
    /// `string`, `long`, `double`, `boolean`, `timestamp`, or the JSON of any other type.
    let type: String

    /// The type as a schema has it.
    var typeJSON: JSONValue {
        if type.hasPrefix("{"), let nested = try? JSONValue.parse(Array(type.utf8)) { return nested }
        return .string(type)
    }
}

/// A data file of a Delta table.
struct DeltaFile: Sendable, Hashable {
    /// Path below the table's folder.
    let path: String
    let byteCount: Int64
    let rowCount: Int64
    let modificationTime: EventTime
    /// Columns that can be in it where they are not those of the table at its commit: kept as a tag, `columnsTag`.
    var columns: [DeltaColumn]?
    /// Whether it only holds rows that the table had before, as after a compaction.
    var isRewrite = false

    /// The tag's key.
    static let columnsTag = "bottega.columns"
}

/// A data file that left a Delta table.
struct DeltaRemoval: Sendable, Hashable {
    let path: String
    let time: EventTime
    /// Whether its rows stayed, in another file.
    let isRewrite: Bool
}

extension DeltaAction {
    /// Largest commit that is read.
    static let commitByteCountMax = 64 << 20

    /// The action as one line of a commit.
    var json: JSONValue {
        switch self {
        case .protocolVersions(let reader, let writer):
            return ["protocol": ["minReaderVersion": .integer(reader), "minWriterVersion": .integer(writer)]]
        case .metadata(let id, let columns):
            let fields = columns.map { column -> JSONValue in
                ["name": .string(column.name), "type": column.typeJSON, "nullable": true, "metadata": [:]]
            }
            let schema: JSONValue = ["type": "struct", "fields": .array(fields)]
            return [
                "metaData": [
                    "id": .string(id), "format": ["provider": "parquet", "options": [:]],
                    "schemaString": .string(schema.text), "partitionColumns": [], "configuration": [:],
                ]
            ]
        case .add(let file):
            let statistics: JSONValue = ["numRecords": .integer(file.rowCount)]
            var body: [String: JSONValue] = [
                "path": .string(file.path), "partitionValues": [:], "size": .integer(file.byteCount),
                "modificationTime": .integer(file.modificationTime.milliseconds), "dataChange": .bool(!file.isRewrite),
                "stats": .string(statistics.text),
            ]
            if let columns = file.columns, let text = try? JSONValue.of(columns).text {
                body["tags"] = [DeltaFile.columnsTag: .string(text)]
            }
            return ["add": .object(body)]
        case .remove(let removal):
            return [
                "remove": [
                    "path": .string(removal.path), "deletionTimestamp": .integer(removal.time.milliseconds),
                    "dataChange": .bool(!removal.isRewrite),
                ]
            ]
        case .transaction(let application, let version):
            return ["txn": ["appId": .string(application), "version": .integer(version)]]
        case .commitInfo(let time, let operation, let rows):
            return [
                "commitInfo": [
                    "timestamp": .integer(time.milliseconds), "operation": .string(operation),
                    "operationParameters": operation == "WRITE" ? ["mode": "Append"] : [:],
                    "operationMetrics": ["numOutputRows": .string(String(rows))],
                ]
            ]
        }
    }

    /// The bytes of a commit: one action on each line.
    static func encode(_ actions: [DeltaAction]) -> [UInt8] {
        var out: [UInt8] = []
        for action in actions {
            action.json.write(to: &out)
            out.append(10)
        }
        return out
    }

    /// Reads a commit that anybody may have written.
    ///
    /// Actions that do not change what a scan sees are left out.
    /// - Throws: `DecodingFailure` for bytes that are no commit, paths that leave the table's folder, and tables that need a
    ///   newer reader.
    static func parse(_ bytes: [UInt8]) throws(DecodingFailure) -> [DeltaAction] {
        guard bytes.count <= commitByteCountMax else {
            throw DecodingFailure("the commit is \(bytes.count) bytes long, \(commitByteCountMax) are accepted")
        }
        var actions: [DeltaAction] = []
        for line in bytes.split(separator: 10) where !line.allSatisfy({ $0 == 32 || $0 == 13 || $0 == 9 }) {
            let value = try JSONValue.parse(line, limits: JSONLimits(byteCountMax: commitByteCountMax, depthMax: 32))
            guard case .object(let members) = value else { throw DecodingFailure("a line of the commit is no object") }
            for (kind, body) in members {
                if let action = try action(kind, body) { actions.append(action) }
            }
        }
        return actions
    }

    /// One action of a commit or a checkpoint; `nil` for one that does not change what a scan sees.
    static func action(_ kind: String, _ body: JSONValue) throws(DecodingFailure) -> DeltaAction? {
        func text(_ key: String) throws(DecodingFailure) -> String {
            guard let text = body[key]?.stringValue else { throw DecodingFailure("\(kind) has no text '\(key)'") }
            return text
        }
        func integer(_ key: String) throws(DecodingFailure) -> Int64 {
            guard let value = body[key]?.integerValue else {
                throw DecodingFailure("\(kind) has no whole number '\(key)'")
            }
            return value
        }
        switch kind {
        case "protocol":
            let reader = try integer("minReaderVersion")
            guard reader <= 1 else {
                throw DecodingFailure("the table needs reader version \(reader), this reader has 1")
            }
            return .protocolVersions(reader: reader, writer: try integer("minWriterVersion"))
        case "metaData":
            guard body["partitionColumns"]?.arrayValue?.isEmpty ?? true else {
                throw DecodingFailure("partitioned tables are not read")
            }
            let schema = try JSONValue.parse(try text("schemaString"))
            guard let fields = schema["fields"]?.arrayValue, fields.count <= 4096 else {
                throw DecodingFailure("the schema has no list of at most 4096 fields")
            }
            var columns: [DeltaColumn] = []
            for field in fields {
                guard let name = field["name"]?.stringValue, let type = field["type"] else {
                    throw DecodingFailure("a field of the schema has no name or no type")
                }
                columns.append(DeltaColumn(name: name, type: type.stringValue ?? type.text))
            }
            return .metadata(id: try text("id"), columns: columns)
        case "add":
            let byteCount = try integer("size")
            guard byteCount >= 0 else { throw DecodingFailure("add has a negative size") }
            var rowCount: Int64 = 0
            if let statistics = body["stats"]?.stringValue {
                rowCount = max(0, (try? JSONValue.parse(statistics))?["numRecords"]?.integerValue ?? 0)
            }
            var columns: [DeltaColumn]?
            if let tag = body["tags"]?[DeltaFile.columnsTag]?.stringValue {
                columns = try? JSONValue.parse(tag).decoded(as: [DeltaColumn].self)
            }
            return .add(
                DeltaFile(
                    path: try safePath(try text("path")), byteCount: byteCount, rowCount: min(rowCount, 1 << 48),
                    modificationTime: EventTime(milliseconds: body["modificationTime"]?.integerValue ?? 0),
                    columns: columns, isRewrite: body["dataChange"]?.boolValue == false))
        case "remove":
            return .remove(
                DeltaRemoval(
                    path: try safePath(try text("path")),
                    time: EventTime(milliseconds: body["deletionTimestamp"]?.integerValue ?? 0),
                    isRewrite: body["dataChange"]?.boolValue == false))
        case "txn": return .transaction(application: try text("appId"), version: try integer("version"))
        case "commitInfo":
            let metrics = body["operationMetrics"]
            let rows = ["numOutputRows", "num_added_rows"].lazy.compactMap { key -> Int64? in
                metrics?[key]?.integerValue ?? metrics?[key]?.stringValue.flatMap { Int64($0) }
            }.first
            return .commitInfo(
                time: EventTime(milliseconds: body["timestamp"]?.integerValue ?? 0),
                operation: String((body["operation"]?.stringValue ?? "").prefix(64)), rows: rows ?? 0)
        default: return nil
        }
    }

    private static func safePath(_ path: String) throws(DecodingFailure) -> String {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard !path.isEmpty, path.utf8.count <= 900, !parts.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }),
            path.utf8.allSatisfy({
                48...57 ~= $0 || 65...90 ~= $0 || 97...122 ~= $0 || [0x5F, 0x2E, 0x3D, 0x2D, 0x2F].contains($0)
            })
        else { throw DecodingFailure("\(CellReader.shown(path)) is no path below the table's folder") }
        return path
    }
}
