import ArgumentParser
import Foundation
import PlatformCore

extension DatasetCommand {
    struct List: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "List training sets that were built, newest first.")
        @Option(help: "Only those of this definition.") var trainingSet: String?
        @Option(help: "How many at most, up to 1000.") var limit = 100
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            var query = ["limit": String(limit)]
            query["training_set"] = trainingSet
            show(try await client.get("/api/v1/datasets", query: query), Self.describe)
        }

        private static func describe(_ answer: JSONValue) -> String {
            let datasets = answer["datasets"]?.arrayValue ?? []
            guard !datasets.isEmpty else { return "no training sets; 'bottega dataset build' makes one" }
            let table = Human.table(
                ["DATASET", "TRAINING SET", "SERVICE", "FROM", "TO", "ROWS", "BUILT"],
                datasets.map { dataset in
                    [String(Human.cell(dataset["dataset"]).prefix(12))]
                        + ["training_set", "service", "from", "to", "rows", "built_at"].map { Human.cell(dataset[$0]) }
                })
            return answer["next_page_token"]?.stringValue == nil ? table : table + "\nand more: --limit shows them"
        }
    }

    struct Export: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a training set's rows to Parquet files.",
            discussion: """
                Example: bottega dataset export 54e934bd train.parquet --slice train
                Without --slice, OUT is a folder that gets every slice as SLICE.parquet, and the manifest.
                """)
        @Argument(help: "Hash of the training set, or its first digits.") var hash: String
        @Argument(help: "A file for one slice, or a folder for all.") var out: String
        @Option(help: "train, validation or test.") var slice: String?
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            guard slice != nil || !out.lowercased().hasSuffix(".parquet") else {
                throw CommandFailure(
                    exitCode: 2,
                    description:
                        "'\(out)' is one file: say of which slice, such as --slice train, or name a folder for all")
            }
            let answer = try await client.get("/api/v1/datasets/\(hash)")
            let dataset = answer["dataset"]?.stringValue ?? hash
            let slices = answer["manifest"]?["slices"]?.arrayValue ?? []
            if let slice {
                try await client.download("/api/v1/datasets/\(dataset)/slices/\(slice)", to: out)
            } else {
                try await DatasetCommand.write(dataset, to: out, client)
            }
            let written = slices.filter { slice == nil || $0["name"]?.stringValue == slice }
            let rows = written.map { "\(Human.cell($0["name"])) \(Human.cell($0["rows"]))" }.joined(separator: ", ")
            show([
                "dataset": .string(dataset), "out": .string(out),
                "slices": .array(written.map { $0["name"] ?? .null }),
            ]) { _ in "\(rows) rows of dataset \(dataset.prefix(12)) written to \(out)" }
        }
    }

    /// Writes every slice to a folder, as SLICE.parquet, and the manifest.
    static func write(_ dataset: String, to folder: String, _ client: APIClient) async throws {
        do { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) } catch {
            throw CommandFailure(exitCode: 2, description: "\(folder): cannot be made (\(error.localizedDescription))")
        }
        let answer = try await client.get("/api/v1/datasets/\(dataset)")
        for slice in answer["manifest"]?["slices"]?.arrayValue ?? [] {
            let name = slice["name"]?.stringValue ?? ""
            try await client.download("/api/v1/datasets/\(dataset)/slices/\(name)", to: "\(folder)/\(name).parquet")
        }
        try Data((answer.prettyText + "\n").utf8).write(to: URL(fileURLWithPath: "\(folder)/manifest.json"))
    }
}
