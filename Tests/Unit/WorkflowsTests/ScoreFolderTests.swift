import Foundation
import PlatformCore
import PlatformTesting
import Testing

@testable import Workflows

/// A partition of scores is there whole, whatever moment a crash chooses.
struct ScoreFolderTests {
    private func folder(_ root: TemporaryFolder) throws -> ScoreFolder {
        ScoreFolder(root: root.path, table: try #require(Name("delays")), date: "2026-11-21")
    }

    private func part(_ folder: ScoreFolder, _ text: String) throws {
        try folder.prepare()
        try folder.write(["request": .string(text)], to: "state.json")
        try Data(text.utf8).write(to: URL(fileURLWithPath: "\(folder.out)/\(ScoreFolder.partName(0))"))
    }

    private func published(_ folder: ScoreFolder) -> String? {
        FileManager.default.contents(atPath: "\(folder.final)/\(ScoreFolder.partName(0))")
            .map { String(decoding: $0, as: UTF8.self) }
    }

    @Test func theNextPartitionTakesThePlaceOfTheFormer() throws {
        let root = try TemporaryFolder()
        let folder = try folder(root)
        for text in ["first", "second", "third"] {
            try part(folder, text)
            try folder.publish()
            #expect(published(folder) == text)
            #expect(!FileManager.default.fileExists(atPath: folder.work), "nothing of the former is left")
        }
    }

    @Test func whatEarlierVersionsLeftIsClearedAway() throws {
        let root = try TemporaryFolder()
        let (folder, files) = (try folder(root), FileManager.default)
        try part(folder, "first")
        try folder.publish()
        let table = URL(fileURLWithPath: folder.final).deletingLastPathComponent().path
        // One day that stood aside, and one that has its place.
        try files.createDirectory(atPath: "\(table)/.date=2026-11-20", withIntermediateDirectories: true)
        try files.createDirectory(atPath: "\(table)/.date=2026-11-21/old", withIntermediateDirectories: true)
        try files.copyItem(atPath: folder.final, toPath: "\(table)/.date=2026-11-20/old")
        ScoreFolder.clearFormerWork(in: root.path)
        #expect(try files.contentsOfDirectory(atPath: table).sorted() == ["date=2026-11-20", "date=2026-11-21"])
        #expect(published(folder) == "first")
        #expect(files.fileExists(atPath: "\(table)/date=2026-11-20/\(ScoreFolder.partName(0))"))
    }

    /// Two renames, where two folders cannot change places, and a crash between them.
    @Test func aFormerPartitionThatStandsAsideIsPutBack() throws {
        let root = try TemporaryFolder()
        let folder = try folder(root)
        try part(folder, "first")
        try folder.publish()
        try part(folder, "second")
        try FileManager.default.moveItem(atPath: folder.final, toPath: "\(folder.work)/old")
        #expect(published(folder) == nil)
        folder.recover()
        #expect(published(folder) == "first")
        folder.recover()
        #expect(published(folder) == "first")
        try folder.publish()
        #expect(published(folder) == "second")
    }
}
