public import PlatformCore

/// Evaluation datasets and scorers as MLflow's servers tell them.
extension ServerSource {
    /// Every dataset of evaluations, with the experiments that it belongs to.
    public func evaluationDatasets() async throws -> [JSONValue] {
        var datasets: [JSONValue] = []
        for dataset in try await ifKnown({
            try await pages("/api/3.0/mlflow/datasets/search", list: "datasets", body: [:], countMax: 1000)
        }) {
            let path = "/api/3.0/mlflow/datasets/\(dataset.text("dataset_id"))/experiment-ids"
            var members = dataset.objectValue ?? [:]
            // One that was deleted meanwhile has none, and says so where its records are asked for.
            members["experiment_ids"] = .array(
                try await ifKnown { try await server.get(path).list("experiment_ids") })
            datasets.append(.object(members))
        }
        return datasets
    }

    /// Every record of a dataset of evaluations.
    public func evaluationRecords(of dataset: String) async throws -> [JSONValue] {
        let path = "/api/3.0/mlflow/datasets/\(dataset)/records"
        var found: [JSONValue] = []
        var token = ""
        var seen: Set<String> = []
        repeat {
            let fields = [("max_results", "1000")] + (token.isEmpty ? [] : [("page_token", token)])
            let answer = try await server.get(path, fields)
            found += try ImportedRecord.list(answer.text("records"))
            token = answer["next_page_token"]?.stringValue ?? ""
            guard token.isEmpty || seen.insert(token).inserted else { throw repeats(path) }
        } while !token.isEmpty
        return found
    }

    /// Every version of every scorer of an experiment.
    public func scorers(of experiment: String) async throws -> [JSONValue] {
        let path = "/api/3.0/mlflow/scorers"
        var versions: [JSONValue] = []
        for scorer in try await ifKnown({
            try await server.get("\(path)/list", [("experiment_id", experiment)]).list("scorers")
        }) {
            let fields = [("experiment_id", experiment), ("name", scorer.text("scorer_name"))]
            versions += try await server.get("\(path)/versions", fields).list("scorers")
        }
        return versions
    }

    /// Nothing where the server does not know the call, or refuses it for a deleted experiment.
    private func ifKnown(_ work: () async throws -> [JSONValue]) async throws -> [JSONValue] {
        do { return try await work() } catch let error as PlatformError {
            if error.code == .notFound || error.code == .invalidInput { return [] }
            throw error
        }
    }
}
