import Logging
public import PlatformCore
public import ServiceLifecycle
import Synchronization

/// How far a long operation is.
public final class ProgressReporter: Sendable {
    /// A moment of progress.
    public struct Progress: Sendable, Hashable {
        /// Units done.
        public var done = 0.0
        /// Units in all; 0 when not known.
        public var total = 0.0
        /// What is counted, `rows`.
        public var unit = ""
        /// What is being done.
        public var message = ""
    }
    private let state = Mutex(Progress())

    /// Starts with nothing done.
    public init() {}

    /// The present state.
    public var progress: Progress { state.withLock { $0 } }

    /// Says how far it is.
    public func report(_ message: String, done: Double = 0, total: Double = 0, unit: String = "") {
        state.withLock { $0 = Progress(done: done, total: total, unit: unit, message: message) }
    }
}

/// Runs long operations apart from the request that asked for them, and remembers how they ended.
///
/// An operation ends with its process: what it had durably done stays, and asking again resumes or repeats it.
public final class OperationRunner: Service {
    /// What is known of an operation.
    public struct Status: Sendable {
        /// The ways it can stand.
        public enum State: String, Sendable { case running, succeeded, failed }
        /// How it stands.
        public let state: State
        /// How far it is.
        public let progress: ProgressReporter.Progress
        /// Its result when it succeeded.
        public let result: JSONValue?
        /// Its error when it failed.
        public let error: (any Error)?
    }
    private struct Entry {
        let reporter: ProgressReporter
        var result: Result<JSONValue, any Error>?
    }
    private struct Job: Sendable {
        let id: String
        let reporter: ProgressReporter
        let work: @Sendable (ProgressReporter) async throws -> JSONValue
    }
    private struct State {
        var entries: [String: Entry] = [:]
        var order: [String] = []
        var running = 0
    }
    private let state = Mutex(State())
    private let jobs: AsyncStream<Job>
    private let enqueue: AsyncStream<Job>.Continuation
    private let identifiers: IdentifierSource

    /// Most operations that run at once; more are refused.
    public static let runningCountMax = 32
    private static let rememberedCountMax = 1000

    /// Makes a runner.
    public init(identifiers: IdentifierSource) {
        self.identifiers = identifiers
        (jobs, enqueue) = AsyncStream.makeStream(of: Job.self)
    }

    /// Runs what is started until graceful shutdown, then cancels what is left.
    public func run() async throws {
        await cancelWhenGracefulShutdown {
            await withDiscardingTaskGroup { group in
                for await job in self.jobs {
                    group.addTask { await self.perform(job) }
                }
                group.cancelAll()
            }
        }
    }

    @concurrent
    private func perform(_ job: Job) async {
        let result: Result<JSONValue, any Error>
        do { result = .success(try await job.work(job.reporter)) } catch { result = .failure(error) }
        state.withLock { state in
            state.entries[job.id]?.result = result
            state.running -= 1
        }
    }

    /// Starts an operation and gives its identifier.
    /// - Throws: `PlatformError` (`overloaded`) when too many run.
    public func start(_ work: @escaping @Sendable (ProgressReporter) async throws -> JSONValue) throws -> String {
        let job = Job(id: identifiers.next(), reporter: ProgressReporter(), work: work)
        let isAccepted = state.withLock { state in
            guard state.running < Self.runningCountMax else { return false }
            state.running += 1
            state.entries[job.id] = Entry(reporter: job.reporter)
            state.order.append(job.id)
            if state.order.count > Self.rememberedCountMax,
                let index = state.order.firstIndex(where: { state.entries[$0]?.result != nil })
            {
                state.entries[state.order.remove(at: index)] = nil
            }
            return true
        }
        guard isAccepted else {
            throw PlatformError(
                .overloaded, "operations", "\(Self.runningCountMax) operations run already; try again later")
        }
        enqueue.yield(job)
        return job.id
    }

    /// What is known of an operation.
    public func status(_ id: String) -> Status? {
        guard let entry = state.withLock({ $0.entries[id] }) else { return nil }
        switch entry.result {
        case nil: return Status(state: .running, progress: entry.reporter.progress, result: nil, error: nil)
        case .success(let value)?:
            return Status(state: .succeeded, progress: entry.reporter.progress, result: value, error: nil)
        case .failure(let error)?:
            return Status(state: .failed, progress: entry.reporter.progress, result: nil, error: error)
        }
    }

    /// Operations that run now.
    public var runningCount: Int { state.withLock { $0.running } }
}
