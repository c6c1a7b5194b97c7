import Definitions
import FeatureStore
import Foundation
import PlatformCore
import Statistics
import StoragePorts
import Synchronization

/// A local file that rows to evaluate come from.
public struct EvaluationFile: Sendable, Hashable {
    /// What DuckDB reads it with.
    public enum Format: String, Sendable, Codable, CaseIterable {
        /// Parquet.
        case parquet
        /// Text with a header line.
        case csv
        /// JSON lines.
        case ndjson
    }
    let path: String
    let format: Format
    /// Columns of each row's question, by the place in the log that `__sequence` names; as a table expression.
    var questions: String?

    /// Names a file.
    public init(path: String, format: Format) {
        self.path = path
        self.format = format
    }

    /// What stands after `FROM`, with some columns of the questions.
    func sql(with columns: [String]) -> String {
        let path = SQLText.literal(path)
        switch format {
        case .parquet:
            guard let questions, !columns.isEmpty else { return "read_parquet(\(path))" }
            let cells = columns.map(SQLText.identifier)
            return """
                (SELECT d.*, \(cells.map { "s.\($0)" }.joined(separator: ", ")) FROM read_parquet(\(path)) d LEFT JOIN \
                (SELECT __sequence AS __place, \(cells.joined(separator: ", ")) FROM \(questions)) s \
                ON s.__place = d.__sequence ORDER BY d.__event_time, d.__sequence)
                """
        case .csv: return "read_csv(\(path), header = true, sample_size = -1)"
        case .ndjson: return "read_json(\(path), format = 'newline_delimited')"
        }
    }
}

/// Rows as a model reads them, and the columns that cut them.
struct EvaluationTable: Sendable {
    let rows: SliceRows
    /// Rows that have no label; they are left out.
    let rowCountWithoutLabel: Int
    /// The columns that were asked for, by name.
    let columns: [String: SliceColumn]
    /// The query of each row, if one was asked for.
    let queries: [Int]?
    /// What is likely not meant, for people.
    let warnings: [String]
}

extension VersionEvaluator {
    /// Most values of a text column that are slices of their own; the others are one more.
    static let sliceValueCountMax = 40

    /// Reads a file's inputs, label and further columns.
    /// - Throws: `invalidInput` for a column that is missing (naming the nearest), and a file that DuckDB refuses.
    func table(
        _ file: EvaluationFile, service: FeatureServiceDefinition, label: String, columns wanted: [String],
        query: String?, progress: @escaping @Sendable (Int) -> Void
    ) async throws -> EvaluationTable {
        let own = try await types(of: file.sql(with: []), file.format)
        // What the data does not have itself may be a column of its questions.
        let beside = try await file.questions == nil ? [] : types(of: file.questions ?? "", file.format)
        let types = own + beside.filter { column in !own.contains { $0.name == column.name } }
        let names = types.map(\.name).filter { !$0.hasPrefix("__") }
        func check(_ name: String, _ what: String, _ advice: String) throws {
            guard !names.contains(name) else { return }
            let near = nearestName(to: name, among: names)
            throw PlatformError(
                .invalidInput, "data",
                "\(what) '\(name.prefix(100))' is no column of the data"
                    + (near.map { "; did you mean '\($0)'?" } ?? "; \(advice)"))
        }
        let known = "its columns are \(names.prefix(30).joined(separator: ", "))\(names.count > 30 ? ", …" : "")"
        try check(label, "the label", "name it with --label; \(known)")
        for input in service.inputNames { try check(input, "the model's input", known) }
        for column in wanted { try check(column, "the slice", known) }
        if let query { try check(query, "the query", known) }
        let others = wanted + (query.map { [$0] } ?? [])
        let joined = others.filter { name in !own.contains { $0.name == name } }
        let cells = wanted.map { name in
            CutKind(type: types.first { $0.name == name }?.type ?? "").text(of: SQLText.identifier(name))
        }
        let read = try await self.cells(
            file, service: service, label: label, others, joined,
            texts: cells + (query.map { ["CAST(\(SQLText.identifier($0)) AS VARCHAR)"] } ?? []), progress: progress)
        guard !read.rows.labels.isEmpty else {
            throw PlatformError(
                .invalidInput, "data",
                read.withoutLabel == 0
                    ? "it has no rows" : "none of its \(read.withoutLabel) rows has a value in the label '\(label)'")
        }
        var columns: [String: SliceColumn] = [:]
        for (place, name) in wanted.enumerated() {
            let type = types.first { $0.name == name }?.type ?? ""
            columns[name] = Self.slices(name, read.columns[place], CutKind(type: type))
        }
        var queries: [Int]?
        if query != nil, let last = read.columns.last {
            var numbers: [String: Int] = [:]
            queries = last.map { text in
                if let known = numbers[text] { return known }
                numbers[text] = numbers.count
                return numbers.count - 1
            }
        }
        return EvaluationTable(
            rows: read.rows, rowCountWithoutLabel: read.withoutLabel, columns: columns, queries: queries,
            warnings: read.warnings)
    }

    /// Reads Parquet here, unless columns of the questions are wanted too; DuckDB reads everything else.
    private func cells(
        _ file: EvaluationFile, service: FeatureServiceDefinition, label: String, _ others: [String],
        _ joined: [String], texts: [String], progress: @escaping @Sendable (Int) -> Void
    ) async throws -> (rows: SliceRows, withoutLabel: Int, columns: [[String]], warnings: [String]) {
        if file.format == .parquet, joined.isEmpty,
            let read = try await SliceReader.read(
                file.path, service: service, label: label, columns: others, progress: progress)
        {
            let warnings = service.request.compactMap { feature -> String? in
                guard case .category(let values) = feature.kind, let found = read.unlisted[feature.name] else {
                    return nil
                }
                return UnlistedCategories.warning(
                    feature.name, listed: values, count: found.count, of: read.labels.count, example: found.example)
            }
            guard read.labels.contains(where: \.isNaN) else {
                return (SliceRows(inputs: read.inputs, labels: read.labels), 0, read.columns, warnings)
            }
            let width = read.inputs.count / max(1, read.labels.count)
            let kept = read.labels.indices.filter { !read.labels[$0].isNaN }
            var inputs: [Float] = []
            inputs.reserveCapacity(kept.count * width)
            for row in kept { inputs += read.inputs[(row * width)..<((row + 1) * width)] }
            return (
                SliceRows(inputs: inputs, labels: kept.map { read.labels[$0] }), read.labels.count - kept.count,
                read.columns.map { column in kept.map { column[$0] } }, warnings
            )
        }
        let sql = """
            SELECT \(Self.inputs(of: service)) AS x, CAST(\(SQLText.identifier(label)) AS DOUBLE) AS y, \
            CAST([\(texts.joined(separator: ", "))] AS VARCHAR[]) AS s FROM \(file.sql(with: joined))
            """
        let collector = TableCollector(columnCount: others.count, progress: progress)
        try await engine.query(sql, setup: "", limits: QueryLimits()) { row in
            guard case .array(let values)? = row["x"] else {
                throw PlatformError(.corrupted, file.path, "a row of the data has no inputs")
            }
            collector.add(
                values.map { $0.doubleValue.map(Float.init) ?? .nan }, row["y"]?.doubleValue,
                row["s"]?.arrayValue?.map { $0.stringValue ?? SliceReader.missing } ?? [])
        }
        let read = collector.read
        return (
            read.rows, read.withoutLabel, read.columns,
            await UnlistedCategories.warnings(
                in: file.sql(with: []), of: service.request, engine: engine, limits: QueryLimits())
        )
    }

    func types(
        of table: String, _ format: EvaluationFile.Format
    ) async throws -> [(name: String, type: String)] {
        do {
            return try await engine.rows("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM \(table))")
                .compactMap { row in
                    guard let name = row["column_name"]?.stringValue else { return nil }
                    return (name, row["column_type"]?.stringValue ?? "")
                }
        } catch let error as StoreError where error.code == .invalidInput {
            throw PlatformError(
                .invalidInput, "data", "it cannot be read as \(format.rawValue): \(errorText(error))")
        }
    }

    /// A column of texts as slices: numbers and moments of more than twelve values in four ranges of equal shares, and of many
    /// texts the most frequent.
    static func slices(_ name: String, _ texts: [String], _ kind: CutKind) -> SliceColumn {
        var counts: [String: Int] = [:]
        for text in texts { counts[text, default: 0] += 1 }
        if kind != .text, counts.count > 12 {
            let numbers = texts.map { Double($0) }
            let sorted = numbers.compactMap(\.self).filter(\.isFinite).sorted()
            guard let least = sorted.first, let most = sorted.last else { return SliceColumn(name: name, texts: texts) }
            let edges = Set([1, 2, 3].map { sorted[$0 * (sorted.count - 1) / 4] }).filter { $0 < most }.sorted()
            let bounds = ([least] + edges + [most]).map(kind.written)
            let labels = (0...edges.count).map { place in
                place == 0 ? "\(bounds[0]) to \(bounds[1])" : "\(kind.after) \(bounds[place]) to \(bounds[place + 1])"
            }
            return SliceColumn(
                name: name,
                texts: numbers.map { value in
                    guard let value, value.isFinite else { return SliceReader.missing }
                    return labels[edges.count { $0 < value }]
                }, order: labels)
        }
        if kind == .moment || kind == .day {
            return SliceColumn(name: name, texts: texts.map { Double($0).map(kind.written) ?? $0 })
        }
        guard counts.count > sliceValueCountMax else { return SliceColumn(name: name, texts: texts) }
        let kept = Set(
            counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.prefix(sliceValueCountMax).map(\.key))
        return SliceColumn(name: name, texts: texts.map { kept.contains($0) ? $0 : "(other)" })
    }
}

/// How a column cuts rows.
enum CutKind: Sendable {
    case text, number, moment, day

    /// - Parameter type: as DuckDB describes the column.
    init(type: String) {
        let numbers = [
            "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "UTINYINT", "USMALLINT",
            "UINTEGER",
            "UBIGINT", "UHUGEINT",
        ]
        self =
            if numbers.contains(type) || type.hasPrefix("DECIMAL") {
                .number
            } else if type.hasPrefix("TIMESTAMP") {
                .moment
            } else if type == "DATE" {
                .day
            } else {
                .text
            }
    }

    /// A cell as text: of a moment its milliseconds.
    func text(of column: String) -> String {
        switch self {
        case .text, .number: "CAST(\(column) AS VARCHAR)"
        case .moment, .day:
            "CASE WHEN isfinite(\(column)) THEN CAST(epoch_ms(CAST(\(column) AS TIMESTAMPTZ)) AS VARCHAR) END"
        }
    }

    /// What stands before a range that does not hold its lower edge.
    var after: String { self == .moment || self == .day ? "after" : "over" }

    /// An edge of a range, for people.
    func written(_ value: Double) -> String {
        switch self {
        case .moment, .day:
            let moment = EventTime(milliseconds: Int64(max(-1e16, min(1e16, value))))
            return self == .day ? moment.dateText : moment.description
        case .text, .number:
            return value == value.rounded() && abs(value) < 1e15
                ? String(Int64(value)) : String(format: "%.4g", value)
        }
    }
}

private final class TableCollector: Sendable {
    private struct State {
        var inputs: [Float] = []
        var labels: [Double] = []
        var columns: [[String]]
        var withoutLabel = 0
    }
    private let state: Mutex<State>
    private let progress: @Sendable (Int) -> Void

    init(columnCount: Int, progress: @escaping @Sendable (Int) -> Void) {
        state = Mutex(State(columns: Array(repeating: [], count: columnCount)))
        self.progress = progress
    }

    var read: (rows: SliceRows, withoutLabel: Int, columns: [[String]]) {
        state.withLock { (SliceRows(inputs: $0.inputs, labels: $0.labels), $0.withoutLabel, $0.columns) }
    }

    func add(_ values: [Float], _ label: Double?, _ texts: [String]) {
        let count = state.withLock { state -> Int in
            guard let label else {
                state.withoutLabel += 1
                return 0
            }
            state.inputs.append(contentsOf: values)
            state.labels.append(label)
            for (place, text) in texts.enumerated() { state.columns[place].append(text) }
            return state.labels.count
        }
        if count > 0, count.isMultiple(of: 10_000) { progress(count) }
    }
}
