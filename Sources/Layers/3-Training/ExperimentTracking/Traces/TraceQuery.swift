import PlatformCore
import StoragePorts

/// A search over traces as SQL.
struct TraceQuery {
    private(set) var query = KeysetQuery("tracking_trace", alias: "t")
    /// Conditions on one and the same span.
    private var spanConditions: [RunQuery.Fragment] = []

    init(experiments: [Int64], filter: SearchFilter, orders: [SearchOrder]) throws(PlatformError) {
        query.require(numbers: "t.experiment_number", experiments)
        for clause in filter.clauses { try add(clause) }
        if !spanConditions.isEmpty {
            query.require(
                """
                EXISTS (SELECT 1 FROM tracking_trace_span s WHERE s.trace_id = t.trace_id
                AND \(spanConditions.map(\.sql).joined(separator: " AND ")))
                """, spanConditions.flatMap(\.arguments))
        }
        for order in orders { try add(order) }
        if !orders.contains(where: { (try? Self.field($0.entity, $0.key)) == .number(column: "t.requested_at") }) {
            query.order(by: "t.requested_at", isAscending: false)
        }
        query.order(by: "t.trace_id", isAscending: true)
    }

    // MARK: Fields

    private enum Field: Equatable {
        case text(column: String)
        case number(column: String)
        case tag(String)
        case metadata(String)
        case run
        case span(column: String)
        case spanAttribute(String)
        case assessment(TraceAssessment.Kind, name: String)
        case issue
    }

    private static let owner = "v.trace_id = t.trace_id"

    private static func field(_ entity: String?, _ key: String) throws(PlatformError) -> Field {
        switch entity {
        case nil, "attribute", "attributes", "trace": return try attribute(key)
        case "tag", "tags": return .tag(key)
        case "metadata", "request_metadata": return .metadata(key)
        case "feedback": return .assessment(.feedback, name: key)
        case "expectation": return .assessment(.expectation, name: key)
        case "issue" where key == "id": return .issue
        case "span":
            let prefix = "attributes."
            if key.hasPrefix(prefix) { return .spanAttribute(String(key.dropFirst(prefix.count))) }
            switch key {
            case "name", "status": return .span(column: "s.\(key)")
            case "type": return .span(column: "s.kind")
            case "content": return .span(column: "s.document")
            default:
                throw PlatformError(
                    .invalidInput, "filter",
                    "'\(key)' is no key of a span; known are name, type, status, content, attributes.…")
            }
        default:
            throw PlatformError(
                .invalidInput, "filter",
                "'\(entity ?? "").\(key)' is not known; write attributes, tags, metadata, span, feedback or "
                    + "expectation before the dot, or issue.id")
        }
    }

    private static func attribute(_ key: String) throws(PlatformError) -> Field {
        switch key.lowercased() {
        case "request_id", "trace_id": return .text(column: "t.trace_id")
        case "client_request_id": return .text(column: "t.client_request_id")
        case "status", "state": return .text(column: "t.state")
        case "timestamp", "timestamp_ms": return .number(column: "t.requested_at")
        case "execution_time", "execution_time_ms": return .number(column: "t.duration")
        case "end_time", "end_time_ms": return .number(column: "(t.requested_at + COALESCE(t.duration, 0))")
        case "experiment_id": return .text(column: "CAST(t.experiment_number AS TEXT)")
        case "name": return .tag("mlflow.traceName")
        case "run_id": return .run
        case "text": return .span(column: "s.document")
        default:
            throw PlatformError(
                .invalidInput, "filter",
                "'\(key)' is no attribute of a trace; known are trace_id, client_request_id, status, timestamp_ms, "
                    + "execution_time_ms, end_time_ms, name, run_id, text; write tags.… or metadata.… for others")
        }
    }

    // MARK: Clauses

    private mutating func add(_ clause: SearchClause) throws(PlatformError) {
        switch try Self.field(clause.entity, clause.key) {
        case .text(let column): try query.require(text: column, clause)
        case .number(let column): try query.require(number: column, clause)
        case .tag(let key): try query.require(valueIn: "tracking_trace_tag", where: Self.owner, key: key, clause)
        case .metadata(let key):
            try query.require(valueIn: "tracking_trace_metadata", where: Self.owner, key: key, clause)
        case .run: try addRun(clause)
        case .span(let column):
            let (test, arguments) = try RunQuery.textTest(column, clause)
            spanConditions.append(RunQuery.Fragment(sql: test, arguments: arguments))
        case .spanAttribute(let key):
            let (test, arguments) = try RunQuery.textTest("v.value", clause)
            spanConditions.append(
                RunQuery.Fragment(
                    sql: """
                        EXISTS (SELECT 1 FROM tracking_trace_attribute v WHERE v.trace_id = s.trace_id
                        AND v.span_id = s.span_id AND v.key = ? AND \(test))
                        """, arguments: [.text(key)] + arguments))
        case .assessment(let kind, let name): try addAssessment(kind, name, clause)
        case .issue:
            guard clause.comparison == .equal, case .text(let name) = clause.operand else {
                throw PlatformError(.invalidInput, "filter", "issue.id is compared by = with a value in quotes")
            }
            query.require(
                """
                EXISTS (SELECT 1 FROM tracking_trace_assessment v WHERE \(Self.owner) AND v.kind = 'issue'
                AND v.name = ?)
                """, [.text(name)])
        }
    }

    /// A trace belongs to the run that it was made in and to those it was linked to.
    private mutating func addRun(_ clause: SearchClause) throws(PlatformError) {
        let isNegated = [.notEqual, .isNotIn, .isNull].contains(clause.comparison)
        var (test, arguments): (String, [MetadataValue]) = ("1 = 1", [])
        if !clause.isNullCheck {
            let opposite: [SearchComparison: SearchComparison] = [.notEqual: .equal, .isNotIn: .isIn]
            (test, arguments) = try RunQuery.textTest(
                "@",
                SearchClause(
                    entity: clause.entity, key: clause.key,
                    comparison: opposite[clause.comparison] ?? clause.comparison, operand: clause.operand))
        }
        query.require(
            """
            \(isNegated ? "NOT " : "")(EXISTS (SELECT 1 FROM tracking_trace_metadata v WHERE \(Self.owner)
            AND v.key = 'mlflow.sourceRun' AND \(test.replacing("@", with: "v.value")))
            OR EXISTS (SELECT 1 FROM tracking_trace_run v WHERE \(Self.owner)
            AND \(test.replacing("@", with: "v.run_id"))))
            """, arguments + arguments)
    }

    private mutating func addAssessment(
        _ kind: TraceAssessment.Kind, _ name: String, _ clause: SearchClause
    ) throws(PlatformError) {
        var (test, arguments): (String, [MetadataValue]) = ("1 = 1", [])
        if case .number(let number) = clause.operand {
            (test, arguments) = ("v.number \(try clause.number().comparison) ?", [.real(number)])
        } else if !clause.isNullCheck {
            (test, arguments) = try RunQuery.textTest("v.value", clause)
        }
        query.require(
            """
            \(clause.comparison == .isNull ? "NOT " : "")EXISTS (SELECT 1 FROM tracking_trace_assessment v
            WHERE \(Self.owner) AND v.kind = ? AND v.name = ? AND v.is_valid = 1 AND \(test))
            """, [.text(kind.rawValue), .text(name)] + arguments)
    }

    // MARK: Order

    private mutating func add(_ order: SearchOrder) throws(PlatformError) {
        let isAscending = order.isAscending
        switch try Self.field(order.entity, order.key) {
        case .text(let column): query.order(byOptional: column, isAscending: isAscending)
        case .number(column: "t.duration"): query.order(byOptional: "t.duration", isAscending: isAscending)
        case .number(let column): query.order(by: column, isAscending: isAscending)
        case .tag(let key):
            query.order(byValueIn: "tracking_trace_tag", where: Self.owner, key: key, isAscending: isAscending)
        case .metadata(let key):
            query.order(byValueIn: "tracking_trace_metadata", where: Self.owner, key: key, isAscending: isAscending)
        case .run:
            query.order(
                byValueIn: "tracking_trace_metadata", where: Self.owner, key: "mlflow.sourceRun",
                isAscending: isAscending)
        default:
            throw PlatformError(
                .invalidInput, "order_by", "traces cannot be ordered by '\(order.key)' of a span or an assessment")
        }
    }
}

extension TrackingStore {
    /// Most traces of a page; a search that asks for more gets the rest by the page's token.
    static let tracePageMax = 1000

    /// Traces of some experiments that pass a filter; newest first unless `orders` says otherwise.
    ///
    /// Clauses on `span` must hold for one and the same span.
    ///
    /// - Parameter pageToken: where the page begins, as the page before it said.
    /// - Throws: `invalidInput` for a key that there is not, or for a token of another search.
    public func searchTraces(
        experiments: [String], filter: SearchFilter = .all, orders: [SearchOrder] = [], pageToken: String? = nil,
        countMax: Int = 100
    ) async throws -> (traces: [TraceInfo], nextPageToken: String?) {
        guard experiments.count <= 10_000 else {
            throw PlatformError(.invalidInput, "locations", "\(experiments.count) experiments, 10000 are accepted")
        }
        let numbers = experiments.compactMap { Int64($0) }
        let query = try TraceQuery(experiments: numbers, filter: filter, orders: orders).query
        let question: JSONValue = [
            "call": "traces", "experiments": .array(experiments.map(JSONValue.string)),
            "filter": .string(String(describing: filter.clauses)), "orders": .string(String(describing: orders)),
        ]
        let place = try place(pageToken, question: question, query)
        if numbers.isEmpty { return ([], nil) }
        let (traces, page) = try await metadata.read { transaction in
            let page = try query.page(behind: place, countMax: min(countMax, Self.tracePageMax), transaction)
            return (try Self.traces(page.rows, transaction), page)
        }
        return (traces, token(behind: page, question: question))
    }
}
