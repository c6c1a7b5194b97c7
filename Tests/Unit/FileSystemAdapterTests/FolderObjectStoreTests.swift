import FileSystemAdapter
import Foundation
import PlatformTesting
import StoragePorts
import Testing

@Suite struct FolderObjectStoreTests {
    @Test func neverFollowsSymbolicLinks() async throws {
        let folder = try TemporaryFolder("objects")
        let outside = try TemporaryFolder("outside")
        let store = try FolderObjectStore(directory: folder.path)
        try await store.put([1], at: "a/b")
        try Data([42]).write(to: URL(fileURLWithPath: outside.path + "/secret"))
        let files = FileManager.default
        try files.createSymbolicLink(atPath: folder.path + "/objects/link", withDestinationPath: outside.path)
        try files.createSymbolicLink(
            atPath: folder.path + "/objects/a/file", withDestinationPath: outside.path + "/secret")
        for key in ["link/secret", "link/new", "a/file"] {
            await #expect(throws: StoreError.self) { try await store.put([2], at: key) }
            await #expect(throws: StoreError.self) { _ = try await store.get(key, byteCountMax: 10) }
            await #expect(throws: StoreError.self) { _ = try await store.info(key) }
            await #expect(throws: StoreError.self) { _ = try await store.localPath(of: key) }
        }
        await #expect(throws: StoreError.self) { try await store.delete("link/secret") }
        #expect(try await store.list(prefix: "").map(\.key) == ["a/b"])
        #expect(try files.contentsOfDirectory(atPath: outside.path) == ["secret"])
        let staged = try await store.stagingPath(suffix: ".x")
        try files.createSymbolicLink(atPath: staged, withDestinationPath: outside.path + "/secret")
        await #expect(throws: StoreError.self) { try await store.adopt(stagedFileAt: staged, at: "stolen") }
    }

    @Test func leavesNothingBehindWhenItRefuses() async throws {
        let folder = try TemporaryFolder("objects")
        let store = try FolderObjectStore(directory: folder.path)
        try await store.put([1], at: "a")
        await #expect(throws: StoreError.self) { try await store.put([2], at: "a") }
        await #expect(throws: StoreError.self) { try await store.put([2], at: "a/below") }
        await #expect(throws: StoreError.self) { try await store.put(fileAt: folder.path, at: "b") }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path + "/staging").isEmpty)
        #expect(try await store.list(prefix: "").map(\.key) == ["a"])
    }

    @Test func removesStagedFilesThatNobodyTouchedForADay() async throws {
        let folder = try TemporaryFolder("objects")
        var store = try FolderObjectStore(directory: folder.path)
        let paths = [try await store.stagingPath(suffix: "-old"), try await store.stagingPath(suffix: "-new")]
        for path in paths { try Data([1]).write(to: URL(fileURLWithPath: path)) }
        try FileManager.default.setAttributes(
            [.modificationDate: Date(timeIntervalSinceNow: -90_000)], ofItemAtPath: paths[0])
        store = try FolderObjectStore(directory: folder.path)
        #expect(paths.map(FileManager.default.fileExists) == [false, true])
        try await store.adopt(stagedFileAt: paths[1], at: "new")
    }
}
