import ArgumentParser
import Foundation
import PlatformCore

extension FeaturesCommand {
    struct Try: ClientCommand {
        static let configuration = CommandConfiguration(
            commandName: "try",
            abstract:
                "Compute a view that is not applied on the stored history: values, statistics, what it would cost.",
            discussion: """
                Nothing is applied and nothing is kept. Without --entity, entities are drawn from the source's rows, each asked \
                right after one of its rows was known, or at --at. The values are those that a training set would hold.
                """)
        @Argument(help: "A definition file with views, or the name of a view.") var target: String
        @Option(help: "The folder (or file) with the other definitions.") var definitions = "."
        @Option(help: "One entity: key=value, once for each join key.") var entity: [String] = []
        @Option(help: "Moment of the question, RFC 3339 or a date. Default: now for an entity.") var at: String?
        @Option(help: "Entities to draw, at most 20,000.") var rows = 1000
        @Option(help: "Chooses the entities.") var seed = 0
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            var body: [String: JSONValue] = [
                "rows": .integer(Int64(rows)), "seed": .integer(Int64(seed)),
            ]
            var files = try DefinitionFiles.read(definitions).arrayValue ?? []
            if FileManager.default.fileExists(atPath: target) {
                guard let file = try DefinitionFiles.read(target).arrayValue?.first, !isFolder(target) else {
                    throw CommandFailure(exitCode: 2, description: "\(target): name a file, or a view")
                }
                // The file may lie in the folder, under another spelling of its path.
                let path = standard(file["path"]?.stringValue)
                files.removeAll { standard($0["path"]?.stringValue) == path }
                files.append(file)
                body["path"] = file["path"]
            } else {
                body["view"] = .string(target)
            }
            body["files"] = .array(files)
            if let at { body["at"] = .string(at) }
            if !entity.isEmpty {
                var keys: [String: JSONValue] = [:]
                for pair in entity {
                    let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                    guard parts.count == 2, !parts[0].isEmpty else {
                        throw CommandFailure(exitCode: 2, description: "--entity \(pair): write key=value")
                    }
                    keys[String(parts[0])] = .string(String(parts[1]))
                }
                body["entity"] = .object(keys)
            }
            let started = try await client.post("/api/v1/features/try", .object(body))
            let result = try await client.wait(for: started, label: "features try", quiet: server.json)
            show(result) { result in
                (result["views"]?.arrayValue ?? []).map { TrialText(trial: $0).text }.joined(separator: "\n\n")
            }
        }

        private func isFolder(_ path: String) -> Bool {
            var isFolder: ObjCBool = false
            return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder.boolValue
        }

        private func standard(_ path: String?) -> String {
            URL(fileURLWithPath: path ?? "").standardizedFileURL.path
        }
    }
}

/// What a trial found, for a terminal.
struct TrialText {
    let trial: JSONValue

    private func text(_ value: JSONValue?) -> String { value?.stringValue ?? "" }
    private func number(_ value: JSONValue?) -> Double { value?.doubleValue ?? 0 }

    var text: String {
        let history = trial["history"]
        let features = trial["features"]?.arrayValue ?? []
        var lines = [
            "\(text(trial["view"])) over \(text(trial["source"])), "
                + (trial["applied"]?.boolValue == true ? "which is applied" : "not applied"),
            "  history: \(Human.cell(history?["rows"])) rows, about \(Human.cell(history?["entities"])) entities, "
                + "\(text(history?["first_event_time"])) to \(text(history?["last_event_time"]))",
            "  computed for \(Human.cell(trial["questions"])) questions in "
                + "\(String(format: "%.2f", number(trial["cost"]?["offline_seconds"]))) s", "",
            rows(features.compactMap { $0["name"]?.stringValue }), "",
        ]
        lines += features.map(describe)
        lines.append("\nif applied (estimated from \(Human.cell(trial["cost"]?["sampled_rows"])) rows):")
        let cost = trial["cost"]
        lines.append(
            "  build from history \(seconds(cost?["build_seconds"])) of computing, "
                + "\(String(format: "%.1f", number(cost?["nanoseconds_per_row"]) / 1000)) µs for each row")
        lines.append(
            "  state \(bytes(cost?["state_bytes"])), read "
                + "\(String(format: "%.1f", number(cost?["nanoseconds_per_read"]) / 1000)) µs for each entity")
        for remark in trial["remarks"]?.arrayValue ?? [] { lines.append("note: \(text(remark))") }
        return lines.joined(separator: "\n")
    }

    private func rows(_ names: [String]) -> String {
        let keys = (trial["keys"]?.arrayValue ?? []).compactMap(\.stringValue)
        let shown = (trial["rows"]?.arrayValue ?? []).prefix(8)
        return Human.table(
            keys + ["at"] + names,
            shown.map { row in
                keys.map { Human.cell(row["entity"]?[$0]) } + [text(row["at"])]
                    + names.map { String(Human.cell(row["values"]?[$0]).prefix(40)) }
            })
    }

    private func describe(_ feature: JSONValue) -> String {
        let (count, nulls) = (number(feature["count"]), number(feature["nulls"]))
        let window = feature["window"]?.stringValue.map { " over \($0)" } ?? ""
        var line =
            "\(text(feature["name"]))  (\(text(feature["type"])), \(text(feature["aggregate"]))\(window))  null "
            + "\(count > 0 ? String(format: "%.1f", 100 * nulls / count) : "0") %, "
            + "\(Human.cell(feature["distinct"])) different"
        if feature["min"]?.doubleValue != nil {
            line +=
                "\n  min \(Human.cell(feature["min"]))  median \(Human.cell(feature["median"]))  mean "
                + "\(Human.cell(feature["mean"]))  p99 \(Human.cell(feature["p99"]))  max \(Human.cell(feature["max"]))  "
                + "stddev \(Human.cell(feature["stddev"]))"
        }
        let frequent = feature["frequent"]?.arrayValue ?? []
        let bars =
            frequent.isEmpty
            ? (feature["histogram"]?.arrayValue ?? []).map {
                (Human.cell($0["from"]), number($0["count"]))
            } : frequent.map { (Human.cell($0["value"]), number($0["count"])) }
        let most = bars.map(\.1).max() ?? 0
        let width = bars.map(\.0.count).max() ?? 0
        for (label, count) in bars where most > 0 {
            let padded = String(repeating: " ", count: max(0, width - label.count)) + label
            let bar = String(repeating: "█", count: Int((count / most * 40).rounded()))
            line += "\n  \(padded)  \(bar)\(count > 0 && bar.isEmpty ? "▏" : "") \(Human.count(count))"
        }
        return line
    }

    private func seconds(_ value: JSONValue?) -> String {
        let seconds = number(value)
        return seconds < 1
            ? "under 1 s" : seconds < 120 ? "\(Int(seconds.rounded())) s" : "\(Int((seconds / 60).rounded())) min"
    }

    private func bytes(_ value: JSONValue?) -> String {
        let bytes = number(value)
        let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")]
        for (size, name) in units where bytes >= size { return String(format: "%.1f %@", bytes / size, name) }
        return "\(Int(bytes)) bytes"
    }
}
