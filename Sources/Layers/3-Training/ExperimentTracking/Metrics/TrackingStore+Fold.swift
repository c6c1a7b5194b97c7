import PlatformCore
import StoragePorts

extension TrackingStore {
    /// Puts metrics that are durable in the journal where queries find them.
    ///
    /// When it returns, everything that was acknowledged before is in the metadata store.
    public func settle() async throws {
        if tail.pointCount == 0 { return }
        await foldGate.enter()
        do { try await fold() } catch {
            await foldGate.leave()
            throw error
        }
        await foldGate.leave()
    }

    /// Settles metrics a moment after they came, until the task is cancelled.
    ///
    /// What arrives within the moment shares one transaction.
    public func run(failed: @Sendable (any Error) -> Void) async {
        for await _ in tail.arrivals {
            try? await Task.sleep(for: .milliseconds(foldDelayMilliseconds))
            do { try await settle() } catch { failed(error) }
            if Task.isCancelled { return }
        }
    }

    private func fold() async throws {
        guard let content = tail.startFolding() else { return }
        do {
            try await metadata.write { transaction in
                for (run, byKey) in content.runs {
                    for (key, series) in byKey {
                        try Self.fold(series, run: run, key: key, transaction)
                    }
                    try Self.touch(run, transaction)
                }
                for entry in content.modelMetrics {
                    try Self.append(entry.metric, ofModelIn: entry.runID, transaction)
                }
                try transaction.execute(
                    """
                    INSERT INTO tracking_journal (number, folded) VALUES (0, ?)
                    ON CONFLICT (number) DO UPDATE SET folded = excluded.folded
                    """, [.integer(Int64(clamping: content.lastNumber))])
            }
        } catch {
            tail.finishFolding(isDone: false)
            throw error
        }
        tail.finishFolding(isDone: true)
        journal.forget(upTo: content.lastNumber)
    }

    /// Reads what the journal still keeps.
    func recoverMetrics() async throws {
        let folded = try await metadata.read { transaction in
            UInt64(clamping: try transaction.query("SELECT folded FROM tracking_journal").first?.integer("folded") ?? 0)
        }
        try await journal.recover(next: folded + 1) { number, bytes in
            if number > folded { tail.add(try MetricEntry(bytes), number: number) }
        }
    }

    // MARK: Inside a transaction

    /// Says that a run has changed; who keeps what it made of the run looks at the revision.
    static func touch(_ run: Int64, _ transaction: any MetadataTransaction) throws {
        try transaction.execute("UPDATE tracking_run SET revision = revision + 1 WHERE number = ?", [.integer(run)])
    }

    /// Adds points to a metric's history and brings what is kept of it up to date.
    static func fold(
        _ series: MetricTail.Series, run: Int64, key: String, _ transaction: any MetadataTransaction
    ) throws {
        let added = try append(series.points.sortedOnce(), run: run, key: key, transaction)
        let finite = series.points.lazy.map(\.value).filter { !$0.isNaN }
        let latest = series.latest
        try transaction.execute(
            """
            INSERT INTO tracking_metric_latest (run_number, key, step, measured_at, value, is_nan, model_id,
                dataset_name, dataset_digest, point_count, minimum, maximum)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (run_number, key) DO UPDATE SET
                point_count = tracking_metric_latest.point_count + excluded.point_count,
                minimum = CASE WHEN tracking_metric_latest.minimum <= excluded.minimum
                    THEN tracking_metric_latest.minimum
                    ELSE COALESCE(excluded.minimum, tracking_metric_latest.minimum) END,
                maximum = CASE WHEN tracking_metric_latest.maximum >= excluded.maximum
                    THEN tracking_metric_latest.maximum
                    ELSE COALESCE(excluded.maximum, tracking_metric_latest.maximum) END
            """,
            [
                .integer(run), .text(key), .integer(latest.step), MetadataValue(latest.measuredAt),
                .real(latest.value.isNaN ? 0 : latest.value), .integer(latest.value.isNaN ? 1 : 0),
                MetadataValue(latest.modelID), MetadataValue(latest.datasetName), MetadataValue(latest.datasetDigest),
                .integer(Int64(added)), MetadataValue(real: finite.min()), MetadataValue(real: finite.max()),
            ])
        try transaction.execute(
            """
            UPDATE tracking_metric_latest SET step = ?, measured_at = ?, value = ?, is_nan = ?, model_id = ?,
                dataset_name = ?, dataset_digest = ?
            WHERE run_number = ? AND key = ? AND (?, ?, ?) >= (step, measured_at, value)
            """,
            [
                .integer(latest.step), MetadataValue(latest.measuredAt),
                .real(latest.value.isNaN ? 0 : latest.value), .integer(latest.value.isNaN ? 1 : 0),
                MetadataValue(latest.modelID), MetadataValue(latest.datasetName), MetadataValue(latest.datasetDigest),
                .integer(run), .text(key), .integer(latest.step), MetadataValue(latest.measuredAt),
                .real(latest.value.isNaN ? 0 : latest.value),
            ])
    }

    /// Adds sorted points to a history; gives how many were new.
    ///
    /// Chunks lie one behind the other: the last point of each comes before the first of the next.
    private static func append(
        _ points: [MetricPoint], run: Int64, key: String, _ transaction: any MetadataTransaction
    ) throws -> Int {
        guard let first = points.first else { return 0 }
        let place: [MetadataValue] = [.integer(run), .text(key)]
        let last = try transaction.query(
            """
            SELECT number, point_count, last_at, last_step FROM tracking_metric_chunk
            WHERE run_number = ? AND key = ? ORDER BY number DESC LIMIT 1
            """, place
        ).first
        var number = (last?.integer("number") ?? -1) + 1
        var points = points
        var known = 0
        if let last {
            if (first.milliseconds, first.step) <= (last.integer("last_at"), last.integer("last_step")) {
                // Out of order, or sent again: everything from there on is written anew.
                number =
                    try transaction.query(
                        """
                        SELECT MIN(number) AS number FROM tracking_metric_chunk WHERE run_number = ? AND key = ?
                        AND (last_at, last_step) >= (?, ?)
                        """, place + [.integer(first.milliseconds), .integer(first.step)]
                    ).first?.integer("number") ?? number
            } else {
                // Small chunks grow together, so that there are few however small the portions are.
                let count = last.integer("point_count")
                if count <= 2 * points.count, Int(count) + points.count <= MetricChunk.pointCountMax {
                    number = last.integer("number")
                    while number > 0,
                        let before = try transaction.query(
                            "SELECT point_count FROM tracking_metric_chunk WHERE run_number = ? AND key = ? AND number = ?",
                            place + [.integer(number - 1)]
                        ).first?.integer("point_count"), before <= 2 * count,
                        Int(before + count) + points.count <= MetricChunk.pointCountMax
                    {
                        number -= 1
                    }
                }
            }
            var old: [MetricPoint] = []
            for row in try transaction.query(
                """
                SELECT points FROM tracking_metric_chunk WHERE run_number = ? AND key = ? AND number >= ?
                ORDER BY number
                """, place + [.integer(number)])
            {
                try MetricChunk.decode(row["points"].blobValue ?? [], to: &old)
            }
            known = old.count
            if known > 0 {
                try transaction.execute(
                    "DELETE FROM tracking_metric_chunk WHERE run_number = ? AND key = ? AND number >= ?",
                    place + [.integer(number)])
                points = old.merged(with: points)
            }
        }
        var at = 0
        while at < points.count {
            let part = points[at..<min(at + MetricChunk.pointCountMax, points.count)]
            guard let end = part.last else { break }
            try transaction.execute(
                """
                INSERT INTO tracking_metric_chunk (run_number, key, number, point_count, first_at, last_at, last_step,
                    points) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """,
                place + [
                    .integer(number), .integer(Int64(part.count)), .integer(part[at].milliseconds),
                    .integer(end.milliseconds), .integer(end.step), .blob(MetricChunk.encode(part)),
                ])
            number += 1
            at += part.count
        }
        return points.count - known
    }
}

extension MetadataValue {
    fileprivate init(real value: Double?) { self = value.map(MetadataValue.real) ?? .null }
}

/// Lets one in at a time, in the order of coming.
actor FoldGate {
    private var isTaken = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    func enter() async {
        if !isTaken {
            isTaken = true
            return
        }
        await withCheckedContinuation { waiting.append($0) }
    }

    func leave() {
        if waiting.isEmpty { isTaken = false } else { waiting.removeFirst().resume() }
    }
}
