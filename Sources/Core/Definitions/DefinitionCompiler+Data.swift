import ContentHashing
import Expressions
import PlatformCore

extension DefinitionCompiler {
    mutating func entity(_ name: Name, _ fields: FieldReader) throws(PlatformError) -> EntityDefinition {
        let keys = try fields.texts("keys")
        guard 1...8 ~= keys.count, Set(keys).count == keys.count else {
            throw fields.error("keys", "'keys' must name 1 to 8 different columns")
        }
        for key in keys { try checkColumnName(key, "keys", fields) }
        record("Entity", name, meaning: .object(["keys": .array(keys.map(JSONValue.string))]), uses: [])
        return EntityDefinition(
            name: name, keys: keys, description: try fields.text("description", default: ""),
            owner: try fields.text("owner", default: ""))
    }

    func checkColumnName(_ column: String, _ key: String, _ fields: FieldReader) throws(PlatformError) {
        guard ColumnDefinition.isName(column) else {
            throw fields.error(
                key,
                "'\(column.prefix(60))' is no column name (letters, digits and '_', at most 63, not beginning with a digit)"
            )
        }
    }

    mutating func source(_ name: Name, _ fields: FieldReader, folder: String) throws -> SourceDefinition {
        var columns: [ColumnDefinition] = []
        try each(try fields.mappings("schema", of: "column")) { compiler, column throws(PlatformError) in
            let columnName = try column.text("name")
            try compiler.checkColumnName(columnName, "name", column)
            guard !columns.contains(where: { $0.name == columnName }) else {
                throw column.error("name", "the column '\(columnName)' appears twice")
            }
            let type = try column.choice("type", ColumnType.self, hidden: [.list])
            guard type != .list else {
                throw column.error(
                    "type", "a source's column cannot be a list; 'vector' holds numbers of a fixed count")
            }
            var length = 0
            if type == .vector {
                guard column.has("length") else {
                    throw column.error(nil, "a vector needs 'length', how many numbers it has")
                }
                length = try column.integer("length", default: 1, in: 1...ColumnDefinition.lengthMax)
            }
            var defined = ColumnDefinition(
                name: columnName, type: type,
                nullable: try column.flag("nullable", default: true), unit: try column.optionalText("unit"),
                scale: try column.integer("scale", default: 6, in: 0...9), length: length,
                isSensitive: try column.flag("sensitive", default: false))
            if let zone = try column.optionalText("zone") {
                guard type == .timestamp, zone == "UTC" else {
                    throw column.error("zone", "'zone' is UTC, and stands at a timestamp: other zones have hours twice")
                }
                defined.assumesUTC = true
            }
            columns.append(defined)
            try compiler.note(tagsOf: column, as: "Source/\(name).\(columnName)")
            try column.finish()
        }
        guard !columns.isEmpty, columns.count <= 1000 else {
            throw fields.error("schema", "'schema' must list 1 to 1000 columns")
        }
        func column(_ columnName: String, _ key: String, _ reader: FieldReader) throws(PlatformError)
            -> ColumnDefinition
        {
            if let found = columns.first(where: { $0.name == columnName }) { return found }
            let near = nearestName(to: columnName, among: columns.map(\.name))
            throw reader.error(
                key,
                "the schema has no column '\(columnName.prefix(60))'" + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
        func timeColumn(_ key: String) throws(PlatformError) -> String? {
            guard let columnName = try fields.optionalText(key) else { return nil }
            guard try column(columnName, key, fields).type == .timestamp else {
                throw fields.error(key, "the column '\(columnName)' must have type timestamp")
            }
            return columnName
        }
        guard let eventTime = try timeColumn("event_time") else { throw fields.error(nil, "'event_time' is missing") }
        let ingestTime = try timeColumn("ingest_time")
        let key = try fields.texts("key")
        for part in key where try column(part, "key", fields).type == .vector {
            throw fields.error("key", "'\(part)' is a vector, which identifies nothing")
        }
        guard !key.isEmpty else { throw fields.error("key", "'key' must name at least one column") }

        let (expectations, loadChecks) = try self.expectations(fields, columns)
        let (origin, every) = try self.origin(fields, columns, folder: folder)
        let filter = try self.filter(fields, columns)
        let sample = try fields.share("sample", default: 1)
        guard sample > 0 else { throw fields.error("sample", "'sample' must be above 0 and at most 100%") }
        var source = SourceDefinition(
            name: name, eventTimeColumn: eventTime, ingestTimeColumn: ingestTime, key: key, columns: columns,
            expectations: expectations, loadChecks: loadChecks,
            schemaChange: try fields.optionalChoice("on_schema_change") ?? .refuse, origin: origin, every: every,
            filter: filter, sample: sample,
            versionRetention: try fields.optionalSpan("version_retention"),
            description: try fields.text("description", default: ""), owner: try fields.text("owner", default: ""))
        source.retention = try retention(fields)
        var meaning: [String: JSONValue] = [
            "times": .array([.string(eventTime), ingestTime.map(JSONValue.string) ?? .null]),
            "key": .array(key.map(JSONValue.string)), "policy": .string(source.schemaChange.rawValue),
            "columns": .array(
                columns.map {
                    .array(
                        [.string($0.name), .string($0.type.rawValue), .bool($0.nullable), .integer(Int64($0.scale))]
                            + ($0.type == .vector ? [.integer(Int64($0.length))] : [])
                            + ($0.assumesUTC ? ["UTC"] : []))
                }),
            "expectations": .array(expectations.map { .string($0.meaning) }),
        ]
        // Left out where they are not used, so that a source of before keeps its version.
        if !loadChecks.isEmpty {
            meaning["load_checks"] = .array(loadChecks.map { .string($0.meaning) })
        }
        if let origin { meaning["from"] = .string("\(origin.meaning) \(every?.milliseconds ?? 0)") }
        if let retention = source.retention { meaning["retention"] = .integer(retention.milliseconds) }
        if let filter { meaning["filter"] = .string(filter.canonicalText) }
        if sample < 1 { meaning["sample"] = .number(sample) }
        record("Source", name, meaning: .object(meaning), uses: [])
        return source
    }

    /// The condition on rows that are kept, over the source's columns.
    func filter(_ fields: FieldReader, _ columns: [ColumnDefinition]) throws(PlatformError) -> Expression? {
        guard let text = try fields.optionalText("filter") else { return nil }
        let filter: Expression
        do {
            filter = try Expression.compile(
                text, columns: columns.map { ExpressionColumn(name: $0.name, type: $0.type, nullable: $0.nullable) })
        } catch {
            throw fields.error("filter", "'filter': \(error.message)")
        }
        guard filter.type == .bool else {
            throw fields.error("filter", "'filter' must be true or false, and this is \(filter.type.rawValue)")
        }
        return filter
    }
}
