import ContentHashing
import PlatformCore
import StoragePorts

extension TrackingStore {
    /// Writes records of an evaluation dataset, all or none: what has the inputs of a record that is there is merged into it.
    ///
    /// Outputs are replaced, expectations and tags are added; two drafts of one call with the same inputs are one record.
    /// - Throws: `notFound`; `invalidInput` for what is too large.
    public func mergeRecords(
        _ drafts: [EvaluationDraft], ofEvaluationDataset id: String
    ) async throws -> (inserted: Int, updated: Int) {
        guard drafts.count <= EvaluationLimits.recordsPerCall else {
            throw PlatformError(
                .invalidInput, "records", "\(drafts.count) records, \(EvaluationLimits.recordsPerCall) are accepted")
        }
        let now = clock.now()
        let fresh = drafts.map { draft in (draft, ContentHasher.hash(JSONValue.object(draft.inputs).canonicalBytes).hex)
        }
        let ids = drafts.map { _ in "dr-" + newIdentifier() }
        return try await metadata.write { transaction in
            let dataset = try Self.evaluationDataset(id, transaction)
            var schema = EvaluationSchema(dataset.schema)
            var inserted = 0
            for ((draft, hash), newID) in zip(fresh, ids) {
                schema.add(draft)
                let known = try transaction.query(
                    "SELECT * FROM tracking_evaluation_record WHERE dataset_id = ? AND input_hash = ?",
                    [.text(id), .text(hash)]
                ).first.map(Self.evaluationRecord)
                if known == nil { inserted += 1 }
                let record =
                    try known.map { try Self.merged(draft, into: $0, at: now) } ?? Self.made(draft, newID, at: now)
                try Self.write(record, hash: hash, ofEvaluationDataset: id, transaction)
            }
            let count = try Self.checkedRecordCount(id, transaction)
            let isEmpty = drafts.isEmpty && dataset.schema == nil
            try transaction.execute(
                """
                UPDATE tracking_evaluation_dataset SET updated_at = ?, updated_by = ?, digest = ?, schema_text = ?,
                    profile = ? WHERE dataset_id = ?
                """,
                [
                    MetadataValue(now), MetadataValue(drafts.compactMap(\.user).last),
                    .text(Self.digest(dataset.name, now)), isEmpty ? .null : .text(schema.text),
                    MetadataValue(count > 0 ? Self.profile(count) : dataset.profile), .text(id),
                ])
            return (inserted, drafts.count - inserted)
        }
    }

    /// Records of an evaluation dataset, oldest first, as many as one answer holds and one at least.
    ///
    /// - Parameter pageToken: where the page begins, as the page before it said.
    /// - Throws: `invalidInput` for a token of another dataset. An unknown dataset has no records.
    public func records(
        ofEvaluationDataset id: String, pageToken: String? = nil, countMax: Int = 1000
    ) async throws -> (records: [EvaluationRecord], nextPageToken: String?) {
        let question: JSONValue = ["call": "evaluation-records", "dataset": .string(id)]
        var (time, last) = (Int64.min, "")
        if let pageToken, !pageToken.isEmpty {
            let place = try pageSeal.place(pageToken, question: question)
            (time, last) = (place["at"]?.integerValue ?? 0, place["id"]?.stringValue ?? "")
        }
        let (records, hasMore) = try await metadata.read { [time, last] transaction in
            let rows = try transaction.query(
                """
                SELECT record_id, created_at, byte_count FROM tracking_evaluation_record
                WHERE dataset_id = ? AND created_at >= ? AND (created_at > ? OR record_id > ?)
                ORDER BY created_at, record_id LIMIT ?
                """, [.text(id), .integer(time), .integer(time), .text(last), .integer(Int64(countMax) + 1)])
            var (taken, byteCount) = (0, 0)
            for row in rows.prefix(countMax) {
                byteCount += Int(row.integer("byte_count"))
                if taken > 0, byteCount > EvaluationLimits.pageByteCount { break }
                taken += 1
            }
            let wanted = rows.prefix(taken).map { $0["record_id"] }
            let found = Dictionary(
                try transaction.query("SELECT * FROM tracking_evaluation_record WHERE record_id", in: wanted)
                    .map(Self.evaluationRecord).map { ($0.id, $0) }, uniquingKeysWith: { $1 })
            return (wanted.compactMap { found[$0.textValue ?? ""] }, rows.count > taken)
        }
        guard hasMore, let end = records.last else { return (records, nil) }
        let place: JSONValue = ["at": .integer(end.createdAt.milliseconds), "id": .string(end.id)]
        return (records, pageSeal.token(place, question: question))
    }

    /// Removes records of an evaluation dataset; gives how many there were.
    public func deleteRecords(_ records: [String], ofEvaluationDataset id: String) async throws -> Int {
        guard records.count <= EvaluationLimits.recordsPerCall else {
            throw PlatformError(
                .invalidInput, "dataset_record_ids",
                "\(records.count) records, \(EvaluationLimits.recordsPerCall) are accepted")
        }
        return try await metadata.write { transaction in
            var count = 0
            for record in Set(records) {
                count += try transaction.execute(
                    "DELETE FROM tracking_evaluation_record WHERE record_id = ? AND dataset_id = ?",
                    [.text(record), .text(id)])
            }
            if count > 0 {
                let left = try Self.recordCount(id, transaction)
                try transaction.execute(
                    "UPDATE tracking_evaluation_dataset SET profile = ? WHERE dataset_id = ?",
                    [.text(left > 0 ? Self.profile(left) : "null"), .text(id)])
            }
            return count
        }
    }

    /// Writes records with the identity and times that they had elsewhere.
    ///
    /// One of the same identity is replaced. One of another identity stays, even with the same inputs: where they come from
    /// they differ, by numbers that are no JSON (`NaN`) and come as `null`. Merging later finds the one that came first.
    /// - Throws: `notFound` for the dataset; `conflict` for an identity of another dataset's record; `invalidInput`.
    public func importRecords(_ records: [EvaluationRecord], ofEvaluationDataset id: String) async throws {
        try await metadata.write { transaction in
            _ = try Self.evaluationDataset(id, transaction)
            for record in records {
                try TrackingLimits.check(freeKey: record.id, of: "dataset_record_id")
                try transaction.execute(
                    "DELETE FROM tracking_evaluation_record WHERE dataset_id = ? AND record_id = ?",
                    [.text(id), .text(record.id)])
                var hash = ContentHasher.hash(record.inputs).hex
                let isTaken = try !transaction.query(
                    "SELECT record_id FROM tracking_evaluation_record WHERE dataset_id = ? AND input_hash = ?",
                    [.text(id), .text(hash)]
                ).isEmpty
                if isTaken { hash = ContentHasher.hash("\(record.id) \(record.inputs)").hex }
                try Self.write(record, hash: hash, ofEvaluationDataset: id, transaction)
            }
            _ = try Self.checkedRecordCount(id, transaction)
        }
    }

    // MARK: Inside a transaction

    private static func profile(_ count: Int64) -> String { "{\"num_records\": \(count)}" }

    private static func recordCount(_ id: String, _ transaction: any MetadataTransaction) throws -> Int64 {
        try transaction.query(
            "SELECT COUNT(*) AS count FROM tracking_evaluation_record WHERE dataset_id = ?", [.text(id)]
        ).first?.integer("count") ?? 0
    }

    private static func checkedRecordCount(_ id: String, _ transaction: any MetadataTransaction) throws -> Int64 {
        let count = try recordCount(id, transaction)
        guard count <= EvaluationLimits.recordsPerDataset else {
            throw PlatformError(
                .invalidInput, "dataset/\(id)",
                "it would have \(count) records, \(EvaluationLimits.recordsPerDataset) are accepted")
        }
        return count
    }

    private static func made(_ draft: EvaluationDraft, _ id: String, at time: EventTime) -> EvaluationRecord {
        EvaluationRecord(
            id: id, inputs: JSONValue.object(draft.inputs).text,
            outputs: draft.hasOutputs ? draft.outputsText : "{}",
            expectations: draft.expectations.map { JSONValue.object($0).text },
            tags: JSONValue.object(draft.tags ?? [:]).text, source: draft.source?.json.text,
            sourceID: draft.source?.id, sourceType: draft.source?.kind.rawValue, createdAt: time, updatedAt: time,
            createdBy: draft.user, updatedBy: draft.user)
    }

    private static func merged(
        _ draft: EvaluationDraft, into known: EvaluationRecord, at time: EventTime
    ) throws -> EvaluationRecord {
        func joined(_ text: String?, _ more: [String: JSONValue]?) throws -> String? {
            guard let more, !more.isEmpty else { return text }
            let members = try text.flatMap { try JSONValue.parse($0).objectValue } ?? [:]
            return JSONValue.object(members.merging(more) { $1 }).text
        }
        return EvaluationRecord(
            id: known.id, inputs: known.inputs,
            outputs: draft.hasOutputs ? draft.outputsText : known.outputs,
            expectations: try joined(known.expectations, draft.expectations),
            tags: try joined(known.tags, draft.tags) ?? "{}", source: known.source, sourceID: known.sourceID,
            sourceType: known.sourceType, createdAt: known.createdAt, updatedAt: time, createdBy: known.createdBy,
            updatedBy: draft.user ?? known.updatedBy)
    }

    private static func write(
        _ record: EvaluationRecord, hash: String, ofEvaluationDataset id: String, _ transaction: any MetadataTransaction
    ) throws {
        guard record.byteCount <= EvaluationLimits.recordByteCount else {
            throw PlatformError(
                .invalidInput, "record",
                "one has \(record.byteCount) bytes, \(EvaluationLimits.recordByteCount) are accepted"
            )
        }
        let written = try transaction.execute(
            """
            INSERT INTO tracking_evaluation_record (record_id, dataset_id, input_hash, inputs, outputs, expectations,
                tags, source, source_id, source_type, created_at, updated_at, created_by, updated_by, byte_count)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (record_id) DO UPDATE SET outputs = excluded.outputs, expectations = excluded.expectations,
                tags = excluded.tags, updated_at = excluded.updated_at, updated_by = excluded.updated_by,
                byte_count = excluded.byte_count
            WHERE tracking_evaluation_record.dataset_id = excluded.dataset_id
            """,
            [
                .text(record.id), .text(id), .text(hash), .text(record.inputs), MetadataValue(record.outputs),
                MetadataValue(record.expectations), .text(record.tags), MetadataValue(record.source),
                MetadataValue(record.sourceID), MetadataValue(record.sourceType), MetadataValue(record.createdAt),
                MetadataValue(record.updatedAt), MetadataValue(record.createdBy), MetadataValue(record.updatedBy),
                .integer(Int64(record.byteCount)),
            ])
        guard written == 1 else {
            throw PlatformError(.conflict, "record/\(record.id)", "another dataset has a record of this identifier")
        }
    }

    private static func evaluationRecord(_ row: MetadataRow) -> EvaluationRecord {
        EvaluationRecord(
            id: row.text("record_id"), inputs: row.text("inputs"), outputs: row["outputs"].textValue,
            expectations: row["expectations"].textValue, tags: row.text("tags"), source: row["source"].textValue,
            sourceID: row["source_id"].textValue, sourceType: row["source_type"].textValue,
            createdAt: row.time("created_at"), updatedAt: row.time("updated_at"),
            createdBy: row["created_by"].textValue,
            updatedBy: row["updated_by"].textValue)
    }
}
