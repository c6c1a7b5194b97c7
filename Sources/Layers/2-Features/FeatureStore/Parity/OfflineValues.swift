import Definitions
import PlatformCore
import StoragePorts

/// Features of one view as the offline engine computes them, by the SQL that training sets are built with.
struct OfflineValues: Sendable {
    /// One question: an entity and a moment.
    struct Question: Sendable, Hashable {
        /// A value, or nil, for each join key of the view, in the view's order.
        let keys: [String?]
        let time: EventTime
    }

    let engine: any OfflineEngine
    let limits: QueryLimits
    let view: FeatureViewDefinition
    let source: SourceDefinition
    let features: [FeatureDefinition]

    /// The values by feature, question by question.
    /// - Parameter events: SQL table expression of the source's rows.
    /// - Throws: what the engine throws.
    func values(events: String, _ questions: [Question]) async throws -> [[String: CellValue]] {
        guard !questions.isEmpty else { return [] }
        let keys = view.joinKeys.map(SQLText.identifier)
        let rows = questions.enumerated().map { index, question in
            let parts = question.keys.map { $0.map(SQLText.literal) ?? "NULL::VARCHAR" }
            return "(\(index), \(question.time.milliseconds)::BIGINT, \(parts.joined(separator: ", ")))"
        }
        let sql = try FeatureSQL(
            view: view, source: source,
            outputs: features.map { FeatureSQL.Output(feature: $0.name, column: $0.name) })
        let asked = """
            CREATE TEMP TABLE question AS SELECT * FROM (VALUES \(rows.joined(separator: ",\n")))
            AS asked(__row, __time, \(keys.joined(separator: ", ")))
            """
        let setup =
            SQLDialect.duckdb.preparation + [asked]
            + sql.statements(events: events, questions: "question", result: "answer")
        let columns = features.map { SQLText.identifier($0.name) }
        let answers = try await engine.rows(
            "SELECT __row, \(columns.joined(separator: ", ")) FROM answer ORDER BY __row",
            setup: setup.joined(separator: ";\n"), limits: limits)
        guard answers.count == questions.count else {
            throw PlatformError(
                .internal, "feature_view/\(view.name)",
                "the offline engine gave \(answers.count) answers to \(questions.count) questions")
        }
        return answers.map { answer in
            Dictionary(
                uniqueKeysWithValues: features.map { ($0.name, Self.cell(answer[$0.name] ?? .null, $0.type)) })
        }
    }

    /// A value of the engine's JSON as a cell of the feature's type.
    static func cell(_ value: JSONValue, _ type: ColumnType) -> CellValue {
        if case .array(let elements) = value {
            return .list(elements.map { type == .vector ? .double(Double(Float($0.doubleValue ?? .nan))) : scalar($0) })
        }
        return switch type {
        case .float64: value.doubleValue.map(CellValue.double) ?? .null
        case .int64, .timestamp: value.integerValue.map(CellValue.integer) ?? .null
        case .bool: value.boolValue.map(CellValue.bool) ?? .null
        case .string: value.stringValue.map(CellValue.text) ?? .null
        case .list, .vector: .null
        }
    }

    private static func scalar(_ value: JSONValue) -> CellValue {
        switch value {
        case .integer(let value): .integer(value)
        case .number(let value): .double(value)
        case .bool(let value): .bool(value)
        case .string(let value): .text(value)
        default: .null
        }
    }
}
