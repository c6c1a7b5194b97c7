import PlatformCore
public import StoragePorts

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
        let (params, tags) = (params.map(TrackingLimits.kept(param:)), tags.map(TrackingLimits.kept(runTag:)))
        if params.isEmpty, tags.isEmpty, !metrics.isEmpty { return try await journal(metrics, run: id) }
        let number = try await metadata.write { transaction in
            let number = try Self.activeRun(id, transaction)
            try Self.append(metrics, run: number, id: id, transaction)
            try Self.set(params, ofRun: number, id: id, transaction)
            for tag in tags { try Self.set(tag, ofRun: number, transaction) }
            try Self.touch(number, transaction)
            return number
        }
        if !metrics.isEmpty { tail.publish(metrics, nil, run: number) }
    }

    /// Logs metrics alone without waiting, if the run is known to be active and nothing else is in the way.
    ///
    /// `answer` is called once, with `nil` when they are durable. It runs on a thread that it must not hold up.
    ///
    /// - Parameter mayHold: whether the calling thread may be held up for one write of a block; `answer` is then called
    ///   before this returns, where that is possible.
    /// - Returns: `false` if this way is not open now; nothing was done then, and `logBatch` is the way.
    /// - Throws: `invalidInput`.
    public func offer(
        _ metrics: [Metric], run id: String, mayHold: Bool = false, answer: @escaping @Sendable (StoreError?) -> Void
    ) throws -> Bool {
        guard let number = activeRuns[id], tail.pointCount < Self.waitingPointCountMax else { return false }
        try Self.check(metrics: metrics, params: [], tags: [])
        journal(MetricEntry(run: number, runID: id, metrics: metrics), mayHold: mayHold, answer)
        return true
    }

    private func journal(_ metrics: [Metric], run id: String) async throws {
        if tail.pointCount >= Self.waitingPointCountMax { try await settle() }
        let number: Int64
        if let known = activeRuns[id] {
            number = known
        } else {
            let generation = activeRuns.generation
            number = try await metadata.read { transaction in try Self.activeRun(id, transaction) }
            activeRuns.remember(id, number: number, generation: generation)
        }
        let entry = MetricEntry(run: number, runID: id, metrics: metrics)
        let failure = await withCheckedContinuation { continuation in
            journal(entry) { continuation.resume(returning: $0) }
        }
        if let failure { throw failure }
    }

    private func journal(
        _ entry: MetricEntry, mayHold: Bool = false, _ answer: @escaping @Sendable (StoreError?) -> Void
    ) {
        let bytes = entry.bytes
        let durable: @Sendable (Result<UInt64, StoreError>) -> Void = { [tail] outcome in
            switch outcome {
            case .success(let number):
                tail.add(entry, number: number)
                answer(nil)
            case .failure(let error): answer(error)
            }
        }
        if mayHold, journal.appendNow(bytes, durable: durable) { return }
        journal.append(bytes, durable: durable)
    }

    /// The latest value of each metric of a run, by key: greatest step, then time, then value.
    public func latestMetrics(_ id: String) async throws -> [Metric] { try await run(id).metrics }

    /// Histories that were written before there were chunks become chunks.
    func foldOlderHistories() async throws {
        while true {
            let isDone = try await metadata.write { transaction in
                let rows = try transaction.query(
                    """
                    SELECT run_number, key, measured_at, step, value, is_nan FROM tracking_metric
                    ORDER BY run_number, key LIMIT 20000
                    """)
                if rows.isEmpty { return true }
                for (place, rows) in Dictionary(
                    grouping: rows, by: { RunKey(run: $0.integer("run_number"), key: $0.text("key")) })
                {
                    let metrics = rows.map { $0.metric() }
                    let latest = metrics.dropFirst().reduce(metrics[0]) { $0.isLatest(beside: $1) ? $0 : $1 }
                    try Self.fold(
                        MetricTail.Series(points: metrics.map(MetricPoint.init), latest: latest), run: place.run,
                        key: place.key, transaction)
                    for metric in metrics {
                        try transaction.execute(
                            """
                            DELETE FROM tracking_metric WHERE run_number = ? AND key = ? AND measured_at = ?
                            AND step = ? AND value = ? AND is_nan = ?
                            """,
                            [
                                .integer(place.run), .text(place.key), MetadataValue(metric.measuredAt),
                                .integer(metric.step), .real(metric.value.isNaN ? 0 : metric.value),
                                .integer(metric.value.isNaN ? 1 : 0),
                            ])
                    }
                }
                return false
            }
            if isDone { return }
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
        }
        for tag in tags { try TrackingLimits.check(key: tag.key, of: "tag") }
    }

    private static func append(
        _ metrics: [Metric], run number: Int64, id: String, _ transaction: any MetadataTransaction
    ) throws {
        var content = MetricTail.Content()
        content.add(MetricEntry(run: number, runID: id, metrics: metrics), number: 0)
        for (key, series) in content.runs[number] ?? [:] {
            try fold(series, run: number, key: key, transaction)
        }
        for entry in content.modelMetrics { try append(entry.metric, ofModelIn: id, transaction) }
    }

    /// Keeps a measurement of a metric that describes a logged model.
    static func append(
        _ metric: Metric, ofModelIn runID: String, _ transaction: any MetadataTransaction
    ) throws {
        try transaction.execute(
            """
            INSERT INTO tracking_logged_model_metric (model_id, key, run_id, dataset_name, dataset_digest, step,
                measured_at, value, is_nan) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (model_id, key, run_id, dataset_name, dataset_digest, step, measured_at)
                DO UPDATE SET value = excluded.value, is_nan = excluded.is_nan
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

/// A metric of a run.
private struct RunKey: Hashable {
    let run: Int64
    let key: String
}
