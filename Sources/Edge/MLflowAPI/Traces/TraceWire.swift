import ExperimentTracking
import PlatformCore

extension TraceInfo {
    var wire: JSONValue {
        object([
            "trace_id": .string(id), "client_request_id": .text(clientRequestID),
            "trace_location": [
                "type": "MLFLOW_EXPERIMENT", "mlflow_experiment": ["experiment_id": .string(experimentID)],
            ],
            "request_preview": .text(requestPreview), "response_preview": .text(responsePreview),
            "request_time": .string(requestedAt.description),
            "execution_duration": durationMilliseconds.map { .string(Self.seconds($0)) },
            "state": .string(state.rawValue), "trace_metadata": .object(metadata.mapValues(JSONValue.string)),
            "tags": .object(tags.mapValues(JSONValue.string)), "assessments": .array(assessments.map(\.wire)),
        ])
    }

    /// Milliseconds as protobuf's JSON writes a duration: `0.086s`.
    private static func seconds(_ milliseconds: Int64) -> String {
        let (whole, fraction) = milliseconds.quotientAndRemainder(dividingBy: 1000)
        let digits = String(fraction.magnitude)
        return (milliseconds < 0 && whole == 0 ? "-" : "") + "\(whole)."
            + String(repeating: "0", count: 3 - digits.count) + digits + "s"
    }
}

extension TraceAssessment {
    var wire: JSONValue {
        var members: [String: JSONValue] = [
            "assessment_id": .string(id), "assessment_name": .string(name), "trace_id": .string(traceID),
            "source": source, "create_time": .string(createdAt.description),
            "last_update_time": .string(updatedAt.description), kind.rawValue: content,
            "metadata": .object(metadata.mapValues(JSONValue.string)), "valid": .bool(isValid),
        ]
        if let spanID { members["span_id"] = .string(spanID) }
        if let rationale { members["rationale"] = .string(rationale) }
        if let overrides { members["overrides"] = .string(overrides) }
        return .object(members)
    }
}

extension MLflowMember {
    /// The member of that name as an object.
    func member(_ name: String) throws(MLflowError) -> MLflowMember {
        guard let member = value[name], member.objectValue != nil else {
            throw .invalid("Missing value for required parameter '\(place).\(name)'")
        }
        return MLflowMember(value: member, place: "\(place).\(name)")
    }

    private func texts(_ name: String) throws(MLflowError) -> [String: String] {
        guard let map = value[name], !map.isNull else { return [:] }
        guard let members = map.objectValue else {
            throw .invalid("Invalid value for parameter '\(place).\(name)' supplied: an object is expected")
        }
        var texts: [String: String] = [:]
        for (key, value) in members {
            guard let text = value.stringValue else {
                throw .invalid(
                    "Invalid value for parameter '\(place).\(name).\(key.prefix(64))' supplied: text is expected")
            }
            texts[key] = text
        }
        return texts
    }

    private func time(_ name: String) throws(MLflowError) -> EventTime? {
        guard let text = try text(name) else { return nil }
        guard let time = EventTime(text: text) else {
            throw .invalid(
                "Invalid value '\(text.prefix(64))' for parameter '\(place).\(name)' supplied: a time is expected")
        }
        return time
    }

    /// A duration in milliseconds: `1.5s`.
    private func duration(_ name: String) throws(MLflowError) -> Int64? {
        guard let text = try text(name) else { return nil }
        guard text.utf8.count <= 32, text.hasSuffix("s"), let seconds = Double(text.dropLast()), abs(seconds) < 1e12
        else {
            throw .invalid(
                "Invalid value '\(text.prefix(64))' for parameter '\(place).\(name)' supplied: seconds as in '1.5s' are expected"
            )
        }
        return Int64((seconds * 1000).rounded())
    }

    func traceInfo(now: EventTime) throws(MLflowError) -> TraceInfo {
        let id = try required("trace_id")
        let experiment = try member("trace_location").member("mlflow_experiment").required("experiment_id")
        let state = try text("state")
        guard let state = TraceState(rawValue: state ?? TraceState.unspecified.rawValue) else {
            throw .invalid("Invalid value '\(state?.prefix(64) ?? "")' for parameter '\(place).state' supplied.")
        }
        var assessments: [TraceAssessment] = []
        for (index, element) in (value["assessments"]?.arrayValue ?? []).enumerated() {
            assessments.append(
                try MLflowMember(value: element, place: "\(place).assessments[\(index)]").assessment(
                    trace: id, now: now))
        }
        return TraceInfo(
            id: id, experimentID: experiment, requestedAt: try time("request_time") ?? now,
            durationMilliseconds: try duration("execution_duration"), state: state,
            clientRequestID: try text("client_request_id"), requestPreview: try text("request_preview"),
            responsePreview: try text("response_preview"), metadata: try texts("trace_metadata"),
            tags: try texts("tags"), assessments: assessments)
    }

    func assessment(trace: String, now: EventTime) throws(MLflowError) -> TraceAssessment {
        guard let (kind, content) = try assessmentContent() else {
            throw .invalid("'\(place)' needs one of feedback, expectation and issue")
        }
        return TraceAssessment(
            id: try text("assessment_id") ?? "", traceID: trace, name: try required("assessment_name"), kind: kind,
            content: content, source: value["source"] ?? ["source_type": "SOURCE_TYPE_UNSPECIFIED", "source_id": ""],
            spanID: try text("span_id"), rationale: try text("rationale"), metadata: try texts("metadata"),
            overrides: try text("overrides").flatMap { $0.isEmpty ? nil : $0 },
            isValid: value["valid"]?.boolValue ?? true, createdAt: try time("create_time") ?? now,
            updatedAt: try time("last_update_time") ?? now)
    }

    private func assessmentContent() throws(MLflowError) -> (TraceAssessment.Kind, JSONValue)? {
        for kind in TraceAssessment.Kind.allCases {
            guard let content = value[kind.rawValue], !content.isNull else { continue }
            guard content.objectValue != nil else {
                throw .invalid(
                    "Invalid value for parameter '\(place).\(kind.rawValue)' supplied: an object is expected")
            }
            return (kind, content)
        }
        return nil
    }

    /// What a mask of members changes; members are separated by commas, in either of protobuf's spellings.
    func assessmentChange(mask: String) throws(MLflowError) -> AssessmentChange {
        var change = AssessmentChange()
        for path in mask.split(separator: ",").map({ $0.trimmingPrefix(" ") }) {
            switch path {
            case "assessmentName", "assessment_name": change.name = try required("assessment_name")
            case "feedback", "expectation":
                guard change.content == nil else {
                    throw .invalid("Exactly one of `expectation` or `feedback` should be specified.")
                }
                guard let kind = TraceAssessment.Kind(rawValue: String(path)) else { continue }
                change.content = (kind, try member(kind.rawValue).value)
            case "rationale": change.rationale = try text("rationale") ?? ""
            case "metadata": change.metadata = try texts("metadata")
            default:
                throw .invalid(
                    "'\(path.prefix(64))' of an assessment cannot be changed; known are assessment_name, feedback, "
                        + "expectation, rationale, metadata")
            }
        }
        return change
    }
}
