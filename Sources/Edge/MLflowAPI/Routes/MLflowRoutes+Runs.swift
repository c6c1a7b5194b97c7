import APIContract
import ExperimentTracking
import PlatformCore

extension MLflowRoutes {
    var runRoutes: [Route] { runLifecycleRoutes + measurementRoutes + inputRoutes }

    private var runLifecycleRoutes: [Route] {
        call("POST", "mlflow/runs/create") { fields in
            guard let experiment = try fields.text("experiment_id"), !experiment.isEmpty else {
                throw MLflowError("BAD_REQUEST", 400, fields.missing("experiment_id").message)
            }
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
            + searchRoutes
    }

    // Not through a JSON value: a page may hold megabytes, and most of them are ready.
    private var searchRoutes: [Route] {
        ["/api", "/ajax-api"].map { prefix in
            Route("POST", "\(prefix)/2.0/mlflow/runs/search") { request in
                await answer(request) { request in
                    let fields = try MLflowRequest(request)
                    let page = try await tracking.findRuns(
                        experiments: fields.texts("experiment_ids"), filter: SearchFilter(fields.text("filter") ?? ""),
                        orders: SearchOrder.list(fields.texts("order_by")), view: fields.view("run_view_type"),
                        pageToken: fields.text("page_token"), countMax: fields.countMax(default: 1000, limit: 50_000))
                    let (documents, count) = try await runDocuments.documents(of: page.runs, in: tracking)
                    var bytes: [UInt8] = []
                    bytes.reserveCapacity(documents.reduce(256) { $0 + $1.count + 1 })
                    bytes += "{\"runs\":[".utf8
                    for (index, document) in documents.enumerated() {
                        if index > 0 { bytes.append(0x2C) }
                        bytes += document
                    }
                    bytes.append(0x5D)
                    if let token = page.token(behind: count) { bytes += ",\"next_page_token\":\"\(token)\"".utf8 }
                    bytes.append(0x7D)
                    return APIResponse(headers: [("Content-Type", "application/json")], body: .bytes(bytes))
                }
            }
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
                    run: fields.wellFormedRunID(), metrics: metrics, params: fields.tags("params"),
                    tags: fields.tags("tags"))
                return [:]
            }
            + call("GET", "mlflow/metrics/get-history", metricHistory)
            + call("GET", "mlflow/metrics/get-history-bulk", metricHistories)
            + call("GET", "mlflow/metrics/get-history-bulk-interval", sampledMetricHistories)
    }

    @Sendable private func metricHistory(_ fields: MLflowRequest) async throws -> JSONValue {
        let (id, key) = (try fields.runID(), try fields.required("metric_key"))
        let question: JSONValue = ["call": "get-history", "run": .string(id), "key": .string(key)]
        var after: MetricPoint?
        if let token = try fields.text("page_token"), !token.isEmpty {
            after = MetricPoint(place: try tracking.pageSeal.place(token, question: question))
        }
        let page = try await history(
            run: id, key: key, after: after, countMax: fields.countMax(default: 25_000, limit: 25_000))
        return object([
            "metrics": .array(page.points.map { $0.wire(key: key) }),
            "next_page_token": page.hasMore
                ? page.points.last.map { .string(tracking.pageSeal.token($0.place, question: question)) } : nil,
        ])
    }

    /// A page of a history; a run that does not exist has none, as with MLflow's server.
    private func history(
        run: String, key: String, after: MetricPoint? = nil, countMax: Int
    ) async throws -> (points: [MetricPoint], hasMore: Bool) {
        do {
            let page = try await tracking.metricHistory(run: run, key: key, after: after, countMax: countMax)
            return (page.points, page.hasMore)
        } catch let error as PlatformError where error.code == .notFound {
            return ([], false)
        }
    }

    // What the browser's pages ask for: whole histories of several runs, 25,000 points at most.
    @Sendable private func metricHistories(_ fields: MLflowRequest) async throws -> JSONValue {
        let (runs, key) = try Self.runsAndKey(fields, countMax: 100, runField: "run_id")
        var left = try fields.countMax(default: 25_000, limit: 25_000)
        var metrics: [JSONValue] = []
        for run in runs.sorted() where left > 0 {
            let page = try await history(run: run, key: key, countMax: left)
            left -= page.points.count
            metrics += page.points.map { $0.wire(key: key, runID: run) }
        }
        return ["metrics": .array(metrics)]
    }

    @Sendable private func sampledMetricHistories(_ fields: MLflowRequest) async throws -> JSONValue {
        let (runs, key) = try Self.runsAndKey(fields, countMax: 100, runField: "run_ids")
        let (start, end) = (try fields.integer("start_step"), try fields.integer("end_step"))
        guard (start == nil) == (end == nil) else {
            throw MLflowError.invalid(
                "If either start step or end step are specified, both must be specified.")
        }
        if let start, let end, start > end {
            throw MLflowError.invalid(
                "end_step must be greater than start_step. Found start_step=\(start) and end_step=\(end).")
        }
        let histories = try await tracking.sampledHistories(
            runs: runs, key: key, startStep: start, endStep: end,
            countMax: fields.countMax(default: 320, limit: 2500))
        return [
            "metrics": .array(
                histories.flatMap { history in history.points.map { $0.wire(key: key, runID: history.run) } })
        ]
    }

    private static func runsAndKey(
        _ fields: MLflowRequest, countMax: Int, runField: String
    ) throws(MLflowError) -> ([String], String) {
        let runs = try fields.texts(runField)
        guard !runs.isEmpty else {
            throw .invalid("Missing value for required parameter '\(runField)'. Name at least one run.")
        }
        guard runs.count <= countMax else {
            throw .invalid("Provided list of run_ids must be less than or equal to \(countMax) long.")
        }
        return (runs, try fields.required("metric_key"))
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
            try await tracking.logInputs(run: fields.wellFormedRunID(), datasets: inputs, models: models)
            return [:]
        }
            + call("POST", "mlflow/runs/outputs") { fields in
                guard fields["models"] != nil else { throw fields.missing("models") }
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

extension MetricPoint {
    /// Where the page behind this point begins.
    var place: JSONValue {
        [
            "at": .integer(milliseconds), "step": .integer(step),
            "value": .integer(Int64(bitPattern: value.bitPattern)),
        ]
    }

    init?(place: JSONValue) {
        guard let time = place["at"]?.integerValue, let step = place["step"]?.integerValue,
            let bits = place["value"]?.integerValue
        else { return nil }
        self.init(milliseconds: time, step: step, value: Double(bitPattern: UInt64(bitPattern: bits)))
    }

    func wire(key: String, runID: String? = nil) -> JSONValue {
        object([
            "key": .string(key), "value": value.isNaN ? "NaN" : .number(value), "timestamp": .integer(milliseconds),
            "step": .integer(step), "run_id": .text(runID),
        ])
    }
}

extension MLflowMember {
    func metric() throws(MLflowError) -> Metric {
        guard let measuredAt = try integer("timestamp") else {
            throw .invalid("Missing value for required parameter '\(place).timestamp'")
        }
        guard measuredAt >= 0 else {
            throw .invalid("Invalid value \(measuredAt) for parameter '\(place).timestamp' supplied: it is negative")
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
