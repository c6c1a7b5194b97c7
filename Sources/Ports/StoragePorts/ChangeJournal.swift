public import PlatformCore

/// A change that must be provable later: who did what to which thing, and how the thing was before and after.
public struct RecordedChange: Sendable, Hashable {
    /// Who did it: a person, or a part of the platform.
    public let actor: String
    /// What was done, `model.stage.changed`.
    public let action: String
    /// To what, `model/flight_delay/versions/3`.
    public let subject: String
    /// How the thing was before; `null` if it was not.
    public let before: JSONValue
    /// How it is now; `null` if it is no more.
    public let after: JSONValue
    /// A blob with what the decision rested on.
    public let evidence: ContentHash?
    /// When.
    public let time: EventTime

    /// Describes a change.
    public init(
        actor: String, action: String, subject: String, before: JSONValue = .null, after: JSONValue = .null,
        evidence: ContentHash? = nil, time: EventTime
    ) {
        self.actor = actor
        self.action = action
        self.subject = subject
        self.before = before
        self.after = after
        self.evidence = evidence
        self.time = time
    }
}

/// Keeps what a layer changed, in the very transaction that changes it: both are there, or neither.
public protocol ChangeJournal: Sendable {
    /// Keeps a change.
    func record(_ change: RecordedChange, in transaction: any MetadataTransaction) throws
}

/// A journal that keeps nothing, for tests and tools.
public struct SilentJournal: ChangeJournal {
    /// Makes one.
    public init() {}
    /// Does nothing.
    public func record(_ change: RecordedChange, in transaction: any MetadataTransaction) throws {}
}
