import PlatformCore
import StoragePorts

/// A trace with its spans, each as the JSON that clients read.
public struct TraceWithSpans: Sendable {
    /// The whole.
    public let info: TraceInfo
    /// The spans as JSON: the root first, then by their start.
    public let spans: [String]

    /// Whether as many spans came as the client said.
    public var isComplete: Bool { !spans.isEmpty && Int64(spans.count) >= info.expectedSpanCount ?? 0 }
}

extension TrackingStore {
    /// Stores spans: all of them or, when it throws, none.
    ///
    /// A trace that there is not yet is made of what its spans say; once `startTrace` has described it, that counts. A
    /// span that came before is replaced.
    ///
    /// - Parameter run: the run that traces belong to whose root is among the spans.
    /// - Throws: `notFound` for an unknown experiment or run; `invalidInput` for too many spans.
    public func logSpans(_ spans: [TraceSpan], experiment: String, run: String? = nil) async throws {
        guard spans.count <= TraceLimits.spansPerCall else {
            throw PlatformError(
                .invalidInput, "spans", "\(spans.count) spans, \(TraceLimits.spansPerCall) are accepted in one call")
        }
        if let run { _ = try await runInfo(run) }
        let traces = Dictionary(grouping: spans, by: \.traceID)
        for (id, spans) in traces {
            try Self.check(traceID: id)
            for span in spans { try Self.check(span) }
        }
        try await metadata.write { transaction in
            let number = try Self.activeExperiment(experiment, transaction)
            for (id, spans) in traces.sorted(by: { $0.key < $1.key }) {
                try Self.write(spans, trace: id, number: number, run: run, transaction)
            }
        }
    }

    /// A trace with its spans.
    /// - Throws: `notFound`; `tooLarge` if the spans are more than one answer holds.
    public func trace(_ id: String) async throws -> TraceWithSpans {
        guard let found = try await traces([id]).first else { throw Self.unknownTrace(id) }
        return found
    }

    /// Traces with their spans in the order asked for; those that there are not are left out.
    ///
    /// - Parameter experiments: given, only traces of one of these count.
    /// - Throws: `tooLarge` if the spans are more than one answer holds.
    public func traces(_ ids: [String], experiments: [String]? = nil) async throws -> [TraceWithSpans] {
        let infos = try await traceInfos(ids, experiments: experiments)
        let keys = infos.map { MetadataValue.text($0.id) }
        return try await metadata.read { transaction in
            let size = try transaction.query(
                "SELECT SUM(length(document)) AS size FROM tracking_trace_span WHERE trace_id", in: keys
            ).reduce(0) { $0 + $1.integer("size") }
            guard size <= Int64(TraceLimits.answerByteCount) else {
                throw PlatformError(
                    .tooLarge, "traces",
                    "their spans are \(size) bytes, \(TraceLimits.answerByteCount) fit into one answer; ask for fewer")
            }
            let rows = try transaction.query(
                "SELECT trace_id, document FROM tracking_trace_span WHERE trace_id", in: keys,
                then: "ORDER BY CASE WHEN parent_id IS NULL THEN 0 ELSE 1 END, started_at, span_id")
            let spans = Dictionary(grouping: rows, by: { $0.text("trace_id") })
            return infos.map { info in
                TraceWithSpans(info: info, spans: (spans[info.id] ?? []).map { $0.text("document") })
            }
        }
    }

    // MARK: Inside a transaction

    private static func write(
        _ spans: [TraceSpan], trace id: String, number: Int64, run: String?, _ transaction: any MetadataTransaction
    ) throws {
        let root = spans.last { $0.parentID == nil }
        let began = spans.reduce(Int64.max) { min($0, $1.startedAtNanoseconds) } / 1_000_000
        let ended = spans.compactMap(\.endedAtNanoseconds).max().map { $0 / 1_000_000 }
        let state = root.map { $0.status == "ERROR" ? TraceState.error : .ok }
        try insertTrace(
            TraceInfo(
                id: id, experimentID: String(number), requestedAt: EventTime(milliseconds: began),
                durationMilliseconds: ended.map { max(0, $0 - began) }, state: state ?? .inProgress), number: number,
            transaction)
        guard
            let known = try transaction.query("SELECT * FROM tracking_trace WHERE trace_id = ?", [.text(id)]).first
        else { throw unknownTrace(id) }
        if !known.flag("is_final") {
            let first = min(began, known.integer("requested_at"))
            let lastKnown = known["duration"].integerValue.map { $0 + known.integer("requested_at") }
            let last = [ended, lastKnown].compactMap(\.self).max()
            let isOpen = ["IN_PROGRESS", "STATE_UNSPECIFIED"].contains(known.text("state"))
            try transaction.execute(
                "UPDATE tracking_trace SET requested_at = ?, duration = ?, state = ? WHERE trace_id = ?",
                [
                    .integer(first), MetadataValue(last.map { $0 - first }),
                    .text(isOpen ? state?.rawValue ?? known.text("state") : known.text("state")), .text(id),
                ])
            try describe(trace: id, by: spans, root: root, transaction)
        }
        try set(spansTag, "TRACKING_STORE", "tag", ofTrace: id, transaction)
        for span in spans { try write(span, transaction) }
        let count = try transaction.query(
            "SELECT COUNT(*) AS count FROM tracking_trace_span WHERE trace_id = ?", [.text(id)]
        ).first?.integer("count")
        guard count ?? 0 <= Int64(TraceLimits.spansPerTrace) else {
            throw PlatformError(
                .invalidInput, "trace/\(id)",
                "it has more than the \(TraceLimits.spansPerTrace) spans that are accepted"
            )
        }
        if let run, root != nil {
            try transaction.execute(
                "INSERT INTO tracking_trace_run (run_id, trace_id) VALUES (?, ?) ON CONFLICT (run_id, trace_id) DO NOTHING",
                [.text(run), .text(id)])
        }
    }

    /// Says of a trace what its spans know, where nobody said anything else.
    private static func describe(
        trace id: String, by spans: [TraceSpan], root: TraceSpan?, _ transaction: any MetadataTransaction
    ) throws {
        for (column, key) in [("request_preview", "mlflow.spanInputs"), ("response_preview", "mlflow.spanOutputs")] {
            guard let value = root?.attributes[key], !value.isNull else { continue }
            try transaction.execute(
                "UPDATE tracking_trace SET \(column) = ? WHERE trace_id = ? AND \(column) IS NULL",
                [.text(plain(value, byteCountMax: 1000)), .text(id)])
        }
        var tags: [String: String] = [:]
        for (key, value) in root?.resource ?? spans.first?.resource ?? [:]
        where !key.hasPrefix("telemetry.sdk.") && !key.hasPrefix("mlflow.") {
            tags[key] = plain(value, byteCountMax: TrackingLimits.runTagValue)
        }
        if let root { tags["mlflow.traceName"] = root.name }
        let prefix = "mlflow.traceTag."
        for (key, value) in root?.attributes ?? [:] where key.hasPrefix(prefix) {
            tags[String(key.dropFirst(prefix.count))] = plain(value, byteCountMax: TrackingLimits.runTagValue)
        }
        for (key, value) in tags where (try? TrackingLimits.check(freeKey: key, of: "tag")) != nil && key != artifactTag
        {
            try setIfMissing(key, value, "tag", ofTrace: id, transaction)
        }
        let meanings = [
            ("mlflow.trace.session", ["session.id", "gen_ai.conversation.id"]), ("mlflow.trace.user", ["user.id"]),
        ]
        for (key, attributes) in meanings {
            let value = spans.lazy.compactMap { span in attributes.lazy.compactMap { span.attributes[$0] }.first }.first
            if let value {
                try setIfMissing(
                    key, plain(value, byteCountMax: TrackingLimits.key), "metadata", ofTrace: id, transaction)
            }
        }
    }

    private static func setIfMissing(
        _ key: String, _ value: String, _ table: String, ofTrace id: String, _ transaction: any MetadataTransaction
    ) throws {
        try transaction.execute(
            """
            INSERT INTO tracking_trace_\(table) (trace_id, key, value) VALUES (?, ?, ?)
            ON CONFLICT (trace_id, key) DO NOTHING
            """, [.text(id), .text(key), .text(value)])
    }

    private static func write(_ span: TraceSpan, _ transaction: any MetadataTransaction) throws {
        let key: [MetadataValue] = [.text(span.traceID), .text(span.id)]
        try transaction.execute(
            """
            INSERT INTO tracking_trace_span (trace_id, span_id, parent_id, name, kind, status, started_at, ended_at,
                document)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (trace_id, span_id) DO UPDATE SET parent_id = excluded.parent_id, name = excluded.name,
                kind = excluded.kind, status = excluded.status, started_at = excluded.started_at,
                ended_at = excluded.ended_at, document = excluded.document
            """,
            key + [
                MetadataValue(span.parentID), .text(span.name), MetadataValue(span.kind), .text(span.status),
                .integer(span.startedAtNanoseconds), MetadataValue(span.endedAtNanoseconds), .text(span.document),
            ])
        try transaction.execute("DELETE FROM tracking_trace_attribute WHERE trace_id = ? AND span_id = ?", key)
        for (name, value) in span.attributes {
            try transaction.execute(
                "INSERT INTO tracking_trace_attribute (trace_id, span_id, key, value) VALUES (?, ?, ?, ?)",
                key + [.text(name), .text(plain(value, byteCountMax: TraceLimits.searchedAttribute))])
        }
    }

    /// Text as it is, anything else as JSON; cut between two characters.
    private static func plain(_ value: JSONValue, byteCountMax: Int) -> String {
        let text = value.stringValue ?? value.text
        if text.utf8.count <= byteCountMax { return text }
        var end = text.utf8.index(text.startIndex, offsetBy: byteCountMax)
        while end > text.startIndex, text.utf8[end] & 0xC0 == 0x80 { end = text.utf8.index(before: end) }
        return String(text[..<end])
    }

    private static func check(_ span: TraceSpan) throws(PlatformError) {
        let subject = "span/\(span.id.prefix(64))"
        guard 1...TraceLimits.identifier ~= span.id.utf8.count else {
            throw PlatformError(.invalidInput, subject, "its identifier is empty or too long")
        }
        guard span.attributes.count <= TraceLimits.attributesPerSpan else {
            throw PlatformError(
                .invalidInput, subject,
                "it has \(span.attributes.count) attributes, \(TraceLimits.attributesPerSpan) are accepted")
        }
        guard span.startedAtNanoseconds >= 0, span.endedAtNanoseconds ?? 0 >= 0 else {
            throw PlatformError(.invalidInput, subject, "its times lie before 1970")
        }
    }
}
