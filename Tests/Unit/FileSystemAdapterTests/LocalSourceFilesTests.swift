import FileSystemAdapter
import Foundation
import StoragePorts
import Testing

struct LocalSourceFilesTests {
    private let folder = NSTemporaryDirectory() + "source-files-\(UUID().uuidString)"

    private func write(_ names: [String]) throws {
        for name in names {
            let url = URL(filePath: "\(folder)/\(name)")
            try FileManager.default.createDirectory(
                at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(name.utf8).write(to: url)
        }
    }

    private func found(_ pattern: String) async throws -> [String] {
        try await LocalSourceFiles().list("\(folder)/\(pattern)").map {
            String($0.location.dropFirst(folder.utf8.count + 1))
        }
    }

    @Test func findsTheFilesOfAFolderAndOfPatterns() async throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try write([
            "b.csv", "a.csv", "x/c.csv", "x/y/d.csv", ".hidden.csv", "_started", "x/_temporary/e.csv", "ä ö.csv",
        ])
        #expect(try await found("") == ["a.csv", "b.csv", "x/c.csv", "x/y/d.csv", "ä ö.csv"])
        #expect(try await found("*.csv") == ["a.csv", "b.csv", "ä ö.csv"])
        #expect(try await found("?.csv") == ["a.csv", "b.csv"])
        #expect(try await found("**/?.csv") == ["a.csv", "b.csv", "x/c.csv", "x/y/d.csv"])
        #expect(try await found("x/**/*.csv") == ["x/c.csv", "x/y/d.csv"])
        #expect(try await found("x/*/d*") == ["x/y/d.csv"])
        #expect(try await found("a.csv") == ["a.csv"])
        await #expect(throws: StoreError.self) { try await found("*.parquet") }
        await #expect(throws: StoreError.self) { try await found("none") }
    }

    @Test func anotherStampFollowsAnotherContent() async throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try write(["a.csv"])
        let before = try await LocalSourceFiles().list("\(folder)/a.csv")
        #expect(try await LocalSourceFiles().list("\(folder)/a.csv") == before)
        try await Task.sleep(for: .milliseconds(20))
        try Data("other".utf8).write(to: URL(filePath: "\(folder)/a.csv"))
        #expect(try await LocalSourceFiles().list("\(folder)/a.csv") != before)
    }
}
