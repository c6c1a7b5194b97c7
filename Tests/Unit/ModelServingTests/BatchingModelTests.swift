import Definitions
import Foundation
import ModelServing
import PlatformCore
import RuntimePorts
import Synchronization
import Testing

/// A model that answers later with each row's first value, and remembers how it was asked.
private final class EchoModel: DeferredModel {
    let description = LinearModel(weights: [1, 1, 1, 1, 1]).description
    let parallelism: Int
    let calls = Mutex<[[Float]]>([])
    /// How many callers of 1,000 rows the model was asked for.
    var callerCount: Int { calls.withLock { $0.reduce(0) { $0 + $1.count } } / 1000 }
    private let gate: Gate?

    init(parallelism: Int = 1, gate: Gate? = nil) {
        self.parallelism = parallelism
        self.gate = gate
    }

    func predictLater(_ rows: [Float], rowCount: Int, deadline: ContinuousClock.Instant?) async throws(ModelError)
        -> [Float]
    {
        let firsts = (0..<rowCount).map { rows[$0 * 5] }
        calls.withLock { $0.append(firsts) }
        if let gate { await gate.pass() }
        if firsts.contains(13) { throw ModelError(.shapeMismatch, "thirteen is refused") }
        if firsts.contains(99) { throw ModelError(.unavailable, "gone") }
        return firsts
    }
}

/// Holds callers until it is opened.
private final class Gate: Sendable {
    private let state = Mutex<(isOpen: Bool, waiters: [CheckedContinuation<Void, Never>])>((false, []))
    func pass() async {
        await withCheckedContinuation { waiter in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiters.append(waiter) }
                return state.isOpen
            }
            if isOpen { waiter.resume() }
        }
    }
    func open() {
        let waiters = state.withLock { state in
            state.isOpen = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }
}

private func until(_ condition: () -> Bool) async throws {
    let end = ContinuousClock.now + .seconds(120)
    while !condition(), ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(1)) }
    #expect(condition())
}

private final class Refusals: Sendable { let count = Atomic(0) }

struct BatchingModelTests {
    private static func row(_ value: Float) -> [Float] { [value, 0, 0, 0, 0] }
    private static func limits(_ rows: Int, wait: Int64 = 0) -> BatchingDefinition {
        BatchingDefinition(rowCountMax: rows, waitMax: TimeSpan(milliseconds: wait))
    }

    @Test func requestsThatComeWhileTheModelIsBusyGoOutTogetherAndInOrder() async throws {
        let gate = Gate()
        let echo = EchoModel(gate: gate)
        let model = BatchingModel(echo, Self.limits(4))
        try await withThrowingTaskGroup(of: (Float, [Float]).self) { group in
            for index in 0..<10 {
                group.addTask {
                    (Float(index), try await model.predictLater(Self.row(Float(index)), rowCount: 1, deadline: nil))
                }
                // The next one comes when this one is in the queue: one after the other.
                let expected = index + 1
                try await until { model.waitingOrCalled(echo) >= expected }
            }
            gate.open()
            for try await (index, answer) in group { #expect(answer == [index]) }
        }
        #expect(echo.calls.withLock { $0 } == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]])
    }

    @Test func aRequestThatIsRefusedDoesNotFailTheOthersOfItsCall() async throws {
        let gate = Gate()
        let echo = EchoModel(gate: gate)
        let model = BatchingModel(echo, Self.limits(8))
        let outcomes = await withTaskGroup(of: (Float, Bool).self) { group in
            for value in [Float(1), 2, 13, 3] {
                group.addTask {
                    let answer = try? await model.predictLater(Self.row(value), rowCount: 1, deadline: nil)
                    return (value, answer == [value])
                }
            }
            try? await until { model.waitingOrCalled(echo) == 4 }
            gate.open()
            return await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
        #expect(outcomes == [1: true, 2: true, 3: true, 13: false])
    }

    @Test func aDeadlineAnswersWhileTheModelHangs() async throws {
        let gate = Gate()
        let model = BatchingModel(EchoModel(gate: gate), Self.limits(8))
        for _ in 0..<3 {  // the first is in the model's hands, the others in the queue
            do throws(ModelError) {
                _ = try await model.predictLater(Self.row(1), rowCount: 1, deadline: .now + .milliseconds(20))
                Issue.record("there was an answer")
            } catch { #expect(error.code == .deadlineExceeded) }
        }
        gate.open()
        let answer = try await model.predictLater(Self.row(5), rowCount: 1, deadline: nil)
        #expect(answer == [5])
    }

    @Test func aFullQueueRefuses() async throws {
        let gate = Gate()
        let echo = EchoModel(gate: gate)
        let model = BatchingModel(echo, Self.limits(2000))
        let refusals = Refusals()
        await withTaskGroup(of: Bool.self) { group in
            let rows = [Float](repeating: 7, count: 5 * 1000)
            for _ in 0..<140 {
                group.addTask {
                    do throws(ModelError) {
                        _ = try await model.predictLater(rows, rowCount: 1000, deadline: nil)
                        return true
                    } catch {
                        if error.code == .unavailable { refusals.count.add(1, ordering: .relaxed) }
                        return error.code != .unavailable
                    }
                }
            }
            // All have been there before the model goes on; it has one of them, or two that came at once.
            try? await until {
                model.waitingRowCount == 128_000
                    && refusals.count.load(ordering: .relaxed) == 140 - 128 - echo.callerCount
            }
            let held = echo.callerCount
            gate.open()
            var refused = 0
            for await isAnswered in group where !isAnswered { refused += 1 }
            #expect(1...2 ~= held && refused == 140 - 128 - held)
        }
    }

    @Test func manyCallersAtOnceGetTheirOwnAnswers() async throws {
        let echo = EchoModel(parallelism: 3)
        let model = BatchingModel(echo, Self.limits(16, wait: 1))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for caller in 0..<32 {
                group.addTask {
                    for index in 0..<50 {
                        let values = (0..<(1 + index % 3)).map { Float(caller * 1000 + index * 4 + $0 + 1000) }
                        let rows = values.flatMap(Self.row)
                        let answer = try await model.predictLater(rows, rowCount: values.count, deadline: nil)
                        #expect(answer == values)
                    }
                }
            }
            try await group.waitForAll()
        }
        let calls = echo.calls.withLock { $0 }
        #expect(calls.allSatisfy { $0.count <= 16 })
        let (computed, asked) = (calls.map(\.count).reduce(0, +), 32 * (17 + 34 + 48))
        #expect(computed == asked)
    }

    @Test func aModelThatAnswersAtOnceIsGatheredToo() async throws {
        let model = BatchingModel(LinearModel(weights: [1, 2, 4, 8, 16]), Self.limits(8))
        let answer = try await model.prediction(of: [1, 1, 1, 1, 1], rowCount: 1)
        #expect(answer == [31])
        #expect(throws: ModelError.self) { try model.predict([1, 1, 1, 1, 1], rowCount: 1) }
    }
}

extension BatchingModel {
    fileprivate func waitingOrCalled(_ echo: EchoModel) -> Int {
        waitingRowCount + echo.calls.withLock { $0.reduce(0) { $0 + $1.count } }
    }
}
