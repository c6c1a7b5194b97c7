import Foundation
import PlatformCore
import RuntimePorts
import StoragePorts
import Testing
import TrainingJobs

@Suite struct TrainingJobServiceTests {
    @Test func givesTheScriptEverythingItNeeds() async throws {
        let fixture = try await TrainingFixture()
        let request = try fixture.request("env; pwd; cat \"$BOTTEGA_DATASET_MANIFEST\"", parameters: ["rate": "0.3"])
        let job = try await fixture.serving { service in
            let started = try await service.start(request)
            #expect(started.state == .queued)
            return try await service.wait(for: started.id)
        }
        #expect(job.state == .succeeded)
        #expect(job.outcome?.ending == .succeeded)
        let log = String(decoding: try #require(FileManager.default.contents(atPath: job.logPath)), as: UTF8.self)
        let lines = Set(log.split(separator: "\n").map(String.init))
        for line in [
            "BOTTEGA_SEED=11", "PYTHONHASHSEED=11", "BOTTEGA_PARAM_DEPTH=6", "BOTTEGA_PARAM_RATE=0.3",
            "OMP_NUM_THREADS=3",
            "MLFLOW_TRACKING_URI=http://127.0.0.1:8000", "MLFLOW_EXPERIMENT_NAME=flight_delay",
            "MLFLOW_RUN_ID=run-flight_delay-1", "HOME=\(job.folder)", "BOTTEGA_TRAIN=\(fixture.folder)/train.parquet",
            "PATH=/usr/local/bin:/usr/bin:/bin", "  \"rows\": 4",
        ] { #expect(lines.contains(line), "\(line)") }
        #expect(lines.contains { $0.hasSuffix("/code") })
        #expect(!log.contains("USER="))
        #expect(job.parameters == ["depth": "6", "rate": "0.3"])
        #expect(job.runID == "run-flight_delay-1")
        #expect(fixture.runTags.first?["bottega.job"] == job.id)
        #expect(fixture.finished == [job])
        #expect(try await fixture.service.progress(job.id, lineCountMax: 1) == ["}"])
    }

    @Test func recordsCodeEnvironmentAndMachine() async throws {
        let fixture = try await TrainingFixture()
        let git =
            "cd '\(fixture.folder)/code' && export GIT_CONFIG_GLOBAL=/dev/null && git init -q -b trunk . && echo 1 > a"
            + " && git add a && git -c user.name=a -c user.email=a@b commit -qm one && echo 2 > a"
        let setUp = try Process.run(URL(fileURLWithPath: "/bin/sh"), arguments: ["-c", git])
        setUp.waitUntilExit()
        try #require(setUp.terminationStatus == 0)
        let job = try await fixture.serving { try await $0.wait(for: $0.start(fixture.request("true")).id) }
        let facts = try #require(job.facts)
        #expect(facts.code.commit.count == 40 && facts.code.branch == "trunk" && facts.code.isDirty)
        #expect(facts.interpreterVersion.hasPrefix("3."))
        let record = try JSONValue.parse(try await fixture.content.get(try #require(facts.environment)))
        #expect(record["packages"]?.arrayValue != nil)
        #expect(record["python"]?.stringValue == facts.interpreterVersion)
        #expect(facts.hardware.processorCount > 0 && facts.hardware.memoryByteCount > 1 << 20)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: job.folder).sorted() == ["manifest.json", "output.log"])
    }

    @Test func noRepositoryAndNoInterpreterStopNothing() async throws {
        let fixture = try await TrainingFixture(interpreter: "no-such-python")
        let job = try await fixture.serving { try await $0.wait(for: $0.start(fixture.request("true")).id) }
        #expect(job.state == .succeeded)
        #expect(job.facts?.code.commit == "" && job.facts?.environment == nil && job.facts?.interpreterVersion == "")
    }

    @Test func tellsHowAJobFailed() async throws {
        let fixture = try await TrainingFixture()
        let jobs = try await fixture.serving { service in
            let failing = try await service.start(fixture.request("echo 'KeyError: carrier' >&2; exit 1"))
            let slow = try await service.start(fixture.request("sleep 60", timeout: .seconds(1)))
            return [try await service.wait(for: failing.id), try await service.wait(for: slow.id)]
        }
        #expect(jobs.map(\.state) == [.failed, .failed])
        #expect(jobs[0].outcome?.reason == "exit code 1; last line: KeyError: carrier")
        #expect(jobs[1].outcome?.ending == .timedOut)
    }

    @Test func aSlotRunsOneJobAfterTheOtherAndTheQueueHasAnEnd() async throws {
        let fixture = try await TrainingFixture(slots: 1, queued: 2)
        let alone = "mkdir lock || exit 7; sleep 0.3; rmdir lock"
        let first = try await fixture.service.start(fixture.request(alone))
        let second = try await fixture.service.start(fixture.request(alone))
        do {
            _ = try await fixture.service.start(fixture.request(alone))
            Issue.record("a third job was taken")
        } catch let error as PlatformError { #expect(error.code == .overloaded) }
        let states = try await fixture.serving { service in
            [try await service.wait(for: first.id).state, try await service.wait(for: second.id).state]
        }
        #expect(states == [.succeeded, .succeeded])
        #expect(try await fixture.service.jobs().map(\.id) == [second.id, first.id])
    }

    @Test func slotsRunSideBySide() async throws {
        let fixture = try await TrainingFixture(slots: 2)
        let states = try await fixture.serving { service in
            let left = try await service.start(fixture.request("touch left; until [ -e right ]; do sleep 0.05; done"))
            let right = try await service.start(fixture.request("touch right; until [ -e left ]; do sleep 0.05; done"))
            return [try await service.wait(for: left.id).state, try await service.wait(for: right.id).state]
        }
        #expect(states == [.succeeded, .succeeded])
    }

    @Test func cancelsARunningAndAWaitingJob() async throws {
        let fixture = try await TrainingFixture()
        let jobs = try await fixture.serving { service in
            let running = try await service.start(fixture.request("touch up; sleep 60"))
            let waiting = try await service.start(fixture.request("true"))
            try await fixture.waitFor("up")
            try await service.cancel(waiting.id)
            try await service.cancel(running.id)
            let after = try await service.start(fixture.request("true"))
            return [
                try await service.wait(for: running.id), try await service.wait(for: waiting.id),
                try await service.wait(for: after.id),
            ]
        }
        #expect(jobs.map(\.state) == [.cancelled, .cancelled, .succeeded])
        #expect(jobs[0].outcome?.ending == .cancelled)
        try await fixture.service.cancel(jobs[0].id)
        await #expect(throws: PlatformError.self) { try await fixture.service.cancel("unknown") }
    }

    @Test func stoppingTheServiceEndsItsJobAndWritesThat() async throws {
        let fixture = try await TrainingFixture()
        let id = try await fixture.serving { service in
            let job = try await service.start(fixture.request("touch up; sleep 60"))
            try await fixture.waitFor("up")
            return job.id
        }
        #expect(try await fixture.service.job(id).state == .cancelled)
        #expect(fixture.finished.map(\.id) == [id])
    }

    @Test func theNextStartReportsUnfinishedJobsAsLost() async throws {
        let first = try await TrainingFixture()
        let job = try await first.service.start(first.request("true"))  // never run: the platform stopped before
        let second = try await TrainingFixture(after: first)
        let lost = try await second.serving { service in
            let next = try await service.start(second.request("true"))
            #expect(try await service.wait(for: next.id).state == .succeeded)
            return try await service.job(job.id)
        }
        #expect(lost.state == .lost && lost.outcome == nil)
        #expect(second.finished.first?.id == job.id)
        #expect(first.finished.isEmpty)
    }

    @Test func refusesWhatNoEnvironmentCanHold() async throws {
        let fixture = try await TrainingFixture()
        for parameters in [["": "1"], ["a b": "1"], ["a=b": "1"], ["A": "1", "a": "2"], ["x": "a\0b"]] {
            await #expect(throws: PlatformError.self) {
                try await fixture.service.start(fixture.request("true", parameters: parameters))
            }
        }
        var request = try fixture.request("true")
        request = TrainingRequest(
            model: request.model,
            input: TrainingInput(dataset: request.input.dataset, manifest: nil, paths: ["train": "/no/file"]),
            actor: "ada")
        await #expect(throws: PlatformError.self) { try await fixture.service.start(request) }
        #expect(try await fixture.service.jobs().isEmpty)
        #expect(fixture.runTags.isEmpty)
    }
}
