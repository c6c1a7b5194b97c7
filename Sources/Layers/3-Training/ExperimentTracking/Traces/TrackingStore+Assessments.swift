public import PlatformCore
import StoragePorts

/// What a change of an assessment sets; `nil` leaves it as it is.
public struct AssessmentChange: Sendable {
    /// The new name.
    public var name: String?
    /// The new kind and content, which must be of the kind that it has.
    public var content: (kind: TraceAssessment.Kind, value: JSONValue)?
    /// The new reason.
    public var rationale: String?
    /// Metadata to add; equal keys are replaced.
    public var metadata: [String: String]?

    /// Changes nothing.
    public init() {}
}

extension TrackingStore {
    /// Adds an assessment to a trace; the one it overrides is no longer valid.
    /// - Throws: `notFound` for an unknown trace or overridden assessment; `conflict`, `invalidInput`.
    public func createAssessment(_ given: TraceAssessment) async throws -> TraceAssessment {
        var assessment = given
        if assessment.id.isEmpty { assessment.id = "a-" + newIdentifier() }
        try Self.check(assessment)
        return try await metadata.write { [assessment] transaction in
            try Self.requireTrace(assessment.traceID, transaction)
            if let overridden = assessment.overrides {
                guard
                    try transaction.execute(
                        "UPDATE tracking_trace_assessment SET is_valid = 0 WHERE trace_id = ? AND assessment_id = ?",
                        [.text(assessment.traceID), .text(overridden)]) > 0
                else { throw Self.unknownAssessment(overridden, assessment.traceID) }
            }
            let count = try transaction.query(
                "SELECT COUNT(*) AS count FROM tracking_trace_assessment WHERE trace_id = ?",
                [.text(assessment.traceID)]
            ).first?.integer("count")
            guard count ?? 0 < TraceLimits.entriesPerTrace else {
                throw PlatformError(
                    .invalidInput, "trace/\(assessment.traceID)",
                    "it has \(TraceLimits.entriesPerTrace) assessments, which is the most that is accepted")
            }
            try Self.write(assessment, transaction)
            return try Self.assessment(assessment.id, assessment.traceID, transaction)
        }
    }

    /// An assessment of a trace.
    /// - Throws: `notFound`.
    public func assessment(_ id: String, ofTrace trace: String) async throws -> TraceAssessment {
        try await metadata.read { transaction in
            try Self.requireTrace(trace, transaction)
            return try Self.assessment(id, trace, transaction)
        }
    }

    /// Changes an assessment; its source and span stay.
    /// - Throws: `notFound`; `invalidInput` for content of another kind.
    public func updateAssessment(
        _ id: String, ofTrace trace: String, _ change: AssessmentChange
    ) async throws -> TraceAssessment {
        let now = clock.now()
        return try await metadata.write { transaction in
            try Self.requireTrace(trace, transaction)
            var assessment = try Self.assessment(id, trace, transaction)
            if let name = change.name { assessment.name = name }
            if let (kind, value) = change.content {
                guard kind == assessment.kind else {
                    throw PlatformError(
                        .invalidInput, "assessment/\(id)",
                        "Cannot update \(kind.rawValue) value on an assessment that is \(assessment.kind.rawValue).")
                }
                assessment.content = value
            }
            if let rationale = change.rationale { assessment.rationale = rationale }
            if let metadata = change.metadata { assessment.metadata.merge(metadata) { $1 } }
            assessment.updatedAt = now
            try Self.check(assessment)
            try Self.write(assessment, transaction)
            return assessment
        }
    }

    /// Removes an assessment, if there is one; the one that it overrode is valid again.
    /// - Throws: `notFound` for an unknown trace.
    public func deleteAssessment(_ id: String, ofTrace trace: String) async throws {
        try await metadata.write { transaction in
            try Self.requireTrace(trace, transaction)
            try transaction.execute(
                """
                UPDATE tracking_trace_assessment SET is_valid = 1 WHERE trace_id = ? AND assessment_id IN
                    (SELECT overrides FROM tracking_trace_assessment WHERE trace_id = ? AND assessment_id = ?)
                """, [.text(trace), .text(trace), .text(id)])
            try transaction.execute(
                "DELETE FROM tracking_trace_assessment WHERE trace_id = ? AND assessment_id = ?",
                [.text(trace), .text(id)])
        }
    }

    // MARK: Inside a transaction

    private static func unknownAssessment(_ id: String, _ trace: String) -> PlatformError {
        PlatformError(
            .notFound, "assessment/\(id.prefix(100))",
            "Assessment with ID '\(id.prefix(100))' not found for trace '\(trace.prefix(100))'")
    }

    private static func assessment(
        _ id: String, _ trace: String, _ transaction: any MetadataTransaction
    ) throws -> TraceAssessment {
        let row = try transaction.query(
            "SELECT * FROM tracking_trace_assessment WHERE trace_id = ? AND assessment_id = ?",
            [.text(trace), .text(id)]
        ).first
        guard let row else { throw unknownAssessment(id, trace) }
        return assessment(row)
    }

    static func assessments(
        ofTraces ids: [MetadataValue], _ transaction: any MetadataTransaction
    ) throws -> [String: [TraceAssessment]] {
        let rows = try transaction.query(
            "SELECT * FROM tracking_trace_assessment WHERE trace_id", in: ids,
            then: "ORDER BY created_at, assessment_id")
        return Dictionary(grouping: rows.map { assessment($0) }, by: \.traceID)
    }

    private static func assessment(_ row: MetadataRow) -> TraceAssessment {
        let body = (try? JSONValue.parse(row.text("body"))) ?? .null
        return TraceAssessment(
            id: row.text("assessment_id"), traceID: row.text("trace_id"), name: row.text("name"),
            kind: TraceAssessment.Kind(rawValue: row.text("kind")) ?? .feedback, content: body["content"] ?? [:],
            source: body["source"] ?? [:], spanID: body["span_id"]?.stringValue,
            rationale: body["rationale"]?.stringValue,
            metadata: (body["metadata"]?.objectValue ?? [:]).compactMapValues(\.stringValue),
            overrides: row["overrides"].textValue, isValid: row.flag("is_valid"), createdAt: row.time("created_at"),
            updatedAt: row.time("updated_at"))
    }

    /// Writes an assessment over the one of that identifier, if there is one.
    static func write(
        _ assessment: TraceAssessment, _ transaction: any MetadataTransaction
    ) throws {
        let value = assessment.value
        let number: MetadataValue =
            if value.boolValue == nil, let number = value.doubleValue { .real(number) } else { .null }
        try transaction.execute(
            """
            INSERT INTO tracking_trace_assessment (trace_id, assessment_id, name, kind, value, number, is_valid,
                overrides, created_at, updated_at, body)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (trace_id, assessment_id) DO UPDATE SET name = excluded.name, kind = excluded.kind,
                value = excluded.value, number = excluded.number, updated_at = excluded.updated_at,
                body = excluded.body
            """,
            [
                .text(assessment.traceID), .text(assessment.id), .text(assessment.name),
                .text(assessment.kind.rawValue), .text(value.stringValue ?? value.text), number,
                .integer(assessment.isValid ? 1 : 0), MetadataValue(assessment.overrides),
                MetadataValue(assessment.createdAt), MetadataValue(assessment.updatedAt),
                .text(body(of: assessment).text),
            ])
    }

    private static func body(of assessment: TraceAssessment) -> JSONValue {
        var body: [String: JSONValue] = [
            "content": assessment.content, "source": assessment.source,
            "metadata": .object(assessment.metadata.mapValues(JSONValue.string)),
        ]
        if let span = assessment.spanID { body["span_id"] = .string(span) }
        if let rationale = assessment.rationale { body["rationale"] = .string(rationale) }
        return .object(body)
    }

    static func check(_ assessment: TraceAssessment) throws(PlatformError) {
        guard !assessment.name.isEmpty else {
            throw PlatformError(.invalidInput, "assessment", "Missing value for required parameter 'assessment_name'")
        }
        try TrackingLimits.check(assessment.name, atMost: TrackingLimits.key, what: "assessment_name")
        guard 1...TraceLimits.identifier ~= assessment.id.utf8.count, !assessment.id.contains("/") else {
            throw PlatformError(.invalidInput, "assessment_id", "'\(assessment.id.prefix(64))' is no identifier")
        }
        guard body(of: assessment).canonicalBytes.count <= TraceLimits.assessment else {
            throw PlatformError(
                .invalidInput, "assessment/\(assessment.name)",
                "it is longer than the \(TraceLimits.assessment) bytes that are accepted")
        }
    }
}
