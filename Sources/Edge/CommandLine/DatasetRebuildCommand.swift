import ArgumentParser
import Foundation
import PlatformCore

extension DatasetCommand {
    struct Rebuild: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make an old training set again and say whether it is the same (exit code 3 if it is not).",
            discussion: """
                The definitions, feature versions, table versions and questions are those that its manifest names; the hash and \
                the bytes of every file are compared.
                """)
        @Argument(help: "Hash of the training set.") var hash: String
        @Option(help: "A folder to write the slices to, as SLICE.parquet, and the manifest.") var out: String?
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let started = try await client.post("/api/v1/datasets/\(hash)/rebuild", [:])
            let result = try await client.wait(for: started, label: "dataset rebuild", quiet: server.json)
            let rebuilt = result["rebuilt"]?.stringValue ?? ""
            if let out { try await DatasetCommand.write(rebuilt, to: out, client) }
            show(result) { Self.describe($0, out: out) }
            if result["equal"]?.boolValue != true {
                throw CommandFailure(exitCode: 3, description: "the training set is not what it was")
            }
        }

        private static func describe(_ result: JSONValue, out: String?) -> String {
            let rows = Human.cell(result["rows"])
            var lines: [String]
            if result["equal"]?.boolValue == true {
                lines = [
                    "equal: \(rows) rows, the same hash and the same bytes \(result["dataset"]?.stringValue ?? "")"
                ]
            } else {
                lines = [
                    "NOT equal: \(rows) rows, \(result["rebuilt"]?.stringValue ?? "") instead of \(result["dataset"]?.stringValue ?? "")"
                        + (result["equal_files"]?.boolValue == true ? "; the files have the same bytes" : "")
                ]
                for difference in result["differences"]?.arrayValue ?? [] {
                    lines.append(
                        "  \(difference["what"]?.stringValue ?? ""): \(difference["before"]?.stringValue ?? "") then, "
                            + "\(difference["after"]?.stringValue ?? "") now")
                }
            }
            lines.append("  made with revision \(Human.cell(result["revision"])) of the definitions")
            if let out { lines.append("  written to \(out)") }
            return lines.joined(separator: "\n")
        }
    }
}
