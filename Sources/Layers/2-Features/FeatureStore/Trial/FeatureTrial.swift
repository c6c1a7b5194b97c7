import Aggregation
public import Datasets
public import Definitions
public import PlatformCore
public import StoragePorts

/// Computes a view that nobody has applied on the history that is stored, and says what applying it would cost.
///
/// The values are those of the SQL that training sets are built with. Nothing is written but temporary tables of the engine.
public struct FeatureTrial: Sendable {
    /// What to ask.
    public struct Question: Sendable, Hashable {
        /// Most entities of one trial.
        public static let rowCountMax = 20_000

        /// Join key values by name; `nil` samples entities of the source's table.
        public var entity: [String: String]?
        /// The moment of the question.
        ///
        /// `nil` is now for a named entity; a sampled one is asked right after one of its rows was known.
        public var time: EventTime?
        /// Entities to sample, 1 to `rowCountMax`.
        public var rowCount: Int
        /// Chooses the sample.
        public var seed: UInt64

        /// Puts a question.
        public init(entity: [String: String]? = nil, time: EventTime? = nil, rowCount: Int = 1000, seed: UInt64 = 0) {
            self.entity = entity
            self.time = time
            self.rowCount = rowCount
            self.seed = seed
        }
    }

    /// One entity at one moment.
    public struct Row: Sendable, Hashable {
        /// A value, or nil, for each join key, in the view's order.
        public let keys: [String?]
        /// The moment of the question.
        public let time: EventTime
        /// The features, in the view's order.
        public let values: [CellValue]
    }

    /// What the source's table holds.
    public struct History: Sendable, Hashable {
        /// Delta version of the table.
        public let tableVersion: Int64
        /// Rows.
        public let rowCount: Int
        /// Different keys, about: HyperLogLog of the engine.
        public let entityCount: Int
        /// Event time of the oldest row.
        public let firstEventTime: EventTime
        /// Event time of the newest row.
        public let lastEventTime: EventTime
        /// Half of the rows became known within this many milliseconds after they happened.
        public let medianDelayMilliseconds: Int64
        /// Rows within the view's longest window before the newest one.
        public let recentRowCount: Int
    }

    /// What applying the view would cost, from a sample of its rows put through the stream's own kernel.
    public struct Cost: Sendable, Hashable {
        /// How long the offline engine took for the questions, in seconds.
        public let offlineSeconds: Double
        /// Rows that were put through.
        public let sampledRowCount: Int
        /// Time for each row, in nanoseconds; one thread, nothing made durable.
        public let nanosecondsPerRow: Double
        /// Bytes of state for each row that is kept.
        public let bytesPerRow: Double
        /// Time to compute all features of one entity, in nanoseconds.
        public let nanosecondsPerRead: Double
        /// About how long the build from history takes at that pace, in seconds.
        public let buildSeconds: Double
        /// About how many bytes of state are kept, once it is built.
        public let stateByteCount: Double
    }

    /// What a trial found.
    public struct Outcome: Sendable {
        /// The view.
        public let view: FeatureViewDefinition
        /// What there is to compute from.
        public let history: History
        /// The answers.
        public let rows: [Row]
        /// One for each feature, in the view's order.
        public let summaries: [ValueSummary]
        /// What it would cost.
        public let cost: Cost
        /// What somebody who looks at the numbers should know, in sentences.
        public let remarks: [String]
    }

    private let tables: TableService
    private let engine: any OfflineEngine
    private let clock: any PlatformClock
    private let limits: QueryLimits

    /// Makes it.
    public init(tables: TableService, engine: any OfflineEngine, clock: any PlatformClock, limits: QueryLimits) {
        self.tables = tables
        self.engine = engine
        self.clock = clock
        self.limits = limits
    }

    /// Computes a view.
    /// - Parameters:
    ///   - view: of a checked set, applied or not.
    ///   - source: its source in that set.
    ///   - current: the source in force under that name; `nil` if there is none.
    /// - Throws: `notFound` if there are no rows; `invalidInput` for an entity with other keys; what the engine throws.
    @concurrent
    public func run(
        _ view: FeatureViewDefinition, source: SourceDefinition, current: SourceDefinition?, _ question: Question,
        progress: @Sendable (DatasetProgress) -> Void = { _ in }
    ) async throws -> Outcome {
        try Self.check(question, view)
        progress(DatasetProgress(done: 0, total: 3, message: "reading history"))
        if let current { try await tables.flush(current) }
        let scan = try await tables.scan(source)
        guard scan.rowCount > 0 else {
            throw PlatformError(
                .notFound, "source/\(source.name)",
                current == nil
                    ? "no source of this name is applied, so there is no history to try the view on; apply it and load rows"
                    : "it has no rows yet, so there is no history to try the view on; load some")
        }
        let history = try await history(view, source, scan)
        let asked = try await questions(view, source, scan, question)
        progress(DatasetProgress(done: 1, total: 3, message: "computing \(asked.count) questions"))
        let offline = OfflineValues(
            engine: engine, limits: limits, view: view, source: source, features: view.features)
        let start = ContinuousClock.now
        let values = try await offline.values(events: scan.sql, asked)
        let offlineSeconds = (ContinuousClock.now - start).seconds
        progress(DatasetProgress(done: 2, total: 3, message: "estimating the cost"))
        let rows = zip(asked, values).map { asked, found in
            Row(
                keys: asked.keys, time: asked.time,
                values: view.features.map { feature in found[feature.name] ?? .null })
        }
        let summaries = view.features.indices.map { index in
            ValueSummary(of: view.features[index], rows.map { $0.values[index] })
        }
        let cost = try await cost(view, source, scan, history, offlineSeconds: offlineSeconds)
        return Outcome(
            view: view, history: history, rows: rows, summaries: summaries, cost: cost,
            remarks: Self.remarks(view, source, current, history, summaries))
    }

    private static func check(_ question: Question, _ view: FeatureViewDefinition) throws(PlatformError) {
        guard 1...Question.rowCountMax ~= question.rowCount else {
            throw PlatformError(.invalidInput, "rows", "must be a whole number from 1 to \(Question.rowCountMax)")
        }
        guard let entity = question.entity else { return }
        for key in entity.keys.sorted() where !view.joinKeys.contains(key) {
            let near = nearestName(to: key, among: view.joinKeys)
            throw PlatformError(
                .invalidInput, "entity",
                "'\(key.prefix(60))' is no join key of \(view.name); its keys are \(view.joinKeys.joined(separator: ", "))"
                    + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
        for key in view.joinKeys where entity[key] == nil {
            throw PlatformError(.invalidInput, "entity", "'\(key)' is missing; say \(key)=…")
        }
    }

    // MARK: What there is

    private func keys(_ view: FeatureViewDefinition, _ source: SourceDefinition) -> [String] {
        view.joinKeys.compactMap { key in source.column(key).map { FeatureSQL.keyText($0) } }
    }

    private func history(_ view: FeatureViewDefinition, _ source: SourceDefinition, _ scan: TableScan) async throws
        -> History
    {
        let windows = view.features.compactMap { $0.window?.milliseconds } + [view.timeToLive?.milliseconds ?? 0]
        let entity = keys(view, source).joined(separator: " || chr(31) || ")
        let answer = try await engine.rows(
            """
            SELECT count(*) AS n, approx_count_distinct(\(entity)) AS entities, min(__event_time) AS first,
            max(__event_time) AS last, CAST(median(__ingest_time - __event_time) AS BIGINT) AS delay,
            count(*) FILTER (__event_time > (SELECT max(__event_time) FROM \(scan.sql)) - \(windows.max() ?? 0)) AS recent
            FROM \(scan.sql)
            """, limits: limits
        ).first
        func whole(_ name: String) -> Int64 { answer?[name]?.integerValue ?? 0 }
        return History(
            tableVersion: scan.version, rowCount: Int(whole("n")), entityCount: Int(whole("entities")),
            firstEventTime: EventTime(milliseconds: whole("first")),
            lastEventTime: EventTime(milliseconds: whole("last")), medianDelayMilliseconds: whole("delay"),
            recentRowCount: Int(whole("recent")))
    }

    private func questions(
        _ view: FeatureViewDefinition, _ source: SourceDefinition, _ scan: TableScan, _ question: Question
    ) async throws -> [OfflineValues.Question] {
        if let entity = question.entity {
            return [OfflineValues.Question(keys: view.joinKeys.map { entity[$0] }, time: question.time ?? clock.now())]
        }
        let columns = keys(view, source).enumerated().map { "\($1) AS k\($0)" }.joined(separator: ", ")
        let all = view.joinKeys.indices.map { "k\($0) IS NOT NULL" }.joined(separator: " AND ")
        // Entities of which there are many rows are asked about more often, as they are when a model serves.
        let sampled =
            question.time == nil
            ? "SELECT \(columns), greatest(__event_time, __ingest_time) + 1 AS moment FROM \(scan.sql)"
            : "SELECT DISTINCT \(columns), 0 AS moment FROM \(scan.sql)"
        let rows = try await engine.rows(
            """
            SELECT * FROM (SELECT * FROM (\(sampled)) WHERE \(all))
            USING SAMPLE reservoir(\(question.rowCount) ROWS) REPEATABLE (\(question.seed % 1_000_000))
            """, limits: limits)
        guard !rows.isEmpty else {
            throw PlatformError(
                .notFound, "source/\(source.name)",
                "none of its \(scan.rowCount) rows has a value in \(view.joinKeys.joined(separator: ", "))")
        }
        let asked = rows.map { row in
            OfflineValues.Question(
                keys: view.joinKeys.indices.map { row["k\($0)"]?.stringValue },
                time: question.time ?? EventTime(milliseconds: row["moment"]?.integerValue ?? 0))
        }
        return asked.sorted {
            ($0.time, $0.keys.map { $0 ?? "" }.joined()) < ($1.time, $1.keys.map { $0 ?? "" }.joined())
        }
    }

    // MARK: What it costs

    /// Most rows that are put through the kernel.
    private static let costRowCount = 5000

    private func cost(
        _ view: FeatureViewDefinition, _ source: SourceDefinition, _ scan: TableScan, _ history: History,
        offlineSeconds: Double
    ) async throws -> Cost {
        let dialect = SQLDialect.duckdb
        let columns = source.columns.enumerated().map { index, column in
            let name = dialect.identifier(column.name)
            return "\(column.type == .timestamp ? dialect.milliseconds(name) : name) AS c\(index)"
        }
        let keyed = keys(view, source).enumerated().map { "\($1) AS k\($0)" }
        let rows = try await engine.rows(
            """
            SELECT * FROM (SELECT __event_time, __ingest_time, __sequence, \((keyed + columns).joined(separator: ", "))
            FROM \(scan.sql) ORDER BY __sequence DESC LIMIT \(Self.costRowCount)) ORDER BY __sequence
            """, limits: limits)
        let plan = AggregationPlan(view: view, source: source)
        let events = rows.map { row in
            (
                key: view.joinKeys.indices.map { row["k\($0)"]?.stringValue ?? "" },
                event: EventTime(milliseconds: row["__event_time"]?.integerValue ?? 0),
                ingest: EventTime(milliseconds: row["__ingest_time"]?.integerValue ?? 0),
                sequence: UInt64(clamping: row["__sequence"]?.integerValue ?? 0),
                cells: source.columns.enumerated().map { OfflineValues.cell(row["c\($0)"] ?? .null, $1.type) }
            )
        }
        var places: [[String]: Int] = [:]
        for event in events where places[event.key] == nil { places[event.key] = places.count }
        var states = (0..<max(1, places.count)).map { _ in EventSeries(plan: plan) }
        let positions = events.map { places[$0.key] ?? 0 }
        let start = ContinuousClock.now
        for (event, position) in zip(events, positions) {
            states[position].insert(
                eventTime: event.event, ingestTime: event.ingest, sequence: event.sequence, cells: event.cells,
                plan: plan)
        }
        let inserted = ContinuousClock.now
        let moment =
            events.map(\.ingest).max()?.advanced(by: TimeSpan(milliseconds: 1)) ?? clock.now()
        for state in states { _ = state.cells(plan, at: moment) }
        let read = ContinuousClock.now
        let rowCount = Double(max(1, events.count))
        let nanoseconds = (inserted - start).seconds * 1e9 / rowCount
        let bytes = Double(states.reduce(0) { $0 + $1.byteCount }) / rowCount
        let kept = Double(min(history.rowCount, max(history.recentRowCount, history.entityCount)))
        return Cost(
            offlineSeconds: offlineSeconds, sampledRowCount: events.count, nanosecondsPerRow: nanoseconds,
            bytesPerRow: bytes, nanosecondsPerRead: (read - inserted).seconds * 1e9 / Double(states.count),
            buildSeconds: nanoseconds * Double(history.rowCount) / 1e9, stateByteCount: bytes * kept)
    }

    // MARK: Remarks

    private static func remarks(
        _ view: FeatureViewDefinition, _ source: SourceDefinition, _ current: SourceDefinition?, _ history: History,
        _ summaries: [ValueSummary]
    ) -> [String] {
        var remarks: [String] = []
        if let current,
            (current.eventTimeColumn, current.ingestTimeColumn) != (source.eventTimeColumn, source.ingestTimeColumn)
        {
            remarks.append(
                "the rows are stored under the source in force, whose times come from other columns than the files say")
        }
        for column in source.columns where current != nil && current?.column(column.name) == nil {
            remarks.append("column '\(column.name)' is not in the source in force: it is null in every stored row")
        }
        if let shortest = view.features.compactMap(\.window).min(),
            history.medianDelayMilliseconds > shortest.milliseconds
        {
            remarks.append(
                "half of the rows became known more than \(TimeSpan(milliseconds: history.medianDelayMilliseconds)) after they"
                    + " happened: windows of \(shortest) are mostly empty by then")
        }
        let empty = summaries.filter { $0.count == $0.nullCount }.map(\.feature)
        if !empty.isEmpty { remarks.append("null everywhere: \(empty.joined(separator: ", "))") }
        let constant = summaries.filter { $0.count > 1 && $0.nullCount == 0 && $0.distinctCount == 1 }.map(\.feature)
        if !constant.isEmpty { remarks.append("one value everywhere: \(constant.joined(separator: ", "))") }
        return remarks
    }
}

extension Duration {
    fileprivate var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
