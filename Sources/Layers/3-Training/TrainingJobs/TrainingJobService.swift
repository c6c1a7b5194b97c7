import Definitions
import Foundation
public import Logging
public import PlatformCore
public import RuntimePorts
public import StoragePorts

/// Runs training jobs one after the other in each slot, and keeps their history.
///
/// It gives a script its data, seed, parameters and a run to log into, and says how it ended. It reads neither the run
/// nor the model: whoever asked for the job registers what came out. Jobs do not survive a restart: the unfinished ones
/// of an earlier start are ended and marked lost, and are reported like any other end.
public actor TrainingJobService {
    /// The tables, for `MetadataStore.migrate`.
    public static var migrations: [MetadataMigration] { JobJournal.migrations }

    /// Makes the run that a job logs into, with these tags, and gives its identifier.
    public typealias CreateRun = @Sendable (_ model: Name, _ tags: [String: String]) async throws -> String

    private let configuration: TrainingJobConfiguration
    private let journal: JobJournal
    private let surroundings: TrainingSurroundings
    private let runner: any JobRunner
    private let clock: any PlatformClock
    private let identifiers: IdentifierSource
    private let createRun: CreateRun
    private let recorded: @Sendable (TrainingJob, TrainingRecord) async -> Void
    private let used: @Sendable (TrainingJob, JobUsage) async -> Void
    private let finished: @Sendable (TrainingJob) async -> Void
    private let logger: Logger

    private struct Queued {
        let job: TrainingJob
        let training: TrainingDefinition
        let input: TrainingInput
        let place: (command: [String], folder: String)
    }
    private var trackingURL: String
    private var trackingToken: Secret?
    private var queue: [Queued] = []
    /// Jobs being admitted, which hold a place of the queue while their run is made.
    private var arriving = 0
    /// Everything this start knows as unfinished, with the stream that ends when it is to be cancelled.
    private var unfinished: [String: AsyncStream<Never>.Continuation] = [:]
    private var cancelled: [String: AsyncStream<Never>] = [:]
    private var waiters: [String: [UUID: AsyncStream<Never>.Continuation]] = [:]
    private let wake: AsyncStream<Void>.Continuation
    private let wakes: AsyncStream<Void>

    /// Makes the service; `run` starts it.
    ///
    /// - Parameters:
    ///   - content: where environment records go.
    ///   - createRun: makes the run that a job logs into.
    ///   - recorded: called with what was recorded of a job's surroundings, just before it runs.
    ///   - used: called with what a running job takes, now and then.
    ///   - finished: called after each end of a job, lost ones included, once that is durable.
    public init(
        configuration: TrainingJobConfiguration, store: any MetadataStore, content: ContentStore, runner: any JobRunner,
        clock: any PlatformClock, identifiers: IdentifierSource, createRun: @escaping CreateRun,
        recorded: @escaping @Sendable (TrainingJob, TrainingRecord) async -> Void = { _, _ in },
        used: @escaping @Sendable (TrainingJob, JobUsage) async -> Void = { _, _ in },
        finished: @escaping @Sendable (TrainingJob) async -> Void, logger: Logger
    ) {
        self.configuration = configuration
        trackingURL = configuration.trackingURL
        journal = JobJournal(store: store)
        surroundings = TrainingSurroundings(runner: runner, content: content, configuration: configuration)
        self.runner = runner
        self.clock = clock
        self.identifiers = identifiers
        self.createRun = createRun
        self.recorded = recorded
        self.used = used
        self.finished = finished
        self.logger = logger
        // One waiting wake-up is enough: whoever wakes looks at the whole queue.
        (wakes, wake) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Says where the tracking server answers, once that is known: a port chosen by the system is known late.
    ///
    /// - Parameter token: what the server asks of every request; `nil` on loopback. Jobs get it as `MLFLOW_TRACKING_TOKEN`.
    public func setTracking(url: String, token: Secret?) {
        trackingURL = url
        trackingToken = token
    }

    // MARK: Asking

    /// Puts a job into the queue and gives it back; it is durable by then.
    /// - Throws: `overloaded` if the queue is full, `invalidInput` for parameters that no environment can hold or a
    ///   slice without a file, and what `createRun` throws.
    public func start(_ request: TrainingRequest) async throws -> TrainingJob {
        let subject = "model/\(request.model.name)"
        let training = request.model.training
        let repeating = request.repeating
        var parameters = repeating == nil ? training.parameters : [:]
        parameters.merge(request.parameters) { $1 }
        let place = (command: repeating?.command ?? training.command, folder: repeating?.folder ?? training.folder)
        try Self.check(parameters, subject: subject)
        for (slice, path) in request.input.paths where !FileManager.default.fileExists(atPath: path) {
            throw PlatformError(.invalidInput, subject, "the file of the slice '\(slice)' is missing: \(path)")
        }
        guard queue.count + arriving < configuration.queuedCountMax else {
            throw PlatformError(
                .overloaded, subject, "\(configuration.queuedCountMax) training jobs wait already; try again later")
        }
        arriving += 1
        defer { arriving -= 1 }
        let id = identifiers.next()
        let seed = request.seed ?? training.seed
        var tags = [
            "bottega.job": id, "bottega.dataset": request.input.dataset.hex, "bottega.seed": String(seed),
            "mlflow.user": request.actor, "mlflow.source.name": training.command.joined(separator: " "),
            "mlflow.source.type": "JOB",
        ]
        tags["bottega.reproduces"] = repeating?.runID
        let runID = try await createRun(request.model.name, tags)
        let now = clock.now()
        let job = TrainingJob(
            id: id, model: request.model.name, dataset: request.input.dataset, seed: seed, parameters: parameters,
            actor: request.actor, createdAt: now, runID: runID, folder: "\(configuration.folder)/\(id)", state: .queued,
            stateTime: now, startedAt: nil, facts: nil, outcome: nil)
        let (stream, continuation) = AsyncStream.makeStream(of: Never.self)
        // Known before it is written, so that a recovery that runs meanwhile does not take it for a lost one.
        unfinished[id] = continuation
        cancelled[id] = stream
        do { try await journal.insert(job) } catch {
            forget(id)
            throw error
        }
        queue.append(Queued(job: job, training: training, input: request.input, place: place))
        wake.yield()
        return job
    }

    /// A job.
    /// - Throws: `notFound`.
    public func job(_ id: String) async throws -> TrainingJob {
        guard let job = try await journal.job(id) else {
            throw PlatformError(.notFound, "training_job/\(id.prefix(64))", "there is no such job")
        }
        return job
    }

    /// Jobs, newest first; of one model if it is given.
    public func jobs(of model: Name? = nil, countMax: Int = 100) async throws -> [TrainingJob] {
        try await journal.jobs(of: model, countMax: countMax)
    }

    /// The last lines of a job's output; empty before there is any.
    public func progress(_ id: String, lineCountMax: Int = 20) async throws -> [String] {
        let job = try await job(id)
        guard let file = FileHandle(forReadingAtPath: job.logPath) else { return [] }
        defer { try? file.close() }
        let end = try file.seekToEnd()
        try file.seek(toOffset: end > 16_384 ? end - 16_384 : 0)
        let text = String(decoding: try file.read(upToCount: 16_384) ?? Data(), as: UTF8.self)
        let lines = text.split(whereSeparator: \.isNewline).map(String.init)
        return Array(lines.suffix(max(0, lineCountMax)))
    }

    /// Asks a job to end; nothing happens if it has ended.
    /// - Throws: `notFound`.
    public func cancel(_ id: String) async throws {
        if let place = queue.firstIndex(where: { $0.job.id == id }) {
            queue.remove(at: place)
            await end(id, .cancelled, detail: ["reason": "cancelled while it waited"])
        } else if let continuation = unfinished[id] {
            continuation.finish()
        } else {
            _ = try await job(id)
        }
    }

    /// Waits until a job has ended and `finished` has heard of it, and gives it.
    ///
    /// A cancelled wait ends early.
    ///
    /// Gives the job as it is when the service stops first. Never called from `finished`, which it waits for.
    /// - Throws: `notFound`.
    public func wait(for id: String) async throws -> TrainingJob {
        if unfinished[id] != nil {
            let (stream, continuation) = AsyncStream.makeStream(of: Never.self)
            let waiter = UUID()
            waiters[id, default: [:]][waiter] = continuation
            for await _ in stream {}
            waiters[id]?[waiter] = nil
        }
        return try await job(id)
    }

    // MARK: Running

    /// Marks what an earlier start left unfinished as lost, then runs jobs until its task is cancelled; that ends the
    /// running ones.
    ///
    /// Called once.
    public func run() async throws {
        for id in try await journal.unfinished() where unfinished[id] == nil {
            await runner.endLeftover(id)
            await runner.endLeftover("\(id).record")
            logger.warning(
                "a training job was lost: the platform stopped while it was unfinished", metadata: ["job": "\(id)"])
            await end(id, .lost, detail: ["reason": "the platform stopped while the job was unfinished"])
        }
        await withTaskGroup(of: Void.self) { group in
            var running = 0
            // Slots that become free wake the loop too, so it alone decides what starts.
            for await _ in wakes {
                while running - freed < configuration.slotCount, !queue.isEmpty {
                    let next = queue.removeFirst()
                    running += 1
                    group.addTask { await self.execute(next) }
                }
            }
            group.cancelAll()
        }
        // What still waits in the queue never runs; the next start marks it lost.
        for id in unfinished.keys { release(waitersOf: id) }
    }

    /// Executions that have ended since the start.
    private var freed = 0

    private func execute(_ queued: Queued) async {
        let id = queued.job.id
        let stream = cancelled[id]
        let outcome = await withTaskGroup(of: JobOutcome?.self) { group in
            group.addTask { await self.perform(queued) }
            group.addTask {
                if let stream { for await _ in stream {} }
                return nil
            }
            // The job's own end, or the wish to end it: whichever comes first ends the other.
            var outcome: JobOutcome?
            for await result in group {
                group.cancelAll()
                outcome = outcome ?? result
            }
            return outcome
        }
        freed += 1
        if let outcome {
            let state: TrainingJobState =
                switch outcome.ending {
                case .succeeded: .succeeded
                case .cancelled: .cancelled
                case .failed, .killed, .timedOut, .notStarted: .failed
                }
            let detail: JSONValue = ["outcome": (try? JSONValue.of(outcome)) ?? .null]
            // In a task that is not cancelled: the end must be written at shutdown too.
            await Task { await self.end(id, state, detail: detail) }.value
        }
        wake.yield()
    }

    private func perform(_ queued: Queued) async -> JobOutcome {
        let job = queued.job
        do {
            try await journal.append(job.id, .running, at: clock.now(), detail: .object([:]))
            try FileManager.default.createDirectory(atPath: job.folder, withIntermediateDirectories: true)
            let manifest = job.folder + "/manifest.json"
            try Data(queued.input.manifest.prettyText.utf8).write(to: URL(fileURLWithPath: manifest), options: .atomic)
            let command = queued.place.command.map { $0.replacing("{python}", with: configuration.interpreter) }
            let environment = environment(job, queued.input, manifest: manifest)
            let record = await surroundings.record(
                of: job, command: command, codeFolder: queued.place.folder, environment: environment)
            let facts = await surroundings.facts(from: record)
            try await journal.append(
                job.id, .running, at: clock.now(), detail: ["facts": try JSONValue.of(facts)])
            await recorded(job, record)
            return await observed(
                JobSpecification(
                    id: job.id, command: command, environment: environment, workingDirectory: queued.place.folder,
                    logPath: job.logPath, outputByteCountMax: configuration.outputByteCountMax,
                    memoryByteCountMax: queued.training.memoryByteCountMax, timeout: queued.training.timeout), of: job)
        } catch {
            return JobOutcome(
                ending: .notStarted, reason: "could not be prepared: \(errorText(error))", code: 0,
                duration: TimeSpan(milliseconds: 0), memoryByteCountPeak: 0, droppedOutputByteCount: 0)
        }
    }

    /// Runs a job's command and passes on what it takes; samples that nobody takes in time are dropped.
    private func observed(_ specification: JobSpecification, of job: TrainingJob) async -> JobOutcome {
        let (samples, continuation) = AsyncStream.makeStream(of: JobUsage.self, bufferingPolicy: .bufferingNewest(8))
        let (runner, used) = (runner, used)
        return await withTaskGroup(of: Void.self) { group in
            group.addTask { for await sample in samples { await used(job, sample) } }
            let outcome = await runner.run(specification) { continuation.yield($0) }
            continuation.finish()
            return outcome
        }
    }

    private func environment(_ job: TrainingJob, _ input: TrainingInput, manifest: String) -> [String: String] {
        let processorCount = ProcessInfo.processInfo.activeProcessorCount
        let threads =
            configuration.threadCount > 0
            ? configuration.threadCount : max(1, processorCount / configuration.slotCount)
        var environment = [
            "PATH": configuration.searchPath, "HOME": job.folder, "LC_ALL": "C.UTF-8", "TMPDIR": job.folder,
            "MLFLOW_TRACKING_URI": trackingURL, "MLFLOW_EXPERIMENT_NAME": job.model.text,
            "MLFLOW_RUN_ID": job.runID, "BOTTEGA_JOB_ID": job.id, "BOTTEGA_MODEL": job.model.text,
            "BOTTEGA_DATASET": job.dataset.hex, "BOTTEGA_DATASET_MANIFEST": manifest, "BOTTEGA_SEED": String(job.seed),
            "PYTHONHASHSEED": String(UInt32(truncatingIfNeeded: job.seed)), "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": String(threads),
            // A job tells nobody else of itself; and the sender's threads can fail a script that only logs.
            "MLFLOW_DISABLE_TELEMETRY": "true",
        ]
        environment["MLFLOW_TRACKING_TOKEN"] = trackingToken?.value
        for (slice, path) in input.paths { environment["BOTTEGA_\(slice.uppercased())"] = path }
        for (name, value) in job.parameters { environment["BOTTEGA_PARAM_\(name.uppercased())"] = value }
        return environment
    }

    /// Writes the end of a job and tells everybody who waits for it.
    private func end(_ id: String, _ state: TrainingJobState, detail: JSONValue) async {
        do {
            try await journal.append(id, state, at: clock.now(), detail: detail)
            if let job = try await journal.job(id) { await finished(job) }
        } catch {
            // The next start finds the job unfinished and marks it lost.
            logger.error(
                "the end of a training job could not be stored",
                metadata: ["job": "\(id)", "error": "\(errorText(error))"])
        }
        forget(id)
    }

    private func forget(_ id: String) {
        unfinished.removeValue(forKey: id)?.finish()
        cancelled[id] = nil
        release(waitersOf: id)
    }

    private func release(waitersOf id: String) {
        for waiter in waiters.removeValue(forKey: id) ?? [:] { waiter.value.finish() }
    }

    private static func check(_ parameters: [String: String], subject: String) throws {
        guard parameters.count <= 1000 else {
            throw PlatformError(.tooLarge, subject, "\(parameters.count) parameters; at most 1000 are accepted")
        }
        var seen: Set<String> = []
        for (name, value) in parameters {
            let upper = name.uppercased()
            guard (1...128).contains(name.utf8.count),
                name.utf8.allSatisfy({
                    $0 == 95 || (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
                })
            else {
                throw PlatformError(
                    .invalidInput, subject,
                    "'\(name.prefix(60))' is no parameter name: letters, digits and '_' are accepted")
            }
            guard seen.insert(upper).inserted else {
                throw PlatformError(.invalidInput, subject, "two parameters are called BOTTEGA_PARAM_\(upper)")
            }
            guard value.utf8.count <= 32_768, !value.utf8.contains(0) else {
                throw PlatformError(
                    .invalidInput, subject, "the value of '\(name)' is longer than 32,768 bytes or holds a zero byte")
            }
        }
    }
}
