import ContentHashing
public import Expressions
public import PlatformCore

/// How events in a window become one value.
///
/// Meaning: `docs/semantics.md`.
public enum AggregateFunction: String, Sendable, Codable, CaseIterable {
    /// Events, or with a column, events where it is not null.
    case count
    /// Exact sum.
    case sum
    /// Exact sum divided once by the count.
    case mean
    /// Smallest.
    case min
    /// Largest.
    case max
    /// Value of the newest event, null if that event's value is null.
    case last
    /// Value of the oldest event in the window.
    case first
    /// Population standard deviation.
    case stddev
    /// How many different values.
    case distinctCount = "distinct_count"
    /// How many different values: exact while they are few, an estimate with a known error beyond (`DistinctEstimate`).
    case approxCountDistinct = "approx_count_distinct"
    /// The most frequent value; of equally frequent ones that whose newest event is newest.
    case mode
    /// The newest values, newest first.
    case lastN = "last_n"
    /// The newest different values, each at its newest event, newest first.
    case lastNDistinct = "last_n_distinct"
    /// One feature of the same view divided by another.
    case ratio

    /// Whether nothing counts as 0 instead of null.
    public var countsNothingAsZero: Bool {
        switch self {
        case .count, .distinctCount, .approxCountDistinct: true
        default: false
        }
    }
    /// Whether the value is a list.
    public var isList: Bool { self == .lastN || self == .lastNDistinct }
    /// Whether it asks how many different values there are.
    public var countsValues: Bool { self == .distinctCount || self == .approxCountDistinct }
    /// Whether it asks which values are equal.
    public var comparesValues: Bool {
        switch self {
        case .distinctCount, .approxCountDistinct, .mode, .lastNDistinct: true
        default: false
        }
    }
}

/// Two features of the same view whose quotient is a third.
public struct RatioDefinition: Sendable, Hashable {
    /// Name of the dividend.
    public let numerator: String
    /// Name of the divisor.
    public let denominator: String

    /// Makes a ratio.
    public init(numerator: String, denominator: String) {
        self.numerator = numerator
        self.denominator = denominator
    }
}

/// One feature of a view.
public struct FeatureDefinition: Sendable, Hashable {
    /// Most values that a list feature may hold.
    public static let listCountMax = 1000

    /// Its name within the view.
    public let name: String
    /// How events become a value.
    public let aggregate: AggregateFunction
    /// The column it reads, of the source or derived; `nil` for `ratio`, and for a `count` of events.
    public let column: String?
    /// The window; `nil` means all history (`last`), or that of other features (`ratio`).
    public let window: TimeSpan?
    /// What a `ratio` divides.
    public let ratio: RatioDefinition?
    /// Most values of a list; 1 for any other feature.
    public let countMax: Int
    /// Type of the value: that of the column for `min`, `max`, `last`, `first`, `mode`, int64 for counts, float64 otherwise.
    public let type: ColumnType
    /// Type of a list's elements; that of the value for any other feature.
    public let elementType: ColumnType
    /// For people.
    public let description: String
    /// Which rows count; `nil` for all.
    public internal(set) var condition: Expression? = nil
    /// The derived column that is null where `condition` does not hold.
    var maskedColumn: String? = nil
    /// Of `last` and `first`, the derived column that is true where `condition` holds and null elsewhere.
    public internal(set) var gateColumn: String? = nil
    /// Of `approx_count_distinct`, the logarithm to base 2 of the number of its registers.
    public internal(set) var precision: Int? = nil
    /// Of `approx_count_distinct`, the derived column with the coupon of each value (`DistinctEstimate`).
    public internal(set) var couponColumn: String? = nil
    /// The column of `FeatureViewDefinition.columns(of:)` to aggregate; `nil` to count events.
    public var inputColumn: String? { maskedColumn ?? column }
}

/// Features computed from one source for one kind of entity.
public struct FeatureViewDefinition: Sendable, Hashable {
    /// Its name.
    public let name: Name
    /// Entities whose keys, joined in order, are the view's key.
    public let entities: [Name]
    /// Source columns of the join key: the keys of `entities`, in order.
    public let joinKeys: [String]
    /// Source it reads.
    public let source: Name
    /// The features.
    public let features: [FeatureDefinition]
    /// Age of the newest event beyond which every value is absent; `nil` for no limit.
    public let timeToLive: TimeSpan?
    /// Whether an event at the very moment of the question counts (Feast's meaning) instead of one at the window's far edge.
    public let inclusive: Bool
    /// How long after it happened an event may become known and still count; `nil` for no limit.
    public let lateness: TimeSpan?
    /// For people.
    public let description: String
    /// Team that owns it.
    public let owner: String
    /// Hash of the meaning: of these features over that source's times and columns.
    ///
    /// A change makes a new version.
    public let version: ContentHash
    /// How old an answer about an entity may be, so that it can be remembered; `nil` leaves it to the configuration.
    ///
    /// It says how values are served, not what they are, so it makes no new version.
    public internal(set) var maxStaleness: TimeSpan? = nil
    /// Columns computed from the source's rows, in order; features read them by name.
    public internal(set) var derivedColumns: [DerivedColumnDefinition] = []

    /// `name@` and the first 8 digits of the version: the name of the view version in the online store.
    public var versionName: Name { Self.versionName(name, version) }
    /// The same for any version of a view.
    public static func versionName(_ view: Name, _ version: ContentHash) -> Name {
        guard let versionName = Name("\(view.text).v\(version.hex.prefix(8))") else {
            preconditionFailure("a view's name leaves room for its version")
        }
        return versionName
    }
    /// Longest window or time to live that its state must cover; `nil` when a feature reads all history.
    public var reach: TimeSpan? {
        var longest = timeToLive ?? TimeSpan(milliseconds: 0)
        for feature in features {
            if let window = feature.window { longest = Swift.max(longest, window) }
        }
        return features.contains { $0.window == nil && $0.ratio == nil } && timeToLive == nil ? nil : longest
    }
}

/// A feature that the caller sends with the request, and that a training set takes from the spine.
public struct RequestFeatureDefinition: Sendable, Hashable {
    /// What it may be.
    public enum Kind: Sendable, Hashable {
        /// A number within closed bounds; either may be open.
        case number(minimum: Double?, maximum: Double?)
        /// Text among these; the model sees the position in this list.
        case category([String])
    }
    /// Its name, in the request, in the spine source, and in the model's signature.
    public let name: String
    /// What it may be.
    public let kind: Kind
    /// Whether it may be left out.
    public let nullable: Bool
}

/// A feature of a view as a service serves it.
public struct ServedFeature: Sendable, Hashable {
    /// The view.
    public let view: Name
    /// The feature's name within the view.
    public let feature: String
    /// The name that training sets, models and requests use: `view__feature`.
    public var servedName: String { "\(view.text)__\(feature)" }
    /// Makes a reference.
    public init(view: Name, feature: String) {
        self.view = view
        self.feature = feature
    }
}

/// The features one model reads, in the order in which it reads them: request features first, then views.
public struct FeatureServiceDefinition: Sendable, Hashable {
    /// Its name.
    public let name: Name
    /// Sent with the request.
    public let request: [RequestFeatureDefinition]
    /// Read from views; those of included services come first.
    public let features: [ServedFeature]
    /// Join keys a caller must name, sorted: the union of the views' keys.
    public let joinKeys: [String]
    /// For people.
    public let description: String
    /// Team that owns it.
    public let owner: String
    /// Hash of the meaning, the versions of the views included.
    public let version: ContentHash

    /// Computed from the others; they come last.
    public internal(set) var onDemand: [OnDemandFeatureDefinition] = []

    /// Names in the order of the model's input.
    public var inputNames: [String] { request.map(\.name) + features.map(\.servedName) + onDemand.map(\.name) }

    /// Values of the categories among the inputs, by position; a row holds their places in these lists.
    public var categories: [Int: [String]] {
        var result: [Int: [String]] = [:]
        for (position, feature) in request.enumerated() {
            if case .category(let values) = feature.kind { result[position] = values }
        }
        return result
    }
}

extension FeatureServiceDefinition {
    /// The service of one feature of a view, for reading it by itself.
    public init(reading feature: ServedFeature, of view: FeatureViewDefinition) {
        self.init(
            name: feature.view, request: [], features: [feature], joinKeys: view.joinKeys.sorted(), description: "",
            owner: "", version: view.version)
    }

    /// The service of columns that a model reads as they stand in a table: numbers, and texts among given values.
    ///
    /// - Parameter columns: in the model's order, each name once; `values` is `nil` for a number.
    public init(of columns: [(name: String, values: [String]?)], called name: Name) {
        let request = columns.map { column in
            RequestFeatureDefinition(
                name: column.name,
                kind: column.values.map { .category($0) } ?? .number(minimum: nil, maximum: nil), nullable: true)
        }
        let meaning = JSONValue.array(
            columns.map { .array([.string($0.name)] + ($0.values ?? []).map(JSONValue.string)) })
        self.init(
            name: name, request: request, features: [], joinKeys: [], description: "", owner: "",
            version: ContentHasher.hash(meaning.canonicalBytes))
    }
}
