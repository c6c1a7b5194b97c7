import ArgumentParser
import Foundation
import PlatformCore

struct TableCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "table", abstract: "Look at tables as they are and as they were, and look after their files.",
        subcommands: [List.self, History.self, Show.self, Compact.self, Retain.self, Vacuum.self],
        defaultSubcommand: List.self)

    struct List: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "List tables with their rows, files and bytes.")
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            show(try await client.get("/api/v1/tables")) { answer in
                let rows = (answer["tables"]?.arrayValue ?? []).map { table in
                    ["name", "version", "rows", "files", "bytes"].map { key in
                        key == "version" && table[key]?.integerValue == -1 ? "none yet" : Human.cell(table[key])
                    }
                }
                return Human.table(["TABLE", "VERSION", "ROWS", "FILES", "BYTES"], rows)
            }
        }
    }

    struct History: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "List the versions of a table.")
        @Argument(help: "The table: a source's name, or quarantine_SOURCE.") var table: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            show(try await client.get("/api/v1/tables/\(table)/versions")) { answer in
                let rows = (answer["versions"]?.arrayValue ?? []).map { version in
                    ["version", "time", "operation", "rows_added", "rows", "files", "bytes"].map {
                        Human.cell(version[$0])
                    }
                }
                return Human.table(["VERSION", "TIME", "OPERATION", "ADDED", "ROWS", "FILES", "BYTES"], rows)
            }
        }
    }

    struct Show: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show rows of a table, now, at a version, or as it was at a moment.")
        @Argument(help: "The table: a source's name, or quarantine_SOURCE.") var table: String
        @Option(help: "The version with this number.") var version: Int?
        @Option(help: "The version that was the newest at this moment, \(Human.momentHelp).") var asOf: String?
        @Option(help: "Only rows that could have been known before this moment.") var knownAt: String?
        @Option(help: "A random choice that this number decides, instead of the first rows.") var seed: Int?
        @Option(help: "Most rows.") var limit = 10
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            var query = ["limit": String(limit)]
            query["version"] = version.map(String.init)
            query["as_of"] = asOf
            query["known_at"] = knownAt
            query["seed"] = seed.map(String.init)
            show(try await client.get("/api/v1/tables/\(table)/rows", query: query)) { answer in
                let columns = (answer["columns"]?.arrayValue ?? []).compactMap(\.stringValue)
                let rows = (answer["rows"]?.arrayValue ?? []).map { row in
                    columns.map { String(Human.cell(row[$0]).prefix(40)) }
                }
                // Defined, and never loaded into.
                guard (answer["version"]?.integerValue ?? 0) >= 0 else {
                    return "\(table) has no version yet: nothing was stored in it"
                }
                return "version \(Human.cell(answer["version"]))\n" + Human.table(columns, rows)
            }
        }
    }

    struct Compact: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make small files of a table large ones. No row changes, and nobody waits.")
        @Argument(help: "The table.") var table: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let started = try await client.post("/api/v1/tables/\(table)/compact")
            show(try await client.wait(for: started, label: "compact \(table)", quiet: server.json)) { answer in
                guard let files = answer["files_before"]?.integerValue, files > 0 else {
                    return "\(table): nothing to compact"
                }
                return "\(table): \(files) files became \(Human.cell(answer["files_after"])), "
                    + "\(Human.cell(answer["bytes_before"])) bytes became \(Human.cell(answer["bytes_after"])), "
                    + "version \(Human.cell(answer["version"]))"
            }
        }
    }

    struct Retain: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take rows out of a table that are older than its source's 'retention'.",
            discussion: """
                Without --yes it only says what would leave. Versions of before stay readable until a vacuum removes them, and \
                for ever where a training set was made from them.
                """)
        @Argument(help: "The table: a source's name, or quarantine_SOURCE.") var table: String
        @Flag(help: "Only say what would leave; what happens without --yes.") var dryRun = false
        @Flag(help: "Do it.") var yes = false
        @OptionGroup var server: ServerOptions

        func validate() throws {
            if dryRun, yes { throw ValidationError("--dry-run and --yes exclude each other") }
        }

        func run(_ client: APIClient) async throws {
            let started = try await client.post("/api/v1/tables/\(table)/retain", ["dry_run": .bool(!yes)])
            show(try await client.wait(for: started, label: "retain \(table)", quiet: server.json)) { answer in
                let rows = (answer["files"]?.arrayValue ?? []).map { file in
                    [
                        Human.cell(file["removed_rows"]), Human.cell(file["rows"]), Human.cell(file["path"]),
                        Human.cell(file["held_by"]),
                    ]
                }
                var lines = rows.isEmpty ? [] : [Human.table(["LEAVE", "OF", "FILE", "STILL READ BY"], rows)]
                let count = answer["removed_rows"]?.integerValue ?? 0
                lines.append(
                    "\(table): \(count) of \(Human.cell(answer["rows"])) rows, those before \(Human.cell(answer["before"])), "
                        + (yes ? "left the table" : "would leave the table")
                        + (yes || count == 0 ? "" : "; --yes does it"))
                return lines.joined(separator: "\n")
            }
        }
    }

    struct Vacuum: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove files that no version within retention, no training set and no model needs.")
        @Argument(help: "The table.") var table: String
        @Flag(help: "Only say what would happen to each file, and why.") var dryRun = false
        @Option(
            help: "How long a replaced version stays readable, such as 30d. Default: the source's, else the setting.")
        var retention: String?
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            var body: [String: JSONValue] = ["dry_run": .bool(dryRun)]
            if let retention { body["retention"] = .string(retention) }
            let started = try await client.post("/api/v1/tables/\(table)/vacuum", .object(body))
            show(try await client.wait(for: started, label: "vacuum \(table)", quiet: server.json)) { answer in
                let files = answer["files"]?.arrayValue ?? []
                var lines: [String] = []
                if dryRun {
                    let rows = files.map { file in
                        [
                            file["removed"]?.boolValue == true ? "remove" : "keep", Human.cell(file["bytes"]),
                            Human.cell(file["path"]), Human.cell(file["reason"]),
                        ]
                    }
                    lines.append(Human.table(["", "BYTES", "FILE", "WHY"], rows))
                }
                guard (answer["oldest_version"]?.integerValue ?? 0) >= 0 else {
                    return "\(table) has no version yet: nothing was stored in it"
                }
                lines.append(
                    "\(table): \(Human.cell(answer["removed_files"])) files of \(Human.cell(answer["removed_bytes"])) bytes "
                        + (dryRun ? "would be removed" : "removed")
                        + ", \(Human.cell(answer["kept_bytes"])) bytes stay; versions from "
                        + "\(Human.cell(answer["oldest_version"])) on are kept")
                return lines.joined(separator: "\n")
            }
        }
    }
}
