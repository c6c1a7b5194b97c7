import ContentHashing
public import Definitions
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
    ///   - engine: reads Parquet files.
    ///   - spoolFolder: folder for files of the moment; made if missing.
    ///   - listener: told of accepted rows, in log order, before the sender hears of it.
    ///   - identifiers: names pushes.
    ///   - limits: bounds.
    public init(
        log: any EventLog, metadata: any MetadataStore, engine: any OfflineEngine, spoolFolder: String,
        listener: (any SourceListener)?, identifiers: IdentifierSource, limits: IngestLimits = IngestLimits()
    ) {
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
            ])
    ]

    /// Makes the service's tables.
    public func prepare() async throws { try await metadata.migrate(Self.migrations) }

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
        try checkCount(rows.count, source)
        try checkKey(idempotencyKey, source)
        var batch = pushBuilder(for: source, idempotencyKey: idempotencyKey, now: now)
        for (index, row) in rows.enumerated() { batch.add(row, at: index + 1, from: .push) }
        return try await intake(of: source.name).submit(batch.finish(idempotencyKey: idempotencyKey))
    }

    private func checkCount(_ count: Int, _ source: SourceDefinition) throws(PlatformError) {
        guard count <= limits.pushRowCountMax else {
            throw PlatformError(
                .tooLarge, "source/\(source.name)",
                "\(count) rows or more were sent at once, \(limits.pushRowCountMax) are accepted")
        }
    }

    private func checkKey(_ key: String?, _ source: SourceDefinition) throws(PlatformError) {
        guard let key else { return }
        guard 1...256 ~= key.utf8.count, !key.utf8.contains(where: { $0 < 0x20 }) else {
            throw PlatformError(
                .invalidInput, "source/\(source.name)",
                "an idempotency key has 1 to 256 bytes and no control character")
        }
    }

    /// Under a key the batch's name comes from the key: refused rows of a push that is sent again after a crash are then
    /// known to stand in quarantine already.
    private func pushBuilder(for source: SourceDefinition, idempotencyKey: String?, now: EventTime) -> BatchBuilder {
        builder(
            for: source, origin: "push",
            batch: "push-" + (idempotencyKey.map { ContentHasher.hash($0).short } ?? identifiers.next()), now: now)
    }

    /// Checks and stores rows that come as JSON lines: one object a line, empty lines are skipped.
    ///
    /// As `push` of the same objects; plain lines are read without building a JSON document.
    /// - Throws: `invalidInput` for a line that is no JSON, naming it, and what `push` throws.
    public func push(_ source: SourceDefinition, lines: [UInt8], idempotencyKey: String?, now: EventTime)
        async throws -> IngestReport
    {
        try checkKey(idempotencyKey, source)
        var batch = pushBuilder(for: source, idempotencyKey: idempotencyKey, now: now)
        var count = 0
        try lines.withUnsafeBufferPointer { bytes in
            var (start, number) = (0, 0)
            while start < bytes.count, count <= limits.pushRowCountMax {
                var end = start
                var isBlank = true
                while end < bytes.count, bytes[end] != 10 {
                    if bytes[end] != 32, bytes[end] != 13, bytes[end] != 9 { isBlank = false }
                    end += 1
                }
                number += 1
                if !isBlank {
                    count += 1
                    try batch.add(line: UnsafeBufferPointer(rebasing: bytes[start..<end]), at: count, number: number)
                }
                start = end + 1
            }
        }
        try checkCount(count, source)
        return try await intake(of: source.name).submit(batch.finish(idempotencyKey: idempotencyKey))
    }

    /// The newest rows in quarantine, newest first.
    public func quarantined(_ source: Name, countMax: Int) async throws -> [QuarantinedRow] {
        let topic = PlatformTopic.quarantine(source)
        guard countMax > 0, try await log.topics().contains(topic) else { return [] }
        let end = try await log.endOffset(topic, partition: 0)
        var offset = end - min(end, UInt64(countMax))
        var rows: [QuarantinedRow] = []
        while offset < end {
            let records = try await log.read(topic, from: offset)
            guard let last = records.last else { break }
            rows += records.compactMap { (try? JSONValue.parse($0.record.value)).flatMap(QuarantinedRow.init) }
            offset = last.offset + 1
        }
        return rows.reversed()
    }

    /// How many rows a source's log and quarantine hold.
    public func counts(of source: Name) async throws -> (rows: Int, quarantined: Int) {
        let topics = try await log.topics()
        func count(_ topic: Name) async throws -> Int {
            topics.contains(topic) ? Int(clamping: try await log.endOffset(topic, partition: 0)) : 0
        }
        return (try await count(PlatformTopic.source(source)), try await count(PlatformTopic.quarantine(source)))
    }

    // MARK: What is kept for each source

    /// The contract of a definition, compiled once.
    public func contract(of source: SourceDefinition) -> SourceContract { prepared(source).contract }

    /// The codec of a definition.
    public func codec(of source: SourceDefinition) -> SourceRowCodec { prepared(source).codec }

    private func prepared(_ source: SourceDefinition) -> Prepared {
        state.withLock { state in
            if let known = state.prepared[source.name], known.contract.definition == source { return known }
            let fresh = Prepared(contract: SourceContract(source), codec: SourceRowCodec(source))
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
    private(set) var report = IngestReport()
    private(set) var firstEventTime: EventTime?
    private(set) var lastEventTime: EventTime?
    private var ignored: Set<String> = []

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
    }

    var count: Int { rows.count + quarantined.count }

    /// Checks a row that is a JSON value.
    mutating func add(_ row: JSONValue, at position: Int, from rowOrigin: RowOrigin) {
        add(contract.check(row, from: rowOrigin), at: position) { row.text }
        if contract.definition.schemaChange == .ignore {
            for column in contract.unknownColumns(of: row) where ignored.count < 100 {
                ignored.insert(String(column.prefix(64)))
            }
        }
    }

    /// Checks a row that is a line of JSON.
    /// - Throws: `invalidInput` for a line that is no JSON.
    mutating func add(line: UnsafeBufferPointer<UInt8>, at position: Int, number: Int) throws(PlatformError) {
        if let verdict = contract.check(line: line) {
            return add(verdict, at: position) { String(decoding: line, as: UTF8.self) }
        }
        let row: JSONValue
        do { row = try JSONValue.parse(Array(line)) } catch {
            throw PlatformError(.invalidInput, "request body, line \(number)", error.description)
        }
        add(row, at: position, from: .push)
    }

    /// Takes a verdict; `text` shows the row as it came.
    mutating func add(_ verdict: RowVerdict, at position: Int, text: () -> String) {
        switch verdict {
        case .refused(let breaches): refuse(breaches, at: position, row: text())
        case .accepted(let checked):
            let content = codec.content(of: checked.cells)
            guard content.count <= Self.contentByteCountMax else {
                let rule = "row: is longer than \(Self.contentByteCountMax) bytes"
                return refuse([ContractBreach(rule: rule, message: rule)], at: position, row: text())
            }
            for warning in checked.warnings { IngestReport.count(warning.rule, in: &report.warnings) }
            firstEventTime = min(firstEventTime ?? checked.eventTime, checked.eventTime)
            lastEventTime = max(lastEventTime ?? checked.eventTime, checked.eventTime)
            rows.append(
                IntakeRequest.Row(
                    row: SourceRow(
                        eventTime: checked.eventTime, ingestTime: checked.ingestTime ?? now, cells: checked.cells),
                    content: content, key: codec.key(of: checked.cells), hash: hasher.hash(content)))
        }
    }

    /// Puts a row into quarantine.
    mutating func refuse(_ breaches: [ContractBreach], at position: Int, row: String) {
        report.quarantined += 1
        for breach in breaches { IngestReport.count(breach.rule, in: &report.reasons) }
        quarantined.append(
            QuarantinedRow(
                time: now, origin: origin, batch: batch, position: position,
                reasons: breaches.prefix(16).map { String($0.message.prefix(300)) }, row: row))
    }

    /// The request; the builder is then empty again.
    mutating func finish(idempotencyKey: String?) -> IntakeRequest {
        report.ignoredColumns = ignored.sorted()
        let request = IntakeRequest(
            batch: batch, idempotencyKey: idempotencyKey, rows: rows, quarantined: quarantined, report: report, now: now
        )
        rows = []
        quarantined = []
        report = IngestReport()
        ignored = []
        return request
    }
}
