import Foundation
import PlatformCore
import RuntimePorts

/// Measures now and then what a job's processes take.
struct UsageMeter {
    private let leader: pid_t
    private let began: ContinuousClock.Instant
    private var last: (moment: ContinuousClock.Instant, ticks: UInt64)
    private var next: ContinuousClock.Instant

    /// Measures the job of a first process, half a second after its start for the first time.
    init(leader: pid_t, began: ContinuousClock.Instant) {
        self.leader = leader
        self.began = began
        last = (began, 0)
        next = began + .milliseconds(500)
    }

    /// A sample if one is due.
    mutating func sample(at now: ContinuousClock.Instant) -> JobUsage? {
        guard now >= next else { return nil }
        next = now + (now - began < .seconds(60) ? .seconds(1) : .seconds(10))
        let processes = ProcessTable.family(of: leader).filter(\.isAlive)
        guard !processes.isEmpty else { return nil }
        let ticks = processes.reduce(0) { $0 &+ $1.processorTicks }
        let pages = processes.reduce(0) { $0 &+ $1.residentPageCount }
        let seconds = (now - last.moment) / .seconds(1)
        // A process that ends unreaped by the job takes its ticks with it; the share is 0 then, never negative.
        let used = ticks > last.ticks ? Double(ticks - last.ticks) / Double(max(1, sysconf(Int32(_SC_CLK_TCK)))) : 0
        last = (now, ticks)
        return JobUsage(
            elapsed: TimeSpan(milliseconds: Int64((now - began) / .milliseconds(1))),
            processorsInUse: seconds > 0 ? used / seconds : 0,
            residentByteCount: Int(clamping: pages) * Int(sysconf(Int32(_SC_PAGESIZE))), processCount: processes.count)
    }
}
