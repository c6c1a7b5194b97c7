import ExperimentTracking
import Foundation
import PlatformCore
import StoragePorts

/// A search over models or versions as SQL, page by page in the order of its keys.
struct RegistryQuery {
    /// What is searched.
    enum Kind: String {
        case models
        case versions
    }

    /// One sort key: an expression that is never NULL.
    private struct Key {
        let name: String
        let sql: String
        let isText: Bool
        let isAscending: Bool
    }

    let kind: Kind
    private var keys: [Key] = []
    private var conditions: [String] = []
    private var arguments: [MetadataValue] = []

    init(_ kind: Kind, filter: SearchFilter, orders: [SearchOrder]) throws(PlatformError) {
        self.kind = kind
        conditions = [kind == .models ? "m.deleted_at IS NULL" : "v.deleted_at IS NULL AND m.deleted_at IS NULL"]
        if Self.asksForPrompts(filter) {
            for clause in filter.clauses { try add(clause) }
        } else {
            for clause in filter.clauses where clause.key != Self.promptTag { try add(clause) }
            conditions.append(
                "NOT EXISTS (SELECT 1 FROM model_tags t WHERE \(owner) AND t.key = ? AND t.value = 'true')")
            arguments.append(.text(Self.promptTag))
        }
        for order in orders { keys.append(try key(order.key, entity: order.entity, isAscending: order.isAscending)) }
        let last: [(String, Bool)] =
            kind == .models
            ? [("name", true)]
            : (orders.isEmpty ? [("last_updated_timestamp", false)] : []) + [("name", true), ("version_number", false)]
        for (name, isAscending) in last where !keys.contains(where: { $0.name == name }) {
            keys.append(try key(name, entity: nil, isAscending: isAscending))
        }
    }

    /// The tag of models and versions that are prompts; they are found only by who asks for it.
    private static let promptTag = "mlflow.prompt.is_prompt"

    private static func asksForPrompts(_ filter: SearchFilter) -> Bool {
        filter.clauses.contains { clause in
            guard ["tag", "tags"].contains(clause.entity), clause.key == promptTag,
                case .text(let text) = clause.operand
            else { return false }
            return (clause.comparison == .equal && text.lowercased() == "true")
                || (clause.comparison == .notEqual && text.lowercased() == "false")
        }
    }

    /// Whose a tag `t` is: those of a version have its number, those of a model 0.
    private var owner: String {
        kind == .models
            ? "t.model_id = m.model_id AND t.number = 0" : "t.model_id = v.model AND t.number = v.number"
    }

    /// Rows of one page and the token of the next; at most `countMax` rows.
    func page(after token: String?, countMax: Int, in transaction: any MetadataTransaction) throws -> (
        rows: [MetadataRow], next: String?
    ) {
        var conditions = conditions
        var arguments = arguments
        if let token {
            let (sql, values) = try after(token)
            conditions.append(sql)
            arguments += values
        }
        let columns = keys.enumerated().map { ", \($1.sql) AS sort_\($0)" }.joined()
        let source =
            kind == .models
            ? "m.*\(columns) FROM models m"
            : "v.*, m.name AS model_name\(columns) FROM model_versions v JOIN models m ON m.model_id = v.model"
        let order = keys.map { "\($0.sql) \($0.isAscending ? "ASC" : "DESC")" }.joined(separator: ", ")
        arguments.append(.integer(Int64(countMax) + 1))
        var rows = try transaction.query(
            "SELECT \(source) WHERE \(conditions.joined(separator: " AND ")) ORDER BY \(order) LIMIT ?", arguments)
        guard rows.count > countMax else { return (rows, nil) }
        rows.removeLast()
        guard let last = rows.last else { return (rows, nil) }
        return (rows, self.token(of: last))
    }

    // MARK: Tokens

    private var shape: JSONValue {
        .string(([kind.rawValue] + keys.map { "\($0.name) \($0.isAscending)" }).joined(separator: ","))
    }

    private func token(of row: MetadataRow) -> String {
        let values = keys.indices.map { index -> JSONValue in
            switch row["sort_\(index)"] {
            case .integer(let value): .integer(value)
            case .text(let text): .string(text)
            default: .null
            }
        }
        return Data((["of": shape, "after": .array(values)] as JSONValue).canonicalBytes).base64EncodedString()
    }

    func after(_ token: String) throws(PlatformError) -> (sql: String, arguments: [MetadataValue]) {
        let refusal = PlatformError(
            .invalidInput, "page_token", "Invalid page token, could not be decoded: '\(token.prefix(64))'")
        guard token.utf8.count <= 8192, let bytes = Data(base64Encoded: token),
            let json = try? JSONValue.parse([UInt8](bytes)), json["of"] == shape,
            let values = json["after"]?.arrayValue, values.count == keys.count
        else { throw refusal }
        var operands: [MetadataValue] = []
        for (key, value) in zip(keys, values) {
            if key.isText, let text = value.stringValue {
                operands.append(.text(text))
            } else if !key.isText, let number = value.integerValue {
                operands.append(.integer(number))
            } else {
                throw refusal
            }
        }
        var alternatives: [String] = []
        var arguments: [MetadataValue] = []
        for index in keys.indices {
            let equal = keys[..<index].map { "\($0.sql) = ?" }
            let beyond = "\(keys[index].sql) \(keys[index].isAscending ? ">" : "<") ?"
            alternatives.append("(\((equal + [beyond]).joined(separator: " AND ")))")
            arguments += operands[...index]
        }
        // The first key alone, so that an index begins where the page does.
        let bound = "\(keys[0].sql) \(keys[0].isAscending ? ">=" : "<=") ?"
        return ("\(bound) AND (\(alternatives.joined(separator: " OR ")))", [operands[0]] + arguments)
    }

    // MARK: Clauses

    private func key(_ name: String, entity: String?, isAscending: Bool) throws(PlatformError) -> Key {
        guard entity == nil || entity == "attribute" || entity == "attributes" else { throw unknown(name, "order_by") }
        switch (kind, name) {
        case (_, "name"): return Key(name: "name", sql: "m.name", isText: true, isAscending: isAscending)
        case (_, "creation_timestamp"):
            return Key(
                name: name, sql: kind == .models ? "m.created_at" : "v.created_at", isText: false,
                isAscending: isAscending)
        case (_, "last_updated_timestamp"), (.models, "timestamp"):
            return Key(
                name: "last_updated_timestamp", sql: kind == .models ? "m.updated_at" : "v.updated_at", isText: false,
                isAscending: isAscending)
        case (.versions, "version_number"), (.versions, "version"):
            return Key(name: "version_number", sql: "v.number", isText: false, isAscending: isAscending)
        default: throw unknown(name, "order_by")
        }
    }

    private func unknown(_ key: String, _ place: String) -> PlatformError {
        let known =
            place == "order_by"
            ? "name, creation_timestamp, last_updated_timestamp" + (kind == .versions ? ", version_number" : "")
            : kind == .models
                ? "name, tags.…"
                : "name, run_id, source_path, version_number, stage, label, creation_timestamp, last_updated_timestamp, tags.…"
        return PlatformError(
            .invalidInput, place,
            "Invalid attribute key '\(key.prefix(64))': it is no key of a \(kind == .models ? "registered model" : "model version"); "
                + "known are \(known)")
    }

    private mutating func add(_ clause: SearchClause) throws(PlatformError) {
        switch clause.entity {
        case "tag", "tags":
            try addTag(clause)
        case nil, "attribute", "attributes":
            switch (kind, clause.key) {
            case (_, "name"): try addText("m.name", clause)
            case (.versions, "run_id"): try addText("v.run_id", clause)
            case (.versions, "source_path"), (.versions, "source"): try addText("v.source", clause)
            case (.versions, "stage"): try addText("v.stage", clause)
            case (.versions, "label"): try addText("COALESCE(v.label, '')", clause)
            case (.versions, "version_number"), (.versions, "version"): try addNumber("v.number", clause)
            case (_, "creation_timestamp"):
                try addNumber(kind == .models ? "m.created_at" : "v.created_at", clause)
            case (_, "last_updated_timestamp"):
                try addNumber(kind == .models ? "m.updated_at" : "v.updated_at", clause)
            default: throw unknown(clause.key, "filter")
            }
        default: throw unknown("\(clause.entity ?? "").\(clause.key)", "filter")
        }
    }

    /// `!=` wants the tag to be there, as with the reference server.
    private mutating func addTag(_ clause: SearchClause) throws(PlatformError) {
        let base = "SELECT 1 FROM model_tags t WHERE \(owner) AND t.key = ?"
        switch clause.comparison {
        case .isNull, .isNotNull:
            conditions.append("\(clause.comparison == .isNull ? "NOT " : "")EXISTS (\(base))")
            arguments.append(.text(clause.key))
        case .notEqual:
            guard case .text(let text) = clause.operand else { throw wrongOperand(clause) }
            conditions.append("EXISTS (\(base) AND t.value <> ?)")
            arguments += [.text(clause.key), .text(text)]
        default:
            let (sql, values) = try textTest("t.value", clause)
            conditions.append("EXISTS (\(base) AND \(sql))")
            arguments += [.text(clause.key)] + values
        }
    }

    private mutating func addText(_ column: String, _ clause: SearchClause) throws(PlatformError) {
        let (sql, values) = try textTest(column, clause)
        conditions.append(sql)
        arguments += values
    }

    private mutating func addNumber(_ column: String, _ clause: SearchClause) throws(PlatformError) {
        let number: Double
        switch clause.operand {
        case .number(let value): number = value
        case .text(let text):
            guard text.utf8.count <= 20, let value = Int64(text) else { throw wrongOperand(clause) }
            number = Double(value)
        default: throw wrongOperand(clause)
        }
        guard clause.comparison.isOrdering || clause.comparison == .equal || clause.comparison == .notEqual else {
            throw wrongOperand(clause)
        }
        conditions.append("\(column) \(clause.comparison == .notEqual ? "<>" : clause.comparison.rawValue) ?")
        arguments.append(.real(number))
    }

    private func textTest(
        _ column: String, _ clause: SearchClause
    ) throws(PlatformError) -> (sql: String, arguments: [MetadataValue]) {
        switch (clause.comparison, clause.operand) {
        case (.equal, .text(let text)): return ("\(column) = ?", [.text(text)])
        case (.notEqual, .text(let text)): return ("\(column) <> ?", [.text(text)])
        case (.like, .text(let text)): return ("\(column) LIKE ?", [.text(text)])
        case (.ilike, .text(let text)): return ("lower(\(column)) LIKE lower(?)", [.text(text)])
        case (.isIn, .texts(let texts)), (.isNotIn, .texts(let texts)):
            guard texts.count <= 10_000 else {
                throw PlatformError(.invalidInput, "filter", "a list has \(texts.count) values, 10000 are accepted")
            }
            let marks = texts.map { _ in "?" }.joined(separator: ", ")
            return ("\(column) \(clause.comparison.rawValue) (\(marks))", texts.map(MetadataValue.text))
        default: throw wrongOperand(clause)
        }
    }

    private func wrongOperand(_ clause: SearchClause) -> PlatformError {
        PlatformError(
            .invalidInput, "filter",
            "'\(clause.key.prefix(64))' is not compared like this: text by =, !=, LIKE, ILIKE or IN with values in quotes, "
                + "numbers by =, !=, <, <=, >, >= with a bare number")
    }
}
