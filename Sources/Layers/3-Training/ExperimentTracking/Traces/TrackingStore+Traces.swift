public import PlatformCore
import StoragePorts

extension TrackingStore {
    /// Stores what is known of a whole trace; what spans said of it before gives way to it.
    /// - Throws: `notFound` for an unknown experiment; `invalidInput` for a deleted one and for what is too large.
    public func startTrace(_ info: TraceInfo) async throws -> TraceInfo {
        try Self.check(info)
        let assessments = try info.assessments.map { given in
            var assessment = given
            if assessment.id.isEmpty { assessment.id = "a-" + newIdentifier() }
            assessment.traceID = info.id
            try Self.check(assessment)
            return assessment
        }
        return try await metadata.write { transaction in
            let number = try Self.activeExperiment(info.experimentID, transaction)
            try Self.insertTrace(info, number: number, transaction)
            try transaction.execute(
                """
                UPDATE tracking_trace SET experiment_number = ?, requested_at = ?, duration = ?, state = ?,
                    client_request_id = ?, request_preview = COALESCE(?, request_preview),
                    response_preview = COALESCE(?, response_preview), is_final = 1
                WHERE trace_id = ?
                """,
                [
                    .integer(number), MetadataValue(info.requestedAt), MetadataValue(info.durationMilliseconds),
                    .text(info.state.rawValue), MetadataValue(info.clientRequestID),
                    MetadataValue(info.requestPreview), MetadataValue(info.responsePreview), .text(info.id),
                ])
            for (key, value) in info.tags.sorted(by: { $0.key < $1.key }) {
                try Self.set(key, value, "tag", ofTrace: info.id, transaction)
            }
            for (key, value) in info.metadata.sorted(by: { $0.key < $1.key }) {
                try Self.set(key, value, "metadata", ofTrace: info.id, transaction)
            }
            for assessment in assessments { try Self.write(assessment, transaction) }
            return try Self.trace(info.id, transaction)
        }
    }

    /// What is known of a trace.
    /// - Throws: `notFound`.
    public func traceInfo(_ id: String) async throws -> TraceInfo {
        try await metadata.read { try Self.trace(id, $0) }
    }

    /// What is known of some traces, in the order asked for; those that there are not are left out.
    ///
    /// - Parameter experiments: given, only traces of one of these count.
    public func traceInfos(_ ids: [String], experiments: [String]? = nil) async throws -> [TraceInfo] {
        try Self.checkCount(ids)
        let numbers = experiments.map { Set($0.compactMap { Int64($0) }) }
        return try await metadata.read { transaction in
            let rows = try transaction.query(
                "SELECT * FROM tracking_trace WHERE trace_id", in: Self.distinct(ids).map(MetadataValue.text))
            let found = Dictionary(rows.map { ($0.text("trace_id"), $0) }, uniquingKeysWith: { $1 })
            return try Self.traces(
                Self.distinct(ids).compactMap { found[$0] }.filter {
                    numbers?.contains($0.integer("experiment_number")) ?? true
                }, transaction)
        }
    }

    /// Sets a tag of a trace.
    /// - Throws: `notFound`; `invalidInput`, also for a tag that the platform keeps itself.
    public func setTag(_ tag: TrackedTag, ofTrace id: String) async throws {
        try Self.checkChangeable(tag.key)
        try TrackingLimits.check(freeKey: tag.key, of: "tag")
        try Self.check(value: tag.value, of: tag.key)
        try await metadata.write { transaction in
            try Self.requireTrace(id, transaction)
            try Self.set(tag.key, tag.value, "tag", ofTrace: id, transaction)
        }
    }

    /// Removes a tag of a trace.
    /// - Throws: `notFound` for an unknown trace or tag.
    public func deleteTag(_ key: String, ofTrace id: String) async throws {
        try Self.checkChangeable(key)
        try await metadata.write { transaction in
            try Self.requireTrace(id, transaction)
            let changed = try transaction.execute(
                "DELETE FROM tracking_trace_tag WHERE trace_id = ? AND key = ?", [.text(id), .text(key)])
            guard changed > 0 else { throw PlatformError(.notFound, "trace/\(id)", "it has no tag '\(key)'") }
        }
    }

    /// Says that traces belong to a run; traces that there are not are left out.
    /// - Throws: `notFound` for an unknown run; `invalidInput` for more than 100 traces.
    public func linkTraces(_ ids: [String], toRun run: String) async throws {
        guard ids.count <= 100 else {
            throw PlatformError(
                .invalidInput, "trace_ids",
                "Cannot link more than 100 traces to a run in a single request. Provided \(ids.count) traces.")
        }
        _ = try await runInfo(run)
        try await metadata.write { transaction in
            for id in ids {
                try transaction.execute(
                    """
                    INSERT INTO tracking_trace_run (run_id, trace_id)
                    SELECT ?, trace_id FROM tracking_trace WHERE trace_id = ? ON CONFLICT (run_id, trace_id) DO NOTHING
                    """, [.text(run), .text(id)])
            }
        }
    }

    /// Removes traces of an experiment with all that belongs to them, oldest first; gives their number.
    ///
    /// - Parameters:
    ///   - ids: given, only these.
    ///   - requestedBefore: given, only traces that began at this moment or earlier.
    ///   - countMax: given, at most so many.
    public func deleteTraces(
        experiment: String, ids: [String] = [], requestedBefore: EventTime? = nil, countMax: Int? = nil
    ) async throws -> Int {
        guard !ids.isEmpty || requestedBefore != nil else {
            throw PlatformError(
                .invalidInput, "traces", "say which traces: either request_ids or max_timestamp_millis")
        }
        if let countMax, countMax < 1 {
            throw PlatformError(.invalidInput, "max_traces", "it must be at least 1, this is \(countMax)")
        }
        guard ids.count <= Self.deletedIDCountMax else {
            throw PlatformError(
                .invalidInput, "request_ids",
                "\(ids.count) traces are named, \(Self.deletedIDCountMax) are accepted")
        }
        var query = KeysetQuery("tracking_trace", alias: "t")
        query.require(numbers: "t.experiment_number", [try Self.experimentNumber(experiment)])
        if let requestedBefore { query.require("t.requested_at <= ?", [MetadataValue(requestedBefore)]) }
        if !ids.isEmpty {
            let marks = Array(repeating: "?", count: ids.count).joined(separator: ", ")
            query.require("t.trace_id IN (\(marks))", ids.map(MetadataValue.text))
        }
        query.order(by: "t.requested_at", isAscending: true)
        query.order(by: "t.trace_id", isAscending: true)
        // In portions, so that no one of them holds back other writers for long.
        var deleted = 0
        while true {
            let portion = min(500, (countMax ?? .max) - deleted)
            guard portion > 0 else { return deleted }
            let count = try await metadata.write { [query] transaction in
                let rows = try query.rows(behind: nil, countMax: portion, transaction)
                for row in rows { try Self.delete(row, transaction) }
                return rows.count
            }
            deleted += count
            if count < portion { return deleted }
        }
    }

    private static let deletedIDCountMax = 10_000

    // MARK: Inside a transaction

    private static func delete(_ trace: MetadataRow, _ transaction: any MetadataTransaction) throws {
        let id = MetadataValue.text(trace.text("trace_id"))
        let root = try transaction.query(
            "SELECT value FROM tracking_trace_tag WHERE trace_id = ? AND key = ?", [id, .text(artifactTag)]
        ).first.flatMap { artifactPath(ofURI: $0.text("value")) }
        if let root {
            try transaction.execute(
                "DELETE FROM tracking_artifact WHERE path >= ? AND path < ?", [.text("\(root)/"), .text("\(root)0")])
        }
        for table in ["tag", "metadata", "span", "attribute", "assessment", "run"] {
            try transaction.execute("DELETE FROM tracking_trace_\(table) WHERE trace_id = ?", [id])
        }
        try transaction.execute("DELETE FROM tracking_trace WHERE trace_id = ?", [id])
    }

    static let artifactTag = "mlflow.artifactLocation"
    static let spansTag = "mlflow.trace.spansLocation"

    /// Makes a trace if there is none of that identifier.
    static func insertTrace(_ info: TraceInfo, number: Int64, _ transaction: any MetadataTransaction) throws {
        let inserted = try transaction.execute(
            """
            INSERT INTO tracking_trace (trace_id, experiment_number, requested_at, duration, state, client_request_id,
                request_preview, response_preview, is_final)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (trace_id) DO NOTHING
            """,
            [
                .text(info.id), .integer(number), MetadataValue(info.requestedAt),
                MetadataValue(info.durationMilliseconds), .text(info.state.rawValue),
                MetadataValue(info.clientRequestID), MetadataValue(info.requestPreview),
                MetadataValue(info.responsePreview),
            ])
        guard inserted > 0 else { return }
        let location = try experiment(number: number, transaction).artifactLocation
        try set(artifactTag, "\(location)/traces/\(info.id)/artifacts", "tag", ofTrace: info.id, transaction)
    }

    static func set(
        _ key: String, _ value: String, _ table: String, ofTrace id: String, _ transaction: any MetadataTransaction
    ) throws {
        try transaction.execute(
            """
            INSERT INTO tracking_trace_\(table) (trace_id, key, value) VALUES (?, ?, ?)
            ON CONFLICT (trace_id, key) DO UPDATE SET value = excluded.value
            """, [.text(id), .text(key), .text(value)])
    }

    static func requireTrace(_ id: String, _ transaction: any MetadataTransaction) throws {
        if try transaction.query("SELECT 1 FROM tracking_trace WHERE trace_id = ?", [.text(id)]).isEmpty {
            throw unknownTrace(id)
        }
    }

    static func unknownTrace(_ id: String) -> PlatformError {
        PlatformError(.notFound, "trace/\(id.prefix(100))", "Trace with ID '\(id.prefix(100))' not found")
    }

    static func trace(_ id: String, _ transaction: any MetadataTransaction) throws -> TraceInfo {
        let rows = try transaction.query("SELECT * FROM tracking_trace WHERE trace_id = ?", [.text(id)])
        guard let found = try traces(rows, transaction).first else { throw unknownTrace(id) }
        return found
    }

    static func traces(_ rows: [MetadataRow], _ transaction: any MetadataTransaction) throws -> [TraceInfo] {
        let ids = rows.map { $0["trace_id"] }
        func pairs(_ table: String) throws -> [String: [String: String]] {
            var found: [String: [String: String]] = [:]
            for row in try transaction.query("SELECT * FROM tracking_trace_\(table) WHERE trace_id", in: ids) {
                found[row.text("trace_id"), default: [:]][row.text("key")] = row.text("value")
            }
            return found
        }
        let (tags, metadata) = (try pairs("tag"), try pairs("metadata"))
        let assessments = try assessments(ofTraces: ids, transaction)
        return rows.map { row in
            let id = row.text("trace_id")
            return TraceInfo(
                id: id, experimentID: String(row.integer("experiment_number")), requestedAt: row.time("requested_at"),
                durationMilliseconds: row["duration"].integerValue,
                state: TraceState(rawValue: row.text("state")) ?? .unspecified,
                clientRequestID: row["client_request_id"].textValue,
                requestPreview: row["request_preview"].textValue, responsePreview: row["response_preview"].textValue,
                metadata: metadata[id] ?? [:], tags: tags[id] ?? [:], assessments: assessments[id] ?? [])
        }
    }

    // MARK: Checks

    static func distinct(_ ids: [String]) -> [String] {
        var seen: Set<String> = []
        return ids.filter { seen.insert($0).inserted }
    }

    static func checkCount(_ ids: [String]) throws(PlatformError) {
        guard ids.count <= TraceLimits.tracesPerCall else {
            throw PlatformError(
                .invalidInput, "trace_ids", "\(ids.count) traces, \(TraceLimits.tracesPerCall) are accepted in one call"
            )
        }
    }

    private static func checkChangeable(_ key: String) throws(PlatformError) {
        guard key != artifactTag, key != spansTag else {
            throw PlatformError(
                .invalidInput, "tag", "Tag '\(key)' is immutable and cannot be set or deleted on a trace.")
        }
    }

    static func check(value: String, of key: String) throws(PlatformError) {
        guard value.utf8.count <= TraceLimits.value else {
            throw PlatformError(
                .invalidInput, "trace",
                "'\(key.prefix(64))' is \(value.utf8.count) bytes long, \(TraceLimits.value) are accepted")
        }
    }

    private static func check(_ info: TraceInfo) throws(PlatformError) {
        try check(traceID: info.id)
        guard info.requestedAt.milliseconds >= 0 else {
            throw PlatformError(.invalidInput, "request_time", "it lies before 1970")
        }
        guard max(info.tags.count, info.metadata.count, info.assessments.count) <= TraceLimits.entriesPerTrace else {
            throw PlatformError(
                .invalidInput, "trace/\(info.id)",
                "\(TraceLimits.entriesPerTrace) tags, metadata and assessments are accepted of each")
        }
        for (key, value) in info.tags {
            try TrackingLimits.check(freeKey: key, of: "tag")
            try check(value: value, of: key)
        }
        for (key, value) in info.metadata {
            try TrackingLimits.check(freeKey: key, of: "metadata")
            try check(value: value, of: key)
        }
        for (name, preview) in [("request_preview", info.requestPreview), ("response_preview", info.responsePreview)] {
            if let preview { try TrackingLimits.check(preview, atMost: TraceLimits.preview, what: name) }
        }
        if let id = info.clientRequestID {
            try TrackingLimits.check(id, atMost: TrackingLimits.key, what: "client_request_id")
        }
    }

    /// A trace's identifier becomes part of a path.
    static func check(traceID id: String) throws(PlatformError) {
        let isPlain = id.utf8.allSatisfy { byte in
            48...57 ~= byte || 65...90 ~= byte || 97...122 ~= byte || byte == 0x2D || byte == 0x5F
        }
        guard 1...TraceLimits.identifier ~= id.utf8.count, isPlain else {
            throw PlatformError(
                .invalidInput, "trace_id",
                "'\(id.prefix(64))' is no identifier of a trace: up to \(TraceLimits.identifier) letters, digits, - and _"
            )
        }
    }
}
