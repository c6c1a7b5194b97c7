import ContentHashing
public import PlatformCore

/// Something that was done and must be provable later.
public struct AuditRecord: Sendable, Hashable {
    /// Who did it: a person, or a part of the platform.
    public let actor: String
    /// What was done, `model.stage.change`.
    public let action: String
    /// To what, `model/flight_delay/versions/3`.
    public let subject: String
    /// How the thing was before; `null` if it was not.
    public let before: JSONValue
    /// How it is now; `null` if it is no more.
    public let after: JSONValue
    /// A blob with what the decision rested on.
    public let evidence: ContentHash?

    /// Makes a record.
    public init(
        actor: String, action: String, subject: String, before: JSONValue = .null, after: JSONValue = .null,
        evidence: ContentHash? = nil
    ) {
        self.actor = actor
        self.action = action
        self.subject = subject
        self.before = before
        self.after = after
        self.evidence = evidence
    }
}

/// One link of the audit chain.
public struct AuditEntry: Sendable, Hashable {
    /// Place in the chain, from 1, without gaps.
    public let position: Int64
    /// When it was written; never before its predecessor.
    public let time: EventTime
    /// What was done.
    public let record: AuditRecord
    /// Hash of the entry before; 64 zeros for the first.
    public let previousHash: ContentHash
    /// SHA-256 over `canonicalBytes`.
    public let hash: ContentHash

    /// What the first entry names as its predecessor.
    public static let origin = ContentHash(bytes: [UInt8](repeating: 0, count: 32))

    /// Links a record to the chain and computes its hash.
    init(position: Int64, time: EventTime, record: AuditRecord, previousHash: ContentHash) {
        self.position = position
        self.time = time
        self.record = record
        self.previousHash = previousHash
        hash = ContentHasher.hash(
            Self.canonicalBytes(position: position, time: time, record: record, previousHash: previousHash))
    }

    /// The bytes that the hash covers: compact JSON with sorted members, everything but the hash.
    public var canonicalBytes: [UInt8] {
        Self.canonicalBytes(position: position, time: time, record: record, previousHash: previousHash)
    }

    /// The entry as one line of an export: its canonical bytes with `"hash"` as one more member at the end.
    ///
    /// A verifier cuts that member off and hashes what is left, so it need not write JSON the way we do.
    public var exportLine: [UInt8] { canonicalBytes.dropLast() + Array(",\"hash\":\"\(hash.hex)\"}".utf8) }

    private static func canonicalBytes(
        position: Int64, time: EventTime, record: AuditRecord, previousHash: ContentHash
    ) -> [UInt8] {
        let content: JSONValue = [
            "action": .string(record.action), "actor": .string(record.actor), "after": record.after,
            "before": record.before, "evidence": record.evidence.map { .string($0.hex) } ?? .null,
            "position": .integer(position), "previous": .string(previousHash.hex), "subject": .string(record.subject),
            "time": .string(time.description),
        ]
        return content.canonicalBytes
    }
}
