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
    }
    let batch: String
    let idempotencyKey: String?
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
        var lastTime = EventTime(milliseconds: .min)
    }

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
            results = try await store(entries.map(\.request)).map { .success($0) }
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
        var rows: [(row: IntakeRequest.Row, batch: String, push: (key: String, report: JSONValue)?, time: EventTime)] =
            []
        var quarantined: [(row: QuarantinedRow, hash: UInt64, push: (key: String, report: JSONValue)?)] = []
        var pushes: [(key: String, report: IngestReport)] = []
        var reports: [IngestReport] = []
    }

    private func store(_ requests: [IntakeRequest]) async throws -> [IngestReport] {
        try await openIfNeeded()
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
        if !plan.rows.isEmpty {
            let records = plan.rows.map { entry in
                last = max(last, entry.time)
                return LogRecord(
                    key: entry.row.key, time: last,
                    value: SourceRowCodec.envelope(
                        batch: entry.batch, eventTime: entry.row.row.eventTime, ingestTime: entry.row.row.ingestTime,
                        push: entry.push, content: entry.row.content))
            }
            let first = try await log.append(records, to: topic)
            memory.withLock { memory in
                for entry in plan.rows {
                    memory.recent.insert(entry.row.hash)
                    memory.history?.insert(entry.row.hash)
                }
            }
            await listener?.received(
                SourceBatch(
                    source: source, firstOffset: first, rows: plan.rows.map { $0.row.row },
                    arrivals: records.map(\.time)))
        }
        memory.withLock { memory in
            memory.lastTime = last
            for push in plan.pushes { Self.remember(push.key, push.report, limits.idempotencyKeyCountMax, &memory) }
        }
        return plan.reports
    }

    private func makePlan(_ requests: [IntakeRequest], _ memory: Memory) -> Plan {
        var plan = Plan()
        var inRound = Set<UInt64>()
        var quarantinedInRound = Set<UInt64>()
        for request in requests {
            if let key = request.idempotencyKey,
                let known = memory.pushes[key] ?? plan.pushes.first(where: { $0.key == key })?.report
            {
                plan.reports.append(known)
                continue
            }
            var report = request.report
            var kept: [IntakeRequest.Row] = []
            kept.reserveCapacity(request.rows.count)
            for row in request.rows {
                if memory.recent.contains(row.hash) || memory.history?.contains(row.hash) == true
                    || !inRound.insert(row.hash).inserted
                {
                    report.duplicates += 1
                } else {
                    kept.append(row)
                }
            }
            report.accepted = kept.count
            let push = request.idempotencyKey.map { (key: $0, report: report.json) }
            for (index, row) in kept.enumerated() {
                plan.rows.append((row, request.batch, index == 0 ? push : nil, request.now))
            }
            var isFirst = kept.isEmpty
            for row in request.quarantined {
                let hash = hasher.hash(row.identity.utf8)
                guard !memory.quarantined.contains(hash), quarantinedInRound.insert(hash).inserted else { continue }
                plan.quarantined.append((row, hash, isFirst ? push : nil))
                isFirst = false
            }
            if let key = request.idempotencyKey { plan.pushes.append((key, report)) }
            plan.reports.append(report)
        }
        return plan
    }

    private static func remember(_ key: String, _ report: IngestReport, _ countMax: Int, _ memory: inout Memory) {
        guard memory.pushes.updateValue(report, forKey: key) == nil else { return }
        memory.pushOrder.append(key)
        if memory.pushOrder.count > 2 * countMax {  // forgets the older half at once: no shifting for each push
            for old in memory.pushOrder.prefix(countMax) { memory.pushes[old] = nil }
            memory.pushOrder.removeFirst(countMax)
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
            batch: "", idempotencyKey: nil, rows: [], quarantined: [], report: IngestReport(),
            now: EventTime(milliseconds: .min))
    }
}
