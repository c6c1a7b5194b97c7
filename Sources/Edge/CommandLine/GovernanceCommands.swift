import ArgumentParser
import Foundation
import PlatformCore

struct AuditCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit", abstract: "List and verify the audit chain.",
        subcommands: [List.self, Verify.self, Export.self])

    struct List: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "List changes, oldest first.")
        @Option(help: "First position.") var from: Int = 1
        @Option(help: "Most entries.") var limit: Int = 100
        @Option(help: "The newest this many, instead of --from and --limit.") var last: Int?
        @Option(help: "Only entries about this subject, such as model/flight_delay/versions/3.") var subject: String?
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            var query = last.map { ["last": String($0)] } ?? ["from": String(from), "limit": String(limit)]
            if let subject { query["subject"] = subject }
            show(try await client.get("/api/v1/audit", query: query)) { answer in
                let entries = answer["entries"]?.arrayValue ?? []
                let rows = entries.map { entry in
                    ["position", "time", "actor", "action", "subject"].map { Human.cell(entry[$0]) }
                }
                guard !rows.isEmpty else { return "no entries" }
                let table = Human.table(["POSITION", "TIME", "ACTOR", "ACTION", "SUBJECT"], rows)
                let total = answer["total"]?.integerValue ?? 0
                guard total > Int64(rows.count) else { return table }
                // A full page may have more behind it; the newest have none.
                let next = (entries.last?["position"]?.integerValue ?? 0) + 1
                if last != nil { return table + "\nthe newest \(rows.count) of \(total)" }
                return table + "\n\(rows.count) of \(total)"
                    + (rows.count < limit ? "" : "; more: --from \(next), the newest: --last N")
            }
        }
    }

    struct Verify: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Compute every hash of the chain again, and compare what the registry says with it.",
            discussion: """
                Stages, approvals, gates and policies with who, when and why, and the metrics of versions are compared with the
                entries that were written with them, and the evidence that entries name is hashed again. Exit code 1 if an entry
                is not intact, a row says another thing, or evidence is gone or changed.
                """)
        @Option(help: "Hash of a head that was noted elsewhere: shows entries missing at the end.") var head: String?
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.post("/api/v1/audit/verify", head.map { ["head": .string($0)] } ?? [:])
            show(answer) { answer in
                let fault = answer["fault"]?.stringValue
                var lines = [
                    "\(Human.cell(answer["entries"])) entries, "
                        + (fault ?? "all intact; the head is \(answer["head"]?.stringValue ?? "")")
                ]
                let differences = answer["differences"]?.arrayValue ?? []
                let bad = differences.count { $0["what"]?.stringValue == "blob" }
                let rowCount = differences.count - bad
                let without = answer["not_compared"]?.integerValue ?? 0
                lines.append(
                    "\(Human.cell(answer["compared"])) rows of the registry compared with it, "
                        + (rowCount == 0 ? "all as it says" : "\(rowCount) difference\(rowCount == 1 ? "" : "s")")
                        + (without == 0 ? "" : "; \(without) older than their entries, with nothing to compare with"))
                if let count = answer["evidence"]?.integerValue, count > 0 {
                    lines.append(
                        "\(count) files of evidence hashed again, "
                            + (bad == 0 ? "all as they were sealed" : "\(bad) not"))
                }
                for found in differences {
                    if found["what"]?.stringValue == "blob" {
                        lines.append(
                            "  \(Human.cell(found["where"])): its evidence \(Human.cell(found["chain"])) is "
                                + Human.cell(found["table"]))
                        continue
                    }
                    lines.append(
                        "  \(Human.cell(found["where"])): \(Human.cell(found["what"])): table says "
                            + (found["table"]?.stringValue.map { "'\($0)'" } ?? "nothing") + ", chain says "
                            + (found["chain"]?.stringValue.map { "'\($0)'" } ?? "nothing")
                            + (found["position"]?.integerValue.map { " (entry \($0))" } ?? ""))
                }
                return lines.joined(separator: "\n")
            }
            if answer["intact"]?.boolValue != true || answer["differences"]?.arrayValue?.isEmpty == false {
                throw ExitCode(1)
            }
        }
    }

    struct Export: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write the chain to a file that tools/verify_audit.py checks.")
        @Argument(help: "The file.") var file: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let bytes = try await client.download("/api/v1/audit/export")
            guard FileManager.default.createFile(atPath: file, contents: bytes) else {
                throw CommandFailure(exitCode: 2, description: "\(file): cannot be written")
            }
            print("\(bytes.count) bytes in \(file)")
        }
    }
}

struct CollectCommand: ClientCommand {
    static let configuration = CommandConfiguration(
        commandName: "gc",
        abstract: "Remove stored bytes that nothing names and old records of the log; say what keeps the others.")
    @Flag(help: "Remove nothing: only say what would go.") var dryRun = false
    @Option(help: "Largest places and blobs to list.") var top: Int = 20
    @OptionGroup var server: ServerOptions

    func validate() throws {
        guard top >= 0 else { throw ValidationError("--top is a number of lines, 0 or more, not \(top)") }
    }

    func run(_ client: APIClient) async throws {
        let started = try await client.post("/api/v1/gc", ["dry_run": .bool(dryRun)])
        let result = try await client.wait(for: started, label: "gc", quiet: server.json)
        show(result) { result in
            var rows: [[String]] = []
            for blob in (result["blobs"]?.arrayValue ?? []).prefix(top) {
                let users = (blob["users"]?.arrayValue ?? []).compactMap(\.stringValue)
                let count = Int(blob["count"]?.integerValue ?? 0)
                rows.append([
                    String((blob["hash"]?.stringValue ?? "").prefix(12)), Human.cell(blob["byte_count"]),
                    users.isEmpty
                        ? "nothing"
                        : users.prefix(2).joined(separator: ", ") + (count > 2 ? " and \(count - 2) more" : ""),
                ])
            }
            let places = (result["places"]?.arrayValue ?? []).prefix(top).map {
                [Human.cell($0["path"]), Human.cell($0["byte_count"]), Human.cell($0["use"])]
            }
            let kept = (result["log"]?.arrayValue ?? []).map { topic in
                let held = (topic["held_by"]?.arrayValue ?? []).compactMap(\.stringValue)
                return [
                    Human.cell(topic["topic"]), topic["retention"]?.stringValue ?? "for ever",
                    Human.cell(
                        topic["end"]?.integerValue.flatMap { end in
                            topic["start"]?.integerValue.map { .integer(end - $0) }
                        }),
                    Human.cell(topic["records"]), Human.cell(topic["dropped_records"]),
                    topic["error"]?.stringValue.map { "not looked at: \($0)" } ?? held.joined(separator: ", "),
                ]
            }
            let log =
                kept.isEmpty
                ? ""
                : Human.table(
                    ["LOG", "KEPT", "RECORDS", dryRun ? "WOULD GO" : "WENT", "WENT SO FAR", "HELD BY"], kept) + "\n\n"
            let bytes = { (key: String) in Human.cell(result[key]) }
            let total =
                "\(bytes("used_bytes")) bytes are named (\(bytes("shared_bytes")) more if nothing were shared), "
                + "\(bytes("unused_bytes")) are not"
            let done =
                dryRun
                ? "nothing was removed"
                : "\(bytes("removed")) blobs with \(bytes("removed_bytes")) bytes were removed, \(bytes("in_hand")) left in hand"
            return log + (places.isEmpty ? "" : Human.table(["PLACE", "BYTES", "WHAT IT IS"], places) + "\n\n")
                + (rows.isEmpty ? "" : Human.table(["BLOB", "BYTES", "NAMED BY"], rows) + "\n") + total + "; " + done
        }
    }
}
