import ArgumentParser
import Foundation
import PlatformCore

extension FeaturesCommand {
    struct Status: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show how far new versions are built from history.")
        @Flag(help: "Wait until everything is built.") var wait = false
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            if wait { try await FeaturesCommand.wait(client, quiet: server.json) }
            show(try await client.get("/api/v1/features/status")) { answer in
                let building = answer["backfilling"]?.arrayValue ?? []
                var lines = [
                    "\(Human.cell(answer["ready"])) versions answer, \(building.count) are built from history, "
                        + "\(Human.cell(answer["parked"])) are parked"
                ]
                for version in building { lines.append("  " + FeaturesCommand.progress(version)) }
                return lines.joined(separator: "\n")
            }
        }
    }

    struct Versions: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the versions that feature views had: state, users, size, last read.")
        @Argument(help: "Only those of this view.") var view: String?
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.get(
                "/api/v1/features/versions", query: view.map { ["view": $0] } ?? [:])
            show(answer, FeaturesCommand.describeVersions)
        }
    }

    struct Retire: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove what is kept of versions that nobody uses.")
        @Argument(help: "Versions, as view@digits.") var versions: [String] = []
        @Flag(help: "Every version that nobody uses.") var unused = false
        @Flag(help: "Only say which would go.") var dryRun = false
        @OptionGroup var server: ServerOptions

        func validate() throws {
            if versions.isEmpty != unused { throw ValidationError("name versions, or say --unused") }
        }

        func run(_ client: APIClient) async throws {
            var body: [String: JSONValue] = ["dry_run": .bool(dryRun)]
            if !unused { body["versions"] = .array(versions.map(JSONValue.string)) }
            show(try await client.post("/api/v1/features/retire", .object(body))) { answer in
                let list = answer["versions"]?.arrayValue ?? []
                guard !list.isEmpty else { return "no version is unused" }
                return
                    (list.map { "\(dryRun ? "would retire" : "retired") \(FeaturesCommand.title($0))" }
                    + [
                        "\(list.count) versions, \(Human.bytes(list.reduce(0) { $0 + ($1["bytes"]?.doubleValue ?? 0) }))"
                    ])
                    .joined(separator: "\n")
            }
        }
    }

    struct Pin: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Keep a version served, whoever else uses it.")
        @Argument(help: "The version, as view@digits.") var version: String
        @Option(help: "Why.") var reason: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.post(
                "/api/v1/features/pin", ["version": .string(version), "reason": .string(reason)])
            show(answer) { "pinned \(FeaturesCommand.title($0)), \($0["state"]?.stringValue ?? "")" }
        }
    }

    struct Unpin: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Let a pinned version go.")
        @Argument(help: "The version, as view@digits.") var version: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.post("/api/v1/features/unpin", ["version": .string(version)])
            show(answer) { "unpinned \(FeaturesCommand.title($0)), \($0["state"]?.stringValue ?? "")" }
        }
    }

    struct Reuse: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show how far features are reused, and what each costs.")
        @Option(help: "Assumption: weeks of one engineer to make a feature.") var weeksPerFeature = 1.0
        @Option(help: "Assumption: cost of an engineer in a year.") var engineerCost = 180_000.0
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.get(
                "/api/v1/features/reuse",
                query: ["weeks_per_feature": String(weeksPerFeature), "engineer_cost": String(engineerCost)])
            show(answer) { answer in
                func count(_ feature: JSONValue, _ key: String) -> String {
                    String(feature[key]?.arrayValue?.count ?? 0)
                }
                let rows = (answer["features"]?.arrayValue ?? []).map { feature -> [String] in
                    [
                        feature["name"]?.stringValue ?? "", count(feature, "services"), count(feature, "models"),
                        count(feature, "teams"), Human.cell(feature["reads"]), Human.cell(feature["training_rows"]),
                        Human.bytes(feature["bytes"]?.doubleValue ?? 0), Human.cell(feature["rows_applied"]),
                        Human.cell(feature["compute_seconds"]),
                    ]
                }
                let header = [
                    "FEATURE", "SERVICES", "MODELS", "TEAMS", "READS", "TRAINING ROWS", "STORED", "ROWS APPLIED",
                    "SECONDS",
                ]
                func cell(_ key: String) -> String { Human.cell(answer[key]) }
                var lines = [Human.table(header, rows)]
                lines.append(
                    "\(cell("used")) of \(cell("registered")) features are used by \(cell("models")) models; "
                        + "reuse factor \(cell("reuse_factor"))")
                lines.append(
                    "\(cell("weeks_per_model")) engineering weeks per model, \(cell("weeks_saved")) weeks saved, "
                        + "worth \(cell("savings"))")
                lines.append(
                    "at \(cell("weeks_per_feature")) weeks per feature and \(cell("engineer_cost")) per engineer and year"
                )
                if let days = answer["delivery_days"]?.doubleValue {
                    lines.append(
                        "\(String(format: "%.1f", days)) days from definition to production, median over models")
                }
                return lines.joined(separator: "\n")
            }
        }
    }

    /// Waits until no version is being built, and shows the one that is furthest from it.
    static func wait(_ client: APIClient, quiet: Bool) async throws {
        let line = ProgressLine(label: "features", quiet: quiet)
        var delay = 20
        while true {
            let building = try await client.get("/api/v1/features/status")["backfilling"]?.arrayValue ?? []
            guard
                let last = building.min(by: { ($0["progress"]?.doubleValue ?? 0) < ($1["progress"]?.doubleValue ?? 0) })
            else { break }
            line.show([
                "done": last["next_offset"] ?? 0, "total": last["end_offset"] ?? 0, "unit": "rows",
                "message": .string("building \(building.count) versions, \(last["name"]?.stringValue ?? "")"),
            ])
            try await Task.sleep(for: .milliseconds(delay))
            delay = min(500, delay * 3 / 2)
        }
        line.finish()
    }

    static func title(_ version: JSONValue) -> String {
        "\(version["view"]?.stringValue ?? "")@\(version["version"]?.stringValue?.prefix(8) ?? "")"
    }

    static func progress(_ version: JSONValue) -> String {
        var text = "\(title(version))  \(Int((version["progress"]?.doubleValue ?? 0) * 100)) %"
        text += "  row \(Human.cell(version["next_offset"])) of \(Human.cell(version["end_offset"]))"
        if let rate = version["rows_per_second"]?.doubleValue, rate > 0 { text += ", \(Human.count(rate)) rows/s" }
        if let left = version["seconds_left"]?.doubleValue { text += ", about \(Human.seconds(left)) left" }
        if let failure = version["failure"]?.stringValue { text += ", failing: \(failure)" }
        return text
    }

    static func describeVersions(_ answer: JSONValue) -> String {
        let versions = answer["versions"]?.arrayValue ?? []
        guard !versions.isEmpty else { return "no feature view was ever defined" }
        let rows = versions.map { version -> [String] in
            let users = (version["users"]?.arrayValue ?? []).map { $0["text"]?.stringValue ?? "" }
            let use =
                users.isEmpty
                ? version["unused_since"]?.stringValue.map { "nobody since \($0.prefix(19))" } ?? "nobody"
                : users.joined(separator: "; ")
            return [
                title(version), version["state"]?.stringValue ?? "", version["current"] == true ? "yes" : "",
                Human.cell(version["entities"]), version["bytes"]?.doubleValue.map(Human.bytes) ?? "–",
                version["last_read"]?.stringValue.map { String($0.prefix(19)) } ?? "–", use,
            ]
        }
        return Human.table(["VERSION", "STATE", "IN FORCE", "ENTITIES", "STORED", "LAST READ", "USED BY"], rows)
    }
}

extension Human {
    /// `3.2 MB`.
    static func bytes(_ count: Double) -> String {
        var (value, unit) = (count, 0)
        let units = ["B", "kB", "MB", "GB", "TB"]
        while value >= 1000, unit < units.count - 1 {
            value /= 1000
            unit += 1
        }
        return unit == 0 ? "\(Int(value)) B" : String(format: "%.1f %@", value, units[unit])
    }

    /// `3 s`, `4 min`, `2.5 h`.
    static func seconds(_ seconds: Double) -> String {
        if seconds < 1 { return "1 s" }
        if seconds < 120 { return "\(Int(seconds.rounded())) s" }
        if seconds < 7200 { return "\(Int((seconds / 60).rounded())) min" }
        return String(format: "%.1f h", seconds / 3600)
    }
}
