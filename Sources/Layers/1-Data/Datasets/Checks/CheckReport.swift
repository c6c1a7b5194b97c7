public import Definitions
public import PlatformCore

/// What the expectations on one load gave: kept for each load, in the shape that Great Expectations' results have.
public struct CheckReport: Sendable, Hashable {
    /// What one expectation gave.
    public struct Result: Sendable, Hashable {
        /// Its name.
        public let name: String
        /// Its kind: `range`, `freshness`.
        public let kind: String
        /// The column it is about, if it is about one.
        public let column: String?
        /// What a breach means.
        public let severity: ExpectationSeverity
        /// Whether it holds.
        public let success: Bool
        /// What was found, where that is one figure or a few.
        public let observed: JSONValue
        /// Rows looked at.
        public let elementCount: Int?
        /// Rows that break it.
        public let unexpectedCount: Int?
        /// In one sentence what is wrong; empty where it holds.
        public let message: String
    }
    /// The source.
    public let source: Name
    /// SHA-256 of the load's content, which names it.
    public let identifier: String
    /// The load's name as the sender knows it.
    public let file: String
    /// When it was checked.
    public let time: EventTime
    /// One for each expectation.
    public var results: [Result] = []
    /// Whether the load was refused as a whole.
    public var isRefused = false

    /// Whether every expectation holds.
    public var success: Bool { results.allSatisfy(\.success) }

    /// The report as the HTTP contract shows it.
    public var json: JSONValue {
        let failed = results.count { !$0.success }
        return [
            "source": .string(source.text), "load": .string(identifier), "file": .string(file),
            "time": .string(time.description), "success": .bool(success), "refused": .bool(isRefused),
            "statistics": [
                "evaluated_expectations": .integer(Int64(results.count)),
                "successful_expectations": .integer(Int64(results.count - failed)),
                "unsuccessful_expectations": .integer(Int64(failed)),
                "success_percent": results.isEmpty
                    ? .null : .number(100 * Double(results.count - failed) / Double(results.count)),
            ],
            "results": .array(results.map(Self.json)),
        ]
    }

    private static func json(_ result: Result) -> JSONValue {
        var figures: [String: JSONValue] = ["observed_value": result.observed]
        if let count = result.elementCount { figures["element_count"] = .integer(Int64(count)) }
        if let count = result.unexpectedCount {
            figures["unexpected_count"] = .integer(Int64(count))
            if let all = result.elementCount, all > 0 {
                figures["unexpected_percent"] = .number(100 * Double(count) / Double(all))
            }
        }
        return [
            "expectation": [
                "name": .string(result.name), "type": .string(result.kind),
                "column": result.column.map(JSONValue.string) ?? .null,
                "severity": .string(result.severity.rawValue),
            ],
            "success": .bool(result.success), "result": .object(figures), "message": .string(result.message),
        ]
    }

    /// With the expectations on rows, whose counts are known once the load is over.
    func finished(_ load: LoadReport, _ contract: SourceContract) -> CheckReport {
        var report = self
        for (expectation, rule) in contract.rules {
            let count = (load.rows.reasons[rule] ?? 0) + (load.rows.warnings[rule] ?? 0)
            report.results.append(
                Result(
                    name: expectation.name, kind: expectation.check.kind, column: expectation.column,
                    severity: expectation.severity, success: count == 0, observed: .null,
                    elementCount: load.rowsRead, unexpectedCount: count, message: count == 0 ? "" : rule))
        }
        return report
    }
}

extension ExpectationDefinition.Check {
    var kind: String {
        switch self {
        case .range: "range"
        case .among: "in"
        case .matches: "matches"
        case .notBefore: "not_before"
        case .notNull: "not_null"
        case .unique: "unique"
        }
    }
}
