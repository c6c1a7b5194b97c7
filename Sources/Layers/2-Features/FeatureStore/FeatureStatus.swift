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

/// The features of one view for one entity, with everything that explains them.
public struct EntityFeatures: Sendable, Hashable {
    /// Values in the order of `OnlineFeatures.names`.
    public let values: [CellValue]
    /// A status for each value.
    public let statuses: [FeatureStatus]
    /// For each value, the event time of the newest visible event of the entity in that view; `nil` if there is none.
    public let eventTimes: [EventTime?]
}

/// An answer about several entities.
public struct OnlineFeatures: Sendable, Hashable {
    /// Names of the features: plain for a view, `view__feature` for a service.
    public let names: [String]
    /// One entry for each asked entity, in order.
    public let entities: [EntityFeatures]
}
