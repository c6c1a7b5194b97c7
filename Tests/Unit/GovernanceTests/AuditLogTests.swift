import Foundation
import Governance
import PlatformCore
import SQLiteAdapter
import StoragePorts
import Testing

/// An audit chain on an empty database.
final class AuditFixture: Sendable {
    let folder: String
    let store: SQLiteMetadataStore
    let clock = ManualClock(startingAt: EventTime(milliseconds: 1_372_669_200_000))
    let log: AuditLog

    init() async throws {
        folder = NSTemporaryDirectory() + "audit-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        store = try SQLiteMetadataStore(path: folder + "/metadata.sqlite")
        log = AuditLog(store: store, clock: clock)
        try await store.migrate(AuditLog.migrations)
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    /// Entries with values that are easy to write in two ways: floats, escapes, nesting, text outside ASCII.
    func fill(_ count: Int) async throws {
        for index in 0..<count {
            clock.advance(to: clock.now().advanced(by: .seconds(1)))
            try await log.append(
                AuditRecord(
                    actor: "ada \"the first\"", action: "model.stage.change", subject: "model/m/versions/\(index)",
                    before: .null,
                    after: [
                        "share": .number(0.1 + Double(index)), "tiny": .number(.leastNonzeroMagnitude),
                        "large": .number(9.5e15),
                        "whole": .number(3), "count": .integer(.max), "text": "Größe\n\u{1}🛫",
                        "list": [true, nil, [:]],
                    ], evidence: ContentHash(bytes: [UInt8](repeating: UInt8(index % 256), count: 32))))
        }
    }

    func export() async throws -> [UInt8] {
        var bytes: [UInt8] = []
        try await log.export { bytes += $0 }
        return bytes
    }
}

@Suite struct AuditLogTests {
    @Test func aChainThatNobodyTouchedIsIntact() async throws {
        let fixture = try await AuditFixture()
        #expect(try await fixture.log.verify().entryCount == 0)
        try await fixture.fill(40)
        let head = try #require(try await fixture.log.head())
        let verification = try await fixture.log.verify(expectedHead: head.hash)
        #expect(verification.isIntact && verification.entryCount == 40 && verification.head == head.hash)
        let entries = try await fixture.log.entries(from: 39)
        #expect(entries.map(\.position) == [39, 40])
        #expect(entries[1].previousHash == entries[0].hash)
        #expect(entries[1].record.after["text"]?.stringValue == "Größe\n\u{1}🛫")
        #expect(try await fixture.log.entries(about: "model/m/versions/7").map(\.position) == [8])
    }

    @Test(arguments: [
        ("UPDATE audit_entries SET actor = 'eve' WHERE position = 5", "entry 5 was changed"),
        ("UPDATE audit_entries SET time = time + 1 WHERE position = 5", "entry 5 was changed"),
        ("UPDATE audit_entries SET after_json = '{}' WHERE position = 5", "entry 5 was changed"),
        ("UPDATE audit_entries SET after_json = '{' WHERE position = 5", "entry 5 cannot be read"),
        ("UPDATE audit_entries SET evidence = NULL WHERE position = 5", "entry 5 was changed"),
        ("UPDATE audit_entries SET hash = previous_hash WHERE position = 5", "entry 5 was changed"),
        ("DELETE FROM audit_entries WHERE position = 5", "entry 5 is missing"),
        ("DELETE FROM audit_entries WHERE position = 1", "entry 1 is missing"),
        (
            "DELETE FROM audit_entries WHERE position > 5",
            "the expected head is not in the chain: entries are missing at its end"
        ),
    ])
    func findsWhatWasDoneToTheRows(sql: String, fault: String) async throws {
        let fixture = try await AuditFixture()
        try await fixture.fill(10)
        let head = try #require(try await fixture.log.head()).hash
        try await fixture.store.write { _ = try $0.execute(sql) }
        let verification = try await fixture.log.verify(expectedHead: head)
        #expect(verification.fault == fault)
    }

    @Test func anEntryAndItsChangeAreWrittenTogetherOrNotAtAll() async throws {
        let fixture = try await AuditFixture()
        struct Refusal: Error {}
        await #expect(throws: Refusal.self) {
            try await fixture.store.write { transaction in
                _ = try AuditLog.append(
                    AuditRecord(actor: "a", action: "b", subject: "c"), at: EventTime(milliseconds: 0), in: transaction)
                throw Refusal()
            }
        }
        #expect(try await fixture.log.head() == nil)
    }

    @Test func writersAtTheSameTimeMakeOneChain() async throws {
        let fixture = try await AuditFixture()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<32 {
                group.addTask {
                    try await fixture.log.append(AuditRecord(actor: "a\(index)", action: "b", subject: "c"))
                }
            }
            try await group.waitForAll()
        }
        let verification = try await fixture.log.verify()
        #expect(verification.isIntact && verification.entryCount == 32)
    }

    @Test func refusesWhatIsTooLargeOrTooDeep() async throws {
        let fixture = try await AuditFixture()
        let large = JSONValue.string(String(repeating: "x", count: AuditLog.valueByteCountMax))
        let deep = (0..<100).reduce(JSONValue.null) { inner, _ in [inner] }
        for value in [large, deep] {
            await #expect(throws: PlatformError.self) {
                try await fixture.log.append(AuditRecord(actor: "a", action: "b", subject: "c", after: value))
            }
        }
        #expect(try await fixture.log.head() == nil)
    }
}
