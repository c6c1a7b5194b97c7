import Definitions
import ModelServing
import PlatformCore
import PlatformTesting
import RuntimePorts
import StoragePorts
import Synchronization
import Testing

/// Past predictions are found by their identifier and computed again from what was logged.
struct PredictionArchiveTests {
    private let events = InMemoryEventLog()
    private let content: ContentStore
    private let clock = ManualClock(startingAt: ServingFixture.start)
    private let loads = Loads()

    private final class Loads: Sendable {
        let count = Mutex(0)
    }

    init() throws { content = ContentStore(base: try InMemoryObjectStore()) }

    private var archive: PredictionArchive {
        let loads = loads
        return PredictionArchive(log: events, content: content) { bytes, _ in
            loads.count.withLock { $0 += 1 }
            return try LinearModel(bytes: bytes)
        }
    }

    /// Logs `count` predictions a second apart, each with a shadow, and gives the identifiers.
    private func fill(
        _ count: Int, model: LinearModel = LinearModel(weights: [1, 2, 3, 4, 5]), named name: String = "delay"
    )
        async throws -> [String]
    {
        let artifact = try await content.put(model.bytes)
        let identifiers = IdentifierSource(clock: clock, generator: SplitMix64(seed: 1))
        var records: [PredictionRecord] = []
        var ids: [String] = []
        for index in 0..<count {
            let now = clock.advance(to: clock.now().advanced(by: .seconds(1)))
            var record = ServingFixture.record(index, model: name, at: now)
            record.id = identifiers.next()
            record.artifact = artifact.hex
            record.inputs = [Double(index), 0.1, .nan, -3, 1e10]
            record.output = try model.predict(record.inputs.map(Float.init), rowCount: 1)
            ids.append(record.id)
            records.append(record)
            record.choice = .shadow
            record.version = 2
            records.append(record)
        }
        try await events.createTopic(PlatformTopic.predictions, partitions: 1)
        try await events.createTopic(PlatformTopic.labels, partitions: 1)
        try await events.append(
            records.map { LogRecord(key: $0.model, time: $0.time, value: $0.encoded()) }, to: PlatformTopic.predictions)
        return ids
    }

    @Test func aPredictionIsFoundWithItsShadows() async throws {
        let ids = try await fill(300)
        for index in [0, 1, 150, 298, 299] {
            let found = try await archive.find(ids[index])
            #expect(found.map(\.choice) == [.primary, .shadow])
            #expect(found.map(\.id) == [ids[index], ids[index]])
            #expect(found[0].inputs[0] == Double(index))
        }
    }

    /// Thousands in a millisecond, and written in another order than they were numbered: those that waited stand far behind.
    @Test(arguments: [0, 1, 64]) func aPredictionAmongThousandsIsFoundByReadingFew(perMillisecond: Int) async throws {
        let identifiers = IdentifierSource(clock: clock, generator: SplitMix64(seed: 3))
        var records = (0..<20_000).map { index in
            if perMillisecond > 0, index % perMillisecond == 0 {
                _ = clock.advance(to: clock.now().advanced(by: TimeSpan(milliseconds: 1)))
            }
            var record = ServingFixture.record(index, at: clock.now())
            record.id = identifiers.next()
            return record
        }
        let ids = records.map(\.id)
        var random = SplitMix64(seed: 4)
        for start in stride(from: 0, to: records.count, by: 50) {
            records[start..<(start + 50)].shuffle(using: &random)
        }
        let late = records.remove(at: records.firstIndex { $0.id == ids[5000] } ?? 0)
        records.insert(late, at: 17_000)
        var shadow = records[9_000]
        shadow.choice = .shadow
        records.insert(shadow, at: 9_300)  // another thread wrote it
        try await events.createTopic(PlatformTopic.predictions, partitions: 1)
        try await events.append(
            records.map { LogRecord(key: $0.model, time: $0.time, value: $0.encoded()) }, to: PlatformTopic.predictions)

        for place in [0, 1, 49, 777, 10_000, 19_950, 19_999] {
            let before = events.readCount
            let found = try await archive.answer(ids[place])
            #expect(found.id == ids[place] && found.entities[0].value == "N\(place)")
            #expect(events.readCount - before < 1000)
        }
        #expect(try await archive.answer(ids[5000]).entities[0].value == "N5000")
        let pair = try await archive.find(shadow.id)
        #expect(pair.map(\.choice) == [.primary, .shadow] && pair.allSatisfy { $0.id == shadow.id })
    }

    @Test func whatIsNotThereIsNotFound() async throws {
        _ = try await fill(10)
        let other = IdentifierSource(clock: clock).next()
        let missing = await #expect(throws: PlatformError.self) { try await archive.find(other) }
        #expect(missing?.code == .notFound)
        let foreign = await #expect(throws: PlatformError.self) { try await archive.find("not an identifier") }
        #expect(foreign?.code == .invalidInput)
    }

    @Test func replayGivesTheSameBits() async throws {
        let ids = try await fill(50)
        var models: [String: any LoadedModel] = [:]
        for id in ids {
            let record = try await archive.find(id)[0]
            let comparison = try await archive.replay(record, models: &models)
            #expect(comparison.isEqual && comparison.output.map(\.bitPattern) == record.output.map(\.bitPattern))
        }
        #expect(models.count == 1)
        #expect(loads.count.withLock { $0 } == 1, "an artifact is loaded once")
    }

    @Test func replayTellsWhenALoggedAnswerIsNotTheModels() async throws {
        let ids = try await fill(1)
        var record = try await archive.find(ids[0])[0]
        record.output = [record.output[0].nextUp]
        var models: [String: any LoadedModel] = [:]
        #expect(try await archive.replay(record, models: &models).isEqual == false)
        record.output = []
        #expect(try await archive.replay(record, models: &models).isEqual == false)
    }

    @Test func aFallbackCannotBeReplayed() async throws {
        let record = ServingFixture.record(1)
        var models: [String: any LoadedModel] = [:]
        let refused = await #expect(throws: PlatformError.self) { try await archive.replay(record, models: &models) }
        #expect(refused?.code == .refused)
        var lost = record
        lost.artifact = String(repeating: "0", count: 64)
        await #expect(throws: StoreError.self) { try await archive.replay(lost, models: &models) }
    }

    @Test func samplesAreSpreadAndRepeatable() async throws {
        _ = try await fill(500)
        let first = try await archive.sample(model: "delay", count: 50, seed: 7)
        #expect(45...50 ~= first.count)
        #expect(first.allSatisfy { $0.choice == .primary && $0.model == "delay" })
        #expect(Set(first.map(\.id)).count == first.count)
        #expect(first.map(\.time) == first.map(\.time).sorted())
        let halves = first.count { $0.inputs[0] < 250 }
        #expect(20...30 ~= halves)
        #expect(try await archive.sample(model: "delay", count: 50, seed: 7).map(\.id) == first.map(\.id))
        #expect(try await archive.sample(model: "delay", count: 50, seed: 8).map(\.id) != first.map(\.id))
        #expect(try await archive.sample(model: "other", count: 50, seed: 7).isEmpty)
        // Five among hundreds are all found; of hundreds exactly as many as were asked for.
        let few = (0..<5).map { ServingFixture.record($0, model: "rare", at: clock.now()) }
        try await events.append(
            few.map { LogRecord(key: $0.model, time: $0.time, value: $0.encoded()) }, to: PlatformTopic.predictions)
        #expect(try await archive.sample(model: "rare", count: 50, seed: 7).count == 5)
        #expect(try await archive.sample(model: "rare", count: 3, seed: 7).count == 3)
        let most = try await archive.sample(model: "delay", count: 250, seed: 7)
        #expect(Set(most.map(\.id)).count == 250)
        #expect(try await archive.sample(model: "delay", count: 0, seed: 7).isEmpty)
    }

    @Test func anEmptyLogHasNoSample() async throws {
        _ = try await fill(0)
        #expect(try await archive.sample(model: "delay", count: 5, seed: 1).isEmpty)
    }

    @Test func theNewestLabelWithinTheHorizonCounts() async throws {
        let ids = try await fill(3)
        let record = try await archive.find(ids[1])[0]
        #expect(try await archive.label(of: record, horizon: .days(1)) == nil)
        func label(_ id: String, after span: TimeSpan, _ value: Double) -> LogRecord {
            let time = record.time.advanced(by: span)
            return LogRecord(
                key: id, time: time, value: LabelRecord(predictionID: id, time: time, value: value).encoded())
        }
        try await events.append(
            [
                label(ids[0], after: .hours(1), 9), label(ids[1], after: .hours(2), 0),
                label(ids[1], after: .hours(3), 1),
                label(ids[1], after: .hours(25), 5),
            ], to: PlatformTopic.labels)
        #expect(try await archive.label(of: record, horizon: .days(1))?.value == 1)
        #expect(try await archive.label(of: record, horizon: .hours(2))?.value == 0)
        #expect(try await archive.label(of: record, horizon: .hours(1)) == nil)
        #expect(try await archive.label(of: record, horizon: .days(2))?.value == 5)
    }
}
