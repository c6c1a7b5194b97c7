public import Datasets
public import Definitions
import Governance
public import PlatformCore
import Synchronization

/// What is known of rounds that took rows out of tables.
struct RetentionDesk {
    /// The moment up to which each table was last looked through.
    var lookedThrough: [Name: EventTime] = [:]
    var runningCount = 0
}

/// Rows that would leave a table if a retention came into force.
public struct RetentionEffect: Sendable, Hashable, Codable {
    /// The source.
    public let source: String
    /// How long it keeps rows.
    public let retention: String
    /// Rows that happened before this moment leave; RFC 3339.
    public let before: String
    /// Rows that leave.
    public let rows: Int64
    /// Rows of the table.
    public let of: Int64
    /// Rows that leave and stay readable in an older version, for the sake of these.
    public let held: [String]
}

extension TableMaintenance {
    /// Tables that rows are being taken out of.
    public var retentionCount: Int { retaining.withLock { $0.runningCount } }

    /// The source whose retention a table's rows follow: its own, or that of the rows it refused.
    private func source(of table: Name, in set: DefinitionSet) -> SourceDefinition? {
        if let source = set.sources[table] { return source }
        let prefix = "quarantine_"
        guard table.text.hasPrefix(prefix) else { return nil }
        return Name(table.text.dropFirst(prefix.count)).flatMap { set.sources[$0] }
    }

    private func cutoff(_ retention: TimeSpan) -> EventTime {
        clock.now().advanced(by: TimeSpan(milliseconds: -retention.milliseconds))
    }

    /// Takes rows out of a table that are older than its source's retention.
    ///
    /// - Throws: `invalidInput` for a table whose rows stay for ever; see `TableService.removeRows`.
    public func retain(_ table: Name, isRehearsal: Bool) async throws -> RowRetentionReport {
        guard let source = source(of: table, in: definitions()), let retention = source.retention else {
            throw PlatformError(
                .invalidInput, "table/\(table)",
                "its rows stay for ever: the source has no 'retention'; write one, such as 'retention: 90d', and apply it"
            )
        }
        if source.name == table { try await tables.flush(source) }
        return try await removeRows(of: table, before: cutoff(retention), isRehearsal: isRehearsal)
    }

    /// Takes them out, with an entry in the audit chain.
    public func retain(_ table: Name, by actor: String) async throws -> RowRetentionReport {
        try await audited(table, actor) { try await self.retain(table, isRehearsal: false) }
    }

    private func audited(
        _ table: Name, _ actor: String, _ work: () async throws -> RowRetentionReport
    ) async throws -> RowRetentionReport {
        defer { changed() }
        return try await audit.during(
            actor, "table.retained", "table/\(table)",
            outcome: { report in
                report.removedRowCount == 0
                    ? nil
                    : [
                        "rows": .integer(report.removedRowCount), "before": .string(report.before.description),
                        "version": .integer(report.version),
                    ]
            }, work)
    }

    private func removeRows(of table: Name, before moment: EventTime, isRehearsal: Bool) async throws
        -> RowRetentionReport
    {
        retaining.withLock { $0.runningCount += isRehearsal ? 0 : 1 }
        defer { retaining.withLock { $0.runningCount -= isRehearsal ? 0 : 1 } }
        return try await tables.removeRows(
            of: table, before: moment, keeping: try await references()[table] ?? [], isRehearsal: isRehearsal)
    }

    /// What a round does: a whole hour, or day for 30 days or more, at a time, so that a table is not written anew each minute.
    func retainIfDue(_ table: Name) async throws -> RowRetentionReport? {
        guard let retention = source(of: table, in: definitions())?.retention else { return nil }
        let step: Int64 = retention >= .days(30) ? 86_400_000 : 3_600_000
        let exact = cutoff(retention).milliseconds
        let moment = EventTime(milliseconds: exact - ((exact % step) + step) % step)
        guard retaining.withLock({ $0.lookedThrough[table].map { $0 < moment } ?? true }) else { return nil }
        let report = try await audited(table, Self.actor) {
            try await removeRows(of: table, before: moment, isRehearsal: false)
        }
        retaining.withLock { $0.lookedThrough[table] = moment }
        return report
    }

    /// What a new set of definitions would take out of tables, for sources that then keep rows for a shorter time.
    public func effects(from before: DefinitionSet, to after: DefinitionSet) async throws -> [RetentionEffect] {
        var effects: [RetentionEffect] = []
        for source in after.sources.values.sorted(by: { $0.name < $1.name }) {
            guard let retention = source.retention, let known = before.sources[source.name],
                known.retention.map({ retention < $0 }) ?? true
            else { continue }
            try await tables.flush(known)
            let report = try await removeRows(of: source.name, before: cutoff(retention), isRehearsal: true)
            guard report.removedRowCount > 0 else { continue }
            effects.append(
                RetentionEffect(
                    source: source.name.text, retention: retention.description, before: report.before.description,
                    rows: report.removedRowCount, of: report.rowCount,
                    held: Set(report.files.compactMap(\.heldBy)).sorted()))
        }
        return effects
    }
}
