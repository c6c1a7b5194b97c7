public import PlatformCore
public import StoragePorts

/// Experiments, runs, their measurements and their files.
///
/// Values live in the metadata store, one transaction per call; the bytes of artifacts live in the object store, named
/// by their hash and stored once however often they are logged. Metrics are written to a journal first and are put into
/// the metadata store many at a time; every read sees them from the moment of the answer on. What a call acknowledged
/// survives a crash.
public struct TrackingStore: Sendable {
    let metadata: any MetadataStore
    let journal: any Journal
    let tail = MetricTail()
    let foldGate = FoldGate()
    let activeRuns = ActiveRuns()
    let uploads = ArtifactUploads()
    /// Makes and reads page tokens.
    public let pageSeal = PageSeal()
    let content: ContentStore
    let clock: any PlatformClock
    let identifiers: IdentifierSource

    let foldDelayMilliseconds: Int

    /// Most points that wait to be folded before a call folds them itself.
    static let waitingPointCountMax = 200_000

    /// Keeps values in `metadata`, bytes in `objects`, and metrics in `journal` until they are in `metadata`.
    ///
    /// Call `prepare` before anything else, and keep `run` running.
    ///
    /// - Parameter foldDelayMilliseconds: how long new metrics wait for more before they are folded.
    public init(
        metadata: any MetadataStore, objects: any ObjectStore, journal: any Journal, clock: any PlatformClock,
        identifiers: IdentifierSource, foldDelayMilliseconds: Int = 1000
    ) {
        self.metadata = metadata
        self.journal = journal
        self.foldDelayMilliseconds = foldDelayMilliseconds
        content = ContentStore(base: objects)
        self.clock = clock
        self.identifiers = identifiers
    }

    /// Brings the schema up to date, reads what the journal keeps and makes the experiment `Default`.
    public func prepare() async throws {
        try await metadata.migrate(Self.migrations)
        try await prepareSeal()
        try await recoverMetrics()
        try await foldOlderHistories()
        let isThere = try await metadata.read { transaction in
            try !transaction.query("SELECT number FROM tracking_experiment WHERE number = 0").isEmpty
        }
        if isThere { return }
        let now = clock.now()
        try await metadata.write { transaction in
            _ = try transaction.execute(
                """
                INSERT INTO tracking_experiment (number, name, artifact_location, is_deleted, created_at, updated_at)
                VALUES (0, 'Default', 'mlflow-artifacts:/0', 0, ?, ?) ON CONFLICT (number) DO NOTHING
                """, [MetadataValue(now), MetadataValue(now)])
        }
    }

    /// The present moment by the store's clock.
    public var now: EventTime { clock.now() }

    /// 32 hexadecimal digits that nobody else has; they rise with time.
    func newIdentifier() -> String { identifiers.next().replacing("-", with: "") }
}

/// Longest accepted texts, those of MLflow's own server, in characters.
public enum TrackingLimits {
    /// Name of an experiment.
    public static let experimentName = 500
    /// Key of a metric, parameter or tag.
    public static let key = 250
    /// Value of a run's parameter; what is longer is cut.
    public static let paramValue = 6000
    /// Value of a run's tag; what is longer is cut.
    public static let runTagValue = 8000
    /// Value of a logged model's parameter.
    public static let modelParamValue = 100_000
    /// Value of an experiment's tag.
    public static let experimentTagValue = 20_000
    /// Name of a dataset.
    public static let datasetName = 500
    /// Digest of a dataset.
    public static let datasetDigest = 36
    /// Metrics in one batch.
    public static let metricsPerBatch = 1000
    /// Parameters in one batch.
    public static let paramsPerBatch = 100
    /// Tags in one batch.
    public static let tagsPerBatch = 100
    /// Metrics, parameters and tags in one batch.
    public static let entitiesPerBatch = 1000

    /// Checks a key of a metric, a parameter or a tag.
    static func check(key: String, of what: String) throws(PlatformError) {
        guard !key.isEmpty else { throw PlatformError(.invalidInput, what, "the name is empty") }
        try check(key, atMost: Self.key, what: "name of a \(what)")
        if let fault = PathKey.fault(in: key) {
            throw PlatformError(.invalidInput, what, "the name '\(key.prefix(64))' \(fault)")
        }
    }

    /// Checks a key where the reference server takes any text.
    static func check(freeKey key: String, of what: String) throws(PlatformError) {
        guard !key.isEmpty else { throw PlatformError(.invalidInput, what, "the name is empty") }
        try check(key, atMost: Self.key, what: "name of a \(what)")
        guard !key.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7F }) else {
            throw PlatformError(.invalidInput, what, "the name holds a control character")
        }
    }

    /// A run's parameter as it is kept: a longer value is cut, as the reference server does unless told otherwise; a run does
    /// not fail for it.
    static func kept(param: TrackedTag) -> TrackedTag { kept(param, paramValue) }

    /// A run's tag as it is kept.
    static func kept(runTag tag: TrackedTag) -> TrackedTag { kept(tag, runTagValue) }

    private static func kept(_ pair: TrackedTag, _ limit: Int) -> TrackedTag {
        guard pair.value.utf8.count > limit, pair.value.unicodeScalars.count > limit else { return pair }
        return TrackedTag(pair.key, String(String.UnicodeScalarView(pair.value.unicodeScalars.prefix(limit))))
    }

    static func check(_ text: String, atMost limit: Int, what: String) throws(PlatformError) {
        guard text.utf8.count <= limit || text.unicodeScalars.count <= limit else {
            throw PlatformError(
                .invalidInput, what, "it is \(text.unicodeScalars.count) characters long, \(limit) are accepted")
        }
    }
}

extension MetadataTransaction {
    /// Rows of a query that ends in `IN (…)`, asked in portions that any database takes.
    func query(_ sql: String, in values: [MetadataValue], then rest: String = "") throws -> [MetadataRow] {
        var rows: [MetadataRow] = []
        var at = 0
        while at < values.count {
            let portion = Array(values[at..<min(at + 500, values.count)])
            let marks = String(repeating: "?,", count: portion.count).dropLast()
            rows += try query("\(sql) IN (\(marks)) \(rest)", portion)
            at += portion.count
        }
        return rows
    }

    /// One more than the greatest number in a table.
    func nextNumber(in table: String) throws -> Int64 {
        try query("SELECT COALESCE(MAX(number), 0) + 1 AS next FROM \(table)").first?.integer("next") ?? 1
    }
}

extension MetadataRow {
    func time(_ column: String) -> EventTime { EventTime(milliseconds: integer(column)) }
    func optionalTime(_ column: String) -> EventTime? {
        self[column].integerValue.map(EventTime.init(milliseconds:))
    }
    func flag(_ column: String) -> Bool { integer(column) != 0 }
    func metric() -> Metric {
        Metric(
            text("key"), flag("is_nan") ? .nan : self["value"].doubleValue ?? 0, measuredAt: time("measured_at"),
            step: integer("step"), modelID: self["model_id"].textValue.flatMap { $0.isEmpty ? nil : $0 },
            datasetName: self["dataset_name"].textValue.flatMap { $0.isEmpty ? nil : $0 },
            datasetDigest: self["dataset_digest"].textValue.flatMap { $0.isEmpty ? nil : $0 })
    }
    func tag() -> TrackedTag { TrackedTag(text("key"), text("value")) }
}
