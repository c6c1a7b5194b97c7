import Foundation
import ModelMonitoring
import ModelServing
import PlatformCore
import PlatformTesting
import StoragePorts
import Synchronization
import Testing

@testable import Definitions

/// An event log in memory, for one partition per topic.
private final class MemoryLog: EventLog {
    private let contents = Mutex<[Name: [LogRecord]]>([:])
    /// Appends that still succeed; then the log fails, as if the process had been killed.
    let appendsLeft = Mutex(Int.max)
    /// Whether the append that fails is in the log all the same: killed after it rather than before.
    let keepsLast = Mutex(false)

    func createTopic(_ topic: Name, partitions: Int) async throws(StoreError) {
        contents.withLock { $0[topic] = $0[topic] ?? [] }
    }
    func topics() async throws(StoreError) -> [Name] { contents.withLock { $0.keys.sorted() } }
    func append(_ records: [LogRecord], to topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        let allowed = appendsLeft.withLock { left in
            left -= 1
            return left >= 0
        }
        guard allowed || keepsLast.withLock({ $0 }) else {
            throw StoreError(.unavailable, "log", "stopped by the test")
        }
        let first = contents.withLock {
            $0[topic, default: []].append(contentsOf: records)
            return UInt64(($0[topic]?.count ?? 0) - records.count)
        }
        guard allowed else { throw StoreError(.unavailable, "log", "stopped by the test") }
        return first
    }
    func read(_ topic: Name, partition: Int, from offset: UInt64, recordCountMax: Int, byteCountMax: Int)
        async throws(StoreError) -> [StoredRecord]
    {
        guard let records = contents.withLock({ $0[topic] }) else { throw StoreError(.notFound, "topic", "none") }
        return records.enumerated().dropFirst(Int(offset)).prefix(recordCountMax).map {
            StoredRecord(offset: UInt64($0.offset), record: $0.element)
        }
    }
    func endOffset(_ topic: Name, partition: Int) async throws(StoreError) -> UInt64 {
        UInt64(contents.withLock { $0[topic]?.count ?? 0 })
    }
    func firstOffset(_ topic: Name, partition: Int, atOrAfter time: EventTime) async throws(StoreError) -> UInt64 { 0 }
    func commit(_ consumer: Name, topic: Name, partition: Int, offset: UInt64) async throws(StoreError) {}
    func position(_ consumer: Name, topic: Name, partition: Int) async throws(StoreError) -> UInt64 { 0 }
    func waitForRecords(_ topic: Name, partition: Int, past offset: UInt64, timeout: Duration) async throws(StoreError)
    {
        try? await Task.sleep(for: timeout)
    }

    func add(_ records: [Scenario.Record]) {
        contents.withLock {
            for record in records {
                switch record {
                case .prediction(let prediction):
                    $0[PlatformTopic.predictions, default: []].append(
                        LogRecord(key: prediction.model, time: prediction.time, value: prediction.encoded()))
                case .label(let label):
                    $0[PlatformTopic.labels, default: []].append(
                        LogRecord(key: label.predictionID, time: label.time, value: label.encoded()))
                }
            }
        }
    }
    func addBroken() {
        contents.withLock {
            $0[PlatformTopic.labels, default: []].append(LogRecord(time: Scenario.monday, value: [9, 9]))
        }
    }
    func events() throws -> [PlatformEvent] {
        try contents.withLock { $0[PlatformTopic.monitoring] ?? [] }.map {
            try JSONValue.parse($0.value).decoded(as: PlatformEvent.self)
        }
    }
}

struct MonitorServiceTests {
    private func service(_ log: MemoryLog, _ path: String, batch: Int = 64) throws -> MonitorService {
        var configuration = MonitorService.Configuration()
        configuration.batchCountMax = batch
        configuration.snapshotInterval = .zero
        configuration.pollInterval = .milliseconds(5)
        let reference = try Scenario.reference()
        return MonitorService(
            log: log, state: FileMonitorStateStore(path: path), definitions: { [Scenario.definition()] },
            reference: { _, version in version == 1 ? reference : nil },
            now: { Scenario.hours(600) }, configuration: configuration)
    }

    private func withFolder(_ body: (String) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "monitor-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await body(folder)
    }

    /// What a reader sees: identifiers with their content, heartbeats left out.
    private func found(_ log: MemoryLog) throws -> [String: JSONValue] {
        var found: [String: JSONValue] = [:]
        for event in try log.events() where event.kind != "monitor.heartbeat" {
            let id = try #require(event.details["event_id"]?.stringValue)
            #expect(found[id] == nil, "\(id) was written twice")
            found[id] = event.details
        }
        return found
    }

    @Test func aLateStarterSeesBothTopicsInTheOrderOfTime() async throws {
        try await withFolder { folder in
            let log = MemoryLog()
            let records = Scenario.records(perWeek: 100)
            log.add(records)
            log.addBroken()
            let service = try service(log, folder + "/state")
            try await service.runUntilIdle()
            var engine = MonitorEngine(definitions: [Scenario.definition()])
            engine.add(try Scenario.reference(), model: Scenario.model, version: 1)
            let expected = records.flatMap { engine.consume($0) } + engine.advance(to: Scenario.hours(600))
            let found = try found(log)
            #expect(Set(found.keys) == Set(expected.map(\.id)))
            for effect in expected {
                #expect(
                    try found[effect.id] == JSONValue.parse(JSONValue.of(effect.event(at: engine.time)).text)["details"]
                )
            }
            let counters = await service.counters
            #expect(counters.undecodable == 1 && counters.predictionsLate == 0 && counters.labelsUnmatched == 0)
            let heartbeat = try #require(try log.events().last { $0.kind == "monitor.heartbeat" })
            #expect(heartbeat.details["caught_up"] == true)
            #expect(heartbeat.details["predictions"]?.integerValue == 600)
        }
    }

    @Test(arguments: 0..<7, [false, true])
    func aKillBeforeOrAfterAnAppendWritesNothingTwice(appends: Int, after: Bool) async throws {
        try await withFolder { folder in
            let whole = MemoryLog()
            whole.add(Scenario.records(perWeek: 30))
            try await service(whole, folder + "/whole", batch: 8).runUntilIdle()
            let log = MemoryLog()
            log.add(Scenario.records(perWeek: 30))
            log.appendsLeft.withLock { $0 = appends }
            log.keepsLast.withLock { $0 = after }
            await #expect(throws: StoreError.self) {
                try await service(log, folder + "/state", batch: 8).runUntilIdle()
            }
            log.appendsLeft.withLock { $0 = .max }
            try await service(log, folder + "/state", batch: 8).runUntilIdle()
            #expect(try found(log) == found(whole))
        }
    }

    @Test func runGoesOnWhileRecordsArriveAndStopsWhenCancelled() async throws {
        try await withFolder { folder in
            let log = MemoryLog()
            let service = try service(log, folder + "/state")
            let running = Task { try await service.run() }
            for record in Scenario.records(perWeek: 20, weeks: 1) { log.add([record]) }
            for _ in 0..<400 where await service.offsets.predictions < 40 {
                try await Task.sleep(for: .milliseconds(5))
            }
            running.cancel()
            try await running.value
            #expect(await service.offsets.predictions == 40)
            #expect(FileManager.default.fileExists(atPath: folder + "/state"))
        }
    }

    @Test func aDamagedStateIsRefusedWithAReason() async throws {
        try await withFolder { folder in
            try FileMonitorStateStore(path: folder + "/state").save([1, 2, 3, 4, 5, 6, 7, 8, 9])
            await #expect(throws: PlatformError.self) {
                try await service(MemoryLog(), folder + "/state").runUntilIdle()
            }
        }
    }
}
