public import PlatformCore
import StoragePorts

/// Evaluation datasets and scorers in the database of an MLflow server.
extension DatabaseSource {
    /// Every dataset of evaluations, with the experiments that it belongs to.
    public func evaluationDatasets() async throws -> [JSONValue] {
        guard try await has("evaluation_datasets") else { return [] }
        let tags = try await tags("SELECT dataset_id AS owner, key, value FROM evaluation_dataset_tags")
        var experiments: [String: [JSONValue]] = [:]
        for row in try await rows(
            """
            SELECT source_id, CAST(destination_id AS TEXT) AS experiment FROM entity_associations
            WHERE source_type = 'evaluation_dataset' AND destination_type = 'experiment'
            ORDER BY created_time, destination_id
            """)
        {
            experiments[row.text("source_id"), default: []].append(.string(row.text("experiment")))
        }
        return try await rows("SELECT * FROM evaluation_datasets ORDER BY created_time, dataset_id").map { row in
            let id = row.text("dataset_id")
            let pairs = (tags[id] ?? []).map { ($0.text("key"), $0["value"] ?? .null) }
            return ImportedRecord.stated([
                "dataset_id": .string(id), "name": .string(row.text("name")), "digest": Self.string(row, "digest"),
                "schema": Self.string(row, "schema"), "profile": Self.string(row, "profile"),
                "tags": .string(JSONValue.object(Dictionary(pairs, uniquingKeysWith: { $1 })).text),
                "created_time": Self.integer(row, "created_time"),
                "last_update_time": Self.integer(row, "last_update_time"), "created_by": Self.string(row, "created_by"),
                "last_updated_by": Self.string(row, "last_updated_by"), "experiment_ids": .array(experiments[id] ?? []),
            ])
        }
    }

    /// Every record of a dataset of evaluations.
    public func evaluationRecords(of dataset: String) async throws -> [JSONValue] {
        try await rows(
            "SELECT * FROM evaluation_dataset_records WHERE dataset_id = ? ORDER BY created_time, dataset_record_id",
            [.text(dataset)]
        ).map { row in
            func json(_ column: String) throws -> JSONValue {
                try row[column].textValue.map(ImportedRecord.json) ?? .null
            }
            let source = try json("source")
            return ImportedRecord.stated([
                "dataset_record_id": .string(row.text("dataset_record_id")), "dataset_id": .string(dataset),
                "inputs": try json("inputs"), "outputs": try json("outputs")["mlflow_wrapped"] ?? .null,
                "expectations": try json("expectations"), "tags": try json("tags").unlessNull ?? [:], "source": source,
                "source_id": Self.string(row, "source_id"), "source_type": source["source_type"] ?? .null,
                "created_time": Self.integer(row, "created_time"),
                "last_update_time": Self.integer(row, "last_update_time"), "created_by": Self.string(row, "created_by"),
                "last_updated_by": Self.string(row, "last_updated_by"),
            ])
        }
    }

    /// Every version of every scorer of an experiment.
    public func scorers(of experiment: String) async throws -> [JSONValue] {
        guard try await has("scorer_versions") else { return [] }
        return try await rows(
            """
            SELECT s.scorer_id, s.scorer_name, v.scorer_version, v.serialized_scorer, v.creation_time FROM scorers s
            JOIN scorer_versions v ON v.scorer_id = s.scorer_id WHERE s.experiment_id = ?
            ORDER BY s.scorer_name, v.scorer_version
            """, [.integer(Int64(experiment) ?? -1)]
        ).map { row in
            [
                "scorer_id": .string(row.text("scorer_id")), "scorer_name": .string(row.text("scorer_name")),
                "scorer_version": .integer(row.integer("scorer_version")),
                "serialized_scorer": .string(row.text("serialized_scorer")),
                "creation_time": Self.integer(row, "creation_time"),
            ]
        }
    }
}
