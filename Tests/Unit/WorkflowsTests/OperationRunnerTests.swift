import Logging
import PlatformCore
import ServiceLifecycle
import Synchronization
import Testing
import Workflows

/// Long operations run apart, say how far they are, and are remembered with how they ended.
@Suite(.timeLimit(.minutes(5))) struct OperationRunnerTests {
    private let runner = OperationRunner(
        identifiers: IdentifierSource(clock: ManualClock(startingAt: WorkflowFixture.start)))

    /// Runs `body` beside the runner, then ends the runner the way the program does.
    private func whileRunning(_ body: () async throws -> Void) async throws {
        let group = ServiceGroup(
            services: [runner], logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
        async let running: Void = group.run()
        do { try await body() } catch {
            await group.triggerGracefulShutdown()
            throw error
        }
        await group.triggerGracefulShutdown()
        try await running
    }

    private func ended(_ id: String) async throws -> OperationRunner.Status {
        while true {
            let status = try #require(runner.status(id))
            if status.state != .running { return status }
            try await Task.sleep(for: .milliseconds(1))
        }
    }

    @Test func aResultIsRemembered() async throws {
        try await whileRunning {
            let id = try runner.start { progress in
                progress.report("rows", done: 5, total: 10, unit: "rows")
                return ["rows": 10]
            }
            let status = try await ended(id)
            #expect(status.state == .succeeded && status.result == ["rows": 10] && status.error == nil)
            #expect(status.progress == runner.status(id)?.progress)
            #expect(status.progress.done == 5 && status.progress.unit == "rows" && status.progress.message == "rows")
            #expect(runner.runningCount == 0)
        }
    }

    @Test func aFailureIsRememberedAndTheRunnerGoesOn() async throws {
        try await whileRunning {
            let failing = try runner.start { _ in throw PlatformError(.refused, "x", "no") }
            let status = try await ended(failing)
            #expect(status.state == .failed && status.result == nil)
            #expect((status.error as? PlatformError)?.code == .refused)
            let next = try runner.start { _ in 1 }
            #expect(try await ended(next).state == .succeeded)
        }
    }

    @Test func nothingIsKnownOfWhatNeverStarted() {
        #expect(runner.status("nothing") == nil)
    }

    @Test func tooManyAtOnceAreRefused() async throws {
        let gate = Gate()
        try await whileRunning {
            var ids: [String] = []
            for _ in 0..<OperationRunner.runningCountMax {
                ids.append(
                    try runner.start { _ in
                        try await gate.wait()
                        return 1
                    })
            }
            #expect(runner.runningCount == OperationRunner.runningCountMax)
            let refused = #expect(throws: PlatformError.self) { try runner.start { _ in 1 } }
            #expect(refused?.code == .overloaded)
            gate.open()
            for id in ids { #expect(try await ended(id).state == .succeeded) }
            let next = try runner.start { _ in 2 }
            #expect(try await ended(next).result == 2)
        }
    }

    @Test func shutdownCancelsWhatRuns() async throws {
        var id = ""
        try await whileRunning {
            let isStarted = Gate()
            id = try runner.start { _ in
                isStarted.open()
                try await Task.sleep(for: .seconds(3600))
                return 1
            }
            try await isStarted.wait()
            #expect(runner.status(id)?.state == .running)
        }
        let status = try #require(runner.status(id))
        #expect(status.state == .failed && status.error is CancellationError)
        #expect(runner.runningCount == 0)
    }

    @Test func onlyTheNewestThousandAreRemembered() async throws {
        try await whileRunning {
            let first = try runner.start { _ in 1 }
            _ = try await ended(first)
            for _ in 0..<1000 { _ = try await ended(try runner.start { _ in 1 }) }
            #expect(runner.status(first) == nil)
        }
    }
}

/// Opens once.
private final class Gate: Sendable {
    private let isOpen = Mutex(false)
    func open() { isOpen.withLock { $0 = true } }
    func wait() async throws {
        while !isOpen.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(1)) }
    }
}
