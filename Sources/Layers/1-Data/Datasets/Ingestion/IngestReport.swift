public import PlatformCore

/// What became of pushed rows.
public struct IngestReport: Sendable, Hashable {
    /// One refused row of a push.
    public struct Rejection: Sendable, Hashable {
        /// Its position in the push, from 1.
        public let position: Int
        /// Why.
        public let reasons: [String]
    }
    /// Refused rows that a report names one by one, at most.
    public static let rejectionCountMax = 100

    /// Rows now in the log that were not there before.
    public var accepted = 0
    /// Rows that broke the contract; they are in quarantine.
    public var quarantined = 0
    /// Rows that were in the log already: same key, same content.
    public var duplicates = 0
    /// Quarantined rows by reason.
    ///
    /// A row with two reasons counts under both; at most 100 reasons are told apart.
    public var reasons: [String: Int] = [:]
    /// Accepted rows that break an expectation of severity `warn`, by reason.
    public var warnings: [String: Int] = [:]
    /// Columns that the schema does not name and that were dropped.
    public var ignoredColumns: [String] = []
    /// Rows that the source's sample leaves out.
    public var sampledOut = 0
    /// Rows that the source's filter leaves out.
    public var filtered = 0
    /// What differs from the schema, and what was done about it, each in one sentence.
    public var schemaChanges: [String] = []
    /// The first refused rows of a push.
    public var rejected: [Rejection] = []
    /// Bytes of memory that remembering it takes, about.
    var memoryByteCount: Int {
        rejected.reduce(512) { $0 + $1.reasons.reduce(64) { $0 + $1.utf8.count } }
    }
    /// SHA-256 of the push that an idempotency key was first used for.
    var requestHash: String?

    /// An empty report.
    public init() {}

    /// The report as the HTTP contract shows it.
    public var json: JSONValue {
        [
            "accepted": .integer(Int64(accepted)), "quarantined": .integer(Int64(quarantined)),
            "duplicates": .integer(Int64(duplicates)), "reasons": Self.json(reasons), "warnings": Self.json(warnings),
            "ignored_columns": .array(ignoredColumns.map(JSONValue.string)),
            "sampled_out": .integer(Int64(sampledOut)), "filtered": .integer(Int64(filtered)),
            "schema_changes": .array(schemaChanges.map(JSONValue.string)),
            "rejected": .array(
                rejected.map {
                    ["position": .integer(Int64($0.position)), "reasons": .array($0.reasons.map(JSONValue.string))]
                }),
        ]
    }

    /// The report as it stands in the log, beside its idempotency key.
    var stored: JSONValue {
        guard let requestHash, case .object(var members) = json else { return json }
        members["request"] = .string(requestHash)
        return .object(members)
    }

    /// Reads what `json` or `stored` gave; `nil` for anything else.
    init?(_ json: JSONValue) {
        guard let accepted = json["accepted"]?.integerValue, let quarantined = json["quarantined"]?.integerValue,
            let duplicates = json["duplicates"]?.integerValue
        else { return nil }
        self.accepted = Int(accepted)
        self.quarantined = Int(quarantined)
        self.duplicates = Int(duplicates)
        reasons = Self.counts(json["reasons"])
        warnings = Self.counts(json["warnings"])
        ignoredColumns = json["ignored_columns"]?.arrayValue?.compactMap(\.stringValue) ?? []
        sampledOut = Int(json["sampled_out"]?.integerValue ?? 0)
        filtered = Int(json["filtered"]?.integerValue ?? 0)
        schemaChanges = json["schema_changes"]?.arrayValue?.compactMap(\.stringValue) ?? []
        rejected = (json["rejected"]?.arrayValue ?? []).compactMap { entry in
            guard let position = entry["position"]?.integerValue else { return nil }
            return Rejection(
                position: Int(position), reasons: entry["reasons"]?.arrayValue?.compactMap(\.stringValue) ?? [])
        }
        requestHash = json["request"]?.stringValue
    }

    static func json(_ counts: [String: Int]) -> JSONValue { .object(counts.mapValues { .integer(Int64($0)) }) }

    static func counts(_ json: JSONValue?) -> [String: Int] {
        (json?.objectValue ?? [:]).compactMapValues { $0.integerValue.map(Int.init) }
    }

    /// Counts a refused row.
    mutating func refuse(_ breaches: [ContractBreach], at position: Int) {
        quarantined += 1
        for breach in breaches { Self.count(breach.rule, in: &reasons) }
        if rejected.count < Self.rejectionCountMax {
            rejected.append(
                Rejection(position: position, reasons: breaches.prefix(4).map { String($0.message.prefix(200)) }))
        }
    }

    /// Adds what another portion of the same load gave; `rejected` is a push's alone.
    mutating func add(_ other: IngestReport) {
        accepted += other.accepted
        duplicates += other.duplicates
        quarantined += other.quarantined
        sampledOut += other.sampledOut
        filtered += other.filtered
        for (rule, count) in other.reasons { reasons[rule, default: 0] += count }
        for (rule, count) in other.warnings { warnings[rule, default: 0] += count }
        ignoredColumns = Array(Set(ignoredColumns + other.ignoredColumns)).sorted()
        for change in other.schemaChanges { note(change) }
    }

    /// Says once what differs from the schema.
    mutating func note(_ change: String) { if !schemaChanges.contains(change) { schemaChanges.append(change) } }

    /// Counts one more under `rule`, or under `other reasons` once there are 100 different ones.
    static func count(_ rule: String, in counts: inout [String: Int]) {
        counts[counts[rule] != nil || counts.count < 100 ? rule : "other reasons", default: 0] += 1
    }
}

/// What became of a loaded file.
public struct LoadReport: Sendable, Hashable {
    /// The source.
    public let source: Name
    /// The file's name as the sender knows it.
    public let file: String
    /// SHA-256 of its bytes.
    public let contentHash: ContentHash
    /// Whether the same bytes were loaded before; the counts are then those of that load, and nothing was changed.
    public var isAlreadyLoaded = false
    /// Rows of the file, malformed lines among them.
    public var rowsRead = 0
    /// Counts, reasons and warnings.
    ///
    /// A load that goes on after a crash counts what the first attempt stored; rows that it stored after its last
    /// checkpoint count as duplicates.
    public var rows = IngestReport()
    /// Wall time of the load.
    public var seconds: Double = 0
    /// Earliest event time among accepted and duplicate rows.
    public var firstEventTime: EventTime?
    /// Latest event time among accepted and duplicate rows.
    public var lastEventTime: EventTime?
    /// Rows that were stored before the process died, where a load went on instead of beginning again.
    public var resumedAtRow: Int?

    init(source: Name, file: String, contentHash: ContentHash) {
        self.source = source
        self.file = file
        self.contentHash = contentHash
    }

    /// The report as the HTTP contract shows it.
    public var json: JSONValue {
        [
            "source": .string(source.text), "file": .string(file), "sha256": .string(contentHash.hex),
            "already_loaded": .bool(isAlreadyLoaded), "rows_read": .integer(Int64(rowsRead)),
            "rows_accepted": .integer(Int64(rows.accepted)), "rows_duplicate": .integer(Int64(rows.duplicates)),
            "rows_quarantined": .integer(Int64(rows.quarantined)), "reasons": IngestReport.json(rows.reasons),
            "warnings": IngestReport.json(rows.warnings),
            "ignored_columns": .array(rows.ignoredColumns.map(JSONValue.string)),
            "rows_sampled_out": .integer(Int64(rows.sampledOut)), "rows_filtered": .integer(Int64(rows.filtered)),
            "schema_changes": .array(rows.schemaChanges.map(JSONValue.string)),
            "resumed_at_row": resumedAtRow.map { .integer(Int64($0)) } ?? .null, "seconds": .number(seconds),
            "first_event_time": firstEventTime.map { .string($0.description) } ?? .null,
            "last_event_time": lastEventTime.map { .string($0.description) } ?? .null,
        ]
    }

    /// Reads what `json` gave; `nil` for anything else.
    init?(_ json: JSONValue) {
        guard let source = json["source"]?.stringValue.flatMap(Name.init), let file = json["file"]?.stringValue,
            let hash = json["sha256"]?.stringValue.flatMap(ContentHash.init(hex:)),
            let read = json["rows_read"]?.integerValue, let accepted = json["rows_accepted"]?.integerValue,
            let duplicates = json["rows_duplicate"]?.integerValue,
            let quarantined = json["rows_quarantined"]?.integerValue
        else { return nil }
        self.init(source: source, file: file, contentHash: hash)
        rowsRead = Int(read)
        rows.accepted = Int(accepted)
        rows.duplicates = Int(duplicates)
        rows.quarantined = Int(quarantined)
        rows.reasons = IngestReport.counts(json["reasons"])
        rows.warnings = IngestReport.counts(json["warnings"])
        rows.ignoredColumns = json["ignored_columns"]?.arrayValue?.compactMap(\.stringValue) ?? []
        rows.sampledOut = Int(json["rows_sampled_out"]?.integerValue ?? 0)
        rows.filtered = Int(json["rows_filtered"]?.integerValue ?? 0)
        rows.schemaChanges = json["schema_changes"]?.arrayValue?.compactMap(\.stringValue) ?? []
        resumedAtRow = json["resumed_at_row"]?.integerValue.map(Int.init)
        seconds = json["seconds"]?.doubleValue ?? 0
        firstEventTime = json["first_event_time"]?.stringValue.flatMap(EventTime.init(text:))
        lastEventTime = json["last_event_time"]?.stringValue.flatMap(EventTime.init(text:))
    }
}

/// How far a load is.
public struct LoadProgress: Sendable, Hashable {
    /// Rows handled.
    public let rows: Int
    /// Bytes of the file handled.
    public let bytesDone: Int
    /// Bytes of the file.
    public let bytesTotal: Int
}
