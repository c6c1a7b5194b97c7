public import Catalogue
import ColumnFiles
public import Datasets
import Definitions
public import FeatureStore
import Foundation
public import ModelRegistry
import ModelServing
public import PlatformCore
import RuntimePorts
public import StoragePorts
import Synchronization

/// Scores batches with registered versions into dated partitions, each written whole or not at all.
///
/// Work that was killed continues when it is asked for again: finished parts are kept, the rows that were read first are the
/// ones that are scored, and every row says the moment that the work began.
public final class ScoringService: Sendable {
    private let desk: ModelDesk
    private let registry: ModelVersionRegistry
    private let tables: TableService
    private let builder: TrainingSetBuilder
    private let spines: SpineReader
    private let engine: any OfflineEngine
    private let content: ContentStore
    private let serviceVersion: @Sendable (ContentHash) async throws -> ServiceVersion?
    private let lineage: LineageOutbox
    private let clock: any PlatformClock
    private let root: String
    private let limits: QueryLimits
    private let busy = Mutex<Set<String>>([])
    private let publishedCount = Atomic<Int>(1)

    /// Makes a service that writes tables of scores below the folder `root`.
    public init(
        desk: ModelDesk, registry: ModelVersionRegistry, tables: TableService, builder: TrainingSetBuilder,
        spines: SpineReader, engine: any OfflineEngine, content: ContentStore,
        serviceVersion: @escaping @Sendable (ContentHash) async throws -> ServiceVersion?, lineage: LineageOutbox,
        clock: any PlatformClock, root: String, limits: QueryLimits
    ) {
        self.desk = desk
        self.registry = registry
        self.tables = tables
        self.builder = builder
        self.spines = spines
        self.engine = engine
        self.content = content
        self.serviceVersion = serviceVersion
        self.lineage = lineage
        self.clock = clock
        self.root = root
        self.limits = limits
        ScoreFolder.clearFormerWork(in: root)
    }

    // MARK: What was scored

    /// Partitions of every table of scores, by table and day.
    @concurrent
    public func partitions(of table: Name? = nil) async throws -> [ScoredPartition] { stored(table) }

    /// Partitions that this process has published; a number that rises when there may be another table.
    public var mark: Int { publishedCount.load(ordering: .relaxed) }

    /// Tables of scores as the catalogue lists them.
    public func catalogueItems() -> [CatalogueItem] {
        let tables = Dictionary(grouping: stored(nil), by: \.table)
        return tables.sorted { $0.key < $1.key }.compactMap { table, partitions in
            guard let newest = partitions.max(by: { $0.date < $1.date }) else { return nil }
            let rows = partitions.reduce(0) { $0 + $1.rows }
            return CatalogueItem(
                scores: table,
                description: "scores of \(newest.model), \(rows) rows in \(partitions.count) partitions, "
                    + "the newest \(newest.date) by version \(newest.version)",
                columns: newest.columns.map(\.name))
        }
    }

    /// Where a file of a partition is on this machine: its manifest, or one of its parts.
    /// - Throws: `notFound`.
    @concurrent
    public func path(of file: String, in table: Name, date: String) async throws -> String {
        guard EventTime(text: "\(date)T00:00:00Z")?.dateText == date,
            let partition = ScoreFolder(root: root, table: table, date: date).manifest()
        else {
            throw PlatformError(.notFound, "scores/\(table)", "there is no partition of '\(date.prefix(40))'")
        }
        guard file == ScoreFolder.manifestName || partition.parts.contains(where: { $0.file == file }) else {
            throw PlatformError(
                .notFound, "scores/\(table)", "the partition \(date) has no file '\(file.prefix(64))'")
        }
        return "\(ScoreFolder(root: root, table: table, date: date).final)/\(file)"
    }

    private func stored(_ table: Name?) -> [ScoredPartition] {
        let files = FileManager.default
        var found: [ScoredPartition] = []
        for name in ((try? files.contentsOfDirectory(atPath: root)) ?? []).sorted() {
            guard let known = Name(name), table == nil || table == known else { continue }
            for day in ((try? files.contentsOfDirectory(atPath: "\(root)/\(name)")) ?? []).sorted()
            where day.hasPrefix("date=") {
                let folder = ScoreFolder(root: root, table: known, date: String(day.dropFirst(5)))
                if let partition = folder.manifest() { found.append(partition) }
            }
        }
        return found
    }

    /// Adds tables of scores to what is made from what.
    public func extend(_ graph: inout LineageGraph) async throws {
        for partition in try await partitions() {
            let identifier = "scores/\(partition.table)"
            graph.add(LineageNode(identifier: identifier, label: partition.table, detail: "table of scores"))
            graph.add(
                LineageEdge(
                    from: "version/\(partition.model).\(partition.version)", to: identifier,
                    detail: "scored \(partition.date)"))
        }
    }

    /// What scoring elsewhere needs of a version: artifact, file name, inputs.
    public func plan(_ request: ModelVersion) async throws -> (
        artifact: ContentHash, fileName: String, inputs: [ScoringInput]
    ) {
        let ready = try await desk.servedWithColumns(request.model, request.number)
        return (ready.artifact, request.candidate.artifact.fileName, Self.inputs(of: ready.binding.definition))
    }

    /// The file of a version's artifact on this machine.
    public func artifactPath(of version: ModelVersion) async throws -> String {
        try await content.localPath(of: version.candidate.artifact.hash)
    }

    private static func inputs(of service: FeatureServiceDefinition) -> [ScoringInput] {
        var inputs = service.inputNames.map { ScoringInput(name: $0) }
        for (place, feature) in service.request.enumerated() {
            if case .category(let values) = feature.kind {
                inputs[place] = ScoringInput(name: feature.name, categories: values)
            }
        }
        return inputs
    }

    // MARK: Scoring

    /// The version that a request names.
    public func version(_ request: ScoringRequest) async throws -> ModelVersion {
        let model = request.model
        let versions = try await registry.versions(of: model)
        guard let newest = versions.max(by: { $0.number < $1.number }) else {
            let near = nearestName(to: model.text, among: try await registry.models().map(\.text))
            throw PlatformError(
                .notFound, "model/\(model)", "it has no version" + (near.map { "; did you mean '\($0)'?" } ?? ""))
        }
        guard let text = request.version else { return try await registry.champion(of: model) ?? newest }
        if text == "latest" { return newest }
        if let number = Int(text.hasPrefix("v") ? String(text.dropFirst()) : text) {
            return try await registry.version(model, number)
        }
        let aliases = try await registry.aliases(of: model)
        if let number = aliases[text] { return try await registry.version(model, number) }
        if text == "champion", let champion = try await registry.champion(of: model) { return champion }
        if let stage = ModelStage(rawValue: text) {
            let stages = try await registry.stages(of: model)
            if stage == .production, let champion = try await registry.champion(of: model) { return champion }
            if let found = versions.last(where: { stages[$0.number] == stage }) { return found }
            throw PlatformError(.notFound, "model/\(model)", "no version is in stage '\(stage.rawValue)'")
        }
        let near = nearestName(
            to: text, among: Array(aliases.keys) + ModelStage.allCases.map(\.rawValue) + ["latest", "champion"])
        throw PlatformError(
            .notFound, "model/\(model)",
            "'\(text.prefix(64))' is no version, alias or stage of it" + (near.map { "; did you mean '\($0)'?" } ?? ""))
    }

    /// Scores a batch.
    ///
    /// - Throws: `notFound` for a model or version, `conflict` for a partition that is there or being written,
    ///   `invalidInput` for rows that do not fit the model, `refused` for an answer that breaks its contract.
    public func score(_ request: ScoringRequest, progress: ProgressReporter) async throws -> ScoringOutcome {
        let version = try await version(request)
        let date = request.date ?? clock.now().dateText
        guard EventTime(text: "\(date)T00:00:00Z")?.dateText == date else {
            throw PlatformError(.invalidInput, "date", "'\(date.prefix(40))' is no day such as 2026-11-21")
        }
        let folder = ScoreFolder(root: root, table: request.table, date: date)
        guard busy.withLock({ $0.insert(folder.final).inserted }) else {
            throw PlatformError(.conflict, "scores/\(request.table)", "the partition \(date) is being written already")
        }
        defer { busy.withLock { _ = $0.remove(folder.final) } }
        folder.recover()
        if version.candidate.origin.serviceVersion == nil {
            guard case .features = request.rows else {
                throw PlatformError(
                    .invalidInput, version.subject,
                    "it was not trained on a training set of this platform, so there are no features to join: score a file that has "
                        + "its inputs ('features', --features-in-file)")
            }
        }
        let ready = try await desk.servedWithColumns(request.model, version.number)
        let identity = request.identity(version: version.number, artifact: ready.artifact.hex, date: date)
        if let known = folder.manifest(), !request.replaces {
            guard known.request == identity else {
                throw PlatformError(
                    .conflict, "scores/\(request.table)",
                    "the partition \(date) holds scores of \(known.model) version \(known.version), asked for in another way; "
                        + "choose another date or table, or replace it ('replace': true, --replace)")
            }
            // Of partitions of before this was kept nothing is known.
            if let before = known.files, let now = try? await files(of: request), before != now {
                throw PlatformError(
                    .conflict, "scores/\(request.table)",
                    "the partition \(date) holds scores of these files as they were at \(known.scoredAt); they have changed since: "
                        + "choose another date or table, or replace it ('replace': true, --replace)")
            }
            folder.discardWork()
            return ScoringOutcome(
                partition: known, folder: folder.final, resumedPartCount: known.parts.count, isUnchanged: true)
        }
        let input = LineageDataset("version/\(request.model).\(version.number)")
        return try await lineage.record(
            "score.\(request.model)", kind: "BATCH_SCORING", inputs: [input],
            outcome: { (outcome: ScoringOutcome) in Self.lineage(of: outcome.partition, request, input) }
        ) {
            try await write(request, ready, identity, date, folder, progress)
        }
    }

    private static func lineage(of partition: ScoredPartition, _ request: ScoringRequest, _ model: LineageDataset)
        -> ([LineageDataset], [LineageDataset])
    {
        var inputs = [model]
        switch request.rows {
        case .features(let path): inputs.append(RunLineage.file(path))
        case .source(let name): inputs.append(LineageDataset("source/\(name)"))
        case .questions(.files(let location, _), _): inputs.append(RunLineage.file(location))
        case .questions(.sql(_, let sources), _): inputs += sources.map { LineageDataset("source/\($0)") }
        case .questions(.postgreSQL, _): inputs.append(LineageDataset("spine/\(request.table)"))
        }
        var output = LineageDataset("scores/\(partition.table)")
        output.version = partition.date
        output.rowCount = partition.rows
        output.byteCount = partition.parts.reduce(0) { $0 + $1.bytes }
        output.fileCount = partition.parts.count
        output.fields = partition.columns.map { LineageDataset.Field(name: $0.name, type: $0.type) }
        return (inputs, [output])
    }

    private func write(
        _ request: ScoringRequest, _ ready: ServedVersion, _ identity: JSONValue, _ date: String, _ folder: ScoreFolder,
        _ progress: ProgressReporter
    ) async throws -> ScoringOutcome {
        // What was begun for another request, or from a file that changed since, starts anew.
        let files = try await files(of: request)
        var state = folder.read("state.json")
        if state?["request"] != identity || state?["files"] != files ?? .null {
            folder.discardWork()
            state = nil
        }
        try folder.prepare()
        let begun = state?["begun"]?.integerValue.map(EventTime.init(milliseconds:)) ?? clock.now()
        if state == nil {
            try folder.write(
                ["request": identity, "files": files ?? .null, "begun": .integer(begun.milliseconds)], to: "state.json")
        }
        let service = ready.binding.definition
        let inputs = Self.inputs(of: service)
        let path: String
        var kept = request.kept
        var features: String?
        let warnings: [String]
        if case .features(let given) = request.rows {
            path = given
            warnings = await UnlistedCategories.warnings(
                in: "read_parquet(\(SQLText.literal(path)))", of: service.request, engine: engine, limits: limits)
        } else {
            let joined = try await join(request, service.version, date, folder, begun, progress)
            (path, features, warnings) = (folder.input, joined.features, joined.warnings)
            kept = kept ?? joined.columns
        }
        let scorer = try BatchScorer(
            path: path, model: ready.loaded, inputs: inputs, kept: kept,
            stamp: ScoreStamp(model: request.model.text, version: ready.number, scoredAt: begun))
        let (parts, resumed) = try await parts(of: scorer, folder, progress)
        let contract = try Self.contract(parts, scorer, request)
        let partition = ScoredPartition(
            table: request.table.text, date: date, model: request.model.text, version: ready.number,
            artifact: ready.artifact.hex, scoredAt: begun, features: features, rows: scorer.rowCount, parts: parts,
            columns: scorer.columns.map { ScoredPartition.Column(name: $0.name, type: Self.type($0.kind)) },
            contract: contract, warnings: warnings.isEmpty ? nil : warnings, request: identity, files: files)
        try folder.write(try JSONValue.of(partition), to: ScoreFolder.manifestName, below: folder.out)
        try folder.publish()
        publishedCount.add(1, ordering: .relaxed)
        return ScoringOutcome(
            partition: partition, folder: folder.final, resumedPartCount: resumed, isUnchanged: false)
    }

    /// The files that rows come from, as far as a change of them can be seen from outside; `nil` for rows of a source or database.
    private func files(of request: ScoringRequest) async throws -> JSONValue? {
        switch request.rows {
        case .features(let path): return [path: try Self.fingerprint(of: path)]
        case .questions(.files(let location, _), _):
            return .object(
                try await spines.stamps(of: location, subject: "scores/\(request.table)").mapValues(JSONValue.string))
        case .questions, .source: return nil
        }
    }

    private static func fingerprint(of path: String) throws -> JSONValue {
        let found: [FileAttributeKey: Any]
        do { found = try FileManager.default.attributesOfItem(atPath: path) } catch {
            throw PlatformError(.invalidInput, path, "cannot be read on the server's machine")
        }
        let changed = (found[.modificationDate] as? Date)?.timeIntervalSince1970 ?? 0
        return ["size": .integer((found[.size] as? NSNumber)?.int64Value ?? 0), "changed": .number(changed)]
    }

    private static func type(_ kind: ColumnKind?) -> String {
        switch kind {
        case .integer: "int64"
        case .real: "float64"
        case .bool: "bool"
        case .timestamp: "timestamp"
        case .text, nil: "string"
        }
    }

    // MARK: Parts

    /// Rows of one part: enough that files are few, few enough that a kill costs little.
    private static func plan(_ scorer: BatchScorer) -> [[Int]] {
        let wanted = min(1 << 20, max(1 << 16, scorer.rowCount / 16))
        var parts: [[Int]] = []
        var rows = 0
        for group in 0..<scorer.reader.rowGroupCount {
            if parts.isEmpty || rows >= wanted {
                parts.append([])
                rows = 0
            }
            parts[parts.count - 1].append(group)
            rows += scorer.reader.rowCount(ofRowGroup: group)
        }
        return parts
    }

    private func parts(of scorer: BatchScorer, _ folder: ScoreFolder, _ progress: ProgressReporter) async throws
        -> (parts: [ScoredPartition.Part], resumed: Int)
    {
        let plan = Self.plan(scorer)
        let total = Double(scorer.rowCount)
        @Sendable func note(_ index: Int) -> String { "\(ScoreFolder.partName(index)).json" }
        var known: [ScoredPartition.Part?] = plan.indices.map { index in
            guard let part: ScoredPartition.Part = try? folder.read(note(index))?.decoded(),
                FileManager.default.fileExists(atPath: "\(folder.out)/\(part.file)")
            else { return nil }
            return part
        }
        let missing = plan.indices.filter { known[$0] == nil }
        let counted = Mutex(known.reduce(0) { $0 + ($1?.rows ?? 0) })
        progress.report("scoring", done: Double(counted.withLock { $0 }), total: total, unit: "rows")
        let made = Mutex<[Int: ScoredPartition.Part]>([:])
        @Sendable func temporary(_ index: Int) -> String { "\(folder.work)/.\(ScoreFolder.partName(index))" }
        @Sendable func counter() -> @Sendable (Int) -> Void {
            let before = Mutex(0)
            return { rows in
                let new = before.withLock { before in
                    defer { before = rows }
                    return rows - before
                }
                let done = counted.withLock { counted in
                    counted += new
                    return counted
                }
                progress.report("scoring", done: Double(done), total: total, unit: "rows")
            }
        }
        @Sendable func keep(_ file: ScoredFile, _ index: Int) throws {
            let name = ScoreFolder.partName(index)
            try FileManager.default.moveReplacing(temporary(index), to: "\(folder.out)/\(name)")
            let part = ScoredPartition.Part(
                file: name, rows: file.rowCount, bytes: file.byteCount, nulls: file.missingCount)
            try folder.write(try JSONValue.of(part), to: note(index))
            made.withLock { $0[index] = part }
        }
        if scorer.isDeferred {
            for index in missing {
                try keep(try await scorer.writeLater(plan[index], to: temporary(index), counter()), index)
            }
        } else {
            let workers = Workers(count: ProcessInfo.processInfo.activeProcessorCount)
            try await workers.detached {
                try workers.run(units: missing.count, state: { () }) { _, unit in
                    let index = missing[unit]
                    try keep(
                        try scorer.write(plan[index], to: temporary(index), Workers(count: 1), counter()), index)
                }
            }
        }
        for (index, part) in made.withLock({ $0 }) { known[index] = part }
        return (known.compactMap(\.self), plan.count - missing.count)
    }

    /// Checks what is promised of every partition.
    private static func contract(_ parts: [ScoredPartition.Part], _ scorer: BatchScorer, _ request: ScoringRequest)
        throws -> [ScoredPartition.Expectation]
    {
        let rows = parts.reduce(0) { $0 + $1.rows }
        let nulls = parts.reduce(0) { $0 + $1.nulls }
        guard rows == scorer.rowCount else {
            throw PlatformError(
                .internal, "scores/\(request.table)", "\(rows) rows were written for \(scorer.rowCount) questions")
        }
        guard nulls == 0 || request.allowsMissing else {
            throw PlatformError(
                .refused, "scores/\(request.table)",
                "the model gave no number for \(nulls) of \(rows) rows, so nothing was published; allow nulls to keep them"
            )
        }
        return [
            .init(name: "schema", detail: "\(scorer.columns.count) columns in every part"),
            .init(name: "rows_equal_input", detail: "\(rows) rows"),
            .init(name: "predictions_present", detail: "\(nulls) nulls\(request.allowsMissing ? ", allowed" : "")"),
        ]
    }

    // MARK: Features

    /// Writes the questions with their features beside the work, unless they are there, in the questions' order.
    private func join(
        _ request: ScoringRequest, _ hash: ContentHash, _ date: String, _ folder: ScoreFolder, _ begun: EventTime,
        _ progress: ProgressReporter
    ) async throws -> (columns: [String], features: String, warnings: [String]) {
        let subject = "scores/\(request.table)"
        guard let version = try await serviceVersion(hash) else {
            throw PlatformError(.conflict, subject, "the version's feature service is known no more")
        }
        let (service, set) = (version.service, version.definitions)
        let spine = try Self.spine(request, service, set, date)
        let columns = [spine.contract.eventTimeColumn] + service.joinKeys + spine.carried.sorted()
        if let known = folder.read("join.json"), let features = known["features"]?.stringValue {
            return (columns, features, (known["warnings"]?.arrayValue ?? []).compactMap(\.stringValue))
        }
        progress.report("reading questions")
        var scans: [Name: TableScan] = [:]
        if case .sql(_, let sources) = spine.origin {
            for source in sources { scans[source] = try await scan(source, set) }
        }
        let questions = try await spines.read(
            spine, of: subject, scans: scans, asOf: request.asOf ?? EventTime.latestAccepted)
        let table = "read_parquet(\(SQLText.literal(try await content.localPath(of: questions.part))))"
        let span = try await engine.rows(
            "SELECT min(__event_time) AS low, max(__event_time) AS high FROM \(table)", limits: limits
        ).first
        guard let low = span?["low"]?.integerValue, let high = span?["high"]?.integerValue else {
            throw PlatformError(.internal, subject, "the engine found no moment of the questions")
        }
        let to = EventTime(milliseconds: high + 1)
        let build = try await builder.build(
            TrainingSetDefinition(asking: spine, name: request.table, service: service.name), in: set,
            from: EventTime(milliseconds: low), to: to, asOf: request.asOf ?? max(begun, to), spine: questions,
            scans: { try await self.scan($0, set) },
            progress: { progress.report($0.message, done: Double($0.done), total: Double($0.total), unit: "steps") })
        guard let slice = build.manifest.slice("train"), slice.rows == questions.rows else {
            throw PlatformError(
                .invalidInput, subject,
                "\(build.manifest.rows) of \(questions.rows) questions lie before 'as_of'; the others cannot be answered"
            )
        }
        progress.report("joining \(slice.rows) questions and their features")
        let features = "read_parquet(\(SQLText.literal(try await content.localPath(of: slice.part))))"
        let own = Set(service.inputNames)
        let names =
            columns.filter { !own.contains($0) }.map { "q.\(SQLText.identifier($0))" }
            + service.inputNames.map { "f.\(SQLText.identifier($0))" }
        let temporary = "\(folder.work)/.input.parquet"
        let check = try await engine.rows(
            "SELECT count(*) AS n FROM \(table) q POSITIONAL JOIN \(features) f WHERE q.__sequence IS DISTINCT FROM f.__sequence",
            setup: """
                SET preserve_insertion_order = true;
                COPY (SELECT \(names.joined(separator: ", ")) FROM \(table) q POSITIONAL JOIN \(features) f)
                TO \(SQLText.literal(temporary)) (FORMAT parquet, COMPRESSION zstd)
                """, limits: limits
        ).first
        guard check?["n"]?.integerValue == 0 else {
            throw PlatformError(.internal, subject, "questions and features came in different orders")
        }
        try ScoreFolder.synchronize(temporary)
        try FileManager.default.moveReplacing(temporary, to: folder.input)
        try folder.write(
            ["features": .string(build.hash.hex), "warnings": .array(build.warnings.map(JSONValue.string))],
            to: "join.json")
        return (columns, build.hash.hex, build.warnings)
    }

    private func scan(_ name: Name, _ set: DefinitionSet) async throws -> TableScan {
        guard let known = set.sources[name] else {
            throw PlatformError(.notFound, "source/\(name)", "not defined where the version was trained")
        }
        try await tables.flush(known)
        return try await tables.scan(known)
    }

    /// Columns to keep that neither questions nor features have by themselves.
    private static func carried(
        _ request: ScoringRequest, _ service: FeatureServiceDefinition, eventTime: String
    ) throws -> [String] {
        let own = Set(service.inputNames + service.joinKeys + [eventTime])
        let names = (request.kept ?? []).filter { !own.contains($0) }
        for name in names {
            let isPlain = name.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0 != "\"" && $0 != "\\" }
            guard isPlain, 1...200 ~= name.utf8.count, !name.hasPrefix("__") else {
                throw PlatformError(
                    .invalidInput, "keep",
                    "'\(name.prefix(60))' is no column that can be kept: no quotes, no '__' at the beginning, up to 200 bytes"
                )
            }
        }
        return names
    }

    private static func spine(
        _ request: ScoringRequest, _ service: FeatureServiceDefinition, _ set: DefinitionSet, _ date: String
    ) throws -> SpineDefinition {
        guard let name = Name("spine.\(request.table.text)") else {
            throw PlatformError(.invalidInput, "table", "its name is too long")
        }
        switch request.rows {
        case .questions(let origin, let time):
            guard ColumnDefinition.isName(time) else {
                throw PlatformError(
                    .invalidInput, "event_time", "name the column that says the moment of each question")
            }
            return SpineDefinition(
                origin: origin, name: name, eventTime: time, service: service, in: set,
                carried: try carried(request, service, eventTime: time))
        case .source(let source):
            guard let known = set.sources[source] else {
                let near = nearestName(to: source.text, among: set.sources.keys.map(\.text))
                throw PlatformError(
                    .notFound, "source/\(source)", "no such source" + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            let needed = service.joinKeys + service.request.map(\.name)
            for column in needed where known.column(column) == nil {
                throw PlatformError(
                    .invalidInput, "source/\(source)",
                    "it has no column '\(column)', which the service '\(service.name)' needs")
            }
            var seen: Set<String> = []
            let carried = try carried(request, service, eventTime: known.eventTimeColumn)
            for column in carried where known.column(column) == nil {
                let near = nearestName(to: column, among: known.columns.map(\.name))
                throw PlatformError(
                    .invalidInput, "source/\(source)",
                    "it has no column '\(column.prefix(100))' to keep" + (near.map { "; did you mean '\($0)'?" } ?? ""))
            }
            let columns = ([known.eventTimeColumn] + needed + carried).filter { seen.insert($0).inserted }
                .map(SQLText.identifier)
            var query = "SELECT \(columns.joined(separator: ", ")) FROM \(SQLText.identifier(source.text))"
            if request.date != nil, let day = EventTime(text: "\(date)T00:00:00Z") {
                let end = day.advanced(by: .days(1))
                query += " WHERE __event_time >= \(day.milliseconds) AND __event_time < \(end.milliseconds)"
            }
            return SpineDefinition(
                origin: .sql(query: query, sources: [source]), name: name, eventTime: known.eventTimeColumn,
                service: service, in: set, carried: carried)
        case .features: throw PlatformError(.internal, "scores", "a file with features asks nothing")
        }
    }
}

extension FileManager {
    /// Gives a file another name, in place of what has it.
    func moveReplacing(_ path: String, to target: String) throws {
        guard rename(path, target) == 0 else {
            throw PlatformError(.unavailable, target, "cannot be written: \(String(cString: strerror(errno)))")
        }
    }
}
