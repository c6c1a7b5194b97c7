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
        @Option(help: "Only entries about this subject, such as model/flight_delay/versions/3.") var subject: String?
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            var query = ["from": String(from), "limit": String(limit)]
            if let subject { query["subject"] = subject }
            show(try await client.get("/api/v1/audit", query: query)) { answer in
                let rows = (answer["entries"]?.arrayValue ?? []).map { entry in
                    ["position", "time", "actor", "action", "subject"].map { Human.cell(entry[$0]) }
                }
                return rows.isEmpty
                    ? "no entries" : Human.table(["POSITION", "TIME", "ACTOR", "ACTION", "SUBJECT"], rows)
            }
        }
    }

    struct Verify: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Compute every hash of the chain again (exit code 1 if it is not intact).")
        @Option(help: "Hash of a head that was noted elsewhere: shows entries missing at the end.") var head: String?
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.post("/api/v1/audit/verify", head.map { ["head": .string($0)] } ?? [:])
            show(answer) { answer in
                let fault = answer["fault"]?.stringValue
                return "\(Human.cell(answer["entries"])) entries, "
                    + (fault ?? "all intact; the head is \(answer["head"]?.stringValue ?? "")")
            }
            if answer["intact"]?.boolValue != true { throw ExitCode(1) }
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
