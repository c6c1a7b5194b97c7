import Foundation
import RuntimePorts
import Testing

@testable import ProcessAdapter

/// A worker in twenty lines that misbehaves when a row's first value tells it to; it needs no packages.
private let oddWorker = """
    import json, os, socket, struct, sys, time
    options = json.loads(sys.argv[1])
    mood = open(options["folder"] + "/mood").read()
    channel = socket.socket(fileno=os.dup(0))
    def take(count):
        data = b""
        while len(data) < count:
            part = channel.recv(count - len(data))
            if not part: os._exit(0)
            data += part
        return data
    def give(kind, call, payload):
        channel.sendall(struct.pack("<4sBxxxII", b"BTW1", kind, call, len(payload)) + payload)
    if mood == "stillborn": sys.exit("no such model")
    if mood == "struck" and not os.path.exists(options["folder"] + "/struck"):
        open(options["folder"] + "/struck", "w").close(); os.kill(os.getpid(), 9)
    if mood == "refusing": give(16, 0, b'{"error": "ImportError: torch"}'); sys.exit()
    if mood == "babbling": channel.sendall(b"HTTP/1.1 200 OK" * 10); time.sleep(60)
    give(16, 0, json.dumps({"features": [], "feature_count": 1, "texts": [], "outputs": 1, "objective": "regression"}).encode())
    while True:
        magic, kind, call, length = struct.unpack("<4sBxxxII", take(16))
        payload = take(length)
        if kind == 3: give(19, call, struct.pack("<Q", 12345)); continue
        if kind != 2: continue
        rows, width = struct.unpack_from("<II", payload)
        values = struct.unpack_from("<%df" % rows, payload, 8)
        print("predicting", values, flush=True)
        if values[0] == 1: os.kill(os.getpid(), 9)
        if values[0] == 2: channel.sendall(b"x" * 64)
        if values[0] == 3: time.sleep(60)
        if values[0] == 9: channel.sendall(b"x" * 16); os._exit(3)
        if values[0] == 4: give(18, call, bytes([1]) + b"ValueError: four")
        elif values[0] == 5: give(17, call, struct.pack("<II", 7, 7))
        elif values[0] == 6 and not os.path.exists(options["folder"] + "/died"):
            open(options["folder"] + "/died", "w").close(); os._exit(3)
        elif values[0] == 7: print("x" * 1000000, flush=True); give(17, call, struct.pack("<IIf", 1, 1, 7))
        elif values[0] == 8: time.sleep(0.2); give(17, call, struct.pack("<IIf", 1, 1, os.getpid()))
        else: give(17, call, struct.pack("<II%df" % rows, rows, 1, *values))
    """

struct WorkerPoolTests {
    private static func pool(
        _ mood: String = "", workers: ClosedRange<Int> = 1...1, timeout: Duration = .seconds(20)
    ) throws -> (WorkerPoolHandle, WorkerLedger) {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("workers-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try Data(oddWorker.utf8).write(to: URL(fileURLWithPath: "\(folder)/worker.py"))
        try Data(mood.utf8).write(to: URL(fileURLWithPath: "\(folder)/mood"))
        let ledger = WorkerLedger()
        let configuration = WorkerConfiguration(
            model: "odd", interpreter: "/usr/bin/python3", program: "\(folder)/worker.py", modelFolder: folder,
            workingFolder: folder, workerCount: workers, memoryByteCountMax: 0, timeout: timeout,
            startTime: .seconds(60))
        return (WorkerPoolHandle(WorkerPool(configuration, ledger: ledger)), ledger)
    }

    private static func ask(_ handle: WorkerPoolHandle, _ value: Float, within time: Duration = .seconds(60))
        async throws(ModelError) -> Float
    {
        let job = WorkerJob(.rows([value], count: 1), layout: nil, deadline: .now + time)
        guard case .outputs(let outputs) = try await handle.pool.run(job) else { return .nan }
        return outputs[0]
    }

    /// Asks for something that fails, and says how.
    private static func fault(_ handle: WorkerPoolHandle, _ value: Float, within time: Duration = .seconds(60)) async
        -> ModelError.Code?
    {
        do throws(ModelError) {
            _ = try await ask(handle, value, within: time)
            return nil
        } catch { return error.code }
    }

    @Test func whateverAWorkerDoesTheNextCallIsAnswered() async throws {
        let (handle, ledger) = try Self.pool(timeout: .seconds(5))
        #expect(try await Self.ask(handle, 100) == 100)
        #expect(await Self.fault(handle, 4) == .shapeMismatch)  // refused rows
        #expect(await Self.fault(handle, 5) == .unavailable)  // an answer of another shape, twice
        #expect(try await Self.ask(handle, 101) == 101)
        #expect(await Self.fault(handle, 2) == .unavailable)  // no frame, twice
        #expect(try await Self.ask(handle, 102) == 102)
        #expect(try await Self.ask(handle, 7) == 7)  // a megabyte of print
        let outcomes = ledger.outcomes
        #expect(outcomes["refused"] == 1)
        #expect(outcomes["garbage"] == 4)
        #expect(outcomes["answered"] == 4)
        let end = ContinuousClock.now + .seconds(30)  // what was printed is read between calls
        while ledger.outputByteCount < 1_000_000, ContinuousClock.now < end {
            try await Task.sleep(for: .milliseconds(20))
        }
        #expect(ledger.outputByteCount > 1_000_000)
    }

    @Test func aCallWhoseWorkerDiesIsAnsweredByTheNext() async throws {
        let (handle, ledger) = try Self.pool()
        #expect(try await Self.ask(handle, 6) == 6)
        #expect(ledger.outcomes["died"] == 1)
        #expect(ledger.outcomes["started"] == 2)
        #expect(await Self.fault(handle, 1) == .unavailable)  // ends each worker that gets it: two are enough
        #expect(ledger.outcomes["died"] == 3)
    }

    @Test func aHangEndsAtTheLimitAndAtTheCallersDeadline() async throws {
        let (handle, ledger) = try Self.pool(timeout: .seconds(2))
        #expect(try await Self.ask(handle, 100) == 100)
        #expect(await Self.fault(handle, 3) == .deadlineExceeded)
        #expect(ledger.outcomes["hung"] == 1)
        #expect(await Self.fault(handle, 3, within: .milliseconds(50)) == .deadlineExceeded)
        #expect(ledger.outcomes["hung"] == 1, "the caller went before the limit")
        #expect(try await Self.ask(handle, 101) == 101)
    }

    @Test func aWorkerThatEndsIsSaidToHaveEndedWhateverItSentLast() async throws {
        let (handle, _) = try Self.pool()
        do throws(ModelError) {
            _ = try await Self.ask(handle, 9)
            Issue.record("it answered")
        } catch {
            #expect(error.message == "its worker failed: it ended with exit code 3; last line: predicting (9.0,)")
        }
    }

    @Test func aModelThatDoesNotLoadIsSaidWhyAndIsNotTriedForEver() async throws {
        let (handle, ledger) = try Self.pool("stillborn")
        handle.pool.keep()
        do throws(ModelError) {
            _ = try await handle.pool.greeting()
            Issue.record("it was greeted")
        } catch {
            #expect(error.message.contains("no such model"), "\(error.message)")
            #expect(error.message.contains("exit code 1"), "\(error.message)")
        }
        let (refusing, _) = try Self.pool("refusing")
        do throws(ModelError) {
            _ = try await refusing.pool.greeting()
            Issue.record("it was greeted")
        } catch { #expect(error.message.contains("ImportError: torch"), "\(error.message)") }
        let (babbling, _) = try Self.pool("babbling")
        do throws(ModelError) {
            _ = try await babbling.pool.greeting()
            Issue.record("it was greeted")
        } catch { #expect(error.message.contains("no frame"), "\(error.message)") }
        // The breaker opens after some starts; a call is then refused at once.
        #expect(await Self.fault(handle, 100) == .unavailable)
        #expect(handle.pool.status.breakerIsOpen)
        #expect(await Self.fault(handle, 100) == .breakerOpen)
        #expect((ledger.outcomes["started"] ?? 0) < 12)
    }

    @Test func aWorkerThatSomebodyEndsWhileItStartsIsStartedAgain() async throws {
        let (handle, ledger) = try Self.pool("struck")
        #expect(try await handle.pool.greeting().outputCount == 1)
        #expect(ledger.outcomes["started"] == 2)
        #expect(ledger.outcomes["start_failed"] == 1)
    }

    /// A worker that answers is no reason to wait, however often its kind is ended.
    @Test func workersThatAnswerAreReplacedWithoutAGrowingPause() async throws {
        let (handle, ledger) = try Self.pool()
        for round in 0..<12 {
            #expect(try await Self.ask(handle, 100) == 100)
            #expect(await Self.fault(handle, 1) == .unavailable, "round \(round)")  // ends two of them
        }
        #expect(ledger.outcomes["died"] == 24)
        #expect(ledger.outcomes["breaker"] == nil)
    }

    @Test func keptWorkersAreThereBeforeAnybodyAsks() async throws {
        let (handle, ledger) = try Self.pool(workers: 2...3)
        handle.pool.keep()
        handle.pool.keep()
        handle.pool.letGo()
        let end = ContinuousClock.now + .seconds(60)
        while handle.pool.status.idle < 2, ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(20)) }
        #expect(handle.pool.status.idle == 2)
        #expect(ledger.outcomes["started"] == 2)
    }

    @Test func waitingCallsStartMoreWorkersUpToTheMost() async throws {
        let (handle, ledger) = try Self.pool(workers: 1...3)
        var processes: Set<Float> = []
        for _ in 0..<20 where processes.count < 3 {
            await withTaskGroup(of: Float?.self) { group in
                for _ in 0..<12 { group.addTask { try? await Self.ask(handle, 8) } }
                for await process in group { if let process { processes.insert(process) } }
            }
        }
        #expect(processes.count == 3)
        #expect(ledger.outcomes["started"] == 3)
        #expect(handle.pool.parallelism == 3)
    }

    @Test func aStoppedPoolAnswersAndItsWorkersEnd() async throws {
        let (handle, _) = try Self.pool(workers: 2...2)
        let process = try await Self.ask(handle, 8)
        handle.pool.stop()
        #expect(await Self.fault(handle, 100) == .unavailable)
        let end = ContinuousClock.now + .seconds(30)
        while kill(pid_t(process), 0) == 0, ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(20)) }
        #expect(kill(pid_t(process), 0) != 0)
    }

    @Test func aWorkerSaysWhatItHolds() async throws {
        let (handle, _) = try Self.pool()
        let job = WorkerJob(.memory, layout: nil, deadline: .now + .seconds(60))
        guard case .byteCount(let count) = try await handle.pool.run(job) else {
            Issue.record("no number of bytes")
            return
        }
        #expect(count == 12345)
    }
}
