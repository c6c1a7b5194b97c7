import ArgumentParser
import PlatformCore

struct DeployCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "deploy", abstract: "Give versions shares of live traffic, or rehearse taking them back.",
        discussion: "'bottega deploy MODEL VERSION --reason WHY' puts a version in front of all traffic.",
        subcommands: [Deploy.self, DeployVariants.self, DeployDrill.self], defaultSubcommand: Deploy.self)
}

struct DeployVariants: ClientCommand {
    static let configuration = CommandConfiguration(
        commandName: "variants",
        abstract: "Publish a policy of several variants and shadows: VERSION=SHARE, as in 1=60% 2=40%.")
    @Argument(help: "The deployment.") var deployment: String
    @Argument(help: "Variants; the first is the primary. Shares add up to 100%.") var variants: [String]
    @Option(
        name: .customLong("shadow"), help: "A version that sees requests and whose answers nobody sees: 3, or 3=10%.")
    var shadows: [String] = []
    @Option(help: "Why; kept for ever.") var reason: String
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        let answer = try await client.post(
            "/api/v1/deployments/\(deployment)/policy",
            [
                "variants": .array(try variants.map(Self.share)), "shadows": .array(try shadows.map(Self.share)),
                "reason": .string(reason),
            ])
        show(answer, DeploymentText.describe)
    }

    private static func share(_ text: String) throws -> JSONValue {
        let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
        guard let version = Int(parts[0]), version > 0 else {
            throw CommandFailure(
                exitCode: 2, description: "'\(text)' must be a version and its share, such as 2=40%")
        }
        guard parts.count == 2 else { return ["version": .integer(Int64(version))] }
        return ["version": .integer(Int64(version)), "share": .number(try TrafficShare.number(parts[1]))]
    }
}

struct DeployDrill: ClientCommand {
    static let configuration = CommandConfiguration(
        commandName: "drill",
        abstract: "Rehearse a rollback under live traffic: time to effect, errors, latency (exit code 3 if it fails).",
        discussion: "Traffic goes back to the version before for the time of one phase, and then forth again.")
    @Argument(help: "The deployment.") var deployment: String
    @Option(help: "Seconds before, during and after.") var seconds: Double = 3
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        let started = try await client.post("/api/v1/deployments/\(deployment)/drill", ["seconds": .number(seconds)])
        let report = try await client.wait(for: started, label: "drill \(deployment)", quiet: server.json)
        show(report) { report in
            var rows: [[String]] = []
            for phase in report["phases"]?.arrayValue ?? [] {
                let answers = (phase["answers"]?.objectValue ?? [:]).sorted { $0.key < $1.key }
                    .map { "\(Human.cell($0.value)) by version \($0.key)" }.joined(separator: ", ")
                rows.append([
                    Human.cell(phase["name"]), Human.cell(phase["seconds"]), answers.isEmpty ? "none" : answers,
                    Human.cell(phase["errors"]), Human.cell(phase["p50_ms"]), Human.cell(phase["p99_ms"]),
                ])
            }
            func versions(_ key: String) -> String {
                (report[key]?.arrayValue ?? []).map { Human.cell($0) }.joined(separator: ", ")
            }
            let head =
                "rollback of \(Human.cell(report["deployment"])) from version \(versions("from")) to \(versions("to")): "
                + "in effect after \(Human.cell(report["rollback_ms"])) ms, back after \(Human.cell(report["return_ms"])) ms"
                + (report["probes"]?.boolValue == true
                    ? "; asked with questions from the log, for want of traffic" : "")
            let table = Human.table(["PHASE", "SECONDS", "ANSWERS", "ERRORS", "P50 MS", "P99 MS"], rows)
            let fault = report["fault"]?.stringValue.map { "FAILED: \($0)" } ?? "passed"
            return [head, table, fault].joined(separator: "\n")
        }
        if report["passed"]?.boolValue != true { throw ExitCode(3) }
    }
}

struct ShadowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "shadow", abstract: "Let versions answer traffic that nobody sees.",
        subcommands: [ReplayShadow.self])

    struct ReplayShadow: ClientCommand {
        static let configuration = CommandConfiguration(
            commandName: "replay",
            abstract: "Let a version answer the logged traffic of the last days, with the features as they were.",
            discussion: "Prints what a live shadow would have shown; exit code 3 if a guardrail is broken.")
        @Argument(help: "The model.") var model: String
        @Option(help: "The version's number, such as 3.") var version: Int
        @Option(help: "How far back, in days.") var days: Double = 1
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let started = try await client.post(
                "/api/v1/models/\(model)/versions/\(version)/shadow-replays", ["days": .number(days)])
            let report = try await client.wait(for: started, label: "replay \(model)", quiet: server.json)
            show(report) { report in
                var lines = [
                    "version \(Human.cell(report["version"])) of \(Human.cell(report["model"])) on "
                        + "\(Human.cell(report["pairs"])) logged answers in \(Human.cell(report["seconds"])) s: "
                        + "\(Human.cell(report["failures"])) failed, prediction PSI "
                        + "\(Human.cell(report["prediction_psi"])), \(Human.cell(report["disagreement"])) decide otherwise, "
                        + "mean distance \(Human.cell(report["mean_difference"])), p99 of scoring "
                        + "\(Human.cell(report["score_p99_ms"])) ms"
                ]
                if let first = report["records_from"]?.stringValue {
                    let rule = report["records_went_by"]?.stringValue
                    lines.append(
                        "  no records before \(first): "
                            + (rule.map { "they were let go under '\($0)'" } ?? "the log begins there"))
                }
                for (reason, count) in (report["skipped"]?.objectValue ?? [:]).sorted(by: { $0.key < $1.key }) {
                    lines.append("  not compared: \(Human.cell(count)) \(reason)")
                }
                if let labels = report["labels"]?.unlessNull {
                    lines.append(
                        "  labels: \(Human.cell(labels["measure"])) \(Human.cell(labels["candidate"])) against "
                            + "\(Human.cell(labels["champion"])) on \(Human.cell(labels["pairs"])) pairs: "
                            + Human.cell(labels["verdict"]))
                }
                lines += RolloutCommand.checks(report["checks"])
                return (lines + ["  page: /shadow-replays/\(Human.cell(report["id"]))"]).joined(separator: "\n")
            }
            if report["passed"]?.boolValue != true { throw ExitCode(3) }
        }
    }
}
