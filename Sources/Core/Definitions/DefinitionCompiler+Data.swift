import ContentHashing
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
        guard let first = column.utf8.first, column.utf8.count <= 63, !(48...57 ~= first), !column.hasPrefix("__"),
            column.utf8.allSatisfy({ 48...57 ~= $0 || 65...90 ~= $0 || 97...122 ~= $0 || $0 == 95 })
        else {
            throw fields.error(
                key,
                "'\(column.prefix(60))' is no column name (letters, digits and '_', at most 63, not beginning with a digit)"
            )
        }
    }

    mutating func source(_ name: Name, _ fields: FieldReader) throws -> SourceDefinition {
        var columns: [ColumnDefinition] = []
        for column in try fields.mappings("schema", of: "column") {
            let columnName = try column.text("name")
            try checkColumnName(columnName, "name", column)
            guard !columns.contains(where: { $0.name == columnName }) else {
                throw column.error("name", "the column '\(columnName)' appears twice")
            }
            let type = try column.choice("type", ColumnType.self)
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
            columns.append(
                ColumnDefinition(
                    name: columnName, type: type,
                    nullable: try column.flag("nullable", default: true), unit: try column.optionalText("unit"),
                    scale: try column.integer("scale", default: 6, in: 0...9), length: length,
                    isSensitive: try column.flag("sensitive", default: false)))
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

        var expectations: [ExpectationDefinition] = []
        for (index, reader) in try fields.mappings("expectations", of: "expectation").enumerated() {
            let columnName = try reader.text("column")
            let target = try column(columnName, "column", reader)
            guard target.type != .vector else {
                throw reader.error(
                    "column", "'\(columnName)' is a vector: its length and finite numbers are checked anyhow")
            }
            var checks: [ExpectationDefinition.Check] = []
            if reader.has("range") {
                let bounds = try reader.texts("range")
                func bound(_ text: String) throws(PlatformError) -> Double? {
                    if ["", "null", "~"].contains(text) { return nil }
                    guard let value = Double(text), value.isFinite else {
                        throw reader.error("range", "'range' must be two numbers [from, to]; '~' leaves a side open")
                    }
                    return value
                }
                guard bounds.count == 2, target.type.isNumeric else {
                    throw reader.error("range", "'range' must be [from, to] on a number column")
                }
                let (low, high) = (try bound(bounds[0]), try bound(bounds[1]))
                guard low ?? -.infinity <= high ?? .infinity else { throw reader.error("range", "'range' is empty") }
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
                guard try column(other, "not_before", reader).type == target.type, target.type != .string else {
                    throw reader.error("not_before", "'not_before' needs two number or two timestamp columns")
                }
                checks.append(.notBefore(otherColumn: other))
            }
            guard checks.count == 1 else {
                throw reader.error(nil, "needs exactly one of 'range', 'in', 'matches', 'not_before'")
            }
            expectations.append(
                ExpectationDefinition(
                    name: try reader.text("name", default: "\(columnName)_\(index + 1)"), column: columnName,
                    check: checks[0], severity: try reader.optionalChoice("severity") ?? .reject))
            try reader.finish()
        }
        let source = SourceDefinition(
            name: name, eventTimeColumn: eventTime, ingestTimeColumn: ingestTime, key: key, columns: columns,
            expectations: expectations, schemaChange: try fields.optionalChoice("on_schema_change") ?? .refuse,
            versionRetention: try fields.optionalSpan("version_retention"),
            description: try fields.text("description", default: ""), owner: try fields.text("owner", default: ""))
        record(
            "Source", name,
            meaning: .object([
                "times": .array([.string(eventTime), ingestTime.map(JSONValue.string) ?? .null]),
                "key": .array(key.map(JSONValue.string)), "policy": .string(source.schemaChange.rawValue),
                "columns": .array(
                    columns.map {
                        .array(
                            [
                                .string($0.name), .string($0.type.rawValue), .bool($0.nullable),
                                .integer(Int64($0.scale)),
                            ] + ($0.type == .vector ? [.integer(Int64($0.length))] : []))
                    }),
                "expectations": .array(
                    expectations.map { .string("\($0.name) \($0.column) \($0.check) \($0.severity)") }),
            ]), uses: [])
        return source
    }
}
