import PlatformCore
import StoragePorts

extension TrackingStore {
    /// Announces a model whose files will follow.
    /// - Throws: `notFound` for the experiment or the run, `invalidInput`.
    public func createLoggedModel(
        experiment id: String, name: String? = nil, modelType: String? = nil, sourceRunID: String? = nil,
        params: [TrackedTag] = [], tags: [TrackedTag] = []
    ) async throws -> LoggedModel {
        let name = name.flatMap { $0.isEmpty ? nil : $0 } ?? RunNames.draw()
        try TrackingLimits.check(name, atMost: TrackingLimits.experimentName, what: "name of a logged model")
        let forbidden: [Character] = ["/", ":", ".", "%", "\"", "'"]
        guard !name.contains(where: forbidden.contains) else {
            throw PlatformError(
                .invalidInput, "logged model", "Invalid model name '\(name)': none of / : . % \" ' is accepted in it")
        }
        try Self.check(params: params, tags: tags)
        let modelID = "m-" + newIdentifier()
        let now = MetadataValue(clock.now())
        return try await metadata.write { transaction in
            let experiment = try Self.activeExperiment(id, transaction)
            if let sourceRunID, !sourceRunID.isEmpty { _ = try Self.info(sourceRunID, transaction) }
            let location = try Self.experiment(number: experiment, transaction).artifactLocation
            try transaction.execute(
                """
                INSERT INTO tracking_logged_model (model_id, experiment_number, name, model_type, source_run_id, status,
                    created_at, updated_at, artifact_uri, is_deleted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)
                """,
                [
                    .text(modelID), .integer(experiment), .text(name), MetadataValue(modelType),
                    MetadataValue(sourceRunID), .text(LoggedModelStatus.pending.rawValue), now, now,
                    .text("\(location)/models/\(modelID)/artifacts"),
                ])
            for param in params { try Self.set(param, "param", ofModel: modelID, transaction) }
            for tag in tags { try Self.set(tag, "tag", ofModel: modelID, transaction) }
            return try Self.loggedModel(modelID, transaction)
        }
    }

    /// A logged model that is not deleted.
    /// - Throws: `notFound`.
    public func loggedModel(_ id: String) async throws -> LoggedModel {
        try await settle()
        return try await metadata.read { transaction in try Self.loggedModel(id, transaction) }
    }

    /// Says that a model's files are complete, or will never be.
    public func finalizeLoggedModel(_ id: String, status: LoggedModelStatus) async throws -> LoggedModel {
        try await change(id) { transaction in
            try transaction.execute(
                "UPDATE tracking_logged_model SET status = ? WHERE model_id = ?", [.text(status.rawValue), .text(id)])
        }
    }

    /// Marks a logged model deleted; nothing happens if it is so already.
    ///
    /// Its files stay.
    /// - Throws: `notFound`.
    public func deleteLoggedModel(_ id: String) async throws {
        try await metadata.write { transaction in
            let changed = try transaction.execute(
                "UPDATE tracking_logged_model SET is_deleted = 1 WHERE model_id = ?", [.text(id)])
            guard changed > 0 else { throw Self.unknownModel(id) }
        }
    }

    /// Sets tags of a logged model.
    public func setTags(_ tags: [TrackedTag], ofLoggedModel id: String) async throws -> LoggedModel {
        try Self.check(params: [], tags: tags)
        return try await change(id) { transaction in
            for tag in tags { try Self.set(tag, "tag", ofModel: id, transaction) }
        }
    }

    /// Removes a tag of a logged model.
    /// - Throws: `notFound` if it has no such tag.
    public func deleteTag(_ key: String, ofLoggedModel id: String) async throws {
        _ = try await change(id) { transaction in
            let changed = try transaction.execute(
                "DELETE FROM tracking_logged_model_tag WHERE model_id = ? AND key = ?", [.text(id), .text(key)])
            guard changed > 0 else { throw PlatformError(.notFound, "model/\(id)", "it has no tag '\(key)'") }
        }
    }

    /// Adds parameters to a logged model.
    ///
    /// One is written once: the same value again is accepted, another one refused.
    public func logParams(_ params: [TrackedTag], ofLoggedModel id: String) async throws -> LoggedModel {
        try Self.check(params: params, tags: [])
        return try await change(id) { transaction in
            let known = Dictionary(
                try Self.loggedModel(id, transaction).params.map { ($0.key, $0.value) }, uniquingKeysWith: { $1 })
            for param in params {
                guard known[param.key] ?? param.value == param.value else {
                    throw PlatformError(
                        .invalidInput, "model/\(id)",
                        "its parameter '\(param.key)' has another value already; parameters are written once")
                }
                try Self.set(param, "param", ofModel: id, transaction)
            }
        }
    }

    /// The models that a run logged, oldest first.
    public func loggedModels(ofRun id: String) async throws -> [LoggedModel] {
        try await settle()
        return try await metadata.read { transaction in
            try Self.loggedModels(
                transaction.query(
                    """
                    SELECT * FROM tracking_logged_model WHERE source_run_id = ? AND is_deleted = 0
                    ORDER BY created_at, model_id
                    """, [.text(id)]), transaction)
        }
    }

    /// Logged models of some experiments that pass a filter; newest first unless `orders` says otherwise.
    ///
    /// A clause on a metric holds if any of the model's measurements passes; an order by one looks at the latest.
    ///
    /// - Parameters:
    ///   - datasets: names and digests; given, only metrics measured on one of these count for the filter.
    ///   - pageToken: where the page begins, as the page before it said.
    /// - Throws: `invalidInput` for a key that there is not, or for a token of another search.
    public func searchLoggedModels(
        experiments: [String], filter: SearchFilter = .all, datasets: [LoggedModelDataset] = [],
        orders: [LoggedModelOrder] = [], pageToken: String? = nil, countMax: Int = 100
    ) async throws -> (models: [LoggedModel], nextPageToken: String?) {
        guard experiments.count <= 10_000 else {
            throw PlatformError(
                .invalidInput, "experiment_ids", "\(experiments.count) experiments, 10000 are accepted")
        }
        let numbers = try experiments.map(Self.experimentNumber)
        let query = try LoggedModelQuery(
            experiments: numbers, filter: filter, datasets: datasets, orders: orders
        ).query
        let question: JSONValue = [
            "call": "logged-models", "experiments": .array(experiments.map(JSONValue.string)),
            "filter": .string(String(describing: filter.clauses)), "datasets": .string(String(describing: datasets)),
            "orders": .string(String(describing: orders)),
        ]
        let place = try place(pageToken, question: question, query)
        if numbers.isEmpty { return ([], nil) }
        try await settle()
        let (models, page) = try await metadata.read { transaction in
            let page = try query.page(behind: place, countMax: countMax, transaction)
            return (try Self.loggedModels(page.rows, transaction), page)
        }
        return (models, token(behind: page, question: question))
    }

    // MARK: Inside a transaction

    private func change(
        _ id: String, _ body: @escaping @Sendable (any MetadataTransaction) throws -> Void
    ) async throws -> LoggedModel {
        let now = MetadataValue(clock.now())
        return try await metadata.write { transaction in
            _ = try Self.loggedModel(id, transaction)
            try body(transaction)
            try transaction.execute(
                "UPDATE tracking_logged_model SET updated_at = ? WHERE model_id = ?", [now, .text(id)])
            return try Self.loggedModel(id, transaction)
        }
    }

    private static func set(
        _ pair: TrackedTag, _ what: String, ofModel id: String, _ transaction: any MetadataTransaction
    ) throws {
        try transaction.execute(
            """
            INSERT INTO tracking_logged_model_\(what) (model_id, key, value) VALUES (?, ?, ?)
            ON CONFLICT (model_id, key) DO UPDATE SET value = excluded.value
            """, [.text(id), .text(pair.key), .text(pair.value)])
    }

    private static func check(params: [TrackedTag], tags: [TrackedTag]) throws(PlatformError) {
        for param in params {
            try TrackingLimits.check(freeKey: param.key, of: "param")
            try TrackingLimits.check(
                param.value, atMost: TrackingLimits.modelParamValue, what: "param '\(param.key)'")
        }
        for tag in tags { try check(runTag: tag) }
    }

    static func loggedModel(_ id: String, _ transaction: any MetadataTransaction) throws -> LoggedModel {
        let rows = try transaction.query(
            "SELECT * FROM tracking_logged_model WHERE model_id = ? AND is_deleted = 0", [.text(id)])
        guard let model = try loggedModels(rows, transaction).first else {
            throw unknownModel(id)
        }
        return model
    }

    private static func unknownModel(_ id: String) -> PlatformError {
        PlatformError(.notFound, "model/\(id.prefix(64))", "Logged model with ID '\(id.prefix(64))' not found.")
    }

    private static func loggedModels(
        _ rows: [MetadataRow], _ transaction: any MetadataTransaction
    ) throws -> [LoggedModel] {
        let ids = rows.map { $0["model_id"] }
        func byModel(_ table: String) throws -> [String: [MetadataRow]] {
            Dictionary(
                grouping: try transaction.query(
                    "SELECT * FROM tracking_logged_model_\(table) WHERE model_id", in: ids,
                    then: "ORDER BY model_id, key")
            ) { $0.text("model_id") }
        }
        let tags = try byModel("tag")
        let params = try byModel("param")
        let metrics = try byModel("metric")
        return rows.map { row in
            let id = row.text("model_id")
            return LoggedModel(
                id: id, experimentID: String(row.integer("experiment_number")), name: row.text("name"),
                modelType: row["model_type"].textValue, sourceRunID: row["source_run_id"].textValue,
                status: LoggedModelStatus(rawValue: row.text("status")) ?? .pending, createdAt: row.time("created_at"),
                updatedAt: row.time("updated_at"), artifactURI: row.text("artifact_uri"),
                tags: (tags[id] ?? []).map { $0.tag() }, params: (params[id] ?? []).map { $0.tag() },
                metrics: (metrics[id] ?? []).map { LoggedModelMetric(metric: $0.metric(), runID: $0.text("run_id")) })
        }
    }
}
