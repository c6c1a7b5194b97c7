import Foundation

/// What `/proc/<pid>/stat` says of one process.
struct ProcessStatus: Hashable {
    let pid: pid_t
    /// `Z` is a process that has ended and waits to be reaped.
    let state: Character
    let parent: pid_t
    let group: pid_t
    let session: pid_t
    /// Clock ticks between the machine's start and the process's: with the pid, its identity.
    let startTicks: UInt64
    /// Clock ticks of processor time that it and its reaped children used.
    var processorTicks: UInt64 = 0
    /// Pages of memory that are resident.
    var residentPageCount: UInt64 = 0

    var isAlive: Bool { state != "Z" && state != "X" }
}

/// Reads the kernel's list of processes.
///
/// Everything is empty where there is no `/proc`.
enum ProcessTable {
    /// The status of one process; `nil` if there is none.
    static func status(of pid: pid_t) -> ProcessStatus? {
        guard let bytes = read("/proc/\(pid)/stat", byteCountMax: 4096) else { return nil }
        return parse(bytes, pid: pid)
    }

    /// Reads a line of `stat`.
    ///
    /// The program's name stands in parentheses and may hold anything, parentheses included.
    static func parse(_ bytes: [UInt8], pid: pid_t) -> ProcessStatus? {
        guard let close = bytes.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        let fields = bytes[(close + 1)...].split(separator: 32).map { String(decoding: $0, as: UTF8.self) }
        guard fields.count > 19, let state = fields[0].first, let parent = pid_t(fields[1]),
            let group = pid_t(fields[2]),
            let session = pid_t(fields[3]), let startTicks = UInt64(fields[19])
        else { return nil }
        var status = ProcessStatus(
            pid: pid, state: state, parent: parent, group: group, session: session, startTicks: startTicks)
        status.processorTicks = fields[11...14].reduce(0) { $0 &+ (UInt64($1) ?? 0) }
        if fields.count > 21 { status.residentPageCount = UInt64(fields[21]) ?? 0 }
        return status
    }

    /// Every process of the machine that can be read.
    static func all() -> [ProcessStatus] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return names.compactMap { pid_t($0) }.compactMap { status(of: $0) }
    }

    /// Living processes of the session that `leader` began, and everything they started, in other sessions too.
    static func family(of leader: pid_t) -> [ProcessStatus] {
        let table = all()
        var members = Set(table.filter { $0.pid == leader || $0.session == leader || $0.group == leader }.map(\.pid))
        var grew = true
        while grew {
            grew = false
            for process in table where members.contains(process.parent) && members.insert(process.pid).inserted {
                grew = true
            }
        }
        return table.filter { members.contains($0.pid) && $0.isAlive }
    }

    /// Highest resident memory of a living process in bytes; 0 when unknown.
    static func residentByteCountPeak(of pid: pid_t) -> Int {
        guard let bytes = read("/proc/\(pid)/status", byteCountMax: 16_384) else { return 0 }
        for line in bytes.split(separator: 10) where line.starts(with: "VmHWM:".utf8) {
            let digits = line.filter { 48...57 ~= $0 }
            return (Int(String(decoding: digits, as: UTF8.self)) ?? 0) * 1024
        }
        return 0
    }

    /// Names this start of the machine, so that a pid of an earlier one is never taken for a living process.
    static func bootIdentifier() -> String {
        let bytes = read("/proc/sys/kernel/random/boot_id", byteCountMax: 64) ?? []
        return String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private static func read(_ path: String, byteCountMax: Int) -> [UInt8]? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: byteCountMax)
        var filled = 0
        while filled < byteCountMax {
            let count = bytes.withUnsafeMutableBytes { buffer in
                buffer.baseAddress.map { Foundation.read(file, $0 + filled, byteCountMax - filled) } ?? 0
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            filled += count
        }
        return filled > 0 ? Array(bytes[0..<filled]) : nil
    }
}
