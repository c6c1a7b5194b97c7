import ModelRegistry
import PlatformCore
import Testing

/// What an `MLmodel` file may be, when somebody else writes it.
struct MLmodelFileTests {
    /// Every level stands for eight of the one before, and the last is a key: to compare keys is to walk through them all.
    private func nested(_ levelCount: Int, before mark: String = "") -> String {
        var lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
        for level in 1..<levelCount {
            let aliases = Array(repeating: "\(mark)*a\(level - 1)", count: 8).joined(separator: ", ")
            lines.append("a\(level): &a\(level) [\(aliases)]")
        }
        return (lines + ["? *a\(levelCount - 1)", ": 1"]).joined(separator: "\n")
    }

    @Test(arguments: ["", "\u{85}", "\u{2028}", "\u{2029}"]) func aliasesThatDoubleEachOtherAreRefused(mark: String) {
        #expect(throws: PlatformError(.invalidInput, "MLmodel", "it has more than 20 YAML aliases (*name)")) {
            try MLmodelFile(Array(nested(20, before: mark).utf8))
        }
    }

    @Test func fewAliasesAndAnyNumberOfAsterisksAreRead() throws {
        let shared = "flavors:\n  python_function: &f {python_version: '3.11'}\n  sklearn: *f\n"
        #expect(try MLmodelFile(Array(shared.utf8)).flavors.keys.sorted() == ["python_function", "sklearn"])
        let starred = "flavors: {python_function: {}}\nmetadata:\n  note: " + String(repeating: "*so* ", count: 50)
        #expect(try MLmodelFile(Array("\(starred)".replacing("note: ", with: "note: see ").utf8)).framework != "")
    }
}
