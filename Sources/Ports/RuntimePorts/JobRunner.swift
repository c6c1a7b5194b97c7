public import PlatformCore

/// A command to run to its end: training, scoring.
public struct JobSpecification: Sendable, Hashable, Codable {
    /// Unique name of the job; also its folder's name.
    public let id: String
    /// The program and its arguments; the program is looked up in `PATH` of `environment` if it is no path.
    public let command: [String]
    /// All of the environment the job sees; nothing is inherited.
    public let environment: [String: String]
    /// Folder to run in; made if missing.
    public let workingDirectory: String
    /// Where standard output and error go, one file.
    ///
    /// Output past `outputByteCountMax` is dropped and counted.
    public let logPath: String
    /// Most bytes of output to keep.
    public let outputByteCountMax: Int
    /// Most memory, in bytes, that the job's processes may map; 0 for no limit.
    public let memoryByteCountMax: Int
    /// Time until the job is ended.
    public let timeout: TimeSpan
    /// Makes a specification.
    public init(
        id: String, command: [String], environment: [String: String], workingDirectory: String, logPath: String,
        outputByteCountMax: Int = 16 << 20, memoryByteCountMax: Int = 0, timeout: TimeSpan
    ) {
        self.id = id
        self.command = command
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.logPath = logPath
        self.outputByteCountMax = outputByteCountMax
        self.memoryByteCountMax = memoryByteCountMax
        self.timeout = timeout
    }
}

/// How a job ended.
public struct JobOutcome: Sendable, Hashable, Codable {
    /// The ways a job ends.
    public enum Ending: String, Sendable, Codable {
        /// Exit code 0.
        case succeeded
        /// Another exit code.
        case failed
        /// A signal from outside, `SIGKILL` by the kernel's memory killer among them.
        case killed
        /// Its time ran out and it was ended.
        case timedOut
        /// Somebody cancelled it.
        case cancelled
        /// It could not be started.
        case notStarted
    }
    /// The way it ended.
    public let ending: Ending
    /// Cause of death in one line for people: `exit code 1; last line: ValueError: …`.
    public let reason: String
    /// Exit code or signal number.
    public let code: Int32
    /// Wall time.
    public let duration: TimeSpan
    /// Highest resident memory in bytes; 0 when unknown.
    public let memoryByteCountPeak: Int
    /// Bytes of output dropped past the limit.
    public let droppedOutputByteCount: Int
    /// Makes an outcome.
    public init(
        ending: Ending, reason: String, code: Int32, duration: TimeSpan, memoryByteCountPeak: Int,
        droppedOutputByteCount: Int
    ) {
        self.ending = ending
        self.reason = reason
        self.code = code
        self.duration = duration
        self.memoryByteCountPeak = memoryByteCountPeak
        self.droppedOutputByteCount = droppedOutputByteCount
    }
}

/// What a job's processes take at one moment.
public struct JobUsage: Sendable, Hashable {
    /// Time since the job's start.
    public let elapsed: TimeSpan
    /// Processors in use since the last sample; 1.5 is one and a half.
    public let processorsInUse: Double
    /// Resident memory of all its processes, in bytes; shared pages count in each.
    public let residentByteCount: Int
    /// Its living processes.
    public let processCount: Int

    /// Makes a sample.
    public init(elapsed: TimeSpan, processorsInUse: Double, residentByteCount: Int, processCount: Int) {
        self.elapsed = elapsed
        self.processorsInUse = processorsInUse
        self.residentByteCount = residentByteCount
        self.processCount = processCount
    }
}

/// Runs jobs apart from the platform's process.
///
/// The embedded one starts local processes.
public protocol JobRunner: Sendable {
    /// Runs a job to its end. Cancelling the task ends the job and everything it started.
    ///
    /// `observe` hears of what the job takes: every second in its first minute, every ten seconds later. It must not wait.
    func run(_ job: JobSpecification, observe: @escaping @Sendable (JobUsage) -> Void) async -> JobOutcome
    /// Whether the processes of a job that an earlier run of the platform started are still there; they are ended.
    /// Called once for each unfinished job after a restart.
    func endLeftover(_ jobID: String) async
}

extension JobRunner {
    /// Runs a job to its end, unobserved.
    public func run(_ job: JobSpecification) async -> JobOutcome { await run(job) { _ in } }
}
