import Governance
import PlatformCore
import SQLiteAdapter
import StoragePorts
import Testing

/// Changes that no single transaction makes: there is an entry whatever becomes of them.
@Suite struct IntentTests {
    private func actions(_ log: AuditLog) async throws -> [String] {
        try await log.entries().map(\.record.action)
    }

    @Test func whatWasDoneIsKeptWithItsOutcome() async throws {
        let fixture = try await AuditFixture()
        let rows = try await fixture.log.during(
            "ada", "source.loaded", "source/a", outcome: { (count: Int) in ["rows": .integer(Int64(count))] }
        ) { 7 }
        #expect(rows == 7)
        let entry = try #require(try await fixture.log.entries().first)
        #expect(entry.record.actor == "ada" && entry.record.after["rows"]?.integerValue == 7)
        try await fixture.log.during("ada", "source.loaded", "source/a", outcome: { (_: Int) in nil }) { 0 }
        #expect(try await actions(fixture.log) == ["source.loaded"], "what changed nothing is no entry")
        #expect(try await fixture.log.closeInterrupted() == 0)
    }

    @Test func aRefusalIsNoEntryAndAFailureIsOne() async throws {
        let fixture = try await AuditFixture()
        for (code, expected) in [(PlatformError.Code.invalidInput, []), (.unavailable, ["gc.failed"])] {
            await #expect(throws: PlatformError.self) {
                try await fixture.log.during("ada", "gc", "blobs", outcome: { (_: Int) in [:] }) {
                    throw PlatformError(code, "x", "no")
                }
            }
            #expect(try await actions(fixture.log) == expected)
        }
        #expect(try await fixture.log.closeInterrupted() == 0)
    }

    @Test func whatAProcessTookWithItIsToldByTheNextOne() async throws {
        let fixture = try await AuditFixture()
        await #expect(throws: CancellationError.self) {
            try await fixture.log.during("ada", "table.vacuumed", "table/a", outcome: { (_: Int) in [:] }) {
                // The state of the database at this moment is what a killed process leaves.
                #expect(try await fixture.log.entries().isEmpty)
                throw CancellationError()
            }
        }
        #expect(try await fixture.log.closeInterrupted() == 1)
        let entry = try #require(try await fixture.log.entries().last)
        #expect(entry.record.action == "table.vacuumed.interrupted" && entry.record.actor == "ada")
        #expect(try await fixture.log.closeInterrupted() == 0, "once")
        #expect(try await fixture.log.verify().isIntact)
    }

    @Test func thoseAtTheSameTimeDoNotMix() async throws {
        let fixture = try await AuditFixture()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<32 {
                group.addTask {
                    try await fixture.log.during(
                        "ada", "a", "s/\(index)",
                        outcome: { (value: Int) in index % 2 == 0 ? .integer(Int64(value)) : nil }
                    ) {
                        await Task.yield()
                        return index
                    }
                }
            }
            try await group.waitForAll()
        }
        let entries = try await fixture.log.entries()
        #expect(entries.count == 16 && entries.allSatisfy { $0.record.subject == "s/\($0.record.after.text)" })
        #expect(try await fixture.log.closeInterrupted() == 0)
        #expect(try await fixture.log.verify().isIntact)
    }
}
