import ModelMonitoring
import PlatformCore
import Statistics
import Testing

struct MonitorSnapshotTests {
    @Test func aKillAtAnyRecordChangesNoReport() throws {
        let definition = Scenario.definition(rowsMin: 10)
        let records = Scenario.records(perWeek: 24)
        let end = Scenario.hours(600)
        var whole = MonitorEngine(definitions: [definition])
        whole.add(try Scenario.reference(), model: Scenario.model, version: 1)
        var broken = whole
        var (expected, found): ([MonitorEffect], [MonitorEffect]) = ([], [])
        for record in records {
            expected += whole.consume(record)
            broken = try MonitorEngine(snapshot: broken.snapshot(), definitions: [definition])
            found += broken.consume(record)
        }
        expected += whole.advance(to: end)
        found += broken.advance(to: end)
        #expect(found == expected)
        #expect(expected.count > 12)
        #expect(broken.counters == whole.counters)
        #expect(try broken.snapshot() == whole.snapshot())
    }

    @Test func cutOrChangedSnapshotsAreRefusedOrHarmless() throws {
        var engine = MonitorEngine(definitions: [Scenario.definition()])
        engine.add(try Scenario.reference(), model: Scenario.model, version: 1)
        for record in Scenario.records(perWeek: 10, weeks: 1) { _ = engine.consume(record) }
        let bytes = try engine.snapshot()
        for length in stride(from: 0, to: bytes.count, by: 397) {
            #expect(throws: (any Error).self) {
                try MonitorEngine(snapshot: Array(bytes.prefix(length)), definitions: [Scenario.definition()])
            }
        }
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<30 {
            var changed = bytes
            changed[generator.index(below: bytes.count)] ^= UInt8(1 << generator.index(below: 8))
            _ = try? MonitorEngine(snapshot: changed, definitions: [Scenario.definition()])
        }
    }
}
