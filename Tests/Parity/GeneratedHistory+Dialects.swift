import Datasets
import Definitions
import FeatureStore
import Foundation
import PlatformCore
import StoragePorts

extension GeneratedHistory {
    /// Writes events and questions as JSON lines and gives the statements that make the tables `history` and `questions`.
    func tables(_ dialect: SQLDialect, in folder: URL) throws -> [String] {
        let isSpark = dialect == .spark
        let types: [(String, String)] =
            source.columns.map { column in
                let type =
                    switch column.type {
                    case .float64: "DOUBLE"
                    case .bool: "BOOLEAN"
                    case .string: "STRING"
                    case .vector: "ARRAY<FLOAT>"
                    default: "BIGINT"
                    }
                return (column.name, type)
            } + ["__event_time", "__ingest_time", "__sequence"].map { ($0, "BIGINT") }
        let events = rows.map { logged -> JSONValue in
            var fields: [String: JSONValue] = [
                "__event_time": .integer(logged.row.eventTime.milliseconds),
                "__ingest_time": .integer(logged.row.ingestTime.milliseconds),
                "__sequence": .integer(Int64(logged.sequence)),
            ]
            for (column, cell) in zip(source.columns, logged.row.cells) { fields[column.name] = cell.json }
            return .object(fields)
        }
        let asked = questions.enumerated().map { index, question -> JSONValue in
            var fields: [String: JSONValue] = ["__row": .integer(Int64(index)), "__time": .integer(question.time)]
            for (name, key) in zip(view.joinKeys, question.keys) { fields[name] = key.map(JSONValue.string) ?? .null }
            return .object(fields)
        }
        func table(_ name: String, _ lines: [JSONValue], _ types: [(String, String)]) throws -> String {
            let place = folder.appending(path: name)
            try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
            try Data(lines.map { $0.text + "\n" }.joined().utf8).write(to: place.appending(path: "rows.json"))
            let columns = types.map { "\(dialect.identifier($0.0)) \($0.1)" }.joined(separator: ", ")
            let path = dialect.literal(place.path)
            return isSpark
                ? "CREATE TEMPORARY VIEW \(name)_lines (\(columns)) USING json OPTIONS (path \(path))"
                : "CREATE TABLE \(name) (\(columns)) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = \(path))"
        }
        let out = [
            try table("history", events, types),
            try table(
                "questions", asked,
                [("__row", "BIGINT"), ("__time", "BIGINT")] + view.joinKeys.map { ($0, "STRING") }),
        ]
        guard isSpark else { return out }
        let cells = source.columns.map { column in
            let name = dialect.identifier(column.name)
            return column.type == .timestamp ? "timestamp_millis(\(name)) AS \(name)" : name
        }
        return out + [
            "CREATE TABLE history USING parquet AS SELECT \(cells.joined(separator: ", ")), __event_time, __ingest_time, "
                + "__sequence FROM history_lines",
            "CREATE TABLE questions USING parquet AS SELECT * FROM questions_lines",
        ]
    }
}
