import ContentHashing
public import PlatformCore
public import StoragePorts

/// The audit chain: every entry holds the hash of the one before, so no entry can be changed, dropped, moved or slipped
/// in without breaking every hash after it.
///
/// Whoever can write the database can cut entries off the end or rewrite the chain as a whole; the head's hash, kept
/// somewhere else, shows that too.
public struct AuditLog: ChangeJournal {
    /// Longest accepted `before` or `after` as JSON; larger things belong into a blob named by `evidence`.
    public static let valueByteCountMax = 256 << 10

    /// The tables, for `MetadataStore.migrate`.
    public static let migrations = [
        MetadataMigration(
            name: "audit-1",
            statements: [
                """
                CREATE TABLE audit_entries (position BIGINT PRIMARY KEY, time BIGINT NOT NULL, actor TEXT NOT NULL, \
                action TEXT NOT NULL, subject TEXT NOT NULL, before_json TEXT NOT NULL, after_json TEXT NOT NULL, \
                evidence TEXT, previous_hash TEXT NOT NULL, hash TEXT NOT NULL)
                """,
                "CREATE INDEX audit_entries_by_subject ON audit_entries (subject, position)",
            ]), intentMigration,
    ]

    private static let limits = JSONLimits(byteCountMax: 2 * valueByteCountMax, depthMax: 64)
    let store: any MetadataStore
    let clock: any PlatformClock

    /// Writes to `store`, whose migrations have run.
    public init(store: any MetadataStore, clock: any PlatformClock) {
        self.store = store
        self.clock = clock
    }

    /// Appends an entry, durably.
    /// - Throws: `PlatformError` (`tooLarge`), `StoreError`.
    @discardableResult
    public func append(_ record: AuditRecord) async throws -> AuditEntry {
        let now = clock.now()
        return try await store.write { try Self.append(record, at: now, in: $0) }
    }

    /// Appends an entry inside a transaction that also makes the change it speaks of: both or neither.
    @discardableResult
    public static func append(
        _ record: AuditRecord, at now: EventTime, in transaction: any MetadataTransaction
    ) throws -> AuditEntry {
        let before = record.before.text
        let after = record.after.text
        for value in [before, after] where value.utf8.count > valueByteCountMax {
            throw PlatformError(
                .tooLarge, "audit/\(record.subject.prefix(200))",
                "a value of \(value.utf8.count) bytes exceeds \(valueByteCountMax); store it as evidence")
        }
        // What could not be read back could not be verified.
        for value in [before, after] {
            do { _ = try JSONValue.parse(value, limits: Self.limits) } catch {
                throw PlatformError(.invalidInput, "audit/\(record.subject.prefix(200))", error.description)
            }
        }
        let last = try transaction.query(
            "SELECT position, time, hash FROM audit_entries ORDER BY position DESC LIMIT 1"
        ).first
        var previousHash = AuditEntry.origin
        if let last {
            guard let hash = ContentHash(hex: last.text("hash")) else {
                throw PlatformError(.corrupted, "audit/\(last.integer("position"))", "the stored hash is no SHA-256")
            }
            previousHash = hash
        }
        let entry = AuditEntry(
            position: (last?.integer("position") ?? 0) + 1,
            time: max(now, EventTime(milliseconds: last?.integer("time") ?? .min)), record: record,
            previousHash: previousHash)
        try transaction.execute(
            """
            INSERT INTO audit_entries (position, time, actor, action, subject, before_json, after_json, evidence, \
            previous_hash, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                .integer(entry.position), MetadataValue(entry.time), .text(record.actor), .text(record.action),
                .text(record.subject), .text(before), .text(after), MetadataValue(record.evidence?.hex),
                .text(previousHash.hex), .text(entry.hash.hex),
            ])
        return entry
    }

    /// Keeps a change as an entry, in the transaction that makes the change.
    public func record(_ change: RecordedChange, in transaction: any MetadataTransaction) throws {
        _ = try Self.append(
            AuditRecord(
                actor: change.actor, action: change.action, subject: change.subject, before: change.before,
                after: change.after, evidence: change.evidence), at: change.time, in: transaction)
    }

    /// The newest entry; `nil` when there is none.
    ///
    /// Its hash stands for the whole chain.
    public func head() async throws -> AuditEntry? {
        let rows = try await store.read {
            try $0.query("SELECT * FROM audit_entries ORDER BY position DESC LIMIT 1")
        }
        return try rows.first.map { try Self.stored($0).entry }
    }

    /// Entries from a position on, oldest first; only those about `subject` if it is given.
    public func entries(from position: Int64 = 1, countMax: Int = 1000, about subject: String? = nil) async throws
        -> [AuditEntry]
    {
        let filter = subject == nil ? "" : "AND subject = ? "
        var arguments: [MetadataValue] = [.integer(position)]
        if let subject { arguments.append(.text(subject)) }
        arguments.append(.integer(Int64(max(0, countMax))))
        let rows = try await store.read { [arguments] in
            try $0.query(
                "SELECT * FROM audit_entries WHERE position >= ? \(filter)ORDER BY position LIMIT ?", arguments)
        }
        return try rows.map { try Self.stored($0).entry }
    }

    /// The newest entries, oldest of them first; only those about `subject` if it is given.
    public func newest(_ count: Int, about subject: String? = nil) async throws -> [AuditEntry] {
        let filter = subject == nil ? "" : "WHERE subject = ? "
        let arguments: [MetadataValue] = (subject.map { [.text($0)] } ?? []) + [.integer(Int64(max(0, count)))]
        let rows = try await store.read {
            try $0.query("SELECT * FROM audit_entries \(filter)ORDER BY position DESC LIMIT ?", arguments)
        }
        return try rows.reversed().map { try Self.stored($0).entry }
    }

    /// How many entries there are; only those about `subject` if it is given.
    public func count(about subject: String? = nil) async throws -> Int64 {
        let filter = subject == nil ? "" : " WHERE subject = ?"
        let arguments: [MetadataValue] = subject.map { [.text($0)] } ?? []
        return try await store.read {
            try $0.query("SELECT COUNT(*) AS entries FROM audit_entries\(filter)", arguments).first?.integer("entries")
                ?? 0
        }
    }

    /// What a check of the whole chain found.
    public struct Verification: Sendable, Hashable {
        /// Entries that were checked, up to the first bad one.
        public let entryCount: Int64
        /// Hash of the last good entry.
        public let head: ContentHash
        /// The first thing that is wrong; `nil` if nothing is.
        public let fault: String?
        /// Whether every entry is as it was written.
        public var isIntact: Bool { fault == nil }
    }

    /// Computes every hash again.
    /// - Parameter expectedHead: the head's hash as somebody kept it elsewhere; shows entries missing at the end.
    public func verify(expectedHead: ContentHash? = nil) async throws -> Verification {
        var previous = AuditEntry.origin
        var count: Int64 = 0
        var seen = expectedHead == nil || expectedHead == previous
        func result(_ fault: String?) -> Verification { Verification(entryCount: count, head: previous, fault: fault) }
        while true {
            let first = count + 1
            let rows = try await store.read {
                try $0.query(
                    "SELECT * FROM audit_entries WHERE position >= ? ORDER BY position LIMIT 1000", [.integer(first)])
            }
            if rows.isEmpty { break }
            for row in rows {
                let position = row.integer("position")
                guard position == count + 1 else { return result("entry \(count + 1) is missing") }
                let stored: (entry: AuditEntry, hash: String)
                do { stored = try Self.stored(row) } catch { return result("entry \(position) cannot be read") }
                guard stored.entry.previousHash == previous else {
                    return result("entry \(position) does not follow the entry before it")
                }
                guard stored.entry.hash.hex == stored.hash else { return result("entry \(position) was changed") }
                previous = stored.entry.hash
                count = position
                seen = seen || previous == expectedHead
            }
        }
        return result(seen ? nil : "the expected head is not in the chain: entries are missing at its end")
    }

    /// Gives the chain line by line (see `AuditEntry.exportLine`, each with a line feed) to `write`, in portions.
    public func export(_ write: ([UInt8]) throws -> Void) async throws {
        var next: Int64 = 1
        while true {
            let rows = try await store.read { [next] in
                try $0.query(
                    "SELECT * FROM audit_entries WHERE position >= ? ORDER BY position LIMIT 1000", [.integer(next)])
            }
            guard let last = rows.last else { return }
            var bytes: [UInt8] = []
            for row in rows {
                // The stored hash goes out, not a new one: an export must show a changed row as changed.
                let stored = try Self.stored(row)
                bytes += stored.entry.canonicalBytes.dropLast()
                bytes += Array(",\"hash\":\"\(stored.hash)\"}\n".utf8)
            }
            try write(bytes)
            next = last.integer("position") + 1
        }
    }

    /// An entry made again from its row, its hash computed anew, and the hash that the row holds.
    private static func stored(_ row: MetadataRow) throws -> (entry: AuditEntry, hash: String) {
        let position = row.integer("position")
        guard let previous = ContentHash(hex: row.text("previous_hash")) else {
            throw PlatformError(.corrupted, "audit/\(position)", "the stored previous hash is no SHA-256")
        }
        let record = AuditRecord(
            actor: row.text("actor"), action: row.text("action"), subject: row.text("subject"),
            before: try JSONValue.parse(Array(row.text("before_json").utf8), limits: Self.limits),
            after: try JSONValue.parse(Array(row.text("after_json").utf8), limits: Self.limits),
            evidence: row["evidence"].textValue.flatMap { ContentHash(hex: $0) })
        let entry = AuditEntry(
            position: position, time: EventTime(milliseconds: row.integer("time")), record: record,
            previousHash: previous)
        return (entry, row.text("hash"))
    }
}
