import Foundation
import StoragePorts
import Testing

@testable import SQLiteAdapter

/// A folder of its own for one test, removed with it.
final class TemporaryFolder {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("bottega-\(UUID().uuidString)").path
    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: path) }
}

struct SQLiteMetadataStoreTests {
    let folder: TemporaryFolder
    let store: SQLiteMetadataStore

    init() async throws {
        folder = try TemporaryFolder()
        store = try SQLiteMetadataStore(path: folder.path + "/metadata.sqlite")
        try await store.migrate([
            MetadataMigration(
                name: "test-1",
                statements: [
                    "CREATE TABLE thing (name TEXT PRIMARY KEY, size BIGINT, share DOUBLE PRECISION, bytes BLOB) /* clustered */",
                    "CREATE TABLE part (thing TEXT NOT NULL REFERENCES thing (name), number BIGINT NOT NULL)",
                ])
        ])
    }

    private func names() async throws -> [String] {
        try await store.read { try $0.query("SELECT name FROM thing ORDER BY name").map { $0.text("name") } }
    }

    private func failure(_ body: @Sendable @escaping (any MetadataTransaction) throws -> Void) async -> StoreError? {
        do { try await store.write(body) } catch { return error as? StoreError }
        return nil
    }

    @Test func keepsEveryKindOfValue() async throws {
        try await store.write {
            _ = try $0.execute(
                "INSERT INTO thing VALUES (?, ?, ?, ?)", ["a", .integer(.max), .real(0.1), .blob([0, 255])])
            _ = try $0.execute("INSERT INTO thing VALUES (?, ?, ?, ?)", ["b", .null, .null, .null])
        }
        let rows = try await store.read { try $0.query("SELECT * FROM thing ORDER BY name") }
        #expect(rows.map { $0["name"] } == ["a", "b"])
        #expect(rows[0]["size"] == .integer(.max))
        #expect(rows[0]["share"] == .real(0.1))
        #expect(rows[0]["bytes"] == .blob([0, 255]))
        #expect(rows[1]["size"] == .null)
    }

    @Test func aFailedTransactionChangesNothing() async throws {
        struct Stop: Error {}
        await #expect(throws: Stop.self) {
            try await store.write {
                try $0.execute("INSERT INTO thing (name) VALUES ('a')")
                throw Stop()
            }
        }
        #expect(try await names() == [])
    }

    @Test func aTakenKeyIsAConflictThatNamesItsColumn() async throws {
        try await store.write { _ = try $0.execute("INSERT INTO thing (name) VALUES ('a')") }
        let error = await failure { _ = try $0.execute("INSERT INTO thing (name) VALUES ('a')") }
        #expect(error?.code == .conflict)
        #expect(error?.subject == "thing.name")
        #expect(error?.message == "a row with the same key exists already")
    }

    @Test func aMissingParentIsAConflict() async throws {
        let error = await failure { _ = try $0.execute("INSERT INTO part VALUES ('none', 1)") }
        #expect(error?.code == .conflict)
    }

    @Test func brokenStatementsAreTheCallersFault() async throws {
        #expect(await failure { _ = try $0.execute("INSRT INTO thing") }?.code == .invalidInput)
        #expect(await failure { _ = try $0.query("SELECT nothing FROM thing") }?.code == .invalidInput)
    }

    @Test func textIsNeverCutAtANullCharacter() async throws {
        let error = await failure { _ = try $0.execute("INSERT INTO thing (name) VALUES (?)", ["a\u{0}b"]) }
        #expect(error?.code == .invalidInput)
    }

    @Test func aReadRefusesToWrite() async throws {
        await #expect {
            try await store.read { _ = try $0.execute("INSERT INTO thing (name) VALUES ('a')") }
        } throws: { ($0 as? StoreError)?.code == .invalidInput }
        #expect(try await names() == [])
    }

    @Test func writesThatWaitTogetherFailAlone() async throws {
        let store = store
        let outcomes = await withTaskGroup(of: Bool.self) { group in
            for number in 0..<200 {
                group.addTask {
                    do {
                        try await store.write { transaction in
                            try transaction.execute(
                                "INSERT INTO thing (name) VALUES (?)", [.text("row \(number)")])
                            // Every fifth writes, then meets a key that is taken.
                            if number % 5 == 0 {
                                try transaction.execute(
                                    "INSERT INTO thing (name) VALUES (?)", [.text("row \(number)")])
                            }
                        }
                        return true
                    } catch { return false }
                }
            }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(outcomes == 160)
        #expect(try await names().count == 160)
        #expect(try await !names().contains("row 5"))
    }

    @Test func aCommitWaitsForTheDisk() async throws {
        let setting = try await store.write { try $0.query("PRAGMA synchronous").first?[0] }
        #expect(setting == .integer(2))  // FULL
    }

    @Test func likeMindsCase() async throws {
        try await store.write { _ = try $0.execute("INSERT INTO thing (name) VALUES ('Alpha')") }
        let found = try await store.read {
            (
                try $0.query("SELECT name FROM thing WHERE name LIKE 'al%'").count,
                try $0.query("SELECT name FROM thing WHERE name LIKE 'Al%'").count
            )
        }
        #expect(found == (0, 1))
    }

    @Test func aStepRunsOnceAndNeverChanges() async throws {
        let step = MetadataMigration(name: "test-2", statements: ["CREATE TABLE other (x BIGINT)"])
        try await store.migrate([step])
        try await store.migrate([step])
        await #expect {
            try await store.migrate([MetadataMigration(name: "test-2", statements: ["CREATE TABLE third (x BIGINT)"])])
        } throws: { ($0 as? StoreError)?.code == .preconditionFailed }
    }

    @Test func aFailedMigrationLeavesNoTrace() async throws {
        let steps = [
            MetadataMigration(name: "test-3", statements: ["CREATE TABLE fourth (x BIGINT)"]),
            MetadataMigration(name: "test-4", statements: ["CREATE TABLE broken ("]),
        ]
        await #expect(throws: StoreError.self) { try await store.migrate(steps) }
        try await store.migrate([steps[0]])
    }

    @Test func whatWasAcknowledgedIsThereForTheNextProcess() async throws {
        try await store.write { _ = try $0.execute("INSERT INTO thing (name) VALUES ('kept')") }
        // The files as a killed process leaves them: the log is not merged into the database.
        let copy = try TemporaryFolder()
        for suffix in ["", "-wal"] {
            try FileManager.default.copyItem(
                atPath: "\(folder.path)/metadata.sqlite\(suffix)", toPath: "\(copy.path)/metadata.sqlite\(suffix)")
        }
        let next = try SQLiteMetadataStore(path: copy.path + "/metadata.sqlite")
        let rows = try await next.read { try $0.query("SELECT name FROM thing") }
        #expect(rows.map { $0.text("name") } == ["kept"])
    }

    @Test func aFileThatIsNoDatabaseIsNamedAsSuch() throws {
        let path = folder.path + "/garbage.sqlite"
        try Data(repeating: 0x5A, count: 8192).write(to: URL(fileURLWithPath: path))
        #expect { try SQLiteMetadataStore(path: path) } throws: { ($0 as? StoreError)?.code == .corrupted }
    }

    @Test func aFullDiskIsReportedAsFull() async throws {
        let error = await failure { transaction in
            _ = try transaction.query("PRAGMA max_page_count = 8")
            _ = try transaction.execute("INSERT INTO thing (name, bytes) VALUES ('big', zeroblob(1000000))")
        }
        #expect(error?.code == .full)
        #expect(try await names() == [])
    }
}
