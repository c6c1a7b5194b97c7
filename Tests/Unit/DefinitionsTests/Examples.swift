import Definitions
import Foundation
import PlatformCore
import Testing

/// The example project as it lies in the repository, and small changes of it.
enum Examples {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    static func files(operations: String = "flights") throws -> [DefinitionFile] {
        try ["entities", "sources", "features", "model", "operations"].map { name in
            let folder = root.appending(path: "examples/\(name == "operations" ? operations : "flights")")
            let text = try String(contentsOf: folder.appending(path: "\(name).yaml"), encoding: .utf8)
            return DefinitionFile(path: "\(name).yaml", folder: folder.path(), text: text)
        }
    }

    /// The files with the first `old` in one of them replaced by `new`.
    static func files(in file: String, replacing old: String, with new: String) throws -> [DefinitionFile] {
        try files().map { original in
            guard original.path == "\(file).yaml" else { return original }
            let range = try #require(original.text.range(of: old), "\(file).yaml does not say '\(old)'")
            return DefinitionFile(
                path: original.path, folder: original.folder,
                text: original.text.replacingCharacters(in: range, with: new)
            )
        }
    }

    /// The faults of files that must have some.
    static func faults(_ files: [DefinitionFile]) throws -> [PlatformError] {
        let thrown = #expect(throws: DefinitionErrors.self) { try DefinitionCompiler.compile(files) }
        return try #require(thrown).errors
    }

    /// `file:line` of the first place of `text` in a set of files.
    static func place(of text: String, in files: [DefinitionFile]) throws -> String {
        for file in files {
            guard let range = file.text.range(of: text) else { continue }
            return "\(file.path):\(file.text[..<range.lowerBound].count { $0 == "\n" } + 1)"
        }
        Issue.record("no file says '\(text)'")
        return ""
    }
}
