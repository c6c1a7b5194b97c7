import APIContract
import ExperimentTracking
import PlatformCore

extension MLflowRoutes {
    var traceRoutes: [Route] {
        traceReadRoutes + traceChangeRoutes + assessmentRoutes + [spanRoute]
    }

    /// Longest accepted upload of spans in bytes, as it comes and unpacked.
    private static let spanByteCountMax = 32 << 20

    private var traceReadRoutes: [Route] {
        traceAnswer("GET", "mlflow/traces/get") { fields in
            let trace = try await wholeTrace(
                fields.required("trace_id"), isPartialAllowed: fields.flag("allow_partial") ?? false)
            return Array("{\"trace\":".utf8) + trace.wireBytes + Array("}".utf8)
        }
            + traceAnswer("GET", "mlflow/traces/batchGet") { fields in
                let traces = try await tracking.traces(
                    fields.texts("trace_ids"), experiments: fields.filterTexts("experiment_ids"))
                // A search reads through this call, and shows what is whole.
                let whole = traces.filter(\.isComplete).map(\.wireBytes)
                return Array("{\"traces\":[".utf8) + Array(whole.joined(separator: [0x2C])) + Array("]}".utf8)
            }
            + call("POST", "mlflow/traces/batchGetInfos", version: "3.0") { fields in
                let infos = try await tracking.traceInfos(
                    fields.texts("trace_ids"), experiments: fields.filterTexts("experiment_ids"))
                return ["trace_infos": .array(infos.map(\.wire))]
            }
            + call("POST", "mlflow/traces/search", version: "3.0", searchTraces)
            + call("GET", "mlflow/traces/{trace_id}", version: "3.0") { fields in
                ["trace": ["trace_info": try await tracking.traceInfo(fields.required("trace_id")).wire]]
            }
    }

    @Sendable private func searchTraces(_ fields: MLflowRequest) async throws -> JSONValue {
        var experiments: [String] = []
        for (index, element) in try fields.elements("locations").enumerated() {
            let location = MLflowMember(value: element, place: "locations[\(index)]")
            experiments.append(try location.member("mlflow_experiment").required("experiment_id"))
        }
        guard !experiments.isEmpty else {
            throw MLflowError.invalid("Missing value for required parameter 'locations'. Name at least one experiment.")
        }
        let page = try await tracking.searchTraces(
            experiments: experiments, filter: SearchFilter(fields.text("filter") ?? ""),
            orders: SearchOrder.list(fields.texts("order_by")), pageToken: fields.text("page_token"),
            countMax: fields.countMax(default: 100, limit: 50_000))
        return object([
            "traces": .array(page.traces.map(\.wire)), "next_page_token": .text(page.nextPageToken),
        ])
    }

    /// A trace with all its spans; those that are still on their way are waited for a little.
    private func wholeTrace(_ id: String, isPartialAllowed: Bool) async throws -> TraceWithSpans {
        for pause in [250, 750, 2000] {
            let trace = try await tracking.trace(id)
            if isPartialAllowed || trace.isComplete { return trace }
            try await Task.sleep(for: .milliseconds(pause))
        }
        let trace = try await tracking.trace(id)
        guard trace.isComplete else {
            throw MLflowError.notFound("Trace with ID \(id) is not fully exported yet, please try again later.")
        }
        return trace
    }

    /// Routes whose answer is put together from documents that are ready.
    private func traceAnswer(
        _ method: String, _ path: String, _ handler: @escaping @Sendable (MLflowRequest) async throws -> [UInt8]
    ) -> [Route] {
        ["/api", "/ajax-api"].map { prefix in
            Route(method, "\(prefix)/3.0/\(path)") { request in
                await answer(request) {
                    APIResponse(
                        headers: [("Content-Type", "application/json")],
                        body: .bytes(try await handler(MLflowRequest($0))))
                }
            }
        }
    }

    private var traceChangeRoutes: [Route] {
        call("POST", "mlflow/traces", version: "3.0") { fields in
            let trace = MLflowMember(value: ["trace": fields["trace"] ?? .null], place: "request")
            let info = try trace.member("trace").member("trace_info").traceInfo(now: tracking.now)
            return ["trace": ["trace_info": try await tracking.startTrace(info).wire]]
        }
            + ["2.0", "3.0"].flatMap { version in
                call("POST", "mlflow/traces/delete-traces", version: version) { fields in
                    let count = try await tracking.deleteTraces(
                        experiment: fields.required("experiment_id"), ids: fields.texts("request_ids"),
                        requestedBefore: fields.integer("max_timestamp_millis").map(EventTime.init(milliseconds:)),
                        countMax: fields.integer("max_traces").map(Int.init(clamping:)))
                    return ["traces_deleted": .integer(Int64(count))]
                }
                    + call("PATCH", "mlflow/traces/{trace_id}/tags", version: version) { fields in
                        try await tracking.setTag(
                            TrackedTag(fields.required("key"), fields.text("value") ?? ""),
                            ofTrace: fields.required("trace_id"))
                        return [:]
                    }
                    + call("DELETE", "mlflow/traces/{trace_id}/tags", version: version) { fields in
                        try await tracking.deleteTag(fields.required("key"), ofTrace: fields.required("trace_id"))
                        return [:]
                    }
            }
            + call("POST", "mlflow/traces/link-to-run") { fields in
                try await tracking.linkTraces(fields.texts("trace_ids"), toRun: fields.required("run_id"))
                return [:]
            }
    }

    private var assessmentRoutes: [Route] {
        let path = "mlflow/traces/{trace_id}/assessments"
        return call("POST", path, version: "3.0") { fields in
            let members = MLflowMember(value: ["assessment": fields["assessment"] ?? .null], place: "request")
            let given = try members.member("assessment").assessment(
                trace: fields.required("trace_id"), now: tracking.now)
            return ["assessment": try await tracking.createAssessment(given).wire]
        }
            + call("GET", "\(path)/{assessment_id}", version: "3.0") { fields in
                let found = try await tracking.assessment(
                    fields.required("assessment_id"), ofTrace: fields.required("trace_id"))
                return ["assessment": found.wire]
            }
            + call("PATCH", "\(path)/{assessment_id}", version: "3.0") { fields in
                let members = MLflowMember(value: ["assessment": fields["assessment"] ?? .null], place: "request")
                let change = try members.member("assessment").assessmentChange(mask: fields.required("update_mask"))
                let changed = try await tracking.updateAssessment(
                    fields.required("assessment_id"), ofTrace: fields.required("trace_id"), change)
                return ["assessment": changed.wire]
            }
            + call("DELETE", "\(path)/{assessment_id}", version: "3.0") { fields in
                try await tracking.deleteAssessment(
                    fields.required("assessment_id"), ofTrace: fields.required("trace_id"))
                return [:]
            }
    }

    /// OpenTelemetry's own call (OTLP over HTTP), which MLflow's client and any other exporter sends spans by.
    private var spanRoute: Route {
        Route("POST", "/v1/traces", body: .collect(byteCountMax: Self.spanByteCountMax)) { request in
            await answer(request) { request in
                guard let experiment = request.headers["x-mlflow-experiment-id"], !experiment.isEmpty else {
                    throw MLflowError.invalid("the header x-mlflow-experiment-id says which experiment spans belong to")
                }
                let spans: [TraceSpan]
                do { spans = try Self.spans(of: request) } catch let failure as DecodingFailure {
                    throw MLflowError.invalid("Invalid OpenTelemetry format: \(failure.description)")
                }
                if !spans.isEmpty {
                    try await tracking.logSpans(
                        spans, experiment: experiment, run: request.headers["x-mlflow-run-id"])
                }
                let isJSON = request.headers["content-type"]?.hasPrefix("application/json") == true
                return APIResponse(
                    headers: [("Content-Type", isJSON ? "application/json" : "application/x-protobuf")],
                    body: .bytes(isJSON ? Array("{}".utf8) : []))
            }
        }
    }

    private static func spans(of request: APIRequest) throws -> [TraceSpan] {
        let bytes: [UInt8]
        do {
            bytes = try ContentCoding.unpacked(
                request.body, request.headers["content-encoding"], byteCountMax: spanByteCountMax)
        } catch let other as UnknownContentCoding { throw MLflowError.invalid(other.error.message) }
        let type = request.headers["content-type"]?.prefix { $0 != ";" } ?? ""
        switch type {
        case "application/x-protobuf": return try SpanProtobuf.spans(of: bytes)
        case "application/json": return try SpanJSON.spans(of: bytes, byteCountMax: spanByteCountMax)
        default:
            throw MLflowError.invalid(
                "Invalid Content-Type: \(type.prefix(64)). Expected: application/x-protobuf or application/json")
        }
    }
}

extension TraceWithSpans {
    /// The trace as clients read it.
    fileprivate var wireBytes: [UInt8] {
        var bytes = Array("{\"trace_info\":".utf8)
        info.wire.write(to: &bytes)
        bytes += ",\"spans\":[".utf8
        for (index, span) in spans.enumerated() {
            if index > 0 { bytes.append(0x2C) }
            bytes += span.utf8
        }
        return bytes + Array("]}".utf8)
    }
}

extension MLflowRequest {
    /// Texts that restrict an answer; `nil` if none are named.
    fileprivate func filterTexts(_ name: String) throws(MLflowError) -> [String]? {
        let texts = try texts(name)
        return texts.isEmpty ? nil : texts
    }
}
