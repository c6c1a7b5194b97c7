/// Where the library is and what models may take.
public struct ONNXConfiguration: Sendable, Hashable {
    /// Path of `libonnxruntime.so`; `nil` when none was found.
    public var libraryPath: String?
    /// Threads of one call; 1 computes on the caller's.
    public var threadCount: Int
    /// Longest accepted file in bytes.
    public var byteCountMax: Int
    /// Most features a model may have.
    public var featureCountMax: Int
    /// Most outputs for each row.
    public var outputCountMax: Int

    /// Makes a configuration.
    public init(
        libraryPath: String?, threadCount: Int = 1, byteCountMax: Int = 1 << 30, featureCountMax: Int = 1 << 20,
        outputCountMax: Int = 1 << 16
    ) {
        self.libraryPath = libraryPath
        self.threadCount = threadCount
        self.byteCountMax = byteCountMax
        self.featureCountMax = featureCountMax
        self.outputCountMax = outputCountMax
    }
}
