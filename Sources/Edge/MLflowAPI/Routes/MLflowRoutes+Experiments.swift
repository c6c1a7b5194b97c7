import APIContract
import ExperimentTracking
import PlatformCore

extension MLflowRoutes {
    var experimentRoutes: [Route] {
        call("POST", "mlflow/experiments/create") { fields in
            let id = try await tracking.createExperiment(
                name: fields.required("name"), artifactLocation: fields.text("artifact_location"),
                tags: fields.tags("tags"))
            return ["experiment_id": .string(id)]
        }
            + call("GET", "mlflow/experiments/get") { fields in
                ["experiment": try await tracking.experiment(fields.required("experiment_id")).wire]
            }
            + call("GET", "mlflow/experiments/get-by-name") { fields in
                let name = try fields.required("experiment_name")
                guard let experiment = try await tracking.experiment(named: name) else {
                    throw MLflowError.notFound("Could not find experiment with name '\(name.prefix(200))'")
                }
                return ["experiment": experiment.wire]
            }
            + call("POST", "mlflow/experiments/search", searchExperiments)
            + call("GET", "mlflow/experiments/search", searchExperiments)
            + call("POST", "mlflow/experiments/update") { fields in
                try await tracking.renameExperiment(
                    fields.required("experiment_id"), to: fields.required("new_name"))
                return [:]
            }
            + call("POST", "mlflow/experiments/delete") { fields in
                try await tracking.setExperiment(fields.required("experiment_id"), deleted: true)
                return [:]
            }
            + call("POST", "mlflow/experiments/restore") { fields in
                try await tracking.setExperiment(fields.required("experiment_id"), deleted: false)
                return [:]
            }
            + call("POST", "mlflow/experiments/set-experiment-tag") { fields in
                let tag = TrackedTag(try fields.required("key"), try fields.text("value") ?? "")
                try await tracking.setTag(tag, ofExperiment: fields.required("experiment_id"))
                return [:]
            }
            + call("POST", "mlflow/experiments/delete-experiment-tag") { fields in
                try await tracking.deleteTag(
                    fields.required("key"), ofExperiment: fields.required("experiment_id"))
                return [:]
            }
            + searchDatasetsRoutes
    }

    // The clients really leave out the slash before "mlflow".
    private var searchDatasetsRoutes: [Route] {
        ["/api/2.0mlflow", "/ajax-api/2.0mlflow", "/api/2.0/mlflow", "/ajax-api/2.0/mlflow"].map { prefix in
            Route("POST", "\(prefix)/experiments/search-datasets") { request in
                await answer(request) { request in
                    let fields = try MLflowRequest(request)
                    let summaries = try await tracking.datasetSummaries(experiments: fields.texts("experiment_ids"))
                    return .json([
                        "dataset_summaries": .array(
                            summaries.map {
                                object([
                                    "experiment_id": .string($0.experimentID), "name": .string($0.name),
                                    "digest": .string($0.digest), "context": .text($0.context),
                                ])
                            })
                    ])
                }
            }
        }
    }

    @Sendable private func searchExperiments(_ fields: MLflowRequest) async throws -> JSONValue {
        // The one search without a default: MLflow's clients always say how many they take.
        guard fields["max_results"] != nil else { throw fields.missing("max_results") }
        let page = try await tracking.searchExperiments(
            filter: SearchFilter(fields.text("filter") ?? ""), orders: SearchOrder.list(fields.texts("order_by")),
            view: fields.view("view_type"), pageToken: fields.text("page_token"),
            countMax: fields.countMax(default: 1000, limit: 50_000))
        return object([
            "experiments": .array(page.experiments.map(\.wire)), "next_page_token": .text(page.nextPageToken),
        ])
    }
}

extension MLflowRequest {
    /// Tags or parameters of a list of objects with `key` and `value`.
    func tags(_ name: String) throws(MLflowError) -> [TrackedTag] {
        var tags: [TrackedTag] = []
        for (index, element) in try elements(name).enumerated() {
            let member = MLflowMember(value: element, place: "\(name)[\(index)]")
            tags.append(TrackedTag(try member.required("key"), try member.text("value") ?? ""))
        }
        return tags
    }

    func view(_ name: String) throws(MLflowError) -> LifecycleView {
        switch try text(name)?.uppercased() {
        case nil, "", "ACTIVE_ONLY": return .active
        case "DELETED_ONLY": return .deleted
        case "ALL": return .all
        case let other?: throw .invalid("Invalid value '\(other.prefix(64))' for parameter '\(name)' supplied.")
        }
    }
}
