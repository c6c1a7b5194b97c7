import ContentHashing
public import PlatformCore

/// What a training set is: everything that decides its bytes, and the bytes' hashes.
///
/// Two builds with equal manifests hold equal data. How long a build took is not part of it.
public struct DatasetManifest: Sendable, Hashable, Codable {
    /// What a column is for.
    public enum Role: String, Sendable, Hashable, Codable {
        /// Names the question: its moment and its place in the log.
        case question
        /// Input that the caller sends with a request.
        case request
        /// Input computed from a view.
        case feature
        /// What is to be predicted.
        case label
    }

    /// One column, in the order of the files.
    public struct Column: Sendable, Hashable, Codable {
        /// Its name: `view__feature` for a view's.
        public let name: String
        /// What it is for.
        public let role: Role
        /// `float64`, `int64`, `bool`, `string` as in definitions; moments are int64 milliseconds; `category` for a request
        /// feature of a fixed list.
        public let type: String
        /// Values of a category, in the order whose positions a model sees.
        public let categories: [String]?
        /// View version that a feature comes from.
        public let viewVersion: String?
    }

    /// One slice: one Parquet file.
    public struct Slice: Sendable, Hashable, Codable {
        /// `train`, `validation` or `test`.
        public let name: String
        /// Rows.
        public let rows: Int
        /// Share of rows whose label is above 0; `nil` for no rows.
        public let positiveShare: Double?
        /// Moment of the first question.
        public let firstEventTime: EventTime?
        /// Moment of the last question.
        public let lastEventTime: EventTime?
        /// SHA-256 of the file, its key in the content store.
        public let part: ContentHash
        /// Size of the file.
        public let byteCount: Int
    }

    /// Questions that came from outside of the sources, as they were read.
    public struct Spine: Sendable, Hashable, Codable {
        /// `files`, `sql` or `postgres`.
        public let origin: String
        /// Rows.
        public let rows: Int
        /// SHA-256 of the file that they were written to, its key in the content store.
        public let part: ContentHash
        /// Size of the file.
        public let byteCount: Int
    }

    /// The training set.
    public let trainingSet: Name
    /// The service.
    public let service: Name
    /// Hash of the service's meaning.
    public let serviceVersion: ContentHash
    /// Hash of the meaning of each view.
    public let viewVersions: [String: ContentHash]
    /// Delta version of each table that was read.
    public let tableVersions: [String: Int64]
    /// First moment of a question.
    public let from: EventTime
    /// First moment after the questions.
    public let to: EventTime
    /// Rows that were not known before this moment were not used.
    public let asOf: EventTime
    /// The questions, if they came from outside.
    public var spine: Spine?
    /// Name of the label column; `nil` for a set without labels.
    public let label: String?
    /// All columns, in the order of the files.
    public let columns: [Column]
    /// Train, validation, test.
    public let slices: [Slice]
    /// Questions found, those without a label included.
    public let questions: Int
    /// Questions dropped because no label was known.
    public let questionsWithoutLabel: Int
    /// The engine that computed it: its version decides how bytes are laid out.
    public let engine: String

    /// The manifest as JSON.
    public var json: JSONValue {
        // Every member is a JSON type, so writing cannot fail.
        (try? JSONValue.of(self)) ?? .null
    }
    /// The bytes that the dataset's hash is the hash of.
    public var canonicalBytes: [UInt8] { json.canonicalBytes }
    /// The dataset's name: SHA-256 of `canonicalBytes`.
    public var hash: ContentHash { ContentHasher.hash(canonicalBytes) }
    /// Rows of all slices.
    public var rows: Int { slices.reduce(0) { $0 + $1.rows } }
    /// The slice called `name`.
    public func slice(_ name: String) -> Slice? { slices.first { $0.name == name } }
    /// Inputs of the model, in order.
    public var inputs: [Column] { columns.filter { $0.role == .request || $0.role == .feature } }
}

/// A finished build.
public struct DatasetBuild: Sendable {
    /// What was built.
    public let manifest: DatasetManifest
    /// Its hash; the manifest's bytes are stored under it too.
    public let hash: ContentHash
    /// How long it took.
    public let seconds: Double
    /// What is likely not meant, for people: inputs without any value, values outside of a category's list.
    public let warnings: [String]
}

/// How far a build is.
public struct DatasetProgress: Sendable, Hashable {
    /// Steps done.
    public let done: Int
    /// Steps in all.
    public let total: Int
    /// What happens now, for people.
    public let message: String
}
