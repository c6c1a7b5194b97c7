import GRPCWire
import ModelServing
import PlatformCore
import RuntimePorts

/// The calls of `inference.GRPCInferenceService`: message bytes in, message bytes out.
struct InferenceMethods: Sendable {
    let service: InferenceService

    /// The calls with one request and one answer.
    static let unary: Set<String> = [
        "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelConfig",
        "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload",
        "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister",
        "CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister",
    ]
    /// The call with many of both.
    static let stream = "ModelStreamInfer"

    /// Answers one of the unary calls.
    func answer(_ method: String, _ message: ArraySlice<UInt8>, terms: RequestTerms, actor: String) async throws
        -> [UInt8]
    {
        var out = ProtobufWriter()
        switch method {
        case "ServerLive": out.write(1, true)
        case "ServerReady": out.write(1, service.isReady)
        case "ModelReady":
            let (model, version) = try Self.names(message)
            out.write(1, service.isReady(model, version: version))
        case "ServerMetadata":
            out.write(1, "bottega")
            out.write(2, service.version)
            for name in InferenceService.extensions { out.write(3, name) }
        case "ModelMetadata": try metadata(message, &out)
        case "ModelConfig": try configuration(message, &out)
        case "ModelStatistics": try statistics(message, &out)
        case "ModelInfer":
            let request = try Self.request(message)
            let result = try await service.answer(
                request.model, version: request.version, request.request, terms: terms)
            InferenceMessages.write(result, isRaw: request.isRaw, to: &out)
        case "RepositoryIndex":
            var readyOnly = false
            var reader = ProtobufReader(message)
            while let (number, value) = try reader.next() {
                if number == 2 { readyOnly = try value.number() != 0 }
            }
            for entry in try await service.index(readyOnly: readyOnly) {
                out.write(1) { model in
                    model.write(1, entry.name)
                    model.write(2, entry.version)
                    model.write(3, entry.state)
                    model.write(4, entry.reason)
                }
            }
        case "RepositoryModelLoad", "RepositoryModelUnload":
            var (model, parameters) = ("", [String: InferenceParameter]())
            var reader = ProtobufReader(message)
            while let (number, value) = try reader.next() {
                switch number {
                case 2: model = try value.text()
                case 3: try InferenceMessages.parameter(value.content(), into: &parameters)
                default: break
                }
            }
            if method == "RepositoryModelLoad" {
                try await service.load(model, parameters: parameters, actor: actor)
            } else {
                await service.unload(model, actor: actor)
            }
        case "SystemSharedMemoryRegister", "CudaSharedMemoryRegister":
            throw InferenceFault.invalid("failed to register shared memory region: shared memory is not supported")
        case "SystemSharedMemoryStatus", "CudaSharedMemoryStatus":
            let (region, _) = try Self.names(message)
            guard region.isEmpty else {
                throw InferenceFault.noRegion(region, method.hasPrefix("System") ? "system" : "CUDA")
            }
        default: break  // unregistering shared memory: there is none
        }
        return out.bytes
    }

    /// Answers one message of a stream: faults are part of the answer and do not end it.
    func streamAnswer(_ message: ArraySlice<UInt8>, terms: RequestTerms) async -> [UInt8] {
        var out = ProtobufWriter()
        var id = ""
        do {
            let request = try Self.request(message)
            id = request.request.id ?? ""
            let result = try await service.answer(
                request.model, version: request.version, request.request, terms: terms)
            out.write(2) {
                InferenceMessages.write(result, isRaw: request.isRaw, isFinal: true, to: &$0)
            }
        } catch {
            out.write(1, (error as? PlatformError)?.message ?? "the server failed")
            out.write(2) { $0.write(3, id) }
        }
        return out.bytes
    }

    /// The name and the version that many requests consist of.
    private static func names(_ message: ArraySlice<UInt8>) throws(PlatformError) -> (model: String, version: String) {
        var names = (model: "", version: "")
        var reader = ProtobufReader(message)
        while let (number, value) = try reader.next() {
            switch number {
            case 1: names.model = try value.text()
            case 2: names.version = try value.text()
            default: break
            }
        }
        try checkVersion(names.version)
        return names
    }

    /// A version that is no number is a fault of the call here, an unknown route over HTTP; so it is with Triton.
    private static func checkVersion(_ version: String) throws(PlatformError) {
        guard version.isEmpty || Int64(version) != nil else {
            throw InferenceFault.invalid(
                "failed to get model version from specified version string '\(version.prefix(32))', version should be an "
                    + "integral value > 0")
        }
    }

    private static func request(_ message: ArraySlice<UInt8>) throws -> InferenceMessages.Request {
        let request = try InferenceMessages.request(message)
        try checkVersion(request.version)
        return request
    }

    private func metadata(_ message: ArraySlice<UInt8>, _ out: inout ProtobufWriter) throws(PlatformError) {
        let (model, version) = try Self.names(message)
        let (route, number) = try service.route(model, version: version)
        let tensors = service.tensors(route, version: number)
        out.write(1, model)
        for variant in route.variants { out.write(2, String(variant.version.number)) }
        out.write(3, service.served(route, number).loaded.description.format)
        for (field, list) in [(4, tensors.inputs), (5, tensors.outputs)] {
            for tensor in list {
                out.write(field) { described in
                    described.write(1, tensor.name)
                    described.write(2, tensor.datatype.rawValue)
                    described.write(3, packed: tensor.shape.map { UInt64(bitPattern: $0) })
                }
            }
        }
    }

    private func configuration(_ message: ArraySlice<UInt8>, _ out: inout ProtobufWriter) throws(PlatformError) {
        let (model, version) = try Self.names(message)
        let (route, number) = try service.route(model, version: version)
        let tensors = service.tensors(route, version: number)
        let format = service.served(route, number).loaded.description.format
        out.write(1) { config in
            config.write(1, model)
            config.write(2, format)
            config.write(3) { policy in
                policy.write(3) { $0.write(1, packed: route.variants.map { UInt64($0.version.number) }) }
            }
            config.write(4, UInt64(Predictor.instanceCountMax))
            for tensor in tensors.inputs {
                config.write(5) { input in
                    input.write(1, tensor.name)
                    input.write(2, UInt64(tensor.datatype.configurationNumber))
                    input.write(4, packed: tensor.shape.dropFirst().map { UInt64(bitPattern: $0) })
                    input.write(8, tensor.isOptional)
                }
            }
            for tensor in tensors.outputs {
                config.write(6) { output in
                    output.write(1, tensor.name)
                    output.write(2, UInt64(tensor.datatype.configurationNumber))
                    output.write(3, packed: tensor.shape.dropFirst().map { UInt64(bitPattern: $0) })
                }
            }
            config.write(17, "bottega")
        }
    }

    private func statistics(_ message: ArraySlice<UInt8>, _ out: inout ProtobufWriter) throws(PlatformError) {
        let (model, version) = try Self.names(message)
        func write(_ number: Int, _ duration: InferenceStatistics.Duration, _ writer: inout ProtobufWriter) {
            writer.write(number) { pair in
                pair.write(1, duration.count)
                pair.write(2, duration.nanoseconds)
            }
        }
        for (model, version) in try service.counted(model, version: version) {
            let counts = service.statistics.counts(model: model, version: version)
            out.write(1) { entry in
                entry.write(1, model)
                entry.write(2, String(version))
                entry.write(3, counts.lastInference)
                entry.write(4, counts.inferenceCount)
                entry.write(5, counts.executionCount)
                entry.write(6) { all in
                    write(1, counts.success, &all)
                    write(2, counts.fail, &all)
                    write(3, .init(count: counts.success.count, nanoseconds: 0), &all)
                    write(4, counts.computeInput, &all)
                    write(5, counts.computeInfer, &all)
                    write(6, counts.computeOutput, &all)
                    for cache in [7, 8] { write(cache, .init(), &all) }
                }
                for (size, batch) in counts.batches.sorted(by: { $0.key < $1.key }) {
                    entry.write(7) { own in
                        own.write(1, UInt64(size))
                        write(2, batch.input, &own)
                        write(3, batch.infer, &own)
                        write(4, batch.output, &own)
                    }
                }
            }
        }
    }
}

extension TensorDatatype {
    /// The number in `inference.DataType`.
    var configurationNumber: Int {
        switch self {
        case .bool: 1
        case .uint8: 2
        case .uint16: 3
        case .uint32: 4
        case .uint64: 5
        case .int8: 6
        case .int16: 7
        case .int32: 8
        case .int64: 9
        case .fp16: 10
        case .fp32: 11
        case .fp64: 12
        case .bytes: 13
        case .bf16: 14
        }
    }
}
