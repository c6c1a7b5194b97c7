import CONNXRuntime
import RuntimePorts

/// Types of a tensor's elements that are understood here, by their numbers in ONNX.
enum ElementType: Int32 {
    case float = 1
    case int32 = 6
    case int64 = 7
    case text = 8
    case bool = 9
    case double = 11

    /// Bytes of one element; 0 for text.
    var byteCount: Int {
        switch self {
        case .float, .int32: 4
        case .int64, .double: 8
        case .bool: 1
        case .text: 0
        }
    }
}

/// A model in the library's hands.
final class ONNXSession: @unchecked Sendable {  // immutable; the library lets any threads run one session at once
    /// An input or output as the model declares it.
    struct Port {
        let name: String
        /// 1 tensor, 2 sequence, 3 map, by their numbers in ONNX.
        let kind: Int32
        /// Number of the element type; 0 unless it is a tensor.
        let element: Int32
        /// Its dimensions; -1 where the model leaves them open.
        let shape: [Int64]
    }

    let library: ONNXLibrary
    let pointer: OpaquePointer
    let inputs: [Port]
    let outputs: [Port]

    /// Loads a model.
    /// - Throws: `malformedModel`, `unsupportedModel` with the library's words.
    init(_ library: ONNXLibrary, _ bytes: [UInt8], threadCount: Int) throws(ModelError) {
        let api = library.api
        var made: OpaquePointer?
        try library.check(api.pointee.CreateSessionOptions(&made), .unavailable)
        guard let options = made else { throw ModelError(.unavailable, "ONNX Runtime made no session options") }
        defer { api.pointee.ReleaseSessionOptions(options) }
        try library.check(api.pointee.SetIntraOpNumThreads(options, Int32(clamping: threadCount)), .unavailable)
        try library.check(api.pointee.SetInterOpNumThreads(options, 1), .unavailable)
        try library.check(api.pointee.SetSessionGraphOptimizationLevel(options, 99), .unavailable)
        // Threads that wait for work sleep: processors are shared with everything else here.
        for (key, value) in [
            ("session.intra_op.allow_spinning", "0"), ("session.inter_op.allow_spinning", "0"),
            ("session.load_model_format", "ONNX"),
        ] { try library.check(api.pointee.AddSessionConfigEntry(options, key, value), .unavailable) }
        made = nil
        let status = bytes.withUnsafeBytes {
            api.pointee.CreateSessionFromArray(library.environment, $0.baseAddress, $0.count, options, &made)
        }
        try library.check(status, .malformedModel)
        guard let session = made else { throw ModelError(.malformedModel, "ONNX Runtime made no session") }
        do throws(ModelError) {
            inputs = try Self.ports(library, session, isInput: true)
            outputs = try Self.ports(library, session, isInput: false)
        } catch {
            api.pointee.ReleaseSession(session)
            throw error
        }
        self.library = library
        pointer = session
    }

    deinit { library.api.pointee.ReleaseSession(pointer) }

    private static func ports(_ library: ONNXLibrary, _ session: OpaquePointer, isInput: Bool) throws(ModelError)
        -> [Port]
    {
        let api = library.api
        var count = 0
        try library.check(
            isInput
                ? api.pointee.SessionGetInputCount(session, &count)
                : api.pointee.SessionGetOutputCount(session, &count), .malformedModel)
        guard count <= 1 << 16 else { throw ModelError(.tooLarge, "the model has \(count) inputs or outputs") }
        var ports: [Port] = []
        for index in 0..<count {
            var text: UnsafeMutablePointer<CChar>?
            try library.check(
                isInput
                    ? api.pointee.SessionGetInputName(session, index, library.allocator, &text)
                    : api.pointee.SessionGetOutputName(session, index, library.allocator, &text), .malformedModel)
            let name = text.map { String(cString: $0) } ?? ""
            if let text { try library.check(api.pointee.AllocatorFree(library.allocator, text), .unavailable) }
            var made: OpaquePointer?
            try library.check(
                isInput
                    ? api.pointee.SessionGetInputTypeInfo(session, index, &made)
                    : api.pointee.SessionGetOutputTypeInfo(session, index, &made), .malformedModel)
            guard let type = made else { throw ModelError(.malformedModel, "'\(printable(name))' has no type") }
            defer { api.pointee.ReleaseTypeInfo(type) }
            ports.append(try port(library, name, type))
        }
        return ports
    }

    private static func port(_ library: ONNXLibrary, _ name: String, _ type: OpaquePointer) throws(ModelError) -> Port {
        let api = library.api
        var kind: Int32 = 0
        try library.check(api.pointee.GetOnnxTypeFromTypeInfo(type, &kind), .malformedModel)
        guard kind == 1 else { return Port(name: name, kind: kind, element: 0, shape: []) }
        var tensor: OpaquePointer?  // the type's own: not released
        try library.check(api.pointee.CastTypeInfoToTensorInfo(type, &tensor), .malformedModel)
        guard let tensor else { return Port(name: name, kind: 0, element: 0, shape: []) }
        let (element, shape) = try self.shape(library, tensor)
        return Port(name: name, kind: kind, element: element, shape: shape)
    }

    /// Element type and dimensions of a tensor.
    static func shape(_ library: ONNXLibrary, _ tensor: OpaquePointer) throws(ModelError) -> (Int32, [Int64]) {
        let api = library.api
        var element: Int32 = 0
        var rank = 0
        try library.check(api.pointee.GetTensorElementType(tensor, &element), .malformedModel)
        try library.check(api.pointee.GetDimensionsCount(tensor, &rank), .malformedModel)
        guard rank <= 64 else { throw ModelError(.unsupportedModel, "a tensor of \(rank) dimensions") }
        var shape = [Int64](repeating: 0, count: rank)
        try library.check(api.pointee.GetDimensions(tensor, &shape, rank), .malformedModel)
        return (element, shape)
    }
}
