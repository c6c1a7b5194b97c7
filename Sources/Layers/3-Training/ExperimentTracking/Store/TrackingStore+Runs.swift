public import PlatformCore
import StoragePorts

extension TrackingStore {
    /// Starts a run; a name is drawn if none is given.
    ///
    /// The name is both the run's name and its tag `mlflow.runName`; setting either sets the other.
    /// - Throws: `notFound` for the experiment, `invalidInput`.
    public func createRun(
        experiment id: String, name: String? = nil, tags: [TrackedTag] = [], userName: String? = nil,
        startedAt: EventTime? = nil
    ) async throws -> TrackedRun {
        for tag in tags { try TrackingLimits.check(freeKey: tag.key, of: "tag") }
        let tags = tags.map(TrackingLimits.kept(runTag:))
        let fromTag = tags.last { $0.key == "mlflow.runName" }?.value
        if let name, let fromTag, !name.isEmpty, name != fromTag {
            throw PlatformError(.invalidInput, "run_name", "it differs from the tag mlflow.runName; give one of them")
        }
        let name = [name, fromTag].compactMap(\.self).first { !$0.isEmpty } ?? RunNames.draw()
        try Self.check(runTag: TrackedTag("mlflow.runName", name))
        let userName = userName ?? tags.last { $0.key == "mlflow.user" }?.value ?? ""
        let runID = newIdentifier()
        let startedAt = MetadataValue(startedAt ?? clock.now())
        let generation = activeRuns.generation
        let run = try await metadata.write { transaction in
            let experiment = try Self.activeExperiment(id, transaction)
            let location =
                try transaction.query(
                    "SELECT artifact_location FROM tracking_experiment WHERE number = ?", [.integer(experiment)]
                ).first?.text("artifact_location") ?? ""
            let number = try transaction.nextNumber(in: "tracking_run")
            try transaction.execute(
                """
                INSERT INTO tracking_run (number, run_id, experiment_number, name, user_name, status, started_at,
                    ended_at, artifact_uri, is_deleted) VALUES (?, ?, ?, ?, ?, 'RUNNING', ?, NULL, ?, 0)
                """,
                [
                    .integer(number), .text(runID), .integer(experiment), .text(name), .text(userName), startedAt,
                    .text("\(location)/\(runID)/artifacts"),
                ])
            for tag in tags where tag.key != "mlflow.runName" {
                try Self.set(tag, ofRun: number, transaction)
            }
            try Self.set(TrackedTag("mlflow.runName", name), ofRun: number, transaction)
            return try Self.run(runID, transaction)
        }
        activeRuns.remember(runID, number: run.info.number, generation: generation)
        return run
    }

    /// A run with all that it logged, deleted ones too.
    /// - Throws: `notFound`.
    public func run(_ id: String) async throws -> TrackedRun {
        let number = try await runInfo(id).number
        let recent = tail.series(ofRun: number)  // before the metadata store: see `points`
        let found = try await metadata.read { transaction in try Self.run(id, transaction) }
        return recent.isEmpty ? found : found.with(latest: recent.mapValues(\.latest))
    }

    /// What is known of a run itself, without what it logged.
    /// - Throws: `notFound`.
    public func runInfo(_ id: String) async throws -> RunInfo {
        try await metadata.read { transaction in try Self.info(id, transaction) }
    }

    /// Ends a run, now unless another moment is given.
    public func finishRun(_ id: String, status: RunStatus = .finished, endedAt: EventTime? = nil) async throws {
        _ = try await updateRun(id, status: status, endedAt: endedAt ?? clock.now())
    }

    /// Changes what is given and leaves the rest.
    public func updateRun(
        _ id: String, status: RunStatus? = nil, endedAt: EventTime? = nil, name: String? = nil
    ) async throws -> RunInfo {
        let name = name.flatMap { $0.isEmpty ? nil : $0 }
        if let name { try Self.check(runTag: TrackedTag("mlflow.runName", name)) }
        let info = try await metadata.write { transaction in
            let number = MetadataValue.integer(try Self.activeRun(id, transaction))
            if let status {
                try transaction.execute(
                    "UPDATE tracking_run SET status = ? WHERE number = ?", [.text(status.rawValue), number])
            }
            if let endedAt {
                try transaction.execute(
                    "UPDATE tracking_run SET ended_at = ? WHERE number = ?", [MetadataValue(endedAt), number])
            }
            if let name, let row = number.integerValue {
                try Self.set(TrackedTag("mlflow.runName", name), ofRun: row, transaction)
            }
            if let row = number.integerValue { try Self.touch(row, transaction) }
            return try Self.info(id, transaction)
        }
        if let status { tail.publish([], status, run: info.number) }
        return info
    }

    /// Marks a run deleted, or brings it back.
    ///
    /// Nothing happens if it is so already.
    /// - Throws: `notFound`.
    public func setRun(_ id: String, deleted: Bool) async throws {
        try await metadata.write { transaction in
            let info = try Self.info(id, transaction)
            try transaction.execute(
                "UPDATE tracking_run SET is_deleted = ?, revision = revision + 1 WHERE number = ?",
                [.integer(deleted ? 1 : 0), .integer(info.number)])
        }
        activeRuns.forget()
    }

    /// Sets a tag of a run.
    public func setTag(_ tag: TrackedTag, ofRun id: String) async throws {
        try TrackingLimits.check(key: tag.key, of: "tag")
        let tag = TrackingLimits.kept(runTag: tag)
        try await metadata.write { transaction in
            let number = try Self.activeRun(id, transaction)
            try Self.set(tag, ofRun: number, transaction)
            try Self.touch(number, transaction)
        }
    }

    /// Removes a tag of a run.
    /// - Throws: `notFound` if it has no such tag.
    public func deleteTag(_ key: String, ofRun id: String) async throws {
        try await metadata.write { transaction in
            let number = try Self.activeRun(id, transaction)
            let changed = try transaction.execute(
                "DELETE FROM tracking_run_tag WHERE run_number = ? AND key = ?", [.integer(number), .text(key)])
            try Self.touch(number, transaction)
            guard changed > 0 else {
                throw PlatformError(.notFound, "run/\(id)", "No tag with name: \(key) in run with id \(id)")
            }
        }
    }

    /// The parameters of a run, by key.
    public func params(_ id: String) async throws -> [TrackedTag] { try await run(id).params }

    // MARK: Inside a transaction

    static func info(_ id: String, _ transaction: any MetadataTransaction) throws -> RunInfo {
        guard let row = try transaction.query("SELECT * FROM tracking_run WHERE run_id = ?", [.text(id)]).first else {
            throw PlatformError(.notFound, "run/\(id.prefix(64))", "Run with id=\(id.prefix(64)) not found")
        }
        return info(row)
    }

    static func info(_ row: MetadataRow) -> RunInfo {
        RunInfo(
            id: row.text("run_id"), number: row.integer("number"),
            experimentID: String(row.integer("experiment_number")), name: row.text("name"),
            userName: row.text("user_name"), status: RunStatus(rawValue: row.text("status")) ?? .running,
            startedAt: row.time("started_at"), endedAt: row.optionalTime("ended_at"),
            artifactURI: row.text("artifact_uri"), isDeleted: row.flag("is_deleted"))
    }

    /// The number of a run that may change.
    static func activeRun(_ id: String, _ transaction: any MetadataTransaction) throws -> Int64 {
        guard
            let row = try transaction.query(
                "SELECT number, is_deleted FROM tracking_run WHERE run_id = ?", [.text(id)]
            ).first
        else { throw PlatformError(.notFound, "run/\(id.prefix(64))", "Run with id=\(id.prefix(64)) not found") }
        guard !row.flag("is_deleted") else {
            throw PlatformError(
                .invalidInput, "run/\(id)",
                "The run \(id) must be in the 'active' state. Current state is deleted; restore it first")
        }
        return row.integer("number")
    }

    static func run(_ id: String, _ transaction: any MetadataTransaction) throws -> TrackedRun {
        guard let run = try details(of: [info(id, transaction)], transaction).first else {
            throw PlatformError(.notFound, "run/\(id)", "Run with id=\(id) not found")
        }
        return run
    }

    /// Runs with all that they logged, a handful of queries for all of them.
    static func details(of infos: [RunInfo], _ transaction: any MetadataTransaction) throws -> [TrackedRun] {
        let numbers = infos.map { MetadataValue.integer($0.number) }
        func byRun(_ rows: [MetadataRow]) -> [Int64: [MetadataRow]] {
            Dictionary(grouping: rows) { $0.integer("run_number") }
        }
        let metrics = byRun(
            try transaction.query(
                "SELECT * FROM tracking_metric_latest WHERE run_number", in: numbers, then: "ORDER BY run_number, key"))
        let params = byRun(
            try transaction.query(
                "SELECT * FROM tracking_param WHERE run_number", in: numbers, then: "ORDER BY run_number, key"))
        let tags = byRun(
            try transaction.query(
                "SELECT * FROM tracking_run_tag WHERE run_number", in: numbers, then: "ORDER BY run_number, key"))
        let datasets = byRun(
            try transaction.query(
                """
                SELECT i.run_number, i.tags, d.name, d.digest, d.source_type, d.source, d.schema_text, d.profile
                FROM tracking_run_dataset i JOIN tracking_dataset d ON d.number = i.dataset_number WHERE i.run_number
                """, in: numbers, then: "ORDER BY i.run_number, i.dataset_number"))
        let models = byRun(
            try transaction.query(
                "SELECT * FROM tracking_run_model WHERE run_number", in: numbers, then: "ORDER BY run_number, step"))
        return infos.map { info in
            let models = models[info.number] ?? []
            return TrackedRun(
                info: info, metrics: (metrics[info.number] ?? []).map { $0.metric() },
                params: (params[info.number] ?? []).map { $0.tag() },
                tags: (tags[info.number] ?? []).map { $0.tag() },
                datasetInputs: (datasets[info.number] ?? []).map { $0.datasetInput() },
                modelInputs: models.filter { !$0.flag("is_output") }.map { $0.text("model_id") },
                modelOutputs: models.filter { $0.flag("is_output") }.map {
                    ModelOutput(modelID: $0.text("model_id"), step: $0.integer("step"))
                })
        }
    }

    static func set(_ tag: TrackedTag, ofRun number: Int64, _ transaction: any MetadataTransaction) throws {
        try transaction.execute(
            """
            INSERT INTO tracking_run_tag (run_number, key, value) VALUES (?, ?, ?)
            ON CONFLICT (run_number, key) DO UPDATE SET value = excluded.value
            """, [.integer(number), .text(tag.key), .text(tag.value)])
        if tag.key == "mlflow.runName", !tag.value.isEmpty {  // a run keeps its name
            try transaction.execute(
                "UPDATE tracking_run SET name = ? WHERE number = ?", [.text(tag.value), .integer(number)])
        }
    }

    static func check(runTag tag: TrackedTag) throws(PlatformError) {
        try TrackingLimits.check(freeKey: tag.key, of: "tag")
        try TrackingLimits.check(tag.value, atMost: TrackingLimits.runTagValue, what: "tag '\(tag.key)'")
    }
}

extension MetadataRow {
    fileprivate func datasetInput() -> DatasetInput {
        let members = (try? JSONValue.parse(text("tags")))?.arrayValue ?? []
        return DatasetInput(
            dataset: TrackedDataset(
                name: text("name"), digest: text("digest"), sourceType: text("source_type"), source: text("source"),
                schema: self["schema_text"].textValue, profile: self["profile"].textValue),
            tags: members.map { TrackedTag($0["key"]?.stringValue ?? "", $0["value"]?.stringValue ?? "") })
    }
}

extension TrackedRun {
    /// The run with newer values of some metrics, by key.
    func with(latest: [String: Metric]) -> TrackedRun {
        var byKey = Dictionary(metrics.map { ($0.key, $0) }, uniquingKeysWith: { $1 })
        byKey.merge(latest) { $0.isLatest(beside: $1) ? $0 : $1 }
        return TrackedRun(
            info: info, metrics: byKey.values.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) },
            params: params, tags: tags, datasetInputs: datasetInputs, modelInputs: modelInputs,
            modelOutputs: modelOutputs)
    }
}
