import ContentHashing
public import Datasets
public import Definitions
import Foundation
public import PlatformCore
public import StoragePorts

/// Builds point-in-time training sets: every question with what could be known at its moment, and its label.
public struct TrainingSetBuilder: Sendable {
    let engine: any OfflineEngine
    let content: ContentStore
    let limits: QueryLimits
    let kernel: PointInTimeJoin.Settings?
    let leakageEngine: any OfflineEngine
    private let spines: SpineReader?

    /// Builds with `engine` and stores parts and manifests in `content`.
    ///
    /// - Parameter kernel: what the platform's own kernel may use to compute the windows; `nil` leaves them to `engine`. Both
    ///   give the same cells, and files of the same bytes.
    /// - Parameter leakageEngine: looks for leakage, in DuckDB's words; `nil` for `engine`.
    /// - Parameter spines: fetches questions from outside of the sources; `nil` refuses such training sets.
    public init(
        engine: any OfflineEngine, content: ContentStore, limits: QueryLimits = QueryLimits(),
        kernel: PointInTimeJoin.Settings? = PointInTimeJoin.Settings(), leakageEngine: (any OfflineEngine)? = nil,
        spines: SpineReader? = nil
    ) {
        self.spines = spines
        self.leakageEngine = leakageEngine ?? engine
        self.engine = engine
        self.content = content
        self.limits = limits
        self.kernel = kernel
    }

    /// Looks in finished training sets.
    public var leakageDetector: LeakageDetector { LeakageDetector(engine: leakageEngine, limits: limits) }

    /// Builds one training set; the same tables, definitions and moments give the same hash.
    ///
    /// - Parameters:
    ///   - from: first moment of a question.
    ///   - to: first moment after the questions.
    ///   - asOf: rows that were not known before it are not used: neither questions, nor events, nor labels.
    ///   - given: questions from outside as they were read before; `nil` reads them.
    ///   - scans: the table of a source, as `Datasets` gives it.
    ///   - progress: called before each step.
    /// - Throws: `invalidInput` if the span is empty or holds no question with a label; what the engine and store throw.
    @concurrent
    public func build(
        _ definition: TrainingSetDefinition, in definitions: DefinitionSet, from: EventTime, to: EventTime,
        asOf: EventTime, spine given: DatasetManifest.Spine? = nil,
        scans: (Name) async throws -> TableScan, progress: @Sendable (DatasetProgress) -> Void = { _ in }
    ) async throws -> DatasetBuild {
        let subject = "training_set/\(definition.name)"
        guard from < to else {
            throw PlatformError(.invalidInput, subject, "'from' (\(from)) must be before 'to' (\(to))")
        }
        guard let service = definitions.featureServices[definition.service] else {
            throw PlatformError(.notFound, "feature_service/\(definition.service)", "not defined")
        }
        let start = ContinuousClock.now
        progress(DatasetProgress(done: 0, total: 3, message: "finding tables"))
        var found: [Name: TableScan] = [:]
        for source in TrainingSetSQL.sources(definition, service, definitions).sorted() {
            found[source] = try await scans(source)
        }
        try Self.check(definition, service, definitions, found, from: from)
        var spine: DatasetManifest.Spine?
        if let outside = definition.outsideSpine, let given {
            spine = given
            found[definition.spine] = try await SpineReader.scan(given, as: outside.contract, in: content)
        } else if let outside = definition.outsideSpine {
            guard let spines else {
                throw PlatformError(
                    .invalidInput, subject, "this platform reads no questions from outside of its sources")
            }
            progress(DatasetProgress(done: 0, total: 3, message: "reading questions"))
            let read = try await spines.read(outside, of: subject, scans: found, asOf: asOf)
            spine = read
            found[definition.spine] = try await SpineReader.scan(read, as: outside.contract, in: content)
        }
        let sql = TrainingSetSQL(
            definition: definition, service: service, definitions: definitions, scans: found, from: from, to: to,
            asOf: asOf, dialect: engine.dialect)
        let count = service.features.count
        let questions = found[definition.spine]?.rowCount ?? 0
        progress(DatasetProgress(done: 1, total: 3, message: "computing \(count) features over \(questions) rows"))

        var staged: [String: String] = [:]
        for slice in TrainingSetSQL.sliceNames {
            staged[slice] = try await content.base.stagingPath(suffix: ".parquet")
        }
        defer { for path in staged.values { try? FileManager.default.removeItem(atPath: path) } }
        let prepared = try await prepare(sql)
        defer { for path in prepared.files { try? FileManager.default.removeItem(atPath: path) } }
        var setup = prepared.statements + engine.dialect.preparationOfWriting
        for slice in TrainingSetSQL.sliceNames {
            if let path = staged[slice] { setup.append(sql.write(slice: slice, to: path)) }
        }
        let rows = try await engine.rows(sql.summary, setup: setup.joined(separator: ";\n"), limits: limits)
        let asked = rows.first { $0["slice"]?.stringValue == "" }?["n"]?.integerValue ?? 0
        let labelled = rows.reduce(Int64(0)) { $0 + ($1["slice"]?.stringValue == "" ? 0 : $1["n"]?.integerValue ?? 0) }
        guard labelled > 0 else {
            throw PlatformError(.invalidInput, subject, nothingFound(sql, asked: asked))
        }

        progress(DatasetProgress(done: 2, total: 3, message: "storing \(labelled) rows"))
        var slices: [DatasetManifest.Slice] = []
        let files = try staged.mapValues(Self.file(at:))
        let warnings = try await warnings(
            of: files.values.sorted(), columns: sql.columns, service, definitions, rowCount: labelled)
        let rounded = await roundingWarnings(of: files.values.sorted(), columns: sql.columns, rowCount: labelled)
        let unlisted = await UnlistedCategories.warnings(
            in: sql.questions(leakageEngine.dialect), of: service.request, engine: leakageEngine, limits: limits)
        for slice in TrainingSetSQL.sliceNames {
            guard let path = files[slice] else { continue }
            let (part, byteCount) = try await content.adopt(stagedFileAt: path)
            let row = rows.first { $0["slice"]?.stringValue == slice }
            let size = Int(row?["n"]?.integerValue ?? 0)
            slices.append(
                DatasetManifest.Slice(
                    name: slice, rows: size,
                    positiveShare: row.flatMap { $0["positive"]?.doubleValue }.map { $0 / Double(size) },
                    firstEventTime: row?["first"]?.integerValue.map(EventTime.init(milliseconds:)),
                    lastEventTime: row?["last"]?.integerValue.map(EventTime.init(milliseconds:)), part: part,
                    byteCount: byteCount))
        }
        let views = Set(service.features.map(\.view)).compactMap { definitions.featureViews[$0] }
        let manifest = DatasetManifest(
            trainingSet: definition.name, service: service.name, serviceVersion: service.version,
            viewVersions: Dictionary(uniqueKeysWithValues: views.map { ($0.name.text, $0.version) }),
            tableVersions: Dictionary(
                uniqueKeysWithValues: found.filter { spine == nil || $0.key != definition.spine }
                    .map { ($0.key.text, $0.value.version) }), from: from,
            to: to, asOf: asOf, spine: spine, label: definition.label, columns: sql.columns, slices: slices,
            questions: Int(asked),
            questionsWithoutLabel: Int(asked - labelled), engine: try await engine.version() + prepared.engineSuffix)
        let hash = try await content.put(manifest.canonicalBytes)
        let elapsed = ContinuousClock.now - start
        progress(DatasetProgress(done: 3, total: 3, message: "stored \(hash.short)"))
        return DatasetBuild(
            manifest: manifest, hash: hash, seconds: elapsed / .seconds(1), warnings: warnings + unlisted + rounded)
    }

    /// What is likely not meant: inputs that have no value in any row, which a model is trained with all the same.
    ///
    /// Read from the statistics of the Parquet files.
    private func warnings(
        of files: [String], columns: [DatasetManifest.Column], _ service: FeatureServiceDefinition,
        _ definitions: DefinitionSet, rowCount: Int64
    ) async throws -> [String] {
        let list = files.map(SQLText.literal).joined(separator: ", ")
        // Nothing that is computed is lost for a word about it.
        let found = try? await leakageEngine.rows(
            """
            SELECT path_in_schema AS name FROM parquet_metadata([\(list)]) WHERE num_values > 0 GROUP BY 1
            HAVING sum(stats_null_count) = sum(num_values) AND count(stats_null_count) = count(*)
            """, limits: limits)
        try Task.checkCancellation()
        let empty = Set((found ?? []).compactMap { $0["name"]?.stringValue })
        let views = Set(service.features.map(\.view)).sorted()
        return views.compactMap { view in
            let names = columns.filter {
                $0.role == .feature && $0.name.hasPrefix("\(view)__") && empty.contains($0.name)
            }
            .map(\.name)
            guard let first = names.first else { return nil }
            let more = names.count > 1 ? " and \(names.count - 1) more of view '\(view)' have" : " has"
            let source = definitions.featureViews[view]?.source
            let advice =
                source.flatMap { definitions.sources[$0] }?.ingestTimeColumn == nil
                ? "rows of '\(source.map(\.text) ?? "")' say no ingest time and count as known since they were loaded, "
                    + "which no question may look behind: give the source an 'ingest_time', or ask about later moments"
                : "nothing was known at the questions' moments; 'bottega features try \(view)' shows what there is"
            return "'\(first)'\(more) no value in any of \(rowCount) rows: \(advice)"
        }
    }

    /// Refuses questions that need rows which have left their table: values would be wrong without a word.
    private static func check(
        _ definition: TrainingSetDefinition, _ service: FeatureServiceDefinition, _ definitions: DefinitionSet,
        _ scans: [Name: TableScan], from: EventTime
    ) throws {
        func need(_ source: Name, _ reach: TimeSpan?, _ why: String) throws {
            guard let limit = scans[source]?.retainedFrom else { return }
            let first = reach.map { limit.advanced(by: $0) }
            if let first, from >= first { return }
            throw PlatformError(
                .invalidInput, "training_set/\(definition.name)",
                "rows of '\(source)' that happened before \(limit) have left its table by its retention, and \(why) needs them"
                    + (first.map { ": ask from \($0) on" } ?? ""))
        }
        for source in definition.ownSources.sorted() {
            try need(source, TimeSpan(milliseconds: 0), "a question at \(from)")
        }
        for name in Set(service.features.map(\.view)).sorted() {
            guard let view = definitions.featureViews[name] else { continue }
            try need(
                view.source, view.reach,
                "the view '\(name)', which looks back \(view.reach?.description ?? "over all history"), at \(from)")
        }
    }

    private func nothingFound(_ sql: TrainingSetSQL, asked: Int64) -> String {
        let definition = sql.definition
        guard asked == 0 else {
            return "none of \(asked) questions has a label"
                + (definition.labelSource.map { " from '\($0)' that was known at \(sql.asOf)" } ?? "")
        }
        let span = "from \(sql.from) up to \(sql.to)"
        return definition.outsideSpine == nil
            ? "'\(definition.spine)' has no rows \(span) that were known at \(sql.asOf); rows without an ingest time of their own are known since they were loaded: give the source an 'ingest_time', or set as_of"
            : "none of \(sql.scans[definition.spine]?.rowCount ?? 0) questions of the spine lies \(span) and before \(sql.asOf)"
    }

    /// Reads a manifest back.
    /// - Throws: `notFound` if there is no such dataset, `corrupted`.
    public static func manifest(_ hash: ContentHash, in content: ContentStore) async throws -> DatasetManifest {
        let bytes = try await content.get(hash, byteCountMax: 16 << 20)
        do { return try JSONValue.parse(bytes).decoded(as: DatasetManifest.self) } catch {
            throw PlatformError(.notFound, "dataset/\(hash.short)", "the stored bytes are not a dataset's manifest")
        }
    }

    /// Rows that only one of two Parquet files has, in whatever order.
    public func differentRows(between one: String, and other: String) async throws -> Int64 {
        let (left, right) = ("read_parquet(\(SQLText.literal(one)))", "read_parquet(\(SQLText.literal(other)))")
        let rows = try await leakageEngine.rows(
            """
            SELECT (SELECT count(*) FROM (SELECT * FROM \(left) EXCEPT ALL SELECT * FROM \(right)))
                + (SELECT count(*) FROM (SELECT * FROM \(right) EXCEPT ALL SELECT * FROM \(left))) AS n
            """, limits: limits)
        return rows.first?["n"]?.integerValue ?? 0
    }

    /// The file of a slice: itself, or the one in the folder that a distributed engine made.
    private static func file(at path: String) throws -> String {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue else {
            return path
        }
        let files = try FileManager.default.contentsOfDirectory(atPath: path).filter { $0.hasSuffix(".parquet") }
        guard let file = files.first, files.count == 1 else {
            throw PlatformError(
                .internal, "dataset", "the engine wrote \(files.count) files for a slice instead of one")
        }
        return "\(path)/\(file)"
    }
}
