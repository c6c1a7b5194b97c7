import CONNXRuntime
import Glibc
import RuntimePorts

/// The library in this process: its table of functions and what all sessions share.
///
/// It stays until the process ends; a library that started threads cannot be taken out again.
final class ONNXLibrary: @unchecked Sendable {  // immutable; ONNX Runtime's functions may be called from any thread
    let api: UnsafePointer<OrtApi>
    let version: String
    let environment: OpaquePointer
    let memory: OpaquePointer
    let allocator: OpaquePointer

    /// The version of the interface that is asked for: old enough for any library of the last years.
    private static let apiVersion: UInt32 = 16

    /// Loads the library.
    /// - Throws: `unavailable`, which says how to get one.
    init(path: String?) throws(ModelError) {
        let remedy = "install the package 'onnxruntime' (pip) or 'libonnxruntime' or set onnx.library"
        guard let path else {
            throw ModelError(.unavailable, "ONNX models need libonnxruntime.so, and none was found; \(remedy)")
        }
        guard let handle = dlopen(path, RTLD_NOW | RTLD_LOCAL) else {
            let reason = dlerror().map { String(cString: $0) } ?? "no reason given"
            throw ModelError(.unavailable, "\(path) cannot be loaded: \(printable(reason)); \(remedy)")
        }
        typealias Entry = @convention(c) () -> UnsafePointer<OrtApiBase>?
        guard let symbol = dlsym(handle, "OrtGetApiBase"), let base = unsafeBitCast(symbol, to: Entry.self)() else {
            throw ModelError(.unavailable, "\(path) is no ONNX Runtime: it has no OrtGetApiBase; \(remedy)")
        }
        version = base.pointee.GetVersionString().map { String(cString: $0) } ?? "?"
        guard let api = base.pointee.GetApi(Self.apiVersion) else {
            throw ModelError(
                .unavailable,
                "\(path) is ONNX Runtime \(printable(version)), which is too old: 1.16 is needed; \(remedy)")
        }
        self.api = api
        // 4 is "fatal": what a caller should know comes back as a status.
        var made: OpaquePointer?
        try Self.check(api, api.pointee.CreateEnv(4, "bottega", &made), .unavailable)
        guard let environment = made else { throw ModelError(.unavailable, "ONNX Runtime made no environment") }
        self.environment = environment
        made = nil
        // OrtArenaAllocator 1, OrtMemTypeDefault 0.
        try Self.check(api, api.pointee.CreateCpuMemoryInfo(1, 0, &made), .unavailable)
        guard let memory = made else { throw ModelError(.unavailable, "ONNX Runtime describes no memory") }
        self.memory = memory
        made = nil
        try Self.check(api, api.pointee.GetAllocatorWithDefaultOptions(&made), .unavailable)
        guard let allocator = made else { throw ModelError(.unavailable, "ONNX Runtime has no allocator") }
        self.allocator = allocator
    }

    /// Throws what a status says and releases it.
    func check(_ status: OpaquePointer?, _ code: ModelError.Code) throws(ModelError) {
        if let status { throw Self.error(api, status, code) }
    }

    private static func check(_ api: UnsafePointer<OrtApi>, _ status: OpaquePointer?, _ code: ModelError.Code)
        throws(ModelError)
    {
        if let status { throw error(api, status, code) }
    }

    private static func error(_ api: UnsafePointer<OrtApi>, _ status: OpaquePointer, _ code: ModelError.Code)
        -> ModelError
    {
        defer { api.pointee.ReleaseStatus(status) }
        let text = api.pointee.GetErrorMessage(status).map { String(cString: $0) } ?? "no reason given"
        // 9 is ORT_NOT_IMPLEMENTED: an operator of a newer or another set.
        let isUnknown = api.pointee.GetErrorCode(status) == 9
        return ModelError(
            isUnknown && code == .malformedModel ? .unsupportedModel : code, "ONNX Runtime says: \(printable(text))")
    }
}

/// Text from outside on one line of at most 300 characters.
func printable(_ text: String) -> String {
    String(text.unicodeScalars.prefix(300).map { $0.properties.generalCategory == .control ? " " : Character($0) })
}
