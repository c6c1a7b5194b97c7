import Definitions
public import PlatformCore
import StoragePorts

extension IngestService {
    /// Reports of the last loads of a source, newest first; those of refused loads among them.
    public func checks(of source: Name, countMax: Int = 20) async throws -> [JSONValue] {
        try await metadata.read { transaction in
            try transaction.query(
                "SELECT report FROM dataset_check WHERE source = ? ORDER BY time_ms DESC, identifier LIMIT ?",
                [.text(source.text), .integer(Int64(countMax))]
            ).compactMap { try? JSONValue.parse($0.text("report")) }
        }
    }

    /// Reports kept for each source.
    static let checkReportCountMax = 1000

    static func write(_ checks: CheckReport, _ transaction: any MetadataTransaction) throws {
        try transaction.execute(
            """
            INSERT INTO dataset_check (source, identifier, time_ms, success, report) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (source, identifier) DO UPDATE SET
                time_ms = excluded.time_ms, success = excluded.success, report = excluded.report
            """,
            [
                .text(checks.source.text), .text(checks.identifier), .integer(checks.time.milliseconds),
                .integer(checks.success ? 1 : 0), .text(checks.json.text),
            ])
        try transaction.execute(
            """
            DELETE FROM dataset_check WHERE source = ? AND identifier IN (
                SELECT identifier FROM dataset_check WHERE source = ? ORDER BY time_ms DESC, identifier
                LIMIT 1000000 OFFSET \(checkReportCountMax))
            """, [.text(checks.source.text), .text(checks.source.text)])
    }

    /// Reads the load once and evaluates what its source expects of whole loads, before a row is stored.
    /// - Throws: `PlatformError` (`refused`) where an expectation of severity `reject` does not hold.
    func checks(of load: FileLoad, now: EventTime) async throws -> CheckReport {
        var report = CheckReport(
            source: load.source.name, identifier: load.report.contentHash.hex, file: load.report.file, time: now)
        let wanted = load.source.loadChecks
        guard !wanted.isEmpty else { return report }
        let spool = try CheckSpool(path: try spoolPath("check"))
        var reading = load
        try await reading.read(.check(spool), { _ in })
        let facts = LoadFacts(
            definition: shapes.effective(load.source), report: reading.report, spool: spool.path, now: now,
            earlier: try await loads(of: load.source.name, countMax: 1000).map(\.rowsRead))
        for check in wanted { report.results.append(try await facts.result(of: check, engine)) }
        let broken = report.results.filter { !$0.success && $0.severity == .reject }
        guard !broken.isEmpty else { return report }
        report.isRefused = true
        let kept = report
        try await metadata.write { try Self.write(kept, $0) }
        throw PlatformError(
            .refused, "file/\(load.report.file)",
            "the load breaks \(broken.count) expectation\(broken.count == 1 ? "" : "s") of source '\(load.source.name)'; nothing was stored: "
                + broken.prefix(5).map { "\($0.name): \($0.message)" }.joined(separator: "; "))
    }
}

/// What is known of a load that is being checked.
struct LoadFacts: Sendable {
    let definition: SourceDefinition
    let report: LoadReport
    let spool: String
    let now: EventTime
    /// Rows of earlier loads, newest first.
    let earlier: [Int]

    func result(of check: LoadCheckDefinition, _ engine: any OfflineEngine) async throws -> CheckReport.Result {
        func result(
            _ kind: String, column: String? = nil, _ success: Bool, _ observed: JSONValue, _ message: String,
            unexpected: Int? = nil
        ) -> CheckReport.Result {
            CheckReport.Result(
                name: check.name, kind: kind, column: column, severity: check.severity, success: success,
                observed: observed, elementCount: report.rows.accepted, unexpectedCount: unexpected,
                message: success ? "" : message)
        }
        switch check.check {
        case .freshness(let age):
            guard let newest = report.lastEventTime else {
                return result("freshness", false, .null, "the load holds no acceptable row")
            }
            let found = now.since(newest)
            return result(
                "freshness", found <= age, .string(newest.description),
                "the newest event, \(newest), is \(found) old; accepted is \(age)")
        case .rowCountChange(let minimum, let maximum, let loads):
            let trailing = earlier.prefix(loads)
            guard !trailing.isEmpty else { return result("row_count_change", true, .null, "") }
            let mean = Double(trailing.reduce(0, +)) / Double(trailing.count)
            let ratio =
                mean == 0 ? (report.rowsRead == 0 ? 1 : Double.greatestFiniteMagnitude) : Double(report.rowsRead) / mean
            return result(
                "row_count_change", ratio >= minimum ?? 0 && ratio <= maximum ?? .infinity, .number(ratio),
                "\(report.rowsRead) rows are \(Self.shown(ratio)) times the mean of the last \(trailing.count) loads, accepted is \(Self.shown(minimum, maximum))"
            )
        case .distribution(let column, let bounds):
            let figures = bounds.enumerated().map { "\(Self.expression($1.statistic, column)) AS f\($0)" }
            let row = try await query("SELECT \(figures.joined(separator: ", ")) FROM batch", engine).first ?? .null
            var observed: [String: JSONValue] = [:]
            var broken: [String] = []
            for (index, bound) in bounds.enumerated() {
                let value = row["f\(index)"]?.doubleValue
                observed[bound.statistic.text] = value.map(JSONValue.number) ?? .null
                if let value, value >= bound.minimum ?? -.infinity, value <= bound.maximum ?? .infinity { continue }
                broken.append(
                    "\(bound.statistic.text) is \(value.map(Self.shown) ?? "unknown"), accepted is \(Self.shown(bound.minimum, bound.maximum))"
                )
            }
            return result(
                "distribution", column: column, broken.isEmpty, .object(observed),
                "\(column): \(broken.joined(separator: ", "))")
        case .sql(let text):
            do {
                let columns = try await query("SELECT column_type FROM (DESCRIBE \(text))", engine)
                let isBoolean = columns.count == 1 && columns[0]["column_type"] == "BOOLEAN"
                let counted =
                    isBoolean
                    ? "SELECT count(*) FILTER (WHERE truth IS NOT TRUE) AS bad FROM (\(text)) AS answer(truth)"
                    : "SELECT count(*) AS bad FROM (\(text)) AS answer"
                let bad = Int(try await query(counted, engine).first?["bad"]?.integerValue ?? 0)
                return result(
                    "sql", bad == 0, .integer(Int64(bad)),
                    isBoolean ? "the query's answer is not true" : "the query finds \(bad) rows", unexpected: bad)
            } catch let error as StoreError where error.code == .invalidInput {
                return result("sql", false, .null, "the query cannot run: \(IngestService.firstLine(error.message))")
            }
        }
    }

    private static func shown(_ value: Double) -> String {
        let rounded = (value * 10_000).rounded() / 10_000
        return rounded.description
    }

    private static func shown(_ minimum: Double?, _ maximum: Double?) -> String {
        switch (minimum, maximum) {
        case (.some(let low), .some(let high)): "\(shown(low)) to \(shown(high))"
        case (.some(let low), .none): "at least \(shown(low))"
        case (.none, .some(let high)): "at most \(shown(high))"
        case (.none, .none): "anything"
        }
    }

    private static func expression(_ statistic: LoadCheckDefinition.Statistic, _ column: String) -> String {
        let name = SQLText.identifier(column)
        return switch statistic {
        case .mean: "avg(CAST(\(name) AS DOUBLE))"
        case .stddev: "stddev_pop(CAST(\(name) AS DOUBLE))"
        case .min: "min(CAST(\(name) AS DOUBLE))"
        case .max: "max(CAST(\(name) AS DOUBLE))"
        case .nullShare: "(count(*) - count(\(name)))::DOUBLE / nullif(count(*), 0)"
        case .distinctShare: "count(DISTINCT \(name))::DOUBLE / nullif(count(\(name)), 0)"
        case .quantile(let share): "quantile_cont(CAST(\(name) AS DOUBLE), \(share))"
        }
    }

    /// A query in which `batch` is the load's accepted rows.
    private func query(_ sql: String, _ engine: any OfflineEngine) async throws -> [JSONValue] {
        var types: [String] = []
        var cells: [String] = []
        for column in definition.columns {
            let name = SQLText.identifier(column.name)
            let type =
                switch column.type {
                case .string: "VARCHAR"
                case .int64, .timestamp: "BIGINT"
                case .float64: "DOUBLE"
                case .bool: "BOOLEAN"
                case .vector: "FLOAT[]"
                case .list: preconditionFailure("a source's column is no list")
                }
            types.append("\(name): '\(type)'")
            cells.append(column.type == .timestamp ? "make_timestamptz(\(name) * 1000) AS \(name)" : name)
        }
        let setup = """
            CREATE TEMP VIEW batch AS SELECT \(cells.joined(separator: ", ")) FROM read_json(\(SQLText.literal(spool)),
                format='newline_delimited', columns={\(types.joined(separator: ", "))}, maximum_object_size=\(2 << 20));
            """
        return try await engine.rows(sql, setup: setup)
    }
}
