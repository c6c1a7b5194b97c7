import Foundation
import PlatformCore
import Testing

struct FileCallsTests {
    private func folder() throws -> URL {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("file-calls-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        return url
    }

    @Test func twoFoldersChangePlaces() throws {
        let root = try folder()
        defer { try? FileManager.default.removeItem(at: root) }
        for name in ["a", "b"] {
            let folder = root.appendingPathComponent(name)
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try Data(name.utf8).write(to: folder.appendingPathComponent("file"))
        }
        try #require(FileCalls.exchange("\(root.path)/a", "\(root.path)/b"))
        #expect(FileManager.default.contents(atPath: "\(root.path)/a/file") == Data("b".utf8))
        #expect(FileManager.default.contents(atPath: "\(root.path)/b/file") == Data("a".utf8))
        #expect(!FileCalls.exchange("\(root.path)/a", "\(root.path)/c"))
    }

    @Test func whatIsNotThereCannotBeSynchronized() throws {
        let root = try folder()
        defer { try? FileManager.default.removeItem(at: root) }
        try FileCalls.synchronize(root.path)
        #expect(throws: FileCallFailure.self) { try FileCalls.synchronize("\(root.path)/none") }
    }

    @Test(arguments: [nil, 1, 5, 1000])
    func piecesFollowEachOtherFromTheirPlace(windowByteCount: Int?) throws {
        let root = try folder()
        defer { try? FileManager.default.removeItem(at: root) }
        let descriptor = open("\(root.path)/file", O_CREAT | O_RDWR, 0o600)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        var stream = FileStream(into: descriptor, from: 3, windowByteCount: windowByteCount)
        for piece in ["one ", "", "two ", "three"] {
            let bytes = Array(piece.utf8)
            try bytes.withUnsafeBytes { try stream.write($0) }
        }
        stream.begin()
        #expect(stream.position == 3 + 13)
        #expect(
            FileManager.default.contents(atPath: "\(root.path)/file") == Data([0, 0, 0] + Array("one two three".utf8)))
    }

    @Test func aFileThatMayNotBeWrittenIsAFailure() throws {
        let descriptor = open("/dev/null", O_RDONLY)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        var stream = FileStream(into: descriptor, windowByteCount: nil)
        #expect(throws: FileCallFailure.self) { try [1 as UInt8].withUnsafeBytes { try stream.write($0) } }
        #expect(stream.position == 0)
    }
}
