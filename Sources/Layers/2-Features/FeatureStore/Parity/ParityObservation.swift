public import PlatformCore

/// What one view answered for one entity at one moment: what the offline engine must find again.
public struct ParityObservation: Sendable, Hashable {
    /// One value as it was served.
    public struct Value: Sendable, Hashable {
        /// The feature's name within the view.
        public let feature: String
        /// What was served.
        ///
        /// A prediction's input is a double whatever the feature's type: see `isNumber`.
        public let value: CellValue
        /// Makes a value.
        public init(feature: String, value: CellValue) {
            self.feature = feature
            self.value = value
        }
    }
    /// Where it was seen: a prediction's identifier, or `probe`.
    public let origin: String
    /// A value, or nil, for each join key of the view, in the view's order.
    public let keys: [String?]
    /// Moment of the answer.
    public let time: EventTime
    /// Whether values are a model's inputs: doubles, with null for a missing value.
    public let isNumber: Bool
    /// What was served.
    public let values: [Value]

    /// Makes an observation.
    public init(origin: String, keys: [String?], time: EventTime, isNumber: Bool, values: [Value]) {
        self.origin = origin
        self.keys = keys
        self.time = time
        self.isNumber = isNumber
        self.values = values
    }
}

/// A served value that the offline engine computes differently.
public struct ParityDifference: Sendable, Hashable, Codable {
    /// The view; `service/x` for a feature that the service computes on demand.
    public let view: String
    /// The feature within the view or service.
    public let feature: String
    /// A prediction's identifier, or `probe`.
    public let origin: String
    /// Join key values by name; an unknown one is left out.
    public let keys: [String: String]
    /// Moment of the answer.
    public let time: EventTime
    /// What was served, as JSON text; `null` for a missing value.
    public let served: String
    /// What the offline engine finds for that moment.
    public let offline: String
    /// What would explain it, if one of the usual causes does.
    public let explanation: String?
}

/// How one feature of one version did.
public struct FeatureParity: Sendable, Hashable, Codable {
    /// The view; `service/x` for a feature that the service computes on demand.
    public let view: String
    /// The feature within the view or service.
    public let feature: String
    /// The version that served, `paid.v1a2b3c4d`; `nil` in certificates of before versions were told apart.
    public let version: String?
    /// Values compared.
    public internal(set) var compared: Int
    /// Values that differ.
    public internal(set) var different: Int
    /// Values that differ because a row was acknowledged in the very moment of the answer.
    ///
    /// They are equal as of a moment earlier by the certificate's allowance, and are not counted as different.
    public internal(set) var inFlight: Int
    /// Values that were null on both sides.
    public internal(set) var null: Int

    /// Nothing compared yet.
    init(view: String, feature: String, version: String) {
        self.view = view
        self.feature = feature
        self.version = version
        (compared, different, inFlight, null) = (0, 0, 0, 0)
    }
}

/// The evidence that served values are those that training sets hold: what was compared, and what differed.
public struct ParityCertificate: Sendable, Hashable, Codable {
    /// When it was made.
    public let time: EventTime
    /// What it is about: `service/x`, `view/x`, `model/x` or `all`.
    public let scope: String
    /// Versions in force of the views that were compared, by name; `features` names the older ones too.
    public let viewVersions: [String: ContentHash]
    /// Delta version of each table that was read.
    public let tableVersions: [String: Int64]
    /// The engine that computed the values again.
    public let engine: String
    /// Answers that were sampled from the prediction log.
    public let predictions: Int
    /// Answers that were asked for the purpose.
    public let probes: Int
    /// Sampled answers of which something could not be computed again.
    public let skipped: Int
    /// Why, with how many answers each reason left something out of.
    public let leftOut: [String: Int]?
    /// Sampled answers left out because rows that they need have left their table; `nil` for none.
    public var beyondRetention: Int?
    /// How long before an answer a row may have been acknowledged and not yet been in it.
    public let inFlightAllowance: TimeSpan
    /// The features in the order of their views, the versions in force first.
    public let features: [FeatureParity]
    /// The first differences, at most `ParityChecker.differenceCountMax`.
    public let differences: [ParityDifference]

    /// Values compared.
    public var compared: Int { features.reduce(0) { $0 + $1.compared } }
    /// Values that differ.
    public var different: Int { features.reduce(0) { $0 + $1.different } }
    /// Values explained by rows in flight.
    public var inFlight: Int { features.reduce(0) { $0 + $1.inFlight } }
    /// Features without a single comparison: the certificate says nothing of them.
    public var uncovered: [FeatureParity] { features.filter { $0.compared == 0 } }
    /// Whether everything that was compared is equal, and something was.
    public var holds: Bool { compared > 0 && different == 0 }

    /// Makes a certificate of what the checker found.
    public init(
        time: EventTime, scope: String, viewVersions: [String: ContentHash], tableVersions: [String: Int64],
        engine: String, predictions: Int, probes: Int, skipped: Int, leftOut: [String: Int],
        inFlightAllowance: TimeSpan,
        features: [FeatureParity], differences: [ParityDifference]
    ) {
        self.time = time
        self.scope = scope
        self.viewVersions = viewVersions
        self.tableVersions = tableVersions
        self.engine = engine
        self.predictions = predictions
        self.probes = probes
        self.skipped = skipped
        self.leftOut = leftOut
        self.inFlightAllowance = inFlightAllowance
        self.features = features
        self.differences = differences
    }
}
