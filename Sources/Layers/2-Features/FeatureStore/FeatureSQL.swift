import Aggregation
public import Definitions
public import PlatformCore
import StoragePorts

/// Compiles the features of one view into statements of one SQL dialect that answer a table of questions.
///
/// The questions of an entity are numbered by time. An event can be seen by a question from the moment it has happened and
/// is known, and leaves a window of width `w` at its event time plus `w`: so it counts for one run of question numbers
/// `low ..< high`, late or not. Counts and sums are running totals over the entries and exits of those runs. Extremes,
/// `first` and lists cut each run into at most two aligned pieces per power of two and look at the pieces that hold the
/// question. For different values a run ends where a newer event of the same value can be seen, so that each value has one
/// event at a time. So the cost grows with (events + questions) · log(questions), whatever the skew, the window and the
/// lateness.
public struct FeatureSQL: Sendable {
    /// One feature and the column it becomes.
    public struct Output: Sendable, Hashable {
        /// Name of the feature in the view.
        public let feature: String
        /// Name of the column in the result.
        public let column: String
        /// Makes an output.
        public init(feature: String, column: String) {
            self.feature = feature
            self.column = column
        }
    }

    /// The engine's language.
    public let dialect: SQLDialect
    let plan: AggregationPlan
    let source: SourceDefinition
    let outputs: [Output]
    /// Distinct windows, rising.
    let windows: [Int64]

    /// Compiles a view of a checked set.
    ///
    /// - Parameters:
    ///   - outputs: what to compute; `nil` for every feature under its own name.
    ///   - dialect: the engine's language.
    /// - Throws: `invalidInput` with feature, function and engine for what the dialect cannot say.
    public init(
        view: FeatureViewDefinition, source: SourceDefinition, outputs: [Output]? = nil, dialect: SQLDialect = .duckdb
    ) throws(PlatformError) {
        let outputs = outputs ?? view.features.map { Output(feature: $0.name, column: $0.name) }
        let positions = outputs.map { output in
            guard let position = view.features.firstIndex(where: { $0.name == output.feature }) else {
                preconditionFailure("the view has the feature '\(output.feature)'")
            }
            return position
        }
        plan = AggregationPlan(view: view, source: source).selecting(positions)
        try dialect.check(view, plan)
        self.dialect = dialect
        self.source = source
        self.outputs = outputs
        windows = Set(plan.computed.filter { $0.function != .last || $0.gate != nil }.compactMap(\.window)).sorted()
    }

    // MARK: Shared pieces

    /// A column as the text of a key part, as `CellValue.keyText` writes it; NULL where the text cannot be a key.
    public static func keyText(_ column: ColumnDefinition, _ dialect: SQLDialect = .duckdb) -> String {
        let name = dialect.identifier(column.name)
        let value = column.type == .timestamp ? dialect.milliseconds(name) : name
        let text = "CAST(\(value) AS \(dialect.text))"
        return column.type == .string ? "CASE WHEN \(dialect.isKey(text)) THEN \(text) END" : text
    }

    // MARK: Statements

    /// Statements that make the table `result` with `__row` and a column for each output.
    ///
    /// - Parameters:
    ///   - events: SQL table expression of the source: its columns, `__event_time`, `__ingest_time`, `__sequence`.
    ///   - knownBefore: rows with a later or equal ingest time do not exist for this computation; `nil` for no limit.
    ///   - questions: name of a table with `__row` (BIGINT, unique), `__time` (BIGINT milliseconds) and each join key of the
    ///     view under its own name as text (`keyText`). Other columns are ignored.
    ///   - result: name of the table to make; names beginning with it and `_` are used in between and dropped.
    public func statements(events: String, knownBefore: EventTime? = nil, questions: String, result: String) -> [String]
    {
        let names = Names(prefix: result, dialect: dialect)
        var out = numbering(questions: questions, names)
        out.append(eventTable(events: events, knownBefore: knownBefore, names))
        out.append(newestTable(names))
        var made = [names.key, names.question, names.size, names.event, names.newest]
        for (index, window) in windows.enumerated() {
            for table in [sumTable(window, index, names)].compactMap(\.self) + pieceTables(window, index, names)
                + listTables(window, index, names) + [windowTable(index, names)]
            {
                out.append(dialect.create(table.name, reused: table.isReused, as: table.query))
                made.append(table.name)
            }
        }
        out.append(resultTable(questions: questions, result: result, names))
        return (out + dialect.drop(made)).map(dialect.finished)
    }

    /// A table that is made on the way.
    struct Step {
        let name: String
        /// Whether several statements read it.
        var isReused = false
        let query: String
    }

    /// Names of the tables in between.
    struct Names {
        let prefix: String
        let dialect: SQLDialect
        /// The table `prefix_suffix`, quoted.
        func table(_ suffix: String) -> String { dialect.identifier("\(prefix)_\(suffix)") }
        var key: String { table("key") }
        var question: String { table("question") }
        var size: String { table("size") }
        var event: String { table("event") }
        var newest: String { table("newest") }
        func sum(_ window: Int) -> String { table("sum\(window)") }
    }

    var tick: String { plan.inclusive ? "__time" : "__time - 1" }
    var keys: [String] { plan.view.joinKeys.map(dialect.identifier) }

    /// The features over a window with one of some functions, those that only ratios read included.
    func features(over window: Int64, _ functions: Set<AggregateFunction>) -> [AggregationPlan.Feature] {
        plan.computed.filter { $0.window == window && functions.contains($0.function) }
    }

    /// `last` and `first` over a window with a condition.
    func gated(over window: Int64) -> [AggregationPlan.Feature] {
        plan.computed.filter { $0.window == window && $0.gate != nil }
    }

    /// The column that says which event such a feature takes.
    static func gateName(_ feature: AggregationPlan.Feature) -> String {
        "\(feature.function == .last ? "newest" : "oldest")_\(feature.gate ?? 0)"
    }

    /// The columns that features over a window read with one of some functions, each once.
    func columns(over window: Int64, _ functions: Set<AggregateFunction>) -> [Int] {
        Set(features(over: window, functions).compactMap(\.column)).sorted()
    }
}
