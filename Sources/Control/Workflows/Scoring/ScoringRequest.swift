public import Definitions
public import PlatformCore

/// A batch to be scored.
public struct ScoringRequest: Sendable, Hashable {
    /// Where the rows come from.
    public enum Rows: Sendable, Hashable {
        /// A Parquet file on the server that has the model's inputs already.
        case features(path: String)
        /// Questions from files, SQL or PostgreSQL; features are joined as they could have been known.
        case questions(SpineOrigin, eventTime: String)
        /// The rows of a source as questions: those of the partition's day if a day was named, else all.
        case source(Name)
    }
    /// The model.
    public var model: Name
    /// A version's number, an alias, a stage or `latest`; `nil` for the champion, or the newest version without one.
    public var version: String?
    /// The rows.
    public var rows: Rows
    /// The table of scores that a partition is written into.
    public var table: Name
    /// The partition's day; `nil` for today.
    public var date: String?
    /// What was not known by then is not used; `nil` for now.
    public var asOf: EventTime?
    /// Columns to keep; `nil` for keys and time, or of a file with features for all that are no inputs.
    public var kept: [String]?
    /// Whether a partition that is there is replaced.
    public var replaces = false
    /// Whether rows may end without a prediction.
    public var allowsMissing = false

    /// Makes a request.
    public init(model: Name, rows: Rows, table: Name) {
        self.model = model
        self.rows = rows
        self.table = table
    }

    /// What a partition's work is known by when it is asked for again.
    func identity(version: Int, artifact: String, date: String) -> JSONValue {
        let source: String =
            switch rows {
            case .features(let path): "features \(path)"
            case .questions(let origin, let time): "\(origin) \(time)"
            case .source(let name): "source \(name) \(self.date ?? "")"
            }
        return [
            "model": .string(model.text), "version": .integer(Int64(version)), "artifact": .string(artifact),
            "rows": .string(source), "date": .string(date),
            "as_of": asOf.map { .integer($0.milliseconds) } ?? .null,
            "keep": kept.map { .array($0.map(JSONValue.string)) } ?? .null, "nulls": .bool(allowsMissing),
        ]
    }
}

/// A partition of scores as its `_manifest.json` describes it.
public struct ScoredPartition: Sendable, Hashable, Codable {
    /// One file.
    public struct Part: Sendable, Hashable, Codable {
        /// Its name in the partition's folder.
        public let file: String
        /// Rows.
        public let rows: Int
        /// Size.
        public let bytes: Int
        /// Rows without a prediction.
        public let nulls: Int
    }
    /// A column of the files.
    public struct Column: Sendable, Hashable, Codable {
        /// Its name.
        public let name: String
        /// `int64`, `float64`, `bool`, `string`, `timestamp`.
        public let type: String
    }
    /// Something that was promised of the rows, and held.
    public struct Expectation: Sendable, Hashable, Codable {
        /// `rows_equal_input`, `predictions_present`, `schema`.
        public let name: String
        /// What was found.
        public let detail: String
    }
    /// The table of scores.
    public let table: String
    /// The day.
    public let date: String
    /// The model.
    public let model: String
    /// Its version.
    public let version: Int
    /// SHA-256 of the artifact that scored.
    public let artifact: String
    /// When.
    public let scoredAt: EventTime
    /// The training-set manifest of the features that were joined; `nil` for a file that brought them.
    public let features: String?
    /// Rows.
    public let rows: Int
    /// Files, in the order of the rows.
    public let parts: [Part]
    /// Columns of each.
    public let columns: [Column]
    /// What was promised and held.
    public let contract: [Expectation]
    /// What is likely not meant, for people: inputs without any value, values outside of a category's list.
    public let warnings: [String]?
    /// What was asked for.
    let request: JSONValue
    /// Size and time of change of the files that the rows came from; `nil` where they came from elsewhere.
    let files: JSONValue?
}

/// A partition, and where it is.
public struct ScoringOutcome: Sendable {
    /// The partition.
    public let partition: ScoredPartition
    /// Its folder.
    public let folder: String
    /// Parts that were there already, from a try that did not come to its end.
    public let resumedPartCount: Int
    /// Whether the whole partition was there already.
    public let isUnchanged: Bool
}
