import PlatformCore
import StoragePorts

extension TrackingStore {
    /// Makes an experiment; gives its identifier.
    /// - Throws: `conflict` if the name is taken, also by a deleted experiment; `invalidInput`.
    public func createExperiment(
        name: String, artifactLocation: String? = nil, tags: [TrackedTag] = []
    ) async throws -> String {
        try checkExperiment(name: name)
        for tag in tags { try checkExperiment(tag: tag) }
        if let artifactLocation { try checkArtifactLocation(artifactLocation) }
        let now = MetadataValue(clock.now())
        return try await metadata.write { transaction in
            if let taken = try transaction.query(
                "SELECT is_deleted FROM tracking_experiment WHERE name = ?", [.text(name)]
            ).first {
                throw PlatformError(
                    .conflict, "experiment/\(name)",
                    taken.flag("is_deleted")
                        ? "a deleted experiment already has this name; restore it or choose another name"
                        : "an experiment with this name already exists")
            }
            let number = try transaction.nextNumber(in: "tracking_experiment")
            let location = artifactLocation.flatMap { $0.isEmpty ? nil : $0 } ?? "mlflow-artifacts:/\(number)"
            try transaction.execute(
                """
                INSERT INTO tracking_experiment (number, name, artifact_location, is_deleted, created_at, updated_at)
                VALUES (?, ?, ?, 0, ?, ?)
                """, [.integer(number), .text(name), .text(location), now, now])
            for tag in tags { try Self.set(tag, ofExperiment: number, transaction) }
            return String(number)
        }
    }

    /// An experiment, deleted ones too.
    /// - Throws: `notFound`.
    public func experiment(_ id: String) async throws -> Experiment {
        try await metadata.read { transaction in
            try Self.experiment(number: Self.experimentNumber(id), transaction)
        }
    }

    /// The experiment of that name, deleted ones too; `nil` if there is none.
    public func experiment(named name: String) async throws -> Experiment? {
        try await metadata.read { transaction in
            let rows = try transaction.query("SELECT * FROM tracking_experiment WHERE name = ?", [.text(name)])
            return try Self.experiments(rows, transaction).first
        }
    }

    /// The identifier of the experiment of that name, made if there is none.
    public func findOrCreateExperiment(named name: String) async throws -> String {
        if let found = try await experiment(named: name), !found.isDeleted { return found.id }
        do { return try await createExperiment(name: name) } catch let error as PlatformError
            where error.code == .conflict
        {
            guard let found = try await experiment(named: name), !found.isDeleted else { throw error }
            return found.id
        }
    }

    /// Experiments that pass a filter; newest first unless `orders` says otherwise.
    ///
    /// - Parameter pageToken: where the page begins, as the page before it said.
    /// - Throws: `invalidInput` for a key that there is not, or for a token of another search.
    public func searchExperiments(
        filter: SearchFilter = .all, orders: [SearchOrder] = [], view: LifecycleView = .active,
        pageToken: String? = nil, countMax: Int = 1000
    ) async throws -> (experiments: [Experiment], nextPageToken: String?) {
        let query = try ExperimentQuery(filter: filter, orders: orders, view: view).query
        let question: JSONValue = [
            "call": "experiments", "filter": .string(String(describing: filter.clauses)),
            "orders": .string(String(describing: orders)), "view": .string("\(view)"),
        ]
        let place = try place(pageToken, question: question, query)
        let (experiments, page) = try await metadata.read { transaction in
            let page = try query.page(behind: place, countMax: countMax, transaction)
            return (try Self.experiments(page.rows, transaction), page)
        }
        return (experiments, token(behind: page, question: question))
    }

    /// Renames an experiment.
    /// - Throws: `notFound`, `conflict`, `invalidInput` for a deleted one.
    public func renameExperiment(_ id: String, to name: String) async throws {
        try checkExperiment(name: name)
        let now = MetadataValue(clock.now())
        try await metadata.write { transaction in
            let number = try Self.activeExperiment(id, transaction)
            let taken = try transaction.query(
                "SELECT number FROM tracking_experiment WHERE name = ? AND number <> ?",
                [.text(name), .integer(number)])
            guard taken.isEmpty else {
                throw PlatformError(.conflict, "experiment/\(name)", "an experiment with this name already exists")
            }
            try transaction.execute(
                "UPDATE tracking_experiment SET name = ?, updated_at = ? WHERE number = ?",
                [.text(name), now, .integer(number)])
        }
    }

    /// Marks an experiment and its runs deleted, or brings them back.
    public func setExperiment(_ id: String, deleted: Bool) async throws {
        let now = MetadataValue(clock.now())
        try await metadata.write { transaction in
            let found = try Self.experiment(number: Self.experimentNumber(id), transaction)
            guard found.isDeleted != deleted else {
                throw PlatformError(
                    .notFound, "experiment/\(id)", deleted ? "it is deleted already" : "it is not deleted")
            }
            let number = MetadataValue.integer(try Self.experimentNumber(id))
            let mark = MetadataValue.integer(deleted ? 1 : 0)
            try transaction.execute(
                "UPDATE tracking_experiment SET is_deleted = ?, updated_at = ? WHERE number = ?", [mark, now, number])
            try transaction.execute(
                "UPDATE tracking_run SET is_deleted = ?, revision = revision + 1 WHERE experiment_number = ?",
                [mark, number])
        }
        activeRuns.forget()
    }

    /// Sets a tag of an experiment.
    public func setTag(_ tag: TrackedTag, ofExperiment id: String) async throws {
        try checkExperiment(tag: tag)
        try await metadata.write { transaction in
            let number = try Self.activeExperiment(id, transaction)
            try Self.set(tag, ofExperiment: number, transaction)
        }
    }

    /// Removes a tag of an experiment.
    /// - Throws: `notFound` if it has no such tag.
    public func deleteTag(_ key: String, ofExperiment id: String) async throws {
        try await metadata.write { transaction in
            let number = try Self.activeExperiment(id, transaction)
            let changed = try transaction.execute(
                "DELETE FROM tracking_experiment_tag WHERE experiment_number = ? AND key = ?",
                [.integer(number), .text(key)])
            guard changed > 0 else { throw PlatformError(.notFound, "experiment/\(id)", "it has no tag '\(key)'") }
        }
    }

    // MARK: Inside a transaction

    static func experimentNumber(_ id: String) throws(PlatformError) -> Int64 {
        guard let number = Int64(id) else {
            throw PlatformError(
                .invalidInput, "experiment/\(id.prefix(64))",
                "Invalid experiment ID '\(id.prefix(64))'. Experiment ID must be a valid integer.")
        }
        return number
    }

    static func activeExperiment(_ id: String, _ transaction: any MetadataTransaction) throws -> Int64 {
        let number = try experimentNumber(id)
        guard
            let row = try transaction.query(
                "SELECT is_deleted FROM tracking_experiment WHERE number = ?", [.integer(number)]
            ).first
        else { throw PlatformError(.notFound, "experiment/\(id)", "No Experiment with id=\(id) exists") }
        guard !row.flag("is_deleted") else {
            throw PlatformError(
                .invalidInput, "experiment/\(id)",
                "it must be in the 'active' state, but it is deleted; restore it first")
        }
        return number
    }

    static func experiment(number: Int64, _ transaction: any MetadataTransaction) throws -> Experiment {
        let rows = try transaction.query("SELECT * FROM tracking_experiment WHERE number = ?", [.integer(number)])
        guard let found = try experiments(rows, transaction).first else {
            throw PlatformError(.notFound, "experiment/\(number)", "No Experiment with id=\(number) exists")
        }
        return found
    }

    private static func experiments(
        _ rows: [MetadataRow], _ transaction: any MetadataTransaction
    ) throws -> [Experiment] {
        let tags = Dictionary(
            grouping: try transaction.query(
                "SELECT * FROM tracking_experiment_tag WHERE experiment_number", in: rows.map { $0["number"] }),
            by: { $0.integer("experiment_number") })
        return rows.map { row in
            Experiment(
                id: String(row.integer("number")), name: row.text("name"),
                artifactLocation: row.text("artifact_location"), isDeleted: row.flag("is_deleted"),
                createdAt: row.time("created_at"), updatedAt: row.time("updated_at"),
                tags: (tags[row.integer("number")] ?? []).map { $0.tag() })
        }
    }

    private static func set(
        _ tag: TrackedTag, ofExperiment number: Int64, _ transaction: any MetadataTransaction
    ) throws {
        try transaction.execute(
            """
            INSERT INTO tracking_experiment_tag (experiment_number, key, value) VALUES (?, ?, ?)
            ON CONFLICT (experiment_number, key) DO UPDATE SET value = excluded.value
            """, [.integer(number), .text(tag.key), .text(tag.value)])
    }

    private func checkExperiment(name: String) throws(PlatformError) {
        guard !name.isEmpty else { throw PlatformError(.invalidInput, "experiment", "the name is empty") }
        try TrackingLimits.check(name, atMost: TrackingLimits.experimentName, what: "name of an experiment")
    }

    private func checkExperiment(tag: TrackedTag) throws(PlatformError) {
        try TrackingLimits.check(key: tag.key, of: "tag")
        try TrackingLimits.check(tag.value, atMost: TrackingLimits.experimentTagValue, what: "tag '\(tag.key)'")
    }

    private func checkArtifactLocation(_ location: String) throws(PlatformError) {
        guard !location.contains("#"), !location.contains("?"), !location.contains("/../"), !location.hasSuffix("/..")
        else {
            throw PlatformError(.invalidInput, "artifact_location", "a query, a fragment or '..' is not accepted in it")
        }
    }
}

extension LifecycleView {
    /// The condition in SQL after `WHERE` or `AND`; empty for all.
    func condition(joinedBy word: String, column: String = "is_deleted") -> String {
        switch self {
        case .active: "\(word) \(column) = 0"
        case .deleted: "\(word) \(column) = 1"
        case .all: ""
        }
    }
}
