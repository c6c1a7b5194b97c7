public import Governance
public import ModelRegistry
import PlatformCore
import StoragePorts

/// Whether the registry's tables say what the audit chain says.
///
/// Each row of its history was written in one transaction with an entry. Who changes a row later leaves the entry, and who
/// changes the entry breaks the chain.
public struct AuditAgreement: Sendable, Hashable {
    /// A row that says something else than its entry, or one without the other.
    public struct Difference: Sendable, Hashable {
        /// Which row.
        public let place: String
        /// What of it: `actor`, `reason`, `time`, `auc on test`; `row` for all of it, `blob` for the evidence behind an entry,
        /// of which `table` says what is wrong with it.
        public let what: String
        /// What the table says; `nil` if it says nothing.
        public let table: String?
        /// What the chain says; `nil` if it says nothing.
        public let chain: String?
        /// The entry.
        public let position: Int64?
    }

    /// An entry of the chain as rows are compared with it.
    private struct Testimony {
        let position: Int64
        let time: EventTime
        /// Time of the entry before: an entry is never earlier than that.
        let earliest: EventTime?
        let fields: [String: String]
        let evidence: ContentHash?
        /// Metrics that gates saw, for a registration that was written without them.
        var seen: [String: String] = [:]

        func allows(_ row: EventTime) -> Bool { row == time || (row < time && earliest == time) }
    }

    /// Rows that were compared.
    public private(set) var comparedCount = 0
    /// Rows older than their entries: there was no chain yet, or none of their kind, when they were written.
    public private(set) var uncomparedCount = 0
    /// Blobs of evidence that entries name and that were hashed again.
    public private(set) var evidenceCount = 0
    /// What differs, in the order of rows.
    public private(set) var differences: [Difference] = []

    /// Most characters of a value that a difference tells.
    private static let valueLengthMax = 400

    /// Compares every row with the chain, and hashes the evidence that the chain names.
    ///
    /// Rows that come in meanwhile are no differences.
    public static func check(_ registry: ModelVersionRegistry, against audit: AuditLog) async throws -> AuditAgreement {
        // Entries behind this one may be of rows that were not there yet when they were read.
        let head = try await audit.head()?.position ?? 0
        let statements = try await registry.statements()
        let stages = try await registry.currentStages()
        var testimonies: [String: [Testimony]] = [:]
        var firstTime: EventTime?
        var last: EventTime?
        var position: Int64 = 1
        var evidence: [ContentHash: Int64] = [:]
        while true {
            let page = try await audit.entries(from: position)
            guard let end = page.last else { break }
            for entry in page {
                if firstTime == nil { firstTime = entry.time }
                let record = entry.record
                if let hash = record.evidence, evidence[hash] == nil { evidence[hash] = entry.position }
                if ModelVersionRegistry.statedActions.contains(record.action) {
                    let fields = ModelVersionRegistry.fields(
                        of: RecordedChange(
                            actor: record.actor, action: record.action, subject: record.subject, before: record.before,
                            after: record.after, evidence: record.evidence, time: entry.time))
                    testimonies[Self.key(record.action, record.subject), default: []].append(
                        Testimony(
                            position: entry.position, time: entry.time, earliest: last, fields: fields,
                            evidence: record.evidence))
                }
                last = entry.time
            }
            position = end.position + 1
        }
        var result = AuditAgreement()
        result.evidenceCount = evidence.count
        for (hash, position) in evidence.sorted(by: { $0.value < $1.value }) {
            guard let fault = try await registry.fault(ofEvidence: hash) else { continue }
            result.add("entry \(position)", "blob", fault, hash.hex, position)
        }
        for (subject, stage) in stages.sorted(by: { $0.key < $1.key }) {
            guard let told = testimonies[Self.key("model.stage.changed", subject)]?.last, told.position <= head,
                let to = told.fields["to"], to != stage
            else { continue }
            result.differences.append(
                Difference(place: subject, what: "stage", table: stage, chain: to, position: told.position))
        }
        try await addMetricsSeen(by: &testimonies, in: registry)
        let groups = Dictionary(grouping: statements) { Self.key($0.action, $0.subject) }
        for key in Set(groups.keys).union(testimonies.keys).sorted() {
            result.compare(groups[key] ?? [], testimonies[key] ?? [], chainSince: firstTime, head: head)
        }
        return result
    }

    /// Gives registrations that were written without metrics those that gates saw later.
    private static func addMetricsSeen(
        by testimonies: inout [String: [Testimony]], in registry: ModelVersionRegistry
    ) async throws {
        for (key, told) in testimonies {
            let suffix = " model.version.registered"
            guard key.hasSuffix(suffix), var registered = told.last,
                !registered.fields.keys.contains(where: { $0.contains(" on ") })
            else { continue }
            let subject = String(key.dropLast(suffix.count))
            for entry in (testimonies[Self.key("model.gates.asked", subject)] ?? [])
                + (testimonies[Self.key("model.stage.changed", subject)] ?? [])
            {
                // Evidence that is gone or damaged cannot speak for or against the metrics; the others can.
                guard let evidence = entry.evidence, let seen = try? await registry.metricsSeen(in: evidence) else {
                    continue
                }
                registered.seen.merge(seen) { first, _ in first }
            }
            testimonies[key] = told.dropLast() + [registered]
        }
    }

    private static func key(_ action: String, _ subject: String) -> String { "\(subject) \(action)" }

    private static func differing(_ row: RegistryStatement, _ entry: Testimony) -> [String] {
        entry.fields.filter { row.fields[$0.key] ?? "" != $0.value }.map(\.key).sorted()
            // A gate may have measured what the registration did not.
            + entry.seen.filter { row.fields[$0.key].map { [value = $0.value] in $0 != value } ?? false }.map(\.key)
            .sorted()
            + (entry.allows(row.time) ? [] : ["time"])
    }

    /// Compares the rows of one thing with the entries of it, both in order.
    private mutating func compare(
        _ rows: [RegistryStatement], _ entries: [Testimony], chainSince: EventTime?, head: Int64
    ) {
        var free = entries
        var left: [RegistryStatement] = []
        for row in rows {
            if let index = free.firstIndex(where: { Self.differing(row, $0).isEmpty }) {
                free.remove(at: index)
                comparedCount += 1
            } else {
                left.append(row)
            }
        }
        // What is left is compared from the newest on: rows from before the chain are the oldest.
        while let row = left.last, let entry = free.last {
            left.removeLast()
            free.removeLast()
            comparedCount += 1
            for what in Self.differing(row, entry) {
                add(
                    row.place, what, what == "time" ? row.time.description : row.fields[what] ?? "",
                    what == "time" ? entry.time.description : entry.fields[what] ?? entry.seen[what], entry.position)
            }
        }
        for row in left {
            guard let chainSince, row.time >= chainSince else {
                uncomparedCount += 1
                continue
            }
            comparedCount += 1
            add(row.place, "row", Self.text(row.fields), nil, nil)
        }
        for entry in free where entry.position <= head {
            add("entry \(entry.position)", "row", nil, Self.text(entry.fields), entry.position)
        }
    }

    private static func text(_ fields: [String: String]) -> String {
        fields.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    }

    private mutating func add(_ place: String, _ what: String, _ table: String?, _ chain: String?, _ position: Int64?) {
        differences.append(
            Difference(
                place: place, what: what, table: table.map { String($0.prefix(Self.valueLengthMax)) },
                chain: chain.map { String($0.prefix(Self.valueLengthMax)) }, position: position))
    }
}
