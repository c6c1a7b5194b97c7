public import PlatformCore
import StoragePorts

/// Changes that no single transaction makes: files loaded, bytes removed, jobs started.
///
/// What is about to happen is written first. Afterwards the entry replaces it, in one transaction; if the process dies in
/// between, the next start writes an entry that says so. So no change goes without an entry.
extension AuditLog {
    static let intentMigration = MetadataMigration(
        name: "audit-2",
        statements: [
            """
            CREATE TABLE audit_intents (number BIGINT PRIMARY KEY, time BIGINT NOT NULL, actor TEXT NOT NULL, \
            action TEXT NOT NULL, subject TEXT NOT NULL)
            """
        ])

    /// Does work and keeps what it changed.
    ///
    /// - Parameters:
    ///   - actor: who asked for it.
    ///   - action: what is done, in the past: `source.loaded`.
    ///   - subject: to what.
    ///   - outcome: what the entry says of it; `nil` if nothing was changed.
    ///   - work: the change. If it throws anything but a refusal, an entry `<action>.failed` says why, for some of it may
    ///     have been done.
    @discardableResult
    public func during<Result: Sendable>(
        _ actor: String, _ action: String, _ subject: String, outcome: (Result) -> JSONValue?,
        _ work: () async throws -> Result
    ) async throws -> Result {
        let begun = clock.now()
        let number = try await store.write { transaction in
            let last = try transaction.query("SELECT MAX(number) AS number FROM audit_intents").first
            let number = (last?["number"].integerValue ?? 0) + 1
            try transaction.execute(
                "INSERT INTO audit_intents (number, time, actor, action, subject) VALUES (?, ?, ?, ?, ?)",
                [.integer(number), MetadataValue(begun), .text(actor), .text(action), .text(subject)])
            return number
        }
        let result: Result
        do { result = try await work() } catch {
            let isRefusal = Self.isRefusal(error)
            // A shutdown leaves the intent for the next start, which says that the work was interrupted.
            if !(error is CancellationError) {
                try await close(
                    number,
                    isRefusal
                        ? nil
                        : AuditRecord(
                            actor: actor, action: "\(action).failed", subject: subject,
                            after: ["error": .string(String(errorText(error).prefix(4000)))]))
            }
            throw error
        }
        try await close(
            number,
            outcome(result).map { AuditRecord(actor: actor, action: action, subject: subject, after: $0) })
        return result
    }

    /// Writes an entry for each change that was under way when the process before this one ended; call it once, at start.
    /// - Returns: how many there were.
    @discardableResult
    public func closeInterrupted() async throws -> Int {
        let now = clock.now()
        return try await store.write { transaction in
            let rows = try transaction.query("SELECT * FROM audit_intents ORDER BY number")
            for row in rows {
                let action = row.text("action")
                try Self.append(
                    AuditRecord(
                        actor: row.text("actor"), action: "\(action).interrupted", subject: row.text("subject"),
                        after: [
                            "begun": .string(EventTime(milliseconds: row.integer("time")).description),
                            "detail": "the process ended meanwhile; some of it may have been done",
                        ]), at: now, in: transaction)
            }
            try transaction.execute("DELETE FROM audit_intents")
            return rows.count
        }
    }

    private func close(_ number: Int64, _ record: AuditRecord?) async throws {
        let now = clock.now()
        _ = try await store.write { transaction in
            if let record { try Self.append(record, at: now, in: transaction) }
            return try transaction.execute("DELETE FROM audit_intents WHERE number = ?", [.integer(number)])
        }
    }

    /// Whether an error says that nothing was begun.
    private static func isRefusal(_ error: any Error) -> Bool {
        let codes: [PlatformError.Code] = [.invalidInput, .notFound, .conflict, .refused, .forbidden, .tooLarge]
        return (error as? PlatformError).map { codes.contains($0.code) } ?? false
    }
}
