/// The topics of the event log and who writes them.
public enum PlatformTopic {
    /// Every answered prediction and shadow; written by serving.
    public static let predictions = Name(static: "predictions")
    /// Labels as they arrive; written by serving.
    public static let labels = Name(static: "labels")
    /// Changes of jobs, registry, deployments, definitions; written by the platform process.
    public static let platform = Name(static: "platform")
    /// Closed windows and alerts; written by the monitor process.
    public static let monitoring = Name(static: "monitoring")
    /// Rows of a source.
    public static func source(_ source: Name) -> Name { joined("source", source) }
    /// Rows that a source's contract refused.
    public static func quarantine(_ source: Name) -> Name { joined("quarantine", source) }

    private static func joined(_ prefix: String, _ name: Name) -> Name {
        guard let topic = Name("\(prefix).\(name.text)") else { preconditionFailure("a source's name leaves room") }
        return topic
    }
}

/// News that travels up through the log: what happened, to what, when, by whom.
public struct PlatformEvent: Sendable, Hashable, Codable {
    /// What happened, `model.stage.changed`, `monitor.alert.raised`.
    public let kind: String
    /// The thing, `model/flight_delay/versions/3`.
    public let subject: String
    /// When.
    public let time: EventTime
    /// Who, or which part of the platform.
    public let actor: String
    /// Details; the kind says which.
    public let details: JSONValue

    /// Makes an event.
    public init(kind: String, subject: String, time: EventTime, actor: String, details: JSONValue) {
        self.kind = kind
        self.subject = subject
        self.time = time
        self.actor = actor
        self.details = details
    }
}
