public import PlatformCore

/// That records of the log were let go because they were old.
public struct LogRelease: Sendable, Hashable {
    /// When they went.
    public let time: EventTime
    /// The latest time of the records that went.
    public let upTo: EventTime
    /// The setting that let them go, `predictions.retention: 90d`.
    public let rule: String

    /// Makes it.
    public init(time: EventTime, upTo: EventTime, rule: String) {
        self.time = time
        self.upTo = upTo
        self.rule = rule
    }
}
