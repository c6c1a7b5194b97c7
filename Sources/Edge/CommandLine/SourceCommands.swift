import ArgumentParser
import Foundation
import PlatformCore

struct Ingest: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Load files into a source under its contract, or fetch what is new where its definition says.",
        discussion: "A folder stands for the files in it and below. Loading the same file again changes nothing.")
    @Argument(help: "The source.") var source: String
    @Argument(help: ".csv, .parquet, .ndjson or .jsonl files, also with .gz or .zst, or folders. None: pull.")
    var paths: [String] = []
    @Option(help: "csv, parquet or ndjson. Default: by the file's name.") var format: String?
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        guard !paths.isEmpty else {
            let started = try await client.post("/api/v1/sources/\(source)/pull")
            let result = try await client.wait(for: started, label: "ingest \(source)", quiet: server.json)
            show(result, describePull)
            return
        }
        let files = try paths.flatMap(Self.files)
        var results: [JSONValue] = []
        for file in files { results.append(try await load(file, client)) }
        if results.count == 1 {
            show(results[0]) { describe($0, name: "this file") }
        } else {
            show(["loads": .array(results)]) { _ in
                results.map { describe($0, name: Human.cell($0["file"])) }.joined(separator: "\n")
            }
        }
    }

    private static let formats = [
        "csv": "csv", "parquet": "parquet", "ndjson": "ndjson", "jsonl": "ndjson", "json": "ndjson",
    ]

    private static func format(of file: String) -> String? {
        let packed = [".gz", ".zst"].first { file.lowercased().hasSuffix($0) }
        let name = String(file.dropLast(packed?.count ?? 0))
        return formats[URL(fileURLWithPath: name).pathExtension.lowercased()]
    }

    /// The files of a path: itself, or those of a folder that have a known name, in order.
    private static func files(_ path: String) throws -> [String] {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue else {
            return [path]
        }
        let folder = path.hasSuffix("/") ? String(path.dropLast()) : path
        let names = (FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []).filter { name in
            format(of: name) != nil && !name.split(separator: "/").contains { $0.hasPrefix(".") || $0.hasPrefix("_") }
        }
        guard !names.isEmpty else {
            throw CommandFailure(exitCode: 2, description: "\(path): holds no .csv, .parquet, .ndjson or .jsonl file")
        }
        return names.sorted().map { "\(folder)/\($0)" }
    }

    private func load(_ file: String, _ client: APIClient) async throws -> JSONValue {
        guard let format = format ?? Self.format(of: file) else {
            throw CommandFailure(exitCode: 2, description: "\(file): say its format with --format csv|parquet|ndjson")
        }
        let started = try await client.send(
            "POST", "/api/v1/sources/\(source)/load",
            query: ["name": URL(fileURLWithPath: file).lastPathComponent, "format": format], body: .file(file))
        return try await client.wait(for: started, label: "ingest \(source)", quiet: server.json)
    }

    private func describePull(_ result: JSONValue) -> String {
        let loads = result["loads"]?.arrayValue ?? []
        let unchanged = result["files_unchanged"]?.integerValue ?? 0
        var lines = loads.map { describe($0, name: Human.cell($0["file"])) }
        if unchanged > 0 { lines.append("\(source): \(unchanged) files are loaded already") }
        if lines.isEmpty { lines.append("\(source): nothing new") }
        return lines.joined(separator: "\n")
    }

    private func describe(_ result: JSONValue, name: String) -> String {
        if result["already_loaded"]?.boolValue == true {
            return "\(source): \(name) is loaded already; nothing changed"
        }
        func number(_ key: String) -> String { Human.cell(result[key]) }
        var text = "\(source): \(number("rows_accepted")) rows accepted of \(number("rows_read")), "
        text += "\(number("rows_quarantined")) quarantined, \(number("rows_duplicate")) duplicates, "
        let leftOut = (result["rows_filtered"]?.integerValue ?? 0) + (result["rows_sampled_out"]?.integerValue ?? 0)
        if leftOut > 0 { text += "\(Human.count(Double(leftOut))) left out, " }
        text += "\(number("seconds")) s"
        for (reason, count) in (result["reasons"]?.objectValue ?? [:]).sorted(by: { $0.key < $1.key }) {
            text += "\n  quarantined \(Human.cell(count)): \(reason)"
        }
        for (reason, count) in (result["warnings"]?.objectValue ?? [:]).sorted(by: { $0.key < $1.key }) {
            text += "\n  warned \(Human.cell(count)): \(reason)"
        }
        let ignored = (result["ignored_columns"]?.arrayValue ?? []).compactMap(\.stringValue)
        if !ignored.isEmpty { text += "\n  dropped columns: \(ignored.joined(separator: ", "))" }
        for change in result["schema_changes"]?.arrayValue ?? [] { text += "\n  \(Human.cell(change))" }
        return text
    }
}

struct DataCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data", abstract: "Show what the expectations on loads found.", subcommands: [Checks.self])

    struct Checks: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show what the expectations found in the last loads of a source.")
        @Argument(help: "The source.") var source: String
        @Option(help: "Loads to show.") var limit = 10
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.get("/api/v1/sources/\(source)/checks", query: ["limit": String(limit)])
            show(answer) { answer in
                let reports = answer["checks"]?.arrayValue ?? []
                guard !reports.isEmpty else { return "no load of \(source) was checked yet" }
                return reports.map(Self.describe).joined(separator: "\n")
            }
        }

        private static func describe(_ report: JSONValue) -> String {
            let results = report["results"]?.arrayValue ?? []
            let verdict =
                report["refused"] == true ? "REFUSED" : report["success"] == true ? "holds" : "broken"
            let held = Human.cell(report["statistics"]?["successful_expectations"])
            var lines = [
                "\(Human.cell(report["time"]))  \(verdict)  \(held) of \(results.count)  \(Human.cell(report["file"]))"
            ]
            for result in results where result["success"] != true {
                let rows = result["result"]?["unexpected_count"].map { "\(Human.cell($0)) rows: " } ?? ""
                lines.append(
                    "  \(Human.cell(result["expectation"]?["severity"]))  \(Human.cell(result["expectation"]?["name"]))  \(rows)\(Human.cell(result["message"]))"
                )
            }
            return lines.joined(separator: "\n")
        }
    }
}

struct QuarantineCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quarantine", abstract: "Show, replay or give up rows that broke their source's contract.",
        subcommands: [List.self, Replay.self, Discard.self])

    struct List: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Show reasons with their counts, and sample rows.")
        @Argument(help: "The source.") var source: String
        @Option(help: "Rows to show.") var limit = 5
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.get("/api/v1/sources/\(source)/quarantine", query: ["limit": String(limit)])
            show(answer) { answer in
                let reasons = answer["reasons"]?.arrayValue ?? []
                guard !reasons.isEmpty else { return "no row of \(source) is in quarantine" }
                var lines = [
                    Human.table(
                        ["ROWS", "REASON"], reasons.map { [Human.cell($0["rows"]), Human.cell($0["reason"])] })
                ]
                for row in answer["rows"]?.arrayValue ?? [] {
                    lines.append(
                        "\(Human.cell(row["origin"])):\(Human.cell(row["position"]))  \(Human.cell(row["row"]).prefix(200))"
                    )
                    for reason in row["reasons"]?.arrayValue ?? [] { lines.append("  \(Human.cell(reason))") }
                }
                return lines.joined(separator: "\n")
            }
        }
    }

    struct Replay: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check the rows once more under the contract of now; those that pass are stored.")
        @Argument(help: "The source.") var source: String
        @Option(help: "Only rows with a reason that contains this text.") var reason: String?
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let result = try await QuarantineCommand.run("replay", source, reason, client, server)
            show(result) { result in
                "\(source): \(Human.cell(result["accepted"])) rows accepted of \(Human.cell(result["rows"])), "
                    + "\(Human.cell(result["duplicates"])) duplicates, \(Human.cell(result["left_out"])) left out, "
                    + "\(Human.cell(result["refused"])) stay in quarantine"
            }
        }
    }

    struct Discard: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give rows up: they are no longer listed, counted or replayed. Written to the audit log.")
        @Argument(help: "The source.") var source: String
        @Option(help: "Only rows with a reason that contains this text.") var reason: String?
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let result = try await QuarantineCommand.run("discard", source, reason, client, server)
            show(result) { "\(source): \(Human.cell($0["discarded"])) rows given up" }
        }
    }

    private static func run(
        _ what: String, _ source: String, _ reason: String?, _ client: APIClient, _ server: ServerOptions
    ) async throws -> JSONValue {
        let body: JSONValue = reason.map { ["reason": .string($0)] } ?? .object([:])
        let started = try await client.post("/api/v1/sources/\(source)/quarantine/\(what)", body)
        return try await client.wait(for: started, label: "quarantine \(what) \(source)", quiet: server.json)
    }
}
