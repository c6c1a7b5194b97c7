import Foundation
public import PlatformCore
public import RuntimePorts
import Synchronization

/// Runs jobs as processes of this machine, each in a session of its own.
///
/// A job inherits nothing: not our environment, not our open files, not our signal settings. When its first process
/// ends for whatever reason, everything that it started and left behind is ended too. When the platform itself dies,
/// the kernel ends the job's first process; `endLeftover` ends what is left after a restart. A process that makes a
/// session of its own and whose parents have all ended escapes both.
///
/// Limits are set by `prlimit` and the bond to our life by `setpriv`, both of util-linux, because neither can be set
/// between fork and exec from Swift.
public struct LocalJobRunner: JobRunner {
    /// Folder with one small file for each running job: which process it is.
    public let recordFolder: String
    /// Time between asking a job to end and ending it.
    public let grace: TimeSpan

    /// Keeps its records in `recordFolder`, which is made if missing.
    public init(recordFolder: String, grace: TimeSpan = .seconds(5)) {
        self.recordFolder = recordFolder
        self.grace = grace
    }

    /// Runs a job to its end.
    ///
    /// Cancelling the task ends the job and everything it started.
    public func run(_ job: JobSpecification, observe: @escaping @Sendable (JobUsage) -> Void) async -> JobOutcome {
        let stop = StopSignal()
        return await withTaskCancellationHandler {
            if Task.isCancelled {
                return JobOutcome(
                    ending: .cancelled, reason: "cancelled before it started", code: 0,
                    duration: TimeSpan(milliseconds: 0), memoryByteCountPeak: 0, droppedOutputByteCount: 0)
            }
            // A thread of its own: the kernel ties a child's life to the thread that started it, not to the process.
            return await withCheckedContinuation { continuation in
                let thread = Thread {
                    let supervisor = JobSupervisor(
                        job: job, record: ProcessRecord(folder: recordFolder, jobID: job.id), grace: grace, stop: stop,
                        observe: observe)
                    continuation.resume(returning: supervisor.run())
                }
                thread.name = "job"
                thread.stackSize = 1 << 20
                thread.start()
            }
        } onCancel: {
            stop.raise()
        }
    }

    /// Ends the processes of a job that an earlier run of the platform started, if they are still there and still the
    /// same processes.
    public func endLeftover(_ jobID: String) async {
        guard Name(jobID) != nil else { return }
        let record = ProcessRecord(folder: recordFolder, jobID: jobID)
        guard let leader = record.load() else { return }
        let tick = Duration.milliseconds(20)
        var waited = Duration.zero
        let patience = Duration.milliseconds(grace.milliseconds)
        while true {
            let left = record.leftovers(of: leader)
            if left.isEmpty { break }
            if waited == .zero { left.forEach { kill($0.pid, SIGTERM) } }
            if waited >= patience { left.forEach { kill($0.pid, SIGKILL) } }
            if waited >= patience + .seconds(5) { return }  // stuck in the kernel; the record stays for the next start
            // A cancelled sleep returns at once; what is left is then ended without waiting.
            do { try await Task.sleep(for: tick) } catch { waited = patience }
            waited += tick
        }
        record.remove()
    }
}

/// Raised once, by the task that wants a job to end; read by the job's thread.
final class StopSignal: Sendable {
    private let raised = Atomic(false)
    func raise() { raised.store(true, ordering: .relaxed) }
    var isRaised: Bool { raised.load(ordering: .relaxed) }
}
