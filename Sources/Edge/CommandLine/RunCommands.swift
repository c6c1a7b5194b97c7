import ArgumentParser
import Foundation
import PlatformCore

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "List, show, compare and reproduce runs.",
        subcommands: [List.self, Show.self, Compare.self, Diff.self, Note.self, Reproduce.self])

    struct List: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "List runs; the best one of an experiment with --order-by and --limit 1.",
            discussion: """
                Example: bottega run list --experiment churn --order-by "metrics.f1 DESC" --limit 1
                Filters and orders are MLflow's: metrics.auc > 0.8 and params.depth = '6' and tags.team = 'delays'.
                """)
        @Option(help: "Experiment, by name or number; may be repeated. Default: all.") var experiment: [String] = []
        @Option(help: "Only runs that pass it.") var filter: String?
        @Option(help: "In which order; may be repeated. Default: the last started first.") var orderBy: [String] = []
        @Option(help: "How many.") var limit: Int = 20
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            var query: [(String, String)] = [("limit", String(limit))]
            query += experiment.map { ("experiment", $0) } + orderBy.map { ("order_by", $0) }
            if let filter { query.append(("filter", filter)) }
            let answer = try await client.get("/api/v1/runs", fields: query)
            show(answer, Self.describe)
        }

        static func describe(_ answer: JSONValue) -> String {
            let runs = answer["runs"]?.arrayValue ?? []
            if runs.isEmpty { return "no runs" }
            if runs.count == 1 { return RunText.summary(runs[0]) }
            let rows = runs.map { run in
                [
                    Human.cell(run["id"]), RunText.short(run["name"], 24), RunText.short(run["experiment"], 20),
                    Human.cell(run["status"]).lowercased(), String(Human.cell(run["started_at"]).prefix(16)),
                    RunText.pairs(run["metrics"], countMax: 4), RunText.pairs(run["parameters"], countMax: 4),
                ]
            }
            var text = Human.table(["RUN", "NAME", "EXPERIMENT", "STATUS", "STARTED", "METRICS", "PARAMETERS"], rows)
            if answer["next_page_token"]?.stringValue != nil { text += "\nmore: raise --limit or narrow with --filter" }
            return text
        }
    }

    struct Show: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show a run: parameters, metrics, data, features, code, environment, machine.")
        @Argument(help: "The run.") var id: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            show(try await client.get("/api/v1/runs/\(id)"), RunText.whole)
        }
    }

    struct Compare: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Put runs beside each other, where they differ.")
        @Argument(help: "The runs, 2 to 50.") var ids: [String]
        @Flag(help: "Show what is equal, too.") var all = false
        @OptionGroup var server: ServerOptions

        func validate() throws {
            guard ids.count >= 2 else { throw ValidationError("one run is compared with nothing; name two or more") }
        }

        func run(_ client: APIClient) async throws {
            let answer = try await client.get(
                "/api/v1/run-comparison", fields: ids.map { ("run", $0) } + (all ? [("all", "true")] : []))
            show(answer, RunText.comparison)
        }
    }

    struct Diff: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say in what two runs differ: parameters, data, features, code, environment, metrics.")
        @Argument(help: "The first run.") var left: String
        @Argument(help: "The second run.") var right: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            show(try await client.get("/api/v1/runs/\(left)/diff/\(right)"), RunText.comparison)
        }
    }

    struct Note: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Write a run's note (Markdown; MLflow shows it too).")
        @Argument(help: "The run.") var id: String
        @Argument(help: "The text.") var text: String
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let answer = try await client.send("PUT", "/api/v1/runs/\(id)/note", body: .json(["text": .string(text)]))
            show(answer) { "noted at run \(Human.cell($0["id"]))" }
        }
    }

    struct Reproduce: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Run a training job's run again and say whether the same model came out.",
            discussion: """
                Exit codes: 0 the model has the same bytes; 10 the bytes differ and every metric is equal; 11 metrics differ; \
                12 it cannot be run again from here; 13 it was run again and failed.
                """)
        @Argument(help: "The run.") var id: String
        @Option(help: "Relative difference up to which two metrics count as equal.") var tolerance: Double = 0
        @OptionGroup var server: ServerOptions

        func run(_ client: APIClient) async throws {
            let started = try await client.post("/api/v1/runs/\(id)/reproduce", ["tolerance": .number(tolerance)])
            let result = try await client.wait(for: started, label: "reproduce", quiet: server.json)
            show(result, RunText.reproduction)
            let code: Int32 =
                switch result["verdict"]?.stringValue {
                case "same_model"?: 0
                case "same_metrics"?: 10
                case "different"?: 11
                case "impossible"?: 12
                default: 13
                }
            if code != 0 { throw ExitCode(code) }
        }
    }
}

/// Runs as text for people.
enum RunText {
    static func short(_ value: JSONValue?, _ count: Int) -> String {
        let text = Human.cell(value)
        return text.count > count ? text.prefix(count - 1) + "…" : text
    }

    static func number(_ value: JSONValue?) -> String {
        guard case .number(let number)? = value else { return value?.stringValue ?? Human.cell(value) }
        return NumberText.text(number)
    }

    /// Values beside each other.
    static func numbers(_ values: [JSONValue?]) -> [String] {
        let plain = values.compactMap { value in
            if case .number(let number)? = value { number } else { Double?.none }
        }
        return plain.count == values.count ? NumberText.texts(plain) : values.map(number)
    }

    static func pairs(_ value: JSONValue?, countMax: Int) -> String {
        let all = (value?.objectValue ?? [:]).sorted { $0.key < $1.key }
        let text = all.prefix(countMax).map { "\($0.key)=\(short(.string(number($0.value)), 18))" }
        return text.joined(separator: " ") + (all.count > countMax ? " …" : "")
    }

    private static func line(_ name: String, _ text: String) -> String {
        "  " + name.padding(toLength: max(26, name.count + 1), withPad: " ", startingAt: 0) + text
    }

    private static func section(_ title: String, _ value: JSONValue?) -> [String] {
        let members = (value?.objectValue ?? [:]).sorted { $0.key < $1.key }
        return members.isEmpty ? [] : [title] + members.map { line($0.key, number($0.value)) }
    }

    private static func head(_ run: JSONValue) -> [String] {
        var lines = ["run \(Human.cell(run["id"]))  \(Human.cell(run["name"]))"]
        let ended = run["ended_at"]?.stringValue.map { " to \($0.prefix(19))" } ?? ""
        lines.append(
            "  experiment \(Human.cell(run["experiment"])), \(Human.cell(run["status"]).lowercased()), "
                + "\(Human.cell(run["started_at"]).prefix(19))\(ended), by \(Human.cell(run["user"]))")
        for (key, label) in [("job", "job"), ("reproduces", "makes again run"), ("note", "note")] {
            if let text = run[key]?.stringValue { lines.append("  \(label) \(text)") }
        }
        return lines
    }

    static func summary(_ run: JSONValue) -> String {
        var lines = head(run)
        for name in ["metrics", "parameters", "data"] { lines += section(name, run[name]) }
        return lines.joined(separator: "\n")
    }

    static func whole(_ run: JSONValue) -> String {
        var lines = head(run)
        for name in ["metrics", "system", "parameters", "seed", "data", "features", "code"] {
            lines += section(name, run[name])
        }
        var environment = run["environment"]?.objectValue ?? [:]
        let packages = environment.filter { $0.key.hasPrefix("package ") }
        for name in packages.keys { environment[name] = nil }
        if !packages.isEmpty { environment["packages"] = .string("\(packages.count), lock \(lock(run))") }
        lines += section("environment", .object(environment)) + section("hardware", run["hardware"])
        let files = run["files"]?.arrayValue ?? []
        if !files.isEmpty { lines.append("files") }
        for file in files.prefix(40) {
            lines.append(
                line(
                    Human.cell(file["path"]),
                    "\(file["sha256"]?.stringValue?.prefix(12) ?? "")  \(Human.cell(file["bytes"])) bytes"))
        }
        if files.count > 40 { lines.append("  and \(files.count - 40) more") }
        if run["record"]?.isNull != false {
            lines.append("no record of code, environment and machine was taken of this run")
        }
        return lines.joined(separator: "\n")
    }

    private static func lock(_ run: JSONValue) -> String {
        String((run["record"]?["environment"]?["lock"]?.stringValue ?? "").prefix(12))
    }

    static let sections = [
        "parameters", "metrics", "data", "features", "seed", "code", "environment", "hardware", "files",
    ]

    static func comparison(_ answer: JSONValue) -> String {
        let runs = answer["runs"]?.arrayValue ?? []
        var rows: [[String]] = []
        for name in sections {
            let facts = answer["sections"]?[name]?.arrayValue ?? []
            if facts.isEmpty { continue }
            rows.append([name.uppercased()] + runs.map { _ in "" })
            for fact in facts {
                var cells = ["  " + short(fact["name"], 40)]
                cells += numbers(fact["values"]?.arrayValue ?? []).map { short(.string($0), 34) }
                if let difference = fact["difference"] { cells.append("(\(number(difference)))") }
                rows.append(cells)
            }
        }
        if rows.isEmpty { return "no difference is known" }
        let header = [""] + runs.map { "\(short($0["name"], 18)) \(($0["id"]?.stringValue ?? "").suffix(6))" }
        let widest = rows.map(\.count).max() ?? header.count
        return Human.table(
            header + [String](repeating: "", count: widest - header.count),
            rows.map { $0 + [String](repeating: "", count: widest - $0.count) })
    }

    static func reproduction(_ result: JSONValue) -> String {
        let again = result["again"]?.stringValue ?? ""
        var lines: [String] = []
        switch result["verdict"]?.stringValue {
        case "same_model"?: lines.append("reproduced: run \(again) gave a model with the same bytes")
        case "same_metrics"?: lines.append("reproduced in its metrics: run \(again) gave equal metrics, other bytes")
        case "different"?: lines.append("not reproduced: run \(again) gave other metrics")
        case "failed"?: lines.append("run again as \(again), and it failed")
        default: lines.append("this run cannot be made again from here")
        }
        if let code = result["code"]?.stringValue, !code.isEmpty { lines.append("  code: \(code)") }
        for text in result["missing"]?.arrayValue ?? [] { lines.append("  missing: \(Human.cell(text))") }
        for file in result["model"]?.arrayValue ?? [] {
            let mark = file["same"]?.boolValue == true ? "same  " : "DIFFERS"
            lines.append(
                "  \(mark) \(Human.cell(file["path"]))  \(short(file["before"], 13)) \(short(file["again"], 13))")
        }
        for metric in result["metrics"]?.arrayValue ?? [] where metric["same"]?.boolValue != true {
            let values = numbers([metric["before"], metric["again"]])
            lines.append("  DIFFERS \(Human.cell(metric["name"]))  \(values[0]) then, \(values[1]) now")
        }
        for name in sections {
            for fact in result["differences"]?[name]?.arrayValue ?? [] {
                let values = (fact["values"]?.arrayValue ?? []).map { short(.string(number($0)), 60) }
                lines.append("  \(name): \(Human.cell(fact["name"])) was \(values.joined(separator: ", is "))")
            }
        }
        for step in result["steps"]?.arrayValue ?? [] { lines.append("  by hand: \(Human.cell(step))") }
        return lines.joined(separator: "\n")
    }
}
