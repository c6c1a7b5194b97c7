import Foundation
import PlatformCore

/// The file that says which process a running job is, for the next start of the platform.
struct ProcessRecord {
    /// A job's first process.
    struct Leader: Hashable {
        let pid: pid_t
        let startTicks: UInt64
        let boot: String
    }

    let path: String

    init(folder: String, jobID: String) { path = "\(folder)/\(jobID).process" }

    /// Writes the file; it appears whole.
    func save(_ leader: Leader) throws {
        try FileManager.default.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        let content: JSONValue = [
            "pid": .integer(Int64(leader.pid)), "start_ticks": .string(String(leader.startTicks)),
            "boot": .string(leader.boot),
        ]
        try Data(content.canonicalBytes).write(to: URL(fileURLWithPath: path), options: .atomic)
    }

    /// What the file says; `nil` if there is none or it cannot be read.
    func load() -> Leader? {
        guard let size = try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int, size <= 4096,
            let data = FileManager.default.contents(atPath: path), let content = try? JSONValue.parse(Array(data)),
            let number = content["pid"]?.integerValue, let pid = pid_t(exactly: number), pid > 1,
            let startTicks = content["start_ticks"]?.stringValue.flatMap({ UInt64($0) }),
            let boot = content["boot"]?.stringValue
        else { return nil }
        return Leader(pid: pid, startTicks: startTicks, boot: boot)
    }

    func remove() { unlink(path) }

    /// Living processes of the job.
    ///
    /// While the first process lives, its start time proves that it is the same one. Once it is gone, its number stays
    /// taken for as long as its session has members, so members that began after it are the job's.
    func leftovers(of leader: Leader) -> [ProcessStatus] {
        guard leader.boot == ProcessTable.bootIdentifier() else { return [] }
        if let status = ProcessTable.status(of: leader.pid), status.startTicks != leader.startTicks { return [] }
        let own = getpid()
        return ProcessTable.family(of: leader.pid).filter { $0.startTicks >= leader.startTicks && $0.pid != own }
    }
}
