import ExperimentTracking
import PlatformCore

/// An object without the members that are `nil`.
func object(_ members: KeyValuePairs<String, JSONValue?>) -> JSONValue {
    var result: [String: JSONValue] = [:]
    for (key, value) in members { if let value { result[key] = value } }
    return .object(result)
}

extension JSONValue {
    static func text(_ text: String?) -> JSONValue? { text.map(JSONValue.string) }
    static func time(_ time: EventTime?) -> JSONValue? { time.map { .integer($0.milliseconds) } }
    static func tags(_ tags: [TrackedTag]) -> JSONValue {
        .array(tags.map { ["key": .string($0.key), "value": .string($0.value)] })
    }
}

extension Experiment {
    var wire: JSONValue {
        [
            "experiment_id": .string(id), "name": .string(name), "artifact_location": .string(artifactLocation),
            "lifecycle_stage": isDeleted ? "deleted" : "active", "creation_time": .integer(createdAt.milliseconds),
            "last_update_time": .integer(updatedAt.milliseconds), "tags": .tags(tags),
        ]
    }
}

extension Metric {
    func wire(runID: String? = nil) -> JSONValue {
        object([
            "key": .string(key), "value": value.isNaN ? "NaN" : .number(value),
            "timestamp": .integer(measuredAt.milliseconds), "step": .integer(step), "model_id": .text(modelID),
            "dataset_name": .text(datasetName), "dataset_digest": .text(datasetDigest), "run_id": .text(runID),
        ])
    }
}

extension RunInfo {
    var wire: JSONValue {
        object([
            "run_id": .string(id), "run_uuid": .string(id), "run_name": .string(name),
            "experiment_id": .string(experimentID), "user_id": .string(userName), "status": .string(status.rawValue),
            "start_time": .time(startedAt), "end_time": .time(endedAt), "artifact_uri": .string(artifactURI),
            "lifecycle_stage": isDeleted ? "deleted" : "active",
        ])
    }
}

extension TrackedDataset {
    var wire: JSONValue {
        object([
            "name": .string(name), "digest": .string(digest), "source_type": .string(sourceType),
            "source": .string(source), "schema": .text(schema), "profile": .text(profile),
        ])
    }
}

extension TrackedRun {
    var wire: JSONValue {
        var inputs: [String: JSONValue] = [:]
        if !datasetInputs.isEmpty {
            inputs["dataset_inputs"] = .array(
                datasetInputs.map { ["tags": .tags($0.tags), "dataset": $0.dataset.wire] })
        }
        if !modelInputs.isEmpty {
            inputs["model_inputs"] = .array(modelInputs.map { ["model_id": .string($0)] })
        }
        var outputs: [String: JSONValue] = [:]
        if !modelOutputs.isEmpty {
            outputs["model_outputs"] = .array(
                modelOutputs.map { ["model_id": .string($0.modelID), "step": .integer($0.step)] })
        }
        return [
            "info": info.wire,
            "data": [
                "metrics": .array(metrics.map { $0.wire(runID: nil) }), "params": .tags(params), "tags": .tags(tags),
            ],
            "inputs": .object(inputs), "outputs": .object(outputs),
        ]
    }
}

extension LoggedModel {
    var wire: JSONValue {
        [
            "info": object([
                "model_id": .string(id), "experiment_id": .string(experimentID), "name": .string(name),
                "creation_timestamp_ms": .time(createdAt), "last_updated_timestamp_ms": .time(updatedAt),
                "artifact_uri": .string(artifactURI), "status": .string(status.rawValue),
                "model_type": .string(modelType ?? ""), "source_run_id": .string(sourceRunID ?? ""),
                "tags": .tags(tags),
            ]),
            "data": [
                "params": .tags(params), "metrics": .array(metrics.map { $0.metric.wire(runID: $0.runID) }),
            ],
        ]
    }
}

extension ArtifactEntry {
    var wire: JSONValue {
        object([
            "path": .string(path), "is_dir": .bool(isFolder), "file_size": byteCount.map { .integer(Int64($0)) },
        ])
    }
}
