import Foundation
import PlatformCore
import RuntimePorts

/// Starts one job and stays with it to its end.
///
/// Blocks its thread; that thread does nothing else.
struct JobSupervisor {
    let job: JobSpecification
    let record: ProcessRecord
    let grace: TimeSpan
    let stop: StopSignal
    let observe: @Sendable (JobUsage) -> Void

    private static let tickMilliseconds: Int32 = 50
    private static let readByteCount = 256 << 10

    func run() -> JobOutcome {
        guard Name(job.id) != nil else { return notStarted("'\(job.id.prefix(80))' is no job name") }
        guard let program = job.command.first, !program.isEmpty else { return notStarted("the command is empty") }
        guard (job.command + job.environment.flatMap { [$0, $1] }).allSatisfy({ !$0.utf8.contains(0) }) else {
            return notStarted("the command or environment holds a zero byte")
        }
        for folder in [job.workingDirectory, (job.logPath as NSString).deletingLastPathComponent] {
            do {
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            } catch {
                return notStarted("the folder '\(folder)' cannot be made: \(error.localizedDescription)")
            }
        }
        guard let executable = Self.find(program, job: job) else {
            return notStarted(
                "the program '\(program)' is not found, or may not be run; looked in \(searchPlaces(program))")
        }
        let log = open(job.logPath, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard log >= 0 else { return notStarted("the log '\(job.logPath)' cannot be opened: \(systemMessage(errno))") }
        defer { close(log) }
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return notStarted("no pipe: \(systemMessage(errno))") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let output = ends[0]
        defer { close(output) }
        _ = fcntl(output, F_SETFL, O_NONBLOCK)

        let ownPeak = ProcessTable.residentByteCountPeak(of: getpid())
        let began = ContinuousClock.now
        let spawned = SpawnedProcess.start(
            command: SpawnedProcess.limited(executable: executable, job: job), environment: job.environment,
            workingDirectory: job.workingDirectory, output: ends[1])
        close(ends[1])
        let pid: pid_t
        switch spawned {
        case .success(let value): pid = value
        case .failure(let failure):
            return notStarted("'\(executable)' cannot be started: \(systemMessage(failure.number))")
        }
        if let status = ProcessTable.status(of: pid) {
            // Without a record a restart could not end the job; it still ends with us, so it may run.
            try? record.save(
                ProcessRecord.Leader(pid: pid, startTicks: status.startTicks, boot: ProcessTable.bootIdentifier()))
        }
        defer { record.remove() }
        return supervise(pid, output: output, log: log, began: began, ownPeak: ownPeak)
    }

    private func supervise(
        _ pid: pid_t, output: Int32, log: Int32, began: ContinuousClock.Instant, ownPeak: Int
    ) -> JobOutcome {
        var keeper = OutputKeeper(file: log, byteCountMax: job.outputByteCountMax)
        var buffer = [UInt8](repeating: 0, count: Self.readByteCount)
        let deadline = began + .milliseconds(job.timeout.milliseconds)
        var intent: JobOutcome.Ending?
        var killAt: ContinuousClock.Instant?
        var isOpen = true
        var peak = 0
        var meter = UsageMeter(leader: pid, began: began)
        while true {
            isOpen = drain(output, isOpen: isOpen, wait: Self.tickMilliseconds, &buffer, &keeper)
            if hasEnded(pid) { break }
            peak = max(peak, ProcessTable.residentByteCountPeak(of: pid))
            let now = ContinuousClock.now
            if let usage = meter.sample(at: now) { observe(usage) }
            if intent == nil, stop.isRaised || now >= deadline {
                intent = stop.isRaised ? .cancelled : .timedOut
                killAt = now + .milliseconds(grace.milliseconds)
                end(pid, with: SIGTERM)
            }
            if let moment = killAt, now >= moment {
                end(pid, with: SIGKILL)
                killAt = now + .seconds(1)  // again, for what was started in between
            }
        }
        // The first process has ended but is not reaped yet, so its number cannot belong to anybody else.
        let leftBehind = ProcessTable.family(of: pid)
        if !leftBehind.isEmpty { end(pid, with: SIGKILL) }
        var status: Int32 = 0
        var usage = rusage()
        while wait4(pid, &status, 0, &usage) < 0, errno == EINTR {}
        let drained = ContinuousClock.now + .seconds(1)  // somebody may hold the pipe who escaped
        while isOpen, ContinuousClock.now < drained {
            isOpen = drain(output, isOpen: true, wait: Self.tickMilliseconds, &buffer, &keeper)
        }
        // The kernel counts our own memory into the child's peak (the two share it until exec), so a value near ours says
        // nothing, and what was seen on the way is used; the kernel's counters are a few pages per thread behind.
        let reported = Int(usage.ru_maxrss) * 1024
        if reported > ownPeak + ownPeak / 8 + (8 << 20) { peak = max(peak, reported) }
        return outcome(
            status: status, intent: intent, keeper: keeper, peak: peak, leftBehind: leftBehind.count,
            duration: began.duration(to: .now))
    }

    /// Reads what is there, at most a few portions so that deadlines are looked at; gives whether more can come.
    private func drain(
        _ output: Int32, isOpen: Bool, wait: Int32, _ buffer: inout [UInt8], _ keeper: inout OutputKeeper
    ) -> Bool {
        guard isOpen else {
            usleep(5000)  // the output is closed, only the end is waited for
            return false
        }
        var request = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
        guard poll(&request, 1, wait) > 0 else { return true }
        for _ in 0..<16 {
            let count = buffer.withUnsafeMutableBytes { read(output, $0.baseAddress, $0.count) }
            if count == 0 { return false }
            if count < 0 { return errno == EAGAIN || errno == EINTR }
            buffer.withUnsafeBytes { keeper.take(UnsafeRawBufferPointer(rebasing: $0[0..<count])) }
        }
        return true
    }

    private func hasEnded(_ pid: pid_t) -> Bool {
        var information = siginfo_t()
        guard waitid(P_PID, id_t(pid), &information, WEXITED | WNOHANG | WNOWAIT) == 0 else { return errno != EINTR }
        return information.si_signo == SIGCHLD
    }

    private func end(_ pid: pid_t, with signal: Int32) {
        let family = ProcessTable.family(of: pid)
        kill(-pid, signal)
        for process in family where process.group != pid { kill(process.pid, signal) }
    }

    private func outcome(
        status: Int32, intent: JobOutcome.Ending?, keeper: OutputKeeper, peak: Int, leftBehind: Int, duration: Duration
    ) -> JobOutcome {
        let signal = status & 0x7F
        let exitCode = (status >> 8) & 0xFF
        let code = signal == 0 ? exitCode : signal
        let ending = intent ?? (signal != 0 ? .killed : exitCode == 0 ? .succeeded : .failed)
        var reason =
            switch ending {
            case .cancelled: "cancelled"
            case .timedOut: "ended after its time limit of \(job.timeout)"
            case .killed: "killed by signal \(signal) (\(String(cString: strsignal(signal))))" + killHint(signal)
            default: "exit code \(exitCode)"
            }
        if ending != .succeeded, let line = keeper.lastLine { reason += "; last line: \(line)" }
        if leftBehind > 0, intent == nil { reason += "; \(leftBehind) processes it left behind were ended" }
        if let failure = keeper.failure { reason += "; its log could not be written: \(failure)" }
        let milliseconds = duration.components.seconds * 1000 + duration.components.attoseconds / 1_000_000_000_000_000
        return JobOutcome(
            ending: ending, reason: reason, code: code, duration: TimeSpan(milliseconds: milliseconds),
            memoryByteCountPeak: peak, droppedOutputByteCount: keeper.droppedByteCount)
    }

    private func killHint(_ signal: Int32) -> String {
        signal == SIGKILL ? " from outside: by a person, or by the kernel because memory ran out" : ""
    }

    private func notStarted(_ reason: String) -> JobOutcome {
        JobOutcome(
            ending: .notStarted, reason: reason, code: 0, duration: TimeSpan(milliseconds: 0), memoryByteCountPeak: 0,
            droppedOutputByteCount: 0)
    }

    private func searchPlaces(_ program: String) -> String {
        program.contains("/") ? job.workingDirectory : "PATH=\(job.environment["PATH"] ?? "")"
    }

    private func systemMessage(_ number: Int32) -> String { String(cString: strerror(number)) }

    /// The program's file: a path as it is (relative to the working directory), a bare name from the job's `PATH`.
    static func find(_ program: String, job: JobSpecification) -> String? {
        let candidates =
            if program.contains("/") {
                [program.hasPrefix("/") ? program : "\(job.workingDirectory)/\(program)"]
            } else {
                (job.environment["PATH"] ?? "").split(separator: ":").map { "\($0)/\(program)" }
            }
        return candidates.first { path in
            var isFolder: ObjCBool = false
            return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && !isFolder.boolValue
                && access(path, X_OK) == 0
        }
    }
}
