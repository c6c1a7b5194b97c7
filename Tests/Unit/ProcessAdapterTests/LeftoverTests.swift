import Foundation
import PlatformCore
import RuntimePorts
import Testing

@testable import ProcessAdapter

@Suite struct LeftoverTests {
    /// A process that no runner watches, as after a crash of the platform; in a session of its own.
    private func orphan(_ shop: Workshop, _ script: String) throws -> pid_t {
        let null = open("/dev/null", O_WRONLY)
        defer { close(null) }
        try FileManager.default.createDirectory(atPath: shop.folder + "/work", withIntermediateDirectories: true)
        return try SpawnedProcess.start(
            command: ["/bin/sh", "-c", script], environment: ["PATH": "/usr/bin:/bin"],
            workingDirectory: shop.folder + "/work", output: null
        ).get()
    }

    private func leader(_ pid: pid_t) throws -> ProcessRecord.Leader {
        let status = try #require(ProcessTable.status(of: pid))
        return .init(pid: pid, startTicks: status.startTicks, boot: ProcessTable.bootIdentifier())
    }

    private func reap(_ pid: pid_t) {
        kill(-pid, SIGKILL)
        var status: Int32 = 0
        waitpid(pid, &status, 0)
    }

    /// The kernel's rule is about threads, so the end of the starting thread stands for the end of the platform.
    @Test func diesWithWhoeverStartedIt() async throws {
        let shop = try Workshop()
        let folder = shop.folder
        let pid: pid_t = try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                let null = open("/dev/null", O_WRONLY)
                defer { close(null) }
                let command = SpawnedProcess.limited(executable: "/bin/sleep", job: shop.job(["sleep", "300"]))
                continuation.resume(
                    with: SpawnedProcess.start(
                        command: command, environment: [:], workingDirectory: folder, output: null))
                // Long enough for the chain of programs to have become the job.
                usleep(300_000)
            }
        }
        var status: Int32 = 0
        waitpid(pid, &status, 0)
        #expect(status & 0x7F == SIGKILL)
    }

    @Test func endsTheProcessesOfAnEarlierRun() async throws {
        let shop = try Workshop()
        let pid = try orphan(shop, "sleep 300 & echo $! > grandchild; wait")
        let record = ProcessRecord(folder: shop.runner.recordFolder, jobID: "lost")
        try record.save(leader(pid))
        let grandchild = try await shop.number(in: "grandchild")
        await shop.runner.endLeftover("lost")
        #expect(try await shop.isGone(grandchild))
        #expect(try await shop.isGone(pid))
        #expect(record.load() == nil)
        reap(pid)
    }

    @Test func endsWhatTheFirstProcessLeftBehind() async throws {
        let shop = try Workshop()
        let pid = try orphan(shop, "sleep 0.2; sleep 300 & echo $! > grandchild")
        let record = ProcessRecord(folder: shop.runner.recordFolder, jobID: "lost")
        try record.save(leader(pid))
        let grandchild = try await shop.number(in: "grandchild")
        var status: Int32 = 0
        waitpid(pid, &status, 0)
        #expect(ProcessTable.status(of: grandchild)?.isAlive == true)
        await shop.runner.endLeftover("lost")
        #expect(try await shop.isGone(grandchild))
    }

    @Test func leavesAStrangerWithTheSameNumberAlone() async throws {
        let shop = try Workshop()
        let pid = try orphan(shop, "sleep 300")
        defer { reap(pid) }
        let real = try leader(pid)
        let record = ProcessRecord(folder: shop.runner.recordFolder, jobID: "lost")
        try record.save(.init(pid: pid, startTicks: real.startTicks - 1, boot: real.boot))
        await shop.runner.endLeftover("lost")
        #expect(ProcessTable.status(of: pid)?.isAlive == true)
        try record.save(.init(pid: pid, startTicks: real.startTicks, boot: "another start of the machine"))
        await shop.runner.endLeftover("lost")
        #expect(ProcessTable.status(of: pid)?.isAlive == true)
        #expect(record.load() == nil)
    }

    @Test(arguments: [
        "", "{", "{\"pid\":0}", "{\"pid\":99999999999,\"boot\":\"\",\"start_ticks\":\"1\"}", "\u{0}\u{1}",
    ])
    func takesNoHarmFromABrokenRecord(content: String) async throws {
        let shop = try Workshop()
        try FileManager.default.createDirectory(atPath: shop.runner.recordFolder, withIntermediateDirectories: true)
        try Data(content.utf8).write(to: URL(fileURLWithPath: shop.runner.recordFolder + "/bad.process"))
        await shop.runner.endLeftover("bad")
        await shop.runner.endLeftover("none")
        await shop.runner.endLeftover("../../etc/passwd")
    }

    @Test func noRecordIsLeftAfterAJob() async throws {
        let shop = try Workshop()
        _ = await shop.runner.run(shop.script("true"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: shop.runner.recordFolder).isEmpty)
    }

    @Test func readsAStatLineWithAnyProgramName() throws {
        let line = "42 (a ) R 1 (x)) S 7 42 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2"
        let status = try #require(ProcessTable.parse(Array(line.utf8), pid: 42))
        #expect(status.parent == 7 && status.group == 42 && status.session == 41 && status.startTicks == 987_654)
        for length in 0..<line.utf8.count { _ = ProcessTable.parse(Array(line.utf8.prefix(length)), pid: 42) }
        #expect(ProcessTable.parse(Array("42 (x) S 7".utf8), pid: 42) == nil)
    }
}
