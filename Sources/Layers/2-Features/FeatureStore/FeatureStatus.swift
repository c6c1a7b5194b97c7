public import PlatformCore

/// What is known of one feature's value at the moment of a question.
public enum FeatureStatus: UInt8, Sendable, Codable, CaseIterable {
    /// There is a value.
    case present = 0
    /// The entity is known, the value is null.
    case nullValue = 1
    /// No event of the entity is visible.
    case notFound = 2
    /// The newest visible event is older than the view's time to live.
    case outsideMaxAge = 3
    /// The caller sent the value with the request.
    case request = 4

    /// The word for it in answers and logs, `OUTSIDE_MAX_AGE`.
    public var text: String {
        switch self {
        case .present: "PRESENT"
        case .nullValue: "NULL_VALUE"
        case .notFound: "NOT_FOUND"
        case .outsideMaxAge: "OUTSIDE_MAX_AGE"
        case .request: "REQUEST"
        }
    }
}

/// The features of one view or service for one entity, with everything that explains them.
public struct EntityFeatures: Sendable, Hashable {
    /// Values in the order of `OnlineFeatures.names`.
    public internal(set) var values: [CellValue]
    /// A status for each value.
    public internal(set) var statuses: [FeatureStatus]
    /// For each value, the event time of the newest visible event of the entity in that view; `nil` if there is none, and
    /// for a value computed on demand.
    public internal(set) var eventTimes: [EventTime?]
    /// For each value, how many milliseconds before the answer it was computed: 0 unless it came from the cache.
    public internal(set) var staleness: [Int64]

    init(count: Int) {
        values = Array(repeating: .null, count: count)
        statuses = Array(repeating: .notFound, count: count)
        eventTimes = Array(repeating: nil, count: count)
        staleness = Array(repeating: 0, count: count)
    }
}

/// An answer about several entities.
public struct OnlineFeatures: Sendable, Hashable {
    /// Names of the features: plain for a view; for a service `view__feature`, then those computed on demand.
    public let names: [String]
    /// One entry for each asked entity, in order.
    public let entities: [EntityFeatures]
    /// The moment of the question: the age of a value is the time from its event to then.
    public let time: EventTime
}
