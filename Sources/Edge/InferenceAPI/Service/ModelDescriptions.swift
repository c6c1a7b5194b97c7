import ModelServing
import PlatformCore
import RuntimePorts

/// Models in the protocol's words, as JSON.
enum ModelDescriptions {
    /// `GET /v2/models/{model}`.
    static func metadata(
        _ model: String, _ route: DeploymentRoute, _ served: ServedVersion, _ tensors: ModelTensors
    ) -> JSONValue {
        func list(_ tensors: [ModelTensors.Tensor]) -> JSONValue {
            .array(
                tensors.map {
                    [
                        "name": .string($0.name), "datatype": .string($0.datatype.rawValue),
                        "shape": .array($0.shape.map(JSONValue.integer)),
                    ]
                })
        }
        return [
            "name": .string(model),
            "versions": .array(route.variants.map { .string(String($0.version.number)) }),
            "platform": .string(served.loaded.description.format),
            "inputs": list(tensors.inputs), "outputs": list(tensors.outputs),
        ]
    }

    /// `GET /v2/models/{model}/config`, Triton's extension.
    static func configuration(
        _ model: String, _ route: DeploymentRoute, _ served: ServedVersion, _ tensors: ModelTensors
    ) -> JSONValue {
        [
            "name": .string(model), "platform": .string(served.loaded.description.format), "backend": "bottega",
            "version_policy": [
                "specific": ["versions": .array(route.variants.map { .integer(Int64($0.version.number)) })]
            ],
            "max_batch_size": .integer(Int64(Predictor.instanceCountMax)),
            "input": .array(
                tensors.inputs.map {
                    [
                        "name": .string($0.name), "data_type": .string($0.datatype.configurationName),
                        "dims": .array($0.shape.dropFirst().map(JSONValue.integer)), "optional": .bool($0.isOptional),
                    ]
                }),
            "output": .array(
                tensors.outputs.map {
                    [
                        "name": .string($0.name), "data_type": .string($0.datatype.configurationName),
                        "dims": .array($0.shape.dropFirst().map(JSONValue.integer)),
                    ]
                }),
        ]
    }

    /// An element of `GET /v2/models/{model}/stats`.
    static func statistics(_ model: String, _ version: Int, _ counts: InferenceStatistics.Counts) -> JSONValue {
        func pair(_ duration: InferenceStatistics.Duration) -> JSONValue {
            ["count": .integer(Int64(clamping: duration.count)), "ns": .integer(Int64(clamping: duration.nanoseconds))]
        }
        let none = pair(.init())
        return [
            "name": .string(model), "version": .string(String(version)),
            "last_inference": .integer(Int64(clamping: counts.lastInference)),
            "inference_count": .integer(Int64(clamping: counts.inferenceCount)),
            "execution_count": .integer(Int64(clamping: counts.executionCount)),
            "inference_stats": [
                "success": pair(counts.success), "fail": pair(counts.fail),
                "queue": pair(.init(count: counts.success.count, nanoseconds: 0)),
                "compute_input": pair(counts.computeInput), "compute_infer": pair(counts.computeInfer),
                "compute_output": pair(counts.computeOutput), "cache_hit": none, "cache_miss": none,
            ],
            "batch_stats": .array(
                counts.batches.sorted { $0.key < $1.key }.map { size, batch in
                    [
                        "batch_size": .integer(Int64(size)), "compute_input": pair(batch.input),
                        "compute_infer": pair(batch.infer), "compute_output": pair(batch.output),
                    ]
                }),
            "memory_usage": [], "response_stats": [:],
        ]
    }
}
