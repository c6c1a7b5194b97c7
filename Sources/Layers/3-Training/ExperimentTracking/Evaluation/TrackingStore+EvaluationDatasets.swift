import ContentHashing
import PlatformCore
import StoragePorts

extension TrackingStore {
    /// Makes an evaluation dataset without records.
    /// - Throws: `notFound` for an experiment that there is not, `invalidInput`.
    public func createEvaluationDataset(
        name: String, tags: [TrackedTag] = [], experiments: [String] = []
    ) async throws -> EvaluationDataset {
        let now = clock.now()
        let user = tags.first { $0.key == EvaluationLimits.userTag }?.value
        let dataset = EvaluationDataset(
            id: "d-" + newIdentifier(), name: name, digest: Self.digest(name, now), schema: nil, profile: nil,
            createdAt: now, updatedAt: now, createdBy: user, updatedBy: user, tags: tags)
        try Self.check(dataset)
        let numbers = try Self.numbers(experiments)
        try await metadata.write { transaction in
            try Self.write(dataset, transaction)
            try Self.link(dataset.id, to: numbers, at: now, transaction)
        }
        return try await evaluationDataset(dataset.id)
    }

    /// An evaluation dataset.
    /// - Throws: `notFound`.
    public func evaluationDataset(_ id: String) async throws -> EvaluationDataset {
        try await metadata.read { transaction in try Self.evaluationDataset(id, transaction) }
    }

    /// Removes an evaluation dataset with its records; nothing happens if there is none.
    public func deleteEvaluationDataset(_ id: String) async throws {
        try await metadata.write { transaction in
            for table in ["evaluation_record", "evaluation_dataset_experiment", "evaluation_dataset_tag"] {
                try transaction.execute("DELETE FROM tracking_\(table) WHERE dataset_id = ?", [.text(id)])
            }
            try transaction.execute("DELETE FROM tracking_evaluation_dataset WHERE dataset_id = ?", [.text(id)])
        }
    }

    /// Evaluation datasets that pass a filter, as many as one answer holds and one at least; newest first unless `orders`
    /// says otherwise.
    ///
    /// - Parameters:
    ///   - experiments: datasets of one of these; of any and of none if it is empty.
    ///   - pageToken: where the page begins, as the page before it said.
    /// - Throws: `invalidInput` for a key that there is not, or for a token of another search.
    public func searchEvaluationDatasets(
        experiments: [String] = [], filter: SearchFilter = .all, orders: [SearchOrder] = [], pageToken: String? = nil,
        countMax: Int = 1000
    ) async throws -> (datasets: [EvaluationDataset], nextPageToken: String?) {
        guard experiments.count <= EvaluationLimits.experiments else {
            throw Self.tooManyExperiments(experiments.count)
        }
        // What is no number is no experiment, and has no datasets.
        let numbers = experiments.isEmpty ? nil : experiments.compactMap { Int64($0) }
        let query = try EvaluationDatasetQuery(experiments: numbers, filter: filter, orders: orders).query
        let question: JSONValue = [
            "call": "evaluation-datasets", "experiments": .array(experiments.map(JSONValue.string)),
            "filter": .string(String(describing: filter.clauses)), "orders": .string(String(describing: orders)),
        ]
        let place = try place(pageToken, question: question, query)
        let (datasets, page) = try await metadata.read { transaction in
            let page = try query.page(behind: place, countMax: countMax, transaction)
            let found = try Self.firstEvaluationDatasets(page.rows.map { $0["dataset_id"] }, transaction)
            return (found, query.beginning(found.count, of: page))
        }
        return (datasets, token(behind: page, question: question))
    }

    /// Sets tags of an evaluation dataset.
    /// - Throws: `notFound`, `invalidInput`.
    public func setTags(_ tags: [TrackedTag], ofEvaluationDataset id: String) async throws {
        try Self.check(datasetTags: tags)
        try await metadata.write { transaction in
            _ = try Self.evaluationDataset(id, transaction)
            for tag in tags { try Self.set(tag, ofEvaluationDataset: id, transaction) }
            guard try Self.evaluationDataset(id, transaction).tags.count <= EvaluationLimits.tagsPerDataset else {
                throw PlatformError(
                    .invalidInput, "dataset/\(id)",
                    "it has \(EvaluationLimits.tagsPerDataset) tags, the most there may be")
            }
        }
    }

    /// Removes a tag of an evaluation dataset; nothing happens if there is none.
    public func deleteTag(_ key: String, ofEvaluationDataset id: String) async throws {
        try await metadata.write { transaction in
            _ = try transaction.execute(
                "DELETE FROM tracking_evaluation_dataset_tag WHERE dataset_id = ? AND key = ?", [.text(id), .text(key)])
        }
    }

    /// The experiments that an evaluation dataset belongs to, in the order of joining; none for an unknown one.
    public func experiments(ofEvaluationDataset id: String) async throws -> [String] {
        try await metadata.read { transaction in
            try transaction.query(
                """
                SELECT experiment_number FROM tracking_evaluation_dataset_experiment WHERE dataset_id = ?
                ORDER BY added_at, CAST(experiment_number AS TEXT)
                """, [.text(id)]
            ).map { String($0.integer("experiment_number")) }
        }
    }

    /// Adds an evaluation dataset to experiments.
    /// - Throws: `notFound` for the dataset or an experiment.
    public func add(
        evaluationDataset id: String, toExperiments experiments: [String]
    ) async throws -> EvaluationDataset {
        let (now, numbers) = (clock.now(), try Self.numbers(experiments))
        return try await metadata.write { transaction in
            _ = try Self.evaluationDataset(id, transaction)
            try Self.link(id, to: numbers, at: now, transaction)
            try Self.touch(evaluationDataset: id, at: now, transaction)
            return try Self.evaluationDataset(id, transaction)
        }
    }

    /// Removes an evaluation dataset from experiments; from those that it is not in as well.
    /// - Throws: `notFound` for the dataset.
    public func remove(
        evaluationDataset id: String, fromExperiments experiments: [String]
    ) async throws -> EvaluationDataset {
        guard experiments.count <= EvaluationLimits.experiments else {
            throw Self.tooManyExperiments(experiments.count)
        }
        let (now, numbers) = (clock.now(), experiments.compactMap { Int64($0) })
        return try await metadata.write { transaction in
            _ = try Self.evaluationDataset(id, transaction)
            var count = 0
            for number in numbers {
                count += try transaction.execute(
                    """
                    DELETE FROM tracking_evaluation_dataset_experiment WHERE dataset_id = ? AND experiment_number = ?
                    """, [.text(id), .integer(number)])
            }
            if count > 0 { try Self.touch(evaluationDataset: id, at: now, transaction) }
            return try Self.evaluationDataset(id, transaction)
        }
    }

    /// Makes an evaluation dataset with the identity and times that it had elsewhere, or brings the one of this identity to
    /// that state; its records stay.
    /// - Throws: `notFound` for an experiment that there is not, `invalidInput`.
    public func importEvaluationDataset(_ dataset: EvaluationDataset, experiments: [String]) async throws {
        try TrackingLimits.check(freeKey: dataset.id, of: "dataset_id")
        try Self.check(dataset)
        let numbers = try Self.numbers(experiments)
        try await metadata.write { transaction in
            for table in ["evaluation_dataset_experiment", "evaluation_dataset_tag"] {
                try transaction.execute("DELETE FROM tracking_\(table) WHERE dataset_id = ?", [.text(dataset.id)])
            }
            try Self.write(dataset, transaction)
            try Self.link(dataset.id, to: numbers, at: dataset.createdAt, transaction)
        }
    }

    // MARK: Inside a transaction

    /// What changes whenever the records do.
    static func digest(_ name: String, _ time: EventTime) -> String {
        String(ContentHasher.hash("\(name):\(time.milliseconds)").hex.prefix(8))
    }

    static func evaluationDataset(_ id: String, _ transaction: any MetadataTransaction) throws -> EvaluationDataset {
        let rows = try transaction.query("SELECT * FROM tracking_evaluation_dataset WHERE dataset_id = ?", [.text(id)])
        guard let found = try evaluationDatasets(rows, transaction).first else {
            throw PlatformError(
                .notFound, "dataset/\(id.prefix(64))", "Evaluation dataset with id '\(id.prefix(64))' not found")
        }
        return found
    }

    /// The first of some datasets in their order, as many as one answer holds and one at least.
    private static func firstEvaluationDatasets(
        _ ids: [MetadataValue], _ transaction: any MetadataTransaction
    ) throws -> [EvaluationDataset] {
        var (datasets, byteCount, portion) = ([EvaluationDataset](), 0, 4)
        while datasets.count < ids.count {
            let part = Array(ids[datasets.count..<min(datasets.count + portion, ids.count)])
            let rows = try transaction.query("SELECT * FROM tracking_evaluation_dataset WHERE dataset_id", in: part)
            let found = Dictionary(
                try evaluationDatasets(rows, transaction).map { ($0.id, $0) }, uniquingKeysWith: { $1 })
            for dataset in part.compactMap({ found[$0.textValue ?? ""] }) {
                byteCount += dataset.byteCount
                if byteCount > EvaluationLimits.pageByteCount, !datasets.isEmpty { return datasets }
                datasets.append(dataset)
            }
            // Of datasets with schemas and tags of megabytes, few at a time.
            portion = min(1000, portion * 4, max(1, EvaluationLimits.pageByteCount / (byteCount / datasets.count)))
        }
        return datasets
    }

    private static func evaluationDatasets(
        _ rows: [MetadataRow], _ transaction: any MetadataTransaction
    ) throws -> [EvaluationDataset] {
        let tags = Dictionary(
            grouping: try transaction.query(
                "SELECT * FROM tracking_evaluation_dataset_tag WHERE dataset_id", in: rows.map { $0["dataset_id"] },
                then: "ORDER BY dataset_id, key"),
            by: { $0.text("dataset_id") })
        return rows.map { row in
            EvaluationDataset(
                id: row.text("dataset_id"), name: row.text("name"), digest: row.text("digest"),
                schema: row["schema_text"].textValue, profile: row["profile"].textValue,
                createdAt: row.time("created_at"), updatedAt: row.time("updated_at"),
                createdBy: row["created_by"].textValue, updatedBy: row["updated_by"].textValue,
                tags: (tags[row.text("dataset_id")] ?? []).map { $0.tag() })
        }
    }

    private static func write(_ dataset: EvaluationDataset, _ transaction: any MetadataTransaction) throws {
        try transaction.execute(
            """
            INSERT INTO tracking_evaluation_dataset (dataset_id, name, digest, schema_text, profile, created_at,
                updated_at, created_by, updated_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (dataset_id) DO UPDATE SET name = excluded.name, digest = excluded.digest,
                schema_text = excluded.schema_text, profile = excluded.profile, created_at = excluded.created_at,
                updated_at = excluded.updated_at, created_by = excluded.created_by, updated_by = excluded.updated_by
            """,
            [
                .text(dataset.id), .text(dataset.name), .text(dataset.digest), MetadataValue(dataset.schema),
                MetadataValue(dataset.profile), MetadataValue(dataset.createdAt), MetadataValue(dataset.updatedAt),
                MetadataValue(dataset.createdBy), MetadataValue(dataset.updatedBy),
            ])
        for tag in dataset.tags { try set(tag, ofEvaluationDataset: dataset.id, transaction) }
    }

    private static func set(
        _ tag: TrackedTag, ofEvaluationDataset id: String, _ transaction: any MetadataTransaction
    ) throws {
        try transaction.execute(
            """
            INSERT INTO tracking_evaluation_dataset_tag (dataset_id, key, value) VALUES (?, ?, ?)
            ON CONFLICT (dataset_id, key) DO UPDATE SET value = excluded.value
            """, [.text(id), .text(tag.key), .text(tag.value)])
    }

    private static func link(
        _ id: String, to experiments: [Int64], at time: EventTime, _ transaction: any MetadataTransaction
    ) throws {
        for number in experiments {
            _ = try experiment(number: number, transaction)
            try transaction.execute(
                """
                INSERT INTO tracking_evaluation_dataset_experiment (dataset_id, experiment_number, added_at)
                VALUES (?, ?, ?) ON CONFLICT (dataset_id, experiment_number) DO NOTHING
                """, [.text(id), .integer(number), MetadataValue(time)])
        }
    }

    private static func touch(
        evaluationDataset id: String, at time: EventTime, _ transaction: any MetadataTransaction
    ) throws {
        try transaction.execute(
            "UPDATE tracking_evaluation_dataset SET updated_at = ? WHERE dataset_id = ?",
            [MetadataValue(time), .text(id)])
    }

    // MARK: Limits

    private static func numbers(_ experiments: [String]) throws -> [Int64] {
        guard experiments.count <= EvaluationLimits.experiments else { throw tooManyExperiments(experiments.count) }
        return try experiments.map { id in
            guard let number = Int64(id) else {
                throw PlatformError(.notFound, "experiment/\(id.prefix(64))", "No Experiment with id=\(id.prefix(64))")
            }
            return number
        }
    }

    private static func tooManyExperiments(_ count: Int) -> PlatformError {
        PlatformError(
            .invalidInput, "experiment_ids", "\(count) experiments, \(EvaluationLimits.experiments) are accepted")
    }

    private static func check(_ dataset: EvaluationDataset) throws {
        guard !dataset.name.isEmpty else { throw PlatformError(.invalidInput, "dataset", "the name is empty") }
        try TrackingLimits.check(dataset.name, atMost: EvaluationLimits.name, what: "name of a dataset")
        try check(datasetTags: dataset.tags)
    }

    private static func check(datasetTags tags: [TrackedTag]) throws {
        guard tags.count <= EvaluationLimits.tagsPerDataset else {
            throw PlatformError(
                .invalidInput, "tags", "\(tags.count) tags, \(EvaluationLimits.tagsPerDataset) are accepted")
        }
        for tag in tags {
            guard !tag.key.isEmpty else { throw PlatformError(.invalidInput, "tag", "the name is empty") }
            try TrackingLimits.check(tag.key, atMost: EvaluationLimits.name, what: "name of a tag")
            try TrackingLimits.check(
                tag.value, atMost: EvaluationLimits.tagValue, what: "tag '\(tag.key.prefix(64))'")
        }
    }
}
