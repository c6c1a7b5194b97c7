import PlatformCore
import PlatformTesting
public import StoragePorts
import Testing

/// What every `OnlineStore` promises; a test of an adapter calls one function per promise.
public struct OnlineStoreContract: Sendable {
    private let makeStore: @Sendable (_ folder: String) async throws -> any OnlineStore

    /// - Parameter makeStore: opens a store that keeps what it has, if it keeps it in files, in this folder.
    public init(_ makeStore: @escaping @Sendable (_ folder: String) async throws -> any OnlineStore) {
        self.makeStore = makeStore
    }

    private let view = Name(static: "carrier_delays.3")
    private let other = Name(static: "carrier_delays.4")

    private func withStore(_ body: (any OnlineStore) async throws -> Void) async throws {
        let folder = try TemporaryFolder("online")
        try await body(makeStore(folder.path))
        withExtendedLifetime(folder) {}
    }
    private func key(_ values: String...) -> EntityKey { EntityKey(joined: values.joined(separator: "\u{1F}")) }
    private func row(_ sequence: UInt64, _ payload: [UInt8] = [7]) -> OnlineRow {
        OnlineRow(
            eventTime: EventTime(milliseconds: Int64(sequence) - 5), ingestTime: EventTime(milliseconds: .max),
            sequence: sequence, payload: payload)
    }

    /// Rows come in the order of the keys, with `nil` for those that are not there.
    public func readsInTheOrderOfTheKeys() async throws {
        try await withStore { store in
            let rows = ["a", "b", "c"].enumerated().map {
                KeyedOnlineRow(key: key($1), row: row(UInt64($0), Array($1.utf8)))
            }
            try await store.write([view: rows], checkpoint: nil)
            let found = try store.read([key("c"), key("x"), key("a"), key("c")], from: view)
            #expect(found == [rows[2].row, nil, rows[0].row, rows[2].row])
            #expect(try store.read([key("a")], from: other) == [nil])
            #expect(try store.read([], from: view) == [])
        }
    }
    /// The sequence alone decides which row is newer.
    public func keepsTheRowWithTheHigherSequence() async throws {
        try await withStore { store in
            for (sequence, expected) in [(5, 5), (3, 5), (5, 5), (9, 9), (8, 9)] as [(UInt64, UInt64)] {
                let rows = [KeyedOnlineRow(key: key("a"), row: row(sequence, [UInt8(sequence)]))]
                try await store.write([view: rows], checkpoint: nil)
                #expect(try store.read(key("a"), from: view) == row(expected, [UInt8(expected)]))
            }
        }
    }
    /// In one write, too, the higher sequence wins, in whatever order the rows come.
    public func keepsTheHigherSequenceInsideOneWrite() async throws {
        try await withStore { store in
            let rows = [2, 4, 3].map { KeyedOnlineRow(key: key("a"), row: row($0)) }
            try await store.write([view: rows], checkpoint: nil)
            #expect(try store.read(key("a"), from: view) == row(4))
        }
    }
    /// Any key that an entity can have is its own, however long, and whatever its beginning.
    public func tellsAllKeysApart() async throws {
        try await withStore { store in
            let long = String(repeating: "k", count: 512)
            var keys = [key("a"), key("a", "b"), key("ab"), key("ä"), key(long), key(long, "1"), key(long, "2")]
            keys += (300...512).map { key(String(repeating: "k", count: $0)) }
            keys += (0..<20).map { key(long, long, "\($0)") }
            keys = Set(keys).sorted { $0.joined.utf8.lexicographicallyPrecedes($1.joined.utf8) }
            let rows = keys.enumerated().map {
                KeyedOnlineRow(key: $1, row: row(UInt64($0), Array($1.joined.utf8.suffix(9))))
            }
            try await store.write(
                [view: rows.shuffled(), other: [KeyedOnlineRow(key: key("z"), row: row(1))]], checkpoint: nil)
            #expect(try store.read(keys, from: view) == rows.map(\.row))
            var seen: [KeyedOnlineRow] = []
            try await store.forEach(in: view) {
                seen.append($0); return true
            }
            #expect(seen == rows, "in byte order of the key")
        }
    }
    /// An iteration ends when its body says so, and its error comes out.
    public func stopsWhenTold() async throws {
        struct Stop: Error {}
        try await withStore { store in
            let rows = (0..<10).map { KeyedOnlineRow(key: key("k\($0)"), row: row(1)) }
            try await store.write([view: rows], checkpoint: nil)
            var count = 0
            try await store.forEach(in: view) { _ in
                count += 1; return count < 4
            }
            #expect(count == 4)
            await #expect(throws: Stop.self) { try await store.forEach(in: view) { _ in throw Stop() } }
            #expect(try store.read(key("k0"), from: view) != nil)
        }
    }
    /// A checkpoint is what was last written under its name.
    public func remembersCheckpoints() async throws {
        try await withStore { store in
            let name = Name(static: "aggregator")
            #expect(try await store.checkpoint(name) == nil)
            for offset in [UInt64(1), .max] {
                let checkpoint = OnlineCheckpoint(name: name, offsets: ["source.a/0": offset, "source.b/1": 7])
                try await store.write([:], checkpoint: checkpoint)
                #expect(try await store.checkpoint(name) == checkpoint)
            }
            #expect(try await store.checkpoint(Name(static: "another")) == nil)
        }
    }
    /// A view's rows go with it, and no others.
    public func dropsOneViewAlone() async throws {
        try await withStore { store in
            let rows = (0..<1_000).map { KeyedOnlineRow(key: key("k\($0)"), row: row(1)) }
            let longer = Name(static: "carrier_delays.33")
            try await store.write([view: rows, other: rows, longer: rows], checkpoint: nil)
            try await store.drop(view)
            #expect(try store.read(rows.map(\.key), from: view).allSatisfy { $0 == nil })
            for kept in [other, longer] {
                #expect(try store.read(rows.map(\.key), from: kept) == rows.map(\.row))
            }
            try await store.write([view: [KeyedOnlineRow(key: key("k1"), row: row(0))]], checkpoint: nil)
            #expect(try store.read(key("k1"), from: view) == row(0), "what was dropped has no sequence left")
        }
    }
    /// Rows can be removed in the write that brings others; what is removed has no sequence left.
    public func removesRowsInAWrite() async throws {
        try await withStore { store in
            let long = String(repeating: "k", count: 600)
            let keys = [key("a"), key("a", "1"), key(long), key("b")]
            try await store.write([view: keys.map { KeyedOnlineRow(key: $0, row: row(9)) }], checkpoint: nil)
            try await store.write(
                [view: [KeyedOnlineRow(key: key("b"), row: row(10))]],
                removing: [view: [key("a", "1"), key(long), key("never")], other: [key("a")]], checkpoint: nil)
            #expect(try store.read(keys, from: view) == [row(9), nil, nil, row(10)])
            try await store.write([view: [KeyedOnlineRow(key: key("a", "1"), row: row(0))]], checkpoint: nil)
            #expect(try store.read(key("a", "1"), from: view) == row(0))
        }
    }
    /// A reader sees all rows of a write or none, whatever the number of writers and readers.
    public func showsAWriteWholeOrNotAtAll() async throws {
        try await withStore { store in
            let keys = (0..<50).map { key("k\($0)") }
            try await withThrowingTaskGroup { group in
                group.addTask {
                    for round in UInt64(1)...40 {
                        let rows = keys.map { KeyedOnlineRow(key: $0, row: row(round)) }
                        try await store.write([view: rows], checkpoint: nil)
                    }
                }
                for _ in 0..<2 {
                    group.addTask {
                        var newest: UInt64 = 0
                        while newest < 40 {
                            let found = try store.read(keys, from: view).map { $0?.sequence ?? 0 }
                            #expect(Set(found).count == 1, "one state")
                            #expect(found[0] >= newest, "never back")
                            newest = found[0]
                            await Task.yield()
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }
    /// A store that is opened again has rows and checkpoints.
    ///
    /// Not for stores in memory.
    public func survivesReopening() async throws {
        let folder = try TemporaryFolder("online")
        let checkpoint = OnlineCheckpoint(name: Name(static: "writer"), offsets: ["t/0": 3])
        do {
            let store = try await makeStore(folder.path)
            try await store.write([view: [KeyedOnlineRow(key: key("a"), row: row(1))]], checkpoint: checkpoint)
        }
        let store = try await makeStore(folder.path)
        #expect(try store.read(key("a"), from: view) == row(1))
        #expect(try await store.checkpoint(Name(static: "writer")) == checkpoint)
    }
}
