import APIContract
import ExperimentTracking
import PlatformCore

extension MLflowRoutes {
    var runRoutes: [Route] { runLifecycleRoutes + measurementRoutes + inputRoutes }

    private var runLifecycleRoutes: [Route] {
        call("POST", "mlflow/runs/create") { fields in
            let experiment = try fields.text("experiment_id").flatMap { $0.isEmpty ? nil : $0 } ?? "0"
            let run = try await tracking.createRun(
                experiment: experiment, name: fields.text("run_name"), tags: fields.tags("tags"),
                userName: fields.text("user_id"),
                startedAt: fields.integer("start_time").map(EventTime.init(milliseconds:)))
            return ["run": run.wire]
        }
            + call("GET", "mlflow/runs/get") { fields in ["run": try await tracking.run(fields.runID()).wire] }
            + call("POST", "mlflow/runs/update") { fields in
                var status: RunStatus?
                if let text = try fields.text("status"), !text.isEmpty {
                    status = RunStatus(rawValue: text)
                    if status == nil {
                        throw MLflowError.invalid("Invalid value '\(text.prefix(64))' for parameter 'status' supplied.")
                    }
                }
                let info = try await tracking.updateRun(
                    fields.runID(), status: status,
                    endedAt: fields.integer("end_time").map(EventTime.init(milliseconds:)),
                    name: fields.text("run_name"))
                return ["run_info": info.wire]
            }
            + call("POST", "mlflow/runs/delete") { fields in
                try await tracking.setRun(fields.required("run_id"), deleted: true)
                return [:]
            }
            + call("POST", "mlflow/runs/restore") { fields in
                try await tracking.setRun(fields.required("run_id"), deleted: false)
                return [:]
            }
            + call("POST", "mlflow/runs/search") { fields in
                let page = try await tracking.searchRuns(
                    experiments: fields.texts("experiment_ids"), filter: SearchFilter(fields.text("filter") ?? ""),
                    orders: SearchOrder.list(fields.texts("order_by")), view: fields.view("run_view_type"),
                    offset: fields.offset(), countMax: fields.countMax(default: 1000, limit: 50_000))
                return object([
                    "runs": .array(page.elements.map(\.wire)), "next_page_token": pageToken(offset: page.nextOffset),
                ])
            }
    }

    private var measurementRoutes: [Route] {
        call("POST", "mlflow/runs/log-metric") { fields in
            let members = MLflowMember(value: try fields.request.json(), place: "metric")
            try await tracking.logMetrics([members.metric()], run: fields.runID())
            return [:]
        }
            + call("POST", "mlflow/runs/log-parameter") { fields in
                let param = TrackedTag(try fields.required("key"), try fields.text("value") ?? "")
                try await tracking.logBatch(run: fields.runID(), params: [param])
                return [:]
            }
            + call("POST", "mlflow/runs/set-tag") { fields in
                let tag = TrackedTag(try fields.required("key"), try fields.text("value") ?? "")
                try await tracking.setTag(tag, ofRun: fields.runID())
                return [:]
            }
            + call("POST", "mlflow/runs/delete-tag") { fields in
                try await tracking.deleteTag(fields.required("key"), ofRun: fields.runID())
                return [:]
            }
            + call("POST", "mlflow/runs/log-batch") { fields in
                var metrics: [Metric] = []
                for (index, element) in try fields.elements("metrics").enumerated() {
                    metrics.append(try MLflowMember(value: element, place: "metrics[\(index)]").metric())
                }
                try await tracking.logBatch(
                    run: fields.runID(), metrics: metrics, params: fields.tags("params"), tags: fields.tags("tags"))
                return [:]
            }
            + call("GET", "mlflow/metrics/get-history") { fields in
                let id = try fields.runID()
                let page = try await tracking.metricHistory(
                    run: id, key: fields.required("metric_key"), offset: fields.offset(),
                    countMax: fields.countMax(default: 25_000, limit: 25_000))
                return object([
                    "metrics": .array(page.elements.map { $0.wire() }),
                    "next_page_token": pageToken(offset: page.nextOffset),
                ])
            }
    }

    private var inputRoutes: [Route] {
        call("POST", "mlflow/runs/log-inputs") { fields in
            var inputs: [DatasetInput] = []
            for (index, element) in try fields.elements("datasets").enumerated() {
                inputs.append(try MLflowMember(value: element, place: "datasets[\(index)]").datasetInput())
            }
            var models: [String] = []
            for (index, element) in try fields.elements("models").enumerated() {
                models.append(try MLflowMember(value: element, place: "models[\(index)]").required("model_id"))
            }
            try await tracking.logInputs(run: fields.runID(), datasets: inputs, models: models)
            return [:]
        }
            + call("POST", "mlflow/runs/outputs") { fields in
                var outputs: [ModelOutput] = []
                for (index, element) in try fields.elements("models").enumerated() {
                    let member = MLflowMember(value: element, place: "models[\(index)]")
                    outputs.append(
                        ModelOutput(modelID: try member.required("model_id"), step: try member.integer("step") ?? 0))
                }
                try await tracking.logOutputs(run: fields.runID(), models: outputs)
                return [:]
            }
            + call("POST", "mlflow/runs/log-model") { fields in
                // Older clients: the run's list of models is a tag that holds a JSON list.
                let id = try fields.runID()
                guard let text = try fields.text("model_json"), let model = try? JSONValue.parse(text),
                    model["artifact_path"] != nil
                else { throw MLflowError.invalid("Malformed model info: 'model_json' is no JSON object of a model") }
                let key = "mlflow.log-model.history"
                let old = try await tracking.run(id).tag(key).flatMap { try? JSONValue.parse($0).arrayValue } ?? []
                try await tracking.setTag(TrackedTag(key, JSONValue.array(old + [model]).text), ofRun: id)
                return [:]
            }
    }
}

extension MLflowMember {
    func metric() throws(MLflowError) -> Metric {
        guard let measuredAt = try integer("timestamp") else {
            throw .invalid("Missing value for required parameter '\(place).timestamp'")
        }
        return Metric(
            try required("key"), try double("value"), measuredAt: EventTime(milliseconds: measuredAt),
            step: try integer("step") ?? 0, modelID: try text("model_id"), datasetName: try text("dataset_name"),
            datasetDigest: try text("dataset_digest"))
    }

    fileprivate func datasetInput() throws(MLflowError) -> DatasetInput {
        guard let dataset = value["dataset"], dataset.objectValue != nil else {
            throw .invalid("Missing value for required parameter '\(place).dataset'")
        }
        let member = MLflowMember(value: dataset, place: "\(place).dataset")
        var tags: [TrackedTag] = []
        for (index, element) in (value["tags"]?.arrayValue ?? []).enumerated() {
            let tag = MLflowMember(value: element, place: "\(place).tags[\(index)]")
            tags.append(TrackedTag(try tag.required("key"), try tag.text("value") ?? ""))
        }
        return DatasetInput(
            dataset: TrackedDataset(
                name: try member.required("name"), digest: try member.required("digest"),
                sourceType: try member.text("source_type") ?? "", source: try member.text("source") ?? "",
                schema: try member.text("schema"), profile: try member.text("profile")),
            tags: tags)
    }
}
