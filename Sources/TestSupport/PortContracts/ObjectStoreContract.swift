import Foundation
import PlatformTesting
public import StoragePorts
import Testing

/// What every `ObjectStore` promises; a test of an adapter calls one function per promise.
public struct ObjectStoreContract: Sendable {
    private let makeStore: @Sendable (_ folder: String) async throws -> any ObjectStore

    /// - Parameter makeStore: opens a store that keeps what it has, if it keeps it in files, in this folder.
    public init(_ makeStore: @escaping @Sendable (_ folder: String) async throws -> any ObjectStore) {
        self.makeStore = makeStore
    }

    private func withStore(_ body: (any ObjectStore) async throws -> Void) async throws {
        let folder = try TemporaryFolder("objects")
        try await body(makeStore(folder.path))
        withExtendedLifetime(folder) {}
    }

    /// What was put is what is read, for empty and large objects as well.
    public func givesBackWhatWasPut() async throws {
        try await withStore { store in
            var generator = SplitMix64(seed: 1)
            for (position, byteCount) in [0, 1, 4_096, 1_000_003].enumerated() {
                let bytes = generator.bytes(byteCount)
                try await store.put(bytes, at: "parts/part=\(position)/A_b-1.bin")
                #expect(try await store.get("parts/part=\(position)/A_b-1.bin", byteCountMax: byteCount) == bytes)
                let info = try await store.info("parts/part=\(position)/A_b-1.bin")
                #expect(info == ObjectInfo(key: "parts/part=\(position)/A_b-1.bin", byteCount: byteCount))
            }
        }
    }
    /// A key is written once; a second put changes nothing.
    public func neverReplacesAnObject() async throws {
        try await withStore { store in
            try await store.put([1], at: "a/b")
            await expectRefusal(.conflict) { try await store.put([2, 2], at: "a/b") }
            #expect(try await store.get("a/b", byteCountMax: 10) == [1])
        }
    }
    /// Of many writers of one key, one wins, and its bytes are there whole.
    public func letsOneOfManyWritersWin() async throws {
        try await withStore { store in
            let winners: [UInt8] = await withTaskGroup(of: UInt8?.self) { group in
                for writer in UInt8(0)..<16 {
                    group.addTask {
                        do throws(StoreError) {
                            try await store.put(Array(repeating: writer, count: 10_000), at: "race/key")
                            return writer
                        } catch { return error.code == .conflict ? nil : 255 }
                    }
                }
                return await group.reduce(into: [UInt8]()) { if let winner = $1 { $0.append(winner) } }
            }
            let winner = try #require(winners.first)
            #expect(winners.count == 1 && winner < 16)
            #expect(try await store.get("race/key", byteCountMax: 10_000) == Array(repeating: winner, count: 10_000))
        }
    }
    /// A key that is none of the allowed is refused by every call.
    public func refusesKeysThatAreNone() async throws {
        try await withStore { store in
            let long = String(repeating: "a", count: 1_025)
            for key in [
                "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a b", "a\0b", "ä", "a\\b", long,
            ] {
                await expectRefusal(.invalidInput) { try await store.put([1], at: key) }
                await expectRefusal(.invalidInput) { _ = try await store.get(key, byteCountMax: 1) }
                await expectRefusal(.invalidInput) { _ = try await store.info(key) }
                await expectRefusal(.invalidInput) { try await store.delete(key) }
                await expectRefusal(.invalidInput) { _ = try await store.localPath(of: key) }
            }
            let kept = try await store.list(prefix: "")
            #expect(kept.isEmpty)
        }
    }
    /// What is not there is not found, and removing it is nothing.
    public func saysWhatIsNotThere() async throws {
        try await withStore { store in
            await expectRefusal(.notFound) { _ = try await store.get("no/thing", byteCountMax: 1) }
            await expectRefusal(.notFound) { _ = try await store.localPath(of: "no/thing") }
            #expect(try await store.info("no/thing") == nil)
            try await store.delete("no/thing")
            try await store.put([1], at: "no/thing")
            try await store.delete("no/thing")
            #expect(try await store.info("no/thing") == nil)
            try await store.put([2], at: "no/thing")
        }
    }
    /// An object over the reader's limit is not read.
    public func keepsToTheReadersLimit() async throws {
        try await withStore { store in
            try await store.put([1, 2, 3], at: "x")
            await expectRefusal(.limitExceeded) { _ = try await store.get("x", byteCountMax: 2) }
            #expect(try await store.get("x", byteCountMax: 3) == [1, 2, 3])
        }
    }
    /// A listing has the keys with the prefix, which need not end at a slash, in byte order.
    public func listsByPrefixInByteOrder() async throws {
        try await withStore { store in
            let keys = ["a/b", "a/bc/d", "a/c", "a-b", "a.b", "B", "ab/c", "a/B"]
            for key in keys { try await store.put(Array(key.utf8), at: key) }
            for prefix in ["", "a", "a/", "a/b", "a/bc/", "B", "x", "a/b/c", "../", "a//"] {
                let expected = keys.filter { $0.hasPrefix(prefix) }
                    .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
                #expect(
                    try await store.list(prefix: prefix)
                        == expected.map { ObjectInfo(key: $0, byteCount: $0.utf8.count) }, "\(prefix)")
            }
        }
    }
    /// Files go in by copy or by adoption, and come out by path.
    public func takesAndGivesFiles() async throws {
        try await withStore { store in
            let bytes = Array("column,other\n1,2\n".utf8)
            let staged = try await store.stagingPath(suffix: ".csv")
            #expect(staged.hasSuffix(".csv"))
            try Data(bytes).write(to: URL(fileURLWithPath: staged))
            try await store.put(fileAt: staged, at: "copied.csv")
            try await store.adopt(stagedFileAt: staged, at: "adopted.csv")
            #expect(!FileManager.default.fileExists(atPath: staged))
            for key in ["copied.csv", "adopted.csv"] {
                let path = try await store.localPath(of: key)
                #expect(FileManager.default.contents(atPath: path).map { Array($0) } == bytes)
            }
            let second = try await store.stagingPath(suffix: "")
            try Data([9]).write(to: URL(fileURLWithPath: second))
            await expectRefusal(.conflict) { try await store.adopt(stagedFileAt: second, at: "adopted.csv") }
            await expectRefusal(.conflict) { try await store.put(fileAt: second, at: "adopted.csv") }
            #expect(try await store.get("adopted.csv", byteCountMax: 100) == bytes)
            await expectRefusal(.notFound) { try await store.put(fileAt: "/nowhere/at/all", at: "new") }
            await expectRefusal(.invalidInput) { try await store.adopt(stagedFileAt: "/etc/hostname", at: "new") }
        }
    }
    /// A store that is opened again has what was put before.
    ///
    /// Not for stores in memory.
    public func survivesReopening() async throws {
        let folder = try TemporaryFolder("objects")
        do { try await makeStore(folder.path).put([1, 2], at: "kept/here") }
        #expect(try await makeStore(folder.path).get("kept/here", byteCountMax: 2) == [1, 2])
    }
}
