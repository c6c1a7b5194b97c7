import PlatformCore

extension Importer {
    /// Most bytes of records in one call, about.
    private static let portionByteCount = 4 << 20

    /// Copies datasets of evaluations with their records, and takes away records that the source has no more.
    func copyEvaluationDatasets(_ moved: Moved) async throws {
        let datasets = try await source.evaluationDatasets()
        tally.found("evaluation_datasets", datasets.count)
        for dataset in datasets {
            try await attempt("evaluation dataset \(dataset.text("dataset_id"))") {
                try await copy(evaluationDataset: dataset, moved)
            }
        }
    }

    private func copy(evaluationDataset dataset: JSONValue, _ moved: Moved) async throws {
        let id = dataset.text("dataset_id")
        let target = ServerSource(destination)
        let records = try await source.evaluationRecords(of: id)
        let isKnown = try await destination.find("/api/3.0/mlflow/datasets/\(id)", []) != nil
        let there = isKnown ? try await target.evaluationRecords(of: id) : []
        let before = Dictionary(there.map { ($0.text("dataset_record_id"), $0) }, uniquingKeysWith: { $1 })
        if !isKnown { try await state(evaluationDataset: dataset, moved) }
        let gone = Set(before.keys).subtracting(records.map { $0.text("dataset_record_id") }).sorted()
        if !gone.isEmpty {
            _ = try await destination.send(
                "DELETE", "/api/3.0/mlflow/datasets/\(id)/records",
                ["dataset_record_ids": .array(gone.map(JSONValue.string))])
        }
        let changed = records.filter { before[$0.text("dataset_record_id")] != $0 }
        var (portion, byteCount) = ([JSONValue](), 0)
        for (index, record) in changed.enumerated() {
            portion.append(record)
            byteCount += record.canonicalBytes.count
            guard byteCount >= Self.portionByteCount || index == changed.count - 1 else { continue }
            _ = try await destination.send(
                "POST", "/api/v1/import/evaluation-records", ["dataset_id": .string(id), "records": .array(portion)])
            (portion, byteCount) = ([], 0)
        }
        // Last, because what was written above is a change of today.
        try await state(evaluationDataset: dataset, moved)
        if isKnown, gone.isEmpty, changed.isEmpty {
            tally.present("evaluation_datasets")
        } else {
            tally.copied("evaluation_datasets")
        }
        let copies = try await target.evaluationRecords(of: id)
        if Self.byIdentity(copies) != Self.byIdentity(records) {
            tally.problem("evaluation dataset \(id): its records differ")
        }
        let copy = try await destination.get("/api/3.0/mlflow/datasets/\(id)")["dataset"] ?? .null
        for key in ["name", "digest", "last_update_time", "created_by", "last_updated_by"]
        where copy.text(key) != dataset.text(key) {
            tally.problem("evaluation dataset \(id): its \(key) differs")
        }
    }

    private static func byIdentity(_ records: [JSONValue]) -> [String: JSONValue] {
        Dictionary(records.map { ($0.text("dataset_record_id"), $0) }, uniquingKeysWith: { $1 })
    }

    private func state(evaluationDataset dataset: JSONValue, _ moved: Moved) async throws {
        let experiments = dataset.list("experiment_ids").compactMap { moved.experiments[$0.stringValue ?? ""] }
        _ = try await destination.send(
            "POST", "/api/v1/import/evaluation-datasets",
            Self.stated([
                "dataset_id": .string(dataset.text("dataset_id")), "name": .string(dataset.text("name")),
                "digest": .string(dataset.text("digest")), "schema": dataset["schema"] ?? .null,
                "profile": dataset["profile"] ?? .null, "created_at": dataset["created_time"] ?? .null,
                "updated_at": dataset["last_update_time"] ?? .null, "created_by": dataset["created_by"] ?? .null,
                "updated_by": dataset["last_updated_by"] ?? .null,
                "tags": (try? JSONValue.parse(dataset.text("tags"))) ?? [:],
                "experiment_ids": .array(experiments.map(JSONValue.string)),
            ]))
    }

    /// Copies the versions of an experiment's scorers; what was deleted in the source stays here.
    func copyScorers(of experiment: String, to target: String) async throws {
        let scorers = try await source.scorers(of: experiment)
        tally.found("scorers", scorers.count)
        for scorer in scorers {
            let version = scorer.number("scorer_version") ?? 1
            try await attempt("scorer \(scorer.text("scorer_name")) version \(version)") {
                let answer = try await destination.send(
                    "POST", "/api/v1/import/scorers",
                    Self.stated([
                        "experiment_id": .string(target), "scorer_id": .string(scorer.text("scorer_id")),
                        "name": .string(scorer.text("scorer_name")), "version": .integer(version),
                        "serialized_scorer": .string(scorer.text("serialized_scorer")),
                        "created_at": scorer["creation_time"] ?? .null,
                    ]))
                if answer["made"]?.boolValue == true { tally.copied("scorers") } else { tally.present("scorers") }
            }
        }
    }
}
