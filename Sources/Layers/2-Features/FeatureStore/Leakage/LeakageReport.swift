public import PlatformCore

/// Something in a training set that a model could not know when it predicts, or that flatters it when it is judged.
public struct LeakageFinding: Sendable, Hashable, Codable {
    /// What is wrong.
    public enum Kind: String, Sendable, Hashable, Codable, CaseIterable {
        /// Values that are only right with rows that were not known at the moment of the question.
        case unknownAtTheTime = "unknown_at_the_time"
        /// A view over the label's source sees the row that is the question's own label.
        case ownLabel = "own_label"
        /// One input alone predicts the label better than anything honest does.
        case implausiblePower = "implausible_power"
        /// A moment in an input lies after the question.
        case futureMoment = "future_moment"
        /// Rows of the test slice stand in the training slice too.
        case repeatedRows = "repeated_rows"
        /// The same entities are in several slices of a split that is not by time.
        case sharedEntities = "shared_entities"
    }
    /// How sure it is.
    public enum Severity: String, Sendable, Hashable, Codable {
        /// A model trained on it will disappoint.
        case leak
        /// It may be meant; look at it.
        case warning
    }
    /// What is wrong.
    public let kind: Kind
    /// How sure it is.
    public let severity: Severity
    /// The input, or the slice.
    public let subject: String
    /// The measured share of rows, or AUC.
    public let observed: Double
    /// In a sentence, for people.
    public let detail: String
    /// What to do.
    public let advice: String
}

/// What was looked for in a training set, and found.
public struct LeakageReport: Sendable, Hashable, Codable {
    /// The training set.
    public let dataset: ContentHash
    /// Rows that were looked at for values, the same in two runs.
    public let rows: Int
    /// What was looked for.
    public let checks: [LeakageFinding.Kind]
    /// What was found, the worst first.
    public let findings: [LeakageFinding]
    /// The inputs that say most of the label by themselves, for people: area under the ROC curve, out of fold.
    public let power: [String: Double]

    /// Whether nothing was found that is certainly a leak.
    public var isClean: Bool { !findings.contains { $0.severity == .leak } }
}
