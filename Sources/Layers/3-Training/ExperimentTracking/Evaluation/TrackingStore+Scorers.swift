import PlatformCore
import StoragePorts

extension TrackingStore {
    /// Registers a version of a scorer with an experiment, the first of a new name or the next of a known one.
    ///
    /// - Parameter document: the scorer as its client wrote it, a JSON object; it is kept and never run.
    /// - Throws: `notFound`, `invalidInput`.
    public func registerScorer(
        _ name: String, inExperiment id: String, document: String
    ) async throws -> ScorerVersion {
        try Self.check(scorer: name, document)
        let (now, newID) = (clock.now(), identifiers.next())
        return try await metadata.write { transaction in
            let experiment = try Self.activeExperiment(id, transaction)
            try transaction.execute(
                """
                INSERT INTO tracking_scorer (scorer_id, experiment_number, name) VALUES (?, ?, ?)
                ON CONFLICT (experiment_number, name) DO NOTHING
                """, [.text(newID), .integer(experiment), .text(name)])
            try transaction.execute(
                """
                INSERT INTO tracking_scorer_version (scorer_id, version, document, created_at)
                SELECT s.scorer_id, COALESCE((SELECT MAX(v.version) FROM tracking_scorer_version v
                    WHERE v.scorer_id = s.scorer_id), 0) + 1, ?, ?
                FROM tracking_scorer s WHERE s.experiment_number = ? AND s.name = ?
                """, [.text(document), MetadataValue(now), .integer(experiment), .text(name)])
            try Self.checkLength(ofScorersOf: experiment, transaction)
            return try Self.scorer(name, version: nil, experiment, transaction)
        }
    }

    /// Sees to it that an answer with all versions of an experiment's scorers can be held.
    private static func checkLength(ofScorersOf experiment: Int64, _ transaction: any MetadataTransaction) throws {
        let count =
            try transaction.query(
                """
                SELECT SUM(LENGTH(v.document)) AS count FROM tracking_scorer s
                JOIN tracking_scorer_version v ON v.scorer_id = s.scorer_id WHERE s.experiment_number = ?
                """, [.integer(experiment)]
            ).first?["count"].integerValue ?? 0
        guard count <= EvaluationLimits.scorersPerExperiment else {
            throw PlatformError(
                .invalidInput, "experiment/\(experiment)",
                "its scorers would have \(count) characters in all versions, \(EvaluationLimits.scorersPerExperiment) are "
                    + "accepted; delete versions that nobody needs")
        }
    }

    /// A version of a scorer; the newest if none is named.
    /// - Throws: `notFound`, `invalidInput` for a deleted experiment.
    public func scorer(_ name: String, version: Int64?, inExperiment id: String) async throws -> ScorerVersion {
        try await metadata.read { transaction in
            try Self.scorer(name, version: version, Self.activeExperiment(id, transaction), transaction)
        }
    }

    /// The newest version of each scorer of some experiments, by experiment and name.
    ///
    /// - Parameter experiments: deleted and unknown ones have none; `nil` for all.
    public func scorers(inExperiments experiments: [String]?) async throws -> [ScorerVersion] {
        let numbers = try experiments?.map(Self.experimentNumber)
        return try await metadata.read { transaction in
            let newest = """
                \(Self.scorerVersions) WHERE e.is_deleted = 0 AND v.version =
                    (SELECT MAX(w.version) FROM tracking_scorer_version w WHERE w.scorer_id = s.scorer_id)
                """
            let rows =
                try numbers.map {
                    try transaction.query("\(newest) AND s.experiment_number", in: $0.map(MetadataValue.integer))
                } ?? transaction.query(newest)
            return rows.map(Self.scorerVersion).sorted {
                ($0.experimentID.count, $0.experimentID, $0.name) < ($1.experimentID.count, $1.experimentID, $1.name)
            }
        }
    }

    /// The newest version of each scorer of one experiment, by name.
    /// - Throws: `notFound`, `invalidInput` for a deleted experiment.
    public func scorers(inExperiment id: String) async throws -> [ScorerVersion] {
        try await metadata.read { transaction in _ = try Self.activeExperiment(id, transaction) }
        return try await scorers(inExperiments: [id])
    }

    /// Every version of a scorer, oldest first.
    /// - Throws: `notFound`, `invalidInput` for a deleted experiment.
    public func versions(ofScorer name: String, inExperiment id: String) async throws -> [ScorerVersion] {
        try await metadata.read { transaction in
            let experiment = try Self.activeExperiment(id, transaction)
            let rows = try transaction.query(
                "\(Self.scorerVersions) WHERE s.experiment_number = ? AND s.name = ? ORDER BY v.version",
                [.integer(experiment), .text(name)])
            guard !rows.isEmpty else { throw Self.unknownScorer(name, nil, experiment) }
            return rows.map(Self.scorerVersion)
        }
    }

    /// Removes a version of a scorer, or all of it.
    /// - Throws: `notFound`, `invalidInput` for a deleted experiment.
    public func deleteScorer(_ name: String, version: Int64?, inExperiment id: String) async throws {
        try await metadata.write { transaction in
            let experiment = try Self.activeExperiment(id, transaction)
            let found = try Self.scorer(name, version: version, experiment, transaction)
            try transaction.execute(
                "DELETE FROM tracking_scorer_version WHERE scorer_id = ? AND (version = ? OR ? = 1)",
                [.text(found.scorerID), .integer(found.version), .integer(version == nil ? 1 : 0)])
            if version == nil {
                try transaction.execute("DELETE FROM tracking_scorer WHERE scorer_id = ?", [.text(found.scorerID)])
            }
        }
    }

    /// Registers a version of a scorer with the identity and time that it had elsewhere; gives whether it was not there.
    /// - Throws: `notFound` for the experiment; `conflict` if the version is there and is another one; `invalidInput`.
    public func importScorer(_ scorer: ScorerVersion) async throws -> Bool {
        try Self.check(scorer: scorer.name, scorer.document)
        try TrackingLimits.check(freeKey: scorer.scorerID, of: "scorer_id")
        return try await metadata.write { transaction in
            let experiment = try Self.activeExperiment(scorer.experimentID, transaction)
            try transaction.execute(
                "INSERT INTO tracking_scorer (scorer_id, experiment_number, name) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                [.text(scorer.scorerID), .integer(experiment), .text(scorer.name)])
            let made = try transaction.execute(
                """
                INSERT INTO tracking_scorer_version (scorer_id, version, document, created_at)
                SELECT scorer_id, ?, ?, ? FROM tracking_scorer WHERE experiment_number = ? AND name = ?
                ON CONFLICT DO NOTHING
                """,
                [
                    .integer(scorer.version), .text(scorer.document), MetadataValue(scorer.createdAt),
                    .integer(experiment), .text(scorer.name),
                ])
            let there = try Self.scorer(scorer.name, version: scorer.version, experiment, transaction)
            guard there.document == scorer.document else {
                throw PlatformError(
                    .conflict, "scorer/\(scorer.name)", "its version \(scorer.version) here is another one")
            }
            if made > 0 { try Self.checkLength(ofScorersOf: experiment, transaction) }
            return made > 0
        }
    }

    // MARK: Inside a transaction

    private static let scorerVersions = """
        SELECT s.scorer_id, s.experiment_number, s.name, v.version, v.document, v.created_at
        FROM tracking_scorer_version v JOIN tracking_scorer s ON s.scorer_id = v.scorer_id
        JOIN tracking_experiment e ON e.number = s.experiment_number
        """

    private static func scorer(
        _ name: String, version: Int64?, _ experiment: Int64, _ transaction: any MetadataTransaction
    ) throws -> ScorerVersion {
        let row = try transaction.query(
            """
            \(scorerVersions) WHERE s.experiment_number = ? AND s.name = ? AND (v.version = ? OR ? = 1)
            ORDER BY v.version DESC LIMIT 1
            """,
            [.integer(experiment), .text(name), .integer(version ?? 0), .integer(version == nil ? 1 : 0)]
        ).first
        guard let row else { throw unknownScorer(name, version, experiment) }
        return scorerVersion(row)
    }

    private static func scorerVersion(_ row: MetadataRow) -> ScorerVersion {
        ScorerVersion(
            scorerID: row.text("scorer_id"), experimentID: String(row.integer("experiment_number")),
            name: row.text("name"), version: row.integer("version"), document: row.text("document"),
            createdAt: row.time("created_at"))
    }

    private static func unknownScorer(_ name: String, _ version: Int64?, _ experiment: Int64) -> PlatformError {
        let which = version.map { " and version \($0)" } ?? ""
        return PlatformError(
            .notFound, "scorer/\(name.prefix(64))",
            "Scorer with name '\(name.prefix(64))'\(which) not found for experiment \(experiment).")
    }

    // MARK: Limits

    private static func check(scorer name: String, _ document: String) throws(PlatformError) {
        guard name.contains(where: { !$0.isWhitespace }) else {
            throw PlatformError(
                .invalidInput, "scorer", "Scorer name cannot be empty or contain only whitespace.")
        }
        try TrackingLimits.check(name, atMost: EvaluationLimits.scorerName, what: "name of a scorer")
        guard document.utf8.count <= EvaluationLimits.scorerByteCount else {
            throw PlatformError(
                .invalidInput, "scorer/\(name)",
                "it has \(document.utf8.count) bytes, \(EvaluationLimits.scorerByteCount) are accepted")
        }
    }
}
