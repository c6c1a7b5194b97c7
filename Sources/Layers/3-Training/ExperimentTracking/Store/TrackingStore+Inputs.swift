import PlatformCore
import StoragePorts

extension TrackingStore {
    /// Records datasets and logged models that a run read.
    ///
    /// Naming one again adds nothing.
    public func logInputs(run id: String, datasets: [DatasetInput], models: [String] = []) async throws {
        guard datasets.count + models.count <= TrackingLimits.entitiesPerBatch else {
            throw PlatformError(
                .invalidInput, "log-inputs", "more than \(TrackingLimits.entitiesPerBatch) inputs in one call")
        }
        for input in datasets {
            try TrackingLimits.check(
                input.dataset.name, atMost: TrackingLimits.datasetName, what: "name of a dataset")
            try TrackingLimits.check(
                input.dataset.digest, atMost: TrackingLimits.datasetDigest, what: "digest of a dataset")
        }
        try await metadata.write { transaction in
            let number = try Self.activeRun(id, transaction)
            let experiment = Int64(try Self.info(id, transaction).experimentID) ?? 0
            for input in datasets {
                let dataset = try Self.number(of: input.dataset, experiment: experiment, transaction)
                let tags = JSONValue.array(input.tags.map { ["key": .string($0.key), "value": .string($0.value)] })
                let context = input.tags.first { $0.key == "mlflow.data.context" }?.value
                try transaction.execute(
                    """
                    INSERT INTO tracking_run_dataset (run_number, dataset_number, context, tags) VALUES (?, ?, ?, ?)
                    ON CONFLICT (run_number, dataset_number) DO NOTHING
                    """, [.integer(number), .integer(dataset), MetadataValue(context), .text(tags.text)])
            }
            for model in models { try Self.link(model: model, step: 0, isOutput: false, run: number, transaction) }
            try Self.touch(number, transaction)
        }
    }

    /// Records logged models that a run gave.
    public func logOutputs(run id: String, models: [ModelOutput]) async throws {
        try await metadata.write { transaction in
            let number = try Self.activeRun(id, transaction)
            for model in models {
                try Self.link(model: model.modelID, step: model.step, isOutput: true, run: number, transaction)
            }
            try Self.touch(number, transaction)
        }
    }

    /// Names, digests and contexts of the datasets that runs of some experiments read.
    public func datasetSummaries(
        experiments: [String], countMax: Int = 1000
    ) async throws -> [(experimentID: String, name: String, digest: String, context: String?)] {
        let numbers = try experiments.map { id throws(PlatformError) in
            MetadataValue.integer(try Self.experimentNumber(id))
        }
        let rows = try await metadata.read { transaction in
            try transaction.query(
                """
                SELECT DISTINCT d.experiment_number, d.name, d.digest, i.context FROM tracking_dataset d
                JOIN tracking_run_dataset i ON i.dataset_number = d.number WHERE d.experiment_number
                """, in: numbers, then: "ORDER BY d.name, d.digest LIMIT \(countMax)")
        }
        return rows.prefix(countMax).map {
            (
                String($0.integer("experiment_number")), $0.text("name"), $0.text("digest"), $0["context"].textValue
            )
        }
    }

    private static func number(
        of dataset: TrackedDataset, experiment: Int64, _ transaction: any MetadataTransaction
    ) throws -> Int64 {
        let known = try transaction.query(
            "SELECT number FROM tracking_dataset WHERE experiment_number = ? AND name = ? AND digest = ?",
            [.integer(experiment), .text(dataset.name), .text(dataset.digest)]
        ).first
        if let known { return known.integer("number") }
        let number = try transaction.nextNumber(in: "tracking_dataset")
        try transaction.execute(
            """
            INSERT INTO tracking_dataset (number, experiment_number, name, digest, source_type, source, schema_text,
                profile) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                .integer(number), .integer(experiment), .text(dataset.name), .text(dataset.digest),
                .text(dataset.sourceType), .text(dataset.source), MetadataValue(dataset.schema),
                MetadataValue(dataset.profile),
            ])
        return number
    }

    private static func link(
        model: String, step: Int64, isOutput: Bool, run number: Int64, _ transaction: any MetadataTransaction
    ) throws {
        try TrackingLimits.check(freeKey: model, of: "model_id")
        try transaction.execute(
            """
            INSERT INTO tracking_run_model (run_number, is_output, model_id, step) VALUES (?, ?, ?, ?)
            ON CONFLICT (run_number, is_output, model_id) DO UPDATE SET step = excluded.step
            """, [.integer(number), .integer(isOutput ? 1 : 0), .text(model), .integer(step)])
    }
}
