import APIContract
import ExperimentTracking
import PlatformCore

extension MLflowRoutes {
    /// Largest body of records in bytes.
    private static let recordsByteCountMax = 32 << 20

    var evaluationDatasetRoutes: [Route] { datasetLifecycleRoutes + datasetMembershipRoutes + recordRoutes }

    private var datasetLifecycleRoutes: [Route] {
        call("POST", "mlflow/datasets/create", version: "3.0") { fields in
            let experiments = try fields.texts("experiment_ids")
            let dataset = try await tracking.createEvaluationDataset(
                name: fields.required("name"), tags: fields.datasetTags(), experiments: experiments)
            return ["dataset": dataset.wire(experiments: experiments)]
        }
            + call("POST", "mlflow/datasets/search", version: "3.0", searchEvaluationDatasets)
            + call("GET", "mlflow/datasets/search", version: "3.0", searchEvaluationDatasets)
            + call("GET", "mlflow/datasets/{dataset_id}", version: "3.0") { fields in
                ["dataset": try await tracking.evaluationDataset(fields.required("dataset_id")).wire()]
            }
            + call("DELETE", "mlflow/datasets/{dataset_id}", version: "3.0") { fields in
                try await tracking.deleteEvaluationDataset(fields.required("dataset_id"))
                return [:]
            }
            + call("PATCH", "mlflow/datasets/{dataset_id}/tags", version: "3.0") { fields in
                guard fields["tags"] != nil else { throw fields.missing("tags") }
                try await tracking.setTags(
                    fields.datasetTags(), ofEvaluationDataset: fields.required("dataset_id"))
                return [:]
            }
            + call("DELETE", "mlflow/datasets/{dataset_id}/tags/{key}", version: "3.0") { fields in
                try await tracking.deleteTag(
                    fields.required("key"), ofEvaluationDataset: fields.required("dataset_id"))
                return [:]
            }
    }

    private var datasetMembershipRoutes: [Route] {
        call("GET", "mlflow/datasets/{dataset_id}/experiment-ids", version: "3.0") { fields in
            let found = try await tracking.experiments(ofEvaluationDataset: fields.required("dataset_id"))
            return ["experiment_ids": .array(found.map(JSONValue.string))]
        }
            + call("POST", "mlflow/datasets/{dataset_id}/add-experiments", version: "3.0") { fields in
                let dataset = try await tracking.add(
                    evaluationDataset: fields.required("dataset_id"), toExperiments: fields.texts("experiment_ids"))
                return ["dataset": dataset.wire()]
            }
            + call("POST", "mlflow/datasets/{dataset_id}/remove-experiments", version: "3.0") { fields in
                let dataset = try await tracking.remove(
                    evaluationDataset: fields.required("dataset_id"), fromExperiments: fields.texts("experiment_ids"))
                return ["dataset": dataset.wire()]
            }
    }

    @Sendable private func searchEvaluationDatasets(_ fields: MLflowRequest) async throws -> JSONValue {
        let page = try await tracking.searchEvaluationDatasets(
            experiments: fields.texts("experiment_ids"), filter: SearchFilter(fields.text("filter_string") ?? ""),
            orders: SearchOrder.list(fields.texts("order_by")), pageToken: fields.text("page_token"),
            countMax: fields.countMax(default: 1000, limit: 50_000))
        return object([
            "datasets": .array(page.datasets.map { $0.wire() }), "next_page_token": .text(page.nextPageToken),
        ])
    }

    private var recordRoutes: [Route] {
        let path = "3.0/mlflow/datasets/{dataset_id}/records"
        return ["/api", "/ajax-api"].flatMap { prefix in
            [
                Route("POST", "\(prefix)/\(path)", body: .collect(byteCountMax: Self.recordsByteCountMax)) { request in
                    await answer(request) { request in
                        let fields = try MLflowRequest(request, byteCountMax: Self.recordsByteCountMax)
                        let (inserted, updated) = try await tracking.mergeRecords(
                            Self.drafts(fields.required("records")),
                            ofEvaluationDataset: fields.required("dataset_id"))
                        return .json([
                            "inserted_count": .integer(Int64(inserted)), "updated_count": .integer(Int64(updated)),
                        ])
                    }
                },
                // Not through a JSON value: a page may hold megabytes, and all of them are ready.
                Route("GET", "\(prefix)/\(path)") { request in
                    await answer(request) { request in
                        let fields = try MLflowRequest(request)
                        let id = try fields.required("dataset_id")
                        let page = try await tracking.records(
                            ofEvaluationDataset: id, pageToken: fields.text("page_token"),
                            countMax: fields.countMax(default: 1000, limit: 50_000))
                        return Self.records(page.records, dataset: id, nextPageToken: page.nextPageToken)
                    }
                },
            ]
        }
            + call("DELETE", "mlflow/datasets/{dataset_id}/records", version: "3.0") { fields in
                let count = try await tracking.deleteRecords(
                    fields.texts("dataset_record_ids"), ofEvaluationDataset: fields.required("dataset_id"))
                return ["deleted_count": .integer(Int64(count))]
            }
    }

    private static func drafts(_ text: String) throws -> [EvaluationDraft] {
        let value: JSONValue
        do {
            value = try JSONValue.parse(
                text, limits: JSONLimits(byteCountMax: recordsByteCountMax, hasPythonNumbers: true))
        } catch { throw MLflowError.invalid("Invalid value for parameter 'records' supplied: \(error.description)") }
        guard let elements = value.arrayValue else {
            throw MLflowError.invalid("Invalid value for parameter 'records' supplied: JSON of a list is expected")
        }
        guard elements.count <= EvaluationLimits.recordsPerCall else {  // before each is made several things of
            throw MLflowError.invalid(
                "Invalid value for parameter 'records' supplied: \(elements.count) records, "
                    + "\(EvaluationLimits.recordsPerCall) are accepted")
        }
        return try elements.enumerated().map { index, element in
            try MLflowMember(value: element, place: "records[\(index)]").evaluationDraft()
        }
    }

    private static func records(
        _ records: [EvaluationRecord], dataset: String, nextPageToken: String?
    ) -> APIResponse {
        var list: [UInt8] = [0x5B]
        for (index, record) in records.enumerated() {
            if index > 0 { list.append(0x2C) }
            record.write(to: &list, dataset: dataset)
        }
        list.append(0x5D)
        // The list is a text within the answer.
        var bytes = Array("{\"records\":".utf8)
        JSONValue.write(String(decoding: list, as: UTF8.self), to: &bytes)
        if let nextPageToken { bytes += ",\"next_page_token\":\"\(nextPageToken)\"".utf8 }
        bytes.append(0x7D)
        return APIResponse(headers: [("Content-Type", "application/json")], body: .bytes(bytes))
    }
}

extension MLflowRequest {
    /// Tags that come as the JSON text of an object; those without a value are left out.
    fileprivate func datasetTags() throws -> [TrackedTag] {
        guard let text = try text("tags"), !text.isEmpty else { return [] }
        guard let members = try? JSONValue.parse(text).objectValue else {
            throw MLflowError.invalid("Invalid value for parameter 'tags' supplied: JSON of an object is expected")
        }
        return members.sorted { $0.key < $1.key }.compactMap { key, value in
            value.isNull ? nil : TrackedTag(key, value.stringValue ?? value.text)
        }
    }
}
