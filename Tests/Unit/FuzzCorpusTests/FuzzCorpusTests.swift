import Foundation
import FuzzTargets
import Testing

/// Inputs that once hurt a reader, and those it begins with, do not hurt it.
struct FuzzCorpusTests {
    /// A folder for each target; a file for each input that was found by `make fuzz`.
    private static let corpus = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("Corpus")

    @Test(.timeLimit(.minutes(5)), arguments: FuzzTarget.all.map(\.name))
    func whatWasFoundIsHarmless(name: String) throws {
        let target = try #require(FuzzTarget.all.first { $0.name == name })
        #expect(!target.seeds.isEmpty)
        for seed in target.seeds {
            target.run(seed)
            // Cut short anywhere.
            for length in stride(from: 0, to: seed.count, by: max(1, seed.count / 64)) {
                target.run(Array(seed.prefix(length)))
            }
        }
        let folder = Self.corpus.appendingPathComponent(name)
        let found = (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? []
        for file in found { target.run(Array(try Data(contentsOf: file))) }
    }

    @Test func everyFolderHasItsTarget() throws {
        let folders = try FileManager.default.contentsOfDirectory(atPath: Self.corpus.path)
        let names = Set(FuzzTarget.all.map(\.name))
        #expect(folders.filter { !$0.contains(".") && !names.contains($0) } == [])
    }
}
