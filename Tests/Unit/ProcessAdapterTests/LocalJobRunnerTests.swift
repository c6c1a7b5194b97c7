import Foundation
import PlatformCore
import ProcessAdapter
import RuntimePorts
import Testing

@Suite struct LocalJobRunnerTests {
    let shop: Workshop
    init() throws { shop = try Workshop() }

    @Test func runsToItsEndWithTheEnvironmentAsGivenAndNothingElse() async throws {
        let environment = ["PATH": "/usr/bin:/bin", "GREETING": "guten Tag", "EMPTY": ""]
        let outcome = await shop.runner.run(shop.job(["env"], environment: environment))
        #expect(outcome.ending == .succeeded)
        #expect(outcome.reason == "exit code 0")
        #expect(
            Set(shop.log().split(separator: "\n").map(String.init))
                == ["PATH=/usr/bin:/bin", "GREETING=guten Tag", "EMPTY="])
    }

    @Test func runsInItsFolderWithoutOurFilesOrInput() async throws {
        let outcome = await shop.runner.run(shop.script("pwd; cat; ls /proc/self/fd | wc -l; echo done >&2"))
        #expect(outcome.ending == .succeeded)
        let lines = shop.log().split(separator: "\n").map(String.init)
        #expect(
            lines.first.map { URL(fileURLWithPath: $0).resolvingSymlinksInPath().path }
                == URL(fileURLWithPath: shop.folder + "/work").resolvingSymlinksInPath().path)
        #expect(lines.dropFirst() == ["4", "done"])  // 0, 1, 2 and the folder that ls reads
    }

    @Test func tellsExitCodeAndLastLine() async throws {
        let outcome = await shop.runner.run(
            shop.script("echo fine; echo 'ValueError: \u{1B}no such column'; echo; echo '  '; exit 3"))
        #expect(outcome.ending == .failed)
        #expect(outcome.code == 3)
        #expect(outcome.reason == "exit code 3; last line: ValueError: no such column")
    }

    @Test func endsWhatRunsForeverEvenIfItDoesNotListen() async throws {
        let began = ContinuousClock.now
        let outcome = await shop.runner.run(
            shop.script("trap '' TERM; echo $$ > pid; echo started; while :; do sleep 0.1; done", timeout: .seconds(1)))
        #expect(outcome.ending == .timedOut)
        #expect(outcome.reason == "ended after its time limit of 1s; last line: started")
        #expect(outcome.code == SIGKILL)
        #expect(began.duration(to: .now) < .seconds(60))
        #expect(try await shop.isGone(shop.number(in: "pid")))
    }

    @Test func keepsTheBeginningOfAFloodAndCountsTheRest() async throws {
        let outcome = await shop.runner.run(
            shop.script("head -c 200000000 /dev/zero | tr '\\0' 'x'; echo; echo the end; exit 1", output: 10_000))
        #expect(outcome.ending == .failed)
        #expect(shop.log().utf8.count == 10_000)
        #expect(outcome.droppedOutputByteCount == 200_000_000 + 9 - 10_000)
        #expect(outcome.reason == "exit code 1; last line: the end")
    }

    @Test func aFullDiskStopsTheLogAndNotTheJob() async throws {
        let job = JobSpecification(
            id: "full", command: ["/bin/sh", "-c", "echo lost; head -c 1000000 /dev/zero; echo; echo seen; exit 2"],
            environment: ["PATH": "/usr/bin:/bin"], workingDirectory: shop.folder, logPath: "/dev/full",
            timeout: .seconds(30))
        let outcome = await shop.runner.run(job)
        #expect(outcome.ending == .failed)
        #expect(outcome.droppedOutputByteCount == 1_000_011)
        #expect(
            outcome.reason
                == "exit code 2; last line: seen; its log could not be written: No space left on device")
    }

    @Test func tellsOfADeathFromOutside() async throws {
        let outcome = await shop.runner.run(shop.script("echo working; kill -9 $$"))
        #expect(outcome.ending == .killed)
        #expect(outcome.code == 9)
        #expect(outcome.reason.hasPrefix("killed by signal 9 (Killed) from outside"))
        #expect(outcome.reason.hasSuffix("last line: working"))
    }

    @Test func tellsWhatCannotBeStarted() async throws {
        let missing = await shop.runner.run(shop.job(["no-such-program"]))
        #expect(missing.ending == .notStarted)
        #expect(missing.reason.contains("'no-such-program' is not found") && missing.reason.contains("/usr/bin:/bin"))
        #expect(await shop.runner.run(shop.job(["/etc/passwd"])).ending == .notStarted)
        #expect(await shop.runner.run(shop.job(["/tmp"])).ending == .notStarted)
        #expect(await shop.runner.run(shop.job([])).ending == .notStarted)
        #expect(await shop.runner.run(shop.job(["env"], id: "../escape")).ending == .notStarted)
        #expect(await shop.runner.run(shop.job(["env", "a\0b"])).ending == .notStarted)
    }

    @Test func takesGrandchildrenWithIt() async throws {
        let outcome = await shop.runner.run(
            shop.script(
                "sleep 300 & echo $! > grandchild; setsid sleep 3 & sleep 0.2; echo left", timeout: .seconds(30)))
        #expect(outcome.ending == .succeeded)
        #expect(try await shop.isGone(shop.number(in: "grandchild")))
        #expect(outcome.duration < .seconds(20))
    }

    @Test func endsASessionThatAGrandchildMadeWhenTimeRunsOut() async throws {
        let outcome = await shop.runner.run(
            shop.script("setsid sh -c 'echo $$ > far; exec sleep 300' & wait", timeout: .seconds(1)))
        #expect(outcome.ending == .timedOut)
        #expect(try await shop.isGone(shop.number(in: "far")))
    }

    @Test func cancellingEndsEverything() async throws {
        let shop = shop
        let task = Task { await shop.runner.run(shop.script("sleep 300 & echo $! > grandchild; echo $$ > pid; wait")) }
        let pids = [try await shop.number(in: "pid"), try await shop.number(in: "grandchild")]
        task.cancel()
        let outcome = await task.value
        #expect(outcome.ending == .cancelled)
        for pid in pids { #expect(try await shop.isGone(pid)) }
    }

    @Test func limitsMemory() async throws {
        let hungry = ["/usr/bin/perl", "-e", "my $n = $ARGV[0] << 20; my $x = 'x' x $n; print length($x)", "400"]
        let without = await shop.runner.run(shop.job(hungry))
        #expect(without.ending == .succeeded)
        #expect(without.memoryByteCountPeak > 300 << 20)
        let limited = await shop.runner.run(shop.job(hungry, memory: 200 << 20))
        #expect(limited.ending == .failed)
        #expect(limited.reason.lowercased().contains("out of memory"))
    }

    @Test func manyRunAtOnce() async throws {
        let shop = shop
        let outcomes = await withTaskGroup(of: JobOutcome.self) { group in
            for index in 0..<8 {
                group.addTask { await shop.runner.run(shop.script("echo \(index)", id: "job-\(index)")) }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(outcomes.allSatisfy { $0.ending == .succeeded })
        #expect((0..<8).map { shop.log("job-\($0)") } == (0..<8).map { "\($0)\n" })
    }
}
