public import Datasets
public import Definitions
public import PlatformCore
public import StoragePorts

/// Looks in a finished training set for what a model could not know when it predicts.
///
/// It looks at the files, not at how they were made: a training set that came from elsewhere is judged alike. Sampled rows
/// are chosen by a hash, so two runs find the same.
public struct LeakageDetector: Sendable {
    /// Where a suspicion begins.
    public struct Thresholds: Sendable, Hashable {
        /// Area under the ROC curve of one input alone from which it is a leak.
        public var powerLeak = 0.98
        /// From here on it is a warning.
        public var powerWarning = 0.95
        /// Share of rows from which other findings count.
        public var share = 0.01
        /// Share of the test slice's entities in the training slice from which a random split is warned of.
        public var sharedEntities = 0.5
        /// Fewer rows of either class say nothing.
        public var classRows = 20
        /// Rows that are looked at.
        public var rows = 20_000
        /// Makes the defaults.
        public init() {}
    }

    private let engine: any OfflineEngine
    private let limits: QueryLimits
    private let thresholds: Thresholds

    /// Makes a detector.
    public init(engine: any OfflineEngine, limits: QueryLimits = QueryLimits(), thresholds: Thresholds = Thresholds()) {
        self.engine = engine
        self.limits = limits
        self.thresholds = thresholds
    }

    /// What one check works with.
    private struct Subject {
        let manifest: DatasetManifest
        let paths: [String: String]
        let definition: TrainingSetDefinition
        let definitions: DefinitionSet
        let scans: [Name: TableScan]
        /// All slices as a table expression, with `__slice`.
        var rows: String {
            let parts = paths.sorted { $0.key < $1.key }.map {
                "SELECT *, \(SQLText.literal($0.key)) AS __slice FROM read_parquet(\(SQLText.literal($0.value)))"
            }
            return "(\(parts.joined(separator: " UNION ALL ")))"
        }
        /// The same rows in every run: those with the smallest hashes.
        func sample(_ count: Int) -> String {
            "(SELECT * FROM \(rows) ORDER BY md5(CAST(__sequence AS VARCHAR)), __sequence LIMIT \(count))"
        }
    }

    /// Looks for everything.
    /// - Parameters:
    ///   - hash: name of the training set.
    ///   - manifest: its manifest.
    ///   - paths: its Parquet files by slice.
    ///   - definition: how it was defined.
    ///   - definitions: the set that it was built under.
    ///   - spine: the questions, if they came from outside of the sources.
    ///   - scans: the table of a source.
    /// - Throws: what the engine and the stores throw.
    @concurrent
    public func check(
        _ hash: ContentHash, manifest: DatasetManifest, paths: [String: String], definition: TrainingSetDefinition,
        definitions: DefinitionSet, spine: TableScan? = nil, scans: (Name) async throws -> TableScan
    ) async throws -> LeakageReport {
        var found: [Name: TableScan] = [:]
        if let service = definitions.featureServices[definition.service] {
            for source in TrainingSetSQL.sources(definition, service, definitions) {
                found[source] = try await scans(source)
            }
            if let spine { found[definition.spine] = spine }
        }
        let subject = Subject(
            manifest: manifest, paths: paths, definition: definition, definitions: definitions, scans: found)
        var findings: [LeakageFinding] = []
        let power = try await self.power(subject)
        findings += power.findings
        findings += try await futureMoments(subject)
        findings += try await unknownValues(subject)
        findings += try await ownLabels(subject)
        findings += try await repetitions(subject)
        return LeakageReport(
            dataset: hash, rows: min(manifest.rows, thresholds.rows), checks: LeakageFinding.Kind.allCases,
            findings: findings.sorted {
                ($0.severity == .leak ? 0 : 1, -$0.observed, $0.subject)
                    < ($1.severity == .leak ? 0 : 1, -$1.observed, $1.subject)
            }, power: power.areas)
    }

    // MARK: Power

    /// Area under the ROC curve of each input alone: its value, cut into 32 ranges of equal counts with null as one more (a
    /// category as it is), is replaced by the label's mean among the other half of the rows.
    private func power(_ subject: Subject) async throws -> (findings: [LeakageFinding], areas: [String: Double]) {
        let inputs = subject.manifest.inputs
        guard !inputs.isEmpty, let label = subject.manifest.label.map(SQLText.identifier) else { return ([], [:]) }
        let setup = """
            CREATE TEMP TABLE base AS SELECT *, CAST(row_number() OVER (ORDER BY __sequence) AS INTEGER) & 1 AS __half
            FROM \(subject.sample(thresholds.rows)) WHERE \(label) IS NOT NULL;
            CREATE TEMP TABLE target AS SELECT __sequence, __slice, CASE WHEN CAST(\(label) AS DOUBLE) >
            (SELECT CASE WHEN count(DISTINCT \(label)) <= 2 THEN min(CAST(\(label) AS DOUBLE))
            ELSE median(CAST(\(label) AS DOUBLE)) END FROM base) THEN 1 ELSE 0 END AS y FROM base
            """
        var areas: [String: Double] = [:]
        // A few inputs for each statement: a long list of them would be held in memory all at once.
        for start in stride(from: 0, to: inputs.count, by: 50) {
            let queries = inputs[start..<min(inputs.count, start + 50)].map { input in
                let name = SQLText.identifier(input.name)
                let isText = input.type == "category" || input.type == "string"
                let bin =
                    isText
                    ? "coalesce(CAST(\(name) AS VARCHAR), '')"
                    : "CASE WHEN \(name) IS NULL OR isnan(CAST(\(name) AS DOUBLE)) THEN -1 ELSE "
                        + "CAST(floor(percent_rank() OVER (PARTITION BY \(name) IS NULL ORDER BY CAST(\(name) AS DOUBLE)) * 31.999) AS INTEGER) END"
                return """
                    SELECT \(SQLText.literal(input.name)) AS name, positive, negative,
                    (ranks - positive * (positive + 1) / 2.0) / (CAST(positive AS DOUBLE) * negative) AS area FROM (
                    SELECT sum(y)::BIGINT AS positive, (count(*) - sum(y))::BIGINT AS negative, sum(y * place) AS ranks FROM (
                    SELECT y, rank() OVER (ORDER BY score) + (count(*) OVER (PARTITION BY score) - 1) / 2.0 AS place FROM (
                    SELECT b.y, coalesce(o.mean, (SELECT avg(y) FROM target)) AS score FROM (
                    SELECT t.y, b.__half, \(bin) AS bin FROM base b JOIN target t USING (__sequence)) b LEFT JOIN (
                    SELECT bin, __half, avg(y) AS mean FROM (
                    SELECT t.y, b.__half, \(bin) AS bin FROM base b JOIN target t USING (__sequence)) GROUP BY bin, __half) o
                    ON o.bin = b.bin AND o.__half <> b.__half)))
                    """
            }
            for row in try await engine.rows(queries.joined(separator: "\nUNION ALL "), setup: setup, limits: limits) {
                guard let name = row["name"]?.stringValue, let area = row["area"]?.doubleValue,
                    min(row["positive"]?.integerValue ?? 0, row["negative"]?.integerValue ?? 0) >= thresholds.classRows
                else { continue }
                areas[name] = area
            }
        }
        let findings = areas.compactMap { name, area -> LeakageFinding? in
            guard area >= thresholds.powerWarning else { return nil }
            return LeakageFinding(
                kind: .implausiblePower, severity: area >= thresholds.powerLeak ? .leak : .warning, subject: name,
                observed: area,
                detail: "'\(name)' alone, cut into ranges, tells the label with an AUC of \(Self.rounded(area))",
                advice:
                    "find out how it is made: it may be filled in after the outcome; leave it out, or give it its true ingest time"
            )
        }
        return (findings, areas)
    }

    // MARK: Moments

    private func futureMoments(_ subject: Subject) async throws -> [LeakageFinding] {
        let moments = subject.manifest.inputs.filter { input in
            input.role == .feature && self.type(of: input, subject.definitions) == .timestamp
        }
        guard !moments.isEmpty else { return [] }
        let shares = moments.map { input in
            let name = SQLText.identifier(input.name)
            return "avg(CASE WHEN \(name) > __event_time THEN 1.0 ELSE 0.0 END) AS \(name)"
        }
        let row = try await engine.rows(
            "SELECT \(shares.joined(separator: ", ")) FROM \(subject.sample(thresholds.rows))", limits: limits
        ).first
        return moments.compactMap { input in
            guard let share = row?[input.name]?.doubleValue, share >= thresholds.share else { return nil }
            return LeakageFinding(
                kind: .futureMoment, severity: .warning, subject: input.name, observed: share,
                detail: "in \(Self.percent(share)) of the rows '\(input.name)' is a moment after the question",
                advice: "a plan may lie in the future, an event may not: check that it was known by then")
        }
    }

    private func type(of input: DatasetManifest.Column, _ definitions: DefinitionSet) -> ColumnType? {
        for service in definitions.featureServices.values {
            for served in service.features where served.servedName == input.name {
                return definitions.featureViews[served.view]?.features.first { $0.name == served.feature }?.type
            }
        }
        return nil
    }

    // MARK: Knowledge

    /// Computes sampled rows again; a value that is only right when late rows count as known in time is a leak.
    private func unknownValues(_ subject: Subject) async throws -> [LeakageFinding] {
        let (definition, set) = (subject.definition, subject.definitions)
        guard let service = set.featureServices[definition.service], let spineScan = subject.scans[definition.spine]
        else { return [] }
        let spine = set.spine(of: definition)
        var findings: [LeakageFinding] = []
        let keys = service.joinKeys.compactMap { key in
            spine.column(key).map { "\(FeatureSQL.keyText($0)) AS \(SQLText.identifier(key))" }
        }
        let setup = """
            CREATE TEMP TABLE given AS SELECT * FROM \(subject.sample(min(thresholds.rows, 5000)));
            CREATE TEMP TABLE question AS SELECT g.__sequence AS __row, g.__event_time AS __time,
            s.* EXCLUDE (__place) FROM given g JOIN (SELECT \((keys + ["__sequence AS __place"]).joined(separator: ", "))
            FROM \(spineScan.sql)) s ON s.__place = g.__sequence
            """
        var order: [Name] = []
        for served in service.features where !order.contains(served.view) { order.append(served.view) }
        for name in order {
            guard let view = set.featureViews[name], let scan = subject.scans[view.source] else { continue }
            let served = service.features.filter { feature in
                feature.view == name && subject.manifest.columns.contains { $0.name == feature.servedName }
            }
            let outputs = served.map { FeatureSQL.Output(feature: $0.feature, column: $0.servedName) }
            guard !outputs.isEmpty else { continue }
            let sql = try FeatureSQL(view: view, source: set.source(of: view), outputs: outputs)
            let naive = "(SELECT * REPLACE (least(__ingest_time, __event_time) AS __ingest_time) FROM \(scan.sql))"
            let columns = served.map { feature -> String in
                let column = SQLText.identifier(feature.servedName)
                return """
                    SELECT \(SQLText.literal(feature.servedName)) AS name, count(*) AS n,
                    count(*) FILTER (WHERE g.\(column) IS DISTINCT FROM h.\(column)) AS different,
                    count(*) FILTER (WHERE g.\(column) IS DISTINCT FROM h.\(column)
                    AND g.\(column) IS NOT DISTINCT FROM l.\(column)) AS early
                    FROM given g JOIN honest h ON h.__row = g.__sequence JOIN hindsight l ON l.__row = g.__sequence
                    """
            }
            let statements =
                [setup] + SQLDialect.duckdb.preparation
                + sql.statements(
                    events: scan.sql, knownBefore: subject.manifest.asOf, questions: "question", result: "honest")
                + sql.statements(events: naive, questions: "question", result: "hindsight")
            let rows = try await engine.rows(
                columns.joined(separator: " UNION ALL "), setup: statements.joined(separator: ";\n"), limits: limits)
            for row in rows {
                guard let feature = row["name"]?.stringValue, let count = row["n"]?.integerValue, count > 0,
                    let different = row["different"]?.integerValue, let early = row["early"]?.integerValue
                else { continue }
                let share = Double(different) / Double(count)
                guard share >= thresholds.share else { continue }
                let isHindsight = early * 2 >= different
                findings.append(
                    LeakageFinding(
                        kind: .unknownAtTheTime, severity: .leak, subject: feature, observed: share,
                        detail: isHindsight
                            ? "\(Self.percent(share)) of the rows hold values that need rows which came in after the question"
                            : "\(Self.percent(share)) of the rows hold values that were never right at the moment of the question",
                        advice:
                            "build the training set again with 'bottega dataset build', which joins on ingest time too")
                )
            }
        }
        return findings
    }

    /// Rows whose own label a view over the label's source sees.
    private func ownLabels(_ subject: Subject) async throws -> [LeakageFinding] {
        let (definition, set) = (subject.definition, subject.definitions)
        guard let service = set.featureServices[definition.service], let spineScan = subject.scans[definition.spine],
            let labelSource = definition.labelSource, let labels = subject.scans[labelSource]
        else { return [] }
        var findings: [LeakageFinding] = []
        for name in Set(service.features.map(\.view)).sorted() {
            guard let view = set.featureViews[name], view.source == labelSource else { continue }
            let tick = view.inclusive ? "q.__event_time" : "q.__event_time - 1"
            let join = definition.labelKeys.map { "l.\(SQLText.identifier($0)) = q.\(SQLText.identifier($0))" }
            let row = try await engine.rows(
                """
                SELECT count(*) AS n, count(*) FILTER (WHERE seen) AS seen FROM (
                SELECT q.__sequence, bool_or(l.__event_time <= \(tick) AND l.__ingest_time <= \(tick)
                AND l.__event_time >= q.__event_time) AS seen
                FROM \(subject.sample(thresholds.rows)) g JOIN (SELECT * FROM \(spineScan.sql)) q ON q.__sequence = g.__sequence
                JOIN (SELECT * FROM \(labels.sql)) l ON \(join.joined(separator: " AND ")) GROUP BY q.__sequence)
                """, limits: limits
            ).first
            guard let count = row?["n"]?.integerValue, count > 0, let seen = row?["seen"]?.integerValue else {
                continue
            }
            let share = Double(seen) / Double(count)
            guard share >= thresholds.share else { continue }
            findings.append(
                LeakageFinding(
                    kind: .ownLabel, severity: .leak, subject: name.text, observed: share,
                    detail:
                        "in \(Self.percent(share)) of the rows the view '\(name)' sees the very row that is the label",
                    advice: "do not make a view over the label's source inclusive, or give the label its true times"))
        }
        return findings
    }

    // MARK: Slices

    /// Rows and entities that stand on both sides of a split that is not by time.
    private func repetitions(_ subject: Subject) async throws -> [LeakageFinding] {
        if case .time = subject.definition.split { return [] }
        guard subject.paths["train"] != nil, subject.paths["test"] != nil else { return [] }
        let columns = (subject.manifest.inputs.map(\.name) + [subject.manifest.label].compactMap(\.self)).map(
            SQLText.identifier)
        var findings: [LeakageFinding] = []
        let row = try await engine.rows(
            """
            WITH marked AS (SELECT __slice, hash(\(columns.joined(separator: ", "))) AS mark FROM \(subject.rows))
            SELECT avg(CASE WHEN mark IN (SELECT mark FROM marked WHERE __slice = 'train') THEN 1.0 ELSE 0.0 END) AS share
            FROM marked WHERE __slice = 'test'
            """, limits: limits
        ).first
        if let share = row?["share"]?.doubleValue, share >= thresholds.share {
            findings.append(
                LeakageFinding(
                    kind: .repeatedRows, severity: .leak, subject: "test", observed: share,
                    detail:
                        "\(Self.percent(share)) of the test rows stand in the training slice, inputs and label alike",
                    advice: "split by time or by entity, and look for rows that were loaded twice"))
        }
        if let entities = try await sharedEntities(subject) { findings.append(entities) }
        return findings
    }

    private func sharedEntities(_ subject: Subject) async throws -> LeakageFinding? {
        let (definition, set) = (subject.definition, subject.definitions)
        guard let service = set.featureServices[definition.service], !service.joinKeys.isEmpty,
            let scan = subject.scans[definition.spine]
        else { return nil }
        let spine = set.spine(of: definition)
        var keys = service.joinKeys
        var limit = thresholds.sharedEntities
        if case .entity(let chosen, _, _, _) = definition.split {
            keys = chosen
            limit = thresholds.share
        }
        let parts = keys.compactMap { key in spine.column(key).map { "coalesce(\(FeatureSQL.keyText($0)), '')" } }
        let row = try await engine.rows(
            """
            WITH placed AS (SELECT DISTINCT d.__slice AS slice, s.entity FROM \(subject.rows) d JOIN (
            SELECT __sequence, \(parts.joined(separator: " || chr(31) || ")) AS entity FROM \(scan.sql)) s
            ON s.__sequence = d.__sequence)
            SELECT avg(CASE WHEN entity IN (SELECT entity FROM placed WHERE slice = 'train') THEN 1.0 ELSE 0.0 END) AS share,
            (SELECT count(DISTINCT entity) FROM placed) AS entities FROM placed WHERE slice = 'test'
            """, limits: limits
        ).first
        guard let share = row?["share"]?.doubleValue, share >= limit,
            let entities = row?["entities"]?.integerValue, Int(entities) * 2 <= subject.manifest.rows
        else { return nil }
        return LeakageFinding(
            kind: .sharedEntities, severity: .warning, subject: keys.joined(separator: ", "), observed: share,
            detail: "\(Self.percent(share)) of the test slice's entities are in the training slice too",
            advice: "if the model shall work for entities it has not seen, split with 'by: entity'")
    }

    private static func rounded(_ value: Double) -> String { "\((value * 1000).rounded() / 1000)" }
    private static func percent(_ share: Double) -> String { "\((share * 1000).rounded() / 10) %" }
}
