public import PlatformCore

/// Words of the OpenLineage standard.
public enum OpenLineage {
    /// Our datasets and jobs stand under this name.
    public static let namespace = "bottega"
    /// Who writes our events.
    public static let producer = "https://github.com/bottega/bottega"
    static let specification = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
}

/// An event that somebody sent: a run, a job or a dataset, as far as the graph needs it.
///
/// - SeeAlso: the OpenLineage specification 2-0-2, `RunEvent`, `JobEvent`, `DatasetEvent`.
public struct OpenLineageEvent: Sendable, Hashable {
    /// A job.
    public struct Job: Sendable, Hashable {
        /// Its namespace.
        public let namespace: String
        /// Its name.
        public let name: String
    }
    /// That a column of an output is made from a field.
    public struct ColumnLink: Sendable, Hashable {
        /// The output's column.
        public let column: String
        /// Namespace of the input.
        public let namespace: String
        /// Name of the input.
        public let name: String
        /// Field of the input.
        public let field: String
        /// Whether its value goes into the column's.
        public let isDirect: Bool
        /// What is done, for people.
        public let detail: String
    }
    /// A dataset.
    public struct Dataset: Sendable, Hashable {
        /// Its namespace.
        public let namespace: String
        /// Its name.
        public let name: String
        /// Names of its fields, as far as the event says.
        public let fields: [String]
        /// What its columns are made from, as far as the event says.
        public let columnLinks: [ColumnLink]
    }
    /// When.
    public let time: EventTime
    /// `START`, `RUNNING`, `COMPLETE`, `ABORT`, `FAIL`, `OTHER`; `nil` for events about a job or dataset alone.
    public let type: String?
    /// Identifier of the run.
    public let run: String?
    /// The job.
    public let job: Job?
    /// What it read.
    public let inputs: [Dataset]
    /// What it wrote; for an event about a dataset alone, that dataset.
    public let outputs: [Dataset]

    /// Most bytes of one event.
    public static let byteCountMax = 4 << 20
    /// Most datasets, and most columns of one dataset.
    public static let listCountMax = 10_000
    private static let types = ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]

    /// Checks and reads an event as the schema has it; what the graph does not need is accepted as it is.
    /// - Throws: `PlatformError` (`invalidInput`) that names the field and what it must be.
    public init(_ json: JSONValue) throws(PlatformError) {
        let reader = Reader(json, at: "event")
        try reader.object()
        time = try reader.time("eventTime")
        _ = try reader.text("producer")
        let schema = try reader.text("schemaURL")
        if json["run"] != nil || json["eventType"] != nil {
            let run = try reader.member("run")
            let identifier = try run.text("runId")
            guard Self.isUUID(identifier) else { throw run.error("runId", "must be a UUID") }
            self.run = identifier
            type = try reader.optionalText("eventType")
            if let type, !Self.types.contains(type) {
                throw reader.error(
                    "eventType", "must be one of \(Self.types.joined(separator: ", ")), not '\(type.prefix(40))'")
            }
        } else {
            (run, type) = (nil, nil)
        }
        if json["dataset"] != nil, json["job"] == nil {
            job = nil
            inputs = []
            outputs = [try Self.dataset(try reader.member("dataset"))]
            return
        }
        guard json["job"] != nil else {
            throw reader.error("job", "is missing (the event says '\(schema.suffix(60))'); a run event has run and job")
        }
        let member = try reader.member("job")
        job = Job(namespace: try member.text("namespace"), name: try member.text("name"))
        inputs = try Self.datasets("inputs", reader)
        outputs = try Self.datasets("outputs", reader)
    }

    private static func isUUID(_ text: String) -> Bool {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        return parts.map(\.count) == [8, 4, 4, 4, 12]
            && parts.allSatisfy { $0.allSatisfy { $0.isASCII && $0.isHexDigit } }
    }

    private static func datasets(_ key: String, _ reader: Reader) throws(PlatformError) -> [Dataset] {
        var found: [Dataset] = []
        for element in try reader.list(key) { found.append(try dataset(element)) }
        return found
    }

    private static func dataset(_ reader: Reader) throws(PlatformError) -> Dataset {
        let (namespace, name) = (try reader.text("namespace"), try reader.text("name"))
        guard let facets = try reader.optionalMember("facets") else {
            return Dataset(namespace: namespace, name: name, fields: [], columnLinks: [])
        }
        var fields: [String] = []
        if let schema = try facets.optionalMember("schema") {
            for field in try schema.list("fields") { fields.append(try field.text("name")) }
        }
        var links: [ColumnLink] = []
        if let lineage = try facets.optionalMember("columnLineage") {
            let columns = try lineage.member("fields")
            for column in (columns.json.objectValue ?? [:]).keys.sorted() {
                let entry = try columns.member(column)
                for input in try entry.list("inputFields") {
                    let transformation = try input.list("transformations").first
                    var detail = try transformation?.optionalText("description")
                    if detail == nil { detail = try transformation?.optionalText("subtype") }
                    if detail == nil { detail = try entry.optionalText("transformationDescription") }
                    links.append(
                        ColumnLink(
                            column: column, namespace: try input.text("namespace"), name: try input.text("name"),
                            field: try input.text("field"),
                            isDirect: try transformation?.optionalText("type") != "INDIRECT",
                            detail: String((detail ?? "").prefix(200))))
                    guard links.count <= listCountMax else {
                        throw columns.error("inputFields", "more than \(listCountMax)")
                    }
                }
            }
        }
        return Dataset(namespace: namespace, name: name, fields: fields, columnLinks: links)
    }

    /// Reads members with errors that say where.
    private struct Reader {
        let json: JSONValue
        let place: String
        init(_ json: JSONValue, at place: String) {
            self.json = json
            self.place = place
        }
        func error(_ key: String, _ message: String) -> PlatformError {
            PlatformError(.invalidInput, "\(place).\(key)", message)
        }
        func object() throws(PlatformError) {
            guard json.objectValue != nil else {
                throw PlatformError(.invalidInput, place, "must be an object, not \(json.kindName)")
            }
        }
        private func value(_ key: String) -> JSONValue? { json[key]?.unlessNull }
        func optionalText(_ key: String) throws(PlatformError) -> String? {
            guard let value = value(key) else { return nil }
            guard let text = value.stringValue, text.utf8.count <= 10_000 else {
                throw error(key, "must be text of at most 10,000 bytes, not \(value.kindName)")
            }
            return text
        }
        func text(_ key: String) throws(PlatformError) -> String {
            guard let text = try optionalText(key), !text.isEmpty else { throw error(key, "is missing") }
            return text
        }
        func time(_ key: String) throws(PlatformError) -> EventTime {
            let text = try text(key)
            guard let time = EventTime(text: text), text.utf8.contains(0x3A) else {
                throw error(key, "must be a time with a zone such as 2024-01-01T00:00:00Z, not '\(text.prefix(40))'")
            }
            return time
        }
        func optionalMember(_ key: String) throws(PlatformError) -> Reader? {
            guard let value = value(key) else { return nil }
            let reader = Reader(value, at: "\(place).\(key)")
            try reader.object()
            return reader
        }
        func member(_ key: String) throws(PlatformError) -> Reader {
            guard let reader = try optionalMember(key) else { throw error(key, "is missing") }
            return reader
        }
        func list(_ key: String) throws(PlatformError) -> [Reader] {
            guard let value = value(key) else { return [] }
            guard let elements = value.arrayValue, elements.count <= OpenLineageEvent.listCountMax else {
                throw error(key, "must be a list of at most \(OpenLineageEvent.listCountMax)")
            }
            var readers: [Reader] = []
            for (index, element) in elements.enumerated() {
                let reader = Reader(element, at: "\(place).\(key)[\(index)]")
                try reader.object()
                readers.append(reader)
            }
            return readers
        }
    }
}
