import PlatformTesting
public import StoragePorts
import Testing

/// What every `MetadataStore` promises; a test of an adapter calls one function per promise.
public struct MetadataStoreContract: Sendable {
    private let makeStore: @Sendable (_ folder: String) async throws -> any MetadataStore

    /// - Parameter makeStore: opens a store that keeps what it has in this folder, or in a new database.
    public init(_ makeStore: @escaping @Sendable (_ folder: String) async throws -> any MetadataStore) {
        self.makeStore = makeStore
    }

    private static let schema = [
        MetadataMigration(
            name: "contract-1",
            statements: [
                "CREATE TABLE parent (id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
                """
                CREATE TABLE child (id BIGINT PRIMARY KEY, parent BIGINT NOT NULL REFERENCES parent (id), whole BIGINT,
                number DOUBLE PRECISION, words TEXT, bytes BLOB)
                """,
            ])
    ]
    private struct Abandoned: Error {}

    private func withStore(_ body: (any MetadataStore) async throws -> Void) async throws {
        let folder = try TemporaryFolder("metadata")
        let store = try await makeStore(folder.path)
        try await store.migrate(Self.schema)
        try await body(store)
        withExtendedLifetime(folder) {}
    }
    private static func insert(_ id: Int64, _ name: String, _ transaction: any MetadataTransaction) throws {
        try transaction.execute("INSERT INTO parent (id, name) VALUES (?, ?)", [.integer(id), .text(name)])
    }
    private static func count(_ store: any MetadataStore) async throws -> Int64 {
        try await store.read { try $0.query("SELECT count(*) AS n FROM parent").first?.integer("n") ?? -1 }
    }

    /// Every value comes back as it was, and columns go by name and position.
    public func givesBackWhatWasWritten() async throws {
        try await withStore { store in
            let values: [[MetadataValue]] = [
                [.integer(.min), .real(-0.1), .text("quote ' and \u{1F600}"), .blob([0, 255, 10])],
                [.integer(.max), .real(1e308), .text(""), .blob([])],
                [.null, .null, .null, .null],
            ]
            try await store.write { transaction in
                try Self.insert(1, "one", transaction)
                for (position, row) in values.enumerated() {
                    let changed = try transaction.execute(
                        "INSERT INTO child (id, parent, whole, number, words, bytes) VALUES (?, 1, ?, ?, ?, ?)",
                        [.integer(Int64(position))] + row)
                    #expect(changed == 1)
                }
            }
            let rows = try await store.read {
                try $0.query("SELECT whole, number, words, bytes FROM child ORDER BY id")
            }
            #expect(rows.map { row in (0..<4).map { row[$0] } } == values)
            #expect(rows[0]["words"] == values[0][2] && rows[0]["missing"] == .null)
        }
    }
    /// A step runs once, in order, and later steps find what earlier ones made.
    public func migratesOnce() async throws {
        try await withStore { store in
            try await store.write { try Self.insert(1, "kept", $0) }
            let more = MetadataMigration(name: "contract-2", statements: ["ALTER TABLE parent ADD COLUMN extra BIGINT"])
            try await store.migrate(Self.schema + [more])
            try await store.migrate(Self.schema + [more])
            let rows = try await store.read { try $0.query("SELECT name, extra FROM parent") }
            #expect(rows.map { $0.text("name") } == ["kept"])
        }
    }
    /// A step that fails leaves nothing behind, and can run again once it is right.
    public func migratesWhollyOrNotAtAll() async throws {
        try await withStore { store in
            let wrong = MetadataMigration(
                name: "contract-2", statements: ["CREATE TABLE half (id BIGINT)", "NO SUCH THING"])
            await #expect(throws: (any Error).self) { try await store.migrate(Self.schema + [wrong]) }
            let right = MetadataMigration(name: "contract-2", statements: ["CREATE TABLE half (id BIGINT)"])
            try await store.migrate(Self.schema + [right])
        }
    }
    /// When `write` throws, nothing of it stays, and the error that was thrown comes out.
    public func takesBackWhatWasAbandoned() async throws {
        try await withStore { store in
            await #expect(throws: Abandoned.self) {
                try await store.write { transaction in
                    try Self.insert(1, "one", transaction)
                    throw Abandoned()
                }
            }
            let count = try await Self.count(store)
            #expect(count == 0)
        }
    }
    /// A transaction sees what it has written itself.
    public func seesItsOwnWrites() async throws {
        try await withStore { store in
            let seen = try await store.write { transaction in
                try Self.insert(1, "one", transaction)
                return try transaction.query("SELECT name FROM parent WHERE id = ?", [1]).map { $0.text("name") }
            }
            #expect(seen == ["one"])
        }
    }
    /// A taken unique key and a missing foreign key are conflicts, and take the transaction back.
    public func refusesTakenAndMissingKeys() async throws {
        try await withStore { store in
            try await store.write { try Self.insert(1, "one", $0) }
            await expectRefusal(.conflict) {
                try await store.write { transaction in
                    try Self.insert(2, "two", transaction)
                    try Self.insert(3, "one", transaction)
                }
            }
            await expectRefusal(.conflict) {
                try await store.write { _ = try $0.execute("INSERT INTO child (id, parent) VALUES (1, 99)") }
            }
            let count = try await Self.count(store)
            #expect(count == 1)
        }
    }
    /// SQL that does not compile is refused as such.
    public func refusesWrongSQL() async throws {
        try await withStore { store in
            await expectRefusal(.invalidInput) { _ = try await store.read { try $0.query("SELEKT 1") } }
            await expectRefusal(.invalidInput) { _ = try await store.read { try $0.query("SELECT x FROM missing") } }
            await expectRefusal(.invalidInput) { _ = try await store.write { try $0.execute("DELETE FROM missing") } }
            let count = try await Self.count(store)
            #expect(count == 0)
        }
    }
    /// Text that looks like SQL is text.
    public func takesParametersAsValues() async throws {
        try await withStore { store in
            let text = "'); DROP TABLE parent; --"
            try await store.write { try Self.insert(1, text, $0) }
            #expect(
                try await store.read { try $0.query("SELECT name FROM parent", []).map { $0.text("name") } } == [text])
        }
    }
    /// A conflict can be resolved in the statement.
    public func updatesOnConflict() async throws {
        try await withStore { store in
            for name in ["old", "new"] {
                _ = try await store.write { transaction in
                    try transaction.execute(
                        "INSERT INTO parent (id, name) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
                        [.text(name)])
                }
            }
            #expect(try await store.read { try $0.query("SELECT name FROM parent").map { $0.text("name") } } == ["new"])
        }
    }
    /// Many transactions that read, then write, lose no update.
    public func losesNoUpdate() async throws {
        try await withStore { store in
            try await store.write { try Self.insert(0, "0", $0) }
            try await withThrowingTaskGroup { group in
                for _ in 0..<40 {
                    group.addTask {
                        try await store.write { transaction in
                            let row = try transaction.query("SELECT name FROM parent WHERE id = 0").first
                            let next = (Int(row?.text("name") ?? "") ?? -1) + 1
                            try transaction.execute("UPDATE parent SET name = ? WHERE id = 0", [.text("\(next)")])
                        }
                    }
                }
                try await group.waitForAll()
            }
            let name = try await store.read { try $0.query("SELECT name FROM parent").first?.text("name") }
            #expect(name == "40")
        }
    }
    /// A reader sees one state: all of a transaction or nothing, while writers go on.
    public func readsOneState() async throws {
        try await withStore { store in
            try await withThrowingTaskGroup { group in
                group.addTask {
                    for pair in Int64(0)..<30 {
                        try await store.write { transaction in
                            try Self.insert(pair * 2, "\(pair)a", transaction)
                            try Self.insert(pair * 2 + 1, "\(pair)b", transaction)
                        }
                    }
                }
                group.addTask {
                    for _ in 0..<30 {
                        let count = try await Self.count(store)
                        #expect(count % 2 == 0)
                    }
                }
                try await group.waitForAll()
            }
            let count = try await Self.count(store)
            #expect(count == 60)
        }
    }
    /// A store that is opened again has what was written.
    public func survivesReopening() async throws {
        let folder = try TemporaryFolder("metadata")
        do {
            let store = try await makeStore(folder.path)
            try await store.migrate(Self.schema)
            try await store.write { try Self.insert(1, "kept", $0) }
        }
        let store = try await makeStore(folder.path)
        try await store.migrate(Self.schema)
        let count = try await Self.count(store)
        #expect(count == 1)
    }
}
