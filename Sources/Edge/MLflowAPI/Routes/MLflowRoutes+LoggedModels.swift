import APIContract
import ExperimentTracking
import PlatformCore

extension MLflowRoutes {
    var loggedModelRoutes: [Route] {
        call("POST", "mlflow/logged-models") { fields in
            let model = try await tracking.createLoggedModel(
                experiment: fields.required("experiment_id"), name: fields.text("name"),
                modelType: fields.text("model_type"), sourceRunID: fields.text("source_run_id"),
                params: fields.tags("params"), tags: fields.tags("tags"))
            return ["model": model.wire]
        }
            + call("POST", "mlflow/logged-models/search", searchLoggedModels)
            + call("GET", "mlflow/logged-models/{model_id}") { fields in
                ["model": try await tracking.loggedModel(fields.required("model_id")).wire]
            }
            + call("PATCH", "mlflow/logged-models/{model_id}") { fields in
                let text = try fields.required("status")
                guard let status = LoggedModelStatus(rawValue: text) else {
                    throw MLflowError.invalid("Invalid value '\(text.prefix(64))' for parameter 'status' supplied.")
                }
                let model = try await tracking.finalizeLoggedModel(fields.required("model_id"), status: status)
                return ["model": model.wire]
            }
            + call("DELETE", "mlflow/logged-models/{model_id}") { fields in
                try await tracking.deleteLoggedModel(fields.required("model_id"))
                return [:]
            }
            + call("PATCH", "mlflow/logged-models/{model_id}/tags") { fields in
                let model = try await tracking.setTags(
                    fields.tags("tags"), ofLoggedModel: fields.required("model_id"))
                return ["model": model.wire]
            }
            + call("DELETE", "mlflow/logged-models/{model_id}/tags/{tag_key}") { fields in
                try await tracking.deleteTag(
                    fields.required("tag_key"), ofLoggedModel: fields.required("model_id"))
                return [:]
            }
            + call("POST", "mlflow/logged-models/{model_id}/params") { fields in
                let model = try await tracking.logParams(
                    fields.tags("params"), ofLoggedModel: fields.required("model_id"))
                return ["model": model.wire]
            }
            + call("GET", "mlflow/logged-models/{model_id}/artifacts/directories") { fields in
                let model = try await tracking.loggedModel(fields.required("model_id"))
                return try await list(
                    root: model.artifactURI, folder: fields.text("artifact_directory_path") ?? "")
            }
    }

    @Sendable private func searchLoggedModels(_ fields: MLflowRequest) async throws -> JSONValue {
        guard fields["experiment_ids"] != nil else { throw fields.missing("experiment_ids") }
        var datasets: [LoggedModelDataset] = []
        for (index, element) in try fields.elements("datasets").enumerated() {
            let member = MLflowMember(value: element, place: "datasets[\(index)]")
            datasets.append(
                LoggedModelDataset(name: try member.required("dataset_name"), digest: try member.text("dataset_digest"))
            )
        }
        guard datasets.count <= 100 else { throw MLflowError.invalid("at most 100 datasets are accepted") }
        var orders: [LoggedModelOrder] = []
        for (index, element) in try fields.elements("order_by").enumerated() {
            let member = MLflowMember(value: element, place: "order_by[\(index)]")
            let field = try SearchOrder(member.required("field_name"))
            let isAscending = element["ascending"]?.boolValue ?? true
            if orders.contains(where: { $0.order.key == field.key && $0.order.entity == field.entity }) {
                throw MLflowError.invalid("the sort key '\(field.key)' is named twice")
            }
            orders.append(
                LoggedModelOrder(
                    SearchOrder(entity: field.entity, key: field.key, isAscending: isAscending),
                    datasetName: try member.text("dataset_name"), datasetDigest: try member.text("dataset_digest")))
        }
        guard orders.count <= SearchOrder.countMax else {
            throw MLflowError.invalid("more than \(SearchOrder.countMax) sort keys")
        }
        let page = try await tracking.searchLoggedModels(
            experiments: fields.texts("experiment_ids"), filter: SearchFilter(fields.text("filter") ?? ""),
            datasets: datasets, orders: orders, pageToken: fields.text("page_token"),
            countMax: fields.countMax(default: 100, limit: 50_000))
        return object([
            "models": .array(page.models.map(\.wire)), "next_page_token": .text(page.nextPageToken),
        ])
    }
}
