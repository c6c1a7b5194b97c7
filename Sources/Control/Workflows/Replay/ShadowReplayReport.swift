public import Definitions
public import PlatformCore
public import Statistics

/// What a candidate would have said to logged traffic, beside what was said.
public struct ShadowReplayReport: Sendable, Codable {
    /// A stretch of the span.
    public struct Bucket: Sendable, Codable {
        /// Its first moment.
        public let from: EventTime
        /// Pairs in it.
        public internal(set) var pairs = 0
        /// Sum of the answers given, and of the candidate's.
        var sums = [0.0, 0.0]
        /// Sum of their distances.
        var distance = 0.0

        /// Mean of the answers given.
        public var championMean: Double { pairs > 0 ? sums[0] / Double(pairs) : 0 }
        /// Mean of the candidate's.
        public var candidateMean: Double { pairs > 0 ? sums[1] / Double(pairs) : 0 }
        /// Mean distance between them.
        public var meanDifference: Double { pairs > 0 ? distance / Double(pairs) : 0 }
    }
    /// What labels say of both.
    public struct Labels: Sendable, Codable {
        /// Labelled pairs.
        public let pairs: Int
        /// What is compared.
        public let measure: OnlineMeasure
        /// Mean over the answers given.
        public let champion: Double
        /// Mean over the candidate's.
        public let candidate: Double
        /// Candidate − champion on the same answers, with a 95 % interval.
        public let difference: ConfidenceInterval?
        /// The same for the area under the ROC curve, on the first labelled pairs; `nil` where it has none.
        public let aucDifference: ConfidenceInterval?
        /// Whether the candidate is better, worse, or neither by the whole interval.
        public let verdict: String
    }
    /// Its identifier.
    public let id: String
    /// The model.
    public let model: Name
    /// The candidate.
    public let version: Int
    /// The versions whose answers were given.
    public internal(set) var champions: [Int: Int] = [:]
    /// The span of the log.
    public let from: EventTime
    /// Its end.
    public let to: EventTime
    /// When the records begin that there are, if that is later than `from`.
    public internal(set) var recordsFrom: EventTime?
    /// Which setting let earlier records go; `nil` if there never were any.
    public internal(set) var recordsWentBy: String?
    /// Who asked for it.
    public let actor: String
    /// Seconds that it took.
    public internal(set) var seconds = 0.0
    /// Logged predictions of the model that were looked at, without shadows.
    public internal(set) var read = 0
    /// Answers of both.
    public internal(set) var pairs = 0
    /// Rows that the candidate failed on.
    public internal(set) var failures = 0
    /// Rows that were not compared, by reason.
    public internal(set) var skipped: [String: Int] = [:]
    /// PSI of the candidate's answers against those given; `nil` with too few.
    public internal(set) var predictionPSI: Double?
    /// Share of pairs that decide otherwise: another class, or the other side of 0.5.
    public internal(set) var disagreement: Double?
    /// Mean distance of pairs.
    public internal(set) var meanDifference: Double?
    /// Median of scoring one row in milliseconds, on a sample of the rows.
    public internal(set) var scoreP50Milliseconds: Double?
    /// p99 of the same.
    public internal(set) var scoreP99Milliseconds: Double?
    /// p99 of scoring as it was logged for the answers given, in milliseconds.
    public internal(set) var championScoreP99Milliseconds: Double?
    /// What labels say; `nil` without any.
    public internal(set) var labels: Labels?
    /// Ends of the bins of `championBins` and `candidateBins`, which begin with what is no number and what is below.
    public internal(set) var edges: [Float] = []
    /// Answers given, by bin.
    public internal(set) var championBins: [Int] = []
    /// The candidate's answers, by bin.
    public internal(set) var candidateBins: [Int] = []
    /// The span in equal stretches.
    public internal(set) var buckets: [Bucket] = []
    /// Some pairs, spread over the span.
    public internal(set) var examples: [[Float]] = []
    /// What the guardrails of the deployment say of it, as they would of a live shadow.
    public internal(set) var checks: [RolloutCheck] = []

    init(id: String, model: Name, version: Int, from: EventTime, to: EventTime, actor: String) {
        self.id = id
        self.model = model
        self.version = version
        self.from = from
        self.to = to
        self.actor = actor
    }

    /// What to know of a span that the log does not cover; `nil` if it does.
    public var gap: String? {
        recordsFrom.map { moment in
            "no records before \(moment): "
                + (recordsWentBy.map { "they were let go under '\($0)'" } ?? "the log begins there")
        }
    }

    /// Whether no guardrail is broken.
    public var isPassed: Bool { pairs > 0 && !checks.contains { $0.verdict == .failed } }
}
