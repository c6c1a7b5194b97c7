import ArgumentParser
import Foundation
import PlatformCore

struct Train: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a model's training command as a job.",
        discussion: """
            Example: bottega train churn --dataset 54e934bd --param depth=4 --param rounds=200
            A parameter replaces the definition's of the same name or comes in addition: a name is not checked, since the
            definition says values and no list of names. The command finds each as BOTTEGA_PARAM_NAME.
            """)
    @Argument(help: "The model.") var model: String
    @Option(help: "Hash of the training set, or its first 8 digits or more.") var dataset: String
    @Option(help: "Seed. Default: the definition's.") var seed: Int?
    @Option(name: .customLong("param"), help: "A parameter as name=value; may be repeated.") var parameters: [String] =
        []
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        var body: [String: JSONValue] = ["model": .string(model), "dataset": .string(dataset)]
        if let seed { body["seed"] = .integer(Int64(seed)) }
        var values: [String: JSONValue] = [:]
        for parameter in parameters {
            guard let equals = parameter.firstIndex(of: "="), equals != parameter.startIndex else {
                throw CommandFailure(exitCode: 2, description: "--param must be name=value, not '\(parameter)'")
            }
            let name = String(parameter[..<equals])
            guard values.updateValue(.string(String(parameter[parameter.index(after: equals)...])), forKey: name) == nil
            else { throw CommandFailure(exitCode: 2, description: "--param says '\(name)' twice") }
        }
        if !values.isEmpty { body["parameters"] = .object(values) }
        let started = try await client.post("/training-jobs", .object(body))
        let result = try await client.wait(for: started, label: "train \(model)", quiet: server.json)
        show(result) { result in
            "job \(result["id"]?.stringValue ?? "") \(result["state"]?.stringValue ?? ""): "
                + "run \(result["run_id"]?.stringValue ?? "") in \(Human.cell(result["seconds"])) s"
        }
    }
}

struct ModelCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "model", abstract: "Register, promote and show model versions.",
        subcommands: [
            Register.self, Promote.self, List.self, Show.self, Card.self, Live.self, Gates.self, Approve.self,
            Label.self,
        ])

    struct Register: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Register the model that a job logged: evaluates it on its test slice and keeps its profile.")
        @Argument(help: "The model.") var model: String
        @Option(help: "The training job, as 'bottega train' named it.") var job: String?
        @Option(help: "An MLflow run, with --dataset.") var run: String?
        @Option(help: "Hash of the training set behind --run.") var dataset: String?
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            guard (job == nil) != (run == nil) else {
                throw CommandFailure(
                    exitCode: 2,
                    description: "say which model: --job, or --run with --dataset" + (job == nil ? "" : ", not both"))
            }
            guard run == nil || dataset != nil else {
                throw CommandFailure(
                    exitCode: 2,
                    description: "--run needs --dataset, the training set behind it; 'bottega dataset list' shows them")
            }
            var body: [String: JSONValue] = [:]
            if let job { body["job"] = .string(job) }
            if let run { body["run_id"] = .string(run) }
            if let dataset { body["dataset"] = .string(dataset) }
            let started = try await client.post("/api/v1/models/\(model)/versions", .object(body))
            let result = try await client.wait(for: started, label: "register \(model)", quiet: server.json)
            show(result) { result in
                let warnings = (result["requirement_differences"]?.arrayValue ?? []).map {
                    "warning: \(Human.cell($0))"
                }
                return ([ModelCommand.describe(result)] + warnings).joined(separator: "\n")
            }
        }
    }

    struct Promote: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Move a version to its next stage if the gates of that stage hold (exit code 3 if not).")
        @Argument(help: "The model.") var model: String
        @Argument(help: "The version's number, such as 3.") var version: Int
        @Argument(help: "staging, canary, production or archived.") var stage: String
        @Option(help: "Why; kept for ever.") var reason: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let started = try await client.post(
                "/api/v1/models/\(model)/versions/\(version)/stage",
                ["stage": .string(stage), "reason": .string(reason)])
            let answer = try await client.wait(for: started, label: "promote \(model)", quiet: server.json)
            show(answer) { answer in
                let line = "\(model) version \(version) is in \(answer["stage"]?.stringValue ?? stage)"
                return ([line] + ModelCommand.gates(answer, stage)).joined(separator: "\n")
            }
        }
    }

    struct List: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "List models and their versions.")
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.get("/api/v1/models")
            show(answer) { answer in
                let versions = (answer["models"]?.arrayValue ?? []).flatMap { model in
                    (model["versions"]?.arrayValue ?? []).map { (model: model["name"], version: $0) }
                }
                guard !versions.isEmpty else { return "no versions yet" }
                let shown = HeadlineMetrics.names(in: versions.map { $0.version["metrics"]?["test"] })
                let rows = versions.map { model, version in
                    [Human.cell(model), Human.cell(version["version"]), Human.cell(version["stage"])]
                        + shown.map { Human.cell(version["metrics"]?["test"]?[$0]) }
                        + [Human.cell(version["created_at"])]
                }
                return Human.table(
                    ["MODEL", "VERSION", "STAGE"] + shown.map { $0.uppercased() } + ["CREATED"], rows)
            }
        }
    }

    struct Show: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Show one version whole.")
        @Argument(help: "The model.") var model: String
        @Argument(help: "The version's number, such as 3.") var version: Int
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            print(try await client.get("/api/v1/models/\(model)/versions/\(version)").prettyText)
        }
    }

    struct Card: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print a version's model card as Markdown.",
            discussion: "bottega model card loss 3 --html > card.html makes a page with charts.")
        @Argument(help: "The model.") var model: String
        @Argument(help: "The version's number, such as 3.") var version: Int
        @Flag(help: "As an HTML page.") var html = false
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            if html {
                let page = try await client.download("/api/v1/models/\(model)/versions/\(version)/card?format=html")
                return print(String(decoding: page, as: UTF8.self), terminator: "")
            }
            let answer = try await client.get("/api/v1/models/\(model)/versions/\(version)/card")
            show(answer) { $0["markdown"]?.stringValue ?? "" }
        }
    }

    struct Gates: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Ask the gates of a stage without moving the version; prints the seal that an approval is of.",
            discussion: "Ends with 3 if a gate fails. Approvals that are still missing are shown and fail nothing here."
        )
        @Argument(help: "The model.") var model: String
        @Argument(help: "The version's number, such as 3.") var version: Int
        @Argument(help: "staging, canary or production.") var stage: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.post(
                "/api/v1/models/\(model)/versions/\(version)/gates", ["stage": .string(stage)])
            show(answer) { answer in
                (["seal \(answer["seal"]?.stringValue ?? "")"] + ModelCommand.gates(answer, stage))
                    .joined(separator: "\n")
            }
            let failed = (answer["gates"]?.arrayValue ?? []).count {
                $0["passed"]?.boolValue == false && $0["approval"]?.boolValue != true
            }
            guard failed == 0 else {
                throw CommandFailure(
                    exitCode: 3,
                    description:
                        "\(failed == 1 ? "one gate fails" : "\(failed) gates fail"): version \(version) cannot enter "
                        + "\(stage) as it is")
            }
        }
    }

    struct Approve: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Agree, or not, that a version enters a stage on the evidence that its gates gave.")
        @Argument(help: "The model.") var model: String
        @Argument(help: "The version's number, such as 3.") var version: Int
        @Argument(help: "staging, canary or production.") var stage: String
        @Option(help: "Why; kept for ever.") var reason: String
        @Option(help: "Seal of the evidence you saw; refused if it changed. Default: the newest.") var seal: String?
        @Flag(help: "Say no.") var object = false
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            var body: [String: JSONValue] = [
                "stage": .string(stage), "reason": .string(reason), "verdict": object ? "object" : "approve",
            ]
            if let seal { body["seal"] = .string(seal) }
            let answer = try await client.post(
                "/api/v1/models/\(model)/versions/\(version)/approvals", .object(body))
            show(answer) {
                "\(Human.cell($0["actor"])): \(Human.cell($0["verdict"])) of evidence \(Human.cell($0["seal"]))"
            }
        }
    }

    struct Label: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Give a version a semantic version such as 1.3.2.")
        @Argument(help: "The model.") var model: String
        @Argument(help: "The version's number, such as 3.") var version: Int
        @Argument(help: "The semantic version, such as 1.3.2.") var label: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.post(
                "/api/v1/models/\(model)/versions/\(version)/label", ["label": .string(label)])
            show(answer) { "\(model) version \(version) is called \(Human.cell($0["label"]))" }
        }
    }

    struct Live: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show what was live at a moment: versions, traffic, policy, who agreed and why.")
        @Argument(help: "The model.") var model: String
        @Option(help: "The moment, \(Human.momentHelp). Default: now.") var at: String?
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.get(
                "/api/v1/models/\(model)/live", query: at.map { ["at": $0] } ?? [:])
            show(answer) { answer in
                var lines = ["\(Human.cell(answer["name"])) at \(Human.cell(answer["at"]))"]
                for deployment in answer["deployments"]?.arrayValue ?? [] {
                    lines.append(
                        "\(Human.cell(deployment["deployment"])) revision \(Human.cell(deployment["revision"])), since "
                            + "\(Human.cell(deployment["time"])) by \(Human.cell(deployment["actor"])): "
                            + Human.cell(deployment["reason"]))
                    for variant in deployment["variants"]?.arrayValue ?? [] {
                        let share = Int(((variant["share"]?.doubleValue ?? 0) * 100).rounded())
                        lines.append("  \(share) %  " + Self.step(variant))
                    }
                    for shadow in deployment["shadows"]?.arrayValue ?? [] {
                        lines.append("  shadow  " + Self.step(shadow))
                    }
                }
                if (answer["deployments"]?.arrayValue ?? []).isEmpty { lines.append("no deployment sent it traffic") }
                for deployment in answer["removed_deployments"]?.arrayValue ?? [] {
                    lines.append(
                        "\(Human.cell(deployment["deployment"])) answers nobody: \(Human.cell(deployment["actor"])) removed it "
                            + "from the definitions at \(Human.cell(deployment["since"])) (revision "
                            + "\(Human.cell(deployment["definitions_revision"])))")
                }
                lines += UnloadedText.lines(answer)
                // Who serves elsewhere reads the stages alone.
                for (version, stage) in (answer["stages"]?.objectValue ?? [:]).sorted(by: { $0.key < $1.key }) {
                    guard let stage = stage.stringValue, !["development", "archived"].contains(stage) else { continue }
                    lines.append("version \(version) in stage \(stage)")
                }
                return lines.joined(separator: "\n")
            }
        }

        private static func step(_ version: JSONValue) -> String {
            "version \(Human.cell(version["version"])), \(Human.cell(version["stage"])) since "
                + "\(Human.cell(version["since"])) by \(Human.cell(version["actor"])): \(Human.cell(version["reason"]))"
        }
    }

    static func describe(_ version: JSONValue) -> String {
        let metrics = (version["metrics"]?["test"]?.objectValue ?? [:]).sorted { $0.key < $1.key }
            .map { "\($0.key) \(Human.cell($0.value))" }.joined(separator: ", ")
        return "version \(Human.cell(version["version"])) of \(Human.cell(version["model"])) is in "
            + Human.cell(version["stage"]) + (metrics.isEmpty ? "" : "; on its test slice: \(metrics)")
    }

    /// A line for each gate; one that says so if there is none.
    static func gates(_ answer: JSONValue, _ stage: String) -> [String] {
        let gates = answer["gates"]?.arrayValue ?? []
        guard !gates.isEmpty else {
            guard stage != "archived" else { return [] }
            return answer["defined"]?.boolValue == false
                ? ["  no gate was asked: no definition describes this model (kind: Model)"]
                : ["  no gate was asked: the model's definition has none for \(stage)"]
        }
        return gates.map { gate in
            "  \(gate["passed"]?.boolValue == true ? "passed" : "FAILED")  \(gate["gate"]?.stringValue ?? "")  "
                + (gate["detail"]?.stringValue ?? "")
        }
    }
}

struct Deploy: ClientCommand {
    static let configuration = CommandConfiguration(
        commandName: "version", abstract: "Give a version a share of live traffic (its stage must allow it).")
    @Argument(help: "The model.") var model: String
    @Argument(help: "The version's number, such as 3.") var version: Int
    @Option(help: "Share of traffic: 40% or 0.4.") var traffic = "100%"
    @Option(help: "Why; kept for ever.") var reason: String
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        let answer = try await client.post(
            "/models/\(model)/versions/\(version)/deploy",
            ["traffic": .number(try TrafficShare.number(traffic)), "reason": .string(reason)])
        show(answer, DeploymentText.describe)
    }
}

struct Rollback: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take the version that came in last out of a deployment's traffic, at once for all requests.",
        discussion: """
            The policy before it came in is in force again: the steps of its ramp are skipped, and so are policies that only dealt the same
            versions other shares. 'bottega deploy variants' gives shares back.
            """)
    @Argument(help: "The deployment.") var deployment: String
    @Option(help: "Why; kept for ever.") var reason: String
    @OptionGroup var server: ServerOptions

    func run(_ client: APIClient) async throws {
        let answer = try await client.post("/api/v1/deployments/\(deployment)/rollback", ["reason": .string(reason)])
        show(answer, DeploymentText.describe)
    }
}

/// A share of traffic as people write it.
enum TrafficShare {
    static func number(_ text: String) throws -> Double {
        let isPercent = text.hasSuffix("%")
        guard let number = Double(isPercent ? String(text.dropLast()) : text) else {
            throw CommandFailure(exitCode: 2, description: "'\(text)' is no share; write 40% or 0.4")
        }
        return isPercent ? number / 100 : number
    }
}

enum DeploymentText {
    static func describe(_ answer: JSONValue) -> String {
        let variants = (answer["variants"]?.arrayValue ?? [])
            .map {
                "version \(Human.cell($0["version"])) gets \(Int((($0["share"]?.doubleValue ?? 0) * 100).rounded())) %"
            }
        let shadows = (answer["shadows"]?.arrayValue ?? []).map { "version \(Human.cell($0)) in shadow" }
        return "\(Human.cell(answer["deployment"])) revision \(Human.cell(answer["revision"])): "
            + (variants + shadows).joined(separator: ", ") + warnings(answer)
    }

    /// A line for each thing that a version finds otherwise than it was logged with.
    private static func warnings(_ answer: JSONValue) -> String {
        (answer["requirement_differences"]?.objectValue ?? [:]).sorted { $0.key < $1.key }
            .flatMap { version, lines in
                (lines.arrayValue ?? []).map { "\nwarning: version \(version): \(Human.cell($0))" }
            }.joined() + UnloadedText.lines(answer).map { "\n" + $0 }.joined()
    }
}

/// Versions that a deployment needs and that cannot be loaded.
enum UnloadedText {
    static func lines(_ answer: JSONValue) -> [String] {
        (answer["unloaded_versions"]?.arrayValue ?? []).map {
            let version = "version \(Human.cell($0["version"])) of \(Human.cell($0["deployment"]))"
            return $0["served_as_before"]?.boolValue == true
                ? "DEGRADED: \(version) cannot be loaded as it is defined now; it is served as it was defined before and would "
                    + "not answer after a start: \(Human.cell($0["reason"]))"
                : "NOT LOADED: \(version), which \(Human.cell($0["use"])): \(Human.cell($0["reason"]))"
        }
    }
}
