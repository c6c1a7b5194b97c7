import ArgumentParser
import Foundation
import PlatformCore

/// Reads definition files of a folder.
enum DefinitionFiles {
    static func read(_ path: String) throws -> JSONValue {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw CommandFailure(exitCode: 2, description: "\(path): no such file or folder")
        }
        var paths = [path]
        if isFolder.boolValue {
            guard let names = FileManager.default.enumerator(atPath: path) else {
                throw CommandFailure(exitCode: 2, description: "\(path): cannot be read")
            }
            let folder = path.hasSuffix("/") ? String(path.dropLast()) : path
            paths = names.compactMap { $0 as? String }
                .filter {
                    ($0.hasSuffix(".yaml") || $0.hasSuffix(".yml"))
                        && !$0.split(separator: "/").contains { $0.hasPrefix(".") }
                }
                .sorted().map { "\(folder)/\($0)" }
            guard !paths.isEmpty else {
                throw CommandFailure(exitCode: 2, description: "\(path): holds no .yaml file")
            }
        }
        return .array(
            try paths.map { file in
                guard let data = FileManager.default.contents(atPath: file) else {
                    throw CommandFailure(exitCode: 2, description: "\(file): cannot be read")
                }
                guard let text = String(data: data, encoding: .utf8) else {
                    throw CommandFailure(exitCode: 2, description: "\(file): is not UTF-8 text")
                }
                let folder = URL(fileURLWithPath: file).deletingLastPathComponent().standardizedFileURL.path
                return ["path": .string(file), "folder": .string(folder), "text": .string(text)]
            })
    }

    static func describe(_ answer: JSONValue, applied: Bool) -> String {
        PlanText(answer: answer, isApplied: applied).text
    }
}

struct Plan: ClientCommand {
    static let configuration = CommandConfiguration(abstract: "Show what 'apply' would change and what that touches.")
    @Argument(help: "A definition file, or a folder of them.") var path: String
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        let answer = try await client.post(
            "/api/v1/apply", ["files": try DefinitionFiles.read(path), "dry_run": true])
        show(answer) { DefinitionFiles.describe($0, applied: false) }
    }
}

struct Apply: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make the platform's definitions those of a folder, in one transaction.")
    @Argument(help: "A definition file, or a folder of them.") var path: String
    @Flag(help: "Wait until new versions of feature views are built from history.") var wait = false
    @Flag(help: "Remove also what is in use.") var force = false
    @Flag(help: "Let rows leave their tables where a source's retention became shorter; 'plan' says how many.")
    var yes = false
    @Option(help: "Refuse if another revision than this one is in force: that of a 'plan --json'.")
    var expectRevision: Int?
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        var body: [String: JSONValue] = ["files": try DefinitionFiles.read(path), "dry_run": false]
        if force { body["force"] = true }
        if yes { body["confirmed"] = true }
        if let expectRevision { body["expected_revision"] = .integer(Int64(expectRevision)) }
        let answer = try await client.post("/api/v1/apply", .object(body))
        if wait { try await FeaturesCommand.wait(client, quiet: server.json) }
        show(answer) { answer in
            let building = (answer["backfilling"]?.arrayValue ?? []).compactMap(\.stringValue)
            let text = DefinitionFiles.describe(answer, applied: true)
            guard !building.isEmpty, !wait else { return text }
            return text
                + "\n\(building.count) versions are built from history (\(building.prefix(3).joined(separator: ", "))"
                + (building.count > 3 ? ", …" : "")
                + "): 'bottega features status' says how far; until then the versions before them answer"
        }
    }
}

struct DatasetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dataset", abstract: "Build, list, show and export point-in-time training sets.",
        discussion:
            "Wherever a training set's hash is asked for, its first 8 digits or more do where one alone begins so.",
        subcommands: [Build.self, List.self, Show.self, Export.self, Check.self, Rebuild.self])

    struct Build: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Build a training set; its name is the hash of its content.")
        @Argument(help: "The training set's definition.") var trainingSet: String
        @Option(help: "First moment of prediction, RFC 3339 or a date.") var from: String
        @Option(help: "End of the span, not included.") var to: String
        @Option(help: "Use only what was known by then. Default: --to plus the label's horizon, at most now.")
        var asOf: String?
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            var body: [String: JSONValue] = [
                "training_set": .string(trainingSet), "from": .string(from), "to": .string(to),
            ]
            if let asOf { body["as_of"] = .string(asOf) }
            let started: JSONValue
            do { started = try await client.post("/api/v1/datasets", .object(body)) } catch let failure
                as CommandFailure
            {
                throw Self.namingOptions(failure)
            }
            let result = try await client.wait(for: started, label: "dataset build", quiet: server.json)
            show(result, DatasetCommand.describe)
        }

        /// The failure with the names that the fields of the request have here.
        private static func namingOptions(_ failure: CommandFailure) -> CommandFailure {
            var text = failure.description
            for (field, option) in [("from", "--from"), ("to", "--to"), ("as_of", "--as-of")] {
                text = text.replacing("request body: '\(field)'", with: option)
            }
            return CommandFailure(exitCode: failure.exitCode, description: text, answer: failure.answer)
        }
    }

    struct Show: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Show the manifest of a training set.")
        @Argument(help: "Its hash.") var hash: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            print(try await client.get("/api/v1/datasets/\(hash)").prettyText)
        }
    }

    struct Check: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Look for leakage: what a model could not know when it predicts (exit code 3 if there is any).",
            discussion: """
                Values newer than the knowledge of their moment, inputs that tell the label alone, views that see the question's \
                own label, moments in the future, rows and entities in several slices.
                """)
        @Argument(help: "Hash of the training set.") var hash: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let started = try await client.post("/api/v1/datasets/\(hash)/check", [:])
            let result = try await client.wait(for: started, label: "dataset check", quiet: server.json)
            show(result) { result in
                let findings = result["findings"]?.arrayValue ?? []
                var lines = [
                    findings.isEmpty
                        ? "nothing found: \((result["checks"]?.arrayValue ?? []).count) kinds of leakage looked for in \(Human.cell(result["rows"])) rows"
                        : "\(findings.count) findings in \(Human.cell(result["rows"])) rows"
                ]
                for finding in findings {
                    lines.append(
                        "  \(finding["severity"]?.stringValue == "leak" ? "LEAK   " : "warning")  \(finding["detail"]?.stringValue ?? "")"
                    )
                    lines.append("           \(finding["advice"]?.stringValue ?? "")")
                }
                let power = (result["power"]?.objectValue ?? [:]).compactMapValues(\.doubleValue)
                    .sorted { ($1.value, $0.key) < ($0.value, $1.key) }.prefix(3)
                    .map { "\($0.key) \(($0.value * 1000).rounded() / 1000)" }
                if !power.isEmpty { lines.append("  strongest inputs alone (AUC): \(power.joined(separator: ", "))") }
                return lines.joined(separator: "\n")
            }
            if result["clean"]?.boolValue == false {
                throw CommandFailure(exitCode: 3, description: "the training set leaks")
            }
        }
    }

    static func describe(_ result: JSONValue) -> String {
        let slices = (result["slices"]?.objectValue ?? [:]).sorted { $0.key < $1.key }
            .map { "\($0.key) \(Human.cell($0.value))" }.joined(separator: ", ")
        return "dataset \(result["dataset"]?.stringValue ?? "")\n"
            + "\(Human.cell(result["rows"])) rows (\(slices)), built in \(Human.cell(result["seconds"])) s"
            + (result["warnings"]?.arrayValue ?? []).map { "\nWARNING  \($0.stringValue ?? "")" }.joined()
    }
}
