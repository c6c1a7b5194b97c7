public import Definitions
public import PlatformCore
import StoragePorts

/// What became of rows in quarantine that were tried again, or given up.
public struct QuarantineReport: Sendable, Hashable {
    /// Rows looked at.
    public var rows = 0
    /// Rows that satisfy the contract now and were stored.
    public var accepted = 0
    /// Rows that satisfy it, and whose content is in the log already.
    public var duplicates = 0
    /// Rows that still break it; they stay, with the reasons of now.
    public var refused = 0
    /// Rows that the source's filter or sample leaves out.
    public var leftOut = 0
    /// Rows given up.
    public var discarded = 0

    /// The report as the HTTP contract shows it.
    public var json: JSONValue {
        [
            "rows": .integer(Int64(rows)), "accepted": .integer(Int64(accepted)),
            "duplicates": .integer(Int64(duplicates)), "refused": .integer(Int64(refused)),
            "left_out": .integer(Int64(leftOut)), "discarded": .integer(Int64(discarded)),
        ]
    }
}

/// A row in quarantine, and where it stands there.
struct WaitingRow: Sendable {
    let offset: UInt64
    let row: QuarantinedRow
}

extension IngestService {
    /// The newest rows in quarantine that neither passed since nor were given up, newest first.
    public func quarantined(_ source: Name, countMax: Int) async throws -> [QuarantinedRow] {
        guard countMax > 0 else { return [] }
        let topic = PlatformTopic.quarantine(source)
        guard try await log.topics().contains(topic) else { return [] }
        let ended = try await endedRows(of: source)
        var end = try await log.endOffset(topic, partition: 0)
        var rows: [QuarantinedRow] = []
        while end > 0, rows.count < countMax {
            let start = end - min(end, UInt64(max(countMax, 1000)))
            rows += try await waiting(source, from: start, to: end, ended).reversed().map(\.row)
            end = start
        }
        return Array(rows.prefix(countMax))
    }

    /// How many rows wait in quarantine for each reason, most frequent first; values are left out of reasons.
    public func quarantineReasons(of source: Name) async throws -> [(reason: String, count: Int)] {
        var counts: [String: Int] = [:]
        try await forEachWaiting(source) { portion in
            for entry in portion {
                for reason in Set(entry.row.reasons.map(Self.withoutValue)) { IngestReport.count(reason, in: &counts) }
            }
        }
        return counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { ($0.key, $0.value) }
    }

    /// How many rows a source's log and quarantine hold; rows that left quarantine are not counted there.
    public func counts(of source: Name) async throws -> (rows: Int, quarantined: Int) {
        let topics = try await log.topics()
        func count(_ topic: Name) async throws -> Int {
            topics.contains(topic) ? Int(clamping: try await log.endOffset(topic, partition: 0)) : 0
        }
        let all = try await count(PlatformTopic.quarantine(source))
        let ended = all == 0 ? 0 : try await endedRows(of: source).reduce(0) { $0 + $1.count }
        return (try await count(PlatformTopic.source(source)), max(0, all - ended))
    }

    /// Checks the rows in quarantine once more under the contract of now.
    ///
    /// Rows that pass go through the same door as any other and leave quarantine; a row whose content is in the log is a
    /// duplicate and leaves too. The others stay, with the reasons of now. After a crash in the middle, replaying again does
    /// the rest. Ingest time of a row that carries none is now: before, nobody could have known it.
    ///
    /// - Parameters:
    ///   - source: the definition now in force.
    ///   - reason: only rows with a reason that contains this text.
    ///   - actor: who asked.
    ///   - now: the time.
    @concurrent
    public func replayQuarantine(of source: SourceDefinition, reason: String?, actor: String, now: EventTime)
        async throws -> QuarantineReport
    {
        let claimed = "\(source.name)/quarantine"
        guard claim(claimed) else {
            throw PlatformError(.conflict, "source/\(source.name)", "its quarantine is being worked on")
        }
        defer { release(claimed) }
        var report = QuarantineReport()
        let intake = intake(of: source.name)
        try await intake.beginFullHistory()
        defer { intake.endFullHistory() }
        let contract = contract(of: source)
        try await forEachWaiting(source.name) { portion in
            var passed: [UInt64] = []
            var replaced: [UInt64] = []
            var requests: [IntakeRequest] = []
            for entry in portion where reason.map({ text in entry.row.reasons.contains { $0.contains(text) } }) ?? true
            {
                report.rows += 1
                guard let row = try? JSONValue.parse(Array(entry.row.row.utf8)), case .object = row else {
                    report.refused += 1
                    continue  // a line that is no row stays one
                }
                var builder = self.builder(
                    for: source, origin: entry.row.origin, batch: entry.row.batch, now: now)
                builder.add(contract.check(row, from: entry.row.form), at: entry.row.position, from: entry.row.form) {
                    entry.row.row
                }
                let request = builder.finish(idempotencyKey: nil)
                if let refused = request.quarantined.first {
                    report.refused += 1
                    guard refused.reasons != entry.row.reasons else { continue }
                    replaced.append(entry.offset)
                    requests.append(
                        request.replacing(
                            QuarantinedRow(
                                time: entry.row.time, origin: refused.origin, batch: refused.batch,
                                position: refused.position, reasons: refused.reasons, row: entry.row.row,
                                form: entry.row.form, replaces: entry.offset)))
                } else if request.rows.isEmpty {
                    report.leftOut += 1
                    passed.append(entry.offset)
                } else {
                    // One by one, so that uniqueness within the portion is seen; they share one append all the same.
                    passed.append(entry.offset)
                    requests.append(request)
                }
            }
            let results = try await intake.submit(all: requests)
            var stillRefused: Set<UInt64> = []
            for (request, result) in zip(requests, results) where !request.rows.isEmpty {
                report.accepted += result.accepted
                report.duplicates += result.duplicates
                if result.quarantined > 0 {  // breaks a rule of uniqueness: it waits under its old record
                    report.refused += 1
                    if let offset = portion.first(where: {
                        $0.row.batch == request.batch && $0.row.position == request.rows[0].position
                    })?.offset {
                        stillRefused.insert(offset)
                    }
                }
            }
            try await self.end(
                passed.filter { !stillRefused.contains($0) }, of: source.name, outcome: "replayed", actor: actor,
                now: now)
            try await self.end(replaced, of: source.name, outcome: "replaced", actor: actor, now: now)
        }
        return report
    }

    /// Gives rows in quarantine up: they are no longer listed, counted or replayed; the record of them is kept.
    @concurrent
    public func discardQuarantine(of source: Name, reason: String?, actor: String, now: EventTime) async throws
        -> QuarantineReport
    {
        var report = QuarantineReport()
        try await forEachWaiting(source) { portion in
            let chosen = portion.filter { entry in
                reason.map { text in entry.row.reasons.contains { $0.contains(text) } } ?? true
            }
            report.rows += chosen.count
            report.discarded += chosen.count
            try await self.end(chosen.map(\.offset), of: source, outcome: "discarded", actor: actor, now: now)
        }
        return report
    }

    // MARK: Where rows stand

    private func endedRows(of source: Name) async throws -> [ClosedRange<UInt64>] {
        try await metadata.read { transaction in
            try transaction.query(
                "SELECT first, last FROM dataset_quarantine_end WHERE source = ? ORDER BY first", [.text(source.text)]
            ).map {
                UInt64(clamping: $0.integer("first"))...UInt64(clamping: max($0.integer("first"), $0.integer("last")))
            }
        }
    }

    /// Remembers that rows left quarantine, as runs of offsets.
    private func end(_ offsets: [UInt64], of source: Name, outcome: String, actor: String, now: EventTime)
        async throws
    {
        guard !offsets.isEmpty else { return }
        var runs: [ClosedRange<UInt64>] = []
        for offset in offsets.sorted() {
            if let last = runs.last, last.upperBound + 1 == offset {
                runs[runs.count - 1] = last.lowerBound...offset
            } else {
                runs.append(offset...offset)
            }
        }
        let kept = runs
        _ = try await metadata.write { transaction in
            for run in kept {
                try transaction.execute(
                    """
                    INSERT INTO dataset_quarantine_end (source, first, last, outcome, time_ms, actor)
                    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (source, first) DO NOTHING
                    """,
                    [
                        .text(source.text), .integer(Int64(clamping: run.lowerBound)),
                        .integer(Int64(clamping: run.upperBound)), .text(outcome), .integer(now.milliseconds),
                        .text(actor),
                    ])
            }
        }
    }

    /// Rows between two offsets that still wait, in order.
    private func waiting(_ source: Name, from start: UInt64, to end: UInt64, _ ended: [ClosedRange<UInt64>])
        async throws -> [WaitingRow]
    {
        var rows: [WaitingRow] = []
        var offset = start
        var next = ended.firstIndex { $0.upperBound >= start } ?? ended.count
        while offset < end {
            let records = try await log.read(PlatformTopic.quarantine(source), from: offset)
            guard let last = records.last else { break }
            for record in records where record.offset < end {
                while next < ended.count, ended[next].upperBound < record.offset { next += 1 }
                if next < ended.count, ended[next].contains(record.offset) { continue }
                guard let value = try? JSONValue.parse(record.record.value), let row = QuarantinedRow(value) else {
                    continue
                }
                rows.append(WaitingRow(offset: record.offset, row: row))
            }
            offset = last.offset + 1
        }
        return rows
    }

    /// Goes through the rows that wait now, in portions; what comes in meanwhile is left for the next time.
    private func forEachWaiting(_ source: Name, _ body: ([WaitingRow]) async throws -> Void) async throws {
        let topic = PlatformTopic.quarantine(source)
        guard try await log.topics().contains(topic) else { return }
        let ended = try await endedRows(of: source)
        let end = try await log.endOffset(topic, partition: 0)
        var start: UInt64 = 0
        while start < end {
            let stop = min(end, start + 2_000)
            let portion = try await waiting(source, from: start, to: stop, ended)
            if !portion.isEmpty { try await body(portion) }
            start = stop
        }
    }

    /// A reason without the refused value, so that equal faults count together: `amount: 'x' is not a number` as
    /// `amount: is not a number`.
    static func withoutValue(_ reason: String) -> String {
        reason.replacing(#/: '.*' (?=(is|are|does|lies|stands)\b)/#, with: ": ")
    }
}

extension IntakeRequest {
    /// The same with another row for quarantine.
    func replacing(_ row: QuarantinedRow) -> IntakeRequest {
        IntakeRequest(
            batch: batch, origin: origin, idempotencyKey: nil, requestHash: nil, rules: rules, codec: codec, rows: [],
            quarantined: [row], report: report, now: now)
    }
}
