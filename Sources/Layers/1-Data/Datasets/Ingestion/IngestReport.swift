public import PlatformCore

/// What became of pushed rows.
public struct IngestReport: Sendable, Hashable, Codable {
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

    /// An empty report.
    public init() {}

    private enum CodingKeys: String, CodingKey {
        case accepted, quarantined, duplicates, reasons, warnings
        case ignoredColumns = "ignored_columns"
    }

    /// The report as the HTTP contract shows it.
    public var json: JSONValue {
        [
            "accepted": .integer(Int64(accepted)), "quarantined": .integer(Int64(quarantined)),
            "duplicates": .integer(Int64(duplicates)), "reasons": Self.json(reasons), "warnings": Self.json(warnings),
            "ignored_columns": .array(ignoredColumns.map(JSONValue.string)),
        ]
    }

    /// Reads what `json` gave; `nil` for anything else.
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
    }

    static func json(_ counts: [String: Int]) -> JSONValue { .object(counts.mapValues { .integer(Int64($0)) }) }

    static func counts(_ json: JSONValue?) -> [String: Int] {
        (json?.objectValue ?? [:]).compactMapValues { $0.integerValue.map(Int.init) }
    }

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
    /// After a crash in the middle, the rows that the first attempt stored count as duplicates.
    public var rows = IngestReport()
    /// Wall time of the load.
    public var seconds: Double = 0
    /// Earliest event time among accepted and duplicate rows.
    public var firstEventTime: EventTime?
    /// Latest event time among accepted and duplicate rows.
    public var lastEventTime: EventTime?

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
            "ignored_columns": .array(rows.ignoredColumns.map(JSONValue.string)), "seconds": .number(seconds),
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
