public import PlatformCore

/// How the worker processes of a deployed model run.
public struct WorkersDefinition: Sendable, Hashable {
    /// Processes that are always there.
    public var countMin = 1
    /// Most processes; more than `countMin` are started while requests wait.
    public var countMax = 1
    /// Address space of each in bytes.
    public var memoryByteCountMax = 4 << 30
    /// Time for one call of the model; a process that takes longer is ended.
    public var timeout = TimeSpan.seconds(10)
    /// Folder of a virtual environment, or an interpreter; `nil` for the configured one.
    public var environment: String?
    /// What follows if that environment has other packages than a version was logged with.
    public var requirements = RequirementPolicy.warn

    /// One process with 4 GiB.
    public init() {}
}

/// What follows if the environment of a Python model has other packages than it was logged with.
public enum RequirementPolicy: String, Sendable, Hashable, CaseIterable {
    /// The differences are told.
    case warn
    /// The version is neither registered nor deployed.
    case match
}

/// How requests are gathered into one call of a model.
public struct BatchingDefinition: Sendable, Hashable {
    /// Most rows of a call.
    public let rowCountMax: Int
    /// How long a request may wait for others.
    public let waitMax: TimeSpan

    /// Makes a policy.
    public init(rowCountMax: Int, waitMax: TimeSpan) {
        self.rowCountMax = rowCountMax
        self.waitMax = waitMax
    }
}

extension DefinitionCompiler {
    func workers(_ fields: FieldReader) throws(PlatformError) -> WorkersDefinition {
        var workers = WorkersDefinition()
        guard let reader = try fields.mapping("workers") else { return workers }
        workers.countMin = try reader.integer("min", default: 1, in: 1...64)
        workers.countMax = try reader.integer("max", default: workers.countMin, in: 1...64)
        guard workers.countMax >= workers.countMin else {
            throw reader.error("max", "'max' is below 'min': \(workers.countMax) < \(workers.countMin)")
        }
        workers.memoryByteCountMax = try reader.byteCount("memory", default: workers.memoryByteCountMax)
        guard workers.memoryByteCountMax >= 64 << 20 else {
            throw reader.error("memory", "a worker needs 64MB at least")
        }
        workers.timeout = try reader.optionalSpan("timeout") ?? workers.timeout
        guard 1...3_600_000 ~= workers.timeout.milliseconds else {
            throw reader.error("timeout", "'timeout' must be from 1ms to 1h")
        }
        workers.environment = try reader.optionalText("environment")
        if let path = workers.environment, !path.hasPrefix("/") {
            throw reader.error("environment", "'environment' must be an absolute path, not '\(path.prefix(60))'")
        }
        workers.requirements = try reader.optionalChoice("requirements") ?? .warn
        try reader.finish()
        return workers
    }

    func batching(_ fields: FieldReader) throws(PlatformError) -> BatchingDefinition? {
        guard let reader = try fields.mapping("batching") else { return nil }
        let rows = try reader.integer("size_max", default: 64, in: 1...8192)
        let text = try reader.text("wait_max", default: "0s")
        guard let wait = TimeSpan(text: text), 0...1000 ~= wait.milliseconds else {
            throw reader.error(
                "wait_max", "'wait_max' must be a span from 0s to 1s such as 2ms, not '\(text.prefix(60))'")
        }
        try reader.finish()
        return BatchingDefinition(rowCountMax: rows, waitMax: wait)
    }
}
