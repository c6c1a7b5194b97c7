import ArgumentParser
import Foundation
import PlatformCore

struct Predict: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Ask a deployed model.",
        discussion: """
            Example: bottega predict flight_delay --body '{"entities": {"tailnum": "N14228"}, "features": {"distance": 1400}}'
            """)
    @Argument(help: "The model.") var model: String
    @Option(help: "The request as JSON; '-' reads standard input.") var body: String = "-"
    @Flag(help: "Show what each feature adds to the answer, the largest first.") var explain = false
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        let text = body == "-" ? String(decoding: FileHandle.standardInput.readDataToEndOfFile(), as: UTF8.self) : body
        guard text.contains(where: { !$0.isWhitespace }) else {
            throw CommandFailure(
                exitCode: 2, description: "nothing is asked: give the request as JSON with --body or on standard input")
        }
        let request: JSONValue
        do { request = try JSONValue.parse(text) } catch {
            throw CommandFailure(exitCode: 2, description: "the request is no JSON: \(error.description)")
        }
        guard explain else { return print(try await client.post("/predict/\(model)", request).prettyText) }
        show(try await client.post("/predict/\(model)?explain=true", request)) { answer in
            (answer["predictions"]?.arrayValue ?? [answer]).map { answer in
                "prediction \(Human.cell(answer["prediction"])) of \(Human.cell(answer["model"])) "
                    + "version \(Human.cell(answer["model_version"])), \(Human.cell(answer["prediction_id"]))\n"
                    + ExplanationChart(answer["explanation"]).text
            }.joined(separator: "\n\n")
        }
    }
}

struct Label: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say how a prediction turned out.",
        discussion: "One may be said again: the newest counts. Example: bottega label 0193… 1")
    @Argument(help: "The prediction's identifier.") var id: String
    @Argument(help: "A number, true or false; before a negative one write '--'.") var value: String
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        let label: JSONValue
        switch value {
        case "true": label = .bool(true)
        case "false": label = .bool(false)
        default:
            guard let number = try? JSONValue.parse(value), let double = number.doubleValue, double.isFinite else {
                throw CommandFailure(
                    exitCode: 2, description: "a label is a number, true or false, not '\(value.prefix(64))'")
            }
            label = number
        }
        show(try await client.post("/labels", ["prediction_id": .string(id), "label": label])) { _ in
            "label \(value) of \(id) is noted"
        }
    }
}

struct Why: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say where a prediction came from: version, features, data, code, gates, who promoted it.")
    @Argument(help: "The prediction's identifier.") var id: String
    @Flag(help: "Show what each feature added to the answer, computed again from the logged inputs.") var explain =
        false
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        guard explain else { return show(try await client.get("/predictions/\(id)/why"), Self.describe) }
        show(try await client.get("/predictions/\(id)/explain")) { answer in
            "prediction \(Human.cell(answer["prediction"])) of \(Human.cell(answer["model"])) "
                + "version \(Human.cell(answer["version"]))\n"
                + ExplanationChart(
                    answer["explanation"], inputs: answer["inputs"], categories: answer["categories"]
                ).text
        }
    }

    static func describe(_ why: JSONValue) -> String {
        var lines: [String] = []
        func add(_ label: String, _ value: JSONValue?) {
            guard let value, !value.isNull else { return }
            lines.append(label.padding(toLength: 16, withPad: " ", startingAt: 0) + Human.cell(value))
        }
        add("prediction", why["prediction_id"])
        add("time", why["time"])
        add("answer", why["prediction"])
        add("label", why["label"])
        add("model", why["model"])
        add("version", why["version"]?["number"])
        add("variant", why["variant"])
        add("fallback", why["fallback_reason"])
        add("artifact", why["version"]?["artifact"])
        add("policy", why["policy_revision"])
        if let policy = why["policy"], !policy.isNull {
            add(
                "  published",
                .string(
                    "\(Human.cell(policy["time"])) by \(Human.cell(policy["actor"])): \(Human.cell(policy["reason"]))"))
        }
        add("dataset", why["version"]?["dataset"])
        add("run", why["version"]?["run_id"])
        add("commit", why["version"]?["commit"])
        add("seed", why["version"]?["seed"])
        for entity in (why["entities"]?.objectValue ?? [:]).sorted(by: { $0.key < $1.key }) {
            add("entity \(entity.key)", entity.value)
        }
        for transition in why["version"]?["transitions"]?.arrayValue ?? [] {
            lines.append(
                "stage".padding(toLength: 16, withPad: " ", startingAt: 0)
                    + "\(Human.cell(transition["to"])) at \(Human.cell(transition["time"])) by \(Human.cell(transition["actor"])): "
                    + Human.cell(transition["reason"]))
            for gate in transition["gates"]?.arrayValue ?? [] {
                let observed = gate["observed"].flatMap { $0.isNull ? nil : ": \(Human.cell($0))" } ?? ""
                let detail = gate["detail"]?.stringValue.flatMap { $0.isEmpty ? nil : " (\($0))" } ?? ""
                lines.append(
                    "  gate".padding(toLength: 16, withPad: " ", startingAt: 0)
                        + (gate["passed"]?.boolValue == true ? "passed  " : "FAILED  ")
                        + Human.cell(gate["gate"]) + observed + detail)
            }
        }
        let rows = (why["inputs"]?.arrayValue ?? []).map { input in
            [
                Human.cell(input["name"]), Human.cell(input["value"]), Human.cell(input["status"]),
                Human.cell(input["age"]),
                Human.cell(input["view_version"]),
            ]
        }
        if !rows.isEmpty { lines.append(Human.table(["FEATURE", "VALUE", "STATUS", "AGE", "VIEW VERSION"], rows)) }
        return lines.joined(separator: "\n")
    }
}

struct Replay: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Compute past predictions again from what was logged and compare them bit for bit (exit code 1 if any differs, or none was found)."
    )
    @Argument(help: "A prediction's identifier, or with --count the model.") var subject: String
    @Option(help: "Replay this many of a model's predictions, spread over its history.") var count: Int?
    @Option(help: "Seed of the choice.") var seed: Int = 0
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        let answer: JSONValue
        if let count {
            let started = try await client.post(
                "/api/v1/replay",
                ["model": .string(subject), "count": .integer(Int64(count)), "seed": .integer(Int64(seed))])
            answer = try await client.wait(for: started, label: "replay", quiet: server.json)
        } else {
            guard IdentifierSource.time(of: subject) != nil else {
                throw CommandFailure(
                    exitCode: 2,
                    description:
                        "'\(subject)' is no prediction's identifier; with --count it is a model whose predictions "
                        + "are computed again")
            }
            answer = try await client.post("/predictions/\(subject)/replay")
        }
        show(answer) { answer in
            let versions = (answer["versions"]?.objectValue ?? [:]).sorted { $0.key < $1.key }
                .map { "version \($0.key): \(Human.cell($0.value))" }.joined(separator: ", ")
            if answer["compared"]?.integerValue == 0 {
                return "nothing was compared: the log holds no prediction of '\(subject)' that a version of it answered"
            }
            let different = (answer["different"]?.arrayValue ?? []).prefix(10).map {
                "\n  different: \(Human.cell($0["prediction_id"]))"
            }
            return "replayed \(Human.cell(answer["compared"])), equal bit for bit \(Human.cell(answer["equal"]))"
                + (versions.isEmpty ? "" : " (\(versions))") + different.joined()
        }
        if answer["compared"] != answer["equal"] || answer["compared"]?.integerValue == 0 { throw ExitCode(1) }
    }
}

struct MonitorCommand: ClientCommand {
    static let configuration = CommandConfiguration(
        commandName: "monitor", abstract: "Show what a monitor has found: windows, drift, live quality, alerts.")
    @Argument(help: "The monitor.") var monitor: String
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        let windows = try await client.get("/api/v1/monitors/\(monitor)/windows")
        let alerts = try await client.get("/api/v1/alerts", query: ["monitor": monitor])
        let answer: JSONValue = [
            "windows": windows["windows"] ?? [], "alerts": alerts["alerts"] ?? [],
        ]
        show(answer) { answer in
            let windows = answer["windows"]?.arrayValue ?? []
            let shown = HeadlineMetrics.names(in: windows.map { $0["metrics"] })
            let areOfDays = windows.allSatisfy { window in
                ["from", "to"].allSatisfy { Human.cell(window[$0]).contains("T00:00:00") }
            }
            var rows: [[String]] = []
            for window in windows {
                let worst = (window["inputs"]?.arrayValue ?? []).max {
                    ($0["psi"]?.doubleValue ?? 0) < ($1["psi"]?.doubleValue ?? 0)
                }
                let from = Human.cell(window["from"])
                var cells = [areOfDays ? String(from.prefix(10)) : from]
                cells += ["version", "choice", "rows", "labelled"].map { Human.cell(window[$0]) }
                cells += shown.map { Human.cell(window["metrics"]?[$0]) }
                cells.append(worst.map { "\(Human.cell($0["psi"])) \(Human.cell($0["name"]))" } ?? "–")
                rows.append(cells)
            }
            var text = Human.table(
                ["FROM", "VERSION", "VARIANT", "ROWS", "LABELLED"] + shown.map { $0.uppercased() } + ["WORST PSI"], rows
            )
            for alert in answer["alerts"]?.arrayValue ?? [] {
                text +=
                    "\n\(Human.cell(alert["severity"])) \(Human.cell(alert["time"])) \(Human.cell(alert["message"]))"
            }
            return text
        }
    }
}

struct Status: ClientCommand {
    static let configuration = CommandConfiguration(abstract: "Show whether the platform is well and what it is doing.")
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        let answer = try await client.get("/api/v1/status")
        show(answer) { answer in
            let members = (answer.objectValue ?? [:]).sorted { $0.key < $1.key }.filter {
                $0.key != "unloaded_versions"
            }
            let width = (members.map(\.key.count).max() ?? 0) + 2
            let lines = members.map {
                "\($0.key.padding(toLength: width, withPad: " ", startingAt: 0))\(Human.cell($0.value))"
            }
            return (lines + UnloadedText.lines(answer)).joined(separator: "\n")
        }
    }
}
