import Definitions
import ModelServing
import PlatformCore
import PlatformTesting
import StoragePorts
import Synchronization
import Testing

/// What was answered reaches the log in order, with its shadows, or is refused; it never vanishes.
struct PredictionLogTests {
    private func events() async throws -> InMemoryEventLog {
        let log = InMemoryEventLog()
        try await log.createTopic(PlatformTopic.predictions, partitions: 1)
        return log
    }

    private func stored(_ log: any EventLog) async throws -> [PredictionRecord] {
        try await log.read(PlatformTopic.predictions, from: 0).map { try PredictionRecord(decoding: $0.record.value) }
    }

    @Test(.timeLimit(.minutes(5))) func recordsKeepTheirOrder() async throws {
        let events = try await events()
        let observer = Collector()
        let log = ServingFixture.log(events, observer: observer)
        async let running: Void = log.run()
        for batch in 0..<100 {
            let entries = (0..<7).map { PredictionLogEntry(record: ServingFixture.record(batch * 7 + $0), shadows: []) }
            #expect(log.offer(entries))
            if batch % 10 == 0 { await Task.yield() }
        }
        log.close()
        await running
        let ids = try await stored(events).map(\.id)
        #expect(ids == (0..<700).map { "id-\($0)" })
        #expect(observer.records.map(\.id) == ids)
        #expect(log.written == 700 && log.pending == 0 && log.shed == 0)
        let record = try #require(try await events.read(PlatformTopic.predictions, from: 3).first?.record)
        #expect(record.key == "delay" && record.time == ServingFixture.start)
    }

    @Test(.timeLimit(.minutes(5))) func shadowsFollowTheirPrediction() async throws {
        let events = try await events()
        let observer = Collector()
        let log = ServingFixture.log(events, observer: observer)
        let binding = try ServingFixture.binding()
        let good = try ServingFixture.version(2, LinearModel(weights: [1, 1, 1, 1, 1]), binding: binding)
        let broken = try ServingFixture.version(3, BrokenModel(), binding: binding)
        var first = ServingFixture.record(0)
        var second = ServingFixture.record(1)
        first.serviceVersion = binding.definition.version.hex
        second.serviceVersion = "another service"
        #expect(log.offer([.init(record: first, shadows: [broken, good]), .init(record: second, shadows: [good])]))
        log.close()
        await log.run()
        let records = try await stored(events)
        #expect(records.map(\.id) == ["id-0", "id-0", "id-1"])
        #expect(records.map(\.choice) == [.primary, .shadow, .primary])
        #expect(records[1].version == 2 && records[1].output == [15] && records[1].artifact == good.artifact.hex)
        #expect(records[1].inputs == first.inputs && records[1].entities == first.entities)
        #expect(records[1].latency.total == 0)
        // One shadow threw; another was asked for inputs that are not its own.
        #expect(log.shadowFailures == 2)
        #expect(observer.records == records)
        #expect(log.written == 3)
    }

    @Test func aFullQueueRefuses() async throws {
        let log = ServingFixture.log(capacity: 3)
        func entries(_ count: Int) -> [PredictionLogEntry] {
            (0..<count).map { .init(record: ServingFixture.record($0), shadows: []) }
        }
        #expect(log.offer(entries(2)))
        #expect(!log.offer(entries(2)), "all of them or none")
        #expect(log.offer(entries(1)))
        #expect(!log.offer(entries(1)))
        #expect(log.pending == 3)
        log.countShed(1)
        #expect(log.shed == 1)
        // A batch larger than the queue is not refused for ever: an empty queue takes it.
        #expect(ServingFixture.log(capacity: 3).offer(entries(5)))
    }

    @Test(.timeLimit(.minutes(5))) func closingDrainsAndThenRefuses() async throws {
        let events = try await events()
        let log = ServingFixture.log(events)
        #expect(log.offer((0..<10_000).map { .init(record: ServingFixture.record($0), shadows: []) }))
        log.close()
        #expect(!log.offer([.init(record: ServingFixture.record(1), shadows: [])]))
        await log.run()
        #expect(try await events.endOffset(PlatformTopic.predictions, partition: 0) == 10_000)
        #expect(log.pending == 0)
    }

    @Test(.timeLimit(.minutes(5))) func theWriterSleepsUntilThereIsWork() async throws {
        let events = try await events()
        let log = ServingFixture.log(events)
        async let running: Void = log.run()
        for index in 0..<5 {
            try await Task.sleep(for: .milliseconds(5))
            #expect(log.offer([.init(record: ServingFixture.record(index), shadows: [])]))
            try await events.waitForRecords(
                PlatformTopic.predictions, partition: 0, past: UInt64(index), timeout: .seconds(20))
            #expect(try await stored(events).last?.id == "id-\(index)")
        }
        log.close()
        await running
    }

    @Test(.timeLimit(.minutes(5))) func aFailingStoreIsTriedAgainAndNothingIsLost() async throws {
        let events = InMemoryEventLog()  // without the topic every append fails
        let log = ServingFixture.log(events)
        #expect(log.offer((0..<3).map { .init(record: ServingFixture.record($0), shadows: []) }))
        async let running: Void = log.run()
        try await Task.sleep(for: .milliseconds(20))
        #expect(log.written == 0 && log.pending == 3)
        try await events.createTopic(PlatformTopic.predictions, partitions: 1)
        log.close()
        await running
        #expect(try await stored(events).map(\.id) == ["id-0", "id-1", "id-2"])
    }
}
