import Definitions
import PlatformCore
import StoragePorts
import Synchronization

/// Rows of one push, or one portion of a file, that passed the contract or were refused by it; ready to be stored.
struct IntakeRequest: Sendable {
    struct Row: Sendable {
        let row: SourceRow
        let content: [UInt8]
        let key: String
        let hash: UInt64
        let position: Int
        /// For each of the request's rules the hash of what it compares; `nil` where a value is null.
        let unique: [UInt64?]
    }
    let batch: String
    let origin: String
    let idempotencyKey: String?
    /// SHA-256 of the push, where there is a key.
    var requestHash: String?
    let rules: [UniqueRule]
    let codec: SourceRowCodec?
    let rows: [Row]
    let quarantined: [QuarantinedRow]
    /// Everything but `accepted` and `duplicates`, which only the intake knows.
    let report: IngestReport
    let now: EventTime

    var recordCount: Int { rows.count + quarantined.count }
}

/// The one door through which rows of a source reach its log: duplicates are dropped, the order of offsets is the order in
/// which the listener hears of rows, and pushes that arrive together share one append, hence one fsync.
///
/// A line of waiting requests with one leader. The leader takes everything that waits, stores it, tells the listener, answers
/// its followers, and hands the lead to whoever came meanwhile: nobody holds a lock across the disk, and nobody serves
/// others for longer than one round.
final class SourceIntake: Sendable {
    private enum Turn: Sendable {
        case lead(UInt64)
        case done(Result<IngestReport, any Error>)
    }
    private struct Entry {
        let ticket: UInt64
        let request: IntakeRequest
        var continuation: CheckedContinuation<Turn, Never>?
    }
    private struct Line {
        var entries: [Entry] = []
        var recordCount = 0
        var nextTicket: UInt64 = 0
        var isLed = false
    }
    /// What is known of the log's content; changed by the leader alone.
    private struct Memory {
        var isOpen = false
        var recent: RecentRows
        var history: HashSet64?
        var historyUserCount = 0
        var quarantined: RecentRows
        var pushes: [String: IngestReport] = [:]
        var pushOrder: [String] = []
        var pushByteCount = 0
        /// For each rule of uniqueness what its columns hold in the last rows.
        var unique: [String: RecentRows] = [:]
        var lastTime = EventTime(milliseconds: .min)
    }

    /// Memory for reports of pushes under a key; long lists of refused rows are what fills it.
    private static let pushByteCountMax = 64 << 20
    let source: Name
    private let topic: Name
    private let quarantineTopic: Name
    private let log: any EventLog
    private let listener: (any SourceListener)?
    private let hasher: RowHasher
    private let limits: IngestLimits
    private let line = Mutex(Line())  // held for a few array operations
    private let memory: Mutex<Memory>  // held for look-ups of one round

    init(
        source: Name, log: any EventLog, listener: (any SourceListener)?, hasher: RowHasher, limits: IngestLimits
    ) {
        self.source = source
        topic = PlatformTopic.source(source)
        quarantineTopic = PlatformTopic.quarantine(source)
        self.log = log
        self.listener = listener
        self.hasher = hasher
        self.limits = limits
        memory = Mutex(
            Memory(
                recent: RecentRows(generationRowCount: limits.recentRowCount),
                quarantined: RecentRows(generationRowCount: limits.recentRowCount / 4)))
    }

    /// Stores a request's rows; returns when they are durable and the listener has taken them.
    func submit(_ request: IntakeRequest) async throws -> IngestReport {
        let turn = await withCheckedContinuation { (continuation: CheckedContinuation<Turn, Never>) in
            let turn: Turn? = line.withLock { line in
                let isFull = line.recordCount + request.recordCount > limits.waitingRowCountMax
                if isFull, !line.entries.isEmpty {
                    return .done(
                        .failure(
                            PlatformError(
                                .overloaded, "source/\(source)",
                                "\(line.recordCount) rows wait to be stored; send again later")))
                }
                let ticket = line.nextTicket
                line.nextTicket += 1
                line.recordCount += request.recordCount
                let leads = !line.isLed
                line.isLed = true
                line.entries.append(Entry(ticket: ticket, request: request, continuation: leads ? nil : continuation))
                return leads ? .lead(ticket) : nil
            }
            if let turn { continuation.resume(returning: turn) }
        }
        switch turn {
        case .done(let result): return try result.get()
        case .lead(let ticket):
            // A task of its own, awaited here: the round stores other senders' rows too, so it must not end when this
            // sender goes away.
            return try await Task { await self.leadRound(for: ticket) }.value.get()
        }
    }

    /// Stores several requests; they share rounds, in no order among themselves.
    func submit(all requests: [IntakeRequest]) async throws -> [IngestReport] {
        try await withThrowingTaskGroup(of: (Int, IngestReport).self) { group in
            for (index, request) in requests.enumerated() {
                group.addTask { (index, try await self.submit(request)) }
            }
            var reports = [IngestReport](repeating: IngestReport(), count: requests.count)
            for try await (index, report) in group { reports[index] = report }
            return reports
        }
    }

    /// Reads what the log holds, so that the first push does not have to.
    func open() async throws { _ = try await submit(IntakeRequest.nothing) }

    private func leadRound(for leader: UInt64) async -> Result<IngestReport, any Error> {
        let entries = line.withLock { line in
            var count = 0
            let taken = line.entries.prefix { entry in
                defer { count += entry.request.recordCount }
                return count < limits.roundRowCountMax
            }
            line.entries.removeFirst(taken.count)
            line.recordCount -= taken.reduce(0) { $0 + $1.request.recordCount }
            return Array(taken)
        }
        let results: [Result<IngestReport, any Error>]
        do {
            results = try await store(entries.map(\.request))
        } catch {
            results = entries.map { _ in .failure(error) }
        }
        let next: (CheckedContinuation<Turn, Never>?, UInt64)? = line.withLock { line in
            guard !line.entries.isEmpty else {
                line.isLed = false
                return nil
            }
            defer { line.entries[0].continuation = nil }
            return (line.entries[0].continuation, line.entries[0].ticket)
        }
        if let next { next.0?.resume(returning: .lead(next.1)) }
        var own: Result<IngestReport, any Error> = .failure(
            PlatformError(.internal, "source/\(source)", "the leader's own rows were not in its round"))
        for (entry, result) in zip(entries, results) {
            if entry.ticket == leader { own = result }
            entry.continuation?.resume(returning: .done(result))
        }
        return own
    }

    // MARK: One round

    private struct Plan {
        /// Rows of one request that are stored.
        struct Part {
            let request: Int
            /// Positions among the request's rows.
            let rows: [Int]
            let push: (key: String, report: JSONValue)?
        }
        var parts: [Part] = []
        var rowCount = 0
        var quarantined: [(row: QuarantinedRow, hash: UInt64, push: (key: String, report: JSONValue)?)] = []
        var pushes: [(key: String, report: IngestReport)] = []
        var reports: [Result<IngestReport, any Error>] = []
    }

    private func store(_ requests: [IntakeRequest]) async throws -> [Result<IngestReport, any Error>] {
        try await openIfNeeded()
        for request in requests { try await remember(request.rules, request.codec) }
        let (plan, time) = memory.withLock { memory -> (Plan, EventTime) in
            (makePlan(requests, memory), memory.lastTime)
        }
        var last = time

        // Quarantine first: were it second, a crash between the two would lose refused rows of a push whose accepted
        // rows already carry its idempotency key.
        if !plan.quarantined.isEmpty {
            try await log.append(
                plan.quarantined.map { entry in
                    last = max(last, entry.row.time)
                    return LogRecord(key: entry.row.batch, time: last, value: entry.row.encoded(push: entry.push))
                }, to: quarantineTopic)
            memory.withLock { memory in for entry in plan.quarantined { memory.quarantined.insert(entry.hash) } }
        }
        if plan.rowCount > 0 {
            var records: [LogRecord] = []
            var rows: [SourceRow] = []
            var arrivals: [EventTime] = []
            records.reserveCapacity(plan.rowCount)
            rows.reserveCapacity(plan.rowCount)
            arrivals.reserveCapacity(plan.rowCount)
            for part in plan.parts where !part.rows.isEmpty {
                let request = requests[part.request]
                last = max(last, request.now)
                for (number, position) in part.rows.enumerated() {
                    records.append(
                        LogRecord(
                            key: request.rows[position].key, time: last,
                            value: SourceRowCodec.envelope(
                                batch: request.batch, eventTime: request.rows[position].row.eventTime,
                                ingestTime: request.rows[position].row.ingestTime,
                                push: number == 0 ? part.push : nil, content: request.rows[position].content)))
                    rows.append(request.rows[position].row)
                    arrivals.append(last)
                }
            }
            let first = try await log.append(records, to: topic)
            memory.withLock { memory in
                for part in plan.parts {
                    let request = requests[part.request]
                    for position in part.rows {
                        let hash = request.rows[position].hash
                        memory.recent.insert(hash)
                        memory.history?.insert(hash)
                        for (rule, hash) in zip(request.rules, request.rows[position].unique) {
                            if let hash { memory.unique[rule.identifier]?.insert(hash) }
                        }
                    }
                }
            }
            await listener?.received(
                SourceBatch(source: source, firstOffset: first, rows: rows, arrivals: arrivals))
        }
        memory.withLock { memory in
            memory.lastTime = last
            for push in plan.pushes { Self.remember(push.key, push.report, limits.idempotencyKeyCountMax, &memory) }
        }
        return plan.reports
    }

    private func makePlan(_ requests: [IntakeRequest], _ memory: Memory) -> Plan {
        var plan = Plan()
        var inRound = HashSet64(capacity: requests.reduce(0) { $0 + $1.rows.count })
        var quarantinedInRound = Set<UInt64>()
        var uniqueInRound: [String: Set<UInt64>] = [:]
        for (number, request) in requests.enumerated() {
            if let key = request.idempotencyKey,
                let known = memory.pushes[key] ?? plan.pushes.first(where: { $0.key == key })?.report
            {
                plan.reports.append(Self.answer(known, to: request, source: source))
                continue
            }
            var report = request.report
            report.requestHash = request.requestHash
            var kept: [Int] = []
            var refused = request.quarantined
            kept.reserveCapacity(request.rows.count)
            for position in request.rows.indices {
                let hash = request.rows[position].hash
                if memory.recent.contains(hash) || memory.history?.contains(hash) == true || inRound.contains(hash) {
                    report.duplicates += 1
                    continue
                }
                if request.rules.isEmpty {
                    inRound.insert(hash)
                    kept.append(position)
                    continue
                }
                let row = request.rows[position]
                var breaches: [ContractBreach] = []
                for (rule, hash) in zip(request.rules, row.unique) {
                    guard let hash,
                        memory.unique[rule.identifier]?.contains(hash) == true
                            || uniqueInRound[rule.identifier]?.contains(hash) == true
                    else { continue }
                    if rule.severity == .warn {
                        IngestReport.count(rule.rule, in: &report.warnings)
                    } else {
                        breaches.append(rule.breach(of: row.row.cells))
                    }
                }
                guard breaches.isEmpty else {
                    report.refuse(breaches, at: row.position)
                    refused.append(
                        QuarantinedRow(
                            time: request.now, origin: request.origin, batch: request.batch, position: row.position,
                            reasons: breaches.map(\.message), row: String(decoding: row.content, as: UTF8.self),
                            form: .push))
                    continue
                }
                inRound.insert(hash)
                for (rule, hash) in zip(request.rules, row.unique) {
                    if let hash { uniqueInRound[rule.identifier, default: []].insert(hash) }
                }
                kept.append(position)
            }
            report.accepted = kept.count
            let push = request.idempotencyKey.map { (key: $0, report: report.stored) }
            plan.parts.append(Plan.Part(request: number, rows: kept, push: push))
            plan.rowCount += kept.count
            var isFirst = kept.isEmpty
            for row in refused {
                let hash = hasher.hash(row.identity.utf8)
                guard !memory.quarantined.contains(hash), quarantinedInRound.insert(hash).inserted else { continue }
                plan.quarantined.append((row, hash, isFirst ? push : nil))
                isFirst = false
            }
            if let key = request.idempotencyKey { plan.pushes.append((key, report)) }
            plan.reports.append(.success(report))
        }
        return plan
    }

    /// The first push's report, unless this is another push under its key.
    private static func answer(_ known: IngestReport, to request: IntakeRequest, source: Name) -> Result<
        IngestReport, any Error
    > {
        if let first = known.requestHash, let now = request.requestHash, first != now {
            return .failure(
                PlatformError(
                    .conflict, "source/\(source)",
                    "the idempotency key was used for another push; nothing was stored"))
        }
        return .success(known)
    }

    private static func remember(_ key: String, _ report: IngestReport, _ countMax: Int, _ memory: inout Memory) {
        guard memory.pushes.updateValue(report, forKey: key) == nil else { return }
        memory.pushOrder.append(key)
        memory.pushByteCount += report.memoryByteCount
        // Forgets the older half at once: no shifting for each push.
        if memory.pushOrder.count > 2 * countMax || memory.pushByteCount > pushByteCountMax {
            let count = memory.pushOrder.count / 2
            for old in memory.pushOrder.prefix(count) {
                if let forgotten = memory.pushes.removeValue(forKey: old) {
                    memory.pushByteCount -= forgotten.memoryByteCount
                }
            }
            memory.pushOrder.removeFirst(count)
        }
    }

    // MARK: Rebuilding from the log

    private func openIfNeeded() async throws {
        if memory.withLock({ $0.isOpen }) { return }
        try await log.createTopic(topic, partitions: 1)
        try await log.createTopic(quarantineTopic, partitions: 1)
        try await scan(topic, lastCount: 2 * limits.recentRowCount) { records in
            memory.withLock { memory in
                for stored in records {
                    guard let known = SourceRowCodec.memory(of: stored.record.value) else { continue }
                    memory.recent.insert(hasher.hash(known.content))
                    memory.lastTime = max(memory.lastTime, stored.record.time)
                    if let push = known.push, let report = IngestReport(push.report) {
                        Self.remember(push.key, report, limits.idempotencyKeyCountMax, &memory)
                    }
                }
            }
        }
        try await scan(quarantineTopic, lastCount: limits.recentRowCount / 2) { records in
            memory.withLock { memory in
                for stored in records {
                    guard let value = try? JSONValue.parse(stored.record.value), let row = QuarantinedRow(value) else {
                        continue
                    }
                    memory.quarantined.insert(hasher.hash(row.identity.utf8))
                    if let key = value["k"]?.stringValue, let report = value["r"].flatMap(IngestReport.init) {
                        Self.remember(key, report, limits.idempotencyKeyCountMax, &memory)
                    }
                }
            }
        }
        memory.withLock { $0.isOpen = true }
    }

    /// Reads what a rule's columns hold in the last rows, when the rule is first used.
    private func remember(_ rules: [UniqueRule], _ codec: SourceRowCodec?) async throws {
        guard let codec else { return }
        let missing = memory.withLock { memory in rules.filter { memory.unique[$0.identifier] == nil } }
        guard !missing.isEmpty else { return }
        var found = missing.map { _ in RecentRows(generationRowCount: limits.recentRowCount) }
        try await scan(topic, lastCount: 2 * limits.recentRowCount) { records in
            for stored in records {
                guard let row = try? codec.decode(stored.record.value) else { continue }
                for (index, rule) in missing.enumerated() {
                    if let value = rule.value(of: row.cells) { found[index].insert(hasher.hash(value)) }
                }
            }
        }
        memory.withLock { memory in
            for (rule, values) in zip(missing, found) { memory.unique[rule.identifier] = values }
        }
    }

    private func scan(_ topic: Name, lastCount: Int, _ body: ([StoredRecord]) -> Void) async throws {
        let end = try await log.endOffset(topic, partition: 0)
        var offset = end > UInt64(lastCount) ? end - UInt64(lastCount) : 0
        while offset < end {
            let records = try await log.read(topic, from: offset)
            guard let last = records.last else { return }
            body(records)
            offset = last.offset + 1
        }
    }

    /// Remembers all of the log's rows, beyond the recent ones, until `endFullHistory`: what a load compares with.
    func beginFullHistory() async throws {
        try await open()
        let end = try await log.endOffset(topic, partition: 0)
        guard end > UInt64(limits.recentRowCount) else { return }
        let needsScan = memory.withLock { memory in
            memory.historyUserCount += 1
            guard memory.history == nil else { return false }
            memory.history = HashSet64()
            return true
        }
        guard needsScan else { return }
        do {
            try await scan(topic, lastCount: limits.historyRowCountMax) { records in
                memory.withLock { memory in
                    for stored in records {
                        guard let known = SourceRowCodec.memory(of: stored.record.value) else { continue }
                        memory.history?.insert(hasher.hash(known.content))
                    }
                }
            }
        } catch {
            endFullHistory()
            throw error
        }
    }

    /// Forgets what `beginFullHistory` remembered.
    func endFullHistory() {
        memory.withLock { memory in
            guard memory.historyUserCount > 0 else { return }
            memory.historyUserCount -= 1
            if memory.historyUserCount == 0 { memory.history = nil }
        }
    }
}

extension IntakeRequest {
    /// A request without rows.
    static var nothing: IntakeRequest {
        IntakeRequest(
            batch: "", origin: "", idempotencyKey: nil, requestHash: nil, rules: [], codec: nil, rows: [],
            quarantined: [], report: IngestReport(), now: EventTime(milliseconds: .min))
    }
}
