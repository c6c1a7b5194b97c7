public import PlatformCore
public import Statistics

/// What versions of a model show on some data: stored as evidence, under the hash of its canonical JSON.
public struct ModelEvaluation: Sendable, Hashable, Codable {
    /// Where the rows come from.
    public struct Subject: Sendable, Hashable, Codable {
        /// Hash of a training set's manifest; `nil` for a file.
        public let dataset: ContentHash?
        /// Part of the training set, `test`; `nil` for a file.
        public let part: String?
        /// Hash of the rows' file.
        public let file: ContentHash
        /// Name of the file as it was given; `nil` for a training set.
        public let name: String?
        /// The label's column.
        public let label: String
        /// Rows with a label.
        public let rowCount: Int
        /// Rows without one, which are left out.
        public let rowCountWithoutLabel: Int
        /// What is likely not meant, for people: values outside of a category's list.
        public let warnings: [String]?

        enum CodingKeys: String, CodingKey {
            case dataset, part, file, name, label, warnings
            case rowCount = "rows"
            case rowCountWithoutLabel = "rows_without_label"
        }
    }

    /// One version on the rows.
    public struct Version: Sendable, Hashable, Codable {
        /// Its number.
        public let version: Int
        /// Hash of the artifact that was scored.
        public let artifact: ContentHash
        /// What it shows.
        public let report: EvaluationReport
        /// The run that holds its metrics; `nil` if they were not tracked.
        public var runID: String?

        enum CodingKeys: String, CodingKey {
            case version, artifact, report
            case runID = "run_id"
        }
    }

    /// Two versions on the same rows.
    public struct Comparison: Sendable, Hashable, Codable {
        /// The version that is judged.
        public let version: Int
        /// The version that it is compared with.
        public let against: Int
        /// Metric by metric, the judged version's value less the other's.
        public let differences: [MetricDifference]
    }

    /// The model.
    public let model: Name
    /// The rows.
    public let data: Subject
    /// The versions, the judged one first.
    public var versions: [Version]
    /// The judged version against each other one.
    public let comparisons: [Comparison]
    /// Who asked.
    public let actor: String
    /// When, by the platform's time.
    public let createdAt: EventTime

    enum CodingKeys: String, CodingKey {
        case model, data, versions, comparisons, actor
        case createdAt = "created_at"
    }
}

/// What to evaluate, and how; `nil` and empty lists stand for what the model's definition says.
public struct EvaluationRequest: Sendable {
    /// Rows to evaluate on.
    public enum Rows: Sendable {
        /// A part of a training set; `nil` for the one that the version was trained on.
        case dataset(ContentHash?, part: String)
        /// A file that was handed in.
        case file(ContentHash, format: EvaluationFile.Format, name: String)
    }
    /// The rows.
    public var rows = Rows.dataset(nil, part: "test")
    /// The judged version; `nil` for the champion, else the newest.
    public var version: Int?
    /// The versions it is compared with.
    public var others: [Int] = []
    /// The label's column.
    public var label: String?
    /// Columns by whose values metrics are repeated.
    public var slices: [String]?
    /// Columns whose groups are compared for fairness.
    public var protected: [String]?
    /// The column that says which rows belong to one query.
    public var query: String?
    /// What to measure.
    public var metrics: [EvaluationMetric]?
    /// Score from which a row is called positive.
    public var threshold: Double?
    /// Bins of calibration.
    public var binCount: Int?
    /// How the bins of the reliability curve are cut.
    public var binStrategy: ReliabilityBin.Strategy?
    /// Rows below which a slice is marked as small.
    public var smallBelow: Int?
    /// Draws of intervals; `nil` for as many as take a few seconds, at most 1,000.
    public var replicateCount: Int?
    /// Confidence of intervals.
    public var confidence = 0.95
    /// Where the draws start.
    public var seed: UInt64 = 0
    /// Whether metrics are written to runs of the tracking store.
    public var isTracked = true

    /// Everything as usual.
    public init() {}
}
