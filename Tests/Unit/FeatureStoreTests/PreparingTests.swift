import Datasets
import Definitions
import Dispatch
import PlatformCore
import StoragePorts
import Synchronization
import Testing

@testable import FeatureStore

/// What takes long, and who waits for it.
struct PreparingTests {
    private static let view = Name(static: "delays")
    private static let rowCount = 17_000

    private final class Flag: Sendable {
        private let flag = Mutex(false)
        var isSet: Bool { flag.withLock { $0 } }
        func set() { flag.withLock { $0 = true } }
    }

    /// Something that stands still until it is opened, for callers that block.
    private final class Barrier: Sendable {
        private let opened = DispatchSemaphore(value: 0)
        private let isHeld = Mutex(false)

        func hold() {
            isHeld.withLock { $0 = true }
            opened.wait()
            opened.signal()
        }
        func open() { opened.signal() }
        /// Until somebody stands here.
        func reached() async throws {
            while !isHeld.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(2)) }
        }
    }

    private func distinct(_ engine: StreamEngine, _ tail: String, second: Int) throws -> CellValue {
        let question = OnlineRequest(
            entities: [["tail": tail]], time: EventTime(milliseconds: Int64(second) * 1000))
        let answer = try engine.online(Self.view, question)
        let place = try #require(answer.names.firstIndex(of: "d_1d"))
        return answer.entities[0].values[place]
    }

    /// The first distinct count of a long series after a start holds up neither rows nor reads of other entities.
    @Test(.timeLimit(.minutes(2))) func aLongSeriesIsPreparedWhileOthersGoOn() async throws {
        let fixture = EngineFixture()
        let definitions = try EngineFixture.definitions(windows: ["1d"], countsValues: true)
        let before = fixture.engine()
        try await before.update(definitions: definitions)
        let others = (0..<100).map { "N\($0)" }
        var rows = (0..<Self.rowCount).map { ("K", $0, Double($0 % 9_000)) }
        rows += others.map { ($0, Self.rowCount, 1) }
        for start in stride(from: 0, to: rows.count, by: 1_000) {
            try await fixture.send(Array(rows[start..<min(rows.count, start + 1_000)]), to: before, definitions)
        }
        try await before.checkpoint()

        let engine = fixture.engine()
        try await engine.update(definitions: definitions)
        let question = OnlineRequest(entities: [["tail": "K"], ["tail": "N1"]])
        #expect(!engine.isReady(Self.view, question))
        #expect(engine.isReady(Self.view, OnlineRequest(entities: [["tail": "N1"], ["tail": "nobody"]])))
        let barrier = Barrier()
        // Pages of events are read by the hundred.
        fixture.online.willRead.withLock { $0 = { if $0 > 20 { barrier.hold() } } }
        async let prepared: Void = engine.prepare(Self.view, question)
        try await barrier.reached()
        #expect(!engine.isReady(Self.view, question))

        // Meanwhile every entity takes rows and answers; a late row and a checkpoint change pages that are being read.
        let late = (0..<50).map { ("K", Self.rowCount + $0, Double(20_000 + $0)) } + [("K", 3, 30_000)]
        try await fixture.send(late + others.map { ($0, Self.rowCount + 1, 2) }, to: engine, definitions)
        for tail in others { #expect(try distinct(engine, tail, second: Self.rowCount + 9) == .integer(2)) }
        try await engine.checkpoint()
        barrier.open()
        await prepared

        fixture.online.willRead.withLock { $0 = { _ in } }
        #expect(engine.isReady(Self.view, question))
        #expect(engine.failure == nil)
        let end = Self.rowCount + 50
        #expect(try distinct(engine, "K", second: end) == .integer(9_000 + 51))
        // Rows of the question's moment and after it are not seen, and the values that only they have do not count.
        #expect(try distinct(engine, "K", second: end - 10) == .integer(9_000 + 41))
        try await fixture.send([("K", end, 5), ("K", end, 40_000)], to: engine, definitions)
        #expect(try distinct(engine, "K", second: end) == .integer(9_000 + 51))
        #expect(try distinct(engine, "K", second: end + 1) == .integer(9_000 + 52))
    }

    /// A read that nobody prepared gives the same, on its own thread.
    @Test func aReadThatIsNotPreparedFor() async throws {
        let fixture = EngineFixture()
        let definitions = try EngineFixture.definitions(windows: ["1d"], countsValues: true)
        var engine = fixture.engine()
        try await engine.update(definitions: definitions)
        let rows = (0..<Self.rowCount).map { ("K", $0, Double($0 % 9_000)) }
        for start in stride(from: 0, to: rows.count, by: 1_000) {
            try await fixture.send(Array(rows[start..<min(rows.count, start + 1_000)]), to: engine, definitions)
        }
        try await engine.checkpoint()
        engine = fixture.engine()
        try await engine.update(definitions: definitions)
        #expect(try distinct(engine, "K", second: Self.rowCount) == .integer(9_000))
        #expect(engine.isReady(Self.view, OnlineRequest(entities: [["tail": "K"]])))
        // A page that is gone is told, by whoever reads.
        let broken = fixture.engine()
        try await broken.update(definitions: definitions)
        fixture.online.state.withLock { state in
            for (view, rows) in state.rows {
                for key in rows.keys where key.joined.hasPrefix("K\u{1F}") && Int.random(in: 0..<3) == 0 {
                    state.rows[view]?[key] = nil
                }
            }
        }
        await broken.prepare(Self.view, OnlineRequest(entities: [["tail": "K"]]))
        let failure = #expect(throws: PlatformError.self) { try distinct(broken, "K", second: Self.rowCount) }
        #expect(failure?.code == .corrupted, "\(String(describing: failure))")
    }

    /// Where entities come in faster than they can be written down, who brings rows waits for a checkpoint; who reads does
    /// not, and memory stays bounded.
    @Test(.timeLimit(.minutes(2))) func whoBringsRowsWaitsForACheckpoint() async throws {
        let fixture = EngineFixture()
        let definitions = try EngineFixture.definitions()
        var configuration = StreamEngineConfiguration()
        configuration.entityCountMax = 1_000
        let engine = fixture.engine(configuration)
        try await engine.update(definitions: definitions)
        let (isWriting, isOpen, isDone) = (Flag(), Flag(), Flag())
        let gate = AsyncStream<Void>.makeStream()
        fixture.online.willWrite.withLock { hook in
            hook = {
                isWriting.set()
                for await _ in gate.stream {}
                #expect(isOpen.isSet)
            }
        }
        // Two thousand new entities, of which a thousand may stay.
        async let sent: Void = {
            try await fixture.send((0..<1_500).map { ("A\($0)", 1, 1) }, to: engine, definitions)
            try await fixture.send((0..<1_500).map { ("B\($0)", 1, 1) }, to: engine, definitions)
            isDone.set()
        }()
        while !isWriting.isSet { try await Task.sleep(for: .milliseconds(2)) }
        #expect(!isDone.isSet, "the batch that went over the limit waits for the disk")
        #expect(try fixture.read(engine, definitions, tail: "A7", second: 3).values[0] == 1, "reads do not")
        #expect(engine.statistics.checkpoints == 0)
        isOpen.set()
        gate.continuation.finish()
        try await sent
        #expect(isDone.isSet && engine.statistics.checkpoints >= 1 && engine.failure == nil)
        try await engine.checkpoint()
        #expect(engine.statistics.entities <= 1_000 + 64, "a shard may hold one more than its part")
        for tail in ["A0", "A1499", "B0", "B1499"] {
            #expect(try fixture.read(engine, definitions, tail: tail, second: 3).values[0] == 1)
        }
    }
}
