import ContentHashing
public import Definitions
import Expressions
public import PlatformCore
public import StoragePorts
import Synchronization

/// Takes raw rows into sources: checks them against the contract, stores the good ones in the log, the others in quarantine.
///
/// When `push` or `load` returns, what it accepted is durable and the listener has taken it: whoever then asks for a
/// prediction finds its own events. A row is a duplicate if a row with the same content (all columns that the source
/// names, so its key too) is in the log already; a duplicate changes nothing. Log records carry the time of arrival, which
/// rises; a row's own ingest time is inside it.
public final class IngestService: Sendable {
    let log: any EventLog
    let metadata: any MetadataStore
    let engine: any OfflineEngine
    let files: any SourceFileStore
    let database: any RowSource
    /// Columns that sources gained or widened by policy.
    public let shapes: SourceShapes
    let secret: @Sendable (String) -> String?
    let spoolFolder: String
    let limits: IngestLimits
    private let listener: (any SourceListener)?
    private let identifiers: IdentifierSource
    private let hasher = RowHasher()

    private struct Prepared {
        let contract: SourceContract
        let codec: SourceRowCodec
    }
    private struct State {
        var prepared: [Name: Prepared] = [:]
        var intakes: [Name: SourceIntake] = [:]
        var running: Set<String> = []
    }
    private let state = Mutex(State())  // held for a look-up, or to compile a contract once

    /// Makes the service.
    ///
    /// - Parameters:
    ///   - log: where rows go; topics are made when a source is first used.
    ///   - metadata: remembers which files were loaded.
    ///   - engine: reads Parquet files, runs checks of loads.
    ///   - files: where files are fetched.
    ///   - database: where queries are asked.
    ///   - shapes: what sources gained by policy.
    ///   - secret: the value behind the name of a connection; `nil` if there is none.
    ///   - spoolFolder: folder for files of the moment; made if missing.
    ///   - listener: told of accepted rows, in log order, before the sender hears of it.
    ///   - identifiers: names pushes.
    ///   - limits: bounds.
    public init(
        log: any EventLog, metadata: any MetadataStore, engine: any OfflineEngine,
        files: any SourceFileStore, database: any RowSource, shapes: SourceShapes,
        secret: @escaping @Sendable (String) -> String? = { _ in nil }, spoolFolder: String,
        listener: (any SourceListener)?, identifiers: IdentifierSource, limits: IngestLimits = IngestLimits()
    ) {
        self.files = files
        self.database = database
        self.shapes = shapes
        self.secret = secret
        self.log = log
        self.metadata = metadata
        self.engine = engine
        self.spoolFolder = spoolFolder
        self.listener = listener
        self.identifiers = identifiers
        self.limits = limits
    }

    /// The tables of this service.
    public static let migrations = [
        MetadataMigration(
            name: "datasets-1",
            statements: [
                """
                CREATE TABLE dataset_load (
                    source TEXT NOT NULL, content_hash TEXT NOT NULL, file_name TEXT NOT NULL, format TEXT NOT NULL,
                    state TEXT NOT NULL, started_ms BIGINT NOT NULL, report TEXT NOT NULL,
                    PRIMARY KEY (source, content_hash))
                """
            ]),
        MetadataMigration(
            name: "datasets-2",
            statements: [
                """
                CREATE TABLE dataset_load_progress (
                    source TEXT NOT NULL, content_hash TEXT NOT NULL, position BIGINT NOT NULL, line BIGINT NOT NULL,
                    report TEXT NOT NULL, PRIMARY KEY (source, content_hash))
                """,
                """
                CREATE TABLE dataset_file (
                    source TEXT NOT NULL, location TEXT NOT NULL, byte_count BIGINT NOT NULL, stamp TEXT NOT NULL,
                    content_hash TEXT NOT NULL, loaded_ms BIGINT NOT NULL, PRIMARY KEY (source, location))
                """,
                """
                CREATE TABLE dataset_watermark (
                    source TEXT NOT NULL, query_hash TEXT NOT NULL, value TEXT NOT NULL, updated_ms BIGINT NOT NULL,
                    PRIMARY KEY (source))
                """,
                """
                CREATE TABLE dataset_shape (
                    source TEXT NOT NULL, name TEXT NOT NULL, change TEXT NOT NULL, type TEXT NOT NULL,
                    since_ms BIGINT NOT NULL, origin TEXT NOT NULL, PRIMARY KEY (source, name))
                """,
                """
                CREATE TABLE dataset_check (
                    source TEXT NOT NULL, identifier TEXT NOT NULL, time_ms BIGINT NOT NULL, success BIGINT NOT NULL,
                    report TEXT NOT NULL, PRIMARY KEY (source, identifier))
                """,
                """
                CREATE TABLE dataset_quarantine_end (
                    source TEXT NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL, outcome TEXT NOT NULL,
                    time_ms BIGINT NOT NULL, actor TEXT NOT NULL, PRIMARY KEY (source, first))
                """,
            ]),
    ]

    /// Makes the service's tables and reads what sources gained by policy.
    public func prepare() async throws {
        try await metadata.migrate(Self.migrations)
        try await shapes.load()
    }

    /// Makes a source's topics and reads what its log holds, so that the first push does not wait for that.
    public func open(_ source: SourceDefinition) async throws { try await intake(of: source.name).open() }

    /// Checks and stores rows.
    ///
    /// Calls for one source may run at the same time; they share appends.
    ///
    /// - Parameters:
    ///   - source: the definition now in force.
    ///   - rows: the rows; each should be an object.
    ///   - idempotencyKey: 1 to 256 bytes; a second push under the same key stores nothing and gives the first one's
    ///     report (at least the last `idempotencyKeyCountMax` keys of a source are known).
    ///   - now: ingest time of rows that carry none.
    /// - Throws: `PlatformError` (`tooLarge`, `invalidInput` for a bad key, `overloaded`), `StoreError`.
    public func push(_ source: SourceDefinition, rows: [JSONValue], idempotencyKey: String?, now: EventTime)
        async throws
        -> IngestReport
    {
        let written = source
        guard rows.count <= limits.pushRowCountMax else {
            throw PlatformError(
                .tooLarge, "source/\(source.name)",
                "\(rows.count) rows were sent at once, \(limits.pushRowCountMax) are accepted")
        }
        if let idempotencyKey {
            guard 1...256 ~= idempotencyKey.utf8.count, !idempotencyKey.utf8.contains(where: { $0 < 0x20 }) else {
                throw PlatformError(
                    .invalidInput, "source/\(source.name)",
                    "an idempotency key has 1 to 256 bytes and no control character")
            }
        }
        let source = try await adapted(source, to: rows, origin: "push", now: now)
        // Under a key the batch's name comes from the key: refused rows of a push that is sent again after a crash are then
        // known to stand in quarantine already.
        var batch = builder(
            for: source, origin: "push",
            batch: "push-" + (idempotencyKey.map { ContentHasher.hash($0).short } ?? identifiers.next()), now: now)
        batch.report.schemaChanges = shapes.sentences(of: written)
        for (index, row) in rows.enumerated() { batch.add(row, at: index + 1, from: .push) }
        var request = batch.finish(idempotencyKey: idempotencyKey)
        if idempotencyKey != nil {
            var hasher = ContentHasher()
            for row in rows { hasher.update(row.canonicalBytes + [10]) }
            request.requestHash = hasher.finalize().hex
        }
        return try await intake(of: source.name).submit(request)
    }

    func pushBuilder(for source: SourceDefinition, now: EventTime) -> BatchBuilder {
        builder(for: source, origin: "push", batch: "push-" + identifiers.next(), now: now)
    }

    // MARK: What is kept for each source

    /// The contract of a definition, compiled once.
    public func contract(of source: SourceDefinition) -> SourceContract { prepared(source).contract }

    /// The codec of a definition.
    public func codec(of source: SourceDefinition) -> SourceRowCodec { prepared(source).codec }

    private func prepared(_ source: SourceDefinition) -> Prepared {
        state.withLock { state in
            let shaped = shapes.effective(source)
            if let known = state.prepared[source.name], known.contract.definition == shaped { return known }
            let fresh = Prepared(contract: SourceContract(shaped), codec: SourceRowCodec(shaped))
            state.prepared[source.name] = fresh
            return fresh
        }
    }

    func intake(of source: Name) -> SourceIntake {
        state.withLock { state in
            if let known = state.intakes[source] { return known }
            let fresh = SourceIntake(source: source, log: log, listener: listener, hasher: hasher, limits: limits)
            state.intakes[source] = fresh
            return fresh
        }
    }

    func builder(for source: SourceDefinition, origin: String, batch: String, now: EventTime) -> BatchBuilder {
        BatchBuilder(
            contract: contract(of: source), codec: codec(of: source), hasher: hasher, origin: origin, batch: batch,
            now: now)
    }

    /// Claims a load; gives false if the same one is running.
    func claim(_ load: String) -> Bool { state.withLock { $0.running.insert(load).inserted } }
    func release(_ load: String) { state.withLock { _ = $0.running.remove(load) } }
}

/// Collects checked rows until they are handed to the intake.
struct BatchBuilder: Sendable {
    let contract: SourceContract
    let codec: SourceRowCodec
    let hasher: RowHasher
    let origin: String
    let batch: String
    let now: EventTime
    private(set) var rows: [IntakeRequest.Row] = []
    private(set) var quarantined: [QuarantinedRow] = []
    var report = IngestReport()
    private(set) var firstEventTime: EventTime?
    private(set) var lastEventTime: EventTime?
    private var ignored: Set<String> = []
    private let rules: [UniqueRule]
    private let sampling: RowSampling?

    /// Longest accepted content of one row, in bytes of JSON.
    static let contentByteCountMax = 1 << 20

    init(
        contract: SourceContract, codec: SourceRowCodec, hasher: RowHasher, origin: String, batch: String,
        now: EventTime
    ) {
        self.contract = contract
        self.codec = codec
        self.hasher = hasher
        self.origin = origin
        self.batch = batch
        self.now = now
        rules = contract.uniqueRules
        sampling = RowSampling(share: contract.definition.sample)
    }

    var count: Int { rows.count + quarantined.count }

    /// Checks a row that is a JSON value.
    mutating func add(_ row: JSONValue, at position: Int, from rowOrigin: RowOrigin) {
        add(contract.check(row, from: rowOrigin), at: position, from: rowOrigin) { row.text }
        if contract.definition.schemaChange != .refuse {
            for column in contract.unknownColumns(of: row) where ignored.count < 100 {
                ignored.insert(String(column.prefix(64)))
            }
        }
    }

    /// Takes a verdict; `text` shows the row as it came.
    mutating func add(_ verdict: RowVerdict, at position: Int, from rowOrigin: RowOrigin, text: () -> String) {
        switch verdict {
        case .refused(let breaches): refuse(breaches, at: position, row: text(), from: rowOrigin)
        case .accepted(let checked):
            if let filter = contract.definition.filter, !filter.holds(checked.cells) {
                report.filtered += 1
                return
            }
            let key = codec.key(of: checked.cells)
            if let sampling, !sampling.keeps(key) {
                report.sampledOut += 1
                return
            }
            let content = codec.content(of: checked.cells)
            guard content.count <= Self.contentByteCountMax else {
                let rule = "row: is longer than \(Self.contentByteCountMax) bytes"
                return refuse([ContractBreach(rule: rule, message: rule)], at: position, row: text(), from: rowOrigin)
            }
            for warning in checked.warnings { IngestReport.count(warning.rule, in: &report.warnings) }
            firstEventTime = min(firstEventTime ?? checked.eventTime, checked.eventTime)
            lastEventTime = max(lastEventTime ?? checked.eventTime, checked.eventTime)
            rows.append(
                IntakeRequest.Row(
                    row: SourceRow(
                        eventTime: checked.eventTime, ingestTime: checked.ingestTime ?? now, cells: checked.cells),
                    content: content, key: key, hash: hasher.hash(content), position: position,
                    unique: rules.map { rule in rule.value(of: checked.cells).map { hasher.hash($0) } }))
        }
    }

    /// Puts a row into quarantine.
    mutating func refuse(_ breaches: [ContractBreach], at position: Int, row: String, from rowOrigin: RowOrigin) {
        report.refuse(breaches, at: position)
        quarantined.append(
            QuarantinedRow(
                time: now, origin: origin, batch: batch, position: position,
                reasons: breaches.prefix(16).map { String($0.message.prefix(300)) }, row: row, form: rowOrigin))
    }

    /// The request; the builder is then empty again.
    mutating func finish(idempotencyKey: String?) -> IntakeRequest {
        report.ignoredColumns = ignored.sorted()
        let request = IntakeRequest(
            batch: batch, origin: origin, idempotencyKey: idempotencyKey, requestHash: nil, rules: rules, codec: codec,
            rows: rows, quarantined: quarantined, report: report, now: now)
        rows = []
        quarantined = []
        report = IngestReport()
        ignored = []
        return request
    }
}
