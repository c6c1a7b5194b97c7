import PlatformCore
import StoragePorts

extension TrackingStore {
    /// Appends metrics to a run.
    public func logMetrics(_ metrics: [Metric], run id: String) async throws {
        try await logBatch(run: id, metrics: metrics)
    }

    /// Logs metrics, parameters and tags together: all of them or, when it throws, none.
    ///
    /// The same measurement logged twice counts once, so a batch can be sent again after a lost answer. A parameter is
    /// written once: the same value again is accepted, another one refused.
    /// - Throws: `notFound`, `invalidInput`.
    public func logBatch(
        run id: String, metrics: [Metric] = [], params: [TrackedTag] = [], tags: [TrackedTag] = []
    ) async throws {
        try Self.check(metrics: metrics, params: params, tags: tags)
        try await metadata.write { transaction in
            let number = try Self.activeRun(id, transaction)
            try Self.append(metrics, run: number, id: id, transaction)
            try Self.set(params, ofRun: number, id: id, transaction)
            for tag in tags { try Self.set(tag, ofRun: number, transaction) }
        }
    }

    /// The latest value of each metric of a run, by key: greatest step, then time, then value.
    public func latestMetrics(_ id: String) async throws -> [Metric] { try await run(id).metrics }

    /// All values of one metric of a run, by time, step and value.
    public func metricHistory(
        run id: String, key: String, offset: Int = 0, countMax: Int = 25_000
    ) async throws -> TrackedPage<Metric> {
        try await metadata.read { transaction in
            let info = try Self.info(id, transaction)
            let rows = try transaction.query(
                """
                SELECT key, measured_at, step, value, is_nan FROM tracking_metric WHERE run_number = ? AND key = ?
                ORDER BY measured_at, step, value LIMIT ? OFFSET ?
                """,
                [
                    .integer(info.number), .text(key), .integer(Int64(countMax) + 1), .integer(Int64(offset)),
                ])
            return TrackedPage(
                elements: rows.prefix(countMax).map { $0.metric() },
                nextOffset: rows.count > countMax ? offset + countMax : nil)
        }
    }

    // MARK: Inside a transaction

    private static func check(
        metrics: [Metric], params: [TrackedTag], tags: [TrackedTag]
    ) throws(PlatformError) {
        for (count, limit, what) in [
            (metrics.count, TrackingLimits.metricsPerBatch, "metrics"),
            (params.count, TrackingLimits.paramsPerBatch, "params"),
            (tags.count, TrackingLimits.tagsPerBatch, "tags"),
            (metrics.count + params.count + tags.count, TrackingLimits.entitiesPerBatch, "metrics, params and tags"),
        ] where count > limit {
            throw PlatformError(.invalidInput, "log-batch", "\(count) \(what) in one batch, \(limit) are accepted")
        }
        for metric in metrics { try TrackingLimits.check(key: metric.key, of: "metric") }
        for param in params {
            try TrackingLimits.check(key: param.key, of: "param")
            try TrackingLimits.check(param.value, atMost: TrackingLimits.paramValue, what: "param '\(param.key)'")
        }
        for tag in tags { try check(runTag: tag) }
    }

    private static func append(
        _ metrics: [Metric], run number: Int64, id: String, _ transaction: any MetadataTransaction
    ) throws {
        if metrics.isEmpty { return }
        // Several rows in one statement: binding is cheap, a statement is not. Two lengths keep two statements prepared.
        var at = 0
        while at < metrics.count {
            let count = metrics.count - at >= 50 ? 50 : 1
            var arguments: [MetadataValue] = []
            arguments.reserveCapacity(count * 6)
            for metric in metrics[at..<(at + count)] {
                arguments += [
                    .integer(number), .text(metric.key), MetadataValue(metric.measuredAt), .integer(metric.step),
                    .real(metric.value.isNaN ? 0 : metric.value), .integer(metric.value.isNaN ? 1 : 0),
                ]
            }
            try transaction.execute(count == 1 ? insertOne : insertFifty, arguments)
            at += count
        }
        var latest: [String: Metric] = [:]
        for metric in metrics {
            if let known = latest[metric.key], metric.isEarlier(than: known) { continue }
            latest[metric.key] = metric
        }
        for metric in latest.values {
            try transaction.execute(
                """
                INSERT INTO tracking_metric_latest (run_number, key, step, measured_at, value, is_nan, model_id,
                    dataset_name, dataset_digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (run_number, key) DO UPDATE SET step = excluded.step, measured_at = excluded.measured_at,
                    value = excluded.value, is_nan = excluded.is_nan, model_id = excluded.model_id,
                    dataset_name = excluded.dataset_name, dataset_digest = excluded.dataset_digest
                WHERE (excluded.step, excluded.measured_at, excluded.value) >= (tracking_metric_latest.step,
                    tracking_metric_latest.measured_at, tracking_metric_latest.value)
                """,
                [
                    .integer(number), .text(metric.key), .integer(metric.step), MetadataValue(metric.measuredAt),
                    .real(metric.value.isNaN ? 0 : metric.value), .integer(metric.value.isNaN ? 1 : 0),
                    MetadataValue(metric.modelID), MetadataValue(metric.datasetName),
                    MetadataValue(metric.datasetDigest),
                ])
        }
        for metric in metrics where metric.modelID != nil { try append(metric, ofModelIn: id, transaction) }
    }

    private static let insertOne = insert(rowCount: 1)
    private static let insertFifty = insert(rowCount: 50)

    private static func insert(rowCount: Int) -> String {
        let rows = Array(repeating: "(?, ?, ?, ?, ?, ?)", count: rowCount).joined(separator: ", ")
        return "INSERT INTO tracking_metric (run_number, key, measured_at, step, value, is_nan) VALUES \(rows) "
            + "ON CONFLICT (run_number, key, measured_at, step, value, is_nan) DO NOTHING"
    }

    /// Keeps the latest value of a metric that describes a logged model, per run and dataset.
    private static func append(
        _ metric: Metric, ofModelIn runID: String, _ transaction: any MetadataTransaction
    ) throws {
        try transaction.execute(
            """
            INSERT INTO tracking_logged_model_metric (model_id, key, run_id, dataset_name, dataset_digest, step,
                measured_at, value, is_nan) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (model_id, key, run_id, dataset_name, dataset_digest) DO UPDATE SET step = excluded.step,
                measured_at = excluded.measured_at, value = excluded.value, is_nan = excluded.is_nan
            WHERE (excluded.step, excluded.measured_at) >= (tracking_logged_model_metric.step,
                tracking_logged_model_metric.measured_at)
            """,
            [
                MetadataValue(metric.modelID), .text(metric.key), .text(runID), .text(metric.datasetName ?? ""),
                .text(metric.datasetDigest ?? ""), .integer(metric.step), MetadataValue(metric.measuredAt),
                .real(metric.value.isNaN ? 0 : metric.value), .integer(metric.value.isNaN ? 1 : 0),
            ])
    }

    private static func set(
        _ params: [TrackedTag], ofRun number: Int64, id: String, _ transaction: any MetadataTransaction
    ) throws {
        for param in params {
            let changed = try transaction.execute(
                """
                INSERT INTO tracking_param (run_number, key, value) VALUES (?, ?, ?)
                ON CONFLICT (run_number, key) DO NOTHING
                """, [.integer(number), .text(param.key), .text(param.value)])
            if changed > 0 { continue }
            let old = try transaction.query(
                "SELECT value FROM tracking_param WHERE run_number = ? AND key = ?",
                [.integer(number), .text(param.key)]
            ).first?.text("value")
            guard old == param.value else {
                throw PlatformError(
                    .invalidInput, "param '\(param.key)'",
                    "Changing param values is not allowed. Param with key='\(param.key)' was already logged with "
                        + "value='\((old ?? "").prefix(200))' for run ID='\(id)'. Attempted logging new value "
                        + "'\(param.value.prefix(200))'.")
            }
        }
    }
}

extension Metric {
    fileprivate func isEarlier(than other: Metric) -> Bool {
        (step, measuredAt, value.isNaN ? 0 : value) < (
            other.step, other.measuredAt, other.value.isNaN ? 0 : other.value
        )
    }
}
