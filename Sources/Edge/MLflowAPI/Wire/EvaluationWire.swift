import ExperimentTracking
import PlatformCore

extension EvaluationDataset {
    /// - Parameter experiments: named where the call makes them; clients ask for them by a call of their own.
    func wire(experiments: [String] = []) -> JSONValue {
        let tags = Dictionary(tags.map { ($0.key, JSONValue.string($0.value)) }, uniquingKeysWith: { $1 })
        return object([
            "dataset_id": .string(id), "name": .string(name), "tags": .string(JSONValue.object(tags).text),
            "schema": .text(schema), "profile": .text(profile), "digest": .string(digest),
            "created_time": .time(createdAt), "last_update_time": .time(updatedAt), "created_by": .text(createdBy),
            "last_updated_by": .text(updatedBy),
            "experiment_ids": experiments.isEmpty ? Optional.none : .array(experiments.map(JSONValue.string)),
        ])
    }
}

extension EvaluationRecord {
    /// Appends the record as JSON.
    func write(to out: inout [UInt8], dataset: String) {
        out += "{\"dataset_record_id\":".utf8
        JSONValue.write(id, to: &out)
        func text(_ name: String, _ value: String?) {
            guard let value else { return }
            out += ",\"\(name)\":".utf8
            JSONValue.write(value, to: &out)
        }
        func json(_ name: String, _ value: String?) {
            if let value { out += ",\"\(name)\":\(value)".utf8 }
        }
        text("dataset_id", dataset)
        json("inputs", inputs)
        json("outputs", outputs)
        json("expectations", expectations)
        json("tags", tags)
        json("source", source)
        text("source_id", sourceID)
        text("source_type", sourceType)
        json("created_time", "\(createdAt.milliseconds)")
        json("last_update_time", "\(updatedAt.milliseconds)")
        text("created_by", createdBy)
        text("last_updated_by", updatedBy)
        out.append(0x7D)
    }
}

extension ScorerVersion {
    var wire: JSONValue {
        [
            // A number here and text elsewhere, as in MLflow's messages.
            "experiment_id": .integer(Int64(experimentID) ?? 0), "scorer_id": .string(scorerID),
            "scorer_name": .string(name), "scorer_version": .integer(version), "serialized_scorer": .string(document),
            "creation_time": .integer(createdAt.milliseconds),
        ]
    }
}

extension MLflowMember {
    /// The member as an object; `nil` if it is missing or null.
    private func members(_ name: String) throws(MLflowError) -> [String: JSONValue]? {
        guard let member = value[name], !member.isNull else { return nil }
        guard let members = member.objectValue else {
            throw .invalid("Invalid value for parameter '\(place).\(name)' supplied: an object is expected")
        }
        return members
    }

    /// A record of an evaluation dataset as clients give it.
    func evaluationDraft() throws(MLflowError) -> EvaluationDraft {
        guard value.objectValue != nil else {
            throw .invalid("Invalid value for parameter '\(place)' supplied: an object is expected")
        }
        return EvaluationDraft(
            inputs: try members("inputs") ?? [:], outputs: value["outputs"], expectations: try members("expectations"),
            tags: try members("tags"), source: try evaluationSource())
    }

    private func evaluationSource() throws(MLflowError) -> EvaluationSource? {
        guard let given = try members("source"), !given.isEmpty else { return nil }
        let source = MLflowMember(value: .object(given), place: "\(place).source")
        let text = try source.required("source_type")
        guard let kind = EvaluationSource.Kind(rawValue: text.uppercased()) else {
            let known = EvaluationSource.Kind.allCases.map(\.rawValue).joined(separator: ", ")
            throw .invalid("Invalid dataset record source type: \(text.prefix(64)). Valid source types: \(known)")
        }
        return EvaluationSource(kind, data: try source.members("source_data") ?? [:])
    }
}
