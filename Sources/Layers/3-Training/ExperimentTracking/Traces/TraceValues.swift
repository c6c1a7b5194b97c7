public import PlatformCore

/// How far a trace is.
public enum TraceState: String, Sendable, CaseIterable {
    /// Nobody said.
    case unspecified = "STATE_UNSPECIFIED"
    /// It ended well.
    case ok = "OK"
    /// It ended with an error.
    case error = "ERROR"
    /// Its root span has not come yet.
    case inProgress = "IN_PROGRESS"
}

/// One traced call: what is known of it as a whole.
public struct TraceInfo: Sendable, Hashable {
    /// Its identifier, `tr-` and 32 hexadecimal digits for what OpenTelemetry named.
    public let id: String
    /// The experiment it belongs to.
    public let experimentID: String
    /// When it began.
    public let requestedAt: EventTime
    /// How long it took; `nil` while that is not known.
    public let durationMilliseconds: Int64?
    /// How far it is.
    public let state: TraceState
    /// The caller's own identifier.
    public let clientRequestID: String?
    /// The beginning of what was asked.
    public let requestPreview: String?
    /// The beginning of what was answered.
    public let responsePreview: String?
    /// What was said of it once: `mlflow.sourceRun`, `mlflow.trace.session`, ….
    public let metadata: [String: String]
    /// Labels that may change.
    public let tags: [String: String]
    /// What people and programs thought of it, oldest first.
    public let assessments: [TraceAssessment]

    /// Makes a trace's description.
    public init(
        id: String, experimentID: String, requestedAt: EventTime, durationMilliseconds: Int64? = nil,
        state: TraceState = .unspecified, clientRequestID: String? = nil, requestPreview: String? = nil,
        responsePreview: String? = nil, metadata: [String: String] = [:], tags: [String: String] = [:],
        assessments: [TraceAssessment] = []
    ) {
        self.id = id
        self.experimentID = experimentID
        self.requestedAt = requestedAt
        self.durationMilliseconds = durationMilliseconds
        self.state = state
        self.clientRequestID = clientRequestID
        self.requestPreview = requestPreview
        self.responsePreview = responsePreview
        self.metadata = metadata
        self.tags = tags
        self.assessments = assessments
    }

    /// How many spans the client says it has; `nil` if it did not say.
    public var expectedSpanCount: Int64? {
        metadata["mlflow.trace.sizeStats"].flatMap { try? JSONValue.parse($0)["num_spans"]?.integerValue }
    }
}

/// One step of a trace.
public struct TraceSpan: Sendable, Hashable {
    /// The trace it belongs to.
    public let traceID: String
    /// Its identifier in hexadecimal digits, unique in the trace.
    public let id: String
    /// The step that it is part of; `nil` for the root.
    public let parentID: String?
    /// Its name.
    public let name: String
    /// What kind of step it is, `LLM`; `nil` if nobody said.
    public let kind: String?
    /// `OK`, `ERROR` or `UNSET`.
    public let status: String
    /// When it began, in nanoseconds since 1970.
    public let startedAtNanoseconds: Int64
    /// When it ended, in nanoseconds since 1970; `nil` while it runs.
    public let endedAtNanoseconds: Int64?
    /// What it carries, as plain values.
    public let attributes: [String: JSONValue]
    /// The whole span as JSON, as clients read it.
    public let document: String
    /// What describes the program that made it.
    public let resource: [String: JSONValue]

    /// Makes a span.
    public init(
        traceID: String, id: String, parentID: String?, name: String, kind: String?, status: String,
        startedAtNanoseconds: Int64, endedAtNanoseconds: Int64?, attributes: [String: JSONValue], document: String,
        resource: [String: JSONValue] = [:]
    ) {
        self.traceID = traceID
        self.id = id
        self.parentID = parentID
        self.name = name
        self.kind = kind
        self.status = status
        self.startedAtNanoseconds = startedAtNanoseconds
        self.endedAtNanoseconds = endedAtNanoseconds
        self.attributes = attributes
        self.document = document
        self.resource = resource
    }
}

/// What somebody thought of a trace, or what it should have been.
public struct TraceAssessment: Sendable, Hashable {
    /// What it is.
    public enum Kind: String, Sendable, CaseIterable {
        /// A judgement.
        case feedback
        /// What would have been right.
        case expectation
        /// A pointer to a known problem.
        case issue
    }
    /// Its identifier; empty until it is stored.
    public var id: String
    /// The trace it is about.
    public var traceID: String
    /// What is judged, `correctness`.
    public var name: String
    /// What it is.
    public var kind: Kind
    /// The object of that kind as clients write it: `{"value": …}`, `{"issue_name": …}`.
    public var content: JSONValue
    /// Who judged: `{"source_type": "HUMAN", "source_id": "ada"}`.
    public var source: JSONValue
    /// The span it is about; `nil` for the whole trace.
    public var spanID: String?
    /// Why.
    public var rationale: String?
    /// More about it.
    public var metadata: [String: String]
    /// The assessment that this one replaces.
    public var overrides: String?
    /// Whether none replaced it.
    public var isValid: Bool
    /// When it was made.
    public var createdAt: EventTime
    /// When it changed last.
    public var updatedAt: EventTime

    /// Makes an assessment.
    public init(
        id: String = "", traceID: String, name: String, kind: Kind, content: JSONValue, source: JSONValue,
        spanID: String? = nil, rationale: String? = nil, metadata: [String: String] = [:], overrides: String? = nil,
        isValid: Bool = true, createdAt: EventTime, updatedAt: EventTime
    ) {
        self.id = id
        self.traceID = traceID
        self.name = name
        self.kind = kind
        self.content = content
        self.source = source
        self.spanID = spanID
        self.rationale = rationale
        self.metadata = metadata
        self.overrides = overrides
        self.isValid = isValid
        self.createdAt = createdAt
        self.updatedAt = updatedAt
    }

    /// What it says, as a plain value; `null` for an issue.
    public var value: JSONValue {
        if let text = content["serialized_value"]?["value"]?.stringValue {
            return (try? JSONValue.parse(text)) ?? .string(text)
        }
        return content["value"] ?? .null
    }
}

/// Most that is accepted of traces.
public enum TraceLimits {
    /// Characters of a trace's identifier.
    public static let identifier = 100
    /// Bytes of a tag's or metadata's value; clients cut their own at less.
    public static let value = 65_536
    /// Tags, metadata or assessments of a trace.
    public static let entriesPerTrace = 1000
    /// Spans in one call.
    public static let spansPerCall = 10_000
    /// Spans of one trace.
    public static let spansPerTrace = 100_000
    /// Attributes of a span.
    public static let attributesPerSpan = 1000
    /// Bytes of a preview.
    public static let preview = 10_000
    /// Bytes of an attribute's value that a search by `span.attributes` sees.
    public static let searchedAttribute = 4096
    /// Bytes of an assessment as JSON.
    public static let assessment = 1 << 20
    /// Traces named in one call.
    public static let tracesPerCall = 1000
    /// Bytes of spans in one answer.
    public static let answerByteCount = 128 << 20
}
