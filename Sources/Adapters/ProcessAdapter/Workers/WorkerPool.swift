import Dispatch
import Foundation
import RuntimePorts
import Synchronization

/// The worker processes of one model: one queue, from which each free worker takes the next call.
///
/// So no call waits behind a slow worker while another one is free. Each worker has a thread, which starts the process, talks
/// to it and ends it. A call whose worker dies is given to another worker once; one that takes too long ends its worker and is
/// not repeated, as it would end the next one too. Dead workers are replaced, after a pause that doubles while they die soon
/// and none of them answers.
final class WorkerPool: Sendable {
    private struct State {
        var queue: [WorkerJob] = []
        var workers: [Int: Phase] = [:]
        var nextWorker = 0
        var isStopped = false
        /// Who wants workers to stay although nobody asks.
        var keeperCount = 0
        var lastUse = ContinuousClock.now
        /// Workers that ended while they served, since one answered.
        var deathsInRow = 0
        /// Workers that ended before they served, since one greeted.
        var failedStartsInRow = 0
        var nextStart = ContinuousClock.now
        var checkIsSet = false
        var breaker = CircuitBreaker()
        var greetings: [OneAnswer<Result<WorkerHello, ModelError>>] = []
        var hello: WorkerHello?
        /// Workers with a lower number end when they are idle: they were started before somebody asked for others.
        var firstWorker = 0
    }
    private enum Phase { case starting, idle, busy }

    private let configuration: WorkerConfiguration
    private let state = Mutex(State())  // held for moments
    private let work = DispatchSemaphore(value: 0)
    private let ledger: WorkerLedger
    /// Told what a worker says of the model if the one before said something else.
    private let onGreeting: @Sendable (WorkerHello) -> Void

    /// Calls that may wait.
    private static let queueCountMax = 1024
    /// How long a call waits before another worker is started for it.
    private static let patience = Duration.milliseconds(50)
    private static let idleTime = Duration.seconds(60)
    private static let pingInterval = Duration.seconds(5)
    private static let pingTime = Duration.seconds(5)
    /// A worker that lived that long is replaced without a long pause.
    private static let soundAge = Duration.seconds(10)
    private static let attemptCountMax = 2
    private static let stopped = ModelError(.unavailable, "the model's workers are stopped")

    init(
        _ configuration: WorkerConfiguration, ledger: WorkerLedger,
        onGreeting: @escaping @Sendable (WorkerHello) -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.ledger = ledger
        self.onGreeting = onGreeting
    }

    // MARK: For models

    /// Calls that are computed at the same time.
    var parallelism: Int { state.withLock { max(1, $0.workers.count, configuration.workerCount.lowerBound) } }

    /// What a worker said of the model last; `nil` before one did.
    var hello: WorkerHello? { state.withLock { $0.hello } }

    /// Starts the least number of workers, and keeps so many running until `letGo`.
    func keep() {
        state.withLock { state in
            state.keeperCount += 1
            if state.workers.isEmpty { state.nextStart = .now }
        }
        scale()
    }

    /// Takes one `keep` back; workers that nobody keeps end when they were idle for a while.
    func letGo() {
        state.withLock { state in
            state.keeperCount -= 1
            state.lastUse = .now
        }
    }

    /// Starts workers, if there are none, and waits for what one says of the model.
    func greeting() async throws(ModelError) -> WorkerHello {
        let answer = OneAnswer<Result<WorkerHello, ModelError>>()
        let known = state.withLock { state -> WorkerHello? in
            state.lastUse = .now
            if state.isStopped { answer.give(.failure(Self.stopped)) }
            if let hello = state.hello, state.workers.values.contains(where: { $0 != .starting }) { return hello }
            state.greetings.append(answer)
            if state.workers.isEmpty { state.nextStart = .now }
            return nil
        }
        scale(isWanted: true)
        if let known { return known }
        return try await answer.value().get()
    }

    /// Replaces all workers, each when it has answered the call in its hands.
    func startAnew() {
        state.withLock { state in
            state.firstWorker = state.nextWorker
            state.hello = nil
        }
    }

    /// Hands a job to the next free worker and waits; no longer than until `deadline`.
    func run(_ job: WorkerJob) async throws(ModelError) -> WorkerOutcome {
        let (refusal, isBusy) = state.withLock { state -> (ModelError?, Bool) in
            state.lastUse = .now
            if state.isStopped { return (Self.stopped, false) }
            if !state.breaker.allows(at: .now) {
                ledger.add("breaker")
                return (
                    ModelError(.breakerOpen, "the model's workers failed again and again; they are left alone"), false
                )
            }
            guard state.queue.count < Self.queueCountMax else {
                ledger.add("full")
                return (ModelError(.unavailable, "\(Self.queueCountMax) calls wait for the model already"), false)
            }
            state.queue.append(job)
            return (nil, !state.workers.values.contains(.idle))
        }
        if let refusal { throw refusal }
        work.signal()
        if isBusy { scale(isWanted: true) }
        return try await job.answer.value().get()
    }

    /// Ends all workers and fails what waits.
    func stop() {
        let (jobs, waiters) = state.withLock { state in
            state.isStopped = true
            defer { (state.queue, state.greetings) = ([], []) }
            return (state.queue, state.greetings)
        }
        for job in jobs { job.answer.give(.failure(Self.stopped)) }
        for waiter in waiters { waiter.give(.failure(Self.stopped)) }
        for _ in 0..<configuration.workerCount.upperBound { work.signal() }
    }

    /// How it is now.
    var status: WorkerStatus {
        state.withLock { state in
            func count(_ phase: Phase) -> Int { state.workers.values.count { $0 == phase } }
            return WorkerStatus(
                starting: count(.starting), idle: count(.idle), busy: count(.busy),
                queued: state.queue.count { !$0.answer.isGiven }, breakerIsOpen: state.breaker.isOpen)
        }
    }

    // MARK: How many workers

    /// Starts a worker if one is missing, or if calls wait and more are allowed.
    private func scale(isWanted: Bool = false) {
        enum Step { case none, start(Int), check(ContinuousClock.Instant) }
        let step = state.withLock { state -> Step in
            let now = ContinuousClock.now
            guard !state.isStopped else { return .none }
            let isUsed = state.keeperCount > 0 || isWanted || now - state.lastUse < Self.idleTime
            var target = isUsed ? configuration.workerCount.lowerBound : 0
            if !state.greetings.isEmpty { target = max(target, 1) }
            let waiting = state.queue.first { !$0.answer.isGiven }
            let alive = state.workers.count
            var next: ContinuousClock.Instant?
            if let waiting {
                target = max(target, 1)
                if alive >= target, alive < configuration.workerCount.upperBound,
                    !state.workers.values.contains(.starting)
                {
                    if now - waiting.arrival >= Self.patience {
                        target = alive + 1
                    } else {
                        next = waiting.arrival + Self.patience
                    }
                }
            }
            if alive < target {
                if now >= state.nextStart {
                    let id = state.nextWorker
                    state.nextWorker += 1
                    state.workers[id] = .starting
                    ledger.add("started")
                    return .start(id)
                }
                next = state.nextStart
            }
            guard let next, !state.checkIsSet else { return .none }
            state.checkIsSet = true
            return .check(next)
        }
        switch step {
        case .none: return
        case .start(let id):
            // The thread ends with its worker; it holds the pool until then.
            let thread = Thread { self.live(id) }
            thread.name = "worker \(configuration.model)"
            thread.start()
            scale(isWanted: isWanted)
        case .check(let moment):
            let delay = max(1, (moment - .now) / .milliseconds(1))
            DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(Int(delay.rounded(.up)))) {
                [weak self] in
                guard let self else { return }
                state.withLock { $0.checkIsSet = false }
                scale()
            }
        }
    }

    // MARK: One worker's life, on its thread

    private func live(_ id: Int) {
        let born = ContinuousClock.now
        do throws(WorkerEnd) {
            let process = try WorkerProcess(
                command: configuration.command(), environment: configuration.environment,
                folder: configuration.workingFolder)
            defer { process.end() }
            let hello = try process.greet(until: .now + configuration.startTime)
            greeted(hello, id)
            try serve(process, id)
            gone(id)
        } catch { gone(id, error, age: .now - born) }
    }

    private func greeted(_ hello: WorkerHello, _ id: Int) {
        if self.hello != hello { onGreeting(hello) }
        let waiters = state.withLock { state in
            state.workers[id] = .idle
            state.failedStartsInRow = 0
            guard id >= state.firstWorker else { return [] as [OneAnswer<Result<WorkerHello, ModelError>>] }
            state.hello = hello
            defer { state.greetings = [] }
            return state.greetings
        }
        for waiter in waiters { waiter.give(.success(hello)) }
    }

    /// Takes jobs until the pool has no use for the worker any more.
    private func serve(_ process: WorkerProcess, _ id: Int) throws(WorkerEnd) {
        var layout: WorkerLayout?
        var idleSince = ContinuousClock.now
        var lastSign = ContinuousClock.now
        var outputByteCount = 0
        while true {
            if work.wait(timeout: .now() + .milliseconds(200)) == .timedOut {
                try process.look()
                if .now - lastSign > Self.pingInterval {
                    _ = try process.ping(until: .now + Self.pingTime)
                    lastSign = .now
                }
            }
            let printed = process.outputByteCount - outputByteCount
            outputByteCount += printed
            ledger.addOutput(printed)
            let idle = ContinuousClock.now - idleSince
            let (job, mayStay) = state.withLock { state -> (WorkerJob?, Bool) in
                guard !state.isStopped, id >= state.firstWorker else { return (nil, false) }
                while let job = state.queue.first {
                    state.queue.removeFirst()
                    if job.answer.isGiven { continue }  // nobody waits for it any more
                    state.workers[id] = .busy
                    return (job, true)
                }
                state.workers[id] = .idle
                let isUsed = state.keeperCount > 0 || .now - state.lastUse < Self.idleTime
                let least = isUsed ? configuration.workerCount.lowerBound : 0
                return (nil, idle < Self.idleTime || state.workers.count <= least)
            }
            guard let job else {
                if mayStay { continue } else { return }
            }
            scale()
            try answer(job, process, &layout)
            idleSince = .now
            lastSign = .now
        }
    }

    private func answer(_ job: WorkerJob, _ process: WorkerProcess, _ layout: inout WorkerLayout?) throws(WorkerEnd) {
        let limit = ContinuousClock.now + configuration.timeout
        do throws(WorkerEnd) {
            if let wanted = job.layout, wanted !== layout {
                try process.tell(wanted, until: limit)
                layout = wanted
            }
            let outcome: WorkerOutcome
            switch job.question {
            case .rows(let rows, let count):
                outcome = .outputs(try process.predict(rows, rowCount: count, until: limit))
            case .memory: outcome = .byteCount(try process.ping(until: limit))
            }
            state.withLock { state in
                state.breaker.succeeded()
                state.deathsInRow = 0
            }
            ledger.add("answered")
            job.answer.give(.success(outcome))
        } catch {
            ledger.add(error.word)  // before the answer: who has it finds it counted
            if case .refused(let text) = error {
                job.answer.give(.failure(ModelError(.shapeMismatch, text)))
                return
            }
            var isRepeated = false
            if case .hung = error {
                job.answer.give(
                    .failure(ModelError(.deadlineExceeded, "it did not answer within \(configuration.timeout)")))
            } else if job.countAttempt() < Self.attemptCountMax {
                isRepeated = true
            } else {
                job.answer.give(.failure(ModelError(.unavailable, "its worker failed: \(error.message)")))
            }
            if isRepeated {
                state.withLock { $0.queue.insert(job, at: 0) }
                work.signal()
            }
            throw error
        }
    }

    /// Notes a worker's end, and sees to the next one.
    private func gone(_ id: Int, _ end: WorkerEnd? = nil, age: Duration = .zero) {
        let (waiters, jobs) = state.withLock { state in
            let phase = state.workers.removeValue(forKey: id)
            guard let end, !state.isStopped else {
                return ([] as [OneAnswer<Result<WorkerHello, ModelError>>], [] as [WorkerJob])
            }
            if phase == .starting { ledger.add("start_failed") }
            if phase == .idle { ledger.add(end.word) }
            state.breaker.failed(at: .now)
            if phase == .starting {
                state.failedStartsInRow += 1
            } else {
                state.deathsInRow = age > Self.soundAge ? 1 : state.deathsInRow + 1
            }
            let failures = phase == .starting ? state.failedStartsInRow : state.deathsInRow
            let pause = Duration.milliseconds(100 << min(failures - 1, 9))
            state.nextStart = .now + min(pause, .seconds(30))
            guard phase == .starting else { return ([], []) }
            // Somebody may have ended it; what a model's own fault is comes again.
            if case .died = end, state.failedStartsInRow < Self.attemptCountMax { return ([], []) }
            defer { state.greetings = [] }
            guard state.breaker.isOpen, state.workers.isEmpty else { return (state.greetings, []) }
            defer { state.queue = [] }
            return (state.greetings, state.queue)
        }
        let error = ModelError(
            .unavailable, "its worker could not be started: \(end?.message ?? "it is not wanted any more")")
        for waiter in waiters { waiter.give(.failure(error)) }
        for job in jobs { job.answer.give(.failure(error)) }
        scale()
    }
}
